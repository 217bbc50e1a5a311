//! One question to one agent: bounded in time and size, every failure with a name.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use datagalax_client::clock::unix_now;
use datagalax_gpu::{
    ask::Ask,
    beacon::{self, Slot},
    capacity::{self, SampleError, Spread},
    location::Location,
    score,
};
use datagalax_protocol::{
    BeaconAnswer, BeaconRequest, Context, Digest, Envelope, Expected, Inspection, InspectionAnswer, InspectionRequest,
    LivenessAnswer, LivenessRequest, Malformed, Payload, Refusal, SampleAnswer, SampleRequest,
    beacon::contradicts,
    envelope::{MAX_MESSAGE, SignError},
    evidence::{BeaconEvidence, Exchange, Outcome},
    path,
};
use datagalax_service::tls;
use futures_util::future::BoxFuture;
use rand::Rng;
use reqwest::{StatusCode, Url, redirect};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};

use crate::{
    beacons::Beacon,
    chain::Target,
    metrics::Metrics,
    reach::{self, Policy},
    score::BeaconScore,
};

/// How agents are asked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time for a liveness probe or an opening, from connecting to the last byte.
    pub timeout: Duration,
    /// What is opened of each answer to a beacon.
    pub spread: Spread,
    /// Answers to beacons that are recomputed at the same time: it is processor time, however many come at once.
    pub recomputing: usize,
    /// Which addresses may be asked.
    pub policy: Policy,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), spread: Spread::default(), recomputing: 2, policy: Policy::Public }
    }
}

/// Why a question has no valid answer.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The registered endpoint is no address of an agent.
    #[error(transparent)]
    Endpoint(#[from] reach::EndpointError),
    /// No answer in time.
    #[error("no answer within {0:.1?}")]
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
    /// The answer is to another beacon.
    #[error("the answer is to another beacon")]
    WrongBeacon,
    /// The root is of other work than the container's class is asked for.
    #[error("the root is of other work than the container's class is asked for")]
    WrongWorkload,
    /// What was opened does not prove the work.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A second root for one beacon, both signed.
    #[error("the host signed two roots for one beacon")]
    TwoRoots,
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
    /// Whether the agent said that it is busy, or not yet aware of the committee or the slot: worth asking again at once.
    fn is_busy(&self) -> bool {
        matches!(self, Self::Status(StatusCode::SERVICE_UNAVAILABLE))
    }
}

/// What came of asking about a beacon.
pub struct Asked {
    /// The score.
    pub score: BeaconScore,
    /// From the slot's first sight to the signed root, if one came in time and the slot was seen.
    pub elapsed: Option<Duration>,
    /// Its exchanges, for the evidence.
    pub evidence: BeaconEvidence,
    /// Why it did not prove anything.
    pub error: Option<ProbeError>,
}

