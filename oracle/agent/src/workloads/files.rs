//! Copying files into and out of a workload's folder, over connections that may last longer than others.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Extension, Query, State as Shared},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use datagalax_protocol::path::CONTENT_TYPE;
use datagalax_runtime::{Exec, RuntimeError};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    time::{self, Instant},
};
use tokio_util::io::StreamReader;

use super::{
    line::CONTENT,
    lock,
    routes::{Admitted, Place, Users, reachable},
    tenancy::Tenancy,
};
use crate::{
    listen::{Hold, Lifeline},
    server::{Refused, internal},
};

/// Most bytes of what a failing copy says that are told.
const MAX_REASON: u64 = 1_000;

#[derive(Deserialize)]
pub(super) struct Named {
    path: String,
}

/// A copy on its way: its place, and its hold on the connection, which is let go when the copy stands still, the lease is over,
/// or its user has no session any more.
struct Transfer {
    _place: Place,
    _hold: Hold,
    last: Arc<Mutex<Instant>>,
    watch: tokio::task::AbortHandle,
}

impl Transfer {
    fn begin(users: &Users, tenancy: &Arc<Tenancy>, lifeline: &Lifeline) -> Result<Self, Refused> {
        let place = users.stream_place(tenancy)?;
        let last = Arc::new(Mutex::new(Instant::now()));
        let (runner, tenancy, cut, seen) = (users.runner.clone(), tenancy.clone(), lifeline.clone(), last.clone());
        let idle = runner.patience().send;
        let watch = tokio::spawn(async move {
            let still = async {
                loop {
                    let until = *lock(&seen) + idle;
                    if until <= Instant::now() {
                        return;
                    }
                    time::sleep_until(until).await;
                }
            };
            tokio::select! {
                () = still => {}
                () = tenancy.over.cancelled() => {}
                () = runner.sessions().over(&tenancy.lease) => {}
            }
            cut.cut();
        });
        Ok(Self { _place: place, _hold: lifeline.hold(), last, watch: watch.abort_handle() })
    }

    fn progress(&self) {
        *lock(&self.last) = Instant::now();
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn refused(error: &RuntimeError) -> Refused {
    let status = match error {
        RuntimeError::Path(_) => StatusCode::BAD_REQUEST,
        RuntimeError::Copy { .. } => StatusCode::CONFLICT,
        RuntimeError::Ended(_) | RuntimeError::Absent(_) => StatusCode::GONE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refused(status, error.to_string())
}

pub(super) async fn copy_in(
    Shared(users): Shared<Arc<Users>>,
    Admitted(tenancy): Admitted,
    Extension(lifeline): Extension<Lifeline>,
    Query(Named { path }): Query<Named>,
    body: Body,
) -> Result<StatusCode, Refused> {
    reachable(&tenancy, false)?;
    let transfer = Transfer::begin(&users, &tenancy, &lifeline)?;
    let most = users.runner.disk(&tenancy);
    let bytes = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    let mut incoming = Incoming { bytes, transfer: &transfer, left: most, failed: None };
    let copied = users.runner.runtime().copy_in(&tenancy.id, &path, &mut incoming).await;
    match (incoming.failed, copied) {
        (Some(Failed::TooLong), _) => {
            let text = format!("the file has more than the {most} bytes of disk that the workload may use");
            Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        (Some(Failed::Broken), _) => {
            Err(Refused(StatusCode::BAD_REQUEST, "the file broke off on its way: what came of it is there".into()))
        }
        (None, Ok(())) => Ok(StatusCode::NO_CONTENT),
        (None, Err(error)) => Err(refused(&error)),
    }
}

/// A file on its way in, with a bound. What fails ends it, and is told.
struct Incoming<'a, R> {
    bytes: R,
    transfer: &'a Transfer,
    left: u64,
    failed: Option<Failed>,
}

#[derive(Clone, Copy)]
enum Failed {
    TooLong,
    Broken,
}

impl<R: AsyncRead + Unpin> AsyncRead for Incoming<'_, R> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.bytes).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = read {
            self.transfer.progress();
            let read = (buffer.filled().len() - before) as u64;
            match self.left.checked_sub(read) {
                Some(left) => self.left = left,
                None => {
                    self.failed = Some(Failed::TooLong);
                    buffer.set_filled(before);
                    return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
                }
            }
        } else if let Poll::Ready(Err(_)) = read {
            self.failed = Some(Failed::Broken);
        }
        read
    }
}

pub(super) async fn copy_out(
    Shared(users): Shared<Arc<Users>>,
    Admitted(tenancy): Admitted,
    Extension(lifeline): Extension<Lifeline>,
    Query(Named { path }): Query<Named>,
) -> Result<Response, Refused> {
    reachable(&tenancy, true)?;
    let transfer = Transfer::begin(&users, &tenancy, &lifeline)?;
    let exec = users.runner.runtime().copy_out(&tenancy.id, &path).await.map_err(|error| refused(&error))?;
    let Exec { stdin, mut stdout, mut stderr, ended } = exec;
    drop(stdin);
    // Whether there is such a file is known with its first bytes, or with its end.
    let mut chunk = vec![0; CONTENT];
    let read = time::timeout(Duration::from_secs(20), stdout.read(&mut chunk)).await;
    let read = read.map_err(|_| Refused(StatusCode::SERVICE_UNAVAILABLE, "the file is not read in time".into()))?;
    let read = read.map_err(internal)?;
    if read == 0 {
        let mut said = Vec::new();
        (&mut stderr).take(MAX_REASON).read_to_end(&mut said).await.ok();
        drop(stderr);
        return match ended.await {
            Ok(0) => Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], Body::empty()).into_response()),
            Ok(_) => {
                let text = format!("the file cannot be read: {}", String::from_utf8_lossy(&said).trim());
                Err(Refused(StatusCode::NOT_FOUND, text))
            }
            Err(error) => Err(refused(&error)),
        };
    }
    chunk.truncate(read);
    let rest =
        stream::try_unfold((stdout, stderr, Some(ended), transfer), async |(mut stdout, stderr, mut ended, transfer)| {
            transfer.progress();
            let mut chunk = vec![0; CONTENT];
            let read = stdout.read(&mut chunk).await?;
            if read > 0 {
                chunk.truncate(read);
                return Ok(Some((chunk, (stdout, stderr, ended, transfer))));
            }
            // One that failed half way must not look whole.
            let Some(ended) = ended.take() else { return Ok(None) };
            drop(stderr);
            match ended.await {
                Ok(0) => Ok(None),
                Ok(status) => Err(io::Error::other(format!("the copy ended with status {status}"))),
                Err(error) => Err(io::Error::other(error)),
            }
        });
    let all = stream::iter([Ok(chunk)]).chain(rest);
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], Body::from_stream(all)).into_response())
}
