//! Commands beside the workload.

use std::time::Duration;

use bollard::{
    container::LogOutput,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
};
use futures_util::{FutureExt, StreamExt};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    io::{AsyncWriteExt, copy, duplex},
    runtime::Handle,
    sync::oneshot,
    time,
};

use super::{Inner, engine::Engine};
use crate::{Exec, Id, RuntimeError};

/// Bytes of a command's input and outputs that wait to be read.
const BUFFER: usize = 64 * 1024;
/// How often it is asked whether a command goes on whose output is still open, at least.
const LOOK: Duration = Duration::from_millis(500);

impl Inner {
    pub async fn exec(&self, id: &Id, command: &[String]) -> Result<Exec, RuntimeError> {
        self.running(id).await?;
        let spec = self.spec(id)?.ok_or_else(|| RuntimeError::Absent(id.clone()))?;
        // The same bounds as the workload's own command.
        crate::Workload { command: command.to_vec(), image: None, volumes: vec![], ..spec }.check()?;
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let engine = self.engine.clone();
        let created = engine.docker.create_exec(&engine.name(id), options).await;
        let command = created.map_err(engine.failed("start the command"))?.id;
        let options = StartExecOptions { output_capacity: Some(BUFFER), ..StartExecOptions::default() };
        let started = engine.docker.start_exec(&command, Some(options)).await;
        let StartExecResults::Attached { mut output, mut input } = started.map_err(engine.failed("start the command"))?
        else {
            return Err(RuntimeError::Engine {
                what: "start the command",
                reason: "the engine does not attach to it".into(),
            });
        };
        let kill = KillOnDrop { engine: Some(engine.clone()), command: command.clone() };
        let (stdin, mut from_stdin) = duplex(BUFFER);
        tokio::spawn(async move {
            copy(&mut from_stdin, &mut input).await.ok();
            // The end of its input.
            input.shutdown().await.ok();
        });
        let ((mut to_stdout, stdout), (mut to_stderr, stderr)) = (duplex(BUFFER), duplex(BUFFER));
        let (closed, all_read) = oneshot::channel();
        tokio::spawn(async move {
            while let Some(Ok(piece)) = output.next().await {
                // What nobody reads any more is read here all the same: the command is not held up by it.
                match piece {
                    LogOutput::StdErr { message } => to_stderr.write_all(&message).await.ok(),
                    LogOutput::StdOut { message } | LogOutput::Console { message } => {
                        to_stdout.write_all(&message).await.ok()
                    }
                    LogOutput::StdIn { .. } => None,
                };
            }
            closed.send(()).ok();
        });
        let ended = async move {
            let mut kill = kill;
            let mut all_read = all_read.fuse();
            let mut pause = Duration::from_millis(10);
            loop {
                let inspected = engine.docker.inspect_exec(&command).await.map_err(engine.failed("wait for the command"))?;
                if inspected.running == Some(false) {
                    kill.engine = None;
                    return Ok(inspected.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1));
                }
                tokio::select! {
                    _ = &mut all_read => {}
                    () = time::sleep(pause) => {}
                }
                if futures_util::future::FusedFuture::is_terminated(&all_read) {
                    // The engine is about to note the end.
                    time::sleep(Duration::from_millis(10)).await;
                }
                pause = (pause * 2).min(LOOK);
            }
        };
        Ok(Exec { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: Box::new(stderr), ended: ended.boxed() })
    }
}

/// Kills a command, unless it is known to have ended.
struct KillOnDrop {
    engine: Option<Engine>,
    command: String,
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Without tokio's runtime the process is ending, and the lease's end will end the command.
        if let (Some(engine), Ok(handle)) = (self.engine.take(), Handle::try_current()) {
            let command = std::mem::take(&mut self.command);
            handle.spawn(async move { kill(&engine, &command).await });
        }
    }
}

/// The engine has no call for this: the process is killed by its number on the host, which needs the right to (CAP_KILL).
async fn kill(engine: &Engine, command: &str) -> Option<()> {
    let running = async || {
        let inspected = engine.docker.inspect_exec(command).await.ok()?;
        let pid = inspected.pid.filter(|_| inspected.running == Some(true))?;
        i32::try_from(pid).ok().and_then(Pid::from_raw)
    };
    let pid = running().await?;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Still the same: the number was not another's when the process was held.
    if running().await? == pid {
        pidfd_send_signal(process, Signal::KILL).ok()?;
    }
    Some(())
}
