//! A container's output, from the engine's log to files of ours, in which every byte has its offset.
//!
//! The engine's log survives a restart of the agent but knows no offsets, and can be asked for no less than what came since some
//! second. So a cursor is kept: a second, and how many bytes came before it. An agent that comes back reads from that second on
//! and leaves out what it has already: nothing is lost and nothing is there twice, as long as the engine has kept it (two files of the log's limit,
//! and no less than 64 MiB each). A flood that fills these faster than they are read here loses what is between.

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
/// Bytes of a time to the second, as `2026-11-30T16:28:53`.
const SECOND: usize = 19;
/// Most entries that are written at once.
const BATCH: usize = 1_024;
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
struct Entry<'a> {
    second: i64,
    bytes: &'a [u8],
}

/// Reads entries.
#[derive(Default)]
struct Parser {
    /// The time of the last one, to the second, and its unix time.
    last: Option<([u8; SECOND], i64)>,
}

impl Parser {
    /// The engine writes the time, a space, and what was written.
    fn parse<'a>(&mut self, entry: &'a [u8]) -> Option<Entry<'a>> {
        let at = entry.iter().position(|byte| *byte == b' ')?;
        let text: [u8; SECOND] = entry[..at].first_chunk().copied()?;
        let second = match self.last {
            Some((last, second)) if last == text => second,
            _ => OffsetDateTime::parse(std::str::from_utf8(&entry[..at]).ok()?, &Rfc3339).ok()?.unix_timestamp(),
        };
        self.last = Some((text, second));
        Some(Entry { second, bytes: &entry[at + 1..] })
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
    /// Output that is not written yet.
    pending: Vec<u8>,
}

impl Keeper {
    fn resume(folder: &Path, limit: u64) -> io::Result<Self> {
        let cursor: Cursor = record::read(folder, CURSOR)?.unwrap_or_default();
        let writer = Writer::resume(folder, limit)?;
        let again = writer.at().saturating_sub(cursor.before);
        Ok(Self { folder: folder.to_owned(), again, writer, cursor, newest: cursor, pending: Vec::new() })
    }

    /// Takes an entry. What it has to write is written with [`Keeper::flush`].
    fn keep(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        // Some engines forget the end of a line of which they gave the beginning in pieces; the pieces before it are whole.
        let forgotten = entry.bytes.len() < PIECE && !entry.bytes.ends_with(b"\n");
        let length = (entry.bytes.len() + usize::from(forgotten)) as u64;
        let begin = self.writer.at() + self.pending.len() as u64 - self.again;
        // What the cursor does not count comes again, and is left out by the bytes that are there.
        if entry.second > self.newest.second {
            if self.newest.second > self.cursor.second {
                self.flush()?;
                self.cursor = self.newest;
                record::write(&self.folder, CURSOR, &self.cursor)?;
            }
            self.newest = Cursor { second: entry.second, before: begin };
        } else if entry.second < self.newest.second {
            self.newest.before += length;
        }
        let had = self.again.min(length);
        self.again -= had;
        if had < length {
            let had = usize::try_from(had).unwrap_or(usize::MAX);
            self.pending.extend_from_slice(entry.bytes.get(had..).unwrap_or_default());
            self.pending.extend(forgotten.then_some(b'\n'));
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.writer.write(&self.pending);
        self.pending.clear();
        written
    }
}

/// A container that is yet to run has a log of its own: it comes after what is there.
pub(super) fn begin_anew(folder: &Path, limit: u64) -> io::Result<()> {
    record::write(folder, CURSOR, &Cursor { second: 0, before: Writer::resume(folder, limit)?.at() })
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
    let mut parser = Parser::default();
    // As many at once as are there: a line by itself is short.
    let mut batches = engine.docker.logs(container, Some(options)).ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        for entry in batch {
            let entry = entry.map_err(|_: Error| Failure::Engine)?.into_bytes();
            let entry = parser.parse(&entry).ok_or(Failure::Engine)?;
            keeper.keep(&entry).map_err(Failure::Disk)?;
        }
        keeper.flush().map_err(Failure::Disk)?;
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
        let mut parser = Parser::default();
        let mut parse = |entry: &'static [u8]| parser.parse(entry).map(|entry| (entry.second, entry.bytes));
        assert_eq!(parse(b"2026-11-30T16:28:53.637819683Z a b\n"), Some((1_796_056_133, &b"a b\n"[..])));
        assert_eq!(parse(b"2026-11-30T16:28:53.999999999Z "), Some((1_796_056_133, &b""[..])));
        assert_eq!(parse(b"2026-11-30T17:28:54.000000000+01:00 \xff"), Some((1_796_056_134, &b"\xff"[..])));
        assert_eq!(parse(b"no time"), None);
        assert_eq!(parse(b"2026-11-30T16:28:53Z"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_line_in_pieces_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut keeper = Keeper::resume(folder.path(), 1 << 20).unwrap();
            for bytes in [vec![b'x'; PIECE], b"x".to_vec(), b"y\n".to_vec(), b"".to_vec()] {
                keeper.keep(&Entry { second: 1, bytes: &bytes }).unwrap();
            }
            keeper.flush().unwrap();
            assert_eq!(kept(folder.path()), [vec![b'x'; PIECE + 1], b"\ny\n\n".to_vec()].concat(), "nothing twice");
        }
    }

    #[test]
    fn nothing_is_lost_or_twice_wherever_the_reading_breaks_off() {
        // As the engine gives them; the fourth is late.
        let all: [(i64, &[u8]); 7] =
            [(1, b"a1\n"), (1, b"a2\n"), (2, b"b1\n"), (1, b"late\n"), (2, b"b2\n"), (3, b"c1\n"), (3, b"c2\n")];
        let text = all.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect::<Vec<u8>>();
        for first in 0..=all.len() {
            for second in first..=all.len() {
                let folder = tempfile::tempdir().unwrap();
                for until in [first, second, all.len()] {
                    let mut keeper = Keeper::resume(folder.path(), 1 << 20).unwrap();
                    let since = keeper.cursor.second;
                    for (second, bytes) in all[..until].iter().filter(|(second, _)| *second >= since) {
                        keeper.keep(&Entry { second: *second, bytes }).unwrap();
                    }
                    keeper.flush().unwrap();
                }
                assert_eq!(kept(folder.path()), text, "broken off after {first} and {second} entries");
            }
        }
    }

    #[test]
    fn half_an_entry_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::resume(folder.path(), 1 << 20).unwrap();
        keeper.keep(&Entry { second: 1, bytes: b"one\n" }).unwrap();
        keeper.flush().unwrap();
        // As if the process had ended in the middle of writing.
        keeper.writer.write(b"tw").unwrap();
        drop(keeper);
        let mut keeper = Keeper::resume(folder.path(), 1 << 20).unwrap();
        for bytes in [&b"one\n"[..], b"two\n", b"three\n"] {
            keeper.keep(&Entry { second: 1, bytes }).unwrap();
        }
        keeper.flush().unwrap();
        assert_eq!(kept(folder.path()), b"one\ntwo\nthree\n");
    }
}
