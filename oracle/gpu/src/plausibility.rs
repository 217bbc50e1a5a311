//! Metrics that cannot be true, or that belie the challenge: forged ones, or a host in trouble.
//!
//! A host's metrics are its own word, and nothing is paid by them; these findings tell a checker's operator where to look,
//! and a user what to be wary of. What a host can do is shown by the challenge alone.

use std::fmt;

use datagalax_protocol::{Digest, GpuDetails, GpuMetrics, Inspection, Workload, inspection::Virtualisation};

use crate::{capacity::device_memory, fingerprint::Hardware};

/// The Xid code of a card that has fallen off the bus (NVIDIA's Xid catalogue).
const XID_OFF_THE_BUS: u64 = 79;
/// Seconds that a host's clock may be off, the same as messages may (`envelope::MAX_AGE`).
const CLOCK_TOLERANCE: i64 = 30;
/// Degrees Celsius above which no card works (they throttle well below and switch off).
const HOTTEST: u16 = 125;
/// A card shows a little less than the memory it is sold with (what the driver keeps), and a class may ask for the round number:
/// so many per thousand may be missing.
const MEMORY_TOLERANCE: u64 = 30;
/// Least power of a card under full load, in milliwatts; none idles below and computes.
const LEAST_WORKING_POWER: u32 = 10_000;

/// What a container says it is, from the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The registered fingerprint.
    pub fingerprint: Digest,
    /// Registered number of GPUs; 0 for the class `cpu`, whose units are no cards.
    pub gpus: u16,
    /// The class's least memory of a device in bytes; 0 for the class `cpu`.
    pub minimum_memory: u64,
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Not the hardware that was registered.
    Fingerprint,
    /// The fingerprint in the metrics is not that of the cards in them.
    FingerprintOfOtherCards,
    /// Another number of cards than registered.
    Count {
        /// Registered.
        registered: u16,
        /// Reported.
        reported: usize,
    },
    /// One card twice.
    Twice(String),
    /// Less memory than the class asks.
    Memory {
        /// The card.
        uuid: String,
        /// Bytes reported.
        reported: u64,
    },
    /// More memory in use than there is.
    MemoryInUse(String),
    /// The host's clock is off, by so many seconds (positive: behind).
    Clock(i64),
    /// A reading no card can have.
    Impossible {
        /// The card.
        uuid: String,
        /// Which reading.
        reading: &'static str,
    },
    /// While it says that it computes the challenge, a card does not hold the challenge's memory.
    NotFilled {
        /// The card.
        uuid: String,
        /// Bytes in use.
        used: u64,
        /// Bytes that the challenge takes.
        needed: u64,
    },
    /// While it says that it computes the challenge, a card draws as little power as an idle one.
    Idle {
        /// The card.
        uuid: String,
        /// Milliwatts.
        power: u32,
    },
    /// ECC errors that were not corrected: what the card computes may be wrong.
    Uncorrected {
        /// The card.
        uuid: String,
        /// How many since the driver was loaded.
        errors: u64,
    },
    /// The driver reported errors; the codes, the latest last.
    Xid {
        /// The card.
        uuid: String,
        /// Codes of NVIDIA's Xid catalogue.
        codes: Vec<u64>,
    },
    /// The card does not answer any more.
    Lost(String),
    /// A share of a card, sold as one.
    Shared(String),
}

/// In words. What a host says of itself is shown escaped.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint => f.write_str("the hardware is not the registered one: another fingerprint"),
            Self::FingerprintOfOtherCards => f.write_str("the fingerprint is not that of the cards it names"),
            Self::Count { registered, reported } => write!(f, "{reported} cards reported, {registered} registered"),
            Self::Twice(uuid) => write!(f, "card {} is named twice", uuid.escape_debug()),
            Self::Memory { uuid, reported } => {
                write!(f, "card {} has {reported} bytes of memory, less than its class asks", uuid.escape_debug())
            }
            Self::MemoryInUse(uuid) => write!(f, "card {} has more memory in use than it has", uuid.escape_debug()),
            Self::Clock(behind) => write!(f, "the host's clock is off by {behind} s (positive: behind)"),
            Self::Impossible { uuid, reading } => {
                write!(f, "card {} reports a {reading} that no card can have", uuid.escape_debug())
            }
            Self::NotFilled { uuid, used, needed } => {
                let uuid = uuid.escape_debug();
                write!(f, "card {uuid} had {used} bytes in use while it computed a challenge of {needed}")
            }
            Self::Idle { uuid, power } => {
                write!(f, "card {} drew {power} mW while it computed a challenge", uuid.escape_debug())
            }
            Self::Uncorrected { uuid, errors } => {
                write!(f, "card {} has {errors} ECC errors that were not corrected", uuid.escape_debug())
            }
            Self::Xid { uuid, codes } => {
                write!(f, "card {} reported driver errors (Xid {codes:?})", uuid.escape_debug())
            }
            Self::Lost(uuid) => write!(f, "card {} does not answer any more", uuid.escape_debug()),
            Self::Shared(uuid) => write!(f, "card {} is a share of a card", uuid.escape_debug()),
        }
    }
}

