//! What a host has and what it can do: the hardware probe, the hardware fingerprint, and the proof that a container has the
//! GPUs it stakes on. The design and its analysis are in `docs/proof-of-capacity.md`.
//!
//! - [`probe`] reads the machine through sysinfo and its GPUs through NVML, whose library is loaded at run time when a driver
//!   is there; a host without GPUs is of the class `cpu`. Recordings of other machines can be played in its place.
//! - [`fingerprint`] says what a registration is bound to.
//! - [`ask`] says what a beacon asks of a container, which all nodes derive alike from the chain.
//! - [`beacon`] says which slots challenge everybody, with what, and what an epoch's answers come to.
//! - [`capacity`] is that challenge on all devices of a host at once: planning it, computing it, opening and verifying it.
//! - [`backend`] are the devices it runs on; all give the same bits.
//! - [`score`] turns measured work into percent of a class's reference; [`mod@bench`] measures this machine and says which class
//!   it fits and what that would earn.
//! - [`location`] says where a host can be, by the time that light takes.
//! - [`uniqueness`] and [`plausibility`] compare what hosts say of themselves; what they find is evidence, never a verdict.

pub mod ask;
pub mod backend;
pub mod beacon;
pub mod bench;
pub mod capacity;
pub mod fingerprint;
mod kernel;
pub mod location;
mod matrix;
pub mod plausibility;
pub mod probe;
pub mod score;
mod simd;
pub mod uniqueness;

pub use backend::{Backend, BackendError};
pub use fingerprint::{FingerprintError, Hardware};
pub use probe::{HostProbe, Probe, ProbeError, RecordedProbe, Settings};
pub use simd::Isa;
