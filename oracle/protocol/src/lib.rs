//! What agents and checkers say to each other: signed, versioned, domain-separated messages, Merkle trees over evidence and
//! challenge rows, and the report's values. No I/O and no clock: bytes in, bytes or a named refusal out.
//!
//! Everything is borsh, which is canonical: one value has one encoding, and trailing bytes are refused.
//!
//! A measurement is made of exchanges, each a request signed by the checker's operator key and an answer signed by the
//! container's:
//!
//! | request | answer | path |
//! |---|---|---|
//! | [`LivenessRequest`] | [`LivenessAnswer`] | [`path::LIVENESS`] |
//! | [`BeaconRequest`] | [`BeaconAnswer`] | [`path::BEACON`] |
//! | [`SampleRequest`] | [`SampleAnswer`] | [`path::SAMPLE`] |
//! | [`InspectionRequest`] | [`InspectionAnswer`] | [`path::INSPECTION`] |
//!
//! A host behind NAT sends a [`RelayHello`] to its relay, which has no answer but the connection.
//! An operator asks a checker whether its own endpoint can be reached by a [`ReachableRequest`] ([`reachable::PATH`]).
//! The user of a lease hands its workload over and follows it by the messages of [`lease`].
//!
//! The rows to open are chosen after the root was signed, so nobody can prepare only those.

pub mod beacon;
pub mod envelope;
pub mod evidence;
pub mod inspection;
pub mod lease;
pub mod liveness;
pub mod merkle;
pub mod reachable;
pub mod relay;
pub mod report;

pub use beacon::{BeaconAnswer, BeaconRequest, DeviceOpening, OpenedRow, SampleAnswer, SampleRequest, WorkSize, Workload};
pub use envelope::{Context, Domain, Envelope, Expected, Malformed, Nonce, Payload, Refusal};
pub use evidence::RowEvidence;
pub use inspection::{GpuDetails, Inspection, InspectionAnswer, InspectionRequest};
pub use liveness::{GpuMetrics, HostMetrics, LivenessAnswer, LivenessRequest, Metrics};
pub use reachable::{ReachableAnswer, ReachableRequest};
pub use relay::RelayHello;
pub use report::{ReportValues, RowVote};

/// Paths of the agent's HTTP interface; all are POST with a borsh [`Envelope`] as body and answer.
pub mod path {
    /// Takes a [`crate::LivenessRequest`], answers a [`crate::LivenessAnswer`].
    pub const LIVENESS: &str = "/v1/liveness";
    /// Takes a [`crate::BeaconRequest`], answers a [`crate::BeaconAnswer`].
    pub const BEACON: &str = "/v1/beacon";
    /// Takes a [`crate::SampleRequest`], answers a [`crate::SampleAnswer`].
    pub const SAMPLE: &str = "/v1/beacon/sample";
    /// Takes an [`crate::InspectionRequest`], answers an [`crate::InspectionAnswer`].
    pub const INSPECTION: &str = "/v1/inspection";
    /// The content type of every body.
    pub const CONTENT_TYPE: &str = "application/octet-stream";
}

/// A sha256 digest.
pub type Digest = [u8; 32];

/// sha256 over the concatenation of `parts`; the caller separates domains by the first part.
pub(crate) fn sha256(parts: &[&[u8]]) -> Digest {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}
