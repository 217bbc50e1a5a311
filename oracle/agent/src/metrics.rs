//! What the agent counts.

use datagalax_service::metrics::{Counter, Family, FloatGauge, Gauge, Histogram, exponential_buckets, label};

label! {
    /// How a request ended.
    pub enum Answer: "outcome" {
        Answered = "answered",
        BadRequest = "bad_request",
        Forbidden = "forbidden",
        TooMany = "too_many",
        Unavailable = "unavailable",
        Late = "late",
        Failed = "failed",
    }
}

label! {
    /// How a beacon ended.
    pub enum Beacon: "outcome" { Proven = "proven", Late = "late", Failed = "failed" }
}

label! {
    /// What happened to a lease.
    pub enum Lease: "event" { Seen = "seen", Started = "started", Rejected = "rejected", Ended = "ended", Failed = "failed" }
}

label! {
    /// Why a lease was rejected.
    pub enum Reject: "reason" {
        NoRuntime = "no_runtime",
        Unfit = "unfit",
        Declined = "declined",
        Failed = "failed",
        Late = "late",
    }
}

label! {
    /// What became of a workload that was handed over.
    pub enum Handover: "outcome" { Accepted = "accepted", Declined = "declined", Refused = "refused" }
}

label! {
    /// Why a workload was started.
    pub enum Begin: "cause" { First = "first", Lost = "lost" }
}

label! {
    /// How noting usage on chain ended.
    pub enum Noted: "outcome" { Noted = "noted", Failed = "failed" }
}

datagalax_service::metrics! {
    /// The agent's metrics.
    pub struct Metrics: "datagalax_agent" {
        /// Requests on the public interface, by outcome. Many that are forbidden or too many are somebody's flood.
        pub requests: Family<Answer, Counter>,
        /// Beacons of this container's epochs, by how they ended here. One that is not proven is capacity 0 at that beacon.
        pub beacons: Family<Beacon, Counter>,
        /// Time from the first sight of a beacon's slot to its root; the deadline is one and a half times the class's reference.
        pub beacon_seconds: Histogram = Histogram::new(exponential_buckets(0.05, 2.0, 12)),
        /// Slot of the last beacon that was seen.
        pub beacon_slot: Gauge,
        /// Last slot that was seen. When it stands still, beacons are missed.
        pub slot: Gauge,
        /// Epoch that the agent answers in.
        pub epoch: Gauge,
        /// Keys in the committee of the epoch; 0 while the block is not seated.
        pub committee_keys: Gauge,
        /// What happened to this container's leases.
        pub leases: Family<Lease, Counter>,
        /// Leases that this agent rejected, by reason.
        pub lease_rejects: Family<Reject, Counter>,
        /// Workloads handed over, by what became of them. Refused: not by the lease's user, or not what the lease says.
        pub handovers: Family<Handover, Counter>,
        /// Starts of workloads; those of cause `lost` came after the host had lost one that ran.
        pub workload_starts: Family<Begin, Counter>,
        /// Workloads that run now.
        pub workloads_running: Gauge,
        /// Streams and copies of leases' users that are open now.
        pub lease_streams: Gauge,
        /// Attempts to note a lease's usage on chain, by outcome.
        pub usage_records: Family<Noted, Counter>,
        /// 1 while the container has an open or running lease.
        pub leased: Gauge,
        /// Faults of the hardware that keep tenants away now; see the topic `hardware` of /ready.
        pub faults: Gauge,
        /// 1 while the container takes new leases, as the chain has it.
        pub accepting: Gauge,
        /// Time that this host's clock is ahead of the chain's; beyond 30 either way messages are refused.
        pub clock_ahead_seconds: Gauge,
        /// Hottest card, degrees Celsius; 0 on a host without cards.
        pub hottest_celsius: Gauge,
        /// Power that all cards draw together.
        pub power_watts: FloatGauge,
        /// Price per hour as the chain has it, in base units.
        pub price_per_hour: Gauge,
    }
}
