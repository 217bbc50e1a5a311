//! This very machine.

use std::sync::{Arc, Mutex, PoisonError};

use datagalax_protocol::{
    Digest, GpuDetails, GpuMetrics, HostMetrics, Inspection, Metrics,
    inspection::{Interface, MAX_INTERFACES},
    liveness::MAX_GPUS,
};
use nvml_wrapper::Nvml;
use sysinfo::{Disks, Networks, System};

use super::{Probe, ProbeError, RecordedGpu, Recording, Settings, cut, nvml, xid};
use crate::fingerprint::{Hardware, machine_id};

/// This very host.
pub struct HostProbe {
    settings: Settings,
    cards: Option<Cards>,
    machine_id: Option<String>,
    system: Mutex<System>,
    fingerprint: Digest,
    class: String,
}

struct Cards {
    nvml: Arc<Nvml>,
    /// As they were at start.
    known: Vec<GpuMetrics>,
    watch: xid::Watch,
}

impl Cards {
    fn read(&self) -> Result<Vec<GpuMetrics>, ProbeError> {
        nvml::read(&self.nvml).map_err(|error| {
            // The driver does not say which card it is about.
            let lost = self.known.iter().find(|known| nvml::inspect(&self.nvml, known).1.lost);
            lost.map_or(ProbeError::Driver(error), |lost| ProbeError::CardLost(lost.uuid.clone()))
        })
    }
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
        let cards = nvml
            .map(|nvml| {
                let (known, nvml) = (nvml::read(&nvml)?, Arc::new(nvml));
                let watch = xid::Watch::start(nvml.clone(), known.iter().map(|gpu| gpu.uuid.clone()).collect());
                Ok::<_, ProbeError>(Cards { nvml, known, watch })
            })
            .transpose()?;
        let first = cards.as_ref().and_then(|cards| Some((cards, cards.known.first()?)));
        let (hardware, class, machine_id) = match first {
            Some((cards, gpu)) => (Hardware::of_cards(&cards.known), gpu.model.clone(), None),
            None => {
                let machine_id = machine_id(settings.machine_id.as_deref())?;
                let (model, threads) = (cpu_model(&system), threads(&system));
                let hardware = Hardware::Cpu { machine_id: machine_id.clone(), model, threads };
                (hardware, "cpu".to_owned(), Some(machine_id))
            }
        };
        let count = cards.as_ref().map_or(0, |cards| cards.known.len());
        tracing::info!(class, gpus = count, "host probed");
        let fingerprint = hardware.fingerprint();
        Ok(Self { settings, cards, machine_id, system: Mutex::new(system), fingerprint, class })
    }

    /// Everything that can be read now, to be kept as a fixture. It holds the machine id, which is confidential to the host.
    pub fn record(&self) -> Recording {
        let details = |cards: &Cards| {
            let inspect = |known: &GpuMetrics| {
                let (metrics, details) = nvml::inspect(&cards.nvml, known);
                let xids = cards.watch.log().of(&metrics.uuid);
                let metrics = GpuMetrics { model: cut(&metrics.model), driver: cut(&metrics.driver), ..metrics };
                RecordedGpu { metrics, details: GpuDetails { xids, ..details } }
            };
            cards.known.iter().map(inspect).collect()
        };
        Recording {
            note: String::new(),
            machine_id: self.machine_id.clone(),
            host: self.read_host(),
            gpus: self.cards.as_ref().map(details).unwrap_or_default(),
            interfaces: interfaces(),
        }
    }

    fn read_host(&self) -> HostMetrics {
        // The lock guards a cache of readings, which a panic elsewhere cannot leave half-written in a way that matters.
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        system.refresh_cpu_usage();
        system.refresh_memory();
        read_host(&system)
    }
}

impl Probe for HostProbe {
    fn measure(&self, now: i64) -> Result<Metrics, ProbeError> {
        let gpus = self.cards.as_ref().map(Cards::read).transpose()?.unwrap_or_default();
        if gpus.len() > MAX_GPUS {
            return Err(ProbeError::TooManyGpus(gpus.len()));
        }
        if self.cards.is_some() && Hardware::of_cards(&gpus).fingerprint() != self.fingerprint {
            return Err(ProbeError::HardwareChanged);
        }
        let texts_cut = |gpu: GpuMetrics| GpuMetrics { model: cut(&gpu.model), driver: cut(&gpu.driver), ..gpu };
        Ok(Metrics {
            agent_version: cut(&self.settings.agent_version),
            fingerprint: self.fingerprint,
            measured_at: now,
            host: self.read_host(),
            gpus: gpus.into_iter().map(texts_cut).collect(),
        })
    }

    fn inspect(&self, now: i64) -> Result<Inspection, ProbeError> {
        self.record().inspection(&self.settings.agent_version, self.fingerprint, now)
    }

    fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    fn hardware_class(&self) -> &str {
        &self.class
    }
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

/// The busiest interfaces, loopback left out.
fn interfaces() -> Vec<Interface> {
    let networks = Networks::new_with_refreshed_list();
    let mut interfaces: Vec<_> = networks
        .iter()
        .filter(|(name, _)| *name != "lo")
        .map(|(name, data)| Interface {
            name: cut(name),
            received: data.total_received(),
            sent: data.total_transmitted(),
            errors: data.total_errors_on_received().saturating_add(data.total_errors_on_transmitted()),
        })
        .collect();
    interfaces.sort_by_key(|interface| std::cmp::Reverse(interface.received.saturating_add(interface.sent)));
    interfaces.truncate(MAX_INTERFACES);
    interfaces
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
        let inspection = probe.inspect(1_700_000_001).unwrap();
        assert_eq!(inspection.metrics.fingerprint, probe.fingerprint());
        assert_eq!(inspection.metrics.measured_at, 1_700_000_001);
        inspection.check().unwrap();
    }
}
