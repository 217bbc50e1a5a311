//! This host: the key, what it holds, the disk.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use datagalax_client::{Address, keys};
use solana_signer::Signer as _;
use sysinfo::Disks;
use tokio::task::spawn_blocking;

use super::Doctor;
use crate::{
    context::Context,
    finding::{Finding, Reading, bounded},
};

/// What a signature costs, lamports.
pub const SIGNATURE: u64 = 5_000;
/// What an account must keep to stay, lamports: the rent of an empty one.
const REMAINS: u64 = 890_880;
const SOL: u64 = 1_000_000_000;
const GIB: u64 = 1 << 30;
/// Below so many free bytes a daemon is about to stop.
const LEAST: u64 = GIB;
/// Below so many it is time to look.
const FEW: u64 = 5 * GIB;

/// The host's readings.
pub struct Host {
    /// The address of `--keypair`.
    pub key: Reading<Address>,
    /// Lamports it holds.
    pub lamports: Reading<u64>,
    /// The state folder, whether it can be written, and free bytes of its disk.
    pub disk: Disk,
}

/// Where a daemon keeps its state.
pub struct Disk {
    folder: PathBuf,
    writable: Reading<()>,
    free: Reading<u64>,
}

/// Reads the key, asks for its balance and looks at the disk.
pub async fn gather(doctor: &Doctor, context: &Context) -> Host {
    let key = context.keypair_path().and_then(|path| Ok(keys::load(&path)?.pubkey())).map_err(|error| format!("{error:#}"));
    let lamports = async {
        let key = key.as_ref().map_err(|_| "the key cannot be read".to_owned())?;
        let read = bounded(context.reader.rpc().heads(&[*key], 0)).await?;
        Ok(read.into_iter().next().flatten().map_or(0, |account| account.lamports))
    };
    let folder = doctor.state_dir.clone().unwrap_or_else(|| PathBuf::from("."));
    let disk = async {
        let of = folder.clone();
        let (writable, free) = match bounded(spawn_blocking(move || (writable(&of), free(&of)))).await {
            Ok(read) => read,
            // A disk that does not answer answers neither.
            Err(why) => (Err(why.clone()), Err(why)),
        };
        Disk { folder, writable, free }
    };
    let (lamports, disk) = tokio::join!(lamports, disk);
    Host { key, lamports, disk }
}

/// Creates a file there and removes it.
fn writable(folder: &Path) -> Reading<()> {
    let probe = folder.join(format!(".datagalax-doctor-{}", std::process::id()));
    let written = fs::OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|_| fs::remove_file(&probe));
    written.map_err(trouble)
}

fn trouble(error: io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such folder".to_owned(),
        _ => error.to_string(),
    }
}

fn free(folder: &Path) -> Reading<u64> {
    let here = fs::canonicalize(folder).map_err(trouble)?;
    let disks = Disks::new_with_refreshed_list();
    let holding = disks.iter().filter(|disk| here.starts_with(disk.mount_point()));
    let deepest = holding.max_by_key(|disk| disk.mount_point().components().count());
    deepest.map(sysinfo::Disk::available_space).ok_or_else(|| "the system does not tell which disk holds it".to_owned())
}

/// The checks that need no chain; a checker knows better how much room it needs.
pub fn check(host: &Host, checker: bool) -> Vec<Finding> {
    let mut findings = vec![readable(&host.key)];
    if !checker {
        findings.push(space(&host.disk, 0));
    }
    findings
}

/// `key.readable`: the errors of a key say themselves what to do.
fn readable(key: &Reading<Address>) -> Finding {
    let id = "key.readable";
    match key {
        Ok(key) => Finding::ok(id, key.to_string()),
        Err(why) => {
            Finding::failed(id, why, "a daemon needs its operator key: a file of mode 0600, named with --keypair <FILE>")
        }
    }
}

/// `key.balance`: whether it lasts for `days` at `a_day` lamports of fees.
pub fn balance(host: &Host, a_day: u64, days: u32) -> Finding {
    let id = "key.balance";
    let (key, lamports) = match (&host.key, &host.lamports) {
        (Err(_), _) => return Finding::skipped(id, "the key cannot be read", "mend key.readable first"),
        (_, Err(_)) => return Finding::skipped(id, "no node tells", "mend rpc.answers first"),
        (Ok(key), Ok(lamports)) => (key, *lamports),
    };
    let over = |days: u32| a_day.saturating_mul(days.into()).saturating_add(REMAINS);
    let found = match lamports.saturating_sub(REMAINS).checked_div(a_day) {
        Some(lasts) => format!("{} SOL, fees of {} days at {} SOL a day", sol(lamports), lasts.min(99_999), sol(a_day)),
        None => format!("{} SOL", sol(lamports)),
    };
    let missing = over(days).max(SIGNATURE.saturating_add(REMAINS)).saturating_sub(lamports);
    let advice = format!("send it SOL for {days} days: `solana transfer {key} {} --allow-unfunded-recipient`", sol(missing));
    match lamports {
        _ if missing == 0 => Finding::ok(id, found),
        enough if enough >= over(1) && enough > REMAINS => Finding::warning(id, found, advice),
        _ => Finding::failed(id, found, advice),
    }
}

