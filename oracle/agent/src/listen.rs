//! The accept loop, with bounds on what a stranger can hold open.
//!
//! One port speaks plain HTTP and TLS pinned to the operator key ([`datagalax_service::tls`]): a connection's first byte tells
//! which, so that the endpoint on chain can change from one to the other at any time. What relays pass on is TLS only.

use std::{
    collections::HashMap,
    future, io,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use axum::{Router, extract::Extension};
use datagalax_relay::{Tunnel, tunnel::Passed};
use futures_util::future::Either;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, oneshot, watch},
    time,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

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

/// The request came over TLS with the operator's key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encrypted;

/// How long a connection lives: [`CONNECTION_LIFE`], and longer while something holds it.
#[derive(Clone, Default)]
pub(crate) struct Lifeline(Arc<Life>);

#[derive(Default)]
struct Life {
    holds: AtomicUsize,
    freed: Notify,
    cut: CancellationToken,
}

/// Keeps a connection for as long as it lives.
pub(crate) struct Hold(Arc<Life>);

impl Lifeline {
    /// Keeps the connection while something is copied that is bounded otherwise.
    pub fn hold(&self) -> Hold {
        self.0.holds.fetch_add(1, Ordering::SeqCst);
        Hold(self.0.clone())
    }

    /// Ends the connection now.
    pub fn cut(&self) {
        self.0.cut.cancel();
    }

    /// Resolves when it is to end.
    async fn over(&self) {
        let outlived = async {
            time::sleep(CONNECTION_LIFE).await;
            while self.0.holds.load(Ordering::SeqCst) > 0 {
                self.0.freed.notified().await;
                // For the last bytes of the answer.
                time::sleep(GRACE).await;
            }
        };
        tokio::select! {
            () = outlived => {}
            () = self.0.cut.cancelled() => {}
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
        self.0.freed.notify_one();
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
    let connections = TaskTracker::new();
    // Its end makes connections finish what they answer, and those end at once that have not begun to ask.
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
        let lifeline = Lifeline::default();
        let service = router.clone().layer(Extension(arrival.origin)).layer(Extension(lifeline.clone()));
        let (tls, stopping) = (TlsAcceptor::from(tls.clone()), stopping.clone());
        connections.spawn(async move {
            tokio::select! {
                ended = connection(arrival, tls, service, stopping) => match ended {
                    Ok(()) => {}
                    Err(error) => tracing::debug!(%error, "connection ended"),
                },
                () = lifeline.over() => tracing::debug!("connection outlived its time"),
            }
            drop((place, among));
        });
    }
    drop((listener, tunnel, serving));
    connections.close();
    if time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!("requests were cut off at shutdown");
    }
}

/// One connection, from its first byte to its last.
async fn connection(
    arrival: Arrival,
    tls: TlsAcceptor,
    service: Router,
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
    let begun = tokio::select! {
        begun = time::timeout(HEADER_TIMEOUT, begin) => begun.context("no first byte or no TLS in time")??,
        _ = stopping.changed() => return Ok(()),
    };
    match begun {
        Either::Left(stream) => {
            let service = TowerToHyperService::new(service.layer(Extension(Encrypted)));
            // A stream that takes the connection over is bounded by its lease and its session from then on.
            let mut connection = pin!(http().serve_connection(TokioIo::new(stream), service).with_upgrades());
            tokio::select! {
                ended = connection.as_mut() => return Ok(ended?),
                _ = stopping.changed() => {}
            }
            connection.as_mut().graceful_shutdown();
            connection.await?;
        }
        Either::Right(stream) => {
            let service = TowerToHyperService::new(service);
            let mut connection = pin!(http().serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                ended = connection.as_mut() => return Ok(ended?),
                _ = stopping.changed() => {}
            }
            connection.as_mut().graceful_shutdown();
            connection.await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_lives_longer_while_something_is_copied_and_can_be_cut() {
        let began = time::Instant::now();
        Lifeline::default().over().await;
        assert_eq!(began.elapsed(), CONNECTION_LIFE);
        let (long, began) = (Lifeline::default(), time::Instant::now());
        let hold = long.hold();
        let copying = async {
            time::sleep(10 * CONNECTION_LIFE).await;
            drop(hold);
        };
        tokio::join!(long.over(), copying);
        assert_eq!(began.elapsed(), 10 * CONNECTION_LIFE + GRACE);
        let cut = Lifeline::default();
        let _hold = cut.hold();
        cut.cut();
        cut.over().await;
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
