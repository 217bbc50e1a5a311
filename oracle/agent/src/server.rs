//! The HTTP interface.
//!
//! A request passes, in this order: a bound on connections ([`crate::listen`]), one on its address's rate, one on requests in
//! flight, one on its size and on the time its body takes, then [`crate::admission`].

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Extension, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use datagalax_client::clock::unix_now;
use datagalax_gpu::{Probe, ProbeError};
use datagalax_protocol::{
    BeaconAnswer, BeaconRequest, Envelope, InspectionAnswer, InspectionRequest, LivenessAnswer, LivenessRequest, Payload,
    SampleAnswer, SampleRequest, envelope::MAX_MESSAGE, path,
};
use datagalax_service::Health;
use serde_json::json;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};
use tower_http::limit::RequestBodyLimitLayer;

use crate::{
    admission::{Admission, Denied, Role},
    beacon::{
        Beacons, Known,
        prover::{Cause, Progress, Prover, Task, Unproven},
    },
    limit::{Buckets, Rate},
    listen::Origin,
    metrics::{Answer, Metrics},
};

/// Longest time for a body to come in.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for a request from its headers to its answer, but for those that wait for a beacon's root.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for the root of a challenge that was asked for after its time.
pub const ASKED_TIMEOUT: Duration = Duration::from_secs(120);
/// Most requests in flight.
pub const CONCURRENCY: usize = 64;
/// Most requests that wait for a beacon's root: the five seats and the operator, with repetitions.
pub const WAITING: usize = 32;
/// Most readings of the hardware at a time.
pub const PROBING: usize = 8;
/// What one address may ask, before anything is known of it. All the seats may sit behind one.
pub const PER_ADDRESS: Rate = Rate::per_second(256, 64);
/// Most addresses that are told apart.
pub const ADDRESSES: usize = 4_096;

/// Everything the handlers share.
pub struct Agent {
    /// The container's operator key.
    pub key: Keypair,
    /// The container's account.
    pub container: Pubkey,
    /// The hardware.
    pub probe: Arc<dyn Probe>,
    /// The beacons' challenges.
    pub prover: Prover,
    /// The beacons.
    pub beacons: Mutex<Beacons>,
    /// Whether it can work.
    pub health: Health,
    /// What is counted.
    pub metrics: Metrics,
    /// Set once the registration was found on chain.
    pub admission: OnceLock<Admission>,
    /// Places for requests that wait for a beacon's root.
    pub waiting: Semaphore,
    /// Places for readings of the hardware. They go with the reading, not with the request: a driver that hangs must not take
    /// all threads.
    pub probing: Arc<Semaphore>,
}

/// A refusal as the asker sees it: a status and one line.
pub(crate) struct Refused(pub StatusCode, pub String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        let status = match &denied {
            Denied::Refused(datagalax_protocol::Refusal::Malformed(_)) => StatusCode::BAD_REQUEST,
            Denied::Refused(_) => StatusCode::FORBIDDEN,
            Denied::Replayed => StatusCode::CONFLICT,
            Denied::TooMany | Denied::TooManyKeys | Denied::TooFast(_) | Denied::Overloaded(_) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Denied::NotForLessees => StatusCode::FORBIDDEN,
            Denied::NotYet(_) | Denied::Chain(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, denied.to_string())
    }
}

impl From<Unproven> for Refused {
    fn from(error: Unproven) -> Self {
        let status = match error {
            Unproven::Queue | Unproven::CalledOff => StatusCode::SERVICE_UNAVAILABLE,
            Unproven::UnknownRoot => StatusCode::NOT_FOUND,
            Unproven::Outside => StatusCode::BAD_REQUEST,
            Unproven::Late => StatusCode::GATEWAY_TIMEOUT,
            Unproven::Prove(_) | Unproven::Devices(_) | Unproven::OtherRoot | Unproven::Record(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self(status, error.to_string())
    }
}

/// The routes with all their bounds. `users`: those for users of leases, where this agent runs workloads.
pub(crate) fn router(agent: Arc<Agent>, users: Option<Router>) -> Router {
    let in_flight = Arc::new(Semaphore::new(CONCURRENCY));
    let addresses = Arc::new(Mutex::new(Buckets::new(PER_ADDRESS, ADDRESSES)));
    let short = Router::new()
        .route(path::LIVENESS, post(liveness))
        .route(path::INSPECTION, post(inspection))
        .route(path::SAMPLE, post(sample))
        .route("/v1/info", get(info))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let in_flight = in_flight.clone();
            async move {
                let Ok(_place) = in_flight.try_acquire() else {
                    return Refused(StatusCode::SERVICE_UNAVAILABLE, "too many requests in flight".into()).into_response();
                };
                let late = |_| Refused(StatusCode::REQUEST_TIMEOUT, "the request took too long".into()).into_response();
                time::timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(late)
            }
        }));
    // It waits for its root, by its own deadline and in places of its own.
    let metrics = agent.metrics.clone();
    Router::new()
        .route(path::BEACON, post(beacon))
        .merge(short)
        .with_state(agent)
        .layer(middleware::from_fn(buffered))
        .layer(RequestBodyLimitLayer::new(MAX_MESSAGE))
        // Their files are longer, with bounds of their own.
        .merge(users.unwrap_or_default())
        .layer(middleware::from_fn(move |origin: Option<Extension<Origin>>, request: Request, next: Next| {
            let addresses = addresses.clone();
            async move {
                if let Some(Extension(origin)) = origin {
                    let taken = addresses.lock().unwrap_or_else(PoisonError::into_inner).take(origin, Instant::now());
                    if let Err(wait) = taken {
                        let text = format!("this address asks too fast: ask again in {} ms", wait.as_millis());
                        return Refused(StatusCode::TOO_MANY_REQUESTS, text).into_response();
                    }
                }
                next.run(request).await
            }
        }))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let metrics = metrics.clone();
            async move {
                let answer = next.run(request).await;
                metrics.requests.get_or_create(&outcome(answer.status())).inc();
                answer
            }
        }))
}

