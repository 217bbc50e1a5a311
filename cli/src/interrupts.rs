//! Ctrl-C, counted: the first asks for an orderly end, the second for an end at once.

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How often the user asked to end.
#[derive(Clone)]
pub struct Interrupts(watch::Receiver<u32>);

impl Interrupts {
    /// Counts SIGINT and SIGTERM from now on; neither ends the process by itself any more.
    ///
    /// # Errors
    /// The system takes no handler.
    pub fn listen() -> Result<Self> {
        let mut int = signal(SignalKind::interrupt()).context("Ctrl-C cannot be listened for")?;
        let mut term = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
        let (sender, receiver) = watch::channel(0u32);
        tokio::spawn(async move {
            while !sender.is_closed() {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                sender.send_modify(|count| *count = count.saturating_add(1));
            }
        });
        Ok(Self(receiver))
    }

    /// Whether the user asked to end.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Resolves when the user has asked so many times.
    pub async fn asked(&self, times: u32) {
        let mut seen = self.0.clone();
        if seen.wait_for(|count| *count >= times).await.is_err() {
            // Nobody counts any more.
            std::future::pending().await
        }
    }
}
