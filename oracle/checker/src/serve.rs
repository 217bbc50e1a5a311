//! What a checker answers: evidence with its Merkle proof, after the reveal; and to a container's operator, whether its own
//! endpoint can be reached from here. Bounded in time, size, number and rate.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use datagalax_client::clock::unix_now;
use datagalax_protocol::{
    Context, Envelope, Expected, ReachableAnswer, ReachableRequest, Refusal, evidence::cut, path, reachable,
};
use datagalax_service::{
    Health,
    http::{Bounds, health_routes, serve},
};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use tokio::{net::TcpListener, sync::Semaphore};
use tower_http::{limit::RequestBodyLimitLayer, timeout::TimeoutLayer};

use crate::{
    chain::{Chain, Cluster, SeatRef},
    measure::Measurer,
    metrics::{Metrics, Served},
    store::Store,
};

/// Longest time for a request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest body of a request: a small envelope.
const BODY: usize = 4 * 1024;
/// Requests in flight; each may hold one row's evidence in memory.
const IN_FLIGHT: usize = 16;
/// Requests a second, on average, of everybody together.
const RATE: f64 = 50.0;
/// Requests at once after a pause.
const BURST: f64 = 200.0;
/// A container's operator may ask so often whether it can be reached.
const REACHABLE_EVERY: Duration = Duration::from_secs(10);
/// Operators remembered for that.
const REMEMBERED: usize = 10_000;

/// Everything the handlers share.
pub struct Server {
    /// The network.
    pub cluster: Cluster,
    /// The chain.
    pub chain: Arc<dyn Chain>,
    /// The evidence.
    pub store: Store,
    /// Whose prober tries endpoints.
    pub measurer: Arc<Measurer>,
    /// The checker's operator key.
    pub key: Arc<Keypair>,
    /// What is counted.
    pub metrics: Metrics,
    /// See [`Rate`].
    pub rate: Rate,
    /// When each operator last asked whether it can be reached.
    pub asked: Mutex<HashMap<Pubkey, Instant>>,
}

/// A token bucket for everybody together.
#[derive(Debug)]
pub struct Rate(Mutex<(f64, Instant)>);

impl Default for Rate {
    fn default() -> Self {
        Self(Mutex::new((BURST, Instant::now())))
    }
}

impl Rate {
    fn take(&self, now: Instant) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, last) = *bucket;
        let tokens = (tokens + now.saturating_duration_since(last).as_secs_f64() * RATE).min(BURST);
        let taken = tokens >= 1.0;
        *bucket = (if taken { tokens - 1.0 } else { tokens }, now.max(last));
        taken
    }
}

/// A refusal as the asker sees it: a status and one line.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, format!("{}\n", self.1)).into_response()
    }
}

/// Serves until `stop` resolves.
pub async fn run(server: Server, listener: TcpListener, health: Health, stop: impl Future<Output = ()>) {
    let address: Option<SocketAddr> = listener.local_addr().ok();
    tracing::info!(address = address.map(|address| address.to_string()), "serving evidence");
    let bounds = Bounds { connections: 128, head: 16 * 1024, ..Bounds::default() };
    serve(listener, router(Arc::new(server), health), bounds, stop).await;
}

/// The routes with all their bounds.
pub fn router(server: Arc<Server>, health: Health) -> Router {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
    let bounded = server.clone();
    Router::new()
        .route("/v1/evidence/{block}/{epoch}/{seat}/{row}", get(evidence))
        .route(reachable::PATH, post(reach))
        .with_state(server)
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let (in_flight, server) = (in_flight.clone(), bounded.clone());
            async move {
                let busy = |status, text: &str| {
                    server.metrics.served.get_or_create(&Served::Refused).inc();
                    Refused(status, text.into()).into_response()
                };
                if !server.rate.take(Instant::now()) {
                    return busy(StatusCode::TOO_MANY_REQUESTS, "too many requests: wait some seconds");
                }
                match in_flight.try_acquire() {
                    Ok(_place) => next.run(request).await,
                    Err(_) => busy(StatusCode::SERVICE_UNAVAILABLE, "too many requests in flight: try again"),
                }
            }
        }))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(RequestBodyLimitLayer::new(BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT))
        .merge(health_routes(health))
}

