//! What a test network starts with.

use datagalax::{
    instructions::InitializeNetworkArgs,
    math::Rate,
    state::{Parameters, VestingTerms},
};
use solana_pubkey::Pubkey;

/// Base units of one $ATH.
pub const ATH: u64 = 1_000_000;

/// A test network's settings; change fields before [`crate::World::with`].
#[derive(Clone, Copy)]
pub struct Settings {
    /// Seconds of an epoch.
    pub epoch_length: u32,
    /// Seconds from the initialisation to the start of epoch 0.
    pub start_in: i64,
    /// Base units an epoch.
    pub emission: u64,
    /// What a decay takes off, bps.
    pub decay_bps: u32,
    /// Epochs between decays, 0: never.
    pub decay_every: u32,
    /// Base units put into the rewards vault at the start.
    pub funding: u64,
    /// Parameters.
    pub parameters: Parameters,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            epoch_length: 60,
            start_in: 10,
            emission: 1_000 * ATH,
            decay_bps: 0,
            decay_every: 0,
            funding: 1_000_000 * ATH,
            parameters: parameters(),
        }
    }
}

/// Parameters that fit epochs of 60 seconds. Neither cap binds.
pub fn parameters() -> Parameters {
    Parameters {
        ticket_price: 100 * ATH,
        max_rate: Rate { hi: 1 << 40, lo: 0 },
        max_seat_pay: 1 << 50,
        keeper_fee: 0,
        indexer_stake: 50 * ATH,
        breaker_limits: [1 << 56; 3],
        draw_delay: 2,
        commit_lead: 10,
        reveal_window: 15,
        case_window: 480,
        unbonding: 720,
        start_timeout: 60,
        time_lock: 60,
        beacon_modulus: 37,
        stake_coefficient_bps: 10_000,
        container_share_bps: 7_500,
        checker_share_bps: 2_000,
        treasury_share_bps: 500,
        lease_fee_bps: 2_000,
        indexer_share_bps: 1_000,
        availability_threshold: 80,
        capacity_threshold: 50,
        breach_threshold: 50,
        tolerance: 5,
        tokens_required: 0,
        reserved: [0; 37],
    }
}

impl Settings {
    /// The arguments of `initialize_network` at `now`.
    pub fn arguments(&self, guardian: Pubkey, now: i64) -> InitializeNetworkArgs {
        InitializeNetworkArgs {
            genesis_hash: GENESIS_HASH,
            guardian,
            first_epoch_start: now + self.start_in,
            epoch_length: self.epoch_length,
            parameters: self.parameters,
            emission: self.emission,
            decay_bps: self.decay_bps,
            decay_every: self.decay_every,
            vesting: VestingTerms {
                id: 1,
                immediate_bps: 3_000,
                short_bps: 3_000,
                short_days: 90,
                long_bps: 4_000,
                long_days: 180,
                from_day: 0,
            },
            allow_freeze_authority: 0,
        }
    }
}

/// Genesis hash of the test cluster.
pub const GENESIS_HASH: [u8; 32] = [0x47; 32];
