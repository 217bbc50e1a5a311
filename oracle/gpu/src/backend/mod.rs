//! Devices that compute a workload. All give the same bits.
//!
//! | backend | what for |
//! |---|---|
//! | [`Reference`] | the definition, one multiplication after the other; for tests |
//! | [`Cpu`] | hosts of the class `cpu`: all threads, the widest instructions |
//! | [`Cuda`] | NVIDIA cards: driver and run-time compiler are looked for when the program runs |

mod cpu;
mod cuda;
mod reference;

use std::num::NonZeroUsize;

use datagalax_protocol::{Digest, WorkSize};
use thiserror::Error;

pub use cpu::Cpu;
pub use cuda::Cuda;
pub use reference::Reference;

/// One device.
///
/// The calls come in the order `load`, then `multiply` and at the end perhaps `walk`, then `release`; a call out of order is
/// [`BackendError::OutOfOrder`]. Sizes were checked against the host's limits by the caller.
pub trait Backend: Send {
    /// What it is, for people.
    fn describe(&self) -> String;

    /// Bytes of its memory that a workload can have now.
    ///
    /// # Errors
    /// The device does not answer.
    fn free_memory(&self) -> Result<u64, BackendError>;

    /// Takes the memory for products of this size and expands the right matrix.
    ///
    /// # Errors
    /// The device has too little memory or does not work.
    fn load(&mut self, b_seed: &Digest, size: &WorkSize) -> Result<(), BackendError>;

    /// Computes the product with the left matrix of this seed in place of the one before, keeps it, and returns the digests of
    /// its rows in order.
    ///
    /// # Errors
    /// The device does not work.
    fn multiply(&mut self, a_seed: &Digest) -> Result<Vec<Digest>, BackendError>;

    /// Walks over the kept product (see [`crate::capacity`]) and returns the walkers' last states in order.
    ///
    /// # Errors
    /// The device does not work.
    fn walk(&mut self, key: [u64; 2], walkers: u32, steps: u32) -> Result<Vec<u64>, BackendError>;

    /// Gives the memory back. Does nothing on a device that holds none.
    fn release(&mut self);
}

/// Why a device did not compute.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackendError {
    /// Not enough memory.
    #[error("{device} has {free} bytes free, the work takes {needed}")]
    Memory {
        /// Which device.
        device: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The driver or the card refused; with the driver's words.
    #[error("{device}: {reason}")]
    Device {
        /// Which device.
        device: String,
        /// Why.
        reason: String,
    },
    /// A multiplication without matrices or a walk without a product: a bug of the caller.
    #[error("the device was asked to {0} before it was ready")]
    OutOfOrder(&'static str),
}

/// The devices that this host computes with: all its NVIDIA cards, or its processor on `threads` threads when it has none or
/// `gpus` is false.
///
/// # Errors
/// There are cards and one of them does not work: an operator must know, rather than fall back to the processor.
pub fn open_all(gpus: bool, threads: NonZeroUsize) -> Result<Vec<Box<dyn Backend>>, BackendError> {
    let cards = if gpus { Cuda::open_all()? } else { Vec::new() };
    if cards.is_empty() {
        return Ok(vec![Box::new(Cpu::new(threads))]);
    }
    Ok(cards.into_iter().map(|card| Box::new(card) as Box<dyn Backend>).collect())
}

/// Bytes of device memory that a product of this size takes on top of its values: the right matrix, digests and, where a
/// device expands the left matrix a panel at a time, that panel of `panel` rows.
pub(crate) fn working_memory(size: &WorkSize, panel: u64) -> u64 {
    let WorkSize { rows, inner, columns } = *size;
    let pitch = u64::from(inner).next_multiple_of(64);
    let b = pitch.saturating_mul(u64::from(columns).saturating_add(256));
    b.saturating_add(32 * u64::from(rows)).saturating_add(pitch.saturating_mul(panel))
}

/// Bytes of the values of a product: what a workload fills.
pub(crate) fn filled_memory(size: &WorkSize) -> u64 {
    4u64.saturating_mul(u64::from(size.rows)).saturating_mul(u64::from(size.columns))
}
