//! "Show me what you are made of": everything the driver and the system tell about a host, signed like the metrics.
//!
//! It is the host's own word. Checkers keep it as evidence and compare it (see `datagalax_gpu::uniqueness` and
//! `datagalax_gpu::plausibility`); no score is taken from it.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    Digest, GpuMetrics, Metrics,
    envelope::{Domain, Malformed, Payload},
    liveness::{LivenessAnswer, MAX_GPUS, text},
};

/// Most processes listed of one GPU; the ones that hold most memory.
pub const MAX_PROCESSES: usize = 32;
/// Most driver events listed of one GPU; the latest.
pub const MAX_EVENTS: usize = 16;
/// Most network interfaces listed; the busiest.
pub const MAX_INTERFACES: usize = 16;

/// Asks for an inspection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct InspectionRequest;

impl Payload for InspectionRequest {
    const DOMAIN: Domain = Domain::InspectionRequest;
}

/// The answer to an [`InspectionRequest`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct InspectionAnswer {
    /// [`crate::Envelope::digest`] of the request.
    pub request: Digest,
    /// What the host says of itself.
    pub inspection: Inspection,
}

/// The metrics and all details behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Inspection {
    /// What a liveness probe is answered with.
    pub metrics: Metrics,
    /// Details of the GPUs, in the order of `metrics.gpus`.
    pub details: Vec<GpuDetails>,
    /// The host's network interfaces, without loopback.
    pub interfaces: Vec<Interface>,
}

/// How the operating system that asks sees a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Virtualisation {
    /// On the metal.
    None,
    /// Passed through to a virtual machine whole.
    PassThrough,
    /// A share of a card, inside a virtual machine.
    Vgpu,
    /// The host side of shared cards.
    HostVgpu,
    /// The host side of shared cards by SR-IOV.
    HostVsga,
}

/// What [`GpuMetrics`] has no room for. `None` means that the driver does not report it for this card.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuDetails {
    /// CUDA compute capability, major and minor.
    pub compute_capability: Option<(u8, u8)>,
    /// Multiprocessors' clock limit in MHz.
    pub clock_max: Option<u32>,
    /// Memory clock in MHz.
    pub memory_clock: Option<u32>,
    /// Memory clock limit in MHz.
    pub memory_clock_max: Option<u32>,
    /// Highest PCIe generation of card and slot.
    pub pcie_generation_max: Option<u8>,
    /// Most PCIe lanes of card and slot.
    pub pcie_width_max: Option<u8>,
    /// Place on the bus, as `domain:bus:device.function`.
    pub pcie_address: Option<String>,
    /// Share of time memory was read or written, percent.
    pub memory_utilisation: Option<u8>,
    /// Enforced power limit in milliwatts.
    pub power_limit: Option<u32>,
    /// Whether ECC is on.
    pub ecc: Option<bool>,
    /// ECC errors not corrected in the card's whole life.
    pub ecc_uncorrected_lifetime: Option<u64>,
    /// How the card is virtualised.
    pub virtualisation: Option<Virtualisation>,
    /// Xid errors seen since the agent started, the latest last. 79 is "fallen off the bus".
    pub xids: Vec<Xid>,
    /// Whether the card has stopped answering (then most of the other readings are missing).
    pub lost: bool,
    /// Processes that hold memory of the card.
    pub processes: Vec<GpuProcess>,
}

/// An error that the driver reported about a card (NVIDIA's Xid catalogue).
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Xid {
    /// Its number.
    pub code: u64,
    /// When the agent saw it, unix seconds by the host's clock.
    pub seen_at: i64,
}

/// A process on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Its number on the host.
    pub pid: u32,
    /// Bytes of the card's memory it holds, if the driver tells.
    pub memory: Option<u64>,
    /// Whether it computes (otherwise it draws).
    pub compute: bool,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Bytes received since boot.
    pub received: u64,
    /// Bytes sent since boot.
    pub sent: u64,
    /// Packets in either direction that failed since boot.
    pub errors: u64,
}

impl Payload for InspectionAnswer {
    const DOMAIN: Domain = Domain::InspectionAnswer;

    fn check(&self) -> Result<(), Malformed> {
        self.inspection.check()
    }
}

impl Inspection {
    /// Checks the documented ranges.
    ///
    /// # Errors
    /// [`Malformed::OutOfRange`] with the field.
    pub fn check(&self) -> Result<(), Malformed> {
        LivenessAnswer::check_metrics(&self.metrics)?;
        if self.details.len() > MAX_GPUS || self.details.len() != self.metrics.gpus.len() {
            return Err(Malformed::OutOfRange("details"));
        }
        for details in &self.details {
            text("pcie_address", details.pcie_address.as_deref().unwrap_or_default())?;
            if details.xids.len() > MAX_EVENTS {
                return Err(Malformed::OutOfRange("xids"));
            }
            if details.processes.len() > MAX_PROCESSES {
                return Err(Malformed::OutOfRange("processes"));
            }
        }
        if self.interfaces.len() > MAX_INTERFACES {
            return Err(Malformed::OutOfRange("interfaces"));
        }
        self.interfaces.iter().try_for_each(|interface| text("name", &interface.name))
    }

    /// Each GPU with its details.
    pub fn gpus(&self) -> impl Iterator<Item = (&GpuMetrics, &GpuDetails)> {
        self.metrics.gpus.iter().zip(&self.details)
    }
}
