//! Events. What an indexer must replay is complete here; reveals and tallies, which are many, are plain logs.

use anchor_lang::prelude::*;

/// A container took a row.
#[event]
pub struct ContainerRegistered {
    pub container: Address,
    pub provider: u32,
    pub block: u32,
    pub row: u8,
    pub class: u16,
    pub gpus: u8,
    /// Base units.
    pub locked_stake: u64,
    /// First epoch it is present for in full.
    pub first_epoch: u32,
}

/// The network moved to an epoch; its money is fixed.
#[event]
pub struct EpochAdvanced {
    pub epoch: u32,
    /// Base units reserved.
    pub pool: u64,
    /// Units of weight that could earn.
    pub nominal: u64,
    pub rate_hi: u64,
    pub rate_lo: u64,
    pub blocks: u32,
    /// Base units given back from earlier epochs.
    pub released: u64,
}

/// Committees are fixed.
#[event]
pub struct EpochDrawn {
    pub epoch: u32,
    pub slot: u64,
    pub seed: [u8; 32],
    pub tickets: u32,
    /// Base units of a perfect seat.
    pub seat_pay: u64,
}

/// A report is on chain; its evidence is served by the checker under this root.
#[event]
pub struct ReportRevealed {
    pub epoch: u32,
    pub block: u32,
    pub seat: u8,
    pub checker: u32,
    pub evidence_root: [u8; 32],
}

/// A block's epoch is judged and paid.
#[event]
pub struct BlockTallied {
    pub epoch: u32,
    pub block: u32,
    /// Base units credited to rows in this call.
    pub rows_credited: u64,
    /// Base units credited to seats.
    pub seats_credited: u64,
}

/// Rewards left the vault.
#[event]
pub struct RewardsClaimed {
    pub provider: u32,
    pub block: u32,
    /// Base units.
    pub amount: u64,
    pub to: Address,
}

/// Seat pay left the vault.
#[event]
pub struct SeatPayClaimed {
    pub checker: u32,
    /// Base units to the checker's payout wallet.
    pub amount: u64,
    /// Base units to the operator.
    pub commission: u64,
}
