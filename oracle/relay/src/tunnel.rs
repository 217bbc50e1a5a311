//! The host's side: stays connected to its relays and takes the connections that they pass on.

use std::{
    fmt, io,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use datagalax_protocol::{
    Context, Digest, Envelope, RelayHello,
    relay::{MAX_RELAY_NAME, NO_EPOCH},
};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{self, Instant},
};

use crate::wire::{self, Token};

/// Longest time to reach a relay, and to be admitted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A relay that says nothing for so long is gone: it asks every 15 seconds whether the host is there.
const SILENCE: Duration = Duration::from_secs(50);
/// A connection that lasted so long was a good one: the pauses begin anew.
const GOOD: Duration = Duration::from_secs(60);
/// Longest pause before the relay is tried again.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Connections dialled back at a time, for each relay.
const DIALS: usize = 64;
/// Connections that wait to be taken by [`Tunnel::accept`]; further ones are dropped.
const WAITING: usize = 64;

/// Where a relay takes hosts: `name:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelayAddress {
    name: String,
    port: u16,
}

impl FromStr for RelayAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no relay's address: write its host name and port, such as relay.example:7443");
        let (name, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let name = name.to_ascii_lowercase();
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || name.len() > MAX_RELAY_NAME || !name.bytes().all(fine) {
            return Err(bad());
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        Ok(Self { name, port })
    }
}

impl RelayAddress {
    /// The relay's host name, lower case.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for RelayAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.name, self.port)
    }
}

/// As whom a host is reached.
#[derive(Clone)]
pub struct Identity {
    /// The container's operator key.
    pub key: Arc<Keypair>,
    /// The container's account.
    pub container: Pubkey,
    /// The cluster's genesis hash.
    pub genesis_hash: Digest,
    /// The program's address.
    pub program: Pubkey,
}

/// Why there is no connection to a relay.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// The first attempt is under way.
    #[error("not connected yet")]
    NotYet,
    /// No connection came about.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It does not admit this host.
    #[error("it refuses this host: {0}")]
    Refused(String),
    /// It ended the connection and said why.
    #[error("it ended the connection: {0}")]
    Bye(String),
    /// It asks no more whether this host is there.
    #[error("it fell silent")]
    Silent,
    /// The connection broke.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// It says what no relay says.
    #[error("it does not speak this protocol")]
    Protocol,
    /// No hello could be signed.
    #[error("this host's key cannot sign: {0}")]
    Sign(String),
}

/// A connection that a relay passes on.
#[derive(Debug)]
pub struct Passed {
    /// The client's bytes, raw: they begin with its TLS.
    pub stream: TcpStream,
    /// Where the client is. The relay's word: good for bounds, not for trust.
    pub client: IpAddr,
}

/// Connections to relays, kept up by tasks of its own until it is dropped.
pub struct Tunnel {
    streams: mpsc::Receiver<Passed>,
    links: Links,
    _tasks: JoinSet<()>,
}

/// Whether a tunnel's relays are connected, for whoever tells of it. Outlives the tunnel, and then knows nothing new.
#[derive(Clone)]
pub struct Links(Vec<(RelayAddress, watch::Receiver<Option<LinkError>>)>);

impl Tunnel {
    /// Connects to each of these relays and stays connected. Returns at once; see [`Tunnel::links`].
    pub fn open(identity: &Identity, relays: &[RelayAddress]) -> Self {
        let (deliver, streams) = mpsc::channel(WAITING);
        let (mut links, mut tasks) = (Vec::new(), JoinSet::new());
        for relay in relays {
            let (state, seen) = watch::channel(Some(LinkError::NotYet));
            links.push((relay.clone(), seen));
            tasks.spawn(keep_up(identity.clone(), relay.clone(), state, deliver.clone()));
        }
        Self { streams, links: Links(links), _tasks: tasks }
    }

    /// The next connection that a relay passes on. Without relays it never comes. Safe to cancel.
    pub async fn accept(&mut self) -> Passed {
        match self.streams.recv().await {
            Some(stream) => stream,
            // Only without a relay are there no senders.
            None => std::future::pending().await,
        }
    }

