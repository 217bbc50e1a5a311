//! Answers capacity challenges: one at a time, a bounded number of each key, and the last product of each kept for opening.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use datagalax_gpu::{Bounds, ChallengeError, Product};
use datagalax_protocol::{CapacityRequest, Digest, OpenRequest, OpenedRow};
use solana_pubkey::Pubkey;
use thiserror::Error;
use tokio::sync::Semaphore;

/// Most challenges that one key may ask in one epoch. A checker asks one; the rest are retries.
pub const CHALLENGES_PER_EPOCH: u32 = 8;

/// Why a challenge or an opening is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProveError {
    /// Another challenge is being computed.
    #[error("another challenge is being computed: ask again in a moment")]
    Busy,
    /// The key asked too many.
    #[error("more than {CHALLENGES_PER_EPOCH} challenges of this key in this epoch")]
    TooMany,
    /// The challenge is larger than this host allows.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    /// No product with this root was computed for this key, or a later one took its place.
    #[error("no product with this root is kept for this key")]
    UnknownRoot,
    /// A row outside the product.
    #[error("a row is outside the product")]
    UnknownRow,
    /// The computation panicked or the process is ending.
    #[error("the computation was cut off")]
    Cut,
}

/// Computes products and opens them.
pub struct Prover {
    bounds: Bounds,
    threads: NonZeroUsize,
    turn: Arc<Semaphore>,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    epoch: u32,
    /// Per key of the epoch's committee: challenges asked, and the last product.
    keys: HashMap<Pubkey, (u32, Option<Arc<Product>>)>,
}

/// A commitment and how long it took.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// The root.
    pub root: Digest,
    /// From the start of the computation to the root.
    pub elapsed: Duration,
}

impl Prover {
    /// Computes on this many threads, within these bounds.
    pub fn new(bounds: Bounds, threads: NonZeroUsize) -> Self {
        Self { bounds, threads, turn: Arc::new(Semaphore::new(1)), record: Mutex::default() }
    }

    /// Computes the product of a challenge. `signer` must have been admitted for `epoch`.
    ///
    /// # Errors
    /// Why it is not computed.
    pub async fn prove(&self, epoch: u32, signer: Pubkey, request: &CapacityRequest) -> Result<Committed, ProveError> {
        self.bounds.check(&request.size)?;
        // The turn goes with the computation, not with the connection: one that was given up still computes.
        let turn = self.turn.clone().try_acquire_owned().map_err(|_| ProveError::Busy)?;
        {
            let mut record = self.record(epoch);
            let (asked, _) = record.keys.entry(signer).or_default();
            if *asked >= CHALLENGES_PER_EPOCH {
                return Err(ProveError::TooMany);
            }
            *asked += 1;
        }
        let (request, threads, bounds) = (*request, self.threads, self.bounds);
        let computed = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            let product = Product::compute(&request.seed, &request.size, threads, &bounds);
            drop(turn);
            product.map(|product| (product, start.elapsed()))
        });
        let (product, elapsed) = computed.await.map_err(|_| ProveError::Cut)??;
        let root = product.root();
        if let Some((_, kept)) = self.record(epoch).keys.get_mut(&signer) {
            *kept = Some(Arc::new(product));
        }
        Ok(Committed { root, elapsed })
    }

    /// Opens rows of the last product computed for this key in this epoch.
    ///
    /// # Errors
    /// The product is not kept, or a row is outside.
    pub fn open(&self, epoch: u32, signer: Pubkey, request: &OpenRequest) -> Result<Vec<OpenedRow>, ProveError> {
        let kept = self.record(epoch).keys.get(&signer).and_then(|(_, product)| product.clone());
        let product = kept.filter(|product| product.root() == request.root).ok_or(ProveError::UnknownRoot)?;
        product.open(&request.rows).ok_or(ProveError::UnknownRow)
    }

    fn record(&self, epoch: u32) -> MutexGuard<'_, Record> {
        // No code that holds the lock can leave the record half-changed.
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if record.epoch != epoch {
            *record = Record { epoch, keys: HashMap::new() };
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use datagalax_protocol::WorkSize;

    use super::*;

    const KEY: Pubkey = Pubkey::new_from_array([1; 32]);

    fn prover() -> Prover {
        Prover::new(Bounds::default(), NonZeroUsize::MIN)
    }

    fn request(rows: u32) -> CapacityRequest {
        CapacityRequest { seed: [3; 32], size: WorkSize { rows, inner: 8, columns: 8 }, deadline_ms: 1_000 }
    }

    #[tokio::test]
    async fn a_product_is_opened_by_whom_it_was_computed_for() {
        let prover = prover();
        let root = prover.prove(4, KEY, &request(5)).await.unwrap().root;
        let open = |epoch, key, root, rows: &[u32]| prover.open(epoch, key, &OpenRequest { root, rows: rows.to_vec() });
        assert_eq!(open(4, KEY, root, &[0, 4]).unwrap().len(), 2);
        assert_eq!(open(4, KEY, root, &[5]), Err(ProveError::UnknownRow));
        assert_eq!(open(4, KEY, [0; 32], &[0]), Err(ProveError::UnknownRoot));
        assert_eq!(open(4, Pubkey::default(), root, &[0]), Err(ProveError::UnknownRoot));
        assert_eq!(open(5, KEY, root, &[0]), Err(ProveError::UnknownRoot), "forgotten with the epoch");
    }

    #[tokio::test]
    async fn one_at_a_time_and_a_few_an_epoch() {
        let prover = prover();
        let turn = prover.turn.clone().try_acquire_owned().unwrap();
        assert_eq!(prover.prove(4, KEY, &request(1)).await.unwrap_err(), ProveError::Busy);
        drop(turn);
        for _ in 0..CHALLENGES_PER_EPOCH {
            prover.prove(4, KEY, &request(1)).await.unwrap();
        }
        assert_eq!(prover.prove(4, KEY, &request(1)).await.unwrap_err(), ProveError::TooMany);
        prover.prove(5, KEY, &request(1)).await.unwrap();
    }

    #[tokio::test]
    async fn too_much_work_is_refused_before_it_takes_the_turn() {
        let refused = prover().prove(4, KEY, &request(u32::MAX)).await.unwrap_err();
        assert!(matches!(refused, ProveError::Challenge(ChallengeError::TooMuchWork { .. })), "{refused}");
    }
}
