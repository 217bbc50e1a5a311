//! The transaction pipeline: from instructions to a known outcome.
//!
//! 1. Before the first one, find out what became of those that a stopped process left in the pending store.
//! 2. Simulate for the compute limit (with a margin); a transaction that fails is refused here, before it costs anything.
//! 3. Price a compute unit by what others paid lately for the same accounts, within a floor and a hard maximum.
//! 4. Sign, write the transaction to the pending store, and only then send.
//! 5. Wait: a notification or a poll says that it is confirmed; meanwhile it is sent again now and then.
//! 6. When its blockhash can no longer be used, sign anew with a fresh one at a higher price, a bounded number of times. A
//!    transaction is never signed anew while the one before may still land, so nothing is done twice.
//!
//! An outcome that gets out of sight (the node is away, or the caller dropped the call) is looked for in the background; the same
//! action sent again meanwhile waits for it and takes it for its own.

mod batch;
mod blockhash;
mod error;
mod fees;
mod pending;
mod settle;
#[cfg(test)]
mod tests;
mod unresolved;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_signature::Signature;
use solana_signer::{Signer, signers::Signers};
use solana_transaction::Transaction;
use solana_transaction_error::TransactionError;
use tokio::sync::Mutex;

pub use batch::Action;
use blockhash::{Blockhashes, Signed};
pub use error::SendError;
use fees::{Prices, charged};
pub use pending::{DirectoryStore, MemoryStore, Pending, PendingStore, StoreError};
use settle::{Settled, settle};
use unresolved::{Held, MAX_UNRESOLVED, Open, Unresolved};

use crate::{
    Address,
    refusal::Refusal,
    rpc::{Blockhash, Rpc, RpcError},
};

/// Most compute units a transaction may use.
pub const MAX_COMPUTE_UNITS: u32 = 1_400_000;
/// Most bytes of a transaction on the wire.
pub const MAX_TRANSACTION: usize = 1_232;
/// Left-over transactions that are resolved at the same time.
const RESOLVED_AT_ONCE: usize = 16;

/// How the pipeline sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Least price of a compute unit, micro-lamports. With 0 nothing is paid where nobody else pays: on a local network.
    pub priority_fee: u64,
    /// Most that is ever paid for a compute unit, micro-lamports, whatever others pay and the floor says; 0 asks and pays nothing.
    /// At the default a transaction of the most compute units costs 0.0014 SOL more.
    pub max_priority_fee: u64,
    /// Which of the recent prices is paid: one that this share of the last blocks (percent, 0 to 100) did not exceed.
    pub fee_percentile: u8,
    /// By how much the price rises each time a transaction is signed anew, percent.
    pub fee_rise: u32,
    /// Added to the simulated compute units, percent.
    pub compute_margin: u32,
    /// How often a transaction is signed anew after its blockhash expired.
    pub resigns: u32,
    /// How often a fresh blockhash is fetched in the background.
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
            max_priority_fee: 1_000_000,
            fee_percentile: 75,
            fee_rise: 50,
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
    /// Lamports that the payer was charged: the signatures and the price of the compute units. Of a transaction that several
    /// actions share, this action's part.
    pub fee: u64,
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

/// Sends transactions that one key pays for. Clones are the same pipeline.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
}

struct Inner {
    rpc: Arc<dyn Rpc>,
    payer: Arc<Keypair>,
    store: Arc<dyn PendingStore>,
    settings: Settings,
    blockhashes: Blockhashes,
    prices: Prices,
    signed: Signed,
    unresolved: Unresolved,
    /// Whether what an earlier process left behind is resolved.
    resolved: Mutex<bool>,
}

