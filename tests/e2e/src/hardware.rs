//! This machine as a container: what it is, and what it can do.

use std::{num::NonZeroUsize, path::PathBuf, time::Instant};

use anyhow::Result;
use datagalax_gpu::{Bounds, HostProbe, Probe, Product, Settings, challenge::CPU_SIZE};
use datagalax_protocol::liveness::Metrics;

/// Products computed to take the fastest of.
const ROUNDS: u8 = 5;

/// What the probe says of this machine.
pub struct Hardware {
    /// Stable hash of it.
    pub fingerprint: [u8; 32],
    /// Model of the GPUs, or `cpu`.
    pub class: String,
    /// All that was read.
    pub metrics: Metrics,
    /// Operations a second of the CPU challenge on one thread.
    pub throughput: u64,
}

impl Hardware {
    /// Reads this machine and times the capacity challenge on it.
    ///
    /// # Errors
    /// The probe cannot read the machine.
    pub fn measure(now: i64, machine_id: Option<PathBuf>) -> Result<Self> {
        let probe = HostProbe::open(Settings { agent_version: env!("CARGO_PKG_VERSION").into(), gpus: true, machine_id })?;
        let mut throughput = 0;
        for round in 0..ROUNDS {
            let start = Instant::now();
            Product::compute(&[round; 32], &CPU_SIZE, NonZeroUsize::MIN, &Bounds::default())?;
            let nanos = start.elapsed().as_nanos().max(1);
            let rate = u128::from(CPU_SIZE.operations()) * 1_000_000_000 / nanos;
            throughput = throughput.max(u64::try_from(rate).unwrap_or(u64::MAX));
        }
        Ok(Self {
            fingerprint: probe.fingerprint(),
            class: probe.hardware_class().to_owned(),
            metrics: probe.measure(now)?,
            throughput,
        })
    }
}
