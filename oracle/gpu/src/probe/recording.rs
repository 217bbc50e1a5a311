//! A host's readings as a file, and a probe that plays them: how everything behind the probe is tested on machines that this
//! one is not.

use datagalax_protocol::{
    Digest, GpuDetails, GpuMetrics, HostMetrics, Inspection, Metrics, inspection::Interface, liveness::MAX_GPUS,
};
use serde::{Deserialize, Serialize};

use super::{Probe, ProbeError, cut};
use crate::fingerprint::{FingerprintError, Hardware};

/// A card as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedGpu {
    /// The metrics.
    pub metrics: GpuMetrics,
    /// The details.
    #[serde(default)]
    pub details: GpuDetails,
}

/// Everything that was read of a host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// What it shows, for people.
    #[serde(default)]
    pub note: String,
    /// The machine id of a host without GPUs.
    #[serde(default)]
    pub machine_id: Option<String>,
    /// The machine.
    pub host: HostMetrics,
    /// Its cards, in any order.
    #[serde(default)]
    pub gpus: Vec<RecordedGpu>,
    /// Its network interfaces.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
}

impl Recording {
    /// What the fingerprint is made of.
    ///
    /// # Errors
    /// No GPUs and no machine id.
    pub fn hardware(&self) -> Result<Hardware, FingerprintError> {
        if !self.gpus.is_empty() {
            return Ok(Hardware::Gpus(self.gpus.iter().map(|gpu| gpu.metrics.uuid.clone()).collect()));
        }
        let machine_id = self.machine_id.clone().ok_or(FingerprintError::NoMachineId(Vec::new()))?;
        Ok(Hardware::Cpu { machine_id, model: self.host.cpu_model.clone(), threads: self.host.cpu_threads })
    }

    /// The recording as an inspection at `now`, cards by ascending UUID.
    ///
    /// # Errors
    /// Too many cards, or a value out of its range.
    pub fn inspection(&self, agent_version: &str, fingerprint: Digest, now: i64) -> Result<Inspection, ProbeError> {
        if self.gpus.len() > MAX_GPUS {
            return Err(ProbeError::TooManyGpus(self.gpus.len()));
        }
        let mut gpus = self.gpus.clone();
        gpus.sort_unstable_by(|a, b| a.metrics.uuid.cmp(&b.metrics.uuid));
        let (gpus, details) = gpus.into_iter().map(|gpu| (gpu.metrics, gpu.details)).unzip();
        let inspection = Inspection {
            metrics: Metrics {
                agent_version: cut(agent_version),
                fingerprint,
                measured_at: now,
                host: self.host.clone(),
                gpus,
            },
            details,
            interfaces: self.interfaces.clone(),
        };
        inspection.check()?;
        Ok(inspection)
    }
}

/// Plays a recording.
#[derive(Clone, Debug)]
pub struct RecordedProbe {
    recording: Recording,
    agent_version: String,
    fingerprint: Digest,
    class: String,
}

impl RecordedProbe {
    /// Plays this recording.
    ///
    /// # Errors
    /// It has neither GPUs nor a machine id, or holds what no host can report.
    pub fn new(recording: Recording, agent_version: &str) -> Result<Self, ProbeError> {
        let fingerprint = recording.hardware()?.fingerprint();
        recording.inspection(agent_version, fingerprint, 0)?;
        let first = recording.gpus.iter().min_by(|a, b| a.metrics.uuid.cmp(&b.metrics.uuid));
        let class = first.map_or_else(|| "cpu".to_owned(), |gpu| gpu.metrics.model.clone());
        Ok(Self { recording, agent_version: agent_version.to_owned(), fingerprint, class })
    }
}

impl Probe for RecordedProbe {
    fn measure(&self, now: i64) -> Result<Metrics, ProbeError> {
        if let Some(lost) = self.recording.gpus.iter().find(|gpu| gpu.details.lost) {
            return Err(ProbeError::CardLost(lost.metrics.uuid.clone()));
        }
        Ok(self.inspect(now)?.metrics)
    }

    fn inspect(&self, now: i64) -> Result<Inspection, ProbeError> {
        self.recording.inspection(&self.agent_version, self.fingerprint, now)
    }

    fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    fn hardware_class(&self) -> &str {
        &self.class
    }
}