/// Reads from the chain once more what is asked of a container: a lease that begins changes it from one instant to the next.
pub type Reread<'a> = &'a (dyn Fn() -> BoxFuture<'a, Option<Ask>> + Sync);

/// Asks agents, signed with the checker's operator key.
pub struct Prober {
    http: reqwest::Client,
    key: Arc<Keypair>,
    limits: Limits,
    recomputing: Semaphore,
    metrics: Metrics,
}

impl Prober {
    /// Asks with this key.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(key: Arc<Keypair>, limits: Limits, metrics: Metrics) -> Result<Self, reqwest::Error> {
        let http = client(reqwest::Client::builder(), &limits).build()?;
        let recomputing = Semaphore::new(limits.recomputing.clamp(1, Semaphore::MAX_PERMITS));
        Ok(Self { http, key, limits, recomputing, metrics })
    }

    /// The limits it asks within.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Asks once for signs of life; busy answers are asked again within the same time.
    /// Without an exchange nothing was asked.
    pub async fn liveness(
        &self,
        context: &Context,
        target: &Target,
    ) -> (Option<Exchange>, Result<datagalax_protocol::Metrics, ProbeError>) {
        let (exchange, answer) = self.ask::<_, LivenessAnswer>(context, target, path::LIVENESS, &LivenessRequest).await;
        (exchange, answer.map(|answer| answer.metrics))
    }

    /// Asks once what the host is made of; busy answers are asked again within the same time. Without an exchange nothing was
    /// asked.
    pub async fn inspection(
        &self,
        context: &Context,
        target: &Target,
    ) -> (Option<Exchange>, Result<Inspection, ProbeError>) {
        let (exchange, answer) =
            self.ask::<_, InspectionAnswer>(context, target, path::INSPECTION, &InspectionRequest).await;
        (exchange, answer.map(|answer| answer.inspection))
    }

    async fn ask<Q: Payload, A: Payload + Answer>(
        &self,
        context: &Context,
        target: &Target,
        path: &str,
        question: &Q,
    ) -> (Option<Exchange>, Result<A, ProbeError>) {
        let until = Instant::now() + self.limits.timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (exchange, answer) = self.exchange(context, target, path, question, left).await;
            match answer {
                Err(error) if error.is_busy() && pause(until).await => {}
                answer => return (exchange, answer),
            }
        }
    }

    /// Asks for the answer to a beacon, opens rows and walks of it by a secret drawn after the root came, and judges.
    ///
    /// The root must come within the deadline, counted from the first sight of the slot; nothing is waited for after `until`. A
    /// beacon that this run did not see is asked for its token alone.
    pub async fn beacon(
        &self,
        context: &Context,
        target: &Target,
        beacon: &Beacon,
        until: Instant,
        reread: Reread<'_>,
    ) -> Asked {
        let slot = beacon.slot;
        let mut evidence =
            BeaconEvidence { slot: slot.number, slot_hash: slot.hash, elapsed_us: None, exchanges: Vec::new() };
        let none = |score, error, evidence| Asked { score, elapsed: None, evidence, error: Some(error) };
        let Some(ask) = target.ask else {
            let error = ProbeError::Own("no challenge can be planned for the container's class".into());
            return none(BeaconScore::NotAsked, error, evidence);
        };
        let deadline = match beacon.seen {
            Some(seen) => seen + ask.schedule.deadline,
            None => Instant::now() + self.limits.timeout,
        };
        let root = self.root(context, target, &slot, &ask, deadline.min(until), &mut evidence.exchanges).await;
        let arrived = Instant::now();
        let (answer, signed) = match root {
            Ok(root) => root,
            Err(error) => {
                // Judged is only who was listened to until the deadline of a beacon that was one for everybody.
                let fair = beacon.seen.is_some() && beacon.certain && !matches!(error, ProbeError::Own(_));
                let cut = matches!(error, ProbeError::TimedOut(_) | ProbeError::Status(_)) && until < deadline;
                let score = if fair && !cut { BeaconScore::Unanswered } else { BeaconScore::NotAsked };
                return none(score, error, evidence);
            }
        };
        let elapsed = beacon.seen.map(|seen| arrived.saturating_duration_since(seen));
        evidence.elapsed_us = elapsed.map(|elapsed| u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
        let ask = if answer.workload == ask.workload { Some(ask) } else { reread().await };
        let Some(ask) = ask.filter(|ask| ask.workload == answer.workload) else {
            let score = if beacon.seen.is_some() { BeaconScore::Unanswered } else { BeaconScore::NotAsked };
            return none(score, ProbeError::WrongWorkload, evidence);
        };
        let challenge = beacon::challenge(&slot.hash, &target.container.to_bytes());
        let token = beacon::token(Some(&answer.root));
        let opened = self.open(context, target, &ask, &challenge, &answer, elapsed, &mut evidence.exchanges).await;
        let (capacity, mut dishonest, mut error) = match opened {
            Ok(judged) => (Some(judged.capacity), judged.dishonest, judged.error.map(ProbeError::from)),
            Err(error @ ProbeError::Own(_)) => (None, false, Some(error)),
            Err(error) => (Some(0), false, Some(error)),
        };
        // A root made up to win time is not opened: the host must then stand by it, or sign the true one as well.
        if error.is_some() && !dishonest {
            let until = (Instant::now() + self.limits.timeout).min(until.max(Instant::now() + self.limits.timeout / 2));
            let again = self.root(context, target, &slot, &ask, until, &mut evidence.exchanges).await;
            if again.is_ok_and(|(_, again)| contradicts(&signed, &again)) {
                (dishonest, error) = (true, Some(ProbeError::TwoRoots));
            }
        }
        let capacity = capacity.filter(|_| elapsed.is_some());
        Asked { score: BeaconScore::Answered { capacity, token, dishonest }, elapsed, evidence, error }
    }

    /// The signed root; a busy host is asked again until `until`.
    async fn root(
        &self,
        context: &Context,
        target: &Target,
        slot: &Slot,
        ask: &Ask,
        until: Instant,
        exchanges: &mut Vec<Exchange>,
    ) -> Result<(BeaconAnswer, Envelope), ProbeError> {
        let request = BeaconRequest { slot: slot.number, workload: ask.workload, deadline_ms: ask.schedule.deadline_ms() };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (exchange, answer): (_, Result<BeaconAnswer, _>) =
                self.exchange(context, target, path::BEACON, &request, left).await;
            if answer.as_ref().is_err_and(ProbeError::is_busy) && pause(until).await {
                continue;
            }
            let signed = exchange.as_ref().and_then(|exchange| match &exchange.outcome {
                Outcome::Answered(envelope) => Some(envelope.as_ref().clone()),
                Outcome::Failed(_) => None,
            });
            exchanges.extend(exchange);
            let answer = answer?;
            if (answer.slot, answer.slot_hash) != (slot.number, slot.hash) {
                return Err(ProbeError::WrongBeacon);
            }
            return signed.map(|signed| (answer, signed)).ok_or_else(|| ProbeError::Own("an answer was lost".into()));
        }
    }

    /// Opens what this checker alone chose, after the root was signed, and judges it.
    #[expect(clippy::too_many_arguments, reason = "all of one answer")]
    async fn open(
        &self,
        context: &Context,
        target: &Target,
        ask: &Ask,
        challenge: &Digest,
        answer: &BeaconAnswer,
        elapsed: Option<Duration>,
        exchanges: &mut Vec<Exchange>,
    ) -> Result<score::Judgement, ProbeError> {
        // From the thread's cryptographic generator, seeded by the system.
        let secret: Digest = rand::random();
        let request = capacity::draw(&answer.workload, &answer.root, &self.limits.spread, &secret);
        let until = Instant::now() + self.limits.timeout;
        let opened = loop {
            let left = until.saturating_duration_since(Instant::now());
            let (exchange, opened): (_, Result<SampleAnswer, _>) =
                self.exchange(context, target, path::SAMPLE, &request, left).await;
            // One connection that broke is not a host that cannot open.
            let again = opened.as_ref().is_err_and(|error| error.is_busy() || matches!(error, ProbeError::Transport(_)));
            if again && pause(until).await {
                continue;
            }
            exchanges.extend(exchange);
            break opened?;
        };
        self.judge(*ask, *challenge, answer.workload, elapsed.unwrap_or_default(), request, opened).await
    }

    async fn judge(
        &self,
        ask: Ask,
        challenge: Digest,
        workload: datagalax_protocol::Workload,
        elapsed: Duration,
        request: SampleRequest,
        opened: SampleAnswer,
    ) -> Result<score::Judgement, ProbeError> {
        let own = |error: &dyn std::fmt::Display| ProbeError::Own(error.to_string());
        let arrived = Instant::now();
        let _turn = self.recomputing.acquire().await.map_err(|error| own(&error))?;
        let judging = tokio::task::spawn_blocking(move || {
            let answer = score::Answer {
                challenge: &challenge,
                workload: &workload,
                elapsed,
                request: &request,
                opened: &opened.devices,
            };
            // Where it is, is judged at the end of the epoch, by all its round trips.
            answer.judge(&ask.schedule, ask.reference, Location::Unknown)
        });
        let judged = judging.await.map_err(|error| own(&error));
        self.metrics.verifying_seconds.observe(arrived.elapsed().as_secs_f64());
        judged
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
        let url = reach::url(&target.endpoint, path, self.limits.policy)?;
        let http = self.client(&url, &target.operator)?;
        let request = http.post(url).header(reqwest::header::CONTENT_TYPE, path::CONTENT_TYPE).body(body);
        let mut answer = request.send().await.map_err(|error| transport(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(ProbeError::Status(answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| transport(&error))? {
            if bytes.len() + chunk.len() > MAX_MESSAGE {
                return Err(ProbeError::TooLong);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Whether an endpoint gives an HTTP answer of any status to `GET /live`; nothing of the answer is kept.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn reachable(&self, endpoint: &str, operator: &Pubkey) -> Result<(), ProbeError> {
        let url = reach::url(endpoint, "/live", self.limits.policy)?;
        let asked = self.client(&url, operator)?.get(url).send();
        match time::timeout(self.limits.timeout, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(transport(&error)),
            Err(_) => Err(ProbeError::TimedOut(self.limits.timeout)),
        }
    }

    /// Plain HTTP for `http`; for `https` a client that insists on the operator's own key, whatever the host's name.
    fn client(&self, url: &Url, operator: &Pubkey) -> Result<reqwest::Client, ProbeError> {
        if url.scheme() == "http" {
            return Ok(self.http.clone());
        }
        let pinned = client(tls::http(operator), &self.limits).build();
        pinned.map_err(|error| ProbeError::Own(format!("no TLS client: {error}")))
    }
}

/// A stranger's endpoint gets exactly the request meant for it: no redirects, no proxies, no kept connections, and only
/// addresses that the policy allows.
fn client(builder: reqwest::ClientBuilder, limits: &Limits) -> reqwest::ClientBuilder {
    builder
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(limits.timeout)
        .dns_resolver(Arc::new(reach::Resolver(limits.policy)))
}

/// Answers that name their request.
trait Answer {
    fn request(&self) -> Digest;
}

macro_rules! answers {
    ($($answer:ty),*) => { $(impl Answer for $answer { fn request(&self) -> Digest { self.request } })* };
}
answers!(LivenessAnswer, InspectionAnswer, BeaconAnswer, SampleAnswer);

/// Waits a random moment before asking a busy agent again; false when there is no time for that.
async fn pause(until: Instant) -> bool {
    let moment = Duration::from_millis(rand::rng().random_range(100..400));
    if Instant::now() + moment >= until {
        return false;
    }
    time::sleep(moment).await;
    true
}

/// The innermost message: reqwest's own only repeats the address.
fn transport(error: &reqwest::Error) -> ProbeError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    ProbeError::Transport(cause.to_string())
}
