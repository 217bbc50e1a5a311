//! All questions to all containers of a block in one epoch.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use datagalax_protocol::{
    Context, Metrics, ReportValues, RowEvidence,
    evidence::{Exchange, Outcome},
    report::VoteOutOfRange,
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{self, Instant},
};

use crate::{
    chain::{Cluster, Target},
    probe::{Challenged, Prober},
    schedule,
    score::{self, Capacity, Measured},
};

/// Between the last possible timeout and the end of measuring, for verifying what came last.
const MARGIN: Duration = Duration::from_millis(500);

/// How a block is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Liveness probes of each container in an epoch.
    pub probes: usize,
    /// Most questions in flight.
    pub concurrency: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { probes: 8, concurrency: 256 }
    }
}

/// What was measured of one row.
pub struct RowResult {
    /// The container.
    pub target: Target,
    /// The score's input.
    pub measured: Measured,
    /// How long the challenge's root took to come, if it came.
    pub challenge: Option<Duration>,
    /// The last verified metrics.
    pub metrics: Option<Metrics>,
    /// The first thing that went wrong, for the log.
    pub trouble: Option<String>,
    /// The transcripts.
    pub evidence: RowEvidence,
}

/// Measures blocks.
pub struct Measurer {
    prober: Prober,
    plan: Plan,
    in_flight: Semaphore,
}

/// What became of one event of the plan.
enum Event {
    Probe(Box<(Exchange, Option<Metrics>)>),
    Challenge(Challenged),
    /// This side did not get round to it.
    Dropped,
}

impl Measurer {
    /// Measures by this plan.
    pub fn new(prober: Prober, plan: Plan) -> Self {
        Self { prober, plan, in_flight: Semaphore::new(plan.concurrency) }
    }

    /// The shortest window that is worth measuring in: one whole challenge.
    pub fn shortest_window(&self) -> Duration {
        self.prober.limits().whole_challenge() + MARGIN
    }

    /// Measures from now until `until` and returns by then (and the little that a last answer takes to be verified), rows
    /// ascending.
    pub async fn measure(
        self: &Arc<Self>,
        cluster: Cluster,
        epoch: u32,
        targets: Vec<Target>,
        until: Instant,
    ) -> Vec<RowResult> {
        let window = until.saturating_duration_since(Instant::now());
        let limits = *self.prober.limits();
        let mut events = JoinSet::new();
        for (index, target) in targets.iter().enumerate() {
            let context =
                Context { genesis_hash: cluster.genesis_hash, program: cluster.program, subject: target.container, epoch };
            let target = Arc::new(target.clone());
            let random = &mut rand::rng();
            let probes = schedule::instants(self.plan.probes, window.saturating_sub(limits.timeout + MARGIN), random);
            let challenge = schedule::instants(1, window.saturating_sub(limits.whole_challenge() + MARGIN), random);
            let plan = probes.into_iter().map(|at| (at, false)).chain(challenge.into_iter().map(|at| (at, true)));
            for (at, challenge) in plan {
                let (this, target) = (self.clone(), target.clone());
                events.spawn(async move {
                    time::sleep(at).await;
                    let event = time::timeout_at(until, this.ask(&context, &target, challenge, until)).await;
                    (index, event.unwrap_or(Event::Dropped))
                });
            }
        }
        let mut rows: BTreeMap<usize, Vec<Event>> = BTreeMap::new();
        while let Some(event) = events.join_next().await {
            match event {
                Ok((index, event)) => rows.entry(index).or_default().push(event),
                // The question is then not asked, which costs the host nothing.
                Err(error) => tracing::error!(%error, "a probe panicked"),
            }
        }
        let row = |(index, target)| row_result(target, rows.remove(&index).unwrap_or_default());
        targets.into_iter().enumerate().map(row).collect()
    }

    async fn ask(&self, context: &Context, target: &Target, challenge: bool, until: Instant) -> Event {
        let Ok(_place) = self.in_flight.acquire().await else { return Event::Dropped };
        if challenge {
            return Event::Challenge(self.prober.challenge(context, target, until).await);
        }
        let (exchange, answer) = self.prober.liveness(context, target).await;
        // Without an exchange nothing was asked.
        exchange.map_or(Event::Dropped, |exchange| Event::Probe(Box::new((exchange, answer.ok()))))
    }
}

fn row_result(target: Target, events: Vec<Event>) -> RowResult {
    let mut liveness = Vec::new();
    let mut challenged = None;
    let mut latest: Option<(i64, Metrics)> = None;
    for event in events {
        match event {
            Event::Probe(probe) => {
                let (exchange, metrics) = *probe;
                if let Some(metrics) = metrics
                    && latest.as_ref().is_none_or(|(at, _)| *at < exchange.asked_at_ms)
                {
                    latest = Some((exchange.asked_at_ms, metrics));
                }
                liveness.push(exchange);
            }
            Event::Challenge(done) => challenged = Some(done),
            Event::Dropped => {}
        }
    }
    liveness.sort_by_key(|exchange| exchange.asked_at_ms);
    let answered = liveness.iter().filter(|exchange| matches!(exchange.outcome, Outcome::Answered(_))).count();
    let failure = liveness.iter().find_map(|exchange| match &exchange.outcome {
        Outcome::Failed(reason) => Some(reason.clone()),
        Outcome::Answered(_) => None,
    });
    let challenged =
        challenged.unwrap_or(Challenged { capacity: Capacity::NotAsked, elapsed: None, exchanges: Vec::new(), error: None });
    let Challenged { capacity, elapsed, exchanges, error } = challenged;
    RowResult {
        // Both counts are bounded by the plan.
        measured: Measured { asked: liveness.len() as u32, answered: answered as u32, capacity },
        challenge: elapsed,
        metrics: latest.map(|(_, metrics)| metrics),
        trouble: failure.or(error.map(|error| error.to_string())),
        evidence: RowEvidence { row: target.row, container: target.container.to_bytes(), liveness, capacity: exchanges },
        target,
    }
}

/// The report's values: a vote on each measured row, none on the others.
///
/// # Errors
/// Never, as [`score::vote`] stays within 0 to 100; but a vote that cannot be written must not be left out silently.
pub fn values(rows: &[RowResult]) -> Result<ReportValues, VoteOutOfRange> {
    let mut values = ReportValues::new();
    for row in rows {
        if let Some(vote) = score::vote(&row.measured) {
            values.set(row.target.row, vote)?;
        }
    }
    Ok(values)
}
