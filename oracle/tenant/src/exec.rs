//! Commands beside a workload.

use datagalax_protocol::lease::{ExecInput, ExecOutput, path};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    sync::mpsc,
};

use crate::{
    Tenant, TenantError,
    session::Task,
    socket::{decode, receive, send},
};

/// Bytes of standard input in a frame.
const CHUNK: usize = 32 * 1024;
/// Frames that wait for the reader.
const WAITING: usize = 16;

/// A command beside the workload. Dropping `output` kills it.
pub struct Exec {
    /// Its standard input. Dropping it, or shutting it down, is the end of the input.
    pub stdin: DuplexStream,
    /// What it says; [`ExecOutput::Exited`] or [`ExecOutput::Failed`] is the last.
    pub output: BoxStream<'static, Result<ExecOutput, TenantError>>,
}

fn encode(input: &ExecInput) -> Vec<u8> {
    // Writing to a Vec cannot fail.
    borsh::to_vec(input).expect("borsh to memory")
}

impl Tenant {
    /// Runs a command beside the workload, with its rights and limits.
    ///
    /// # Errors
    /// As [`TenantError`] says; [`TenantError::NotYet`] when the workload does not run yet.
    pub async fn exec(&self, command: &[String]) -> Result<Exec, TenantError> {
        let mut socket = self.socket(&path::exec(&self.0.lease), &[]).await?;
        send(&mut socket, encode(&ExecInput::Start(command.to_vec()))).await?;
        let (mut sink, mut source) = socket.split();
        let (stdin, mut input) = duplex(CHUNK);
        let writing = Task::spawn(async move {
            let mut chunk = vec![0; CHUNK];
            // What cannot be sent is told by the reading half.
            while let Ok(read @ 1..) = input.read(&mut chunk).await {
                if send(&mut sink, encode(&ExecInput::Stdin(chunk[..read].to_vec()))).await.is_err() {
                    return;
                }
            }
            send(&mut sink, encode(&ExecInput::EndOfInput)).await.ok();
        });
        let (frames, received) = mpsc::channel(WAITING);
        let reading = Task::spawn(async move {
            loop {
                let frame = match receive(&mut source).await {
                    Ok(Some(bytes)) => decode(&bytes),
                    Ok(None) => Err(TenantError::Unreachable("the command's output broke off".into())),
                    Err(error) => Err(error),
                };
                let last = !matches!(frame, Ok(ExecOutput::Stdout(_) | ExecOutput::Stderr(_)));
                if frames.send(frame).await.is_err() || last {
                    return;
                }
            }
        });
        let tasks = [writing, reading, self.keep_alive()];
        let output = stream::unfold((received, tasks), async |(mut received, tasks)| {
            let frame = received.recv().await?;
            Some((frame, (received, tasks)))
        });
        Ok(Exec { stdin, output: output.boxed() })
    }
}
