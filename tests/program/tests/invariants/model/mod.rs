//! The reference: what the protocol's text says each instruction does, in plain integers and lists. Nothing of the program's
//! arithmetic is called (only `committee`, the one definition of who sits where); whole histories are kept where the program keeps
//! rings and counters.
//!
//! [`Model::apply`] either refuses, with a word why, or changes the model; [`Model`] is then compared with the chain field by field.

mod cases;
mod epochs;
mod government;
mod leases;
mod money;
mod parties;
mod rows;
mod tickets;

use std::collections::BTreeMap;

use datagalax::state::{ClassTerms, Emission, Parameters, Proposal, VestingTerms};
use datagalax_program_tests::Report;
use solana_pubkey::Pubkey;

pub use epochs::Epoch;
pub use leases::{Lease, LeaseState};
pub use money::Vault;
pub use parties::{Checker, Container, Indexer, Keeper, Provider};
pub use rows::{Block, Row, RowState};
pub use tickets::{TicketState, Tickets};

/// Base units.
pub type Money = u128;
/// Accepted, or a word why not.
pub type Answer = Result<(), &'static str>;

/// A container's registration: provider and number of the fingerprint.
pub type ContainerId = (u32, u32);
/// A lease: user and nonce.
pub type LeaseId = (Pubkey, u64);
/// A case: container, epoch, breach.
pub type CaseId = (ContainerId, u32, bool);

/// Where money comes out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Provider(u32),
    Indexer(u32),
    Lease(LeaseId),
    Keeper(Pubkey),
}

/// Whose keys change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    Provider(u32),
    Checker(u32),
    Indexer(u32),
}

/// What is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Provider(u32),
    Checker(u32),
    Indexer(u32),
    Keeper(Pubkey),
    Lease(LeaseId),
    Case(CaseId),
    Epoch(u32),
}

/// Who signed a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    pub indexer: u32,
    pub signed_by: Pubkey,
    /// Until when it is good.
    pub expires: i64,
}

/// One instruction with everything in it. `by` signs; what has none may be called by anybody.
#[derive(Clone, Debug)]
pub enum Op {
    InitializeNetwork { by: Pubkey },
    CreateClass { by: Pubkey, id: u16, terms: ClassTerms },
    UpdateClass { by: Pubkey, id: u16, terms: ClassTerms },
    ApplyClass { id: u16 },
    FundRewards { by: Pubkey, amount: u64 },
    Propose { by: Pubkey, proposal: Box<Proposal> },
    ApplyProposal,
    CancelProposal { by: Pubkey },
    ProposeAuthority { by: Pubkey, next: Pubkey },
    AcceptAuthority { by: Pubkey },
    Pause { by: Pubkey },
    Unpause { by: Pubkey },
    SweepVault { kind: usize },
    WithdrawTreasury,
    RegisterProvider { by: Pubkey, id: u32, operator: Pubkey, payout: Pubkey },
    Stake { by: Pubkey, provider: u32, amount: u64 },
    RequestUnstake { by: Pubkey, provider: u32, amount: u64 },
    RestoreStake { by: Pubkey, container: ContainerId },
    CreateBlock { by: Pubkey, block: u32 },
    GrowBlock { by: Pubkey, block: u32 },
    RegisterContainer { by: Pubkey, id: ContainerId, class: u16, block: u32, gpus: u8, operator: Pubkey, price: u64 },
    UpdateContainer { by: Pubkey, container: ContainerId, price: u64, minimum: u32, accepting: u8 },
    RotateContainerOperator { by: Pubkey, container: ContainerId, operator: Pubkey },
    AnnounceMaintenance { by: Pubkey, container: ContainerId, start: i64, end: i64 },
    DeregisterContainer { by: Pubkey, container: ContainerId },
    VacateRow { container: ContainerId },
    RegisterChecker { by: Pubkey, id: u32, operator: Pubkey, payout: Pubkey, commission: u16 },
    RegisterTickets { by: Pubkey, checker: u32, count: u16 },
    LeaveTickets { by: Pubkey, checker: u32, slots: Vec<u32> },
    WithdrawTickets { checker: u32, slots: Vec<u32> },
    CommitReport { by: Pubkey, block: u32, epoch: u32, seat: u8, named: Option<u32>, report: Box<Report> },
    RevealReport { by: Pubkey, block: u32, epoch: u32, seat: u8, report: Box<Report> },
    AdvanceEpoch { number: u32, keeper: Option<Pubkey> },
    Churn,
    Draw { keeper: Option<Pubkey> },
    SeatBlock { epoch: u32, block: u32 },
    TallyBlock { epoch: u32, block: u32, rows: u16, keeper: Option<Pubkey> },
    RegisterKeeper { wallet: Pubkey },
    ClaimRewards { by: Pubkey, provider: u32, block: u32, rows: Vec<u8> },
    ClaimSeatPay { checker: u32, slots: Vec<u32> },
    Withdraw { source: Source, kind: usize },
    CloseAccount { by: Pubkey, target: Target },
    RotateKeys { by: Pubkey, party: Party, operator: Pubkey, payout: Pubkey },
    ProposeOwner { by: Pubkey, party: Party, next: Pubkey },
    AcceptOwner { by: Pubkey, party: Party },
    OpenLease { by: Pubkey, container: ContainerId, nonce: u64, seconds: u32, most: u64, matched: Option<Matched> },
    StartLease { by: Pubkey, lease: LeaseId },
    RejectLease { by: Pubkey, lease: LeaseId },
    CancelLease { lease: LeaseId },
    TopUpLease { by: Pubkey, lease: LeaseId, seconds: u32 },
    RecordUsage { by: Pubkey, lease: LeaseId, gpu_seconds: u64 },
    SettleLease { lease: LeaseId },
    CloseLease { by: Pubkey, lease: LeaseId, not_served: bool },
    OpenCase { container: ContainerId, epoch: u32 },
    CloseCase { container: ContainerId, epoch: u32, keeper: Option<Pubkey> },
    ReportBreach { lease: LeaseId, epoch: u32 },
    ReleaseRow { container: ContainerId, epoch: u32 },
    RegisterIndexer { by: Pubkey, id: u32, operator: Pubkey, payout: Pubkey },
    UpdateIndexer { by: Pubkey, indexer: u32 },
    LeaveIndexer { by: Pubkey, indexer: u32 },
}