fn outcome(status: StatusCode) -> Answer {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::CONFLICT => Answer::Forbidden,
        StatusCode::TOO_MANY_REQUESTS => Answer::TooMany,
        StatusCode::SERVICE_UNAVAILABLE => Answer::Unavailable,
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => Answer::Late,
        StatusCode::SWITCHING_PROTOCOLS => Answer::Answered,
        status if status.is_success() => Answer::Answered,
        status if status.is_client_error() => Answer::BadRequest,
        _ => Answer::Failed,
    }
}

/// Reads the whole body first: a body that trickles in holds nothing but its connection, and not for long.
pub(crate) async fn buffered(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_MESSAGE)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(_)) => {
            let text = format!("the body is longer than {MAX_MESSAGE} bytes, or broke off");
            Refused(StatusCode::PAYLOAD_TOO_LARGE, text).into_response()
        }
        Err(_) => Refused(StatusCode::REQUEST_TIMEOUT, "the body took too long".into()).into_response(),
    }
}

async fn liveness(State(agent): State<Arc<Agent>>, body: Bytes) -> Result<Response, Refused> {
    let (request, LivenessRequest, _) = agent.admit(&body).await?;
    let metrics = agent.read(|probe| probe.measure(unix_now())).await?;
    agent.answer(&request, |request| LivenessAnswer { request, metrics })
}

async fn inspection(State(agent): State<Arc<Agent>>, body: Bytes) -> Result<Response, Refused> {
    let (request, InspectionRequest, _) = agent.admit(&body).await?;
    let inspection = agent.read(|probe| probe.inspect(unix_now())).await?;
    agent.answer(&request, |request| InspectionAnswer { request, inspection })
}

