//! One question to one agent: bounded in time and size, every failure with a name.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use datagalax_gpu::{challenge, score::capacity_percent};
use datagalax_protocol::{
    CapacityAnswer, CapacityRequest, Context, Digest, Envelope, Expected, LivenessAnswer, LivenessRequest, Malformed,
    Metrics, OpenAnswer, OpenRequest, Payload, Refusal, WorkSize,
    envelope::{MAX_MESSAGE, SignError},
    evidence::{Exchange, Outcome},
    path,
};
use rand::Rng;
use reqwest::{StatusCode, Url, redirect};
use solana_keypair::Keypair;
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};

use crate::{chain::Target, schedule, score::Capacity};

/// How agents are asked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time for a liveness probe or an opening, from connecting to the last byte.
    pub timeout: Duration,
    /// Longest time for a challenge's root; later is no answer.
    pub challenge_timeout: Duration,
    /// What a challenge asks.
    pub size: WorkSize,
    /// Rows opened.
    pub opened: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { timeout: seconds(3), challenge_timeout: seconds(5), size: challenge::CPU_SIZE, opened: 8 }
    }
}

impl Limits {
    /// The longest that a whole challenge may take, without retries.
    pub fn whole_challenge(&self) -> Duration {
        self.challenge_timeout + self.timeout
    }
}

