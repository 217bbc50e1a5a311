//! Transactions that were signed and whose outcome is not known yet, on disk before they are sent.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use solana_signature::Signature;
use solana_transaction::Transaction;
use thiserror::Error;

/// A signed transaction on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// What it does, for people.
    pub label: String,
    /// Block height after which it can no longer land.
    pub last_valid_block_height: u64,
    /// The transaction, signed.
    pub transaction: Transaction,
}

impl Pending {
    pub(super) fn new(label: &str, transaction: &Transaction, last_valid_block_height: u64) -> Self {
        Self { label: label.to_owned(), last_valid_block_height, transaction: transaction.clone() }
    }

    /// The signature it is known by.
    pub fn signature(&self) -> Signature {
        self.transaction.signatures[0]
    }
}

/// A pending transaction as it is written: the bytes that were signed, so that exactly they are sent again.
#[derive(Serialize, Deserialize)]
struct Record {
    label: String,
    last_valid_block_height: u64,
    transaction: String,
}

impl Record {
    fn of(pending: &Pending) -> io::Result<Self> {
        let wire = bincode::serialize(&pending.transaction).map_err(io::Error::other)?;
        Ok(Self {
            label: pending.label.clone(),
            last_valid_block_height: pending.last_valid_block_height,
            transaction: hex::encode(wire),
        })
    }

    fn read(self) -> Result<Pending, String> {
        let wire = hex::decode(&self.transaction).map_err(|e| e.to_string())?;
        let transaction: Transaction = bincode::deserialize(&wire).map_err(|e| e.to_string())?;
        // Bytes that are left over, and signatures for which there is no key: then verifying says nothing.
        let again = bincode::serialize(&transaction).map_err(|e| e.to_string())?;
        let wanted = usize::from(transaction.message.header.num_required_signatures);
        if again != wire
            || wanted == 0
            || transaction.signatures.len() != wanted
            || transaction.message.account_keys.len() < wanted
        {
            return Err("it is not one whole transaction".to_owned());
        }
        // A record that does not verify was not written by this process, or was damaged.
        transaction.verify().map_err(|e| e.to_string())?;
        Ok(Pending { label: self.label, last_valid_block_height: self.last_valid_block_height, transaction })
    }
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
#[error("the pending store at {path} cannot be used ({error}): it must be a folder this process may write to. Nothing was sent", path = path.display())]
pub struct StoreError {
    path: PathBuf,
    error: io::Error,
}

impl StoreError {
    /// The same error once more: it is of several actions.
    pub(super) fn again(&self) -> Self {
        Self { path: self.path.clone(), error: io::Error::new(self.error.kind(), self.error.to_string()) }
    }

    pub(super) fn interrupted(error: &tokio::task::JoinError) -> Self {
        Self { path: PathBuf::new(), error: io::Error::other(error.to_string()) }
    }
}

/// Where pending transactions are kept. The calls may block on the disk.
pub trait PendingStore: Send + Sync + 'static {
    /// Keeps one; it is safe on return.
    ///
    /// # Errors
    /// [`StoreError`]; then the transaction must not be sent.
    fn put(&self, pending: &Pending) -> Result<(), StoreError>;
    /// Drops one whose outcome is known; one that is not there is dropped already.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remove(&self, signature: &Signature) -> Result<(), StoreError>;
    /// All of them.
    ///
    /// # Errors
    /// [`StoreError`].
    fn all(&self) -> Result<Vec<Pending>, StoreError>;
}

/// In memory: for commands that end with their one transaction, and for tests.
#[derive(Default)]
pub struct MemoryStore(Mutex<BTreeMap<Signature, Pending>>);

impl PendingStore for MemoryStore {
    fn put(&self, pending: &Pending) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(pending.signature(), pending.clone());
        Ok(())
    }
    fn remove(&self, signature: &Signature) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(signature);
        Ok(())
    }
    fn all(&self) -> Result<Vec<Pending>, StoreError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect())
    }
}

/// A folder (mode 0700) with one file (0600) for each pending transaction, named by its signature.
///
/// A file is written under another name, flushed and renamed, so that a crash leaves either all of it or nothing: nothing
/// means it was not sent yet.
pub struct DirectoryStore {
    folder: PathBuf,
}