/// A grid of epochs from a first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    pub start: i64,
    pub first: u32,
    pub length: i64,
    pub reveal: i64,
    pub lead: i64,
}

/// A class.
#[derive(Clone, Debug)]
pub struct Class {
    pub terms: ClassTerms,
    pub pending: Option<(i64, ClassTerms)>,
}

/// A case.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub open: bool,
    pub upheld: bool,
    pub until: u32,
    pub closed: i64,
    pub condemned: u32,
    pub stake: Money,
    pub grants: Money,
    pub accrual: Money,
    pub compensation: Money,
    /// Slot, checker and accusation of each seat that revealed.
    pub seats: Vec<Option<(u32, u32, bool)>>,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Model {
    /// Seconds.
    pub now: i64,
    /// Slot.
    pub slot: u64,
    /// Who pays the fees and rents of what anybody may call.
    pub payer: Pubkey,
    pub authority: Pubkey,
    pub pending_authority: Pubkey,
    pub guardian: Pubkey,
    pub treasury: Pubkey,
    pub treasury_due: Money,
    pub parameters: Parameters,
    pub emission: Emission,
    pub pending: Option<(i64, Box<Proposal>)>,
    /// The eight places for vesting terms.
    pub terms: [Option<VestingTerms>; 8],
    /// All grids there ever were.
    pub grids: Vec<Grid>,
    pub paused_until: i64,
    pub guardian_paused: Option<i64>,
    pub current: Option<u32>,
    pub previous: Option<u32>,
    pub epochs: BTreeMap<u32, Epoch>,
    pub classes: BTreeMap<u16, Class>,
    /// Weight and throughput of the class that bounds all others.
    pub largest: Option<(u128, u128)>,
    pub providers: BTreeMap<u32, Provider>,
    pub checkers: BTreeMap<u32, Checker>,
    pub indexers: BTreeMap<u32, Indexer>,
    /// Next ids of the three.
    pub ids: [u32; 3],
    pub keepers: BTreeMap<Pubkey, Keeper>,
    pub containers: BTreeMap<ContainerId, Container>,
    pub blocks: Vec<Block>,
    pub tickets: Tickets,
    pub leases: BTreeMap<LeaseId, Lease>,
    pub cases: BTreeMap<CaseId, Case>,
    /// Stake, rewards, escrow.
    pub vaults: [Vault; 3],
    /// Tokens by wallet.
    pub wallets: BTreeMap<Pubkey, Money>,
}