    /// Whether its relays are connected.
    pub fn links(&self) -> Links {
        self.links.clone()
    }
}

impl Links {
    /// Why this host cannot be reached through its relays, naming each that is not connected; `None` when all are.
    pub fn trouble(&self) -> Option<String> {
        let troubles = self
            .0
            .iter()
            .filter_map(|(relay, state)| state.borrow().as_ref().map(|error| format!("relay {relay}: {error}")));
        let troubles: Vec<String> = troubles.collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }

    /// Waits until [`Links::trouble`] may have changed since this handle last waited. Without relays it never does.
    pub async fn changed(&mut self) {
        let changes = self.0.iter_mut().map(|(_, state)| Box::pin(state.changed()));
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            std::future::pending::<()>().await;
        }
        if futures_util::future::select_all(changes).await.0.is_err() {
            // The tunnel is gone.
            std::future::pending::<()>().await;
        }
    }
}

/// Connects to a relay again and again.
async fn keep_up(
    identity: Identity,
    relay: RelayAddress,
    state: watch::Sender<Option<LinkError>>,
    deliver: mpsc::Sender<Passed>,
) {
    let mut failures = 0;
    loop {
        let mut connected = None;
        let Err(error) = link(&identity, &relay, &deliver, || {
            connected = Some(Instant::now());
            state.send_replace(None);
            tracing::info!(%relay, "connected to the relay");
        })
        .await;
        failures = if connected.is_some_and(|since| since.elapsed() >= GOOD) { 0 } else { failures + 1 };
        let pause = pause(failures, rand::random());
        // The first of a row is news, the others are the same news.
        if failures <= 1 || connected.is_some() {
            tracing::warn!(%relay, %error, "not connected to the relay; trying again");
        } else {
            tracing::debug!(%relay, %error, ?pause, "still not connected to the relay");
        }
        state.send_replace(Some(error));
        time::sleep(pause).await;
    }
}

/// The pause after so many failures in a row, with `random` in 0..1: up to 1, 2, 4 and so on to [`MAX_PAUSE`] seconds, and
/// anything below that, so that a relay that comes back is not met by all its hosts at once.
fn pause(failures: u32, random: f64) -> Duration {
    let most = Duration::from_secs(1 << failures.min(16)).min(MAX_PAUSE);
    Duration::from_millis(100) + most.mul_f64(random.clamp(0.0, 1.0))
}

/// One control connection, until it ends. Calls `connected` once the relay has admitted this host.
async fn link(
    identity: &Identity,
    relay: &RelayAddress,
    deliver: &mpsc::Sender<Passed>,
    connected: impl FnOnce(),
) -> Result<std::convert::Infallible, LinkError> {
    let mut stream = time::timeout(CONNECT_TIMEOUT, admitted(identity, relay))
        .await
        .unwrap_or_else(|_| Err(LinkError::Unreachable("no answer in time".into())))?;
    connected();
    let dials = Arc::new(Semaphore::new(DIALS));
    // Dropped with this connection: a relay that is gone waits for nothing.
    let mut dialling = JoinSet::new();
    let (mut reader, mut writer) = stream.split();
    let lost = |error: io::Error| LinkError::Lost(error.to_string());
    loop {
        let frame = time::timeout(SILENCE, async {
            let kind = reader.read_u8().await?;
            let mut open = [0; wire::OPEN_LEN - 1];
            match kind {
                wire::OPEN => drop(reader.read_exact(&mut open).await?),
                wire::BYE => return Ok((kind, open, wire::read_reason(&mut reader).await?)),
                _ => {}
            }
            io::Result::Ok((kind, open, String::new()))
        });
        let (kind, open, reason) = frame.await.map_err(|_| LinkError::Silent)?.map_err(lost)?;
        match kind {
            wire::PING => {
                let answer = time::timeout(SILENCE, writer.write_all(&[wire::PONG])).await;
                answer.map_err(|_| LinkError::Silent)?.map_err(lost)?;
            }
            wire::OPEN => {
                while dialling.try_join_next().is_some() {}
                // A relay that asks for more than this gets no answer; its clients time out.
                let Ok(place) = dials.clone().try_acquire_owned() else { continue };
                let (relay, deliver) = (relay.clone(), deliver.clone());
                let (token, client) = open.split_at(16);
                // Both halves are 16 bytes.
                let token: Token = token.try_into().unwrap_or_default();
                let client = Ipv6Addr::from(<[u8; 16]>::try_from(client).unwrap_or_default()).to_canonical();
                dialling.spawn(async move {
                    match time::timeout(CONNECT_TIMEOUT, dial_back(&relay, token)).await {
                        Ok(Ok(stream)) => {
                            if deliver.try_send(Passed { stream, client }).is_err() {
                                tracing::warn!(%relay, "a connection was dropped: too many wait to be served");
                            }
                        }
                        Ok(Err(error)) => tracing::debug!(%relay, %error, "cannot dial back"),
                        Err(_) => tracing::debug!(%relay, "cannot dial back in time"),
                    }
                    drop(place);
                });
            }
            wire::BYE => return Err(LinkError::Bye(reason)),
            _ => return Err(LinkError::Protocol),
        }
    }
}

