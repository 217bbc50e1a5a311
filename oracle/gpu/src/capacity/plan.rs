//! How much a beacon asks, and how long it may take.

use std::time::Duration;

use datagalax_protocol::{
    Malformed, WorkSize, Workload,
    beacon::{MAX_DEADLINE_MS, MAX_PASSES},
};
use thiserror::Error;

use crate::backend::{filled_memory, working_memory};

/// Inner dimension on GPUs: 2^15 operations stand behind each four bytes kept and hashed, and no sum leaves int32.
const INNER: u32 = 1 << 14;
/// Columns on GPUs. With [`INNER`] the right matrix has 512 MiB, which a verifier expands in a fraction of a second; fewer
/// columns would mean more rows, and more hashing on the host between two passes.
const COLUMNS: u32 = 1 << 15;
/// Rows are a multiple of the CUDA kernel's tile.
const ROW_STEP: u64 = 128;
/// Rows of the left matrix that a device expands at once.
pub(crate) const PANEL: u64 = 1 << 13;
/// Walks on GPUs: 2^34 reads in all, some seconds of random reads on a card, 16,384 recomputed cells per opened walker.
const WALKERS: u32 = 1 << 20;
/// Steps of each.
const STEPS: u32 = 1 << 14;

/// The product of the class `cpu`: 2^28 operations, some milliseconds of one core.
const CPU_SIZE: WorkSize = WorkSize { rows: 512, inner: 512, columns: 512 };

/// What a beacon demands of a container, from its class on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The class's memory of one device, in bytes.
    pub memory: u64,
    /// Share of that memory to fill, percent, 1 to 100. What is left is for the driver and whatever runs beside.
    pub share: u8,
    /// The class's reference of one device, in operations per second of a whole challenge.
    pub reference: u64,
    /// Devices of the container.
    pub devices: u16,
    /// How long a device of the reference's speed multiplies, at least about.
    pub duration: Duration,
}

/// Why no workload meets a demand, or a host does not take one on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The class has less memory than the smallest challenge takes.
    #[error("{0} percent of {1} bytes is less than the smallest challenge of a GPU takes")]
    TooSmall(u8, u64),
    /// A number out of its range.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// More work than the host allows.
    #[error("the workload has {asked} operations, the host allows {allowed}")]
    TooMuchWork {
        /// Operations asked.
        asked: u64,
        /// Operations allowed.
        allowed: u64,
    },
    /// More device memory than the host allows.
    #[error("the workload takes {asked} bytes of each device, the host allows {allowed}")]
    TooMuchDeviceMemory {
        /// Bytes asked.
        asked: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// More of the host's own memory than it allows.
    #[error("the workload takes {asked} bytes of the host's memory, the host allows {allowed}")]
    TooMuchHostMemory {
        /// Bytes asked.
        asked: u64,
        /// Bytes allowed.
        allowed: u64,
    },
    /// Another number of devices than the host has.
    #[error("the workload is for {asked} devices, the host has {has}")]
    Devices {
        /// Devices asked.
        asked: u16,
        /// Devices there.
        has: usize,
    },
}

impl Demand {
    /// The full workload of a GPU class: as many rows as fill the share, as many passes as take the time.
    ///
    /// # Errors
    /// The memory is too small, or there are too many devices.
    pub fn workload(&self) -> Result<Workload, PlanError> {
        let bytes = (u128::from(self.memory) * u128::from(self.share.min(100)) / 100) as u64;
        let fixed = working_memory(&WorkSize { rows: 0, inner: INNER, columns: COLUMNS }, PANEL);
        // Values and digest of a row.
        let row = 4 * u64::from(COLUMNS) + 32;
        let rows = bytes.saturating_sub(fixed) / row / ROW_STEP * ROW_STEP;
        let rows = u32::try_from(rows).unwrap_or(u32::MAX - (ROW_STEP as u32 - 1));
        if rows == 0 {
            return Err(PlanError::TooSmall(self.share, self.memory));
        }
        let size = WorkSize { rows, inner: INNER, columns: COLUMNS };
        let asked = u128::from(self.reference) * self.duration.as_millis() / 1_000;
        let passes = asked.div_ceil(u128::from(size.operations())).clamp(1, u128::from(MAX_PASSES)) as u16;
        let workload = Workload { size, passes, walkers: WALKERS, steps: STEPS, devices: self.devices };
        workload.check()?;
        Ok(workload)
    }

