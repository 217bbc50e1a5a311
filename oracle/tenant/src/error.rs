//! Why something did not work, told apart by what the user can do about it.

use reqwest::{Response, StatusCode};
use thiserror::Error;

/// Longest refusal that is read, in bytes.
const MAX_REFUSAL: usize = 4 * 1024;

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TenantError {
    /// The host will not; its own sentence. Asking again changes nothing.
    #[error("the host refuses: {0}")]
    Refused(String),
    /// The host cannot yet, or is busy; its own sentence. Ask again in a moment.
    #[error("the host is not ready for this: {0}")]
    NotYet(String),
    /// Nobody with the operator's key answers at the endpoint, or the connection broke.
    #[error("the host cannot be reached: {0}")]
    Unreachable(String),
    /// Whoever has the operator's key answers what this release does not understand.
    #[error("the host's answer is not understood ({0}): one of the two sides must be updated")]
    Garbled(String),
    /// Something on this side: the wallet, the chain's node, the workload, a file.
    #[error("{0}")]
    Here(String),
}

impl TenantError {
    /// Whether asking again in a moment may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::NotYet(_) | Self::Unreachable(_))
    }
}

impl From<reqwest::Error> for TenantError {
    fn from(error: reqwest::Error) -> Self {
        // The chain of causes holds what matters: refused, timed out, another key.
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            text = if text.is_empty() { error.to_string() } else { format!("{text}: {error}") };
            cause = error.source();
        }
        Self::Unreachable(text)
    }
}

/// The answer, if it is none of a refusal.
pub(crate) async fn accepted(answer: Response) -> Result<Response, TenantError> {
    let status = answer.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let text = String::from_utf8_lossy(&bounded(answer, MAX_REFUSAL).await.unwrap_or_default()).trim().to_owned();
    let text = if text.is_empty() { status.to_string() } else { text };
    Err(match status {
        StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::GATEWAY_TIMEOUT => TenantError::NotYet(text),
        _ => TenantError::Refused(text),
    })
}

/// A body of at most `most` bytes.
pub(crate) async fn bounded(mut answer: Response, most: usize) -> Result<Vec<u8>, TenantError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > most {
            return Err(TenantError::Garbled(format!("more than {most} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
