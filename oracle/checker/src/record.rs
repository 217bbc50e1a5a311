//! What is measured goes to disk as it comes, in batches: evidence does not pile up in memory, and the disk is flushed a few
//! times a second at most.

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};

use crate::store::{Record, Store};

/// Most records that wait in memory; whoever has more waits with them.
const WAITING: usize = 1_024;
/// Most records written at once.
const BATCH: usize = 512;
/// Longest time that a record waits, so the most that is lost when the process is killed.
const EVERY: Duration = Duration::from_millis(500);

/// Takes what is measured.
pub trait Sink: Send + Sync + 'static {
    /// Takes one record; resolves when there is room for the next.
    fn record(&self, record: Record) -> BoxFuture<'_, ()>;
}

enum Message {
    Record(Box<Record>),
    Flush(oneshot::Sender<bool>),
}

/// Writes records to the store from a task of its own.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Message>,
}

impl Recorder {
    /// Starts the task; it ends when the last handle is dropped, after writing what waits.
    pub fn start(store: Store) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(write(store, receiver));
        Self { sender }
    }

    /// Waits until everything recorded before is on disk; false when some of it could not be written.
    pub async fn flush(&self) -> bool {
        let (done, waiting) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).await.is_err() {
            return false;
        }
        waiting.await.unwrap_or(false)
    }
}

impl Sink for Recorder {
    fn record(&self, record: Record) -> BoxFuture<'_, ()> {
        async move {
            // The task ends only when the process does.
            if self.sender.send(Message::Record(Box::new(record))).await.is_err() {
                tracing::error!("a measurement is lost: the recorder has ended");
            }
        }
        .boxed()
    }
}

async fn write(store: Store, mut receiver: mpsc::Receiver<Message>) {
    let mut batch = Vec::new();
    let mut sound = true;
    loop {
        // Wait for the first without a limit, for more of them only so long.
        let Some(first) = receiver.recv().await else { return };
        let until = Instant::now() + EVERY;
        let mut flush = None;
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Record(record) => batch.push(*record),
                Message::Flush(done) => {
                    flush = Some(done);
                    break;
                }
            }
            if batch.len() >= BATCH {
                break;
            }
            next = time::timeout_at(until, receiver.recv()).await.ok().flatten();
        }
        if !batch.is_empty() {
            let records = std::mem::take(&mut batch);
            let count = records.len();
            if let Err(error) = store.record(records).await {
                sound = false;
                tracing::error!(%error, count, "measurements cannot be written: their evidence will be missing");
            }
        }
        if let Some(done) = flush {
            // Nobody waits any more only when its task was stopped.
            done.send(std::mem::replace(&mut sound, true)).ok();
        }
    }
}