/// Day of an instant.
pub fn day(now: i64) -> u32 {
    (now / 86_400) as u32
}

/// `ok`, or the word.
pub fn need(ok: bool, why: &'static str) -> Answer {
    if ok { Ok(()) } else { Err(why) }
}

impl Model {
    /// The grid of an instant.
    pub fn grid_at(&self, now: i64) -> Option<&Grid> {
        self.grids.iter().rev().find(|g| g.start <= now)
    }

    /// The grid of an epoch.
    pub fn grid_of(&self, epoch: u32) -> &Grid {
        self.grids.iter().rev().find(|g| g.first <= epoch).expect("the first grid begins with epoch 0")
    }

    /// The epoch of an instant.
    pub fn epoch_at(&self, now: i64) -> Result<u32, &'static str> {
        let grid = self.grid_at(now).ok_or("not started")?;
        Ok(grid.first + ((now - grid.start) / grid.length) as u32)
    }

    /// Start and end of an epoch.
    pub fn bounds(&self, epoch: u32) -> (i64, i64) {
        let grid = self.grid_of(epoch);
        let start = grid.start + i64::from(epoch - grid.first) * grid.length;
        (start, start + grid.length)
    }

    /// The row of a container.
    pub fn row_of(&self, id: &ContainerId) -> &Row {
        let container = &self.containers[id];
        &self.blocks[container.block as usize].rows[&container.row]
    }

    fn running(&self) -> Answer {
        need(self.now >= self.paused_until, "paused")
    }

    fn current(&mut self) -> Result<&mut Epoch, &'static str> {
        let number = self.current.ok_or("no epoch")?;
        self.epochs.get_mut(&number).ok_or("no epoch")
    }

    /// Does an operation, or says why not; then the model is not to be used any more.
    pub fn apply(&mut self, op: &Op) -> Answer {
        match op {
            Op::InitializeNetwork { .. } => Err("there is a network"),
            Op::CreateClass { by, id, terms } => self.create_class(*by, *id, terms),
            Op::UpdateClass { by, id, terms } => self.update_class(*by, *id, terms),
            Op::ApplyClass { id } => self.apply_class(*id),
            Op::FundRewards { by, amount } => self.deposit(1, *by, Money::from(*amount), false),
            Op::Propose { by, proposal } => self.propose(*by, proposal),
            Op::ApplyProposal => self.apply_proposal(),
            Op::CancelProposal { by } => self.cancel_proposal(*by),
            Op::ProposeAuthority { by, next } => {
                need(*by == self.authority, "not the authority")?;
                self.pending_authority = *next;
                Ok(())
            }
            Op::AcceptAuthority { by } => {
                need(*by == self.pending_authority, "not named")?;
                self.authority = *by;
                self.pending_authority = Pubkey::default();
                Ok(())
            }
            Op::Pause { by } => self.pause(*by),
            Op::Unpause { by } => {
                need(*by == self.authority, "not the authority")?;
                need(self.now < self.paused_until, "not paused")?;
                self.paused_until = self.now;
                Ok(())
            }
            Op::SweepVault { kind } => self.sweep(*kind),
            Op::WithdrawTreasury => self.withdraw_treasury(),
            Op::RegisterProvider { by, id, operator, payout } => self.register_provider(*by, *id, *operator, *payout),
            Op::Stake { by, provider, amount } => self.stake(*by, *provider, Money::from(*amount)),
            Op::RequestUnstake { by, provider, amount } => self.request_unstake(*by, *provider, Money::from(*amount)),
            Op::RestoreStake { by, container } => self.restore_stake(*by, *container),
            Op::CreateBlock { block, .. } => self.create_block(*block),
            Op::GrowBlock { block, .. } => self.grow_block(*block),
            Op::RegisterContainer { by, id, class, block, gpus, operator, price } => {
                self.register_container(*by, *id, *class, *block, *gpus, *operator, *price)
            }
            Op::UpdateContainer { by, container, price, minimum, accepting } => {
                self.update_container(*by, *container, *price, *minimum, *accepting)
            }
            Op::RotateContainerOperator { by, container, operator } => {
                self.own_container(*by, *container)?.operator = *operator;
                Ok(())
            }
            Op::AnnounceMaintenance { by, container, start, end } => self.announce(*by, *container, *start, *end),
            Op::DeregisterContainer { by, container } => self.deregister(*by, *container),
            Op::VacateRow { container } => self.vacate(*container),
            Op::RegisterChecker { by, id, operator, payout, commission } => {
                self.register_checker(*by, *id, *operator, *payout, *commission)
            }
            Op::RegisterTickets { by, checker, count } => self.register_tickets(*by, *checker, *count),
            Op::LeaveTickets { by, checker, slots } => self.leave_tickets(*by, *checker, slots),
            Op::WithdrawTickets { checker, slots } => self.withdraw_tickets(*checker, slots),
            Op::CommitReport { by, block, epoch, seat, named, report } => {
                self.commit(*by, *block, *epoch, *seat, *named, report)
            }
            Op::RevealReport { by, block, epoch, seat, report } => self.reveal(*by, *block, *epoch, *seat, report),
            Op::AdvanceEpoch { number, keeper } => self.advance(*number, *keeper),
            Op::Churn => self.churn(),
            Op::Draw { keeper } => self.draw(*keeper),
            Op::SeatBlock { epoch, block } => self.seat_block(*epoch, *block),
            Op::TallyBlock { epoch, block, rows, keeper } => self.tally(*epoch, *block, *rows, *keeper),
            Op::RegisterKeeper { wallet } => {
                need(!self.keepers.contains_key(wallet), "there is one")?;
                self.keepers.insert(*wallet, Keeper::default());
                Ok(())
            }
            Op::ClaimRewards { by, provider, block, rows } => self.claim_rewards(*by, *provider, *block, rows),
            Op::ClaimSeatPay { checker, slots } => self.claim_seat_pay(*checker, slots),
            Op::Withdraw { source, kind } => self.withdraw(*source, *kind),
            Op::CloseAccount { by, target } => self.close_account(*by, *target),
            Op::RotateKeys { by, party, operator, payout } => {
                let keys = self.keys(*party)?;
                need(keys.owner == *by, "not the owner")?;
                need(*operator != Pubkey::default(), "nobody")?;
                (keys.operator, keys.payout) = (*operator, *payout);
                Ok(())
            }
            Op::ProposeOwner { by, party, next } => {
                let keys = self.keys(*party)?;
                need(keys.owner == *by, "not the owner")?;
                keys.pending = *next;
                Ok(())
            }
            Op::AcceptOwner { by, party } => {
                let keys = self.keys(*party)?;
                need(keys.pending == *by, "not named")?;
                (keys.owner, keys.pending) = (*by, Pubkey::default());
                Ok(())
            }
            Op::OpenLease { by, container, nonce, seconds, most, matched } => {
                self.open_lease(*by, *container, *nonce, *seconds, *most, *matched)
            }
            Op::StartLease { by, lease } => self.start_lease(*by, *lease),
            Op::RejectLease { by, lease } => self.reject_lease(*by, *lease),
            Op::CancelLease { lease } => self.cancel_lease(*lease),
            Op::TopUpLease { by, lease, seconds } => self.top_up(*by, *lease, *seconds),
            Op::RecordUsage { by, lease, gpu_seconds } => self.record_usage(*by, *lease, *gpu_seconds),
            Op::SettleLease { lease } => self.settle_lease(*lease),
            Op::CloseLease { by, lease, not_served } => self.close_lease(*by, *lease, *not_served),
            Op::OpenCase { container, epoch } => self.open_case(*container, *epoch),
            Op::CloseCase { container, epoch, keeper } => self.close_case(*container, *epoch, *keeper),
            Op::ReportBreach { lease, epoch } => self.report_breach(*lease, *epoch),
            Op::ReleaseRow { container, epoch } => self.release_row(*container, *epoch),
            Op::RegisterIndexer { by, id, operator, payout } => self.register_indexer(*by, *id, *operator, *payout),
            Op::UpdateIndexer { by, indexer } => {
                let keys = &self.indexers.get(indexer).ok_or("no indexer")?.keys;
                need(keys.owner == *by || keys.operator == *by, "not the operator")
            }
            Op::LeaveIndexer { by, indexer } => self.leave_indexer(*by, *indexer),
        }
    }
}
