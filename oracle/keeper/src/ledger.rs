//! The books on disk, and what makes sure that a transaction is in them before it is sent.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use datagalax_client::{
    pipeline::{Pending, PendingStore, StoreError as PendingError},
    rpc::{Rpc, RpcError},
};
use datagalax_service::store::{
    Schema, Store, StoreError,
    rusqlite::{self, Connection, OpenFlags, Row, named_params, types::Type},
};
use futures_util::{FutureExt, future::BoxFuture};
use solana_signature::Signature;
use solana_transaction::Transaction;
use tokio::runtime::Handle;

use crate::{
    books::{Books, BooksError, Entry, Fate, Sum, Sums},
    decide::Kind,
};

/// The file's name in the state folder, without its ending.
const NAME: &str = "keeper";
const SCHEMA: Schema = Schema {
    daemon: "datagalax-keeper",
    steps: &["CREATE TABLE transactions (
            signature BLOB PRIMARY KEY, kind TEXT NOT NULL, actions INTEGER NOT NULL, epoch INTEGER NOT NULL,
            at INTEGER NOT NULL, fee INTEGER NOT NULL, pay INTEGER NOT NULL, fate TEXT NOT NULL
        ) WITHOUT ROWID, STRICT;
        CREATE INDEX transactions_at ON transactions (at);
        CREATE INDEX transactions_fate ON transactions (fate) WHERE fate = 'open';
        CREATE TABLE sums (
            epoch INTEGER NOT NULL, kind TEXT NOT NULL, done INTEGER NOT NULL, wasted INTEGER NOT NULL,
            transactions INTEGER NOT NULL, fees INTEGER NOT NULL, fees_wasted INTEGER NOT NULL, pay INTEGER NOT NULL,
            PRIMARY KEY (epoch, kind)
        ) WITHOUT ROWID, STRICT;"],
};
/// Every transaction as a line of sums.
const LINES: &str = "SELECT epoch, kind,
        iif(fate = 'done', actions, 0) AS done, iif(fate = 'wasted', actions, 0) AS wasted, 1 AS transactions,
        fee AS fees, iif(fate = 'wasted', fee, 0) AS fees_wasted, iif(fate = 'done', pay, 0) AS pay, at
    FROM transactions WHERE fate IN ('done', 'wasted')";
/// Those lines added up by epoch and kind.
const ADDED: &str = "sum(done), sum(wasted), sum(transactions), sum(fees), sum(fees_wasted), sum(pay)";
/// For how long transactions are kept one by one, seconds; then only their sums are.
const KEPT: i64 = 30 * 86_400;

/// The books in SQLite. A single transaction each, sums by epoch and kind for ever.
#[derive(Clone)]
pub struct Ledger(Store);

impl Ledger {
    /// Opens the books of a state folder, creating them when they are missing. One process at a time may.
    ///
    /// # Errors
    /// [`StoreError`], each by name.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Ok(Self(Store::open(folder, NAME, SCHEMA)?))
    }

    /// The file of a state folder.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join(format!("{NAME}.sqlite"))
    }

    /// Sums of the epochs from `first` on, beside the keeper that has the books open.
    ///
    /// # Errors
    /// There is no such file, or it is not a keeper's.
    pub fn peek(folder: &Path, first: u32) -> rusqlite::Result<Sums> {
        let connection = Connection::open_with_flags(Self::path(folder), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        sums(&connection, first)
    }

    /// Adds up what is older than thirty days, so that the file does not grow for ever.
    ///
    /// # Errors
    /// The disk.
    pub async fn fold(&self, now: i64) -> Result<(), StoreError> {
        let before = now.saturating_sub(KEPT);
        let work = move |t: &rusqlite::Transaction<'_>| {
            // Only whole epochs: the epoch that the limit is in is left.
            let last = "(SELECT coalesce(min(epoch), 0) FROM transactions WHERE at >= :before)";
            t.execute(
                &format!(
                    "INSERT INTO sums SELECT epoch, kind, {ADDED} FROM ({LINES}) WHERE at < :before AND epoch < {last}
                     GROUP BY epoch, kind
                     ON CONFLICT (epoch, kind) DO UPDATE SET done = done + excluded.done, wasted = wasted + excluded.wasted,
                     transactions = transactions + excluded.transactions, fees = fees + excluded.fees,
                     fees_wasted = fees_wasted + excluded.fees_wasted, pay = pay + excluded.pay"
                ),
                named_params! { ":before": before },
            )?;
            t.execute(
                &format!("DELETE FROM transactions WHERE at < :before AND epoch < {last} AND fate <> 'open'"),
                named_params! { ":before": before },
            )?;
            Ok(())
        };
        self.0.write(work).await
    }
}

