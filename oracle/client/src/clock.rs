//! The chain's time: windows of the protocol go by the cluster's Clock sysvar, not by this machine's clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use solana_account::Account;
use tokio::time::sleep;

use crate::{Address, accounts::AccountError, reader::ReadError, rpc::Rpc};

/// Where the cluster keeps its clock.
pub const CLOCK_SYSVAR: Address = Address::from_str_const("SysvarC1ock11111111111111111111111111111111");
const CLOCK: &str = "clock";
/// Longest sleep between two looks at the chain while waiting.
const MAX_SLEEP: Duration = Duration::from_secs(2);
/// Shortest: about half a slot.
const MIN_SLEEP: Duration = Duration::from_millis(150);

/// One reading of the Clock sysvar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant {
    /// Slot.
    pub slot: u64,
    /// Seconds since 1970, as the validators agree on them.
    pub unix_timestamp: i64,
}

/// The chain's clock and how far this machine's is from it.
pub struct ChainClock {
    rpc: Arc<dyn Rpc>,
    /// Milliseconds to add to this machine's clock.
    offset: AtomicI64,
}

impl ChainClock {
    /// Reads the clock once.
    ///
    /// # Errors
    /// [`ReadError`] when the node does not answer or shows no clock.
    pub async fn connect(rpc: Arc<dyn Rpc>) -> Result<Self, ReadError> {
        let clock = Self { rpc, offset: AtomicI64::new(0) };
        clock.read().await?;
        Ok(clock)
    }

    /// Reads the chain's clock and takes its distance from this machine's.
    ///
    /// # Errors
    /// [`ReadError`] when the node does not answer or shows no clock.
    pub async fn read(&self) -> Result<Instant, ReadError> {
        let now = read_clock(self.rpc.as_ref()).await?;
        self.offset.store(now.unix_timestamp.saturating_mul(1_000).saturating_sub(local_millis()), Ordering::Relaxed);
        Ok(now)
    }

    /// The chain's time by this machine's clock and the distance taken last, seconds. An estimate: decide by [`Self::read`].
    pub fn now(&self) -> i64 {
        local_millis().saturating_add(self.offset.load(Ordering::Relaxed)).div_euclid(1_000)
    }

    /// How far the chain is from this machine's clock, milliseconds; positive when the chain is ahead.
    pub fn offset_millis(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Waits until the chain's clock has reached this time (seconds) and returns what it shows then.
    ///
    /// # Errors
    /// [`ReadError`] as soon as a read fails: the caller knows whether to try again.
    pub async fn wait_until(&self, time: i64) -> Result<Instant, ReadError> {
        loop {
            let now = self.read().await?;
            if now.unix_timestamp >= time {
                return Ok(now);
            }
            let left = u64::try_from(time.saturating_sub(now.unix_timestamp)).unwrap_or(0);
            // Sleep most of what is left; the last second is looked at closely, since whole seconds tick unevenly on chain.
            let pause = Duration::from_secs(left.saturating_sub(1)).clamp(MIN_SLEEP, MAX_SLEEP);
            sleep(pause).await;
        }
    }
}

/// Reads the Clock sysvar.
///
/// # Errors
/// [`ReadError`] when the node does not answer or shows no clock.
pub async fn read_clock(rpc: &dyn Rpc) -> Result<Instant, ReadError> {
    let account = rpc.accounts(&[CLOCK_SYSVAR]).await?.into_iter().next().flatten();
    let account = account.ok_or(AccountError::NotFound { what: CLOCK, address: CLOCK_SYSVAR })?;
    Ok(parse_clock(&account)?)
}

/// The Clock sysvar from its account, for those who read it together with others: then nothing of them is of a later time.
///
/// # Errors
/// [`AccountError::TooShort`].
pub fn parse_clock(account: &Account) -> Result<Instant, AccountError> {
    let data = &account.data;
    let field = |at: usize| data.get(at..at + 8).and_then(|b| <[u8; 8]>::try_from(b).ok());
    // slot u64, start of the cluster's epoch i64, epoch u64, leader schedule's epoch u64, unix timestamp i64.
    let (Some(slot), Some(time)) = (field(0), field(32)) else {
        return Err(AccountError::TooShort { what: CLOCK, address: CLOCK_SYSVAR, have: data.len(), need: 40 });
    };
    Ok(Instant { slot: u64::from_le_bytes(slot), unix_timestamp: i64::from_le_bytes(time) })
}

/// Seconds since 1970 by this machine's clock, for what goes by the host's own time (signed messages, NVML's events); the chain's
/// time is [`ChainClock`]'s. A clock before 1970 reads as 0, and every message is then refused as from the future.
pub fn unix_now() -> i64 {
    local_millis() / 1_000
}

fn local_millis() -> i64 {
    // A clock before 1970 reads as 0: the distance then carries all of the time.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
