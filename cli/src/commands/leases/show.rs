//! A lease by the chain's word, the checkers' and the host's, side by side.

use std::time::Duration;

use anyhow::{Result, anyhow};
use datagalax::state::Lease;
use datagalax_client::{Address, amount::Ath};
use datagalax_protocol::lease::{State, Status};
use tokio::time::timeout;

use crate::{
    context::{Context, some},
    lease::{
        bill::{Availability, Bill},
        follow::{self, printable},
        host,
        market::{self, Seen},
        reason, statement,
    },
    report::{Cell, Report},
};

/// Longest that the host is waited for.
const ANSWER: Duration = Duration::from_secs(8);

const COLUMNS: [&str; 5] = ["figure", "host_on_chain", "host_now", "checkers_measured", "time_allows"];

/// Shows a lease.
pub async fn run(context: &Context, address: &Address) -> Result<Report> {
    let seen = market::see(&context.reader, address).await?;
    let bill = seen.bill()?;
    let host = ask(context, &seen).await;
    let mut report = Report::new().fields("lease", chain(&seen, &bill)).and(of_host(&host));
    if seen.lease.started != 0 {
        let usage = Usage::of(&seen, &bill, host.as_ref().ok());
        report = report.rows("usage", &COLUMNS, usage.rows()).and(statement::epochs(&bill));
        if let Some(note) = usage.beyond() {
            report = report.note(note);
        }
    }
    if let Some(sentence) = reason::sentence(&seen.lease) {
        report = report.note(sentence);
    }
    Ok(report)
}

async fn ask(context: &Context, seen: &Seen) -> Result<Status> {
    if seen.lease.status >= Lease::ENDED {
        return Err(anyhow!("the lease is over: its host keeps nothing of it"));
    }
    let tenant = host::reach(&context.reader, &std::sync::Arc::new(context.load_key()?), seen)?;
    let asked = timeout(ANSWER, tenant.status()).await;
    Ok(asked.map_err(|_| anyhow!("the host does not answer within {} s", ANSWER.as_secs()))??)
}

fn chain(seen: &Seen, bill: &Bill) -> Vec<(&'static str, Cell)> {
    let lease = &seen.lease;
    let time = |at: i64| if at == 0 { Cell::None } else { Cell::Time(at) };
    vec![
        ("address", seen.address.into()),
        ("container", lease.container.into()),
        ("provider", lease.provider.into()),
        ("user", lease.user.into()),
        ("indexer", some(lease.indexer).into()),
        ("state", reason::state(lease).into()),
        ("ended_because", reason::word(lease).into()),
        ("detail", lease.detail.into()),
        ("opened", Cell::Time(lease.opened)),
        ("start_by", Cell::Time(lease.start_by)),
        ("started", time(lease.started)),
        ("ends", if lease.started == 0 && lease.ended == 0 { Cell::None } else { Cell::Time(lease.end()) }),
        ("asked", Cell::Span(lease.max_seconds.into())),
        ("least_due", Cell::Span(lease.minimum_seconds.into())),
        ("price_per_hour", Ath(lease.price_per_hour).into()),
        ("escrowed", Ath(lease.escrowed).into()),
        ("paid", Ath(lease.paid).into()),
        ("fee", Ath(lease.fee).into()),
        ("refunded", Ath(lease.refunded).into()),
        ("held", Ath(bill.held).into()),
        ("compensation", Ath(lease.compensation).into()),
        ("workload_hash", hex::encode(lease.workload_hash).into()),
    ]
}

