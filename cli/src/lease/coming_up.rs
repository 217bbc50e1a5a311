//! From an open lease to a running workload, or to its refund.

use std::time::Duration;

use anyhow::Result;
use datagalax::{error::DatagalaxError, state::Lease};
use datagalax_client::{Address, Reader, instructions};
use datagalax_protocol::lease::{State, Workload};
use datagalax_tenant::{Tenant, TenantError};
use tokio::time::{sleep, timeout};

use super::{
    follow::printable,
    market::{self, Seen},
};
use crate::{
    commands::leases::refused_with,
    context::Signing,
    patience::{Patience, is_passing},
    time::span,
};

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest that a host is waited for between two looks at the chain.
const ANSWER: Duration = Duration::from_secs(10);

/// What is to be done about a lease that comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Its host still has time.
    Wait,
    /// Its host's time is over.
    Cancel,
    /// It runs, or is over.
    Done,
}

fn next(lease: &Lease, now: i64) -> Next {
    match lease.status {
        Lease::OPEN if now > lease.start_by => Next::Cancel,
        Lease::OPEN => Next::Wait,
        _ => Next::Done,
    }
}

/// A lease that was brought up, or was not.
pub struct CameUp {
    /// As it is now: running, or over.
    pub seen: Seen,
    /// What the host said when it refused the workload.
    pub refusal: Option<String>,
}

/// Hands the workload over and waits until it runs, is rejected, or its host's time is over: then the lease is cancelled.
///
/// # Errors
/// The chain is away for long.
pub async fn bring_up(
    reader: &Reader,
    signing: &Signing,
    tenant: &Tenant,
    lease: &Address,
    workload: &Workload,
    tell: impl Fn(String),
) -> Result<CameUp> {
    let (mut handed, mut refusal, mut patience) = (false, None, Patience::default());
    loop {
        let seen = match market::see(reader, lease).await {
            Ok(seen) => seen,
            Err(error) if is_passing(&error) && patience.goes_on() => {
                tell(format!("{error:#}; trying again"));
                sleep(LOOK_EVERY).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        patience = Patience::default();
        match next(&seen.lease, seen.now) {
            Next::Done => return Ok(CameUp { seen, refusal }),
            Next::Cancel => {
                tell("cancelling the lease, which its host did not start in time".to_owned());
                let cancel = instructions::cancel_lease(&seen.network, lease, &seen.lease);
                match signing.send("cancel the lease", &[cancel]).await {
                    Ok(_) => {}
                    // Somebody was faster, the host among them.
                    Err(error) if refused_with(&error, DatagalaxError::WrongLeaseState) => {}
                    Err(error) if refused_with(&error, DatagalaxError::CurrentEpochRequired) => {}
                    Err(error) if is_passing(&error) && patience.goes_on() => tell(format!("{error:#}; trying again")),
                    Err(error) => return Err(error),
                }
            }
            Next::Wait if refusal.is_some() => {
                tell("the host refused the workload; waiting until it has rejected the lease".to_owned())
            }
            Next::Wait => {
                let left = u64::try_from(seen.lease.start_by.saturating_sub(seen.now)).unwrap_or(0);
                let step =
                    if handed { status(tenant).await } else { hand_over(tenant, workload, &mut handed, &mut refusal).await };
                tell(format!("{step} ({} left to start)", span(left)));
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn hand_over(tenant: &Tenant, workload: &Workload, handed: &mut bool, refusal: &mut Option<String>) -> String {
    match timeout(ANSWER, tenant.hand_over(workload)).await {
        Ok(Ok(())) => {
            *handed = true;
            "the host has the workload".to_owned()
        }
        Ok(Err(TenantError::Refused(why))) => {
            *refusal = Some(printable(&why));
            "the host refuses the workload".to_owned()
        }
        Ok(Err(error)) => format!("handing the workload over: {}", printable(&error.to_string())),
        Err(_) => "handing the workload over: the host does not answer".to_owned(),
    }
}

async fn status(tenant: &Tenant) -> String {
    match timeout(ANSWER, tenant.status()).await {
        Ok(Ok(status)) => match status.state {
            State::Awaited => "the host waits for the workload".to_owned(),
            State::Starting { step } => format!("the workload comes up: {}", printable(&step)),
            State::Running => "the workload runs; waiting for the chain".to_owned(),
            State::Ended { .. } => "the workload has ended; waiting for the chain".to_owned(),
        },
        Ok(Err(error)) => format!("waiting for the host: {}", printable(&error.to_string())),
        Err(_) => "waiting for the host: it does not answer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[test]
    fn a_host_has_until_its_time_is_over() {
        let mut lease = Lease::zeroed();
        (lease.status, lease.start_by) = (Lease::OPEN, 100);
        assert_eq!([99, 100, 101].map(|now| next(&lease, now)), [Next::Wait, Next::Wait, Next::Cancel]);
        for status in [Lease::STARTED, Lease::ENDED, Lease::SETTLED] {
            lease.status = status;
            assert_eq!(next(&lease, 500), Next::Done);
        }
    }
}
