//! A workload's ports.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use datagalax_protocol::lease::path;
use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex, split},
    sync::oneshot,
};

use crate::{
    Tenant, TenantError,
    socket::{receive, send},
};

/// Bytes in a message.
const CHUNK: usize = 32 * 1024;

/// A connection to one of the workload's ports. Shutting the writing side down is seen by the workload as the end of what it
/// reads; dropping it ends the connection once what was written is sent.
#[derive(Debug)]
pub struct Port {
    stream: DuplexStream,
    _held: oneshot::Sender<()>,
}

impl AsyncRead for Port {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Port {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Tenant {
    /// Connects to one of the workload's ports.
    ///
    /// # Errors
    /// As [`TenantError`] says; [`TenantError::NotYet`] when nobody listens there yet.
    pub async fn port(&self, name: &str) -> Result<Port, TenantError> {
        let socket = self.socket(&path::port(&self.0.lease, name), &[]).await?;
        let (mut sink, mut source) = socket.split();
        let (user, near) = duplex(2 * CHUNK);
        let (mut read, mut write) = split(near);
        let (held, mut dropped) = oneshot::channel::<()>();
        let alive = self.keep_alive();
        tokio::spawn(async move {
            let up = async {
                let mut chunk = vec![0; CHUNK];
                while let read @ 1.. = read.read(&mut chunk).await.unwrap_or(0) {
                    send(&mut sink, chunk[..read].to_vec()).await?;
                }
                // An empty message ends this direction.
                send(&mut sink, Vec::new()).await
            };
            let down = async {
                while let Some(bytes) = receive(&mut source).await? {
                    let written = if bytes.is_empty() { write.shutdown().await } else { write.write_all(&bytes).await };
                    if written.is_err() {
                        break;
                    }
                }
                Ok::<_, TenantError>(())
            };
            tokio::pin!(up, down);
            let ended = tokio::select! {
                ended = &mut down => ended,
                sent = &mut up => match sent {
                    Ok(()) => tokio::select! {
                        ended = down => ended,
                        _ = &mut dropped => Ok(()),
                    },
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "the connection to the port ended");
            }
            drop(alive);
        });
        Ok(Port { stream: user, _held: held })
    }
}