fn sums(connection: &Connection, first: u32) -> rusqlite::Result<Sums> {
    let mut query = connection.prepare(&format!(
        "SELECT epoch, kind, {ADDED} FROM (
            SELECT epoch, kind, done, wasted, transactions, fees, fees_wasted, pay FROM ({LINES}) WHERE epoch >= :first
            UNION ALL
            SELECT epoch, kind, done, wasted, transactions, fees, fees_wasted, pay FROM sums WHERE epoch >= :first
         ) GROUP BY epoch, kind"
    ))?;
    let line = |row: &Row<'_>| {
        let sum = Sum {
            done: row.get(2)?,
            wasted: row.get(3)?,
            transactions: row.get(4)?,
            fees: row.get(5)?,
            fees_wasted: row.get(6)?,
            pay: row.get(7)?,
        };
        Ok(((row.get(0)?, kind(row, 1)?), sum))
    };
    query.query_map(named_params! { ":first": first }, line)?.collect()
}

fn unknown(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, format!("`{what}` is of a newer keeper").into())
}

fn kind(row: &Row<'_>, column: usize) -> rusqlite::Result<Kind> {
    let name: String = row.get(column)?;
    Kind::named(&name).ok_or_else(|| unknown(column, &name))
}

const fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Open => "open",
        Fate::Done => "done",
        Fate::Wasted => "wasted",
        Fate::Expired => "expired",
    }
}

fn boxed(error: StoreError) -> BooksError {
    Box::new(error)
}

impl Books for Ledger {
    fn write(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), BooksError>> {
        async move {
            if entries.is_empty() {
                return Ok(());
            }
            let work = move |t: &rusqlite::Transaction<'_>| {
                // A fate that is known is not forgotten again: what was opened late, or asked for twice, changes nothing.
                let mut insert = t.prepare_cached(
                    "INSERT INTO transactions VALUES (:signature, :kind, :actions, :epoch, :at, :fee, :pay, :fate)
                     ON CONFLICT (signature) DO UPDATE SET pay = excluded.pay, fate = excluded.fate WHERE fate = 'open'",
                )?;
                for entry in &entries {
                    insert.execute(named_params! {
                        ":signature": entry.signature.as_array().as_slice(),
                        ":kind": entry.kind.name(),
                        ":actions": entry.actions,
                        ":epoch": entry.epoch,
                        ":at": entry.at,
                        ":fee": entry.fee,
                        ":pay": entry.pay,
                        ":fate": fate_name(entry.fate),
                    })?;
                }
                Ok(())
            };
            self.0.write(work).await.map_err(boxed)
        }
        .boxed()
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<Entry>, BooksError>> {
        let work = |t: &rusqlite::Transaction<'_>| {
            let mut query = t.prepare(
                "SELECT signature, kind, actions, epoch, at, fee, pay FROM transactions WHERE fate = 'open' ORDER BY at LIMIT 1000",
            )?;
            let entry = |row: &Row<'_>| {
                let bytes: Vec<u8> = row.get(0)?;
                Ok(Entry {
                    signature: Signature::try_from(bytes).map_err(|_| unknown(0, "signature"))?,
                    kind: kind(row, 1)?,
                    actions: row.get(2)?,
                    epoch: row.get(3)?,
                    at: row.get(4)?,
                    fee: row.get(5)?,
                    pay: row.get(6)?,
                    fate: Fate::Open,
                })
            };
            query.query_map([], entry)?.collect::<rusqlite::Result<Vec<Entry>>>()
        };
        async move { self.0.read(work).await.map_err(boxed) }.boxed()
    }

    fn spent_since(&self, time: i64) -> BoxFuture<'_, Result<u64, BooksError>> {
        let work = move |t: &rusqlite::Transaction<'_>| {
            let query = "SELECT coalesce(sum(fee), 0) FROM transactions WHERE at >= ?1 AND fate <> 'expired'";
            t.query_row(query, [time], |row| row.get(0))
        };
        async move { self.0.read(work).await.map_err(boxed) }.boxed()
    }

    fn sums(&self, first: u32) -> BoxFuture<'_, Result<Sums, BooksError>> {
        async move { self.0.read(move |t| sums(t, first)).await.map_err(boxed) }.boxed()
    }
}