impl Pipeline {
    /// A pipeline to this node; `payer` pays fees and always signs.
    pub fn new(rpc: Arc<dyn Rpc>, payer: Arc<Keypair>, store: Arc<dyn PendingStore>, settings: Settings) -> Self {
        let inner = Inner {
            blockhashes: Blockhashes::new(rpc.clone(), settings.blockhash_age),
            rpc,
            payer,
            store,
            settings,
            prices: Prices::default(),
            signed: Signed::default(),
            unresolved: Unresolved::default(),
            resolved: Mutex::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The fee payer.
    pub fn payer(&self) -> Address {
        self.inner.payer.pubkey()
    }

    /// The fee payer's key, for instructions that it also signs by name.
    pub fn payer_keypair(&self) -> &Keypair {
        &self.inner.payer
    }

    /// The node.
    pub fn rpc(&self) -> &Arc<dyn Rpc> {
        &self.inner.rpc
    }

    /// Transactions whose outcome this process lost sight of and looks for in the background.
    pub fn unresolved(&self) -> usize {
        self.inner.unresolved.len()
    }

    /// Sends instructions as one transaction and waits until it is confirmed. `label` says in messages what it does,
    /// as in "cannot {label}";
    /// `signers` are the keys it needs beyond the payer's (the payer's may be among them).
    ///
    /// The first send resolves what an earlier process left in the store, if [`Self::resolve_pending`] has not. The same
    /// instructions as those of a transaction whose outcome is still looked for are not sent: that one's outcome is theirs. A call that is
    /// dropped half way leaves its transaction to the background.
    ///
    /// # Errors
    /// [`SendError`]; only [`SendError::Unknown`] leaves open whether anything was done.
    pub async fn send(&self, label: &str, instructions: &[Instruction], signers: &[&Keypair]) -> Result<Landed, SendError> {
        self.inner.ready(label).await?;
        if let Some(landed) = self.inner.adopt(label, instructions).await? {
            return Ok(landed);
        }
        let draft = self.inner.draft(label, instructions, signers).await?;
        self.inner.carry(label, &[instructions], signers, draft).await
    }

    /// Finds out what became of every transaction that a stopped process left in the pending store, sending again those that
    /// may still land. Nothing new is sent before this has succeeded once; calling it gives the outcomes for display.
    ///
    /// # Errors
    /// [`SendError::Unknown`] when the node stops answering meanwhile; what is not resolved stays in the store.
    pub async fn resolve_pending(&self) -> Result<Vec<(Pending, Resolved)>, SendError> {
        self.inner.resolve_pending().await
    }
}

/// A transaction that would succeed.
#[derive(Clone, Copy, Debug)]
struct Draft {
    units: u64,
    price: u64,
}

impl Inner {
    /// Nothing new before what is left over is resolved.
    async fn ready(self: &Arc<Self>, label: &str) -> Result<(), SendError> {
        if !*self.resolved.lock().await
            && let Err(error) = self.resolve_pending().await
        {
            return Err(match error {
                SendError::Unknown { label: left, reason, .. } => {
                    SendError::Unresolved { label: label.to_owned(), left, reason }
                }
                other => other,
            });
        }
        if self.unresolved.len() >= MAX_UNRESOLVED {
            let reason = format!("{MAX_UNRESOLVED} outcomes are looked for already");
            return Err(SendError::Unresolved { label: label.to_owned(), left: "them".to_owned(), reason });
        }
        Ok(())
    }

    async fn resolve_pending(&self) -> Result<Vec<(Pending, Resolved)>, SendError> {
        // Held throughout: whoever comes second finds it done.
        let mut done = self.resolved.lock().await;
        if *done {
            return Ok(Vec::new());
        }
        let left = self.stored(|store| store.all()).await?;
        let settled = stream::iter(left).map(|pending| async move {
            let settled = self.settle(&pending).await;
            (pending, settled)
        });
        let mut settled = settled.buffer_unordered(RESOLVED_AT_ONCE);
        let mut resolved = Vec::new();
        let mut unknown = None;
        while let Some((pending, settled)) = settled.next().await {
            let signature = pending.signature();
            let outcome = match settled {
                Settled::Landed { .. } => Resolved::Landed,
                Settled::Failed(error) => Resolved::Failed(error),
                Settled::Expired => Resolved::Expired,
                Settled::Unknown { reason } => {
                    unknown = Some(SendError::Unknown { label: pending.label, signature, reason });
                    continue;
                }
            };
            // A signature of before the start must not be made again either.
            self.signed.is_new(pending.transaction.message.recent_blockhash, signature);
            self.forget(signature).await;
            tracing::info!(label = pending.label, %signature, ?outcome, "resolved");
            resolved.push((pending, outcome));
        }
        match unknown {
            Some(error) => Err(error),
            None => {
                *done = true;
                Ok(resolved)
            }
        }
    }

    /// The outcome of an action that is just this and whose outcome was lost sight of, when there is one and it landed.
    async fn adopt(&self, label: &str, instructions: &[Instruction]) -> Result<Option<Landed>, SendError> {
        while let Some(open) = self.unresolved.open_that_does(instructions) {
            let signature = open.signature();
            let _turn = open.turn.lock().await;
            // Whoever had the turn before may have found it out.
            if !self.unresolved.is_open(&signature) {
                continue;
            }
            match self.settle(&open.pending).await {
                Settled::Unknown { reason } => {
                    return Err(SendError::Unknown { label: label.to_owned(), signature, reason });
                }
                settled => self.close(&open.pending, &settled).await,
            }
        }
        Ok(self.unresolved.take_landed(instructions))
    }

    /// Notes the outcome of a transaction that was lost sight of.
    async fn close(&self, pending: &Pending, settled: &Settled) {
        let signature = pending.signature();
        if self.unresolved.close(&signature, settled) {
            tracing::info!(label = pending.label, %signature, ?settled, "resolved");
        }
        self.forget(signature).await;
    }

    /// Simulates and prices a transaction.
    async fn draft(&self, label: &str, instructions: &[Instruction], signers: &[&Keypair]) -> Result<Draft, SendError> {
        let blockhash = self.blockhashes.latest().await?;
        let draft = self.sign(label, instructions, signers, MAX_COMPUTE_UNITS, 0, &blockhash)?;
        let simulation = self.rpc.simulate(&draft).await?;
        if let Err(error) = simulation.outcome {
            return Err(refused(label, error, simulation.logs, instructions, 0));
        }
        let price = self.prices.of(self.rpc.as_ref(), &self.settings, writable(&draft.message)).await;
        Ok(Draft { units: simulation.units, price })
    }

    /// Signs, keeps, sends and waits, until there is an outcome. The parts are actions that share the transaction.
    async fn carry(
        self: &Arc<Self>,
        label: &str,
        parts: &[&[Instruction]],
        signers: &[&Keypair],
        draft: Draft,
    ) -> Result<Landed, SendError> {
        let (mut attempts, mut price, units) = (0, draft.price, draft.units);
        let limit = self.limit(units);
        let instructions = parts.concat();
        let mut blockhash = self.blockhashes.latest().await?;
        loop {
            attempts += 1;
            let (transaction, limit) = self.sign_new(label, &instructions, signers, limit, price, &blockhash)?;
            let fee = charged(transaction.signatures.len(), limit, price);
            let signature = transaction.signatures[0];
            let pending = Pending::new(label, &transaction, blockhash.last_valid_block_height);
            let kept = pending.clone();
            // From here on it is never lost sight of, also when the caller goes away while it is being written.
            let held = Held::new(self, Open::parts(&pending, parts, fee, units));
            if let Err(error) = self.stored(move |store| store.put(&kept)).await {
                held.done();
                return Err(error.into());
            }
            let settled = match self.rpc.send(&transaction, true).await {
                Ok(()) => self.settle(&pending).await,
                // A response can be lost after the transaction got through: then a repeated send finds it processed. And a
                // blockhash that one node does not know yet is known to others: it is sent on until its time is over.
                Err(RpcError::Preflight {
                    error: TransactionError::AlreadyProcessed | TransactionError::BlockhashNotFound,
                    ..
                }) => self.settle(&pending).await,
                Err(RpcError::Preflight { error, logs }) => {
                    held.done();
                    self.forget(signature).await;
                    return Err(refused(label, error, logs, &instructions, price));
                }
                // The node may have taken it all the same: find out.
                Err(error) => {
                    tracing::debug!(label, %signature, %error, "sending failed; looking whether it landed");
                    self.settle(&pending).await
                }
            };
            match settled {
                Settled::Landed { slot } => {
                    held.done();
                    self.forget(signature).await;
                    return Ok(Landed { signature, slot, units, fee });
                }
                Settled::Failed(error) => {
                    held.done();
                    self.forget(signature).await;
                    let refusal = Box::new(Refusal::new(error, Vec::new(), &programs(&instructions, price)));
                    return Err(SendError::Failed { label: label.to_owned(), signature, refusal, fee });
                }
                Settled::Expired => {
                    held.done();
                    self.forget(signature).await;
                    if attempts > self.settings.resigns {
                        return Err(SendError::Expired { label: label.to_owned(), attempts });
                    }
                    price = self.settings.risen(price);
                    tracing::debug!(label, %signature, price, "expired; signing anew");
                    blockhash = self.blockhashes.other_than(&blockhash, self.settings.patience).await?;
                }
                // Dropping `held` leaves it to the background.
                Settled::Unknown { reason } => {
                    return Err(SendError::Unknown { label: label.to_owned(), signature, reason });
                }
            }
        }
    }

    async fn settle(&self, pending: &Pending) -> Settled {
        settle(self.rpc.as_ref(), &self.settings, &pending.transaction, pending.last_valid_block_height).await
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

    /// Drops one whose outcome is known from the store. That it cannot be dropped does not change its outcome: it is resolved once more
    /// at the next start.
    async fn forget(&self, signature: Signature) {
        if let Err(error) = self.stored(move |store| store.remove(&signature)).await {
            tracing::warn!(%signature, %error, "a transaction whose outcome is known stays in the pending store");
        }
    }

    /// Whether there is room for this and its margin in one transaction.
    fn fits(&self, units: u64) -> bool {
        self.limit(units) < MAX_COMPUTE_UNITS
    }

    fn limit(&self, units: u64) -> u32 {
        let margin = units.saturating_mul(u64::from(self.settings.compute_margin)) / 100;
        // The margin in percent of a small transaction is too little for a PDA search that takes some more steps.
        let limit = units.saturating_add(margin.max(3_000));
        u32::try_from(limit).unwrap_or(u32::MAX).min(MAX_COMPUTE_UNITS)
    }

    /// Signs so that the signature is new: the same action sent twice within one blockhash is two transactions. The compute limit, one
    /// more or less of which means nothing, makes the difference.
    fn sign_new(
        &self,
        label: &str,
        instructions: &[Instruction],
        signers: &[&Keypair],
        limit: u32,
        price: u64,
        blockhash: &Blockhash,
    ) -> Result<(Transaction, u32), SendError> {
        let mut limit = limit;
        loop {
            let transaction = self.sign(label, instructions, signers, limit, price, blockhash)?;
            if self.signed.is_new(blockhash.hash, transaction.signatures[0]) {
                return Ok((transaction, limit));
            }
            // At the very top there is only down, and there the margin is.
            limit = if limit < MAX_COMPUTE_UNITS { limit + 1 } else { limit.saturating_sub(10_000) };
        }
    }

    fn sign(
        &self,
        label: &str,
        instructions: &[Instruction],
        signers: &[&Keypair],
        limit: u32,
        price: u64,
        blockhash: &Blockhash,
    ) -> Result<Transaction, SendError> {
        let payer = self.payer.pubkey();
        let message = Message::new_with_blockhash(&budgeted(instructions, limit, price), Some(&payer), &blockhash.hash);
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
        let bytes = wire_bytes(&transaction.message);
        if bytes > MAX_TRANSACTION {
            return Err(SendError::TooLarge { label: label.to_owned(), bytes });
        }
        Ok(transaction)
    }
}

fn budgeted(instructions: &[Instruction], limit: u32, price: u64) -> Vec<Instruction> {
    let mut all = vec![ComputeBudgetInstruction::set_compute_unit_limit(limit)];
    if price > 0 {
        all.push(ComputeBudgetInstruction::set_compute_unit_price(price));
    }
    all.extend_from_slice(instructions);
    all
}

/// Bytes of a transaction with this message.
fn wire_bytes(message: &Message) -> usize {
    // One byte counts the signatures (never more than 127 fit), 64 each, then the message.
    1 + 64 * usize::from(message.header.num_required_signatures) + message.serialize().len()
}

/// Bytes of a transaction of these instructions that `payer` pays for, with all that the pipeline adds: to know before how much fits
/// into [`MAX_TRANSACTION`].
pub fn transaction_bytes(payer: &Address, instructions: &[Instruction]) -> usize {
    wire_bytes(&Message::new(&budgeted(instructions, MAX_COMPUTE_UNITS, 1), Some(payer)))
}

/// The accounts that a transaction locks for writing.
fn writable(message: &Message) -> Vec<Address> {
    let is_writable = |&(i, _): &(usize, &Address)| message.is_maybe_writable(i, None);
    message.account_keys.iter().enumerate().filter(is_writable).map(|(_, key)| *key).collect()
}

/// The programs that are called, one an instruction, the budget's before the others: an error's index counts them too.
fn programs(instructions: &[Instruction], price: u64) -> Vec<Address> {
    budgeted(instructions, 0, price).iter().map(|i| i.program_id).collect()
}

fn refused(label: &str, error: TransactionError, logs: Vec<String>, instructions: &[Instruction], price: u64) -> SendError {
    let refusal = Box::new(Refusal::new(error, logs, &programs(instructions, price)));
    SendError::Refused { label: label.to_owned(), refusal }
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
