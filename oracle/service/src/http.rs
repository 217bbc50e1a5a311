//! An accept loop with bounds on what a stranger can hold open, and the monitor's routes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use serde_json::json;
use tokio::{net::TcpListener, sync::Semaphore, time};
use tower_http::{limit::RequestBodyLimitLayer, timeout::TimeoutLayer};

use crate::{
    health::Health,
    metrics::{self, Registry},
};

/// What a server lets strangers hold open.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most connections at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Longest wait for the head of a request, the first as well as each later one of the same connection.
    pub header: Duration,
    /// Longest life of a connection.
    pub life: Duration,
    /// Largest head of a request in bytes, at least 8,192.
    pub head: usize,
    /// What requests in flight get to finish at shutdown.
    pub grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 512,
            header: Duration::from_secs(10),
            life: Duration::from_secs(120),
            head: 64 * 1024,
            grace: Duration::from_secs(5),
        }
    }
}

/// The monitor's: a scraper or two and somebody looking.
const MONITOR: Bounds = Bounds {
    connections: 16,
    header: Duration::from_secs(5),
    life: Duration::from_secs(60),
    head: 16 * 1024,
    grace: Duration::from_secs(1),
};
/// Longest time for a request to the monitor.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest body of a request to the monitor; none has one.
const MONITOR_BODY: usize = 1024;

/// Serves until `stop` resolves, then lets requests in flight finish within the grace period. The router bounds the time and
/// the size of a request.
pub async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accept = async {
            // Never closed, so a place always comes.
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = &mut stop => break,
            accepted = accept => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Mostly the process's limit of files: wait for connections to end instead of spinning.
                tracing::warn!(%error, "cannot accept a connection");
                time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.header)
            .max_buf_size(bounds.head)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            match time::timeout(bounds.life, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
                Err(_) => tracing::debug!("connection outlived its time"),
            }
            drop(place);
        });
    }
    drop(listener);
    if time::timeout(bounds.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off at shutdown");
    }
}

/// Listens for the address that `option` was given.
///
/// # Errors
/// It is taken or not this host's; names the option and what to do.
pub async fn listen(address: SocketAddr, option: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: end what uses the port, or choose another address of this host by {option}")
    })
}

/// Serves /metrics, /live and /ready until `stop` resolves.
pub(crate) async fn monitor(listener: TcpListener, registry: Arc<Registry>, health: Health, stop: impl Future<Output = ()>) {
    serve(listener, routes(registry, health), MONITOR, stop).await;
}

fn routes(registry: Arc<Registry>, health: Health) -> Router {
    let exposition = move || {
        let registry = registry.clone();
        async move {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], metrics::encode(&registry)).into_response()
        }
    };
    Router::new()
        .route("/metrics", get(exposition))
        .merge(health_routes(health))
        .layer(DefaultBodyLimit::max(MONITOR_BODY))
        .layer(RequestBodyLimitLayer::new(MONITOR_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, MONITOR_TIMEOUT))
}

/// /live and /ready, for the monitor and for servers that strangers may ask. 200 or 503, with the reasons as JSON:
/// `{"live": true, "reasons": []}` and `{"ready": false, "reasons": {"chain": "no answer"}}`.
pub fn health_routes(health: Health) -> Router {
    let (live, ready) = (health.clone(), health);
    let live = move || async move {
        let reasons = live.hanging();
        (status(reasons.is_empty()), Json(json!({ "live": reasons.is_empty(), "reasons": reasons }))).into_response()
    };
    let ready = move || async move {
        let reasons = ready.topics();
        (status(reasons.is_empty()), Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
    };
    Router::new().route("/live", get(live)).route("/ready", get(ready))
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