/// Answers with the root of a beacon as soon as it is there. The operator may ask for any slot that is remembered.
async fn beacon(State(agent): State<Arc<Agent>>, body: Bytes) -> Result<Response, Refused> {
    let unavailable = |text: String| Refused(StatusCode::SERVICE_UNAVAILABLE, text);
    let _place = agent.waiting.try_acquire().map_err(|_| unavailable("too many requests wait for a root".into()))?;
    let (request, asked, role): (_, BeaconRequest, _) = time::timeout(REQUEST_TIMEOUT, agent.admit(&body))
        .await
        .map_err(|_| unavailable("the chain does not answer".into()))??;
    let known = agent.beacons.lock().unwrap_or_else(PoisonError::into_inner).known(request.epoch, asked.slot);
    let seen = match known {
        Known::Beacon(seen) => seen,
        Known::Slot(seen) if role == Role::Operator => seen,
        Known::Slot(_) => {
            let text = format!("slot {} is no beacon of epoch {} as this host saw it", asked.slot, request.epoch);
            return Err(Refused(StatusCode::NOT_FOUND, text));
        }
        Known::NotYet => return Err(unavailable(format!("slot {} was not seen here yet: ask again", asked.slot))),
        Known::Never => {
            let text = format!("slot {} is too long ago, or never was", asked.slot);
            return Err(Refused(StatusCode::NOT_FOUND, text));
        }
    };
    let mut progress = match agent.prover.find(&seen.slot) {
        Some(progress) => progress,
        // A beacon of before this agent started, or a slot that only the operator asks for.
        None => {
            let committee = agent.admission()?.committee().filter(|committee| committee.epoch == request.epoch);
            let ask = committee.ok_or_else(|| unavailable("the epoch has just changed: ask again".into()))?.ask;
            let nothing =
                |reason| Refused(StatusCode::NOT_FOUND, format!("nothing can be asked of this container: {reason}"));
            // Whatever the asker expects, this is what the chain asks; it compares.
            let ask = ask.map_err(nothing)?;
            let task = Task { epoch: request.epoch, slot: seen.slot, seen: seen.seen, ask, cause: Cause::Asked };
            agent.prover.request(task)?
        }
    };
    let deadline = Duration::from_millis(u64::from(asked.deadline_ms));
    let until = match role {
        Role::Operator => Instant::now() + deadline.min(ASKED_TIMEOUT),
        // A deadline that is over already still gets what is there.
        _ => (seen.seen + deadline.min(ASKED_TIMEOUT)).max(Instant::now() + Duration::from_millis(100)),
    };
    let done = time::timeout_at(until, progress.wait_for(|progress| !matches!(progress, Progress::Working))).await;
    let proven = match done {
        Ok(Ok(progress)) => match &*progress {
            Progress::Done(proven) => proven.clone(),
            Progress::Failed(error) => return Err(error.clone().into()),
            Progress::Working => return Err(internal("a root that is done and is not")),
        },
        Ok(Err(_)) => return Err(Unproven::Queue.into()),
        Err(_) => return Err(Unproven::Late.into()),
    };
    let elapsed_us = u64::try_from(proven.elapsed.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(slot = asked.slot, checker = %request.signer(), elapsed_us, "beacon answered");
    agent.answer(&request, |request| BeaconAnswer {
        request,
        slot: proven.slot.number,
        slot_hash: proven.slot.hash,
        workload: proven.workload,
        root: proven.root,
        elapsed_us,
    })
}

async fn sample(State(agent): State<Arc<Agent>>, body: Bytes) -> Result<Response, Refused> {
    let (request, asked, _): (_, SampleRequest, _) = agent.admit(&body).await?;
    let devices = agent.prover.sample(&asked)?;
    agent.answer(&request, |request| SampleAnswer { request, devices })
}

/// For strangers: whether it works, and what it is about. The reasons are the operator's (`--monitor`).
async fn ready(State(agent): State<Arc<Agent>>) -> Response {
    let topics: Vec<_> = agent.health.topics().into_keys().collect();
    let status = if topics.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": topics.is_empty(), "topics": topics }))).into_response()
}

async fn info(State(agent): State<Arc<Agent>>) -> Response {
    let committee = agent.admission.get().and_then(Admission::committee);
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "container": agent.container.to_string(),
        "operator": agent.key.pubkey().to_string(),
        "fingerprint": hex::encode(agent.probe.fingerprint()),
        "hardware": agent.probe.hardware_class(),
        "epoch": committee.map(|committee| committee.epoch),
    }))
    .into_response()
}

impl Agent {
    pub(crate) fn admission(&self) -> Result<&Admission, Refused> {
        let text = "the registration was not found on chain yet";
        self.admission.get().ok_or_else(|| Refused(StatusCode::SERVICE_UNAVAILABLE, text.into()))
    }

    /// Reads the hardware.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Probe) -> Result<T, ProbeError> + Send + 'static,
    ) -> Result<T, Refused> {
        let busy = |_| Refused(StatusCode::SERVICE_UNAVAILABLE, "the hardware is being read by others: ask again".into());
        let place = self.probing.clone().try_acquire_owned().map_err(busy)?;
        let probe = self.probe.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let read = read(probe.as_ref());
            drop(place);
            read
        });
        reading.await.map_err(internal)?.map_err(internal)
    }

    async fn admit<P: Payload>(&self, body: &[u8]) -> Result<(Envelope, P, Role), Refused> {
        let admission = self.admission()?;
        let envelope = Envelope::decode(body).map_err(|malformed| Denied::Refused(malformed.into()))?;
        match admission.admit(&envelope, unix_now()).await {
            Ok((payload, role)) => Ok((envelope, payload, role)),
            Err(denied) => {
                tracing::debug!(signer = %envelope.signer(), epoch = envelope.epoch, %denied, "request denied");
                Err(denied.into())
            }
        }
    }

    /// Signs the answer to an admitted request.
    pub(crate) fn answer<P: Payload>(
        &self,
        request: &Envelope,
        answer: impl FnOnce([u8; 32]) -> P,
    ) -> Result<Response, Refused> {
        let admission = self.admission()?;
        let payload = answer(request.digest());
        let context = admission.context(request.epoch);
        let signed = Envelope::sign(&context, &payload, request.nonce, unix_now(), &self.key).map_err(internal)?;
        Ok(([(header::CONTENT_TYPE, path::CONTENT_TYPE)], signed.encode()).into_response())
    }
}

pub(crate) fn internal(error: impl std::fmt::Display) -> Refused {
    tracing::error!(%error, "request failed");
    Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
