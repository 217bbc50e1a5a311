//! Sizes, bounds and seeds that clients must agree on.

/// Seats of a committee, K (protocol section 1).
pub const SEATS: usize = 5;
/// Rows of a block, one container each.
pub const ROWS: usize = 256;
/// Epochs of a row's availability that its history ring keeps.
pub const HISTORY: u32 = 32;
/// Fewest tickets in the order for an epoch to pay anything.
pub const MIN_TICKETS_TO_PAY: u32 = 3;
/// Most tickets the checker set holds (its account stays under the 10 MiB limit of the runtime).
pub const MAX_TICKETS: u32 = 150_000;
/// Most tickets that one instruction adds or names: 10,240 bytes, what the runtime lets an account grow in one instruction, hold
/// 160.
pub const MAX_TICKETS_PER_CALL: u16 = 150;
/// Ones among the 64 bits of a ticket's record that retire it.
pub const MARKS_TO_RETIRE: u32 = 20;
/// Nobody is retired while the order holds no more tickets than this.
pub const MIN_TICKETS_TO_RETIRE: u32 = 8;
/// Part of its price that a retired ticket loses, bps.
pub const RETIREMENT_PENALTY_BPS: u64 = 1_000;
/// Epochs for which the slot of a removed ticket still takes pay and marks, and is not reused.
pub const SLOT_REST: u32 = 3;
/// Fewest tickets in the order for a container's stake to be taken: a smaller network has no fresh committees.
pub const MIN_TICKETS_TO_SLASH: u32 = 15;
/// Epochs after which an epoch's account may be closed.
pub const EPOCH_REST: u32 = 4;
/// Days in which every grant vests, and for which grants are kept apart by day.
pub const VESTING_DAYS: u32 = 180;
/// Seconds of a day.
pub const DAY: i64 = 86_400;
/// Shortest lease, seconds.
pub const SHORTEST_LEASE: u32 = 600;
/// Longest lease, seconds: one year.
pub const LONGEST_LEASE: u32 = 366 * 86_400;
/// Seconds after its start in which a user may close a lease as not served.
pub const NOT_SERVED_WITHIN: u32 = 300;
/// Leases missed in a row that put a container back to checking.
pub const MISSES: u8 = 3;
/// Epochs that one `settle_lease` goes through at most.
pub const MAX_SETTLED_EPOCHS: u32 = 64;
/// Seconds before it begins that maintenance is announced at the latest.
pub const MAINTENANCE_NOTICE: u32 = 86_400;
/// Longest maintenance in a month of 30 days, seconds.
pub const MAINTENANCE_A_MONTH: u32 = 8 * 3_600;
/// Clean tallies in a row after which an accused container takes leases again.
pub const CLEAN_FOR_LEASES: u8 = 2;
/// Longest time that an indexer's signature on a match is good for, seconds.
pub const MATCH_LIFETIME: u32 = 3_600;
/// Seconds for which the capacity last measured without a tenant holds for a leased row.
pub const FULL_CAPACITY_LIFETIME: u32 = 7 * 86_400;
/// Most entries that `churn` moves at one epoch boundary.
pub const CHURN_LIMIT: u32 = 32;
/// Basis points of one.
pub const BPS: u64 = 10_000;
/// Largest amount of $ATH in base units any single account may hold, 2^56 (the whole supply is 4.2e16).
pub const MAX_AMOUNT: u64 = 1 << 56;
/// Decimals of $ATH.
pub const MINT_DECIMALS: u8 = 6;
/// No epoch, provider, checker or slot has this number.
pub const NONE: u32 = u32::MAX;
/// Longest container endpoint in bytes of UTF-8.
pub const MAX_ENDPOINT: usize = 128;
/// Bytes an account may grow in one instruction (runtime limit).
pub const GROWTH_STEP: usize = 10_240;
/// Slots the SlotHashes sysvar keeps at most.
pub const SLOT_HASHES: usize = 512;
/// Most emission decays that one `advance_epoch` applies; a network that slept longer catches up at the next ones.
pub const MAX_DECAYS_PER_ADVANCE: u32 = 64;

/// An availability byte's bit for the dishonest verdict.
pub const DISHONEST: u8 = 0x80;
/// Availability (without the verdict bit) that means "no vote", as does any other value above 100.
pub const NO_VOTE: u8 = 127;
/// History byte of a void epoch.
pub const VOID: u8 = 255;
/// History bit: at least Q votes were under the breach threshold.
pub const BREACHED: u8 = 0x80;

/// Seeds of every account of the program.
pub mod seed {
    /// [`crate::state::Network`]
    pub const NETWORK: &[u8] = b"network";
    /// Token accounts of the program, followed by one of the vault names.
    pub const VAULT: &[u8] = b"vault";
    /// [`crate::state::VaultLedger`], followed by one of the vault names.
    pub const LEDGER: &[u8] = b"ledger";
    /// Vault name: what owners staked.
    pub const STAKE: &[u8] = b"stake";
    /// Vault name: what emission and seat pay come from.
    pub const REWARDS: &[u8] = b"rewards";
    /// Vault name: what users escrowed for leases.
    pub const ESCROW: &[u8] = b"escrow";
    /// [`crate::state::GpuClass`], followed by its id (u16).
    pub const CLASS: &[u8] = b"class";
    /// [`crate::state::Provider`], followed by its id (u32).
    pub const PROVIDER: &[u8] = b"provider";
    /// [`crate::state::Container`], followed by the provider's id (u32) and the hardware fingerprint.
    pub const CONTAINER: &[u8] = b"container";
    /// [`crate::state::Block`], followed by its index (u32).
    pub const BLOCK: &[u8] = b"block";
    /// [`crate::state::Checker`], followed by its id (u32).
    pub const CHECKER: &[u8] = b"checker";
    /// [`crate::state::CheckerSet`]
    pub const CHECKERS: &[u8] = b"checkers";
    /// [`crate::state::Epoch`], followed by its number (u32).
    pub const EPOCH: &[u8] = b"epoch";
    /// [`crate::state::Lease`], followed by the user and a nonce (u64).
    pub const LEASE: &[u8] = b"lease";
    /// [`crate::state::Case`], followed by the container, the epoch (u32) and the kind (u8).
    pub const CASE: &[u8] = b"case";
    /// [`crate::state::Indexer`], followed by its id (u32).
    pub const INDEXER: &[u8] = b"indexer";
    /// [`crate::state::Keeper`], followed by its wallet.
    pub const KEEPER: &[u8] = b"keeper";
}
