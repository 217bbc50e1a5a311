//! Reading the host.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use datagalax_protocol::{
    Digest, GpuMetrics, HostMetrics, Metrics,
    liveness::{MAX_GPUS, MAX_TEXT},
};
use nvml_wrapper::{Nvml, error::NvmlError};
use sysinfo::{Disks, System};
use thiserror::Error;

use crate::{
    fingerprint::{FingerprintError, Hardware, machine_id},
    nvml,
};

/// Something that knows a host's hardware.
pub trait Probe: Send + Sync + 'static {
    /// Measures now. `now` is the host's clock in unix seconds. May take tens of milliseconds.
    ///
    /// # Errors
    /// The hardware does not answer, or is not what it was at start.
    fn measure(&self, now: i64) -> Result<Metrics, ProbeError>;

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

/// This very host.
pub struct HostProbe {
    settings: Settings,
    nvml: Option<Nvml>,
    system: Mutex<System>,
    fingerprint: Digest,
    class: String,
}

impl HostProbe {
    /// Looks at the host once and fixes its fingerprint.
    ///
    /// # Errors
    /// The GPU driver does not work, or there is no machine id to go by.
    pub fn open(settings: Settings) -> Result<Self, ProbeError> {
        let nvml = if settings.gpus { nvml::open()? } else { None };
        let mut system = System::new();
        system.refresh_cpu_all();
        system.refresh_memory();
        let gpus = nvml.as_ref().map(nvml::read).transpose()?.unwrap_or_default();
        let (hardware, class) = match gpus.first() {
            Some(gpu) => (of_cards(&gpus), gpu.model.clone()),
            None => {
                let machine_id = machine_id(settings.machine_id.as_deref())?;
                let hardware = Hardware::Cpu { machine_id, model: cpu_model(&system), threads: threads(&system) };
                (hardware, "cpu".to_owned())
            }
        };
        tracing::info!(class, gpus = gpus.len(), "host probed");
        Ok(Self { settings, nvml, system: Mutex::new(system), fingerprint: hardware.fingerprint(), class })
    }
}

impl Probe for HostProbe {
    fn measure(&self, now: i64) -> Result<Metrics, ProbeError> {
        let gpus = self.nvml.as_ref().map(nvml::read).transpose()?.unwrap_or_default();
        if gpus.len() > MAX_GPUS {
            return Err(ProbeError::TooManyGpus(gpus.len()));
        }
        if self.nvml.is_some() && of_cards(&gpus).fingerprint() != self.fingerprint {
            return Err(ProbeError::HardwareChanged);
        }
        // The lock guards a cache of readings, which a panic elsewhere cannot leave half-written in a way that matters.
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        system.refresh_cpu_usage();
        system.refresh_memory();
        Ok(Metrics {
            agent_version: cut(&self.settings.agent_version),
            fingerprint: self.fingerprint,
            measured_at: now,
            host: read_host(&system),
            gpus: gpus
                .into_iter()
                .map(|gpu| GpuMetrics { model: cut(&gpu.model), driver: cut(&gpu.driver), ..gpu })
                .collect(),
        })
    }

    fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    fn hardware_class(&self) -> &str {
        &self.class
    }
}

fn of_cards(gpus: &[GpuMetrics]) -> Hardware {
    Hardware::Gpus(gpus.iter().map(|gpu| gpu.uuid.clone()).collect())
}

fn cpu_model(system: &System) -> String {
    let model = system.cpus().first().map(|cpu| cut(cpu.brand().trim())).unwrap_or_default();
    // Some ARM kernels name no model; the architecture is what is left to say.
    if model.is_empty() { System::cpu_arch() } else { model }
}

fn threads(system: &System) -> u32 {
    u32::try_from(system.cpus().len()).unwrap_or(u32::MAX)
}

fn read_host(system: &System) -> HostMetrics {
    let threads = threads(system);
    let load = System::load_average();
    let (disk_total, disk_free) = disk();
    HostMetrics {
        cpu_model: cpu_model(system),
        cpu_cores: System::physical_core_count().and_then(|n| u32::try_from(n).ok()).unwrap_or(threads),
        cpu_threads: threads,
        // `as` saturates: a reading that is not a number becomes 0.
        cpu_usage: (system.global_cpu_usage().clamp(0.0, 100.0) * 100.0) as u16,
        memory_total: system.total_memory(),
        memory_used: system.used_memory(),
        disk_total,
        disk_free,
        load: [load.one, load.five, load.fifteen].map(|average| (average * 100.0) as u32),
        uptime: System::uptime(),
        os: cut(&System::long_os_version().unwrap_or_default()),
        kernel: cut(&System::kernel_version().unwrap_or_default()),
    }
}

/// Total and free bytes of the file system that holds the working directory, zero when that cannot be told.
fn disk() -> (u64, u64) {
    let Ok(here) = std::env::current_dir() else {
        return (0, 0);
    };
    let disks = Disks::new_with_refreshed_list();
    let holding = disks.iter().filter(|disk| here.starts_with(disk.mount_point()));
    let deepest = holding.max_by_key(|disk| disk.mount_point().components().count());
    deepest.map_or((0, 0), |disk| (disk.total_space(), disk.available_space()))
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
    use datagalax_protocol::{LivenessAnswer, Payload};

    use super::*;

    #[test]
    fn this_host_is_measured_and_keeps_its_fingerprint() {
        let settings = Settings { agent_version: "test".into(), gpus: true, machine_id: None };
        let probe = HostProbe::open(settings.clone()).unwrap();
        let metrics = probe.measure(1_700_000_000).unwrap();
        assert_eq!(metrics.fingerprint, probe.fingerprint());
        assert_eq!(HostProbe::open(settings).unwrap().fingerprint(), probe.fingerprint());
        assert!(metrics.host.cpu_threads > 0 && !metrics.host.cpu_model.is_empty());
        assert!(metrics.host.memory_total > 0 && metrics.host.memory_used <= metrics.host.memory_total);
        assert!(metrics.host.uptime > 0);
        assert_eq!(metrics.gpus.is_empty(), probe.hardware_class() == "cpu");
        LivenessAnswer { request: [0; 32], metrics }.check().unwrap();
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(cut(&"x".repeat(500)).len(), MAX_TEXT);
        assert_eq!(cut(&"é".repeat(200)).len(), MAX_TEXT);
        assert_eq!(cut(&format!("x{}", "é".repeat(200))).len(), MAX_TEXT - 1);
    }
}