const EXTENSION: &str = "pending";

impl DirectoryStore {
    /// Opens a folder, creating it when it is missing. One process at a time may use it.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be created.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let store = Self { folder: folder.to_owned() };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| store.error(e))?;
        Ok(store)
    }

    fn error(&self, error: io::Error) -> StoreError {
        StoreError { path: self.folder.clone(), error }
    }

    fn path(&self, signature: &Signature) -> PathBuf {
        self.folder.join(format!("{signature}.{EXTENSION}"))
    }

    fn write(&self, pending: &Pending) -> io::Result<()> {
        let path = self.path(&pending.signature());
        let partial = path.with_extension("partial");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&serde_json::to_vec(&Record::of(pending)?)?)?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        // The name is in the folder, which has to reach the disk too.
        File::open(&self.folder)?.sync_all()
    }

    fn read_all(&self) -> io::Result<Vec<Pending>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == EXTENSION) {
                let pending = serde_json::from_slice::<Record>(&fs::read(&path)?)
                    .map_err(|e| e.to_string())
                    .and_then(Record::read)
                    .map_err(|e| io::Error::other(format!("{} is damaged: {e}; move it away", path.display())))?;
                all.push(pending);
            }
        }
        Ok(all)
    }
}

impl PendingStore for DirectoryStore {
    fn put(&self, pending: &Pending) -> Result<(), StoreError> {
        self.write(pending).map_err(|e| self.error(e))
    }
    fn remove(&self, signature: &Signature) -> Result<(), StoreError> {
        match fs::remove_file(self.path(signature)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.error(e)),
            _ => Ok(()),
        }
    }
    fn all(&self) -> Result<Vec<Pending>, StoreError> {
        self.read_all().map_err(|e| self.error(e))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use solana_hash::Hash;
    use solana_keypair::Keypair;
    use solana_message::Message;
    use solana_signer::Signer;

    use super::*;

    fn pending(label: &str) -> Pending {
        let payer = Keypair::new();
        let message = Message::new_with_blockhash(&[], Some(&payer.pubkey()), &Hash::new_from_array([7; 32]));
        let mut transaction = Transaction::new_unsigned(message);
        transaction.sign(&[&payer], Hash::new_from_array([7; 32]));
        Pending { label: label.to_owned(), last_valid_block_height: 99, transaction }
    }

    #[test]
    fn survives_a_restart_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pending");
        let (a, b) = (pending("a"), pending("b"));
        let store = DirectoryStore::open(&path).unwrap();
        store.put(&a).unwrap();
        store.put(&b).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(store.path(&a.signature())).unwrap().permissions().mode() & 0o777, 0o600);

        let store = DirectoryStore::open(&path).unwrap();
        let mut all = store.all().unwrap();
        all.sort_by(|x, y| x.label.cmp(&y.label));
        assert_eq!(all, [a.clone(), b.clone()]);
        store.remove(&a.signature()).unwrap();
        store.remove(&a.signature()).unwrap();
        assert_eq!(store.all().unwrap(), [b]);
    }

    #[test]
    fn a_crash_while_writing_leaves_nothing_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(folder.path()).unwrap();
        fs::write(folder.path().join("abc.partial"), "{\"label\":").unwrap();
        assert_eq!(store.all().unwrap(), []);
        // A signature's last byte, read as a count of signatures, is 0 in one of sixteen.
        for _ in 0..64 {
            let one = pending("one");
            let wire = hex::encode(bincode::serialize(&one.transaction).unwrap()).replacen("01", "01ff", 1);
            let record = Record { label: "one".into(), last_valid_block_height: 9, transaction: wire };
            assert!(record.read().is_err());
        }
        let one = pending("one");
        store.put(&one).unwrap();
        let text = fs::read_to_string(store.path(&one.signature())).unwrap();
        // Another signature over the same message does not verify.
        let forged = text.replacen("\"transaction\":\"01", "\"transaction\":\"01ff", 1);
        for damaged in [&text[..text.len() / 2], &forged, "{}"] {
            fs::write(store.path(&one.signature()), damaged).unwrap();
            assert!(store.all().unwrap_err().to_string().contains("is damaged"), "{damaged}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DirectoryStore::open(file.path()).err().unwrap().to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
