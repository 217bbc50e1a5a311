//! Copying files in and out.

use reqwest::{Body, Method};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use crate::{Tenant, TenantError, error::accepted};

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

impl Tenant {
    /// Writes a file to `path`, relative to the workload's folder.
    ///
    /// # Errors
    /// As [`TenantError`] says; a file that cannot be read here to its end is refused by the host.
    pub async fn copy_in(&self, path: &str, from: impl AsyncRead + Send + 'static) -> Result<(), TenantError> {
        // What can be known before anything is sent.
        self.status().await?;
        let body = Body::wrap_stream(ReaderStream::with_capacity(from, CHUNK));
        let request = self.file(Method::PUT, path).await?;
        accepted(request.body(body).send().await?).await.map(drop)
    }

    /// Reads a file from `path`, relative to the workload's folder; the bytes written to `to`.
    ///
    /// # Errors
    /// As [`TenantError`] says; one that breaks off half way is an error, too.
    pub async fn copy_out(&self, path: &str, to: &mut (impl AsyncWrite + Unpin)) -> Result<u64, TenantError> {
        let here = |error: std::io::Error| TenantError::Here(format!("the copy cannot be written: {error}"));
        self.status().await?;
        let request = self.file(Method::GET, path).await?;
        let mut answer = accepted(request.send().await?).await?;
        let mut copied = 0;
        while let Some(chunk) = answer.chunk().await? {
            to.write_all(&chunk).await.map_err(here)?;
            copied += chunk.len() as u64;
        }
        to.flush().await.map_err(here)?;
        Ok(copied)
    }
}