    /// The light workload of a leased GPU: milliseconds of work in 80 MiB, to show that the devices are there. It says
    /// nothing about capacity, which is that of the last full challenge.
    ///
    /// # Errors
    /// Too many devices.
    pub fn light(devices: u16) -> Result<Workload, PlanError> {
        let size = WorkSize { rows: 1 << 12, inner: 1 << 12, columns: 1 << 12 };
        let workload = Workload { size, passes: 1, walkers: 1 << 12, steps: 1 << 8, devices };
        workload.check()?;
        Ok(workload)
    }

    /// The workload of the class `cpu`, the same on every machine: `passes` products of 512 x 512 x 512 in one MiB. The
    /// class proves that the chain of checking works on a machine without GPU, not what such a machine is worth.
    ///
    /// # Errors
    /// Too many passes.
    pub fn cpu(passes: u16) -> Result<Workload, PlanError> {
        let workload = Workload { size: CPU_SIZE, passes, walkers: 1 << 8, steps: 1 << 8, devices: 1 };
        workload.check()?;
        Ok(workload)
    }
}

/// The most that a host takes on, whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations of all devices together.
    pub operations: u64,
    /// Bytes of each device.
    pub device_memory: u64,
    /// Bytes of the host: digests and trees of all passes are kept until the next beacon.
    pub host_memory: u64,
    /// Reads of all walkers of one device.
    pub reads: u64,
}

impl Default for Limits {
    /// What 64 large cards need for half a minute: 2^61 operations, 512 GiB of each, 16 GiB on the host, 2^34 reads each.
    fn default() -> Self {
        Self { operations: 1 << 61, device_memory: 1 << 39, host_memory: 1 << 34, reads: 1 << 34 }
    }
}

impl Limits {
    /// Bounds fit for a processor: some seconds of one core in 256 MiB.
    pub const CPU: Self = Self { operations: 1 << 34, device_memory: 256 << 20, host_memory: 256 << 20, reads: 1 << 26 };

    /// Checks a workload against the limits, before anything is allocated.
    ///
    /// # Errors
    /// Which limit it exceeds, or which number is out of range.
    pub fn check(&self, workload: &Workload) -> Result<(), PlanError> {
        workload.check()?;
        let asked = workload.operations();
        if asked > self.operations {
            return Err(PlanError::TooMuchWork { asked, allowed: self.operations });
        }
        let asked = u64::from(workload.walkers) * u64::from(workload.steps);
        if asked > self.reads {
            return Err(PlanError::TooMuchWork { asked, allowed: self.reads });
        }
        let asked = device_memory(&workload.size);
        if asked > self.device_memory {
            return Err(PlanError::TooMuchDeviceMemory { asked, allowed: self.device_memory });
        }
        let asked = kept_memory(workload);
        if asked > self.host_memory {
            return Err(PlanError::TooMuchHostMemory { asked, allowed: self.host_memory });
        }
        Ok(())
    }
}

/// Bytes of the host's memory that a proof of this workload takes as long as it is kept to be opened.
pub fn kept_memory(workload: &Workload) -> u64 {
    // A digest and two tree nodes for each row, a state and two nodes for each walker.
    let rows = 96 * u64::from(workload.size.rows) * u64::from(workload.passes);
    let device = rows.saturating_add(72 * u64::from(workload.walkers));
    device.saturating_mul(u64::from(workload.devices))
}

/// Bytes that a product of this size takes of a device, with everything around it.
pub(crate) fn device_memory(size: &WorkSize) -> u64 {
    filled_memory(size).saturating_add(working_memory(size, PANEL.min(u64::from(size.rows))))
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long a host of the class's reference takes for the work.
    pub expected: Duration,
    /// Taken off every answer's time before it is scored: the slot reaches host and checker at different moments, and the
    /// root travels. It is what a slower host can hide in, see `docs/proof-of-capacity.md`.
    pub allowance: Duration,
    /// No answer counts later than this after the slot's first sight.
    pub deadline: Duration,
}

impl Schedule {
    /// The times of a workload on a container of which one device does `reference` operations per second. The deadline is one
    /// and a half times the expected time, and the allowance: whoever does two thirds of the reference or less has no answer,
    /// so that one card cannot serve two registrations one after the other and be paid for both. At most [`MAX_DEADLINE_MS`]; a reference of zero gets that.
    pub fn of(workload: &Workload, reference: u64, allowance: Duration) -> Self {
        let most = Duration::from_millis(u64::from(MAX_DEADLINE_MS));
        let per_device = u128::from(workload.operations() / u64::from(workload.devices.max(1)));
        let nanos = (per_device * 1_000_000_000).checked_div(u128::from(reference));
        let expected = nanos.and_then(|n| u64::try_from(n).ok()).map_or(most, Duration::from_nanos).min(most);
        Self { expected, allowance, deadline: (expected * 3 / 2).saturating_add(allowance).min(most) }
    }

