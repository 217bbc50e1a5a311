//! The definition, word for word.

use datagalax_protocol::{Digest, WorkSize};

use super::{Backend, BackendError};
use crate::{
    capacity::walk,
    kernel::row_digest,
    matrix::{Factor, Stream, dot},
};

/// Computes a workload one multiplication after the other. For tests: every other backend must give its bits.
#[derive(Debug, Default)]
pub struct Reference {
    loaded: Option<(Digest, WorkSize)>,
    product: Vec<i32>,
}

impl Backend for Reference {
    fn describe(&self) -> String {
        "reference".into()
    }

    fn free_memory(&self) -> Result<u64, BackendError> {
        Ok(1 << 30)
    }

    fn load(&mut self, b_seed: &Digest, size: &WorkSize) -> Result<(), BackendError> {
        self.loaded = Some((*b_seed, *size));
        Ok(())
    }

    fn multiply(&mut self, a_seed: &Digest) -> Result<Vec<Digest>, BackendError> {
        let (b_seed, size) = self.loaded.ok_or(BackendError::OutOfOrder("multiply"))?;
        let (a, b) = (Stream::new(a_seed, Factor::A), Stream::new(&b_seed, Factor::B));
        let row_of = |stream: &Stream, index| {
            let mut row = vec![0i8; size.inner as usize];
            stream.fill(index, &mut row);
            row
        };
        self.product.clear();
        for row in (0..size.rows).map(|i| row_of(&a, i)) {
            self.product.extend((0..size.columns).map(|j| dot(&row, &row_of(&b, j))));
        }
        let rows = self.product.chunks(size.columns as usize).zip(0u32..);
        Ok(rows.map(|(values, index)| row_digest(a_seed, &size, index, values)).collect())
    }

    fn walk(&mut self, key: [u64; 2], walkers: u32, steps: u32) -> Result<Vec<u64>, BackendError> {
        if self.product.is_empty() {
            return Err(BackendError::OutOfOrder("walk"));
        }
        let cells = self.product.len() as u64;
        Ok((0..walkers).map(|walker| walk::walk(key, walker, steps, cells, |cell| self.product[cell as usize])).collect())
    }

    fn release(&mut self) {
        *self = Self::default();
    }
}