/// What does not fit in an inspection that was received at `now` (unix seconds).
pub fn findings(claim: &Claim, inspection: &Inspection, now: i64) -> Vec<Finding> {
    let metrics = &inspection.metrics;
    let mut found = Vec::new();
    if metrics.fingerprint != claim.fingerprint {
        found.push(Finding::Fingerprint);
    }
    if !metrics.gpus.is_empty() && Hardware::of_cards(&metrics.gpus).fingerprint() != metrics.fingerprint {
        found.push(Finding::FingerprintOfOtherCards);
    }
    if metrics.gpus.len() != usize::from(claim.gpus) {
        found.push(Finding::Count { registered: claim.gpus, reported: metrics.gpus.len() });
    }
    let behind = now.saturating_sub(metrics.measured_at);
    if behind.unsigned_abs() > CLOCK_TOLERANCE.unsigned_abs() {
        found.push(Finding::Clock(behind));
    }
    let mut uuids: Vec<_> = metrics.gpus.iter().map(|gpu| &gpu.uuid).collect();
    uuids.sort_unstable();
    for pair in uuids.windows(2).filter(|pair| pair[0] == pair[1]) {
        found.push(Finding::Twice(pair[0].clone()));
    }
    for (gpu, details) in inspection.gpus() {
        of_card(claim, gpu, details, &mut found);
    }
    found
}

/// What does not fit in metrics that a host measured while it says that it computed this workload.
pub fn under_load(inspection: &Inspection, workload: &Workload) -> Vec<Finding> {
    let needed = device_memory(&workload.size);
    let mut found = Vec::new();
    for gpu in &inspection.metrics.gpus {
        if gpu.memory_used < needed {
            found.push(Finding::NotFilled { uuid: gpu.uuid.clone(), used: gpu.memory_used, needed });
        }
        if let Some(power) = gpu.power.filter(|power| *power < LEAST_WORKING_POWER) {
            found.push(Finding::Idle { uuid: gpu.uuid.clone(), power });
        }
    }
    found
}

fn of_card(claim: &Claim, gpu: &GpuMetrics, details: &GpuDetails, found: &mut Vec<Finding>) {
    let uuid = || gpu.uuid.clone();
    let codes: Vec<u64> = details.xids.iter().map(|xid| xid.code).collect();
    let off_the_bus = codes.contains(&XID_OFF_THE_BUS);
    if !codes.is_empty() {
        found.push(Finding::Xid { uuid: uuid(), codes });
    }
    if details.lost || off_the_bus {
        found.push(Finding::Lost(uuid()));
        return;
    }
    if gpu.memory_total < claim.minimum_memory - claim.minimum_memory / 1_000 * MEMORY_TOLERANCE {
        found.push(Finding::Memory { uuid: uuid(), reported: gpu.memory_total });
    }
    if gpu.memory_used > gpu.memory_total {
        found.push(Finding::MemoryInUse(uuid()));
    }
    if let Some(errors) = gpu.ecc_uncorrected.filter(|errors| *errors > 0) {
        found.push(Finding::Uncorrected { uuid: uuid(), errors });
    }
    if details.virtualisation == Some(Virtualisation::Vgpu) || gpu.mig == Some(true) {
        found.push(Finding::Shared(uuid()));
    }
    let above = |value: Option<u32>, most: Option<u32>| value.zip(most).is_some_and(|(value, most)| value > most);
    let impossible = [
        ("utilisation", gpu.utilisation.is_some_and(|percent| percent > 100)),
        ("temperature", gpu.temperature.is_some_and(|degrees| degrees > HOTTEST)),
        ("clock", above(gpu.clock, details.clock_max)),
        ("memory clock", above(details.memory_clock, details.memory_clock_max)),
        ("PCIe generation", above(gpu.pcie_generation.map(u32::from), details.pcie_generation_max.map(u32::from))),
        ("PCIe width", above(gpu.pcie_width.map(u32::from), details.pcie_width_max.map(u32::from))),
        ("PCIe width", gpu.pcie_width.is_some_and(|lanes| !lanes.is_power_of_two() && lanes != 12)),
    ];
    for (reading, _) in impossible.iter().filter(|(_, impossible)| *impossible) {
        found.push(Finding::Impossible { uuid: uuid(), reading });
    }
}
