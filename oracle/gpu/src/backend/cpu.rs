//! A processor as a device.

use std::{num::NonZeroUsize, thread};

use datagalax_protocol::{Digest, WorkSize};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::{Backend, BackendError, filled_memory, working_memory};
use crate::{
    capacity::walk,
    kernel,
    simd::{Isa, Rows},
};

/// All the work on the processor.
#[derive(Debug)]
pub struct Cpu {
    isa: Isa,
    threads: NonZeroUsize,
    loaded: Option<(WorkSize, Rows)>,
    product: Vec<i32>,
    multiplied: bool,
}

impl Cpu {
    /// Works on this many threads with the widest instructions that the processor has.
    pub fn new(threads: NonZeroUsize) -> Self {
        Self::with_isa(Isa::detect(), threads)
    }

    /// Works with these instructions, or with the portable ones if the processor does not have them.
    pub fn with_isa(isa: Isa, threads: NonZeroUsize) -> Self {
        let isa = if Isa::supported().contains(&isa) { isa } else { Isa::Portable };
        Self { isa, threads, loaded: None, product: Vec::new(), multiplied: false }
    }
}

impl Backend for Cpu {
    fn describe(&self) -> String {
        format!("cpu, {} threads, {}", self.threads, self.isa.name())
    }

    fn free_memory(&self) -> Result<u64, BackendError> {
        let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        Ok(System::new_with_specifics(memory).available_memory())
    }

    fn load(&mut self, b_seed: &Digest, size: &WorkSize) -> Result<(), BackendError> {
        let needed = filled_memory(size).saturating_add(working_memory(size, 16 * self.threads.get() as u64));
        let free = self.free_memory()?;
        if needed > free {
            return Err(BackendError::Memory { device: self.describe(), needed, free });
        }
        let columns = kernel::expand_columns(self.isa, b_seed, size, self.threads);
        self.product = vec![0; size.rows as usize * size.columns as usize];
        self.loaded = Some((*size, columns));
        self.multiplied = false;
        Ok(())
    }

    fn multiply(&mut self, a_seed: &Digest) -> Result<Vec<Digest>, BackendError> {
        let (size, columns) = self.loaded.as_ref().ok_or(BackendError::OutOfOrder("multiply"))?;
        let mut digests = vec![[0; 32]; size.rows as usize];
        let share = digests.len().div_ceil(self.threads.get());
        let isa = self.isa;
        thread::scope(|scope| {
            let parts = digests.chunks_mut(share).zip(self.product.chunks_mut(share * size.columns as usize));
            for ((digests, values), first) in parts.zip((0u32..).step_by(share)) {
                scope.spawn(move || kernel::fill(isa, a_seed, size, columns, first, values, digests));
            }
        });
        self.multiplied = true;
        Ok(digests)
    }

    fn walk(&mut self, key: [u64; 2], walkers: u32, steps: u32) -> Result<Vec<u64>, BackendError> {
        if !self.multiplied {
            return Err(BackendError::OutOfOrder("walk"));
        }
        let mut states = vec![0; walkers as usize];
        let share = states.len().div_ceil(self.threads.get()).max(1);
        let product = &self.product;
        thread::scope(|scope| {
            for (states, first) in states.chunks_mut(share).zip((0u32..).step_by(share)) {
                scope.spawn(move || {
                    for (state, walker) in states.iter_mut().zip(first..) {
                        *state = walk::walk(key, walker, steps, product.len() as u64, |cell| product[cell as usize]);
                    }
                });
            }
        });
        Ok(states)
    }

    fn release(&mut self) {
        (self.loaded, self.product, self.multiplied) = (None, Vec::new(), false);
    }
}
