//! The Datagalax program: registrations, stake, reports, tallies and rewards of a decentralised GPU cloud.
//!
//! The mechanism is described in docs/protocol.md. `committee`, `math`, `report`, `settlement`, `tally`, `vesting` and `votes` are
//! pure and serve the off-chain crates too (feature `no-entrypoint`), so that there is one implementation of every rule.
// Anchor's macros emit public companions (client structs, argument structs) without documentation of their own.
#![allow(missing_docs)]
#![cfg_attr(target_os = "solana", no_std)]

extern crate alloc;

use anchor_lang::prelude::*;

pub mod checked;
pub mod clock;
pub mod committee;
pub mod constants;
pub mod error;
pub mod events;
pub mod instructions;
pub mod math;
pub mod report;
pub mod settlement;
pub mod state;
pub mod tally;
pub mod vesting;
pub mod votes;

use constants::ROWS;
use instructions::*;
use report::REPORT_LEN;
use state::{ClassTerms, Proposal};

declare_id!("4sDyD42qEWjcXGY9ySnwu655GNcBEHchW3VDXdrvEiMt");

/// The instructions. A number, once given, is never given again.
#[program]
pub mod datagalax {
    use super::*;

    /// Creates the network, its vaults and its books.
    #[discrim = 0]
    pub fn initialize_network(ctx: &mut Context<InitializeNetwork>, args: InitializeNetworkArgs) -> Result<()> {
        instructions::initialize_network(ctx, &args)
    }

    /// Adds a class of hardware.
    #[discrim = 1]
    pub fn create_class(ctx: &mut Context<CreateClass>, args: CreateClassArgs) -> Result<()> {
        instructions::create_class(ctx, &args)
    }

    /// Moves $ATH into the rewards vault.
    #[discrim = 2]
    pub fn fund_rewards(ctx: &mut Context<FundRewards>, amount: u64) -> Result<()> {
        instructions::fund_rewards(ctx, amount)
    }

    /// Proposes parameters, emission, vesting terms, treasury, guardian and epoch length.
    #[discrim = 3]
    pub fn propose(ctx: &mut Context<Govern>, proposal: Proposal) -> Result<()> {
        instructions::propose(ctx, &proposal)
    }

    /// Puts into force what was proposed, once the time lock has run out.
    #[discrim = 4]
    pub fn apply_proposal(ctx: &mut Context<ApplyProposal>) -> Result<()> {
        instructions::apply_proposal(ctx)
    }

    /// Drops what was proposed.
    #[discrim = 5]
    pub fn cancel_proposal(ctx: &mut Context<Govern>) -> Result<()> {
        instructions::cancel_proposal(ctx)
    }

    /// Names the next authority.
    #[discrim = 6]
    pub fn propose_authority(ctx: &mut Context<Govern>, next: Address) -> Result<()> {
        instructions::propose_authority(ctx, &next)
    }

    /// Becomes the authority, as named.
    #[discrim = 7]
    pub fn accept_authority(ctx: &mut Context<AcceptAuthority>) -> Result<()> {
        instructions::accept_authority(ctx)
    }

    /// Pauses the network for 72 hours.
    #[discrim = 8]
    pub fn pause(ctx: &mut Context<Pause>) -> Result<()> {
        instructions::pause(ctx)
    }

    /// Ends a pause.
    #[discrim = 9]
    pub fn unpause(ctx: &mut Context<Govern>) -> Result<()> {
        instructions::unpause(ctx)
    }

    /// Registers a provider.
    #[discrim = 10]
    pub fn register_provider(ctx: &mut Context<RegisterProvider>, operator: Address, payout: Address) -> Result<()> {
        instructions::register_provider(ctx, &operator, &payout)
    }

    /// Stakes for a provider.
    #[discrim = 11]
    pub fn stake(ctx: &mut Context<Stake>, amount: u64) -> Result<()> {
        instructions::stake(ctx, amount)
    }

