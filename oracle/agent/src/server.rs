//! The HTTP interface.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use datagalax_gpu::Probe;
use datagalax_protocol::{
    CapacityAnswer, CapacityRequest, Envelope, LivenessAnswer, LivenessRequest, OpenAnswer, OpenRequest, Payload,
    envelope::MAX_MESSAGE, path,
};
use serde_json::json;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::sync::Semaphore;
use tower_http::{limit::RequestBodyLimitLayer, timeout::TimeoutLayer};

use crate::{
    admission::{Admission, Denied},
    prover::{ProveError, Prover},
    readiness::Readiness,
};

/// Longest time for a request from its headers to its answer; also cuts bodies that trickle in.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Most requests in flight.
pub const CONCURRENCY: usize = 64;

/// Everything the handlers share.
pub struct Agent {
    /// The container's operator key.
    pub key: Keypair,
    /// The container's account.
    pub container: Pubkey,
    /// The hardware.
    pub probe: Arc<dyn Probe>,
    /// The challenges.
    pub prover: Prover,
    /// Whether it can work.
    pub readiness: Readiness,
    /// Set once the registration was found on chain.
    pub admission: OnceLock<Admission>,
}

/// A refusal as the asker sees it: a status and one line.
struct Refused(StatusCode, String);

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
            Denied::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Denied::NotYet(_) | Denied::Chain(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, denied.to_string())
    }
}

impl From<ProveError> for Refused {
    fn from(error: ProveError) -> Self {
        let status = match error {
            ProveError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            ProveError::TooMany => StatusCode::TOO_MANY_REQUESTS,
            ProveError::Challenge(_) | ProveError::UnknownRow => StatusCode::BAD_REQUEST,
            ProveError::UnknownRoot => StatusCode::NOT_FOUND,
            ProveError::Cut => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

/// The routes with all their bounds.
pub fn router(agent: Arc<Agent>) -> Router {
    let in_flight = Arc::new(Semaphore::new(CONCURRENCY));
    Router::new()
        .route(path::LIVENESS, post(liveness))
        .route(path::CAPACITY, post(capacity))
        .route(path::OPEN, post(open))
        .route("/v1/info", get(info))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .with_state(agent)
        .layer(DefaultBodyLimit::max(MAX_MESSAGE))
        .layer(RequestBodyLimitLayer::new(MAX_MESSAGE))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let in_flight = in_flight.clone();
            async move {
                match in_flight.try_acquire() {
                    Ok(_place) => next.run(request).await,
                    Err(_) => Refused(StatusCode::SERVICE_UNAVAILABLE, "too many requests in flight".into()).into_response(),
                }
            }
        }))
}

async fn liveness(State(agent): State<Arc<Agent>>, body: Bytes) -> Result<Response, Refused> {
    let (request, LivenessRequest) = agent.admit(&body).await?;
    let (probe, now) = (agent.probe.clone(), unix_now());
    let metrics = tokio::task::spawn_blocking(move || probe.measure(now)).await;
    let metrics = metrics.map_err(internal)?.map_err(internal)?;
    agent.answer(&request, |request| LivenessAnswer { request, metrics })
}

async fn capacity(State(agent): State<Arc<Agent>>, body: Bytes) -> Result<Response, Refused> {
    let (request, asked): (_, CapacityRequest) = agent.admit(&body).await?;
    let committed = agent.prover.prove(request.epoch, request.signer(), &asked).await?;
    let elapsed_us = u64::try_from(committed.elapsed.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(epoch = request.epoch, checker = %request.signer(), elapsed_us, "challenge answered");
    agent.answer(&request, |request| CapacityAnswer { request, root: committed.root, elapsed_us })
}

async fn open(State(agent): State<Arc<Agent>>, body: Bytes) -> Result<Response, Refused> {
    let (request, asked): (_, OpenRequest) = agent.admit(&body).await?;
    let rows = agent.prover.open(request.epoch, request.signer(), &asked)?;
    agent.answer(&request, |request| OpenAnswer { request, rows })
}

async fn ready(State(agent): State<Arc<Agent>>) -> Response {
    let reasons = agent.readiness.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
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
    async fn admit<P: Payload>(&self, body: &[u8]) -> Result<(Envelope, P), Refused> {
        let not_ready = || Refused(StatusCode::SERVICE_UNAVAILABLE, "the registration was not found on chain yet".into());
        let admission = self.admission.get().ok_or_else(not_ready)?;
        let envelope = Envelope::decode(body).map_err(|malformed| Denied::Refused(malformed.into()))?;
        match admission.admit(&envelope, unix_now()).await {
            Ok(payload) => Ok((envelope, payload)),
            Err(denied) => {
                tracing::debug!(signer = %envelope.signer(), epoch = envelope.epoch, %denied, "request denied");
                Err(denied.into())
            }
        }
    }

    /// Signs the answer to an admitted request.
    fn answer<P: Payload>(&self, request: &Envelope, answer: impl FnOnce([u8; 32]) -> P) -> Result<Response, Refused> {
        let admission = self.admission.get().ok_or_else(|| internal("answer before admission"))?;
        let payload = answer(request.digest());
        let context = admission.context(request.epoch);
        let signed = Envelope::sign(&context, &payload, request.nonce, unix_now(), &self.key).map_err(internal)?;
        Ok(([(header::CONTENT_TYPE, path::CONTENT_TYPE)], signed.encode()).into_response())
    }
}

fn internal(error: impl std::fmt::Display) -> Refused {
    tracing::error!(%error, "request failed");
    Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

/// This host's clock in unix seconds; a clock before 1970 reads as 0, and every message is refused as from the future.
fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