/// A control connection on which the relay has admitted this host.
async fn admitted(identity: &Identity, relay: &RelayAddress) -> Result<TcpStream, LinkError> {
    let unreachable = |error: io::Error| LinkError::Unreachable(error.to_string());
    let lost = |error: io::Error| LinkError::Lost(error.to_string());
    let mut stream = dial(relay, wire::CONTROL, &[]).await.map_err(unreachable)?;
    let mut nonce = [0; 16];
    stream.read_exact(&mut nonce).await.map_err(lost)?;
    let context = Context {
        genesis_hash: identity.genesis_hash,
        program: identity.program,
        subject: identity.container,
        epoch: NO_EPOCH,
    };
    let hello = RelayHello { relay: relay.name.clone() };
    // Fresh by the nonce: this host's clock plays no part, so none is shown.
    let signed = Envelope::sign(&context, &hello, nonce, 0, identity.key.as_ref());
    let hello = signed.map_err(|error| LinkError::Sign(error.to_string()))?.encode();
    wire::write_hello(&mut stream, &hello).await.map_err(lost)?;
    match stream.read_u8().await.map_err(lost)? {
        wire::ADMITTED => Ok(stream),
        wire::REFUSED => Err(LinkError::Refused(wire::read_reason(&mut stream).await.map_err(lost)?)),
        _ => Err(LinkError::Protocol),
    }
}

async fn dial_back(relay: &RelayAddress, token: Token) -> io::Result<TcpStream> {
    dial(relay, wire::DATA, &token).await
}

/// A connection to the relay that says what it is.
async fn dial(relay: &RelayAddress, kind: u8, then: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect((relay.name.as_str(), relay.port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[&wire::MAGIC, [kind].as_slice(), then].concat()).await?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_names_with_ports() {
        let address: RelayAddress = "Relay.Example:7443".parse().unwrap();
        assert_eq!(address.to_string(), "relay.example:7443");
        for bad in
            ["", "relay.example", ":7443", "relay.example:0", "relay.example:70000", "https://relay.example:1", "a b:1"]
        {
            assert!(bad.parse::<RelayAddress>().unwrap_err().contains("relay.example:7443"), "{bad}");
        }
    }

    #[test]
    fn pauses_grow_are_spread_and_end_at_a_minute() {
        let most = |failures| pause(failures, 1.0).as_millis();
        assert_eq!([0, 1, 2, 5, 6, 7, 100].map(most), [1_100, 2_100, 4_100, 32_100, 60_100, 60_100, 60_100]);
        assert_eq!(pause(9, 0.0).as_millis(), 100);
        assert_eq!(pause(9, 0.5).as_millis(), 30_100);
    }
}
