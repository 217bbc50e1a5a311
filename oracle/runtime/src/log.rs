//! A workload's output in files of a bounded size together; each is named by the bytes before it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{task, time};

use crate::{Chunk, RuntimeError, error::failed};

/// How often new output is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Files of which the oldest is dropped when another one begins.
const SEGMENTS: u64 = 4;
/// Most bytes of a chunk.
const CHUNK: u64 = 64 * 1024;
const PREFIX: &str = "log.";

/// Output from an offset on, as [`crate::Runtime::logs`] gives it. `goes_on` tells whether more may be written after the next look.
pub(crate) fn follow<F>(
    folder: PathBuf,
    from: u64,
    follow: bool,
    goes_on: impl Fn() -> F + Send + Sync + 'static,
) -> BoxStream<'static, Result<Chunk, RuntimeError>>
where
    F: Future<Output = Result<bool, RuntimeError>> + Send,
{
    stream::unfold((folder, goes_on, Some(from)), move |(folder, goes_on, from)| async move {
        let from = from?;
        loop {
            // First whether it goes on: what is written after that is read below.
            let looked = async {
                let more = goes_on().await?;
                let folder = folder.clone();
                let chunk =
                    task::spawn_blocking(move || read(&folder, from)).await.unwrap_or_else(|error| Err(error.into()));
                Ok((more, chunk.map_err(failed("read the output"))?))
            };
            match looked.await {
                Ok((_, Some(chunk))) => {
                    let next = chunk.offset + chunk.bytes.len() as u64;
                    return Some((Ok(chunk), (folder, goes_on, Some(next))));
                }
                Ok((true, None)) if follow => time::sleep(LOOK).await,
                Ok((_, None)) => return None,
                Err(error) => return Some((Err(error), (folder, goes_on, None))),
            }
        }
    })
    .boxed()
}

/// Writes output, dropping the oldest beyond the limit.
pub struct Writer {
    folder: PathBuf,
    /// Bytes of a segment.
    most: u64,
    at: u64,
    segment: Option<(u64, File)>,
}

impl Writer {
    /// Output in this folder, of at most `limit` bytes.
    pub fn new(folder: &Path, limit: u64) -> Self {
        Self { folder: folder.to_owned(), most: (limit / SEGMENTS).max(1), at: 0, segment: None }
    }

    /// Goes on after what is in the folder already.
    ///
    /// # Errors
    /// The disk.
    pub fn resume(folder: &Path, limit: u64) -> io::Result<Self> {
        let mut writer = Self::new(folder, limit);
        if let Some(start) = starts(folder)?.last() {
            let file = OpenOptions::new().append(true).open(folder.join(file_name(*start)))?;
            writer.at = start + file.metadata()?.len();
            writer.segment = Some((*start, file));
        }
        Ok(writer)
    }

    /// Bytes of output so far, those that were dropped included.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Adds output.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (start, mut file) = match self.segment.take() {
                Some((start, file)) if self.at < start + self.most => (start, file),
                _ => {
                    // Room first, so that the limit holds at every instant.
                    let starts = starts(&self.folder)?;
                    for start in starts.iter().rev().skip(SEGMENTS as usize - 1) {
                        fs::remove_file(self.folder.join(file_name(*start)))?;
                    }
                    let path = self.folder.join(file_name(self.at));
                    (self.at, OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?)
                }
            };
            let room = usize::try_from(start + self.most - self.at).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            file.write_all(now)?;
            self.at += now.len() as u64;
            self.segment = Some((start, file));
            bytes = later;
        }
        Ok(())
    }
}

/// The next piece of output at or after `from`; `None` when there is none (yet).
///
/// # Errors
/// The disk.
pub fn read(folder: &Path, from: u64) -> io::Result<Option<Chunk>> {
    let starts = starts(folder)?;
    let within = starts.iter().rev().find(|start| **start <= from).or(starts.first());
    let Some(&start) = within else { return Ok(None) };
    let later = starts.iter().find(|other| **other > start);
    let offset = from.max(start);
    let mut file = match File::open(folder.join(file_name(start))) {
        Ok(file) => file,
        // Dropped since it was listed: what follows is there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return later.map_or(Ok(None), |later| read(folder, *later));
        }
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(offset - start))?;
    let mut bytes = Vec::new();
    file.take(CHUNK).read_to_end(&mut bytes)?;
    match later {
        _ if !bytes.is_empty() => Ok(Some(Chunk { offset, bytes })),
        Some(later) => read(folder, *later),
        None => Ok(None),
    }
}

fn file_name(start: u64) -> String {
    format!("{PREFIX}{start:020}")
}

/// Where the segments start, ascending.
fn starts(folder: &Path) -> io::Result<Vec<u64>> {
    let mut starts = Vec::new();
    for entry in fs::read_dir(folder)? {
        starts.extend(entry?.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok()));
    }
    starts.sort_unstable();
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(folder: &Path, mut from: u64) -> Vec<(u64, Vec<u8>)> {
        let mut chunks = Vec::new();
        while let Some(Chunk { offset, bytes }) = read(folder, from).unwrap() {
            from = offset + bytes.len() as u64;
            chunks.push((offset, bytes));
        }
        chunks
    }

    #[test]
    fn output_is_kept_in_order_and_the_oldest_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), 40);
        assert_eq!(read(folder.path(), 0).unwrap(), None);
        writer.write(b"0123456").unwrap();
        assert_eq!(all(folder.path(), 0), [(0, b"0123456".to_vec())]);
        assert_eq!(all(folder.path(), 3), [(3, b"3456".to_vec())]);
        assert_eq!(all(folder.path(), 7), []);
        writer.write(&[b'x'; 90]).unwrap();
        let kept = all(folder.path(), 0);
        let bytes: usize = kept.iter().map(|(_, bytes)| bytes.len()).sum();
        let last = kept.last().unwrap();
        assert_eq!((last.0 + last.1.len() as u64, kept[0].0), (97, 60), "the newest, without a gap");
        assert_eq!(bytes, 37);
        assert_eq!(all(folder.path(), 95), [(95, b"xx".to_vec())]);
        assert_eq!(all(folder.path(), 1_000), [], "nothing is invented");
        drop(writer);
        let mut writer = Writer::resume(folder.path(), 40).unwrap();
        assert_eq!(writer.at(), 97);
        writer.write(b"yy").unwrap();
        assert_eq!(all(folder.path(), 95), [(95, b"xxyy".to_vec())]);
    }
}
