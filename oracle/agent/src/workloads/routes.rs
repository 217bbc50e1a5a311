//! The HTTP interface for users of leases.
//!
//! | what | bound |
//! |---|---|
//! | connection | TLS with the operator's key, or 403 |
//! | signed questions | [`super::door`]; [`ASKING`] at a time, [`ASK_TIMEOUT`] each |
//! | everything else | a session's token, or 401 |
//! | streams and copies | [`super::tenancy::STREAMS`] of a lease at a time |

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Extension, FromRequestParts, Path, Query, Request, State as Shared, WebSocketUpgrade},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use datagalax_client::clock::unix_now;
use datagalax_protocol::lease::{
    MAX_FRAME, SessionAnswer, SessionRequest, State, Token, WorkloadAnswer, WorkloadRequest, path,
};
use datagalax_runtime::RuntimeError;
use datagalax_service::metrics::Gauge;
use serde::Deserialize;
use solana_pubkey::Pubkey;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

use super::{Runner, Untaken, door::Door, files, streams, tenancy::Tenancy};
use crate::{
    chain::Chain,
    listen::Encrypted,
    metrics::Handover,
    server::{Agent, Refused, buffered, internal},
};

/// Most signed questions at a time.
const ASKING: usize = 16;
/// Longest time for one.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// What the handlers share.
pub(crate) struct Users {
    agent: Arc<Agent>,
    pub(super) runner: Runner,
    door: Door,
    asking: Semaphore,
}

impl Users {
    pub(crate) fn new(agent: Arc<Agent>, runner: Runner, chain: Arc<dyn Chain>) -> Self {
        let door = Door::new(agent.clone(), runner.clone(), chain);
        Self { agent, runner, door, asking: Semaphore::new(ASKING) }
    }
}

/// The routes, with all their bounds but those on connections and addresses.
pub(crate) fn router(users: Arc<Users>) -> Router {
    let small = Router::new()
        .route(path::WORKLOAD, post(workload))
        .route(path::SESSION, post(session))
        .layer(middleware::from_fn(buffered));
    Router::new()
        .route("/v1/leases/{lease}", get(status))
        .route("/v1/leases/{lease}/logs", get(logs))
        .route("/v1/leases/{lease}/exec", get(exec))
        .route("/v1/leases/{lease}/ports/{name}", get(port))
        .route("/v1/leases/{lease}/files", get(files::copy_out).put(files::copy_in))
        .merge(small)
        .with_state(users)
        .layer(middleware::from_fn(encrypted))
}

/// In the clear nothing of a lease is said, and nothing is heard.
async fn encrypted(encrypted: Option<Extension<Encrypted>>, request: Request, next: Next) -> Response {
    if encrypted.is_none() {
        let text = "users of leases are answered over TLS only: ask https:// at the same port, pinned to the operator's key";
        return Refused(StatusCode::FORBIDDEN, text.into()).into_response();
    }
    next.run(request).await
}

async fn workload(Shared(users): Shared<Arc<Users>>, body: Bytes) -> Result<Response, Refused> {
    let (outcome, answer) = match time::timeout(ASK_TIMEOUT, users.take(&body)).await {
        Ok(Ok(answer)) => (Handover::Accepted, Ok(answer)),
        Ok(Err((outcome, refused))) => (outcome, Err(refused)),
        Err(_) => (Handover::Refused, Err(late())),
    };
    users.runner.metrics().handovers.get_or_create(&outcome).inc();
    answer
}

async fn session(Shared(users): Shared<Arc<Users>>, body: Bytes) -> Result<Response, Refused> {
    let _place = users.place()?;
    let admitting = users.door.admit::<SessionRequest>(&body);
    let (request, asked, tenancy) = time::timeout(ASK_TIMEOUT, admitting).await.map_err(|_| late())??;
    let token: Token = rand::random();
    users.runner.sessions().open(tenancy.lease, &token, Duration::from_secs(asked.seconds.into()));
    let expires = unix_now().saturating_add(asked.seconds.into());
    users.agent.answer(&request, |request| SessionAnswer { request, token, expires })
}

fn late() -> Refused {
    Refused(StatusCode::SERVICE_UNAVAILABLE, "the chain does not answer in time: ask again".into())
}

impl Users {
    fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Refused> {
        let busy = |_| Refused(StatusCode::SERVICE_UNAVAILABLE, "too many ask at a time: ask again".into());
        self.asking.try_acquire().map_err(busy)
    }

