//! This machine as a container: what it is, and what it can do.

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::Result;
use datagalax_gpu::{
    HostProbe, Probe, Settings,
    ask::CPU_PASSES,
    backend::{Backend, Cpu},
    bench,
    capacity::{Demand, Limits},
};
use datagalax_protocol::liveness::Metrics;

/// Challenges computed to take the fastest of.
const ROUNDS: u8 = 5;

/// What the probe says of this machine.
pub struct Hardware {
    /// Stable hash of it.
    pub fingerprint: [u8; 32],
    /// Model of the GPUs, or `cpu`.
    pub class: String,
    /// All that was read.
    pub metrics: Metrics,
    /// Operations a second of a whole challenge of the class `cpu` on one thread.
    pub throughput: u64,
}

impl Hardware {
    /// Reads this machine, without its GPUs if `gpus` is false, and times on it what a beacon asks of the class `cpu`.
    ///
    /// # Errors
    /// The probe cannot read the machine, or it computes wrongly.
    pub fn measure(now: i64, machine_id: Option<PathBuf>, gpus: bool) -> Result<Self> {
        let probe = HostProbe::open(Settings { agent_version: env!("CARGO_PKG_VERSION").into(), gpus, machine_id })?;
        let workload = Demand::cpu(CPU_PASSES)?;
        let mut devices: Vec<Box<dyn Backend>> = vec![Box::new(Cpu::new(NonZeroUsize::MIN))];
        let mut throughput = 0;
        for _ in 0..ROUNDS {
            let figures = bench::run(&mut devices, false, &workload, &Limits::CPU, NonZeroUsize::MIN)?;
            throughput = throughput.max(figures.throughput);
        }
        Ok(Self {
            fingerprint: probe.fingerprint(),
            class: probe.hardware_class().to_owned(),
            metrics: probe.measure(now)?,
            throughput,
        })
    }
}
