//! The Datagalax program: registrations, stake, reports, tallies and rewards of a decentralised GPU cloud.
//!
//! The mechanism is described in docs/protocol.md. `committee`, `math`, `report`, `tally` and `votes` are pure and serve the off-chain
//! crates too (feature `no-entrypoint`), so that there is one implementation of every rule.
// Anchor's macros emit public companions (client structs, argument structs) without documentation of their own.
#![allow(missing_docs)]
#![cfg_attr(target_os = "solana", no_std)]

extern crate alloc;

use anchor_lang::prelude::*;

pub mod committee;
pub mod constants;
pub mod error;
pub mod events;
pub mod instructions;
pub mod math;
pub mod report;
pub mod state;
pub mod tally;
pub mod votes;

use constants::ROWS;
use instructions::*;
use report::REPORT_LEN;

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

    /// Registers a provider.
    #[discrim = 10]
    pub fn register_provider(ctx: &mut Context<RegisterProvider>, operator: Address, payout: Address) -> Result<()> {
        instructions::register_provider(ctx, operator, payout)
    }

    /// Stakes for a provider.
    #[discrim = 11]
    pub fn stake(ctx: &mut Context<Stake>, amount: u64) -> Result<()> {
        instructions::stake(ctx, amount)
    }

    /// Creates a block's account.
    #[discrim = 20]
    pub fn create_block(ctx: &mut Context<CreateBlock>) -> Result<()> {
        instructions::create_block(ctx)
    }

    /// Grows a block by 10 KB; three calls after the first make it whole.
    #[discrim = 21]
    pub fn grow_block(ctx: &mut Context<GrowBlock>) -> Result<()> {
        instructions::grow_block(ctx)
    }

    /// Registers a container into the lowest free row of a block.
    #[discrim = 22]
    pub fn register_container(ctx: &mut Context<RegisterContainer>, args: RegisterContainerArgs) -> Result<()> {
        instructions::register_container(ctx, &args)
    }

    /// Registers a checker.
    #[discrim = 30]
    pub fn register_checker(
        ctx: &mut Context<RegisterChecker>,
        operator: Address,
        payout: Address,
        commission_bps: u16,
    ) -> Result<()> {
        instructions::register_checker(ctx, operator, payout, commission_bps)
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

    /// Moves to the epoch the clock is in.
    #[discrim = 40]
    pub fn advance_epoch(ctx: &mut Context<AdvanceEpoch>, number: u32) -> Result<()> {
        instructions::advance_epoch(ctx, number)
    }

    /// Lets waiting tickets into the order.
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

    /// Pays what the named rows of a block accrued.
    #[discrim = 50]
    pub fn claim_rewards(ctx: &mut Context<ClaimRewards>, rows: &[u8; ROWS / 8]) -> Result<()> {
        instructions::claim_rewards(ctx, rows)
    }

    /// Pays what the tickets in the named slots (u32 little-endian each) accrued.
    #[discrim = 51]
    pub fn claim_seat_pay(ctx: &mut Context<ClaimSeatPay>, slots: &[u8]) -> Result<()> {
        instructions::claim_seat_pay(ctx, slots)
    }
}
