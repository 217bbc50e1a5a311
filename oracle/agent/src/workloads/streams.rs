//! Output, commands and ports over WebSockets.
//!
//! A stream ends with the lease, with its user's last session, or with either side. What the user does not take is not read
//! from the workload: nothing is heaped up here.

use std::sync::Arc;

use axum::extract::ws::WebSocket;
use datagalax_protocol::lease::{ExecInput, ExecOutput, LogFrame, State};
use datagalax_runtime::Exec;
use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, watch},
    time,
};

use super::{
    Runner,
    line::{CONTENT, Gone, Heard, Line, split},
    routes::Place,
    tenancy::Tenancy,
};

/// Runs a stream until it or what bounds it ends.
async fn bounded(runner: &Runner, tenancy: &Tenancy, line: &Line, work: impl Future<Output = Result<(), Gone>>) {
    let work = async {
        tokio::select! {
            done = work => done,
            gone = line.ping() => Err(gone),
        }
    };
    tokio::select! {
        biased;
        done = work => match done {
            Ok(()) => line.end().await,
            Err(Gone) => line.cut("the stream was cut off: too slow, silent, or not understood").await,
        },
        () = tenancy.over.cancelled() => {
            if runner.is_closing() { line.restart().await } else { line.cut("the lease is over").await }
        }
        () = runner.sessions().over(&tenancy.lease) => line.cut("the session is over").await,
    }
}

/// The workload's output from an offset on, and what is to be told meanwhile.
pub(super) async fn logs(runner: Runner, tenancy: Arc<Tenancy>, place: Place, socket: WebSocket, from: u64, follow: bool) {
    let (line, mut heard) = split(socket, runner.patience());
    let telling = async {
        tokio::select! {
            biased;
            told = tell(&runner, &tenancy, &line, from, follow) => told,
            gone = heard.closed() => Err(gone),
        }
    };
    // The lease's end is told in the output itself, and the last words before it.
    let telling = async {
        tokio::select! {
            told = telling => told,
            gone = line.ping() => Err(gone),
        }
    };
    tokio::select! {
        told = telling => match told {
            Ok(()) => line.end().await,
            Err(Gone) if runner.is_closing() => line.restart().await,
            Err(Gone) => line.cut("the stream was cut off: too slow, or silent").await,
        },
        () = session_over(&runner, &tenancy) => line.cut("the session is over").await,
    }
    drop(place);
}

/// The end of the last session, while the lease lasts: the lease's end ends sessions, too, and is told first.
async fn session_over(runner: &Runner, tenancy: &Tenancy) {
    runner.sessions().over(&tenancy.lease).await;
    if tenancy.over.is_cancelled() {
        std::future::pending::<()>().await;
    }
}

async fn tell(runner: &Runner, tenancy: &Tenancy, line: &Line, mut from: u64, follow: bool) -> Result<(), Gone> {
    let mut changes = tenancy.changes();
    let (mut told, mut seen) = (0, None);
    loop {
        changes.mark_unchanged();
        notices(tenancy, line, &mut told).await?;
        let (state, anew, began, past) = {
            let facts = tenancy.facts();
            (facts.state.clone(), facts.anew, facts.record.began, facts.past.is_some())
        };
        if seen.replace(anew).is_some_and(|seen| seen != anew) {
            from = 0;
        }
        let ended = match state {
            State::Ended { end } => Some(end),
            State::Running => None,
            State::Awaited | State::Starting { .. } if !follow => return Ok(()),
            State::Awaited | State::Starting { .. } => {
                wait(runner, tenancy, &mut changes).await?;
                continue;
            }
        };
        if began && !past {
            from = output(runner, tenancy, line, from, follow, &mut told).await?;
        }
        notices(tenancy, line, &mut told).await?;
        match ended {
            Some(end) => return line.frame(&LogFrame::End(end)).await,
            None if !follow => return Ok(()),
            // It has ended, and how is known in a moment.
            None => wait(runner, tenancy, &mut changes).await?,
        }
    }
}

async fn wait(runner: &Runner, tenancy: &Tenancy, changes: &mut watch::Receiver<()>) -> Result<(), Gone> {
    // Once the lease is over, nothing changes any more, and how it ended is known.
    if tenancy.facts().past.is_some() {
        return Ok(());
    }
    tokio::select! {
        changed = changes.changed() => changed.map_err(|_| Gone),
        () = tenancy.over.cancelled() => if runner.is_closing() { Err(Gone) } else { Ok(()) },
    }
}

async fn notices(tenancy: &Tenancy, line: &Line, told: &mut u64) -> Result<(), Gone> {
    let (new, now) = tenancy.notices_since(*told);
    *told = now;
    for notice in new {
        line.frame(&LogFrame::Notice(notice)).await?;
    }
    Ok(())
}

