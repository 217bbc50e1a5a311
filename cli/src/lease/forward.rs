//! A workload's ports on this machine.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use datagalax_tenant::Tenant;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

use super::workload::port_name;

/// Most connections to one port at a time.
const CONNECTIONS: usize = 64;

/// A port of the workload, and where it is reached on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Its name.
    pub name: String,
    /// Port of the loopback address; 0: any.
    pub local: u16,
}

impl std::str::FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, local) = text.split_once(':').map_or((text, None), |(name, local)| (name, Some(local)));
        let local = match local {
            None => 0,
            Some(local) => local.parse().map_err(|_| format!("`{local}` is no port number: write 1 to 65535"))?,
        };
        Ok(Self { name: port_name(name)?, local })
    }
}

/// A port that listens on this machine.
pub struct Listening {
    forward: Forward,
    listener: TcpListener,
}

impl Listening {
    /// Takes the local port.
    ///
    /// # Errors
    /// It is taken.
    pub async fn at(forward: &Forward) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", forward.local)).await.with_context(|| {
            format!("port {} of this machine is taken: name another, as in {}:<port>", forward.local, forward.name)
        })?;
        Ok(Self { forward: forward.clone(), listener })
    }

    /// Where it is reached.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// For people.
    pub fn shown(&self) -> String {
        let at = self.address().map_or_else(|_| "?".to_owned(), |address| address.to_string());
        format!("port {} of the workload is at {at}", self.forward.name)
    }

    /// Passes connections on until it is dropped.
    pub async fn serve(self, tenant: Tenant) {
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        let mut passing = JoinSet::new();
        loop {
            // Those that are over make room; never more than there are connections.
            while passing.try_join_next().is_some() {}
            let Ok(permit) = free.clone().acquire_owned().await else { return };
            let Ok((near, _)) = self.listener.accept().await else {
                // Out of descriptors, most likely: those in use become free.
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            };
            let (tenant, name) = (tenant.clone(), self.forward.name.clone());
            passing.spawn(async move {
                let _permit = permit;
                pass(near, &tenant, &name).await;
            });
        }
    }
}

async fn pass(mut near: TcpStream, tenant: &Tenant, name: &str) {
    match tenant.port(name).await {
        Ok(mut far) => {
            // A connection that breaks is its two ends' business.
            let _ = copy_bidirectional(&mut near, &mut far).await;
        }
        Err(error) => eprintln!("note: port {name}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_named_and_placed() {
        let read = |text: &str| text.parse::<Forward>();
        assert_eq!(read("web"), Ok(Forward { name: "WEB".into(), local: 0 }));
        assert_eq!(read("WEB:8080"), Ok(Forward { name: "WEB".into(), local: 8_080 }));
        for bad in ["", ":80", "web:", "web:x", "web:70000", "we b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = taken.local_addr().unwrap().port();
        let error = Listening::at(&Forward { name: "WEB".into(), local }).await.err().unwrap();
        assert!(error.to_string().contains(&local.to_string()), "{error:#}");
        let any = Listening::at(&Forward { name: "WEB".into(), local: 0 }).await.unwrap();
        assert!(any.shown().contains("127.0.0.1:"));
    }
}
