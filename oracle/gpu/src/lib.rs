//! What a host has and what it can do: the hardware probe, the hardware fingerprint and the capacity challenge.
//!
//! - [`probe::HostProbe`] reads the machine through sysinfo and its GPUs through NVML, whose library is loaded at run time
//!   when a driver is there. A host without GPUs is of the class `cpu`.
//! - [`fingerprint`] says what a registration is bound to.
//! - [`challenge`] expands two matrices from a seed, multiplies them, commits to the rows and opens them; it also checks
//!   opened rows by computing them again.
//! - [`score`] turns measured work into percent of a class's reference.

pub mod challenge;
pub mod fingerprint;
mod matrix;
mod nvml;
pub mod probe;
pub mod score;

pub use challenge::{Bounds, ChallengeError, OpenError, Product};
pub use fingerprint::{FingerprintError, Hardware};
pub use probe::{HostProbe, Probe, ProbeError, Settings};