async fn evidence(
    State(server): State<Arc<Server>>,
    Path((block, epoch, seat, row)): Path<(u32, u32, u8, u8)>,
) -> Result<Response, Refused> {
    let found = server.store.opening(SeatRef { block, epoch, seat }, row).await;
    let found = found.map_err(|error| {
        tracing::error!(%error, "evidence cannot be read");
        Refused(StatusCode::INTERNAL_SERVER_ERROR, "the evidence cannot be read".into())
    })?;
    // Before the reveal the answer is the same as for what never was: nothing shows that there is a report.
    let opening = found.ok_or_else(|| {
        let text = "no evidence: this checker revealed no report there, the row was empty, or its 30 days are over";
        Refused(StatusCode::NOT_FOUND, text.into())
    })?;
    server.metrics.served.get_or_create(&Served::Evidence).inc();
    Ok(([(header::CONTENT_TYPE, path::CONTENT_TYPE)], opening.encode()).into_response())
}

async fn reach(State(server): State<Arc<Server>>, body: Bytes) -> Result<Response, Refused> {
    let bad = |refusal: Refusal| Refused(StatusCode::FORBIDDEN, refusal.to_string());
    let envelope = Envelope::decode(&body).map_err(|malformed| Refused(StatusCode::BAD_REQUEST, malformed.to_string()))?;
    let Cluster { genesis_hash, program } = server.cluster;
    let (subject, signer) = (Pubkey::from(envelope.subject), envelope.signer());
    let context = Context { genesis_hash, program, subject, epoch: envelope.epoch };
    // The signature before any work, then whether it is the operator's.
    let expected = Expected { context, nonce: None, signers: &[signer], now: unix_now() };
    let ReachableRequest = envelope.verify(&expected).map_err(bad)?;
    if !server.may_ask(signer, Instant::now()) {
        let text = format!("asked too often: once in {} s", REACHABLE_EVERY.as_secs());
        return Err(Refused(StatusCode::TOO_MANY_REQUESTS, text));
    }
    let registration = server.chain.registration(subject).await;
    let registration = registration.map_err(|error| Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let registration = registration.filter(|registration| registration.operator == signer).ok_or_else(|| {
        Refused(StatusCode::FORBIDDEN, format!("key {signer} is not the operator of a container at {subject}"))
    })?;
    let start = Instant::now();
    let reached = server.measurer.prober().reachable(&registration.endpoint, &signer).await;
    let answer = ReachableAnswer {
        request: envelope.digest(),
        endpoint: registration.endpoint,
        took_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
        trouble: reached.err().map_or(String::new(), cut),
    };
    let signed = Envelope::sign(&context, &answer, envelope.nonce, unix_now(), server.key.as_ref());
    let signed = signed.map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    server.metrics.served.get_or_create(&Served::Reachable).inc();
    Ok(([(header::CONTENT_TYPE, path::CONTENT_TYPE)], signed.encode()).into_response())
}

impl Server {
    fn may_ask(&self, signer: Pubkey, now: Instant) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, last| now.saturating_duration_since(*last) < REACHABLE_EVERY);
        // Keys cost nothing: when so many ask at once, nobody new is heard for some seconds.
        if asked.contains_key(&signer) || asked.len() >= REMEMBERED {
            return false;
        }
        asked.insert(signer, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_together_is_held_to_the_rate() {
        let (rate, start) = (Rate::default(), Instant::now());
        let taken = (0..1_000).filter(|_| rate.take(start)).count();
        assert!((200..=201).contains(&taken), "{taken}");
        let later = start + Duration::from_secs(1);
        let taken = (0..1_000).filter(|_| rate.take(later)).count();
        assert!((49..=51).contains(&taken), "{taken}");
    }
}