/// What a transaction costs once it lands, lamports: its signatures, and the compute units that it asks for at its price.
pub fn cost(transaction: &Transaction) -> u64 {
    const SIGNATURE: u64 = 5_000;
    let message = &transaction.message;
    let budget = |tag: u8| {
        let program = |i: u8| message.account_keys.get(usize::from(i)) == Some(&solana_compute_budget_interface::ID);
        let data = message.instructions.iter().filter(|i| program(i.program_id_index)).map(|i| i.data.split_first());
        data.flatten().find(|(first, _)| **first == tag).map(|(_, data)| data)
    };
    let limit = budget(2).and_then(|data| data.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let price = budget(3).and_then(|data| data.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let priority = u64::try_from((u128::from(limit) * u128::from(price)).div_ceil(1_000_000)).unwrap_or(u64::MAX);
    (SIGNATURE * u64::from(message.header.num_required_signatures)).saturating_add(priority)
}

/// What is about to be sent, by the label of its transactions.
#[derive(Clone, Copy, Debug)]
pub struct Intent {
    /// The kind of its actions.
    pub kind: Kind,
    /// How many there are.
    pub actions: u32,
    /// The epoch, by the chain's clock.
    pub epoch: u32,
    /// The chain's time, seconds.
    pub at: i64,
}

/// A pending store that opens an entry in the books before it keeps a transaction, so before it is sent.
pub struct Recorder {
    pending: Arc<dyn PendingStore>,
    books: Arc<dyn Books>,
    intents: Mutex<HashMap<String, Intent>>,
}

impl Recorder {
    /// Before this store, into these books.
    pub fn new(pending: Arc<dyn PendingStore>, books: Arc<dyn Books>) -> Self {
        Self { pending, books, intents: Mutex::default() }
    }

    fn intents(&self) -> MutexGuard<'_, HashMap<String, Intent>> {
        self.intents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what transactions with this label are for, until [`Self::settled`].
    pub fn intend(&self, label: &str, intent: Intent) {
        self.intents().insert(label.to_owned(), intent);
    }

    /// The fate of what had this label is known, or the pipeline gave up.
    pub fn settled(&self, label: &str) {
        self.intents().remove(label);
    }
}

impl PendingStore for Recorder {
    fn put(&self, pending: &Pending) -> Result<(), PendingError> {
        let intent = self.intents().get(&pending.label).copied();
        if let Some(Intent { kind, actions, epoch, at }) = intent {
            let (signature, fee) = (pending.signature(), cost(&pending.transaction));
            let entry = Entry { signature, kind, actions, epoch, at, fee, pay: 0, fate: Fate::Open };
            // The pipeline calls this where it may block. Books that cannot be written are no reason to let an epoch pass.
            if let Err(e) = Handle::current().block_on(self.books.write(vec![entry])) {
                tracing::warn!("the books could not be written, so that the report may lack {signature}: {e}");
            }
        }
        self.pending.put(pending)
    }

    fn remove(&self, signature: &Signature) -> Result<(), PendingError> {
        self.pending.remove(signature)
    }

    fn all(&self) -> Result<Vec<Pending>, PendingError> {
        self.pending.all()
    }
}

/// Asks the chain what became of transactions that are open in the books and were sent before a time, and writes it down. To be
/// called when nothing pending of that age is left: what no node knows then, cannot land any more.
///
/// # Errors
/// The node or the disk.
pub async fn reconcile(rpc: &dyn Rpc, books: &dyn Books, before: i64) -> Result<usize, BooksError> {
    let open: Vec<Entry> = books.open().await?.into_iter().filter(|entry| entry.at < before).collect();
    let mut settled = Vec::new();
    for part in open.chunks(100) {
        let signatures: Vec<Signature> = part.iter().map(|entry| entry.signature).collect();
        let statuses = rpc.statuses(&signatures).await.map_err(|e: RpcError| Box::new(e) as BooksError)?;
        for (entry, status) in part.iter().zip(statuses) {
            let fate = match status {
                None => Fate::Expired,
                Some(status) if !status.confirmed => continue,
                Some(status) if status.outcome.is_ok() => Fate::Done,
                Some(_) => Fate::Wasted,
            };
            settled.push(Entry { fate, ..*entry });
        }
    }
    let count = settled.len();
    books.write(settled).await?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use datagalax_client::pipeline::MemoryStore;
    use solana_compute_budget_interface::ComputeBudgetInstruction;
    use solana_keypair::Keypair;
    use solana_signer::Signer;

    use super::*;

    fn entry(i: u8, at: i64, fate: Fate) -> Entry {
        let (signature, epoch) = (Signature::from([i; 64]), u32::try_from(at / 60).unwrap());
        Entry { signature, kind: Kind::Tally, actions: 3, epoch, at, fee: 5_000, pay: 300, fate }
    }

    #[tokio::test]
    async fn the_books_survive_and_a_known_fate_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).unwrap();
        ledger.write(vec![entry(1, 600, Fate::Open), entry(2, 600, Fate::Open), entry(3, 660, Fate::Open)]).await.unwrap();
        assert_eq!(ledger.spent_since(0).await.unwrap(), 15_000, "what may land counts");
        ledger
            .write(vec![entry(1, 600, Fate::Done), entry(2, 600, Fate::Wasted), entry(3, 660, Fate::Expired)])
            .await
            .unwrap();
        ledger.write(vec![entry(1, 600, Fate::Open), entry(1, 600, Fate::Expired)]).await.unwrap();
        drop(ledger);
        let ledger = Ledger::open(folder.path()).unwrap();
        assert_eq!(ledger.open().await.unwrap(), []);
        assert_eq!((ledger.spent_since(600).await.unwrap(), ledger.spent_since(601).await.unwrap()), (10_000, 0));
        let sum = Sum { done: 3, wasted: 3, transactions: 2, fees: 10_000, fees_wasted: 5_000, pay: 300 };
        assert_eq!(ledger.sums(0).await.unwrap(), Sums::from([((10, Kind::Tally), sum)]));
        // Beside the keeper that has it open.
        assert_eq!(Ledger::peek(folder.path(), 0).unwrap(), Sums::from([((10, Kind::Tally), sum)]));
        assert_eq!(Ledger::peek(folder.path(), 11).unwrap(), Sums::new());
        drop(ledger);
        assert_eq!(Ledger::peek(folder.path(), 0).unwrap(), Sums::from([((10, Kind::Tally), sum)]), "and after it");
    }

    #[tokio::test]
    async fn old_transactions_become_sums_and_no_sum_changes() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path()).unwrap();
        let old: Vec<Entry> = (0..100).map(|i| entry(i, 60 * i64::from(i), Fate::Done)).collect();
        ledger.write(old).await.unwrap();
        let before = ledger.sums(0).await.unwrap();
        for now in [KEPT + 60 * 50, KEPT + 60 * 50, KEPT + 60 * 70 + 1] {
            ledger.fold(now).await.unwrap();
            assert_eq!(ledger.sums(0).await.unwrap(), before);
        }
        let left = ledger.0.read(|t| t.query_row("SELECT count(*) FROM transactions", [], |row| row.get::<_, u64>(0)));
        assert_eq!(left.await.unwrap(), 29);
    }

    fn transaction(price: Option<u64>) -> Transaction {
        let payer = Keypair::new();
        let mut instructions = vec![ComputeBudgetInstruction::set_compute_unit_limit(200_000)];
        instructions.extend(price.map(ComputeBudgetInstruction::set_compute_unit_price));
        Transaction::new_signed_with_payer(&instructions, Some(&payer.pubkey()), &[&payer], Default::default())
    }

    #[test]
    fn the_cost_is_read_from_the_transaction_itself() {
        assert_eq!(cost(&transaction(None)), 5_000);
        assert_eq!(cost(&transaction(Some(0))), 5_000);
        // 200,000 units at 7 micro-lamports are 1.4 lamports.
        assert_eq!(cost(&transaction(Some(7))), 5_002);
        assert_eq!(cost(&transaction(Some(u64::MAX))), 5_000 + u64::MAX / 5);
    }

    #[tokio::test]
    async fn a_transaction_is_in_the_books_before_it_is_kept() {
        let books = Arc::new(crate::books::MemoryBooks::default());
        let recorder = Arc::new(Recorder::new(Arc::new(MemoryStore::default()), books.clone()));
        recorder.intend("tally", Intent { kind: Kind::Tally, actions: 4, epoch: 9, at: 100 });
        let transaction = transaction(Some(7));
        let pending = Pending { label: "tally".into(), last_valid_block_height: 9, transaction };
        let signature = pending.signature();
        let putting = recorder.clone();
        tokio::task::spawn_blocking(move || putting.put(&pending)).await.unwrap().unwrap();
        let open = books.open().await.unwrap();
        assert_eq!((open.len(), open[0].signature, open[0].actions, open[0].fee), (1, signature, 4, 5_002));
        assert_eq!(recorder.all().unwrap().len(), 1);
        // What is sent under another label, or later, is no action of the keeper.
        recorder.settled("tally");
        let mut other = recorder.all().unwrap().remove(0);
        other.transaction.signatures[0] = Signature::from([1; 64]);
        let putting = recorder.clone();
        tokio::task::spawn_blocking(move || putting.put(&other)).await.unwrap().unwrap();
        assert_eq!(books.open().await.unwrap().len(), 1);
    }
}