    async fn take(&self, body: &[u8]) -> Result<Response, (Handover, Refused)> {
        let refused = |refused| (Handover::Refused, refused);
        let _place = self.place().map_err(refused)?;
        let (request, asked, tenancy) = self.door.admit::<WorkloadRequest>(body).await.map_err(refused)?;
        if asked.workload.hash() != tenancy.hash {
            let text = "this is not the workload whose hash is in the lease";
            return Err(refused(Refused(StatusCode::FORBIDDEN, text.into())));
        }
        if tenancy.facts().past.is_some() {
            return Err(refused(over()));
        }
        match self.runner.take(&tenancy, &asked.workload).await {
            Ok(()) => self.agent.answer(&request, |request| WorkloadAnswer { request }).map_err(refused),
            Err(Untaken::Declined(reason)) => Err((Handover::Declined, Refused(StatusCode::FORBIDDEN, reason))),
            Err(Untaken::State(error)) => Err(refused(internal(error))),
        }
    }
}

fn over() -> Refused {
    Refused(StatusCode::GONE, "the lease is over".into())
}

/// The lease of a request whose session's token is its.
pub(super) struct Admitted(pub Arc<Tenancy>);

impl FromRequestParts<Arc<Users>> for Admitted {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, users: &Arc<Users>) -> Result<Self, Refused> {
        let none =
            || Refused(StatusCode::UNAUTHORIZED, "no session of this lease: ask for one, signed by its wallet".into());
        let named = Path::<std::collections::HashMap<String, String>>::from_request_parts(parts, users).await;
        let lease = named.ok().and_then(|Path(named)| named.get("lease")?.parse::<Pubkey>().ok()).ok_or_else(none)?;
        if !users.runner.sessions().admits(&lease, authorization(&parts.headers)) {
            return Err(none());
        }
        users.runner.find(&lease).map(Self).ok_or_else(none)
    }
}

fn authorization(headers: &HeaderMap) -> &str {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// One of a lease's places for streams and copies.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Users {
    pub(super) fn stream_place(&self, tenancy: &Tenancy) -> Result<Place, Refused> {
        let full = |_| {
            let text = format!("{} streams of this lease are open already: close one", super::STREAMS);
            Refused(StatusCode::TOO_MANY_REQUESTS, text)
        };
        let permit = tenancy.streams.clone().try_acquire_owned().map_err(full)?;
        let open = self.runner.metrics().lease_streams.clone();
        open.inc();
        Ok(Place { _permit: permit, open })
    }
}

/// Whether something of the workload can be reached: it runs, or with `ended`, has ended by itself and its files are there.
pub(super) fn reachable(tenancy: &Tenancy, ended: bool) -> Result<(), Refused> {
    let facts = tenancy.facts();
    match &facts.state {
        _ if facts.past.is_some() => Err(over()),
        State::Running => Ok(()),
        State::Ended { .. } if ended && facts.record.began => Ok(()),
        State::Ended { .. } => Err(Refused(StatusCode::GONE, "the workload has ended".into())),
        State::Awaited => Err(Refused(StatusCode::SERVICE_UNAVAILABLE, "the workload was not handed over yet".into())),
        State::Starting { step } => {
            Err(Refused(StatusCode::SERVICE_UNAVAILABLE, format!("the workload does not run yet: {step}")))
        }
    }
}

async fn status(Admitted(tenancy): Admitted) -> Response {
    Json(tenancy.status()).into_response()
}

fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade.max_message_size(MAX_FRAME).max_frame_size(MAX_FRAME)
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    follow: bool,
}

async fn logs(
    Shared(users): Shared<Arc<Users>>,
    Admitted(tenancy): Admitted,
    Query(Wanted { from, follow }): Query<Wanted>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refused> {
    let place = users.stream_place(&tenancy)?;
    let runner = users.runner.clone();
    Ok(bounded(upgrade).on_upgrade(move |socket| streams::logs(runner, tenancy, place, socket, from, follow)))
}

async fn exec(
    Shared(users): Shared<Arc<Users>>,
    Admitted(tenancy): Admitted,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refused> {
    reachable(&tenancy, false)?;
    let place = users.stream_place(&tenancy)?;
    let runner = users.runner.clone();
    Ok(bounded(upgrade).on_upgrade(move |socket| streams::exec(runner, tenancy, place, socket)))
}

async fn port(
    Shared(users): Shared<Arc<Users>>,
    Admitted(tenancy): Admitted,
    Path((_, name)): Path<(String, String)>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refused> {
    reachable(&tenancy, false)?;
    let place = users.stream_place(&tenancy)?;
    let runner = users.runner.clone();
    let connecting = runner.runtime().connect(&tenancy.id, &name);
    let connected = time::timeout(ASK_TIMEOUT, connecting).await;
    let silent = |error: String| {
        let text = format!("nobody answers at the workload's port {name} yet: {error}");
        Refused(StatusCode::SERVICE_UNAVAILABLE, text)
    };
    let connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(error @ RuntimeError::NoPort(_))) => return Err(Refused(StatusCode::NOT_FOUND, error.to_string())),
        Ok(Err(error)) => return Err(silent(error.to_string())),
        Err(_) => return Err(silent("no answer".into())),
    };
    Ok(bounded(upgrade).on_upgrade(move |socket| streams::port(runner, tenancy, place, socket, connection)))
}