/// Why a question has no valid answer.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The registered endpoint is no address of an agent.
    #[error("the endpoint is not an http or https address: {0}")]
    Endpoint(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection failed.
    #[error("{0}")]
    Transport(String),
    /// The agent refused.
    #[error("the agent answered {0}")]
    Status(StatusCode),
    /// The answer is longer than any message.
    #[error("the answer is longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// The answer is not a message, or not the answer to this question by this container.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The rows opened do not prove the product.
    #[error(transparent)]
    Opened(#[from] challenge::OpenError),
    /// This side could not ask.
    #[error("this checker could not ask: {0}")]
    Own(String),
}

impl From<Malformed> for ProbeError {
    fn from(malformed: Malformed) -> Self {
        Self::Refused(malformed.into())
    }
}

impl From<SignError> for ProbeError {
    fn from(error: SignError) -> Self {
        Self::Own(error.to_string())
    }
}

impl ProbeError {
    /// Whether the agent said that it is busy, or not yet aware of the committee: worth asking again at once.
    fn is_busy(&self) -> bool {
        matches!(self, Self::Status(StatusCode::SERVICE_UNAVAILABLE))
    }
}

/// What a challenge came to.
pub struct Challenged {
    /// The score.
    pub capacity: Capacity,
    /// From the challenge's first byte sent to its root's last byte received, if it came.
    pub elapsed: Option<Duration>,
    /// Its exchanges, for the evidence.
    pub exchanges: Vec<Exchange>,
    /// Why it did not prove anything.
    pub error: Option<ProbeError>,
}

/// Asks agents, signed with the checker's operator key.
pub struct Prober {
    http: reqwest::Client,
    key: Arc<Keypair>,
    limits: Limits,
    /// Rows are recomputed a few at a time: it is processor time, however many answers come at once.
    recomputing: Semaphore,
}

impl Prober {
    /// Asks with this key.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(key: Arc<Keypair>, limits: Limits) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            // A stranger's endpoint gets exactly the request meant for it: no redirects, no proxies, no kept connections.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .connect_timeout(limits.timeout)
            .build()?;
        Ok(Self { http, key, limits, recomputing: Semaphore::new(2) })
    }

    /// The limits it asks within.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Asks once for signs of life; busy answers are asked again within the same time.
    /// Without an exchange nothing was asked.
    pub async fn liveness(&self, context: &Context, target: &Target) -> (Option<Exchange>, Result<Metrics, ProbeError>) {
        let until = Instant::now() + self.limits.timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (exchange, answer): (_, Result<LivenessAnswer, _>) =
                self.exchange(context, target, path::LIVENESS, &LivenessRequest, left).await;
            match answer {
                Err(error) if error.is_busy() && pause(until).await => {}
                answer => return (exchange, answer.map(|answer| answer.metrics)),
            }
        }
    }

    /// Challenges once. Busy answers are asked again, with another seed each time, so that waiting wins nothing; the last
    /// time early enough for a whole challenge before `until`, so that a host cannot talk itself out of being judged.
    pub async fn challenge(&self, context: &Context, target: &Target, until: Instant) -> Challenged {
        let until = until.checked_sub(self.limits.whole_challenge()).unwrap_or(until);
        let mut exchanges = Vec::new();
        let (seed, root, elapsed) = loop {
            let seed: Digest = rand::random();
            let timeout = self.limits.challenge_timeout;
            let deadline_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
            let request = CapacityRequest { seed, size: self.limits.size, deadline_ms };
            let (exchange, answer): (_, Result<CapacityAnswer, _>) =
                self.exchange(context, target, path::CAPACITY, &request, timeout).await;
            match answer {
                Err(error) if error.is_busy() && pause(until).await => {}
                Err(error) => {
                    exchanges.extend(exchange);
                    let capacity = if matches!(error, ProbeError::Own(_)) { Capacity::NotAsked } else { Capacity::Failed };
                    return Challenged { capacity, elapsed: None, exchanges, error: Some(error) };
                }
                Ok(answer) => {
                    let took_us = exchange.as_ref().map_or(u64::MAX, |exchange| exchange.took_us);
                    exchanges.extend(exchange);
                    break (seed, answer.root, Duration::from_micros(took_us));
                }
            }
        };
        let rows = schedule::rows(self.limits.opened, self.limits.size.rows, &mut rand::rng());
        let request = OpenRequest { root, rows: rows.clone() };
        let (exchange, answer): (_, Result<OpenAnswer, _>) =
            self.exchange(context, target, path::OPEN, &request, self.limits.timeout).await;
        exchanges.extend(exchange);
        let proved = match answer {
            Ok(answer) => self.recompute(seed, root, rows, answer).await,
            Err(error) => Err(error),
        };
        let capacity = match &proved {
            Ok(()) => Capacity::Proved(capacity_percent(self.limits.size.operations(), elapsed, target.reference)),
            Err(ProbeError::Opened(challenge::OpenError::WrongValue(_))) => Capacity::Lied,
            Err(ProbeError::Own(_)) => Capacity::NotAsked,
            Err(_) => Capacity::Failed,
        };
        Challenged { capacity, elapsed: Some(elapsed), exchanges, error: proved.err() }
    }

    async fn recompute(&self, seed: Digest, root: Digest, rows: Vec<u32>, answer: OpenAnswer) -> Result<(), ProbeError> {
        let _turn = self.recomputing.acquire().await.map_err(|error| ProbeError::Own(error.to_string()))?;
        let size = self.limits.size;
        let check = tokio::task::spawn_blocking(move || challenge::verify(&seed, &size, &root, &rows, &answer.rows));
        Ok(check.await.map_err(|error| ProbeError::Own(error.to_string()))??)
    }

    /// Asks one question and verifies the answer.
    async fn exchange<Q: Payload, A: Payload + Answer>(
        &self,
        context: &Context,
        target: &Target,
        path: &str,
        question: &Q,
        timeout: Duration,
    ) -> (Option<Exchange>, Result<A, ProbeError>) {
        let asked_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = Instant::now();
        let issued_at = i64::try_from(asked_at.as_secs()).unwrap_or(i64::MAX);
        let request = match Envelope::sign(context, question, rand::random(), issued_at, self.key.as_ref()) {
            Ok(request) => request,
            Err(error) => return (None, Err(error.into())),
        };
        let answer = match time::timeout(timeout, self.post(target, path, request.encode())).await {
            Ok(answer) => answer,
            Err(_) => Err(ProbeError::TimedOut(timeout)),
        };
        let took = start.elapsed();
        let answer = answer.and_then(|bytes| {
            let envelope = Envelope::decode(&bytes)?;
            let expected =
                Expected { context: *context, nonce: Some(request.nonce), signers: &[target.operator], now: unix_now() };
            let payload: A = envelope.verify(&expected)?;
            if payload.request() != request.digest() {
                return Err(Refusal::WrongRequest.into());
            }
            Ok((envelope, payload))
        });
        let (outcome, answer) = match answer {
            Ok((envelope, payload)) => (Outcome::Answered(Box::new(envelope)), Ok(payload)),
            Err(error) => (Outcome::failed(&error), Err(error)),
        };
        let exchange = Exchange {
            asked_at_ms: i64::try_from(asked_at.as_millis()).unwrap_or(i64::MAX),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            request,
            outcome,
        };
        (Some(exchange), answer)
    }

    async fn post(&self, target: &Target, path: &str, body: Vec<u8>) -> Result<Vec<u8>, ProbeError> {
        let transport = |error: reqwest::Error| ProbeError::Transport(root_cause(&error));
        let url = endpoint(&target.endpoint, path)?;
        let request = self.http.post(url).header(reqwest::header::CONTENT_TYPE, path::CONTENT_TYPE).body(body);
        let mut answer = request.send().await.map_err(transport)?;
        if answer.status() != StatusCode::OK {
            return Err(ProbeError::Status(answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if bytes.len() + chunk.len() > MAX_MESSAGE {
                return Err(ProbeError::TooLong);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// Answers that name their request.
trait Answer {
    fn request(&self) -> Digest;
}

macro_rules! answers {
    ($($answer:ty),*) => { $(impl Answer for $answer { fn request(&self) -> Digest { self.request } })* };
}
answers!(LivenessAnswer, CapacityAnswer, OpenAnswer);

/// Waits a random moment before asking a busy agent again; false when there is no time for that.
async fn pause(until: Instant) -> bool {
    let moment = Duration::from_millis(rand::rng().random_range(100..600));
    if Instant::now() + moment >= until {
        return false;
    }
    time::sleep(moment).await;
    true
}

/// The address of an agent's interface below its registered endpoint.
fn endpoint(endpoint: &str, path: &str) -> Result<Url, ProbeError> {
    let bad = |reason: &str| ProbeError::Endpoint(format!("{endpoint:?} ({reason})"));
    let mut url = Url::parse(endpoint).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("another scheme"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("more than host, port and path"));
    }
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}{path}"));
    Ok(url)
}

/// The innermost message: reqwest's own only repeats the address.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_and_nothing_more() {
        let of = |text| endpoint(text, path::LIVENESS).map(|url| url.to_string());
        assert_eq!(of("http://127.0.0.1:7070").unwrap(), "http://127.0.0.1:7070/v1/liveness");
        assert_eq!(of("https://relay.example/agents/7/").unwrap(), "https://relay.example/agents/7/v1/liveness");
        for bad in
            ["", "127.0.0.1:7070", "file:///etc/passwd", "http://user:pass@host", "http://host/?x=1", "http://host/#x"]
        {
            assert!(matches!(of(bad), Err(ProbeError::Endpoint(_))), "{bad}");
        }
    }
}