fn of_host(host: &Result<Status>) -> Report {
    let status = match host {
        Ok(status) => status,
        Err(error) => {
            return Report::new().fields("host", vec![("says", Cell::None), ("because", format!("{error:#}").into())]);
        }
    };
    let state = match &status.state {
        State::Awaited => "waits for the workload: `datagalax lease hand-over`".to_owned(),
        State::Starting { step } => format!("starting: {}", printable(step)),
        State::Running => "running".to_owned(),
        State::Ended { end } => match follow::status(end) {
            (status, None) => format!("ended with status {status}"),
            (_, Some(sentence)) => format!("ended. {sentence}"),
        },
    };
    let fields = vec![
        ("says", state.into()),
        ("ends", status.ends.map_or(Cell::None, Cell::Time)),
        ("ports", if status.ports.is_empty() { Cell::None } else { status.ports.join(" ").into() }),
    ];
    let notices = status.notices.iter().map(|notice| vec![Cell::Time(notice.at), printable(&notice.text).into()]).collect();
    Report::new().fields("host", fields).rows("notices", &["at", "text"], notices)
}

/// The host's word on usage, and what bounds it.
struct Usage {
    units: u64,
    on_chain: [u64; 3],
    now: Option<[u64; 3]>,
    /// Seconds that checkers measured as delivered.
    measured: u64,
    /// Seconds that nobody has judged yet.
    awaited: u64,
    /// Seconds that passed.
    passed: u64,
}

impl Usage {
    fn of(seen: &Seen, bill: &Bill, host: Option<&Status>) -> Self {
        let lease = &seen.lease;
        let (measured, awaited) = measured(bill);
        Self {
            units: seen.container.as_ref().map_or(1, |container| u64::from(container.gpus)),
            on_chain: [lease.usage_gpu_seconds, lease.usage_energy, lease.usage_bytes],
            now: host.map(|status| [status.usage.gpu_seconds, status.usage.joules, status.usage.bytes]),
            measured,
            awaited,
            passed: u64::try_from(seen.now.min(lease.end()).saturating_sub(lease.started)).unwrap_or(0),
        }
    }

    fn rows(&self) -> Vec<Vec<Cell>> {
        let measured = [Some(self.measured.saturating_mul(self.units)), None, None];
        let allowed = [Some(self.passed.saturating_mul(self.units)), None, None];
        ["gpu_seconds", "joules", "bytes"]
            .into_iter()
            .enumerate()
            .map(|(at, name)| {
                let now = self.now.map(|now| now[at]);
                vec![name.into(), self.on_chain[at].into(), now.into(), measured[at].into(), allowed[at].into()]
            })
            .collect()
    }

    /// A sentence when the host claims more than checkers can have measured.
    fn beyond(&self) -> Option<String> {
        let claimed = self.on_chain[0].max(self.now.map_or(0, |now| now[0]));
        let can_be = self.measured.saturating_add(self.awaited).saturating_mul(self.units);
        (claimed > can_be).then(|| {
            format!(
                "The host claims {claimed} GPU-seconds; by what checkers measured it can have delivered {can_be} at most. Nothing is paid by its word: the bill goes by theirs."
            )
        })
    }
}

/// Seconds delivered by the checkers' word, and those that are not judged yet.
fn measured(bill: &Bill) -> (u64, u64) {
    let (mut delivered, mut awaited) = (bill.lease.delivered, 0u64);
    for part in bill.parts.iter().filter(|part| !part.settled) {
        let percent = match part.availability {
            Availability::Measured(percent) | Availability::NoVerdict(percent) => percent,
            Availability::Partial => 100,
            Availability::Forgotten => 0,
            Availability::Awaited => {
                awaited = awaited.saturating_add(part.seconds());
                0
            }
        };
        delivered = delivered.saturating_add(part.seconds().saturating_mul(percent.into()));
    }
    (delivered / 100, awaited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_beyond_what_was_measured_is_told() {
        let usage = Usage { units: 2, on_chain: [100, 5, 6], now: None, measured: 40, awaited: 10, passed: 60 };
        assert_eq!(usage.beyond(), None);
        let lying = Usage { now: Some([101, 5, 6]), ..usage };
        let note = lying.beyond().unwrap();
        assert!(note.contains("101") && note.contains("100 at most"), "{note}");
        let rows = lying.rows();
        let expected: Vec<Cell> = vec!["gpu_seconds".into(), 100u64.into(), 101u64.into(), 80u64.into(), 120u64.into()];
        assert_eq!(rows[0], expected);
        assert_eq!(rows[1][3], Cell::None);
    }
}
