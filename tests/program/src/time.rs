//! The chain's clock: seconds, slots of 400 ms, and the hashes of the last 512 slots.

use sha2::{Digest, Sha256};
use solana_account::Account;
use solana_pubkey::Pubkey;

use crate::{World, addresses};

/// When every world begins, seconds.
pub const BEGIN: i64 = 1_800_000_000;
/// The slot it begins in: more than the hashes kept.
pub const FIRST_SLOT: u64 = 10_000;

const SYSVAR_OWNER: Pubkey = Pubkey::from_str_const("Sysvar1111111111111111111111111111111111111");

/// The hash that every world gives a slot.
pub fn slot_hash(slot: u64) -> [u8; 32] {
    Sha256::new().chain_update(b"slot").chain_update(slot.to_le_bytes()).finalize().into()
}

impl World {
    /// Seconds of the chain's clock.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// The slot.
    pub fn slot(&self) -> u64 {
        FIRST_SLOT
            + u64::try_from((self.now - BEGIN) * 5 / 2).expect("a world never goes before its beginning")
            + self.extra_slots
    }

    /// Sets the clock, forwards or back.
    pub fn set_time(&mut self, now: i64) {
        self.now = now;
        self.write_time();
    }

    /// Sets the clock unless it is later already.
    pub fn wait_until(&mut self, now: i64) {
        if self.now < now {
            self.set_time(now);
        }
    }

    /// Lets slots pass without time.
    pub fn pass_slots(&mut self, slots: u64) {
        self.extra_slots += slots;
        self.write_time();
    }

    pub(crate) fn write_time(&mut self) {
        let slot = self.slot();
        let mut clock = Vec::with_capacity(40);
        clock.extend(slot.to_le_bytes());
        clock.extend(BEGIN.to_le_bytes());
        clock.extend([0; 16]);
        clock.extend(self.now.to_le_bytes());
        let kept = self.slots_kept.min(slot);
        let mut hashes = kept.to_le_bytes().to_vec();
        for past in (slot - kept..slot).rev() {
            hashes.extend(past.to_le_bytes());
            hashes.extend(slot_hash(past));
        }
        // The accounts have the length they have on a cluster.
        hashes.resize(8 + 512 * 40, 0);
        for (address, data) in [(addresses::SLOT_HASHES, hashes), (addresses::CLOCK, clock)] {
            let lamports = self.svm.minimum_balance_for_rent_exemption(data.len());
            self.put_account(
                address,
                Account { lamports, data, owner: SYSVAR_OWNER, executable: false, rent_epoch: u64::MAX },
            );
        }
    }

    /// Start of an epoch, seconds.
    pub fn start_of(&self, epoch: u32) -> i64 {
        self.start + i64::from(epoch) * i64::from(self.settings.epoch_length)
    }

    /// Goes to `seconds` into an epoch.
    pub fn enter(&mut self, epoch: u32, seconds: i64) {
        self.set_time(self.start_of(epoch) + seconds);
    }
}
