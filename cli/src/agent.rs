//! Asking a container's agent as a checker does: signed questions, verified answers.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, anyhow, bail, ensure};
use datagalax_client::{Address, clock::unix_now};
use datagalax_protocol::{
    BeaconAnswer, Context, Digest, Envelope, Expected, InspectionAnswer, LivenessAnswer, Payload, ReachableAnswer, Refusal,
    SampleAnswer, envelope::MAX_MESSAGE, path,
};
use solana_keypair::Keypair;
use tokio::time::{Instant, timeout};

use crate::http;

/// An agent, and who asks it about what.
pub struct Agent {
    /// Its URL.
    pub endpoint: String,
    /// Cluster, program, container and epoch.
    pub context: Context,
    /// The key that must have signed its answers.
    pub operator: Address,
    /// The key that signs the questions.
    pub key: Arc<Keypair>,
}

/// A verified answer.
pub struct Answered<A> {
    /// What it says.
    pub answer: A,
    /// From the first byte sent to the last received.
    pub took: Duration,
    /// The key that signed it.
    pub signer: Address,
}

/// Answers that name their request.
pub trait Answer: Payload {
    /// The digest of the request it answers.
    fn request(&self) -> &Digest;
}

macro_rules! answers {
    ($($answer:ty),*) => { $(impl Answer for $answer { fn request(&self) -> &Digest { &self.request } })* };
}
answers!(LivenessAnswer, InspectionAnswer, BeaconAnswer, SampleAnswer, ReachableAnswer);

/// The agent said that it cannot answer now: busy, or it has not seen that slot yet.
#[derive(Debug, thiserror::Error)]
#[error("not now: {0}")]
pub struct NotNow(String);

impl Agent {
    /// Asks once.
    ///
    /// # Errors
    /// As [`exchange`].
    pub async fn ask<Q: Payload, A: Answer>(&self, path: &str, question: &Q, patience: Duration) -> Result<Answered<A>> {
        let url = url(&self.endpoint, path)?;
        let client = if url.starts_with("https:") { http::pinned(&self.operator)? } else { http::client()? };
        exchange(&client, &url, &self.context, &self.key, question, Some(self.operator), patience).await
    }
}

/// Asks once, and verifies that the answer is signed by the key that is `expected`, or by any when there is none; the caller
/// then judges [`Answered::signer`].
///
/// # Errors
/// [`NotNow`] when asking again may help. Otherwise no answer in time, a refusal, or an answer to another question.
pub async fn exchange<Q: Payload, A: Answer>(
    client: &reqwest::Client,
    url: &str,
    context: &Context,
    key: &Keypair,
    question: &Q,
    expected: Option<Address>,
    patience: Duration,
) -> Result<Answered<A>> {
    let request = Envelope::sign(context, question, rand::random(), unix_now(), key)?;
    let start = Instant::now();
    let asked = http::post(client, url, path::CONTENT_TYPE, request.encode(), MAX_MESSAGE);
    let (status, bytes) =
        timeout(patience, asked).await.map_err(|_| anyhow!("no answer within {} ms", patience.as_millis()))??;
    let took = start.elapsed();
    let said = || String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    match status {
        200 => {}
        503 => return Err(NotNow(said()).into()),
        _ => bail!("the answer is {status}: {}", said()),
    }
    let envelope = Envelope::decode(&bytes)?;
    let signer = expected.unwrap_or(envelope.signer());
    let expected = Expected { context: *context, nonce: Some(request.nonce), signers: &[signer], now: unix_now() };
    let answer: A = envelope.verify(&expected)?;
    ensure!(*answer.request() == request.digest(), Refusal::WrongRequest);
    Ok(Answered { answer, took, signer })
}

/// The address of a path below a registered endpoint.
///
/// # Errors
/// The endpoint is no http or https URL of host, port and path alone.
pub fn url(endpoint: &str, path: &str) -> Result<String> {
    let parsed = reqwest::Url::parse(endpoint).map_err(|error| anyhow!("{endpoint:?} is no URL: {error}"))?;
    let bare = parsed.username().is_empty()
        && parsed.password().is_none()
        && parsed.query().is_none()
        && parsed.fragment().is_none();
    ensure!(
        matches!(parsed.scheme(), "http" | "https") && bare,
        "{endpoint:?} is no URL of an agent: it is http or https with host, port and perhaps a path"
    );
    Ok(format!("{}{path}", parsed.as_str().trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_and_nothing_more() {
        let of = |endpoint| url(endpoint, path::LIVENESS);
        assert_eq!(of("http://127.0.0.1:7070").unwrap(), "http://127.0.0.1:7070/v1/liveness");
        assert_eq!(of("https://relay.example/agents/7/").unwrap(), "https://relay.example/agents/7/v1/liveness");
        for bad in ["", "127.0.0.1:7070", "file:///etc/passwd", "http://user@host", "http://host/?x=1", "http://host/#x"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
