//! Events. What an indexer must replay is recorded by a call of the program to itself (`checked::EventAuthority`); reveals and
//! tallies, which are many, are plain logs. All are written as they lie in memory (`repr(C)`, little-endian, no padding), which
//! takes the chain a copy instead of a serialiser for each.

use anchor_lang::prelude::*;

use crate::state::{ClassTerms, Parameters, Proposal, Provider};

/// Bytes of an event's tag.
pub const TAG_LEN: usize = 8;

/// An event that is written as it lies in memory. Anchor's own serialisation gives the same bytes, by code of its own for each.
///
/// # Safety
/// The type is `repr(C)` without padding, as `#[event(bytemuck)]` makes sure of.
pub unsafe trait Recorded: anchor_lang::Event + Sized {
    /// The discriminator.
    const TAG: u64 = {
        let bytes = Self::DISCRIMINATOR;
        assert!(bytes.len() == TAG_LEN);
        u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    };

    /// Its bytes.
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: no padding, so every byte is initialised; the slice lives as long as the event.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast(), core::mem::size_of::<Self>()) }
    }
}

macro_rules! recorded {
    ($($event:ident),* $(,)?) => {
        // SAFETY: each is an `#[event(bytemuck)]`, whose derive refuses padding.
        $(unsafe impl Recorded for $event {})*

        #[cfg(test)]
        mod tests {
            use super::*;

            #[test]
            fn an_event_is_written_as_anchor_would() {
                $({
                    // SAFETY: all bits of an event's fields may be zero.
                    let event: $event = unsafe { core::mem::zeroed() };
                    let whole = [&$event::TAG.to_le_bytes(), event.bytes()].concat();
                    assert_eq!(anchor_lang::Event::data(&event), whole, stringify!($event));
                })*
            }
        }
    };
}

recorded!(
    ContainerRegistered,
    EpochAdvanced,
    EpochDrawn,
    ReportRevealed,
    BlockTallied,
    RewardsClaimed,
    SeatPayClaimed,
    NetworkInitialized,
    ProposalMade,
    ProposalApplied,
    AuthorityChanged,
    PauseChanged,
    RewardsFunded,
    VaultSwept,
    ClassProposed,
    ClassApplied,
    ProviderRegistered,
    StakeChanged,
    KeysRotated,
    Withdrawn,
    AccountClosed,
    BlockCreated,
    ContainerUpdated,
    MaintenanceAnnounced,
    ContainerHalted,
    ContainerLeaving,
    RowVacated,
    CheckerRegistered,
    TicketsChanged,
    IndexerChanged,
    KeeperRegistered,
    LeaseOpened,
    LeaseStarted,
    LeaseToppedUp,
    LeaseEnded,
    LeaseSettled,
    CaseOpened,
    CaseClosed,
    RowReleased,
);

/// A container took a row.
#[event(bytemuck)]
pub struct ContainerRegistered {
    pub container: Address,
    /// Base units.
    pub locked_stake: u64,
    pub provider: u32,
    pub block: u32,
    /// First epoch it is present for in full.
    pub first_epoch: u32,
    pub class: u16,
    pub row: u8,
    pub gpus: u8,
}

/// The network moved to an epoch; its money is fixed.
#[event(bytemuck)]
pub struct EpochAdvanced {
    /// Base units reserved.
    pub pool: u64,
    /// Units of weight that could earn.
    pub nominal: u64,
    pub rate_hi: u64,
    pub rate_lo: u64,
    /// Base units given back from earlier epochs.
    pub released: u64,
    pub epoch: u32,
    pub blocks: u32,
}

/// Committees are fixed.
#[event(bytemuck)]
pub struct EpochDrawn {
    pub slot: u64,
    pub seed: [u8; 32],
    /// Base units of a perfect seat.
    pub seat_pay: u64,
    pub epoch: u32,
    pub tickets: u32,
}

/// A report is on chain; its evidence is served by the checker under this root.
#[event(bytemuck)]
pub struct ReportRevealed {
    pub evidence_root: [u8; 32],
    pub epoch: u32,
    pub block: u32,
    pub checker: u32,
    pub seat: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
}

/// A block's epoch is judged and paid.
#[event(bytemuck)]
pub struct BlockTallied {
    /// Base units credited to rows in this call.
    pub rows_credited: u64,
    /// Base units credited to seats.
    pub seats_credited: u64,
    pub epoch: u32,
    pub block: u32,
}

/// Rewards of rows became a grant that vests.
#[event(bytemuck)]
pub struct RewardsClaimed {
    /// Base units.
    pub amount: u64,
    pub provider: u32,
    pub block: u32,
    /// Unix day of the grant.
    pub day: u32,
    /// Reserved, zero.
    pub reserved: [u8; 4],
}