    /// The times of the light workload ([`Demand::light`]): a tenant's own work goes first, so there is half a minute for
    /// milliseconds of work. What it is scored is not its capacity.
    pub const LIGHT: Self =
        Self { expected: Duration::ZERO, allowance: Duration::from_secs(30), deadline: Duration::from_secs(30) };

    /// The deadline as a request carries it.
    pub fn deadline_ms(&self) -> u32 {
        u32::try_from(self.deadline.as_millis()).unwrap_or(MAX_DEADLINE_MS).clamp(1, MAX_DEADLINE_MS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn demand(memory: u64, reference: u64) -> Demand {
        Demand { memory, share: 85, reference, devices: 1, duration: Duration::from_secs(8) }
    }

    #[test]
    fn an_80_gib_card_is_filled_and_busy_for_seconds() {
        let demand = demand(80 * GIB, 600_000_000_000_000);
        let workload = demand.workload().unwrap();
        let filled = filled_memory(&workload.size);
        assert!((66 * GIB..68 * GIB).contains(&filled), "{filled}");
        assert!(device_memory(&workload.size) <= 68 * GIB);
        let schedule = Schedule::of(&workload, demand.reference, Duration::from_secs(1));
        assert!((8.0..9.5).contains(&schedule.expected.as_secs_f64()), "{schedule:?}");
        Limits::default().check(&workload).unwrap();
        Limits::default().check(&Workload { devices: 8, ..workload }).unwrap();
        assert!(matches!(Limits::CPU.check(&workload), Err(PlanError::TooMuchWork { .. })));
    }

    #[test]
    fn every_host_can_take_on_the_light_and_the_cpu_workload() {
        Limits::CPU.check(&Demand::cpu(4).unwrap()).unwrap();
        Limits::default().check(&Demand::light(64).unwrap()).unwrap();
        assert!(matches!(demand(GIB / 2, 1).workload(), Err(PlanError::TooSmall(85, _))));
        assert!(matches!(Demand::light(65), Err(PlanError::Malformed(_))));
    }

    #[test]
    fn the_deadline_is_half_as_long_again_as_the_work() {
        let workload = Demand::cpu(4).unwrap();
        let per_second = workload.operations() / 8;
        let schedule = Schedule::of(&workload, per_second, Duration::from_secs(1));
        assert_eq!((schedule.expected, schedule.deadline_ms()), (Duration::from_secs(8), 13_000));
        // Eight devices do eight times the work in the same time.
        let eight = Schedule::of(&Workload { devices: 8, ..workload }, per_second, Duration::from_secs(1));
        assert_eq!(eight, schedule);
        assert_eq!(Schedule::of(&workload, 0, Duration::ZERO).deadline_ms(), MAX_DEADLINE_MS);
        assert_eq!(Schedule::LIGHT.deadline_ms(), 30_000);
    }

    #[test]
    fn each_limit_has_a_name() {
        let workload = Demand::cpu(4).unwrap();
        let refused = |limits: Limits| limits.check(&workload).unwrap_err();
        assert!(matches!(refused(Limits { operations: 1, ..Limits::CPU }), PlanError::TooMuchWork { .. }));
        assert!(matches!(refused(Limits { reads: 1, ..Limits::CPU }), PlanError::TooMuchWork { .. }));
        assert!(matches!(refused(Limits { device_memory: 1, ..Limits::CPU }), PlanError::TooMuchDeviceMemory { .. }));
        assert!(matches!(refused(Limits { host_memory: 1, ..Limits::CPU }), PlanError::TooMuchHostMemory { .. }));
    }

    proptest! {
        #[test]
        fn a_demand_is_met_within_its_memory(memory in GIB..1024 * GIB, share in 1u8.., reference: u64, devices in 1u16..=64) {
            let demand = Demand { memory, share, reference, devices, duration: Duration::from_secs(8) };
            if let Ok(workload) = demand.workload() {
                prop_assert!(workload.check().is_ok());
                let most = (u128::from(memory) * u128::from(share.min(100)) / 100) as u64;
                prop_assert!(device_memory(&workload.size) <= most);
                prop_assert!(device_memory(&workload.size) + ROW_STEP * (4 * u64::from(COLUMNS) + 32) + GIB > most);
            }
        }

        #[test]
        fn a_deadline_is_always_one_a_request_may_carry(passes in 1u16..=32, reference: u64, allowance: u64) {
            let workload = Demand::cpu(passes).unwrap();
            let schedule = Schedule::of(&workload, reference, Duration::from_millis(allowance));
            prop_assert!((1..=MAX_DEADLINE_MS).contains(&schedule.deadline_ms()));
        }
    }
}
