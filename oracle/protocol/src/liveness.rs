//! "Are you there, and what are you?": the metrics of a host, signed by the container's operator key.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    Digest,
    envelope::{Domain, Malformed, Payload},
};

/// Longest text in metrics, in bytes of UTF-8.
pub const MAX_TEXT: usize = 128;
/// Most GPUs of one host.
pub const MAX_GPUS: usize = 64;

/// Asks for the metrics. Everything it has to say is in the envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LivenessRequest;

impl Payload for LivenessRequest {
    const DOMAIN: Domain = Domain::LivenessRequest;
}

/// The answer to a [`LivenessRequest`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LivenessAnswer {
    /// [`crate::Envelope::digest`] of the request.
    pub request: Digest,
    /// What the host says of itself. Only that it answered is scored; the rest is evidence.
    pub metrics: Metrics,
}

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Metrics {
    /// Release of the agent.
    pub agent_version: String,
    /// What the registration is bound to; see `datagalax_gpu::fingerprint` for its composition.
    pub fingerprint: Digest,
    /// When this was measured, unix seconds by the host's clock.
    pub measured_at: i64,
    /// The machine.
    pub host: HostMetrics,
    /// Its GPUs by ascending UUID; empty for the class `cpu`.
    pub gpus: Vec<GpuMetrics>,
}

/// The machine around the GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct HostMetrics {
    /// Brand string of the processor.
    pub cpu_model: String,
    /// Physical cores; equal to `cpu_threads` where the system does not tell.
    pub cpu_cores: u32,
    /// Hardware threads.
    pub cpu_threads: u32,
    /// Busy share of all threads since the last measurement, in 1/100 percent (0 to 10,000).
    pub cpu_usage: u16,
    /// Memory in bytes.
    pub memory_total: u64,
    /// Memory in use in bytes.
    pub memory_used: u64,
    /// Size of the file system that holds the agent's working directory, in bytes; 0 if unknown.
    pub disk_total: u64,
    /// Free bytes there.
    pub disk_free: u64,
    /// Load average over 1, 5 and 15 minutes in 1/100.
    pub load: [u32; 3],
    /// Seconds since boot.
    pub uptime: u64,
    /// Name and version of the operating system.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
}

/// One GPU. `None` means that the driver does not report it for this card.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct GpuMetrics {
    /// The driver's UUID of the card.
    pub uuid: String,
    /// Product name.
    pub model: String,
    /// Release of the driver.
    pub driver: String,
    /// Memory in bytes.
    pub memory_total: u64,
    /// Memory in use in bytes.
    pub memory_used: u64,
    /// Share of time a kernel ran, percent.
    pub utilisation: Option<u8>,
    /// Degrees Celsius.
    pub temperature: Option<u16>,
    /// Power drawn in milliwatts.
    pub power: Option<u32>,
    /// Current clock of the multiprocessors in MHz.
    pub clock: Option<u32>,
    /// PCIe generation in use.
    pub pcie_generation: Option<u8>,
    /// PCIe lanes in use.
    pub pcie_width: Option<u8>,
    /// ECC errors corrected since the driver was loaded.
    pub ecc_corrected: Option<u64>,
    /// ECC errors not corrected since the driver was loaded; any is a reason to look at the card.
    pub ecc_uncorrected: Option<u64>,
    /// Whether the card is divided (MIG).
    pub mig: Option<bool>,
}

impl Payload for LivenessAnswer {
    const DOMAIN: Domain = Domain::LivenessAnswer;

    fn check(&self) -> Result<(), Malformed> {
        Self::check_metrics(&self.metrics)
    }
}

impl LivenessAnswer {
    /// Checks the documented ranges of metrics, wherever they are carried.
    pub(crate) fn check_metrics(metrics: &Metrics) -> Result<(), Malformed> {
        let Metrics { agent_version, host, gpus, .. } = metrics;
        text("agent_version", agent_version)?;
        text("cpu_model", &host.cpu_model)?;
        text("os", &host.os)?;
        text("kernel", &host.kernel)?;
        if host.cpu_usage > 10_000 {
            return Err(Malformed::OutOfRange("cpu_usage"));
        }
        if gpus.len() > MAX_GPUS {
            return Err(Malformed::OutOfRange("gpus"));
        }
        for gpu in gpus {
            text("uuid", &gpu.uuid)?;
            text("model", &gpu.model)?;
            text("driver", &gpu.driver)?;
        }
        Ok(())
    }
}

pub(crate) fn text(field: &'static str, value: &str) -> Result<(), Malformed> {
    if value.len() > MAX_TEXT { Err(Malformed::OutOfRange(field)) } else { Ok(()) }
}
