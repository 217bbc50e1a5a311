//! The transaction pipeline: from instructions to a known outcome.
//!
//! 1. Simulate for the compute limit (with a margin); a transaction that fails is refused here, before it costs anything.
//! 2. Sign, write the signature to the pending store, and only then send.
//! 3. Wait: a notification or a poll says that it is confirmed; meanwhile it is sent again now and then.
//! 4. When its blockhash can no longer be used, sign anew with a fresh one, a bounded number of times. A transaction is never
//!    signed anew while the one before may still land, so nothing is done twice.

mod error;
mod pending;
mod settle;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signature::Signature;
use solana_signer::{Signer, signers::Signers};
use solana_transaction::Transaction;
use solana_transaction_error::TransactionError;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

pub use error::SendError;
pub use pending::{DirectoryStore, MemoryStore, Pending, PendingStore, StoreError};
use settle::{Settled, settle};

use crate::{
    Address,
    refusal::Refusal,
    rpc::{Blockhash, Rpc, RpcError},
};

/// Most compute units a transaction may use.
pub const MAX_COMPUTE_UNITS: u32 = 1_400_000;
/// Most bytes of a transaction on the wire.
pub const MAX_TRANSACTION: usize = 1_232;

/// How the pipeline sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Price of a compute unit, micro-lamports; 0 adds no price.
    pub priority_fee: u64,
    /// Added to the simulated compute units, percent.
    pub compute_margin: u32,
    /// How often a transaction is signed anew after its blockhash expired.
    pub resigns: u32,
    /// How long a blockhash is used before a fresh one is fetched.
    pub blockhash_age: Duration,
    /// Pause between two looks at the status when no notification comes.
    pub poll_every: Duration,
    /// Pause between two sends of the same transaction.
    pub resend_every: Duration,
    /// Longest wait for one signed transaction, whatever the node says.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            priority_fee: 0,
            compute_margin: 15,
            resigns: 2,
            blockhash_age: Duration::from_secs(5),
            poll_every: Duration::from_millis(400),
            resend_every: Duration::from_secs(2),
            // 150 blocks at 400 ms are 60 s; twice that is slower than any healthy cluster.
            patience: Duration::from_secs(120),
        }
    }
}

/// A transaction that landed and succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Its signature.
    pub signature: Signature,
    /// The slot it landed in.
    pub slot: u64,
    /// Compute units it used when simulated.
    pub units: u64,
}

/// What became of a transaction that a stopped process left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It landed and succeeded.
    Landed,
    /// It landed and failed.
    Failed(TransactionError),
    /// It can no longer land.
    Expired,
}

/// Sends transactions that one key pays for.
pub struct Pipeline {
    rpc: Arc<dyn Rpc>,
    payer: Arc<Keypair>,
    store: Arc<dyn PendingStore>,
    settings: Settings,
    blockhash: Mutex<Option<(Blockhash, Instant)>>,
}

impl Pipeline {
    /// A pipeline to this node; `payer` pays fees and always signs.
    pub fn new(rpc: Arc<dyn Rpc>, payer: Arc<Keypair>, store: Arc<dyn PendingStore>, settings: Settings) -> Self {
        Self { rpc, payer, store, settings, blockhash: Mutex::new(None) }
    }

    /// The fee payer.
    pub fn payer(&self) -> Address {
        self.payer.pubkey()
    }

    /// The fee payer's key, for instructions that it also signs by name.
    pub fn payer_keypair(&self) -> &Keypair {
        &self.payer
    }

    /// The node.
    pub fn rpc(&self) -> &Arc<dyn Rpc> {
        &self.rpc
    }