    /// Asks free stake back.
    #[discrim = 12]
    pub fn request_unstake(ctx: &mut Context<RequestUnstake>, amount: u64) -> Result<()> {
        instructions::request_unstake(ctx, amount)
    }

    /// Locks again what a halted container lacks.
    #[discrim = 13]
    pub fn restore_stake(ctx: &mut Context<RestoreStake>) -> Result<()> {
        instructions::restore_stake(ctx)
    }

    /// Creates a block's account.
    #[discrim = 20]
    pub fn create_block(ctx: &mut Context<CreateBlock>) -> Result<()> {
        instructions::create_block(ctx)
    }

    /// Grows a block by 10 KB; four calls after the first make it whole.
    #[discrim = 21]
    pub fn grow_block(ctx: &mut Context<GrowBlock>) -> Result<()> {
        instructions::grow_block(ctx)
    }

    /// Registers a container into the lowest free row of a block.
    #[discrim = 22]
    pub fn register_container(ctx: &mut Context<RegisterContainer>, args: RegisterContainerArgs) -> Result<()> {
        instructions::register_container(ctx, &args)
    }

    /// Replaces price, endpoint and what else the hot key may change.
    #[discrim = 23]
    pub fn update_container(ctx: &mut Context<OperateContainer>, args: UpdateContainerArgs) -> Result<()> {
        instructions::update_container(ctx, &args)
    }

    /// Replaces the key that starts leases and signs metrics.
    #[discrim = 24]
    pub fn rotate_container_operator(ctx: &mut Context<RotateContainerOperator>, operator: Address) -> Result<()> {
        instructions::rotate_container_operator(ctx, &operator)
    }

    /// Announces maintenance, seconds.
    #[discrim = 25]
    pub fn announce_maintenance(ctx: &mut Context<OperateContainer>, start: i64, end: i64) -> Result<()> {
        instructions::announce_maintenance(ctx, start, end)
    }

    /// Lets a container leave with the end of this epoch.
    #[discrim = 26]
    pub fn deregister_container(ctx: &mut Context<DeregisterContainer>) -> Result<()> {
        instructions::deregister_container(ctx)
    }

    /// Frees the row of a container that left.
    #[discrim = 27]
    pub fn vacate_row(ctx: &mut Context<VacateRow>) -> Result<()> {
        instructions::vacate_row(ctx)
    }

    /// Registers a checker.
    #[discrim = 30]
    pub fn register_checker(
        ctx: &mut Context<RegisterChecker>,
        operator: Address,
        payout: Address,
        commission_bps: u16,
    ) -> Result<()> {
        instructions::register_checker(ctx, &operator, &payout, commission_bps)
    }

    /// Stakes for tickets and queues them.
    #[discrim = 31]
    pub fn register_tickets(ctx: &mut Context<RegisterTickets>, count: u16) -> Result<()> {
        instructions::register_tickets(ctx, count)
    }

    /// Commits a seat to its report.
    #[discrim = 32]
    pub fn commit_report(ctx: &mut Context<CommitReport>, epoch: u32, seat: u8, commitment: [u8; 32]) -> Result<()> {
        instructions::commit_report(ctx, epoch, seat, commitment)
    }

    /// Reveals a seat's report: 256 availabilities, 256 capacities, 256 tokens.
    #[discrim = 33]
    pub fn reveal_report(
        ctx: &mut Context<RevealReport>,
        epoch: u32,
        seat: u8,
        salt: &[u8; 32],
        evidence_root: &[u8; 32],
        values: &[u8; REPORT_LEN],
    ) -> Result<()> {
        instructions::reveal_report(ctx, epoch, seat, salt, evidence_root, values)
    }

    /// Asks tickets in these slots (u32 little-endian each) out of the order.
    #[discrim = 34]
    pub fn leave_tickets(ctx: &mut Context<LeaveTickets>, slots: &[u8]) -> Result<()> {
        instructions::leave_tickets(ctx, slots)
    }

