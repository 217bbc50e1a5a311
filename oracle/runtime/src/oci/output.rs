//! A container's output, from the engine's log to files of ours, in which every byte has its offset.
//!
//! The engine's log survives a restart of the agent but knows no offsets, and can be asked for no less than what came since some
//! second. So a cursor is kept: a second, and how many bytes came before it. An agent that comes back reads from that second on
//! and leaves out what it has already: nothing is lost and nothing is there twice, as long as the engine has kept it (twice the
//! limit of the log, and no less than 32 MiB).

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{errors::Error, query_parameters::LogsOptionsBuilder};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::engine::{Engine, absent_is_none};
use crate::{log::Writer, record};

const CURSOR: &str = "cursor.json";
/// Held while somebody reads, so that a former agent's reader has ended first.
const LOCK: &str = "log.lock";
/// Bytes of a piece of a line that is longer.
const PIECE: usize = 16 * 1024;
/// Pause before another try.
const PAUSE: Duration = Duration::from_millis(250);

/// How far the engine's log was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    /// The newest second of which there is output, unix time.
    second: i64,
    /// Bytes of output that the engine does not give again when it is asked from that second on.
    before: u64,
}

/// What came of one entry of the engine's log.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    second: i64,
    bytes: Vec<u8>,
}

impl Entry {
    /// The engine writes the time, a space, and what was written.
    fn parse(entry: &[u8]) -> Option<Self> {
        let at = entry.iter().position(|byte| *byte == b' ')?;
        let time = OffsetDateTime::parse(std::str::from_utf8(&entry[..at]).ok()?, &Rfc3339).ok()?;
        let mut bytes = entry[at + 1..].to_vec();
        // Some engines forget the end of a line of which they gave the beginning in pieces; the pieces before it are whole.
        if bytes.len() < PIECE && !bytes.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        Some(Self { second: time.unix_timestamp(), bytes })
    }
}

/// Writes down what the engine gives.
struct Keeper {
    folder: PathBuf,
    writer: Writer,
    /// From where on an agent that comes back reads: one second before the newest, as of the two streams of a container one may
    /// be a little late.
    cursor: Cursor,
    /// The newest second.
    newest: Cursor,
    /// Bytes that come again before new ones do.
    again: u64,
}

impl Keeper {
    fn resume(folder: &Path, limit: u64) -> io::Result<Self> {
        let cursor: Cursor = record::read(folder, CURSOR)?.unwrap_or_default();
        let writer = Writer::resume(folder, limit)?;
        let again = writer.at().saturating_sub(cursor.before);
        Ok(Self { folder: folder.to_owned(), again, writer, cursor, newest: cursor })
    }

    fn keep(&mut self, entry: &Entry) -> io::Result<()> {
        let had = usize::try_from(self.again).unwrap_or(usize::MAX).min(entry.bytes.len());
        let begin = self.writer.at() - self.again;
        // The cursor first: after that, what it does not count comes again, and is left out by the bytes that are there.
        if entry.second > self.newest.second {
            if self.newest.second > self.cursor.second {
                self.cursor = self.newest;
                record::write(&self.folder, CURSOR, &self.cursor)?;
            }
            self.newest = Cursor { second: entry.second, before: begin };
        } else if entry.second < self.newest.second {
            self.newest.before += entry.bytes.len() as u64;
        }
        self.again -= had as u64;
        self.writer.write(&entry.bytes[had..])
    }
}