/// Seat pay left the vault.
#[event(bytemuck)]
pub struct SeatPayClaimed {
    /// Base units to the checker's payout wallet.
    pub amount: u64,
    /// Base units to the operator.
    pub commission: u64,
    pub checker: u32,
    /// Reserved, zero.
    pub reserved: [u8; 4],
}

/// The network exists.
#[event(bytemuck)]
pub struct NetworkInitialized {
    pub authority: Address,
    pub guardian: Address,
    pub mint: Address,
    pub treasury: Address,
    pub first_epoch_start: i64,
    pub epoch_length: u32,
    /// Reserved, zero.
    pub reserved: [u8; 4],
}

/// A proposal waits for the time lock; `applies_at` 0: it was withdrawn.
#[event(bytemuck)]
pub struct ProposalMade {
    pub applies_at: i64,
    pub proposal: Proposal,
}

/// A proposal holds.
#[event(bytemuck)]
pub struct ProposalApplied {
    pub before: Parameters,
    pub after: Parameters,
}

/// The network has another authority.
#[event(bytemuck)]
pub struct AuthorityChanged {
    pub before: Address,
    pub after: Address,
}

/// The network is paused until then.
#[event(bytemuck)]
pub struct PauseChanged {
    pub until: i64,
}

/// The rewards vault was funded.
#[event(bytemuck)]
pub struct RewardsFunded {
    /// Base units.
    pub amount: u64,
    /// Base units booked afterwards.
    pub balance: u64,
}

/// What a vault owed nobody moved to the rewards vault.
#[event(bytemuck)]
pub struct VaultSwept {
    /// Base units.
    pub amount: u64,
    /// Kind of the vault it came from.
    pub kind: u8,
    /// Reserved, zero.
    pub reserved: [u8; 7],
}

/// Terms of a class wait for the time lock, or hold at once.
#[event(bytemuck)]
pub struct ClassProposed {
    pub applies_at: i64,
    pub before: ClassTerms,
    pub after: ClassTerms,
    pub class: u16,
    /// Reserved, zero.
    pub reserved: [u8; 6],
}

/// Terms of a class hold.
#[event(bytemuck)]
pub struct ClassApplied {
    pub terms: ClassTerms,
    pub class: u16,
    /// Reserved, zero.
    pub reserved: [u8; 6],
}

/// A provider exists.
#[event(bytemuck)]
pub struct ProviderRegistered {
    pub owner: Address,
    pub operator: Address,
    pub payout: Address,
    pub provider: u32,
}

/// A provider's stake, as it is now.
#[event(bytemuck)]
pub struct StakeChanged {
    /// Base units.
    pub staked: u64,
    /// Base units.
    pub locked: u64,
    /// Base units.
    pub unbonding: u64,
    pub provider: u32,
    /// Reserved, zero.
    pub reserved: [u8; 4],
}

impl StakeChanged {
    /// Of a provider as it is.
    pub fn of(provider: &Provider) -> Self {
        Self {
            provider: provider.id,
            staked: provider.staked,
            locked: provider.locked,
            unbonding: provider.unbonding,
            reserved: [0; 4],
        }
    }
}

/// Keys of a provider, checker or indexer, as they are now.
#[event(bytemuck)]
pub struct KeysRotated {
    pub account: Address,
    pub owner: Address,
    pub pending_owner: Address,
    pub operator: Address,
    pub payout: Address,
}

/// Tokens left a vault.
#[event(bytemuck)]
pub struct Withdrawn {
    /// Whose they were: the account of a provider, indexer, lease, keeper, or the network's for the treasury.
    pub source: Address,
    /// Base units.
    pub amount: u64,
    /// Base units that wait for the circuit breaker.
    pub left: u64,
    pub to: Address,
    /// Kind of the vault.
    pub kind: u8,
    /// Reserved, zero.
    pub reserved: [u8; 7],
}

/// An account is closed and its rent given back.
#[event(bytemuck)]
pub struct AccountClosed {
    pub account: Address,
    pub recipient: Address,
    pub lamports: u64,
}

/// A block's account exists.
#[event(bytemuck)]
pub struct BlockCreated {
    pub creator: Address,
    pub block: u32,
}

/// Price, terms or key of a container changed.
#[event(bytemuck)]
pub struct ContainerUpdated {
    pub container: Address,
    /// Base units an hour.
    pub price_before: u64,
    /// Base units an hour.
    pub price_per_hour: u64,
    pub operator: Address,
    pub minimum_lease: u32,
    pub accepting: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
}