    /// Pays back the price of removed tickets and frees their slots.
    #[discrim = 35]
    pub fn withdraw_tickets(ctx: &mut Context<WithdrawTickets>, slots: &[u8]) -> Result<()> {
        instructions::withdraw_tickets(ctx, slots)
    }

    /// Moves to the epoch the clock is in.
    #[discrim = 40]
    pub fn advance_epoch(ctx: &mut Context<AdvanceEpoch>, number: u32) -> Result<()> {
        instructions::advance_epoch(ctx, number)
    }

    /// Retires tickets, lets them leave and enter.
    #[discrim = 41]
    pub fn churn(ctx: &mut Context<Churn>) -> Result<()> {
        instructions::churn(ctx)
    }

    /// Fixes the epoch's seed.
    #[discrim = 42]
    pub fn draw(ctx: &mut Context<Draw>) -> Result<()> {
        instructions::draw(ctx)
    }

    /// Writes a block's committee.
    #[discrim = 43]
    pub fn seat_block(ctx: &mut Context<SeatBlock>) -> Result<()> {
        instructions::seat_block(ctx)
    }

    /// Judges and pays at most `max_rows` rows of a block, and its seats after the last.
    #[discrim = 44]
    pub fn tally_block(ctx: &mut Context<TallyBlock>, max_rows: u16) -> Result<()> {
        instructions::tally_block(ctx, max_rows)
    }

    /// Opens a keeper's account.
    #[discrim = 45]
    pub fn register_keeper(ctx: &mut Context<RegisterKeeper>, wallet: Address) -> Result<()> {
        instructions::register_keeper(ctx, &wallet)
    }

    /// Grants what the named rows of a block accrued.
    #[discrim = 50]
    pub fn claim_rewards(ctx: &mut Context<ClaimRewards>, rows: &[u8; ROWS / 8]) -> Result<()> {
        instructions::claim_rewards(ctx, rows)
    }

    /// Pays what the tickets in the named slots (u32 little-endian each) accrued.
    #[discrim = 51]
    pub fn claim_seat_pay(ctx: &mut Context<ClaimSeatPay>, slots: &[u8]) -> Result<()> {
        instructions::claim_seat_pay(ctx, slots)
    }

    /// Proposes other terms for a class.
    #[discrim = 60]
    pub fn update_class(ctx: &mut Context<UpdateClass>, terms: ClassTerms) -> Result<()> {
        instructions::update_class(ctx, &terms)
    }

    /// Puts proposed terms of a class into force, once the time lock has run out.
    #[discrim = 61]
    pub fn apply_class(ctx: &mut Context<ApplyClass>) -> Result<()> {
        instructions::apply_class(ctx)
    }

    /// Moves what the stake or escrow vault owes nobody to the rewards vault.
    #[discrim = 62]
    pub fn sweep_vault(ctx: &mut Context<SweepVault>) -> Result<()> {
        instructions::sweep_vault(ctx)
    }

    /// Pays what a vault owes a provider, indexer, user or keeper, as much as fits.
    #[discrim = 63]
    pub fn withdraw(ctx: &mut Context<Withdraw>) -> Result<()> {
        instructions::withdraw(ctx)
    }

    /// Pays the treasury its share, as much as fits.
    #[discrim = 64]
    pub fn withdraw_treasury(ctx: &mut Context<WithdrawTreasury>) -> Result<()> {
        instructions::withdraw_treasury(ctx)
    }

    /// Closes an account that is done with and returns its rent.
    #[discrim = 65]
    pub fn close_account(ctx: &mut Context<CloseAccount>) -> Result<()> {
        instructions::close_account(ctx)
    }

    /// Replaces hot key and payout wallet of a provider, checker or indexer.
    #[discrim = 66]
    pub fn rotate_keys(ctx: &mut Context<OwnParty>, operator: Address, payout: Address) -> Result<()> {
        instructions::rotate_keys(ctx, &operator, &payout)
    }

    /// Names the next owner of a provider, checker or indexer.
    #[discrim = 67]
    pub fn propose_owner(ctx: &mut Context<OwnParty>, next: Address) -> Result<()> {
        instructions::propose_owner(ctx, &next)
    }

