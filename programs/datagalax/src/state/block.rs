use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::{VERSION, assert_size};
use crate::{
    constants::{NONE, ROWS, SEATS, VOID},
    error::DatagalaxError,
};

/// 256 containers and the two reports lanes about them, seeds `["block", index u32]`.
///
/// Everything a report or a tally touches lies in this one account. Epoch e uses lane `e & 1`, so that e can be tallied
/// while e + 1 is committed.
#[account]
pub struct Block {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// 1 once the account has its full length (its rows then count as free).
    pub full: u8,
    /// Reserved, zero.
    pub reserved_flags: u8,
    /// Index.
    pub index: u32,
    /// First epoch it may be seated in; [`NONE`] while no row is occupied.
    pub seated_from: u32,
    /// Last epoch tallied to the end, [`NONE`] before the first.
    pub last_tallied: u32,
    /// Rows occupied (checking, live or leaving).
    pub occupied: u16,
    /// Rows live.
    pub live: u16,
    /// Reserved, zero.
    pub reserved_count: u32,
    /// Who paid its rent; each registration repays 1/256 of it.
    pub creator: Address,
    /// Bit r of byte r / 8 is set while row r is occupied.
    pub occupancy: [u8; ROWS / 8],
    /// Reserved, zero.
    pub reserved: [u8; 48],
    /// Reports of the epochs of each parity.
    pub lanes: [Lane; 2],
    /// The containers.
    pub rows: [Row; ROWS],
}

/// One epoch's committee and its reports on a block.
#[derive(Clone, Copy, Pod, Zeroable, IdlType)]
#[repr(C)]
pub struct Lane {
    /// Epoch, [`NONE`] before the first.
    pub epoch: u32,
    /// Rows tallied.
    pub cursor: u16,
    /// Seats filled, K'.
    pub seats: u8,
    /// 1 once the tally is done.
    pub tallied: u8,
    /// XOR of the hashes of the revealed salts.
    pub entropy: [u8; 32],
    /// The committee.
    pub committee: [Seat; SEATS],
}

/// One seat of a committee and its report.
#[derive(Clone, Copy, Pod, Zeroable, IdlType)]
#[repr(C)]
pub struct Seat {
    /// Ticket's slot in the checker set, [`NONE`] for an empty seat.
    pub slot: u32,
    /// Checker's id.
    pub checker: u32,
    /// Key that committed, copied by the first commit; default before.
    pub operator: Address,
    /// Commitment; the evidence root once revealed; zero before the first commit.
    pub commitment: [u8; 32],
    /// 1 once revealed.
    pub revealed: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
    /// Rows it was judged on.
    pub judged: u16,
    /// Rows it was right on.
    pub right: u16,
    /// Availability by row, percent; bit 7 is the dishonest verdict.
    pub availability: [u8; ROWS],
    /// Capacity by row, percent.
    pub capacity: [u8; ROWS],
    /// Token by row.
    pub token: [u8; ROWS],
}

/// One container's hot state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable, IdlType)]
#[repr(C)]
pub struct Row {
    /// Provider's id.
    pub provider: u32,
    /// First epoch that counts: present in full (checking), or earning (live).
    pub live_from: u32,
    /// First epoch that no longer counts (leaving), [`NONE`] else.
    pub until: u32,
    /// Class id.
    pub class: u16,
    /// Weight of a unit, copied from the class.
    pub unit_weight: u16,
    /// Units.
    pub gpus: u8,
    /// [`Row::FREE`], [`Row::CHECKING`], [`Row::LIVE`] or [`Row::LEAVING`].
    pub status: u8,
    /// [`Row::PROBATION`] and later flags.
    pub flags: u8,
    /// Last unleased median capacity, percent.
    pub full_capacity: u8,
    /// Its epoch.
    pub full_capacity_epoch: u32,
    /// First condemned epoch of the open case, [`NONE`] when none.
    pub first_condemned: u32,
    /// Condemned epochs in the window.
    pub condemned: u8,
    /// Clean tallies in a row.
    pub clean: u8,
    /// The last sixteen non-void epochs, newest in bit 0, 1 = below a threshold.
    pub bad_epochs: u16,
    /// Earned and not claimed, base units.
    pub accrued: u64,
    /// Most the row may earn while leased, by epoch parity.
    pub lease_cap: [u64; 2],
    /// Availability by epoch % 32; bit 7 marks a breach, 255 a void epoch.
    pub history: [u8; 32],
    /// Reserved, zero.
    pub reserved: [u8; 8],
}