/// A container announced maintenance.
#[event(bytemuck)]
pub struct MaintenanceAnnounced {
    pub container: Address,
    pub start: i64,
    pub end: i64,
}

/// A container was halted (why), or its stake is whole again (reason 0).
#[event(bytemuck)]
pub struct ContainerHalted {
    pub container: Address,
    /// Base units.
    pub locked_stake: u64,
    pub reason: u16,
    /// Reserved, zero.
    pub reserved: [u8; 6],
}

/// A container leaves before this epoch.
#[event(bytemuck)]
pub struct ContainerLeaving {
    pub container: Address,
    pub until: u32,
}

/// A row is free again, its container gone.
#[event(bytemuck)]
pub struct RowVacated {
    pub container: Address,
    /// Base units granted to the provider.
    pub accrued: u64,
    /// Base units of stake that are free again.
    pub unlocked: u64,
    pub provider: u32,
    /// Reserved, zero.
    pub reserved: [u8; 4],
}

/// A checker exists.
#[event(bytemuck)]
pub struct CheckerRegistered {
    pub owner: Address,
    pub operator: Address,
    pub payout: Address,
    pub checker: u32,
    pub commission_bps: u16,
    /// Reserved, zero.
    pub reserved: [u8; 2],
}

/// A checker's tickets changed.
#[event(bytemuck)]
pub struct TicketsChanged {
    /// Base units staked afterwards.
    pub staked: u64,
    pub checker: u32,
    /// Tickets held afterwards.
    pub tickets: u32,
    pub bought: u32,
    pub asked_to_leave: u32,
    pub withdrawn: u32,
    /// Reserved, zero.
    pub reserved: [u8; 4],
}

/// An indexer, as it is now.
#[event(bytemuck)]
pub struct IndexerChanged {
    /// Base units.
    pub staked: u64,
    pub unlocks_at: i64,
    pub operator: Address,
    pub indexer: u32,
    pub status: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
}

/// A keeper's account exists.
#[event(bytemuck)]
pub struct KeeperRegistered {
    pub wallet: Address,
}

/// A lease is escrowed.
#[event(bytemuck)]
pub struct LeaseOpened {
    pub lease: Address,
    pub user: Address,
    pub container: Address,
    /// Base units an hour.
    pub price_per_hour: u64,
    /// Base units.
    pub escrowed: u64,
    pub provider: u32,
    pub indexer: u32,
    pub seconds: u32,
    /// Reserved, zero.
    pub reserved: [u8; 4],
}

/// A lease runs.
#[event(bytemuck)]
pub struct LeaseStarted {
    pub lease: Address,
    pub started: i64,
}

/// A lease lasts longer.
#[event(bytemuck)]
pub struct LeaseToppedUp {
    pub lease: Address,
    /// Base units in all.
    pub escrowed: u64,
    /// In all.
    pub seconds: u32,
    /// Reserved, zero.
    pub reserved: [u8; 4],
}

/// A lease ended, and why.
#[event(bytemuck)]
pub struct LeaseEnded {
    pub lease: Address,
    pub container: Address,
    pub ended: i64,
    /// Base units so far.
    pub refunded: u64,
    /// Base units out of the container's stake.
    pub compensation: u64,
    pub detail: u16,
    pub reason: u8,
    /// Reserved, zero.
    pub reserved: [u8; 5],
}

/// A lease is settled until then; all figures are of the whole so far.
#[event(bytemuck)]
pub struct LeaseSettled {
    pub lease: Address,
    pub until: i64,
    /// Base units.
    pub paid: u64,
    /// Base units, the indexer's share included.
    pub fee: u64,
    /// Base units.
    pub indexer_fee: u64,
    /// Base units.
    pub refunded: u64,
    /// 1 when nothing is left to settle.
    pub done: u8,
    /// Reserved, zero.
    pub reserved: [u8; 7],
}

/// A case is open.
#[event(bytemuck)]
pub struct CaseOpened {
    pub case: Address,
    pub container: Address,
    pub epoch: u32,
    pub until: u32,
    pub kind: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
}

/// A case has its outcome.
#[event(bytemuck)]
pub struct CaseClosed {
    pub case: Address,
    pub container: Address,
    /// Base units.
    pub stake_taken: u64,
    /// Base units.
    pub grants_taken: u64,
    /// Base units.
    pub accrual_taken: u64,
    pub condemned: u32,
    pub status: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
}

/// A row whose case nobody opened may claim again.
#[event(bytemuck)]
pub struct RowReleased {
    pub container: Address,
    pub epoch: u32,
}
