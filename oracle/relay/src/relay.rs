//! The relay.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use datagalax_protocol::{Context, Envelope, Expected, Nonce, Refusal, RelayHello, relay::NO_EPOCH};
use datagalax_service::{
    Health,
    metrics::{Counter, Gauge},
};
use solana_pubkey::Pubkey;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{self, Instant, MissedTickBehavior},
};

use crate::{
    admit::{Admission, Denied},
    hello::{ClientHello, HelloError},
    limits::{Limits, Rate, Sources},
    name,
    splice::{Cut, splice},
    wire::{self, Token},
};

/// Connections on the hosts' port that have not said yet what they are.
const STRANGERS: usize = 256;
/// Clients waiting on one host's control connection.
const OPENS: usize = 64;
/// Pings without an answer after which a host is gone.
const UNANSWERED: u32 = 3;
/// How long an alert may take to leave.
const ALERT_TIMEOUT: Duration = Duration::from_secs(1);

datagalax_service::metrics! {
    /// What a relay counts.
    pub struct Metrics: "datagalax_relay" {
        /// Hosts connected now.
        pub hosts: Gauge,
        /// Connections of the public held now.
        pub connections: Gauge,
        /// Connections of the public passed on to a host.
        pub passed: Counter,
        /// Bytes passed, in both directions together.
        pub bytes: Counter,
        /// Connections of the public refused before a host was asked: not TLS, no name, no such host, too many, too slow.
        pub refused: Counter,
        /// Connections of the public that their host did not take in time.
        pub unanswered: Counter,
        /// Connections of the public cut by a bound: idle, or too old.
        pub cut: Counter,
        /// Connections of hosts admitted.
        pub admitted: Counter,
        /// Connections of hosts refused: not registered or listed, a wrong signature, or a relay that is full.
        pub denied: Counter,
    }
}

/// Routes the public's TLS connections to the hosts that dialled in.
pub struct Relay {
    names: Vec<String>,
    admission: Arc<dyn Admission>,
    limits: Limits,
    hosts: Mutex<HashMap<Pubkey, Host>>,
    shares: Mutex<HashMap<Pubkey, Weak<Share>>>,
    /// Clients whose host was asked to dial back.
    waiting: Mutex<HashMap<Token, oneshot::Sender<TcpStream>>>,
    places: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    public_sources: Arc<Sources>,
    host_sources: Arc<Sources>,
    metrics: Metrics,
    health: Health,
}

/// A client that waits for its host: the token and where the client is.
type Open = (Token, IpAddr);

/// A connected host.
struct Host {
    opens: mpsc::Sender<Open>,
    share: Arc<Share>,
}

/// A host's share of the relay. It outlives the control connection for as long as bytes pass, so that connecting anew wins
/// no second share.
struct Share {
    places: Arc<Semaphore>,
    rate: Rate,
}

/// Why a client's connection ended before its bytes passed, or how they ended.
#[derive(Debug, Error)]
enum ClientError {
    #[error("its address has too many connections")]
    Source,
    #[error("it did not say in time whom it wants")]
    Slow,
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("no host is connected for the name {0}")]
    NoHost(String),
    #[error("the host of {0} has too many connections")]
    Busy(String),
    #[error("the host of {0} did not dial back in time")]
    Unanswered(String),
    #[error(transparent)]
    Cut(#[from] Cut),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ClientError {
    /// The TLS alert (RFC 8446, 6) that tells a client's TLS what happened.
    fn alert(&self) -> Option<u8> {
        match self {
            Self::NoHost(_) | Self::Hello(HelloError::NoName) => Some(112), // unrecognized_name
            Self::Hello(HelloError::Malformed(_) | HelloError::TooLong) => Some(50), // decode_error
            Self::Busy(_) | Self::Unanswered(_) | Self::Source => Some(80), // internal_error
            Self::Hello(HelloError::NotTls) | Self::Slow | Self::Cut(_) | Self::Io(_) => None,
        }
    }
}