    /// Becomes the owner, as named.
    #[discrim = 68]
    pub fn accept_owner(ctx: &mut Context<AcceptOwner>) -> Result<()> {
        instructions::accept_owner(ctx)
    }

    /// Escrows for a lease.
    #[discrim = 70]
    pub fn open_lease(ctx: &mut Context<OpenLease>, args: OpenLeaseArgs) -> Result<()> {
        instructions::open_lease(ctx, &args)
    }

    /// Starts a lease.
    #[discrim = 71]
    pub fn start_lease(ctx: &mut Context<StartLease>) -> Result<()> {
        instructions::start_lease(ctx)
    }

    /// Rejects a lease; everything goes back.
    #[discrim = 72]
    pub fn reject_lease(ctx: &mut Context<RejectLease>, detail: u16) -> Result<()> {
        instructions::reject_lease(ctx, detail)
    }

    /// Cancels a lease that was not started in time; everything goes back.
    #[discrim = 73]
    pub fn cancel_lease(ctx: &mut Context<CancelLease>) -> Result<()> {
        instructions::cancel_lease(ctx)
    }

    /// Lengthens a lease.
    #[discrim = 74]
    pub fn top_up_lease(ctx: &mut Context<TopUpLease>, seconds: u32) -> Result<()> {
        instructions::top_up_lease(ctx, seconds)
    }

    /// Notes the host's own word on usage: GPU-seconds, joules, bytes, all cumulative.
    #[discrim = 75]
    pub fn record_usage(ctx: &mut Context<RecordUsage>, gpu_seconds: u64, energy: u64, bytes: u64) -> Result<()> {
        instructions::record_usage(ctx, gpu_seconds, energy, bytes)
    }

    /// Settles a lease as far as its epochs are judged.
    #[discrim = 76]
    pub fn settle_lease(ctx: &mut Context<SettleLease>) -> Result<()> {
        instructions::settle_lease(ctx)
    }

    /// Ends a lease.
    #[discrim = 77]
    pub fn close_lease(ctx: &mut Context<CloseLease>, not_served: bool, detail: u16) -> Result<()> {
        instructions::close_lease(ctx, not_served, detail)
    }

    /// Opens the case of a row that was condemned.
    #[discrim = 80]
    pub fn open_case(ctx: &mut Context<OpenCase>, epoch: u32) -> Result<()> {
        instructions::open_case(ctx, epoch)
    }

    /// Decides a case whose window is over.
    #[discrim = 81]
    pub fn close_case(ctx: &mut Context<CloseCase>) -> Result<()> {
        instructions::close_case(ctx)
    }

    /// Takes stake for a lease that was not served in two whole epochs.
    #[discrim = 82]
    pub fn report_breach(ctx: &mut Context<ReportBreach>, epoch: u32) -> Result<()> {
        instructions::report_breach(ctx, epoch)
    }

    /// Releases a row whose case nobody opened.
    #[discrim = 83]
    pub fn release_row(ctx: &mut Context<ReleaseRow>, epoch: u32) -> Result<()> {
        instructions::release_row(ctx, epoch)
    }

    /// Registers an indexer and stakes for it.
    #[discrim = 90]
    pub fn register_indexer(
        ctx: &mut Context<RegisterIndexer>,
        operator: Address,
        payout: Address,
        endpoint: alloc::string::String,
    ) -> Result<()> {
        instructions::register_indexer(ctx, &operator, &payout, &endpoint)
    }

    /// Replaces an indexer's endpoint.
    #[discrim = 91]
    pub fn update_indexer(ctx: &mut Context<UpdateIndexer>, endpoint: alloc::string::String) -> Result<()> {
        instructions::update_indexer(ctx, &endpoint)
    }

    /// Asks an indexer's stake back.
    #[discrim = 92]
    pub fn leave_indexer(ctx: &mut Context<LeaveIndexer>) -> Result<()> {
        instructions::leave_indexer(ctx)
    }
}