assert_size!(Row, 96);
assert_size!(Seat, 80 + 3 * ROWS);
assert_size!(Lane, 40 + SEATS * (80 + 3 * ROWS));
assert_size!(Block, 136 + 2 * (40 + SEATS * (80 + 3 * ROWS)) + ROWS * 96);

impl Row {
    /// No container.
    pub const FREE: u8 = 0;
    /// Reported, not paid, judges nobody.
    pub const CHECKING: u8 = 1;
    /// Earns from `live_from`.
    pub const LIVE: u8 = 2;
    /// Deregistered, reported until it is vacated.
    pub const LEAVING: u8 = 3;
    /// Flag: fell back from live, leaves checking only after four good epochs in a row.
    pub const PROBATION: u8 = 1;

    /// A fresh row of a container whose first full epoch is `first_epoch`.
    pub fn checking(provider: u32, class: u16, unit_weight: u16, gpus: u8, first_epoch: u32) -> Self {
        Self {
            provider,
            live_from: first_epoch,
            until: NONE,
            class,
            unit_weight,
            gpus,
            status: Self::CHECKING,
            first_condemned: NONE,
            history: [VOID; 32],
            ..Zeroable::zeroed()
        }
    }
}

impl Seat {
    /// Whether the seat holds a ticket.
    #[inline]
    pub const fn is_filled(&self) -> bool {
        self.slot != NONE
    }

    /// Whether a commitment was made.
    #[inline]
    pub fn has_committed(&self) -> bool {
        self.commitment != [0; 32]
    }
}

impl Block {
    /// Bytes of the account.
    pub const SPACE: usize = 8 + core::mem::size_of::<Self>();

    /// The lane that holds this epoch's reports.
    ///
    /// # Errors
    /// [`DatagalaxError::NotSeated`] when the block has no committee for the epoch.
    #[inline]
    pub fn lane(&self, epoch: u32) -> Result<&Lane> {
        let lane = &self.lanes[(epoch & 1) as usize];
        require!(lane.epoch == epoch, DatagalaxError::NotSeated);
        Ok(lane)
    }

    /// [`Self::lane`], to change it.
    ///
    /// # Errors
    /// [`DatagalaxError::NotSeated`] when the block has no committee for the epoch.
    #[inline]
    pub fn lane_mut(&mut self, epoch: u32) -> Result<&mut Lane> {
        let lane = &mut self.lanes[(epoch & 1) as usize];
        require!(lane.epoch == epoch, DatagalaxError::NotSeated);
        Ok(lane)
    }

    /// The lowest row without a container.
    pub fn lowest_free_row(&self) -> Option<u8> {
        let byte = self.occupancy.iter().position(|b| *b != u8::MAX)?;
        u8::try_from(byte * 8 + self.occupancy[byte].trailing_ones() as usize).ok()
    }

    /// Marks a row as occupied.
    pub fn occupy(&mut self, row: u8) {
        self.occupancy[usize::from(row) / 8] |= 1 << (row % 8);
        self.occupied += 1;
    }

    /// Whether a row holds a container.
    #[inline]
    pub const fn is_occupied(&self, row: u8) -> bool {
        self.occupancy[row as usize / 8] >> (row % 8) & 1 == 1
    }

    /// What must hold of the account after every instruction. Counts only: the 256 rows are too many to walk each time.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    pub fn invariant(&self) -> Result<()> {
        require!(
            self.version == VERSION && self.live <= self.occupied && usize::from(self.occupied) <= ROWS,
            DatagalaxError::InvariantViolated
        );
        Ok(())
    }
}