/// Reads the engine's log into the lease's folder until the container has ended and all of it is read.
pub(super) async fn read(engine: Engine, folder: PathBuf, container: String, limit: u64) {
    let Ok(lock) = File::options().write(true).create(true).truncate(false).open(folder.join(LOCK)) else { return };
    while lock.try_lock().is_err() {
        tokio::time::sleep(PAUSE).await;
    }
    loop {
        // First whether it runs: what it writes until then is read below.
        let looked = absent_is_none(engine.docker.inspect_container(&container, None).await);
        let ended = match looked {
            Ok(None) => return,
            Ok(Some(container)) => container.state.and_then(|state| state.running) != Some(true),
            Err(_) => false,
        };
        match read_on(&engine, &folder, &container, limit).await {
            Ok(()) if ended => return,
            // The folder is gone.
            Err(Failure::Disk(error)) if error.kind() == io::ErrorKind::NotFound => return,
            // The engine, or the disk: what could not be read or written comes again.
            Ok(()) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Why the reading broke off. It goes on from the cursor.
enum Failure {
    Engine,
    Disk(io::Error),
}

async fn read_on(engine: &Engine, folder: &Path, container: &str, limit: u64) -> Result<(), Failure> {
    let mut keeper = Keeper::resume(folder, limit).map_err(Failure::Disk)?;
    let since = i32::try_from(keeper.cursor.second).unwrap_or(0);
    let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).timestamps(true).since(since).build();
    let mut entries = engine.docker.logs(container, Some(options));
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(|_: Error| Failure::Engine)?.into_bytes();
        let entry = Entry::parse(&entry).ok_or(Failure::Engine)?;
        keeper.keep(&entry).map_err(Failure::Disk)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(folder: &Path) -> Vec<u8> {
        crate::log::read(folder, 0).unwrap().map(|chunk| chunk.bytes).unwrap_or_default()
    }

    #[test]
    fn an_entry_is_a_time_and_what_was_written() {
        let entry = Entry::parse(b"2026-11-30T16:28:53.637819683Z a b\n").unwrap();
        assert_eq!(entry, Entry { second: 1_796_056_133, bytes: b"a b\n".to_vec() });
        assert_eq!(Entry::parse(b"2026-11-30T17:28:53.000000000+01:00 \xff").unwrap().second, 1_796_056_133);
        let line = |length: usize| [b"2026-11-30T16:28:53Z ".to_vec(), vec![b'x'; length]].concat();
        assert_eq!(Entry::parse(&line(PIECE)).unwrap().bytes.len(), PIECE, "a piece, and more follows");
        assert!(Entry::parse(&line(9)).unwrap().bytes.ends_with(b"x\n"), "the last of them");
        assert!(Entry::parse(&line(0)).unwrap().bytes.ends_with(b"\n"));
        assert_eq!(Entry::parse(b"no time"), None);
        assert_eq!(Entry::parse(b""), None);
    }

    #[test]
    fn nothing_is_lost_or_twice_wherever_the_reading_breaks_off() {
        // As the engine gives them; the fourth is late.
        let all: [(i64, &[u8]); 7] =
            [(1, b"a1 "), (1, b"a2 "), (2, b"b1 "), (1, b"late "), (2, b"b2 "), (3, b"c1 "), (3, b"c2 ")];
        let text = all.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect::<Vec<u8>>();
        for first in 0..=all.len() {
            for second in first..=all.len() {
                let folder = tempfile::tempdir().unwrap();
                for until in [first, second, all.len()] {
                    let mut keeper = Keeper::resume(folder.path(), 1 << 20).unwrap();
                    let since = keeper.cursor.second;
                    for (second, bytes) in all[..until].iter().filter(|(second, _)| *second >= since) {
                        keeper.keep(&Entry { second: *second, bytes: bytes.to_vec() }).unwrap();
                    }
                }
                assert_eq!(kept(folder.path()), text, "broken off after {first} and {second} entries");
            }
        }
    }

    #[test]
    fn half_an_entry_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::resume(folder.path(), 1 << 20).unwrap();
        keeper.keep(&Entry { second: 1, bytes: b"one ".to_vec() }).unwrap();
        // As if the process had ended in the middle of writing.
        keeper.writer.write(b"tw").unwrap();
        drop(keeper);
        let mut keeper = Keeper::resume(folder.path(), 1 << 20).unwrap();
        for bytes in [&b"one "[..], b"two ", b"three"] {
            keeper.keep(&Entry { second: 1, bytes: bytes.to_vec() }).unwrap();
        }
        assert_eq!(kept(folder.path()), b"one two three");
    }
}
