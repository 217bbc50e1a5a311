//! Loading and writing keys: Solana JSON keypair files, mode 0600.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use solana_keypair::Keypair;
use solana_signer::Signer;
use thiserror::Error;

/// Bytes of a keypair: secret, then public.
const KEYPAIR_LEN: usize = 64;
/// A keypair file of 64 numbers fits; anything longer is another file.
const MAX_FILE: u64 = 4_096;

/// Why a key could not be loaded or written.
#[derive(Debug, Error)]
pub enum KeyError {
    /// No file there.
    #[error("there is no keypair file at {path}: create one with `solana-keygen new -o {path}`, or name another with --keypair", path = .0.display())]
    Missing(PathBuf),
    /// The file cannot be read or written.
    #[error("the keypair file {path} cannot be opened: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Others may read the secret.
    #[error("the keypair file {path} may be read by others (mode {mode:04o}): run `chmod 600 {path}`", path = path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The content is no keypair. It is a secret, so nothing of it is shown.
    #[error("{path} is not a Solana keypair file: {reason}. It must hold a JSON array of 64 numbers, as `solana-keygen` writes it", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, without the content.
        reason: &'static str,
    },
    /// Writing would overwrite a key.
    #[error("{path} exists already and is not overwritten: choose another path", path = .0.display())]
    Exists(PathBuf),
}

/// Loads a Solana JSON keypair file.
///
/// systemd hands credentials over in a folder of the service's own, as files that an access list opens to the service; the list
/// shows as a group that may read. In that folder, and only there, such a file is taken.
///
/// # Errors
/// [`KeyError`] when it is missing, unreadable, open to others than its owner, or not a keypair.
pub fn load(path: &Path) -> Result<Keypair, KeyError> {
    let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    load_with(path, credentials.as_deref())
}

fn load_with(path: &Path, credentials: Option<&Path>) -> Result<Keypair, KeyError> {
    let at = || path.to_owned();
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyError::Missing(at()),
        _ => KeyError::Io { path: at(), error },
    })?;
    let metadata = file.metadata().map_err(|error| KeyError::Io { path: at(), error })?;
    let mode = metadata.permissions().mode() & 0o777;
    let credential = credentials.is_some_and(|folder| path.parent() == Some(folder));
    let shut = if credential { 0o037 } else { 0o077 };
    if mode & shut != 0 {
        return Err(KeyError::TooOpen { path: at(), mode });
    }
    let malformed = |reason| KeyError::Malformed { path: at(), reason };
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(malformed("it is not a small file"));
    }
    let mut text = String::new();
    (&file).take(MAX_FILE).read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => malformed("it is not text"),
        _ => KeyError::Io { path: at(), error },
    })?;
    // serde's own message could quote a number of the secret.
    let bytes: Vec<u8> = serde_json::from_str(&text).map_err(|_| malformed("it is not a JSON array of bytes"))?;
    if bytes.len() != KEYPAIR_LEN {
        return Err(malformed("it has another number of bytes"));
    }
    Keypair::try_from(bytes.as_slice()).map_err(|_| malformed("its public half does not belong to its secret half"))
}

/// Writes a keypair to a new file of mode 0600, and to the disk.
///
/// # Errors
/// [`KeyError::Exists`] when there is a file already, [`KeyError::Io`] when it cannot be written.
pub fn write(path: &Path, keypair: &Keypair) -> Result<(), KeyError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => KeyError::Io { path: path.to_owned(), error },
    };
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let text = serde_json::to_string(keypair.to_bytes().as_slice()).map_err(|e| failed(e.into()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Loads the keypair at `path`, or writes a new one there when there is none: for local networks.
///
/// # Errors
/// As [`load`] and [`write`].
pub fn load_or_create(path: &Path) -> Result<Keypair, KeyError> {
    match load(path) {
        Err(KeyError::Missing(_)) => {
            let keypair = Keypair::new();
            write(path, &keypair)?;
            tracing::info!(path = %path.display(), address = %keypair.pubkey(), "new keypair");
            Ok(keypair)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file_with(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_loaded_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/key.json");
        let keypair = load_or_create(&path).unwrap();
        assert_eq!(load(&path).unwrap().pubkey(), keypair.pubkey());
        assert_eq!(load_or_create(&path).unwrap().pubkey(), keypair.pubkey());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(write(&path, &keypair), Err(KeyError::Exists(_))));
    }

    #[test]
    fn every_bad_file_is_named_and_nothing_of_it_is_shown() {
        let missing = load(Path::new("/nonexistent/key.json")).unwrap_err();
        assert!(matches!(missing, KeyError::Missing(_)) && missing.to_string().contains("solana-keygen new"));
        let keypair = serde_json::to_string(Keypair::new().to_bytes().as_slice()).unwrap();
        let open = load(file_with(keypair.as_bytes(), 0o644).path()).unwrap_err();
        assert!(matches!(open, KeyError::TooOpen { mode: 0o644, .. }) && open.to_string().contains("chmod 600"));
        for content in ["", "{}", "[1,2,3]", "[300]", "\"213\"", &"1,".repeat(3_000), &keypair.replacen(',', ",9,", 1)] {
            let file = file_with(content.as_bytes(), 0o600);
            let error = load(file.path()).unwrap_err();
            assert!(matches!(error, KeyError::Malformed { .. }), "{content}: {error}");
            // Its name is random and may hold the same digits.
            let said = error.to_string().replace(&file.path().display().to_string(), "");
            assert!(!said.contains("213"), "{said}");
        }
        let mut bytes = Keypair::new().to_bytes();
        bytes[63] ^= 1;
        let swapped = serde_json::to_vec(bytes.as_slice()).unwrap();
        assert!(matches!(load(file_with(&swapped, 0o600).path()), Err(KeyError::Malformed { .. })));
    }

    #[test]
    fn a_credential_of_the_service_manager_may_show_its_access_list() {
        let keypair = serde_json::to_string(Keypair::new().to_bytes().as_slice()).unwrap();
        let file = file_with(keypair.as_bytes(), 0o440);
        assert!(load_with(file.path(), file.path().parent()).is_ok());
        for folder in [None, Some(Path::new("/run/credentials/other"))] {
            assert!(matches!(load_with(file.path(), folder), Err(KeyError::TooOpen { mode: 0o440, .. })));
        }
        let file = file_with(keypair.as_bytes(), 0o444);
        assert!(matches!(load_with(file.path(), file.path().parent()), Err(KeyError::TooOpen { .. })));
    }

    proptest! {
        #[test]
        fn no_content_panics(content in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(load(file_with(&content, 0o600).path()).is_err());
        }
    }
}