/// Tells the output of one run; returns where it ended.
async fn output(
    runner: &Runner,
    tenancy: &Tenancy,
    line: &Line,
    mut from: u64,
    follow: bool,
    told: &mut u64,
) -> Result<u64, Gone> {
    let mut chunks = runner.runtime().logs(&tenancy.id, from, follow);
    let mut changes = tenancy.changes();
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = chunks.next() => chunk,
            _ = changes.changed() => {
                notices(tenancy, line, told).await?;
                continue;
            }
            // What was said until then was told above.
            () = tenancy.over.cancelled() => return if runner.is_closing() { Err(Gone) } else { Ok(from) },
        };
        match chunk {
            Some(Ok(chunk)) => {
                for (at, bytes) in chunk.bytes.chunks(CONTENT).enumerate() {
                    let offset = chunk.offset + (at * CONTENT) as u64;
                    line.frame(&LogFrame::Output { offset, bytes: bytes.to_vec() }).await?;
                }
                from = chunk.offset + chunk.bytes.len() as u64;
            }
            Some(Err(error)) => {
                // Also what is removed at the end of the lease while it is read.
                tracing::debug!(lease = %tenancy.lease, %error, "the output ends");
                return Ok(from);
            }
            None => return Ok(from),
        }
    }
}

/// A command beside the workload.
pub(super) async fn exec(runner: Runner, tenancy: Arc<Tenancy>, place: Place, socket: WebSocket) {
    let (line, heard) = split(socket, runner.patience());
    bounded(&runner, &tenancy, &line, command(&runner, &tenancy, &line, heard)).await;
    drop(place);
}

async fn command(runner: &Runner, tenancy: &Tenancy, line: &Line, mut heard: Heard) -> Result<(), Gone> {
    let start = heard.next().await?.ok_or(Gone)?;
    let Ok(ExecInput::Start(words)) = borsh::from_slice(&start) else { return Err(Gone) };
    let Exec { mut stdin, stdout, stderr, ended } = match runner.runtime().exec(&tenancy.id, &words).await {
        Ok(exec) => exec,
        Err(error) => return line.frame(&ExecOutput::Failed(error.to_string())).await,
    };
    let listening = async {
        loop {
            let Some(bytes) = heard.next().await? else { return Err(Gone) };
            match borsh::from_slice(&bytes) {
                // A command that reads no more is no reason to end.
                Ok(ExecInput::Stdin(bytes)) => drop(stdin.write_all(&bytes).await),
                Ok(ExecInput::EndOfInput) => break,
                Ok(ExecInput::Start(_)) | Err(_) => return Err(Gone),
            }
        }
        stdin.shutdown().await.ok();
        drop(stdin);
        // Only its going away is of interest.
        Err::<(), Gone>(heard.closed().await)
    };
    let speaking = async {
        tokio::try_join!(speak(line, stdout, ExecOutput::Stdout), speak(line, stderr, ExecOutput::Stderr))?;
        match ended.await {
            Ok(status) => line.frame(&ExecOutput::Exited(status)).await,
            Err(error) => line.frame(&ExecOutput::Failed(error.to_string())).await,
        }
    };
    tokio::select! {
        spoken = speaking => spoken,
        Err(gone) = listening => Err(gone),
    }
}

async fn speak(line: &Line, mut from: impl AsyncRead + Unpin, frame: impl Fn(Vec<u8>) -> ExecOutput) -> Result<(), Gone> {
    let mut chunk = vec![0; CONTENT];
    while let read @ 1.. = from.read(&mut chunk).await.unwrap_or(0) {
        line.frame(&frame(chunk[..read].to_vec())).await?;
    }
    Ok(())
}

/// One of the workload's ports. An empty message ends a direction.
pub(super) async fn port(runner: Runner, tenancy: Arc<Tenancy>, place: Place, socket: WebSocket, port: TcpStream) {
    let (line, mut heard) = split(socket, runner.patience());
    let (mut read, mut write) = port.into_split();
    let said_all = Notify::new();
    let up = async {
        loop {
            let Some(bytes) = heard.next().await? else { return Err(Gone) };
            if bytes.is_empty() {
                write.shutdown().await.ok();
                said_all.notify_one();
                continue;
            }
            match time::timeout(runner.patience().send, write.write_all(&bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(Gone),
            }
        }
    };
    let down = async {
        let mut chunk = vec![0; CONTENT];
        while let read @ 1.. = read.read(&mut chunk).await.unwrap_or(0) {
            line.send(chunk[..read].to_vec()).await?;
        }
        line.send(Vec::new()).await?;
        said_all.notified().await;
        Ok(())
    };
    let passing = async {
        tokio::select! {
            passed = down => passed,
            gone = up => gone,
        }
    };
    bounded(&runner, &tenancy, &line, passing).await;
    drop(place);
}