    /// Sends instructions as one transaction and waits until it is confirmed. `label` says in messages what it does,
    /// as in "cannot {label}";
    /// `signers` are the keys it needs beyond the payer's (the payer's may be among them).
    ///
    /// # Errors
    /// [`SendError`]; only [`SendError::Unknown`] leaves open whether anything was done.
    pub async fn send(&self, label: &str, instructions: &[Instruction], signers: &[&Keypair]) -> Result<Landed, SendError> {
        let programs: Vec<Address> = self.budgeted(instructions, 0).iter().map(|i| i.program_id).collect();
        let refused = |error, logs| SendError::Refused {
            label: label.to_owned(),
            refusal: Box::new(Refusal::new(error, logs, &programs)),
        };
        let mut attempts = 0;
        let mut blockhash = self.blockhash(false).await?;
        let draft = self.sign(label, instructions, signers, MAX_COMPUTE_UNITS, &blockhash)?;
        let simulation = self.rpc.simulate(&draft).await?;
        if let Err(error) = simulation.outcome {
            return Err(refused(error, simulation.logs));
        }
        let limit = self.limit(simulation.units);
        loop {
            attempts += 1;
            let transaction = self.sign(label, instructions, signers, limit, &blockhash)?;
            let pending = Pending::new(label, &transaction, blockhash.last_valid_block_height);
            let signature = transaction.signatures[0];
            self.stored(move |store| store.put(&pending)).await?;
            let settled = match self.rpc.send(&transaction, true).await {
                Err(RpcError::Preflight { error: TransactionError::BlockhashNotFound, .. }) => Settled::Expired,
                // A response can be lost after the transaction got through: then a repeated send finds it processed.
                Err(RpcError::Preflight { error: TransactionError::AlreadyProcessed, .. }) | Ok(()) => {
                    self.settle(&transaction, blockhash.last_valid_block_height).await
                }
                Err(RpcError::Preflight { error, logs }) => {
                    self.forget(signature).await?;
                    return Err(refused(error, logs));
                }
                // The node may have taken it all the same: find out.
                Err(e) => {
                    tracing::debug!(label, %signature, error = %e, "sending failed; looking whether it landed");
                    self.settle(&transaction, blockhash.last_valid_block_height).await
                }
            };
            match settled {
                Settled::Landed { slot } => {
                    self.forget(signature).await?;
                    return Ok(Landed { signature, slot, units: simulation.units });
                }
                Settled::Failed(error) => {
                    self.forget(signature).await?;
                    let refusal = Box::new(Refusal::new(error, Vec::new(), &programs));
                    return Err(SendError::Failed { label: label.to_owned(), signature, refusal });
                }
                Settled::Expired => {
                    self.forget(signature).await?;
                    if attempts > self.settings.resigns {
                        return Err(SendError::Expired { label: label.to_owned(), attempts });
                    }
                    tracing::debug!(label, %signature, "expired; signing anew");
                    blockhash = self.fresh_blockhash(&blockhash).await?;
                }
                Settled::Unknown { reason } => {
                    return Err(SendError::Unknown { label: label.to_owned(), signature, reason });
                }
            }
        }
    }

    /// Finds out what became of every transaction that a stopped process left in the pending store, sending again those that
    /// may still land. To be called before any new work.
    ///
    /// # Errors
    /// [`SendError::Unknown`] when the node stops answering meanwhile; what is not resolved stays in the store.
    pub async fn resolve_pending(&self) -> Result<Vec<(Pending, Resolved)>, SendError> {
        let mut resolved = Vec::new();
        for pending in self.stored(|store| store.all()).await? {
            let outcome = match self.settle(&pending.transaction, pending.last_valid_block_height).await {
                Settled::Landed { .. } => Resolved::Landed,
                Settled::Failed(error) => Resolved::Failed(error),
                Settled::Expired => Resolved::Expired,
                Settled::Unknown { reason } => {
                    let (label, signature) = (pending.label.clone(), pending.signature());
                    return Err(SendError::Unknown { label, signature, reason });
                }
            };
            self.forget(pending.signature()).await?;
            tracing::info!(label = pending.label, signature = %pending.signature(), ?outcome, "resolved");
            resolved.push((pending, outcome));
        }
        Ok(resolved)
    }

    async fn settle(&self, transaction: &Transaction, last_valid_block_height: u64) -> Settled {
        settle(self.rpc.as_ref(), &self.settings, transaction, last_valid_block_height).await
    }

