//! Reading the host.

mod host;
mod nvml;
mod recording;
mod xid;

use std::path::PathBuf;

use datagalax_protocol::{
    Digest, Inspection, Malformed, Metrics,
    liveness::{MAX_GPUS, MAX_TEXT},
};
use nvml_wrapper::error::NvmlError;
use thiserror::Error;

use crate::fingerprint::FingerprintError;

pub use host::HostProbe;
pub use recording::{RecordedGpu, RecordedProbe, Recording};

/// Something that knows a host's hardware.
pub trait Probe: Send + Sync + 'static {
    /// Measures now. `now` is the host's clock in unix seconds. May take tens of milliseconds.
    ///
    /// # Errors
    /// The hardware does not answer, or is not what it was at start.
    fn measure(&self, now: i64) -> Result<Metrics, ProbeError>;

    /// Measures now, with all details. Unlike [`Probe::measure`] it answers for a host with a lost card as well, and says
    /// which one it is. Cards are those that were there at start.
    ///
    /// # Errors
    /// There are more cards than a message holds, or a reading is out of its range.
    fn inspect(&self, now: i64) -> Result<Inspection, ProbeError>;

    /// The hardware fingerprint, fixed at start.
    fn fingerprint(&self) -> Digest;

    /// The product name of the GPUs, or `cpu`.
    fn hardware_class(&self) -> &str;
}

/// Why the host cannot be measured.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The driver is there and does not work.
    #[error("the NVIDIA driver is installed but does not answer ({0}): see `nvidia-smi`, or run without GPUs by --no-gpu")]
    Driver(#[from] NvmlError),
    /// The host has no identity.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
    /// More cards than a message holds.
    #[error("{0} GPUs, more than the {MAX_GPUS} that one container may have")]
    TooManyGpus(usize),
    /// A card was added, removed or exchanged since the start.
    #[error("the GPUs are not the ones this agent started with: register the changed host anew")]
    HardwareChanged,
    /// A card does not answer any more.
    #[error("GPU {0} does not answer any more (fallen off the bus?): see `dmesg` for its Xid, a reboot may bring it back")]
    CardLost(String),
    /// A recording holds what no host can report.
    #[error("the recording: {0}")]
    Recording(#[from] Malformed),
}

/// How to read the host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Release to put into the metrics.
    pub agent_version: String,
    /// Look for GPUs; without, the host is of the class `cpu` whatever it has.
    pub gpus: bool,
    /// File to take the machine id from instead of the system's.
    pub machine_id: Option<PathBuf>,
}

/// The text, cut to what a message may hold.
fn cut(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(cut(&"x".repeat(500)).len(), MAX_TEXT);
        assert_eq!(cut(&"é".repeat(200)).len(), MAX_TEXT);
        assert_eq!(cut(&format!("x{}", "é".repeat(200))).len(), MAX_TEXT - 1);
    }
}
