//! The accept loop, with bounds on what a stranger can hold open.
//!
//! One port speaks plain HTTP and TLS pinned to the operator key ([`datagalax_service::tls`]): a connection's first byte tells
//! which, so that the endpoint on chain can change from one to the other at any time. What relays pass on is TLS only.

use std::{
    collections::HashMap,
    future, io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use axum::{Router, extract::Extension};
use datagalax_relay::{Tunnel, tunnel::Passed};
use futures_util::future::Either;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot, watch},
    time,
};
use tokio_rustls::TlsAcceptor;

/// The first byte of every TLS connection.
const TLS_HANDSHAKE: u8 = 22;

/// Most connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// Longest wait for a connection's first byte and TLS handshake, and for the head of a request, the first as well as each
/// later one of the same connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most connections of one address at a time; more are closed at once. A committee behind one address has room.
const PER_ADDRESS: usize = 64;
/// Longest life of a connection: longer than the longest wait for a beacon's root. Checkers come anew for each probe.
const CONNECTION_LIFE: Duration = Duration::from_secs(180);
/// What requests in flight get to finish at shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// Where a request comes from: an IPv4 address, or the /64 network of an IPv6 address, of which a host has as many as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                Self(IpAddr::V6(network.into()))
            }
            v4 => Self(v4),
        }
    }
}

/// Open connections by origin.
#[derive(Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<Origin, usize>>>);

/// One connection's place among those of its origin.
struct Place {
    crowd: Crowd,
    origin: Origin,
}

impl Crowd {
    fn enter(&self, origin: Origin) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(origin).or_default();
        if *count >= PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), origin })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.origin);
            }
        }
    }
}

/// Where connections come in.
pub(crate) struct Entrances {
    /// This host's own port.
    pub listener: TcpListener,
    /// TLS that shows the operator key.
    pub tls: Arc<ServerConfig>,
    /// The relays' connections, once the registration is known that they ask for; never, without relays.
    pub tunnel: oneshot::Receiver<Tunnel>,
}

/// A new connection.
struct Arrival {
    stream: TcpStream,
    origin: Origin,
    /// A relay passed it on.
    relayed: bool,
}

/// Serves until `stop` resolves, then lets requests in flight finish within a grace period.
pub(crate) async fn serve(entrances: Entrances, router: Router, stop: impl Future<Output = ()>) {
    let Entrances { listener, tls, tunnel: mut coming } = entrances;
    let (mut tunnel, mut expected): (Option<Tunnel>, bool) = (None, true);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let crowd = Crowd::default();
    let graceful = GracefulShutdown::new();
    // Connections that have not begun to ask are not waited for.
    let (serving, stopping) = watch::channel(());
    tokio::pin!(stop);
    loop {
        // Never closed, so a place always comes.
        let place = tokio::select! {
            () = &mut stop => break,
            place = places.clone().acquire_owned() => place,
        };
        let relayed = async {
            match &mut tunnel {
                Some(tunnel) => tunnel.accept().await,
                None => future::pending().await,
            }
        };
        let accepted = tokio::select! {
            () = &mut stop => break,
            opened = &mut coming, if expected => {
                // Without a sender there are no relays.
                expected = false;
                tunnel = opened.ok();
                continue;
            }
            accepted = listener.accept() => {
                accepted.map(|(stream, peer)| Arrival { stream, origin: Origin::of(peer.ip()), relayed: false })
            }
            Passed { stream, client } = relayed => Ok(Arrival { stream, origin: Origin::of(client), relayed: true }),
        };
        let arrival = match accepted {
            Ok(arrival) => arrival,
            Err(error) => {
                // Mostly the process's limit of files: wait for connections to end instead of spinning.
                tracing::warn!(%error, "cannot accept a connection");
                time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(among) = crowd.enter(arrival.origin) else {
            tracing::debug!(origin = ?arrival.origin, "too many connections of one address");
            continue;
        };
        let service = router.clone().layer(Extension(arrival.origin));
        let (tls, watcher, stopping) = (TlsAcceptor::from(tls.clone()), graceful.watcher(), stopping.clone());
        tokio::spawn(async move {
            match time::timeout(CONNECTION_LIFE, connection(arrival, tls, service, watcher, stopping)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
                Err(_) => tracing::debug!("connection outlived its time"),
            }
            drop((place, among));
        });
    }
    drop((listener, tunnel, serving));
    if time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off at shutdown");
    }
}

/// One connection, from its first byte to its last.
async fn connection(
    arrival: Arrival,
    tls: TlsAcceptor,
    service: Router,
    watcher: Watcher,
    mut stopping: watch::Receiver<()>,
) -> anyhow::Result<()> {
    let Arrival { stream, relayed, .. } = arrival;
    stream.set_nodelay(true)?;
    let begin = async {
        let mut first = [0];
        // A relay passes on nothing else, and nothing else that it sends is meant for anybody.
        if relayed || (stream.peek(&mut first).await? == 1 && first[0] == TLS_HANDSHAKE) {
            io::Result::Ok(Either::Left(tls.accept(stream).await?))
        } else {
            Ok(Either::Right(stream))
        }
    };
    let http = || {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(64 * 1024);
        http
    };
    let service = TowerToHyperService::new(service);
    let begun = tokio::select! {
        begun = time::timeout(HEADER_TIMEOUT, begin) => begun.context("no first byte or no TLS in time")??,
        _ = stopping.changed() => return Ok(()),
    };
    match begun {
        Either::Left(stream) => watcher.watch(http().serve_connection(TokioIo::new(stream), service)).await?,
        Either::Right(stream) => watcher.watch(http().serve_connection(TokioIo::new(stream), service)).await?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    #[test]
    fn one_address_has_a_bounded_part_and_gives_it_back() {
        let crowd = Crowd::default();
        let places: Vec<_> = (0..PER_ADDRESS).map(|_| crowd.enter(origin("10.0.0.1")).unwrap()).collect();
        assert!(crowd.enter(origin("10.0.0.1")).is_none() && crowd.enter(origin("10.0.0.2")).is_some());
        drop(places);
        assert!(crowd.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_network_of_one_host_is_one_origin() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"), "one address in two notations");
    }
}