/// Why a host's connection ended.
#[derive(Debug, Error)]
enum HostError {
    #[error("its address has too many connections")]
    Source,
    #[error("it did not say in time who it is")]
    Slow,
    #[error("it speaks another protocol or version")]
    Magic,
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("its hello is for relay {0:?}, which is none of this one's names")]
    OtherRelay(String),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("this relay is full")]
    Full,
    #[error("another connection with the same operator key took its place")]
    Replaced,
    #[error("nobody waits for this connection (any more)")]
    UnknownToken,
    #[error("it does not answer")]
    Silent,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Relay {
    /// A relay that hosts know by `names` (host names as they are dialled), and that admits as `admission` says.
    pub fn new(
        names: &[String],
        admission: Arc<dyn Admission>,
        limits: Limits,
        metrics: Metrics,
        health: Health,
    ) -> Arc<Self> {
        Arc::new(Self {
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            admission,
            limits,
            hosts: Mutex::default(),
            shares: Mutex::default(),
            waiting: Mutex::default(),
            places: Arc::new(Semaphore::new(limits.connections)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            public_sources: Sources::new(limits.per_source),
            host_sources: Sources::new(limits.per_source),
            metrics,
            health,
        })
    }

    /// What it has done and holds.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Serves the public on one port and hosts on another until `stop` resolves; connections that pass bytes then get
    /// `grace` to end. Hosts come back by themselves when a relay is there again.
    pub async fn run(
        self: Arc<Self>,
        public: TcpListener,
        hosts: TcpListener,
        stop: impl Future<Output = ()>,
        grace: Duration,
    ) {
        let (mut clients, mut connected) = (JoinSet::new(), JoinSet::new());
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = public.accept() => match accepted {
                    Ok((stream, from)) => self.clone().take_client(stream, from, &mut clients),
                    Err(error) => cannot_accept(&error).await,
                },
                accepted = hosts.accept() => match accepted {
                    Ok((stream, from)) => self.clone().take_host(stream, from, &mut connected),
                    Err(error) => cannot_accept(&error).await,
                },
                Some(_) = clients.join_next() => {}
                Some(_) = connected.join_next() => {}
            }
        }
        drop((public, hosts));
        // Hosts are told by the end of their connections; dropping the set ends those.
        drop(connected);
        if time::timeout(grace, async { while clients.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!(connections = clients.len(), "connections were cut off at shutdown");
        }
    }

    fn take_client(self: Arc<Self>, stream: TcpStream, from: SocketAddr, tasks: &mut JoinSet<()>) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.metrics.refused.inc();
            tracing::debug!(%from, "refused: all places are taken");
            return;
        };
        tasks.spawn(async move {
            self.metrics.connections.inc();
            let ended = self.client(stream, from.ip()).await;
            self.metrics.connections.dec();
            drop(place);
            let Err(error) = ended else { return };
            let count = match &error {
                ClientError::Cut(Cut::Idle(_) | Cut::Old(_)) => &self.metrics.cut,
                ClientError::Unanswered(_) => &self.metrics.unanswered,
                ClientError::Cut(Cut::Io(_)) | ClientError::Io(_) => {
                    tracing::debug!(%from, %error, "connection ended");
                    return;
                }
                _ => &self.metrics.refused,
            };
            count.inc();
            tracing::debug!(%from, %error, "connection ended");
        });
    }

    /// One connection of the public, from its first byte to its last.
    async fn client(&self, mut stream: TcpStream, from: IpAddr) -> Result<(), ClientError> {
        stream.set_nodelay(true)?;
        let joined = self.join(&mut stream, from).await;
        if let Some(alert) = joined.as_ref().err().and_then(ClientError::alert) {
            // Best effort: the client is refused either way.
            let record = [21, 3, 3, 0, 2, 2, alert];
            time::timeout(ALERT_TIMEOUT, stream.write_all(&record)).await.ok();
        }
        let Joined { far, share, _places } = joined?;
        self.metrics.passed.inc();
        let passed = |bytes: usize| {
            self.metrics.bytes.inc_by(bytes as u64);
        };
        Ok(splice(stream, far, &share.rate, self.limits.idle_timeout, self.limits.life, passed).await?)
    }

    /// Finds out whom the client wants and has that host dial back.
    async fn join(&self, stream: &mut TcpStream, from: IpAddr) -> Result<Joined, ClientError> {
        let source = self.public_sources.enter(from).ok_or(ClientError::Source)?;
        let reading = time::timeout(self.limits.hello_timeout, read_client_hello(stream));
        let (name, hello) = reading.await.map_err(|_| ClientError::Slow)??;
        let host = name::operator(&name)
            .and_then(|operator| lock(&self.hosts).get(&operator).map(|host| (host.opens.clone(), host.share.clone())));
        let Some((opens, share)) = host else { return Err(ClientError::NoHost(name)) };
        let Ok(place) = share.places.clone().try_acquire_owned() else { return Err(ClientError::Busy(name)) };
        let token: Token = rand::random();
        let (dialled, dial) = oneshot::channel();
        lock(&self.waiting).insert(token, dialled);
        let asked = opens.try_send((token, from));
        // A control connection learns by the end of its senders that another took its place.
        drop(opens);
        let far = match asked {
            Ok(()) => time::timeout(self.limits.dial_back_timeout, dial).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        lock(&self.waiting).remove(&token);
        let Some(mut far) = far else {
            return Err(if asked.is_ok() { ClientError::Unanswered(name) } else { ClientError::Busy(name) });
        };
        time::timeout(self.limits.dial_back_timeout, far.write_all(&hello))
            .await
            .map_err(|_| ClientError::Unanswered(name))??;
        Ok(Joined { far, share, _places: (source, place) })
    }

    fn take_host(self: Arc<Self>, stream: TcpStream, from: SocketAddr, tasks: &mut JoinSet<()>) {
        let Ok(place) = self.strangers.clone().try_acquire_owned() else {
            tracing::debug!(%from, "refused: too many connections have not said what they are");
            return;
        };
        tasks.spawn(async move {
            if let Err(error) = self.host_connection(stream, from.ip(), place).await {
                tracing::debug!(%from, %error, "host's connection ended");
            }
        });
    }

    /// One connection of a host: its control connection for as long as that lasts, or a data connection until it is handed on.
    async fn host_connection(
        &self,
        mut stream: TcpStream,
        from: IpAddr,
        place: OwnedSemaphorePermit,
    ) -> Result<(), HostError> {
        let _source = self.host_sources.enter(from).ok_or(HostError::Source)?;
        stream.set_nodelay(true)?;
        let begun = async {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await?;
            let (magic, kind) = head.split_at(wire::MAGIC.len());
            match (magic == wire::MAGIC, kind[0]) {
                (true, wire::CONTROL) => Ok(Some(self.introduce(&mut stream).await?)),
                (true, wire::DATA) => {
                    let mut token: Token = [0; 16];
                    stream.read_exact(&mut token).await?;
                    // Whoever takes it out may use it: once.
                    let waiting = lock(&self.waiting).remove(&token).ok_or(HostError::UnknownToken)?;
                    waiting.send(stream).map_err(|_| HostError::UnknownToken)?;
                    return Ok(None);
                }
                _ => Err(HostError::Magic),
            }
            .map(|introduced| introduced.map(|(container, operator)| (stream, container, operator)))
        };
        // Admission has a time of its own.
        let introduced = time::timeout(self.limits.hello_timeout * 2, begun).await.map_err(|_| HostError::Slow)??;
        let Some((mut stream, container, operator)) = introduced else { return Ok(()) };
        drop(place);
        tracing::info!(%operator, %container, %from, "host connected");
        let ended = self.control(&mut stream, container, operator).await;
        if let Err(error) = &ended {
            tracing::info!(%operator, %container, %from, %error, "host disconnected");
            let reason = error.to_string();
            time::timeout(ALERT_TIMEOUT, wire::write_reason(&mut stream, wire::BYE, &reason)).await.ok();
        }
        ended
    }

    /// Who the host is, proved and admitted; a host that is not is told why.
    async fn introduce(&self, stream: &mut TcpStream) -> Result<(Pubkey, Pubkey), HostError> {
        let nonce: Nonce = rand::random();
        stream.write_all(&nonce).await?;
        let hello = wire::read_hello(stream).await?;
        let admitted = async {
            let envelope = Envelope::decode(&hello).map_err(Refusal::from)?;
            let (container, operator) = (Pubkey::new_from_array(envelope.subject), envelope.signer());
            // The nonce is this connection's, so the host's clock does not matter, and the container says of which network it
            // is: whoever admits looks it up on its own.
            let context = Context {
                genesis_hash: envelope.genesis_hash,
                program: Pubkey::new_from_array(envelope.program),
                subject: container,
                epoch: NO_EPOCH,
            };
            let expected = Expected { context, nonce: Some(nonce), signers: &[operator], now: envelope.issued_at };
            let RelayHello { relay } = envelope.verify(&expected)?;
            if !self.names.contains(&relay) {
                return Err(HostError::OtherRelay(relay));
            }
            {
                let hosts = lock(&self.hosts);
                if hosts.len() >= self.limits.hosts && !hosts.contains_key(&operator) {
                    return Err(HostError::Full);
                }
            }
            self.admitted(container, operator).await?;
            Ok((container, operator))
        };
        match admitted.await {
            Ok(admitted) => {
                self.metrics.admitted.inc();
                stream.write_all(&[wire::ADMITTED]).await?;
                Ok(admitted)
            }
            Err(error) => {
                self.metrics.denied.inc();
                wire::write_reason(stream, wire::REFUSED, &error.to_string()).await?;
                Err(error)
            }
        }
    }

    /// What the admission says, in time.
    async fn admitted(&self, container: Pubkey, operator: Pubkey) -> Result<(), Denied> {
        let verdict = time::timeout(self.limits.hello_timeout, self.admission.admit(container, operator));
        let verdict = verdict.await.unwrap_or_else(|_| Err(Denied::Unknown("its node does not answer in time".into())));
        self.health.set(
            "admission",
            match &verdict {
                Err(denied @ Denied::Unknown(_)) => Some(denied.to_string()),
                _ => None,
            },
        );
        verdict
    }

    /// Tells the host of clients until the connection ends, in one way or another.
    async fn control(&self, stream: &mut TcpStream, container: Pubkey, operator: Pubkey) -> Result<(), HostError> {
        let (opens, mut asked) = mpsc::channel(OPENS);
        let ours = opens.downgrade();
        // The newest wins: after a NAT forgot a connection, the host is back long before the relay notices. The one that was
        // there sees its channel close, since the map holds the only lasting sender.
        let share = self.share(operator);
        if lock(&self.hosts).insert(operator, Host { opens, share }).is_none() {
            self.metrics.hosts.inc();
        }
        let ended = self.attend(stream, &mut asked, container, operator).await;
        let mut hosts = lock(&self.hosts);
        let still_ours = ours.upgrade().zip(hosts.get(&operator)).is_some_and(|(ours, host)| host.opens.same_channel(&ours));
        if still_ours {
            hosts.remove(&operator);
            self.metrics.hosts.dec();
        }
        ended
    }

    /// The share of a host: the one it still uses, or a new one.
    fn share(&self, operator: Pubkey) -> Arc<Share> {
        let mut shares = lock(&self.shares);
        // Those that nobody uses any more; at most one a host that was connected at the same time as any of these.
        shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = shares.get(&operator).and_then(Weak::upgrade) {
            return share;
        }
        let share = Arc::new(Share {
            places: Arc::new(Semaphore::new(self.limits.per_host)),
            rate: Rate::new(self.limits.bytes_per_second, Instant::now()),
        });
        shares.insert(operator, Arc::downgrade(&share));
        share
    }

    async fn attend(
        &self,
        stream: &mut TcpStream,
        asked: &mut mpsc::Receiver<Open>,
        container: Pubkey,
        operator: Pubkey,
    ) -> Result<(), HostError> {
        let ticker = |every: Duration| {
            let mut ticker = time::interval_at(Instant::now() + every, every);
            ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticker
        };
        let (mut pings, mut readmissions) = (ticker(self.limits.ping), ticker(self.limits.readmit));
        let (mut reader, mut writer) = stream.split();
        // Counted, not timed: when this process was held up, the answer waits in the socket.
        let mut unanswered = 0;
        loop {
            let mut frame = [0; wire::OPEN_LEN];
            let length = tokio::select! {
                open = asked.recv() => {
                    let (token, client) = open.ok_or(HostError::Replaced)?;
                    frame[0] = wire::OPEN;
                    frame[1..17].copy_from_slice(&token);
                    frame[17..].copy_from_slice(&wire::address_bytes(client));
                    wire::OPEN_LEN
                }
                _ = pings.tick() => {
                    if unanswered >= UNANSWERED {
                        return Err(HostError::Silent);
                    }
                    unanswered += 1;
                    frame[0] = wire::PING;
                    1
                }
                _ = readmissions.tick() => {
                    // A node that does not answer is no reason to cut a host off.
                    match self.admitted(container, operator).await {
                        Err(denied @ Denied::Stranger(_)) => return Err(denied.into()),
                        Err(Denied::Unknown(error)) => tracing::warn!(%operator, error, "cannot check whether a host may stay"),
                        Ok(()) => {}
                    }
                    continue;
                }
                answer = reader.read_u8() => {
                    if answer? != wire::PONG {
                        return Err(HostError::Magic);
                    }
                    unanswered = 0;
                    continue;
                }
            };
            let sent = time::timeout(self.limits.ping, writer.write_all(&frame[..length])).await;
            sent.map_err(|_| HostError::Silent)??;
        }
    }
}

/// A client and its host's connection, with the places that both take.
struct Joined {
    far: TcpStream,
    share: Arc<Share>,
    _places: (crate::limits::SourcePlace, OwnedSemaphorePermit),
}

/// The name a client asks for, and everything it has sent so far.
async fn read_client_hello(stream: &mut TcpStream) -> Result<(String, Vec<u8>), ClientError> {
    let mut hello = ClientHello::default();
    let mut piece = [0; 2_048];
    loop {
        let read = stream.read(&mut piece).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if let Some(name) = hello.push(&piece[..read])? {
            return Ok((name, hello.into_bytes()));
        }
    }
}

/// Mostly the process's limit of files: wait for connections to end instead of spinning.
async fn cannot_accept(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    time::sleep(Duration::from_millis(100)).await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
