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
/// Most tickets one `register_tickets` adds: 10,240 bytes, what the runtime lets an account grow in one instruction, hold 204.
pub const MAX_TICKETS_PER_CALL: u16 = 200;
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
}