/// Lamports in SOL, all nine decimals but trailing zeros.
fn sol(lamports: u64) -> String {
    let text = format!("{}.{:09}", lamports / SOL, lamports % SOL);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `disk.space` of the state folder, which shall take `needed` more bytes.
pub fn space(disk: &Disk, needed: u64) -> Finding {
    let id = "disk.space";
    let folder = disk.folder.display().to_string();
    let free = match &disk.free {
        Ok(free) => *free,
        Err(why) => {
            let advice = format!("create it with `install -d -m 700 {folder}`, or name another with --state-dir");
            return Finding::warning(id, why, advice).of(folder);
        }
    };
    let gib = |bytes: u64| format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB);
    let found = match needed {
        0 => format!("{} free", gib(free)),
        _ => format!("{} free, {} wanted", gib(free), gib(needed)),
    };
    let advice = "make room, or move the state to a larger disk with --state-dir";
    let finding = match free {
        ..LEAST => Finding::failed(id, found, advice),
        few if few < FEW.max(needed) => Finding::warning(id, found, advice),
        _ => Finding::ok(id, found),
    };
    finding.of(folder)
}

/// `state.writable`: whether a daemon that runs as this user can keep its state there.
pub fn state(disk: &Disk) -> Finding {
    let id = "state.writable";
    let folder = disk.folder.display().to_string();
    let finding = match &disk.writable {
        Ok(()) => Finding::ok(id, "can be written"),
        Err(why) => {
            let advice = format!("create it for the daemon's user with `install -d -m 700 -o <USER> {folder}`");
            Finding::failed(id, why, advice)
        }
    };
    finding.of(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::State::{Failed, Ok as Fine, Skipped, Warning};

    fn no<T>() -> Reading<T> {
        Err("no".to_owned())
    }

    fn host(lamports: Reading<u64>) -> Host {
        Host { key: Ok(Address::default()), lamports, disk: disk(no(), no()) }
    }

    fn disk(writable: Reading<()>, free: Reading<u64>) -> Disk {
        Disk { folder: "/state".into(), writable, free }
    }

    #[test]
    fn a_balance_lasts_for_days() {
        let of = |lamports| balance(&host(Ok(lamports)), 1_000_000, 7).state;
        assert_eq!([7_890_880, 7_890_879, 1_890_880, 1_890_879, 0].map(of), [Fine, Warning, Warning, Failed, Failed]);
        // Without a role it must pay for a transaction.
        let of = |lamports| balance(&host(Ok(lamports)), 0, 7).state;
        assert_eq!([895_880, 895_879, 890_880, 0].map(of), [Fine, Warning, Failed, Failed]);
        let low = balance(&host(Ok(890_880)), 1_000_000, 7);
        assert!(low.advice.unwrap().contains("11111111111111111111111111111111 0.007 "));
        assert_eq!(balance(&host(no()), 1, 1).state, Skipped);
        assert_eq!(balance(&Host { key: no(), ..host(Ok(1)) }, 1, 1).state, Skipped);
    }

    #[test]
    fn disks_must_have_room() {
        let of = |free, needed| space(&disk(Ok(()), free), needed).state;
        assert_eq!([GIB - 1, GIB, 5 * GIB].map(|free| of(Ok(free), 0)), [Failed, Warning, Fine]);
        assert_eq!((of(Ok(99 * GIB), 100 * GIB), of(no(), 0)), (Warning, Warning));
        assert_eq!((state(&disk(Ok(()), no())).state, state(&disk(no(), no())).state), (Fine, Failed));
    }

    #[test]
    fn folders_are_really_tried() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!((writable(folder.path()), fs::read_dir(folder.path()).unwrap().count()), (Ok(()), 0));
        assert!(writable(&folder.path().join("none")).unwrap_err().contains("no such folder"));
        assert!(free(&folder.path().join("none")).is_err());
    }

    #[test]
    fn keys_are_named_or_their_fault_is() {
        assert_eq!((readable(&Ok(Address::default())).state, readable(&no()).state), (Fine, Failed));
        assert_eq!((sol(1_500_000_000), sol(5_000), sol(0)), ("1.5".into(), "0.000005".into(), "0".to_owned()));
    }
}