    /// The store writes to the disk and waits for it: not on the runtime's own threads.
    async fn stored<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn PendingStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || work(store.as_ref())).await {
            Ok(result) => result,
            Err(e) => Err(StoreError::interrupted(&e)),
        }
    }

    async fn forget(&self, signature: Signature) -> Result<(), StoreError> {
        self.stored(move |store| store.remove(&signature)).await
    }

    fn limit(&self, units: u64) -> u32 {
        let margin = units.saturating_mul(u64::from(self.settings.compute_margin)) / 100;
        // The margin in percent of a small transaction is too little for a PDA search that takes some more steps.
        let limit = units.saturating_add(margin.max(3_000));
        u32::try_from(limit).unwrap_or(u32::MAX).min(MAX_COMPUTE_UNITS)
    }

    fn budgeted(&self, instructions: &[Instruction], limit: u32) -> Vec<Instruction> {
        let mut all = vec![ComputeBudgetInstruction::set_compute_unit_limit(limit)];
        if self.settings.priority_fee > 0 {
            all.push(ComputeBudgetInstruction::set_compute_unit_price(self.settings.priority_fee));
        }
        all.extend_from_slice(instructions);
        all
    }

    fn sign(
        &self,
        label: &str,
        instructions: &[Instruction],
        signers: &[&Keypair],
        limit: u32,
        blockhash: &Blockhash,
    ) -> Result<Transaction, SendError> {
        let payer = self.payer.pubkey();
        let message = Message::new_with_blockhash(&self.budgeted(instructions, limit), Some(&payer), &blockhash.hash);
        let mut transaction = Transaction::new_unsigned(message);
        let mut keys: Vec<&dyn Signer> = vec![self.payer.as_ref()];
        // Only those the message asks for: the caller need not know which instruction needs which key.
        let wanted = &transaction.message.account_keys[..usize::from(transaction.message.header.num_required_signatures)];
        for signer in signers {
            let key = signer.pubkey();
            if wanted.contains(&key) && keys.iter().all(|k| k.pubkey() != key) {
                keys.push(*signer);
            }
        }
        transaction
            .try_sign(&SignerList(keys), blockhash.hash)
            .map_err(|e| SendError::Unsigned { label: label.to_owned(), reason: e.to_string() })?;
        // One byte counts the signatures (never more than 127 fit), 64 each, then the message.
        let bytes = 1 + 64 * transaction.signatures.len() + transaction.message.serialize().len();
        if bytes > MAX_TRANSACTION {
            return Err(SendError::TooLarge { label: label.to_owned(), bytes });
        }
        Ok(transaction)
    }

    async fn blockhash(&self, refresh: bool) -> Result<Blockhash, RpcError> {
        let mut cached = self.blockhash.lock().await;
        if let Some((blockhash, fetched)) = *cached
            && !refresh
            && fetched.elapsed() < self.settings.blockhash_age
        {
            return Ok(blockhash);
        }
        let blockhash = self.rpc.latest_blockhash().await?;
        *cached = Some((blockhash, Instant::now()));
        Ok(blockhash)
    }

    /// A blockhash other than the last one: the same one would give the same signature.
    async fn fresh_blockhash(&self, last: &Blockhash) -> Result<Blockhash, RpcError> {
        let until = Instant::now() + self.settings.patience;
        loop {
            let blockhash = self.blockhash(true).await?;
            if blockhash.hash != last.hash || Instant::now() > until {
                return Ok(blockhash);
            }
            sleep(self.settings.poll_every).await;
        }
    }
}

/// Signers of mixed origin, as `Transaction` wants them.
struct SignerList<'a>(Vec<&'a dyn Signer>);

impl Signers for SignerList<'_> {
    fn pubkeys(&self) -> Vec<Address> {
        self.0.iter().map(|s| s.pubkey()).collect()
    }
    fn try_pubkeys(&self) -> Result<Vec<Address>, solana_signer::SignerError> {
        self.0.iter().map(|s| s.try_pubkey()).collect()
    }
    fn sign_message(&self, message: &[u8]) -> Vec<Signature> {
        self.0.iter().map(|s| s.sign_message(message)).collect()
    }
    fn try_sign_message(&self, message: &[u8]) -> Result<Vec<Signature>, solana_signer::SignerError> {
        self.0.iter().map(|s| s.try_sign_message(message)).collect()
    }
    fn is_interactive(&self) -> bool {
        false
    }
}
