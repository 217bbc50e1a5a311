//! Following a workload's output.

use std::time::Duration;

use datagalax_protocol::lease::{LogFrame, Notice, path};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{sync::mpsc, time};

use crate::{
    Tenant, TenantError,
    session::Task,
    socket::{decode, receive},
};

/// Frames that wait for the reader.
const WAITING: usize = 16;
/// Most attempts in a row to go on with a stream that broke off: some minutes, in which an agent is restarted.
const ATTEMPTS: u32 = 20;
/// Longest pause between two.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Most notices that are remembered, so that they are told once.
const NOTICES: usize = 64;

impl Tenant {
    /// Output from `from` bytes on, and what the host has to tell meanwhile. With `follow` it goes on until the workload has
    /// ended ([`LogFrame::End`] is the last then), also over restarts of the agent; without, it ends with what there is.
    ///
    /// Offsets grow, also over a new start of a workload that the host lost, unless nothing of the lost one could be kept: then
    /// they begin anew at 0.
    pub fn logs(&self, from: u64, follow: bool) -> BoxStream<'static, Result<LogFrame, TenantError>> {
        let (frames, received) = mpsc::channel(WAITING);
        let follower = Follower { tenant: self.clone(), from, follow, told: Vec::new(), attempts: 0, frames };
        let tasks = [Task::spawn(follower.run()), self.keep_alive()];
        stream::unfold((received, tasks), async |(mut received, tasks)| {
            let frame = received.recv().await?;
            Some((frame, (received, tasks)))
        })
        .boxed()
    }
}

struct Follower {
    tenant: Tenant,
    from: u64,
    follow: bool,
    told: Vec<Notice>,
    attempts: u32,
    frames: mpsc::Sender<Result<LogFrame, TenantError>>,
}

impl Follower {
    async fn run(mut self) {
        while let Err(error) = self.stream().await {
            if !(self.follow && error.is_passing() && self.attempts < ATTEMPTS) {
                // Without a reader there is nobody to tell.
                self.frames.send(Err(error)).await.ok();
                return;
            }
            let pause = Duration::from_millis(250) * 2_u32.pow(self.attempts.min(8));
            self.attempts += 1;
            tracing::debug!(%error, "the output broke off; going on");
            time::sleep(pause.min(LONGEST_PAUSE)).await;
        }
    }

    /// One connection, to the end of the output or of the reader.
    async fn stream(&mut self) -> Result<(), TenantError> {
        let query = [("from", self.from.to_string()), ("follow", self.follow.to_string())];
        let mut socket = self.tenant.socket(&path::logs(&self.tenant.0.lease), &query).await?;
        while let Some(bytes) = receive(&mut socket).await? {
            self.attempts = 0;
            let frame: LogFrame = decode(&bytes)?;
            let last = matches!(frame, LogFrame::End(_) | LogFrame::Failed(_));
            match &frame {
                LogFrame::Output { offset, bytes } => self.from = offset.saturating_add(bytes.len() as u64),
                // The host tells them at the begin of each stream.
                LogFrame::Notice(notice) if self.told.contains(notice) => continue,
                LogFrame::Notice(notice) => {
                    if self.told.len() >= NOTICES {
                        self.told.remove(0);
                    }
                    self.told.push(notice.clone());
                }
                LogFrame::End(_) | LogFrame::Failed(_) => {}
            }
            if self.frames.send(Ok(frame)).await.is_err() || last {
                return Ok(());
            }
        }
        if self.follow { Err(TenantError::Unreachable("the output broke off".into())) } else { Ok(()) }
    }
}
