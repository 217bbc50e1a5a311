//! Questions over HTTP that are not the client's: bounded in time and size.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use datagalax_client::Address;
use datagalax_service::tls;
use reqwest::redirect;
use serde_json::Value;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(4);

/// A client that goes where it is told and nowhere else.
///
/// # Errors
/// The system's TLS cannot be set up.
pub fn client() -> Result<reqwest::Client> {
    let builder = reqwest::Client::builder().redirect(redirect::Policy::none()).no_proxy().connect_timeout(CONNECT);
    builder.build().context("no HTTP client can be set up")
}

/// A client that talks HTTPS with nobody but the holder of this key, whatever the host's name.
///
/// # Errors
/// As [`client`].
pub fn pinned(operator: &Address) -> Result<reqwest::Client> {
    tls::http(operator).connect_timeout(CONNECT).build().context("no HTTPS client can be set up")
}

/// Sends a body and reads the answer: its status and at most `most` bytes.
///
/// # Errors
/// No answer, or a longer one. Whoever calls bounds the time.
pub async fn post(
    client: &reqwest::Client,
    url: &str,
    content_type: &str,
    body: Vec<u8>,
    most: usize,
) -> Result<(u16, Vec<u8>)> {
    let request = client.post(url).header(reqwest::header::CONTENT_TYPE, content_type).body(body);
    let mut answer = request.send().await.map_err(|error| anyhow::anyhow!(root_cause(&error)))?;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| anyhow::anyhow!(root_cause(&error)))? {
        ensure!(bytes.len() + chunk.len() <= most, "the answer is longer than {most} bytes");
        bytes.extend_from_slice(&chunk);
    }
    Ok((answer.status().as_u16(), bytes))
}

/// Sends JSON and reads JSON, at most 64 KiB.
///
/// # Errors
/// No answer, or none that is JSON.
pub async fn post_json(url: &str, body: &Value) -> Result<Value> {
    let (_, bytes) = post(&client()?, url, "application/json", serde_json::to_vec(body)?, 64 << 10).await?;
    serde_json::from_slice(&bytes).context("the answer is not JSON")
}

/// The innermost message: reqwest's own only repeats the address.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
