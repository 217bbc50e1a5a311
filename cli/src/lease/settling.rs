//! Settling what can be settled, and waiting for the rest.

use std::time::Duration;

use anyhow::Result;
use datagalax::error::DatagalaxError;
use datagalax_client::{Address, Reader, instructions, pipeline::Landed};
use tokio::time::sleep;

use super::market::{self, Seen};
use crate::{
    context::Signing,
    patience::{Patience, is_passing},
    progress::Steps,
    time::span,
};

/// Pause between two looks while a verdict is awaited.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Settles a lease as far as the chain can now; what somebody else settled meanwhile is as good.
///
/// # Errors
/// The node, or a refusal other than "nothing to settle".
pub async fn settle(reader: &Reader, signing: &Signing, address: &Address) -> Result<(Seen, Vec<Landed>)> {
    let mut sent = Vec::new();
    loop {
        let seen = market::see(reader, address).await?;
        if !seen.bill()?.can_settle {
            return Ok((seen, sent));
        }
        match signing.send("settle the lease", &[instructions::settle_lease(address, &seen.lease)]).await {
            Ok(landed) => sent.push(landed),
            Err(error) if is_settled(&error) => return Ok((market::see(reader, address).await?, sent)),
            Err(error) => return Err(error),
        }
    }
}

fn is_settled(error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<datagalax_client::pipeline::SendError>();
    refusal.is_some_and(|e| e.is(DatagalaxError::NothingToSettle) || e.is(DatagalaxError::WrongLeaseState))
}

/// Waits until a lease that has ended is settled to its end, settling whatever can be.
///
/// # Errors
/// The node is away for long, or a refusal.
pub async fn settle_to_the_end(
    reader: &Reader,
    signing: &Signing,
    address: &Address,
    steps: &Steps,
) -> Result<(Seen, Vec<Landed>)> {
    let mut sent = Vec::new();
    let mut patience = Patience::default();
    loop {
        match settle(reader, signing, address).await {
            Ok((seen, landed)) => {
                patience = Patience::default();
                sent.extend(landed);
                let bill = seen.bill()?;
                if bill.is_final() {
                    return Ok((seen, sent));
                }
                let left = bill.settled_by.map_or(0, |by| u64::try_from(by.saturating_sub(seen.now)).unwrap_or(0));
                let settled = bill.settled_seconds;
                steps.goes_on(format!(
                    "waiting for the last settlement: {} settled, at most {} left",
                    span(settled),
                    span(left)
                ));
            }
            Err(error) if is_passing(&error) && patience.goes_on() => steps.goes_on(format!("{error:#}; trying again")),
            Err(error) => return Err(error),
        }
        sleep(LOOK_EVERY).await;
    }
}
