use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::{VERSION, assert_size};
use crate::{
    constants::{BPS, NONE, ROWS, SEATS, VOID},
    error::DatagalaxError,
    math::{mul_ratio, nominal_weight},
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
    /// First epoch that no longer counts (leaving, or falling back), [`NONE`] else.
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
    /// Its epoch, [`NONE`] before the first.
    pub full_capacity_epoch: u32,
    /// First condemned epoch: the row's accrual is frozen and a case may be opened; [`NONE`] when it is not.
    pub first_condemned: u32,
    /// Last epoch of that case's window; meaningful while `first_condemned` is not [`NONE`].
    pub case_until: u32,
    /// Condemned epochs in the window.
    pub condemned: u8,
    /// Clean tallies in a row since the last condemned one.
    pub clean: u8,
    /// The last sixteen non-void epochs, newest in bit 0, 1 = below a threshold.
    pub bad_epochs: u16,
    /// Epochs that it earned in, lifetime.
    pub epochs_live: u32,
    /// Earned and not claimed, base units.
    pub accrued: u64,
    /// Most the row may earn in an epoch that the lease last started touches, base units.
    pub lease_cap: u64,
    /// The same for the epochs `capped_epochs`, kept when another lease started: the least of all leases that touched them.
    pub capped: [u64; 2],
    /// First epoch that the lease last started touches, [`NONE`] before the first lease.
    pub lease_from: u32,
    /// Last one.
    pub lease_until: u32,
    /// The epochs of `capped`, by parity; [`NONE`] when none.
    pub capped_epochs: [u32; 2],
    /// Availability by epoch % 32; bit 7 marks a breach, 255 a void epoch.
    pub history: [u8; 32],
    /// Sum of availability over `epochs_live`, percent.
    pub availability_sum: u32,
    /// Part of `lease_until` that the lease last started covers, bps, rounded down.
    pub lease_tail: u16,
    /// Low 16 bits of the epoch in which its container was halted: it still earns for that one and those before, whoever tallies
    /// them when.
    pub halted_after: u16,
}

