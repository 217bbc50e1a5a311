//! The accept loop, with bounds on what a stranger can hold open.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, extract::Extension};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, time};

/// Most connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// Longest wait for the head of a request, the first as well as each later one of the same connection.
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

/// Serves until `stop` resolves, then lets requests in flight finish within a grace period.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let crowd = Crowd::default();
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
        let (stream, origin) = match accepted {
            Ok((stream, peer)) => (stream, Origin::of(peer.ip())),
            Err(error) => {
                // Mostly the process's limit of files: wait for connections to end instead of spinning.
                tracing::warn!(%error, "cannot accept a connection");
                time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(among) = crowd.enter(origin) else {
            tracing::debug!(?origin, "too many connections of one address");
            continue;
        };
        let service = router.clone().layer(Extension(origin));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            match time::timeout(CONNECTION_LIFE, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
                Err(_) => tracing::debug!("connection outlived its time"),
            }
            drop((place, among));
        });
    }
    drop(listener);
    if time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off at shutdown");
    }
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
