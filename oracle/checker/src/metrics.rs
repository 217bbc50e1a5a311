//! What the checker counts.

use datagalax_service::metrics::{Counter, Family, Gauge, Histogram, Metrics as _, Registry, exponential_buckets, label};

label! {
    /// What became of a liveness probe or an inspection.
    pub enum ProbeOutcome: "outcome" { Answered = "answered", Failed = "failed" }
}

label! {
    /// What became of asking one container about one beacon.
    pub enum BeaconOutcome: "outcome" {
        Answered = "answered", Unanswered = "unanswered", Dishonest = "dishonest", NotAsked = "not_asked",
    }
}

label! {
    /// Where a report is on its way.
    pub enum ReportStage: "stage" { Saved = "saved", Committed = "committed", Revealed = "revealed", Lost = "lost" }
}

label! {
    /// What was found by comparing: with other containers, with the place it claims, with what is registered, with what can be.
    pub enum FindingKind: "kind" {
        Uuid = "uuid", Fingerprint = "fingerprint", Endpoint = "endpoint", Timing = "timing", Outside = "outside",
        Unregistered = "unregistered", Impossible = "impossible", Clock = "clock", Fault = "fault", Shared = "shared",
        Idle = "idle",
    }
}

label! {
    /// What the evidence server was asked.
    pub enum Served: "what" { Evidence = "evidence", Reachable = "reachable", Refused = "refused" }
}

datagalax_service::metrics! {
    /// What the checker counts.
    pub struct Metrics: "datagalax_checker" {
        /// Liveness probes, by outcome.
        pub probes: Family<ProbeOutcome, Counter>,
        /// Inspections, by outcome. No vote is made of them.
        pub inspections: Family<ProbeOutcome, Counter>,
        /// Time from when a probe was due until it was sent: grows when this checker has too little concurrency.
        pub probe_delay_seconds: Histogram = Histogram::new(exponential_buckets(0.001, 4.0, 8)),
        /// Round trips of answered probes.
        pub probe_seconds: Histogram = Histogram::new(exponential_buckets(0.002, 2.0, 12)),
        /// Containers asked about a beacon, by outcome. Much "not_asked" means that this checker is overloaded or misses slots.
        pub beacons: Family<BeaconOutcome, Counter>,
        /// Time from a beacon's first sight to the signed root.
        pub beacon_root_seconds: Histogram = Histogram::new(exponential_buckets(0.1, 2.0, 10)),
        /// Time from an opening's arrival until it was recomputed, waiting for a thread included.
        pub verifying_seconds: Histogram = Histogram::new(exponential_buckets(0.001, 4.0, 9)),
        /// Times that slots passed unseen; a beacon may have been among them.
        pub slot_gaps: Counter,
        /// Beacons that were not known to be final when the vote had to be made.
        pub beacons_not_final: Counter,
        /// Reports, by stage. "lost" costs pay and a mark: the log says why.
        pub reports: Family<ReportStage, Counter>,
        /// Findings about containers, by kind; the evidence of the row has the words.
        pub findings: Family<FindingKind, Counter>,
        /// Base units of $ATH claimed.
        pub claimed: Counter,
        /// Bytes of the store in use.
        pub store_bytes: Gauge,
        /// Epochs whose evidence was removed before its 30 days, for the bound on the disk.
        pub evidence_removed_early: Counter,
        /// Requests to the evidence server, by kind.
        pub served: Family<Served, Counter>,
    }
}

impl Metrics {
    /// Metrics that nobody scrapes: for tests and benchmarks.
    pub fn unregistered() -> Self {
        Self::register(&mut Registry::default())
    }
}