assert_size!(Row, 128);
assert_size!(Seat, 80 + 3 * ROWS);
assert_size!(Lane, 40 + SEATS * (80 + 3 * ROWS));
assert_size!(Block, 136 + 2 * (40 + SEATS * (80 + 3 * ROWS)) + ROWS * 128);

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
    /// Flag: its container lacks stake and is halted; the row earns nothing.
    pub const HALTED: u8 = 2;
    /// Flag: a case is pending (`first_condemned` says since when); the accrual is frozen.
    pub const ACCUSED: u8 = 4;
    /// Flag: a lease touched an epoch that may not be tallied yet; `lease_cap` and `capped` must be looked at.
    pub const LEASED: u8 = 8;
    /// Flag: three leases were missed in a row; it goes back to checking with the tally of the epoch before `until`.
    pub const FALLING: u8 = 16;
    /// Flags that the tally's short way does not know.
    pub const UNUSUAL: u8 = Self::HALTED | Self::ACCUSED | Self::LEASED;

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
            full_capacity_epoch: NONE,
            first_condemned: NONE,
            lease_from: NONE,
            capped_epochs: [NONE; 2],
            history: [VOID; 32],
            ..Zeroable::zeroed()
        }
    }

    /// Whether it is live and stays so: part of what the next epoch can earn, and open to leases.
    #[inline]
    pub const fn is_live(&self) -> bool {
        self.status == Self::LIVE && self.flags & Self::FALLING == 0
    }

    /// Sends a live row back to checking, on probation.
    pub fn fall_back(&mut self) {
        self.status = Self::CHECKING;
        self.flags |= Self::PROBATION;
        if self.flags & Self::FALLING != 0 {
            self.flags &= !Self::FALLING;
            self.until = NONE;
        }
    }

    /// Notes that its container is halted in an epoch.
    pub fn halt(&mut self, epoch: u32) {
        self.flags |= Self::HALTED;
        self.halted_after = epoch as u16;
    }

    /// Whether it was halted before an epoch. The mark is moved along, so that sixteen bits tell earlier from later.
    pub fn was_halted_before(&mut self, epoch: u32) -> bool {
        let halted = self.flags & Self::HALTED != 0 && ((epoch as u16).wrapping_sub(self.halted_after) as i16) > 0;
        if halted {
            self.halted_after = (epoch as u16).wrapping_sub(1);
        }
        halted
    }

    /// Whether its accrual is frozen by a case, open or to be opened.
    #[inline]
    pub const fn is_accused(&self) -> bool {
        self.flags & Self::ACCUSED != 0
    }

    /// The most it may earn in an epoch because of leases, `None` when no lease touched it.
    pub fn cap_of(&self, epoch: u32) -> Option<u64> {
        let parity = (epoch & 1) as usize;
        let kept = (self.capped_epochs[parity] == epoch).then_some(self.capped[parity]);
        let current = (self.lease_from != NONE && self.lease_from <= epoch && epoch <= self.lease_until).then(|| {
            let part = if epoch == self.lease_until { u64::from(self.lease_tail) } else { BPS };
            mul_ratio(self.lease_cap, part, BPS).unwrap_or(0)
        });
        match (kept, current) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (kept, current) => kept.or(current),
        }
    }

    /// Notes a lease that starts in epoch `from`, for which it pays `head` in fees, and that pays `cap` for a whole epoch. Where it
    /// ends is for [`Self::end_lease`].
    ///
    /// The tally of `from - 1` may be outstanding, that of older epochs is not: what earlier leases mean for these two is
    /// kept, and lowered, never raised. Attack: close a lease and open a cheaper, or a dearer, one in the same epoch.
    pub fn note_lease(&mut self, from: u32, head: u64, cap: u64) {
        for epoch in [from.wrapping_sub(1), from] {
            let parity = (epoch & 1) as usize;
            match self.cap_of(epoch) {
                Some(kept) => {
                    self.capped_epochs[parity] = epoch;
                    self.capped[parity] = kept;
                }
                None => self.capped_epochs[parity] = NONE,
            }
        }
        // Attack: start at an epoch's last second, and earn all of it for the fee of a second.
        let first = self.cap_of(from).map_or(head, |kept| kept.min(head));
        self.capped_epochs[(from & 1) as usize] = from;
        self.capped[(from & 1) as usize] = first;
        self.lease_from = from;
        self.lease_cap = cap;
        self.lease_until = from;
    }

    /// The lease last started touches the epochs up to `until`, and covers `tail` bps of that one.
    pub fn end_lease(&mut self, until: u32, tail: u16) {
        self.lease_until = until;
        self.lease_tail = tail;
        self.flags |= Self::LEASED;
    }

    /// Freezes the accrual: `epoch` was condemned, and so the `window` epochs from it on are counted.
    pub fn accuse(&mut self, epoch: u32, window: u32) {
        self.flags |= Self::ACCUSED;
        self.first_condemned = epoch;
        self.case_until = epoch.saturating_add(window.saturating_sub(1));
        self.condemned = 1;
        self.clean = 0;
    }

    /// Ends a case without a verdict against the row.
    pub fn release(&mut self) {
        self.flags &= !Self::ACCUSED;
        self.first_condemned = NONE;
        self.condemned = 0;
        self.clean = 0;
    }

    /// Condemned epochs that a case needs: two, or one sixth of the window's epochs (voids counted), whichever is more.
    #[inline]
    pub const fn condemning_epochs(&self) -> u32 {
        let window = self.case_until.saturating_sub(self.first_condemned).saturating_add(1);
        if window / 6 > 2 { window / 6 } else { 2 }
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
        self.occupied = self.occupied.wrapping_add(1);
    }

    /// Empties a row.
    pub fn vacate(&mut self, row: u8) {
        self.occupancy[usize::from(row) / 8] &= !(1 << (row % 8));
        self.occupied = self.occupied.wrapping_sub(1);
        self.rows[usize::from(row)] = Zeroable::zeroed();
    }

    /// Takes a live row out of what can earn, at once; says what weight nominal loses.
    pub fn cease(&mut self, row: u8) -> u64 {
        let row = &mut self.rows[usize::from(row)];
        if row.status != Row::LIVE {
            return 0;
        }
        let counted = row.flags & Row::FALLING == 0;
        row.fall_back();
        row.bad_epochs = u16::MAX;
        self.live = self.live.wrapping_sub(1);
        if counted { nominal_weight(row.unit_weight, row.gpus) } else { 0 }
    }

    /// Lets a live row earn up to `epoch` and no longer; says what weight nominal loses. Its tally sends it back to checking.
    ///
    /// Conservation law 6: were it sent back now, whoever calls this before somebody tallies the epochs that it served would decide
    /// that they are not paid.
    pub fn cease_after(&mut self, row: u8, epoch: u32) -> u64 {
        let row = &mut self.rows[usize::from(row)];
        if !row.is_live() {
            return 0;
        }
        row.flags |= Row::FALLING;
        row.until = epoch.saturating_add(1);
        nominal_weight(row.unit_weight, row.gpus)
    }

    /// Whether an epoch has its verdict.
    #[inline]
    pub const fn is_tallied(&self, epoch: u32) -> bool {
        self.last_tallied != NONE && self.last_tallied >= epoch
    }

    /// The newest epoch that the history of a row tells of; only meaningful once an epoch was tallied.
    ///
    /// Attack: tally in parts, and read an epoch's verdict as that of the one whose place in the ring it took.
    pub fn newest_of(&self, row: u8) -> u32 {
        let written = |lane: &&Lane| lane.epoch != NONE && lane.cursor > u16::from(row);
        self.lanes.iter().filter(written).map(|lane| lane.epoch).fold(self.last_tallied, u32::max)
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
    #[inline(always)]
    pub fn invariant(&self) -> Result<()> {
        require!(self.holds(), DatagalaxError::InvariantViolated);
        Ok(())
    }

    #[inline(never)]
    fn holds(&self) -> bool {
        self.version == VERSION && self.live <= self.occupied && usize::from(self.occupied) <= ROWS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cap_is_the_least_of_all_leases_that_touch_an_epoch() {
        let mut row = Row::checking(0, 0, 1, 1, 0);
        let caps = |row: &Row, epochs: [u32; 6]| epochs.map(|e| row.cap_of(e));
        assert_eq!(row.cap_of(9), None);
        row.note_lease(10, 200, 500);
        row.end_lease(14, 2_500);
        let expected = [None, Some(200), Some(500), Some(500), Some(125), None];
        assert_eq!(caps(&row, [9, 10, 11, 13, 14, 15]), expected);
        // Closed in the middle of epoch 12, another starts in it.
        row.end_lease(12, 5_000);
        row.note_lease(12, 300, 900);
        row.end_lease(20, 10_000);
        assert_eq!(caps(&row, [11, 12, 13, 19, 20, 21]), [Some(500), Some(250), Some(900), Some(900), Some(900), None]);
        // And a cheaper one in the next, within it.
        row.end_lease(13, 9_999);
        row.note_lease(13, 80, 100);
        row.end_lease(13, 1_000);
        assert_eq!(caps(&row, [11, 12, 13, 14, 15, 16]), [None, Some(250), Some(10), None, None, None]);
    }

    proptest! {
        /// Whatever leases come, the cap of the two epochs that may be untallied is the least of those that touched them.
        #[test]
        fn caps_are_never_lost(leases in prop::collection::vec((0u32..3, 0u32..3, 0u32..4, 1u64..1000, 0u64..1000, 0u16..=10_000), 1..30)) {
            let mut row = Row::checking(0, 0, 1, 1, 0);
            // First epoch and its cap, last epoch and its cap, cap of those between.
            let mut all: Vec<(u32, u64, u32, u64, u64)> = vec![];
            let mut epoch = 5;
            for (wait, length, planned, cap, head, tail) in leases {
                epoch += wait;
                let until = epoch + length + planned;
                row.note_lease(epoch, head, cap);
                row.end_lease(until, tail);
                let part = cap * u64::from(tail) / 10_000;
                all.push((epoch, head, until, part, cap));
                let least = |all: &[(u32, u64, u32, u64, u64)], seen: u32| {
                    let of = |(from, head, until, tail, cap): &(u32, u64, u32, u64, u64)| {
                        let first = if seen == *from { *head } else { u64::MAX };
                        first.min(if seen == *until { *tail } else { *cap })
                    };
                    all.iter().filter(|(from, _, until, ..)| (*from..=*until).contains(&seen)).map(of).min()
                };
                for seen in [epoch - 1, epoch] {
                    prop_assert_eq!(row.cap_of(seen), least(&all, seen));
                }
                // It ends early.
                epoch += length;
                row.end_lease(epoch, tail);
                let last = all.last_mut().unwrap();
                (last.2, last.3) = (epoch, part);
            }
        }
    }
}
