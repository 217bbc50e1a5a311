//! A relay with hosts and clients on loopback: real sockets, real TLS.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use datagalax_protocol::{Context, Envelope, RelayHello};
use datagalax_relay::{
    Relay, Tunnel,
    admit::{Admission, Anyone, Denied, Listed},
    limits::Limits,
    name,
    relay::Metrics,
    tunnel::{Identity, Passed, RelayAddress},
};
use datagalax_service::{
    Health,
    metrics::{Metrics as _, Registry},
    tls,
};
use futures_util::{FutureExt, future::BoxFuture};
use rustls::pki_types::ServerName;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::{self, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

/// Far longer than anything here takes: a test that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const CONTAINER: Pubkey = Pubkey::new_from_array([3; 32]);

struct Running {
    relay: Arc<Relay>,
    public: SocketAddr,
    hosts: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// A relay on these ports of loopback (0: any).
async fn relay_at(public: u16, hosts: u16, admission: impl Admission, limits: Limits) -> Running {
    let (public, hosts) = tokio::join!(TcpListener::bind(("127.0.0.1", public)), TcpListener::bind(("127.0.0.1", hosts)));
    let (public, hosts) = (public.unwrap(), hosts.unwrap());
    let relay = Relay::new(
        &["127.0.0.1".into()],
        Arc::new(admission),
        limits,
        Metrics::register(&mut Registry::default()),
        Health::default(),
    );
    let (stop, stopped) = oneshot::channel::<()>();
    let [at, hosts_at] = [&public, &hosts].map(|listener| listener.local_addr().unwrap());
    let task = tokio::spawn(relay.clone().run(public, hosts, stopped.map(drop), Duration::from_secs(5)));
    Running { relay, public: at, hosts: hosts_at, stop, task }
}

async fn relay(limits: Limits) -> Running {
    relay_at(0, 0, Anyone, limits).await
}

impl Running {
    fn address(&self) -> RelayAddress {
        self.hosts.to_string().parse().unwrap()
    }

    /// Waits until something holds.
    async fn until(&self, what: &str, holds: impl Fn(&Relay) -> bool) {
        let waiting = async {
            while !holds(&self.relay) {
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}: {:?}", self.relay.metrics()));
    }

    /// A host that sends back what it gets, over TLS; a tunnel that is connected.
    async fn host(&self, key: &Arc<Keypair>) -> JoinHandle<()> {
        let before = self.relay.metrics().admitted.get();
        let task = tokio::spawn(echo(key.clone(), Tunnel::open(&identity(key), &[self.address()])));
        self.until("the host connects", |relay| relay.metrics().admitted.get() > before && relay.metrics().hosts.get() > 0)
            .await;
        task
    }

    /// A client's TLS with a host.
    async fn client(&self, operator: &Pubkey) -> io::Result<TlsStream<TcpStream>> {
        let name = format!("{}.relay.example", name::label(operator));
        self.client_named(operator, &name).await
    }

    async fn client_named(&self, operator: &Pubkey, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.public).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connecting = TlsConnector::from(Arc::new(tls::client(operator))).connect(name, stream);
        timeout(PATIENCE, connecting).await.expect("connecting ends")
    }

    /// A control connection without a tunnel behind it, admitted.
    async fn raw_host(&self, key: &Keypair) -> TcpStream {
        let (mut stream, nonce) = self.nonce().await;
        send_hello(&mut stream, key, nonce, "127.0.0.1").await;
        assert_eq!(stream.read_u8().await.unwrap(), 0, "admitted");
        stream
    }

    async fn nonce(&self) -> (TcpStream, [u8; 16]) {
        let mut stream = TcpStream::connect(self.hosts).await.unwrap();
        stream.write_all(b"DGRELAY1\0").await.unwrap();
        let mut nonce = [0; 16];
        stream.read_exact(&mut nonce).await.unwrap();
        (stream, nonce)
    }
}

fn identity(key: &Arc<Keypair>) -> Identity {
    Identity { key: key.clone(), container: CONTAINER, genesis_hash: [1; 32], program: Pubkey::new_from_array([2; 32]) }
}

async fn echo(key: Arc<Keypair>, mut tunnel: Tunnel) {
    let acceptor = TlsAcceptor::from(tls::server(&key));
    loop {
        let (Passed { stream, client }, acceptor) = (tunnel.accept().await, acceptor.clone());
        assert_eq!(client, std::net::Ipv4Addr::LOCALHOST);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(acceptor.accept(stream).await?);
            tokio::io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await
        });
    }
}

async fn send_hello(stream: &mut TcpStream, key: &Keypair, nonce: [u8; 16], relay: &str) {
    let context = Context { genesis_hash: [1; 32], program: Pubkey::new_from_array([2; 32]), subject: CONTAINER, epoch: 0 };
    let hello = Envelope::sign(&context, &RelayHello { relay: relay.into() }, nonce, 0, key).unwrap().encode();
    stream.write_u16_le(hello.len() as u16).await.unwrap();
    stream.write_all(&hello).await.unwrap();
}

/// Everything until the end, or what had come when the connection was cut.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection ends").ok();
    bytes
}

async fn says_back(stream: &mut TlsStream<TcpStream>, text: &[u8]) -> io::Result<()> {
    stream.write_all(text).await?;
    let mut back = vec![0; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("an answer or an end")?;
    assert_eq!(back, text);
    Ok(())
}

#[tokio::test]
async fn a_host_is_reached_by_its_key_and_nobody_else_answers_for_it() {
    let relay = relay(Limits::default()).await;
    let (one, other) = (Arc::new(Keypair::new()), Arc::new(Keypair::new()));
    let _hosts = (relay.host(&one).await, relay.host(&other).await);
    for key in [&one, &other, &one] {
        let mut stream = relay.client(&key.pubkey()).await.unwrap();
        says_back(&mut stream, &[7; 100_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
    // Under any domain, and in capitals.
    let shouted = name::label(&one.pubkey()).to_uppercase() + ".elsewhere.example";
    says_back(&mut relay.client_named(&one.pubkey(), &shouted).await.unwrap(), b"hello").await.unwrap();
    // A relay that leads elsewhere is found out by the key.
    let name = name::label(&other.pubkey());
    relay.client_named(&one.pubkey(), &name).await.unwrap_err();
    assert!(relay.relay.metrics().bytes.get() > 600_000);
}

#[tokio::test]
async fn many_at_once_each_get_their_own() {
    let relay = relay(Limits::default()).await;
    let key = Arc::new(Keypair::new());
    let _host = relay.host(&key).await;
    let clients = (0..40u8).map(|i| {
        let (relay, key) = (&relay, &key);
        async move {
            let mut stream = relay.client(&key.pubkey()).await.unwrap();
            for round in 0..3 {
                says_back(&mut stream, &vec![i ^ round; 20_000]).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(clients).await;
    relay.until("all places are given back", |relay| relay.metrics().connections.get() == 0).await;
}

#[tokio::test]
async fn strangers_at_the_public_port_are_refused_and_told_so_in_tls() {
    let limits = Limits { hello_timeout: Duration::from_millis(300), ..Limits::default() };
    let relay = relay(limits).await;
    let refused = |error: io::Error| error.to_string();
    let nobody = refused(relay.client(&Pubkey::default()).await.unwrap_err());
    assert!(nobody.contains("UnrecognisedName"), "{nobody}");
    let nameless = refused(relay.client_named(&Pubkey::default(), "127.0.0.1").await.unwrap_err());
    assert!(nameless.contains("UnrecognisedName"), "{nameless}");
    let other = refused(relay.client_named(&Pubkey::default(), "www.relay.example").await.unwrap_err());
    assert!(other.contains("UnrecognisedName"), "{other}");

    let mut http = TcpStream::connect(relay.public).await.unwrap();
    http.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(rest(&mut http).await, b"");
    let mut garbage = TcpStream::connect(relay.public).await.unwrap();
    garbage.write_all(&[22, 3, 1, 0, 4, 2, 0, 0, 0]).await.unwrap();
    assert_eq!(rest(&mut garbage).await, [21, 3, 3, 0, 2, 2, 50], "a decode error");
    // Silent, and one byte at a time: the time runs from the start.
    let mut silent = TcpStream::connect(relay.public).await.unwrap();
    let mut slow = TcpStream::connect(relay.public).await.unwrap();
    let trickle = async {
        for byte in [22, 3, 1, 1, 0].into_iter().chain(std::iter::repeat(0)) {
            if slow.write_u8(byte).await.is_err() {
                return;
            }
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, trickle).await.expect("a slow client is cut");
    assert_eq!(rest(&mut silent).await, b"");
    relay
        .until("all are counted", |relay| relay.metrics().refused.get() == 7 && relay.metrics().connections.get() == 0)
        .await;
}

#[tokio::test]
async fn a_host_proves_its_key_to_this_relay_now() {
    let relay = relay(Limits { hello_timeout: Duration::from_millis(500), ..Limits::default() }).await;
    let key = Keypair::new();
    let reason = async |mut stream: TcpStream| {
        let bytes = rest(&mut stream).await;
        assert_eq!(bytes[0], 1, "refused");
        String::from_utf8(bytes[2..].to_vec()).unwrap()
    };
    // What was signed for another connection, or for another relay.
    let (mut stream, nonce) = relay.nonce().await;
    send_hello(&mut stream, &key, nonce.map(|byte| !byte), "127.0.0.1").await;
    assert_eq!(reason(stream).await, "the answer does not repeat the nonce of the request");
    let (mut stream, nonce) = relay.nonce().await;
    send_hello(&mut stream, &key, nonce, "evil.example").await;
    assert!(reason(stream).await.contains("evil.example"));
    // A signature by another key, a hello that is none, one that is too long, nothing, another protocol.
    let (mut stream, nonce) = relay.nonce().await;
    let context = Context { genesis_hash: [1; 32], program: Pubkey::default(), subject: CONTAINER, epoch: 0 };
    let mut forged = Envelope::sign(&context, &RelayHello { relay: "127.0.0.1".into() }, nonce, 0, &key).unwrap();
    forged.signer = Keypair::new().pubkey().to_bytes();
    let forged = forged.encode();
    stream.write_u16_le(forged.len() as u16).await.unwrap();
    stream.write_all(&forged).await.unwrap();
    assert_eq!(reason(stream).await, "the signature is wrong");
    let (mut stream, _) = relay.nonce().await;
    stream.write_all(&[5, 0, 1, 2, 3, 4, 5]).await.unwrap();
    assert!(reason(stream).await.contains("does not decode"));
    let (mut stream, _) = relay.nonce().await;
    stream.write_u16_le(60_000).await.unwrap();
    assert_eq!(rest(&mut stream).await, b"");
    let (mut silent, _) = relay.nonce().await;
    assert_eq!(rest(&mut silent).await, b"");
    for opening in [b"DGRELAY2\0".as_slice(), b"DGRELAY1\x07", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(relay.hosts).await.unwrap();
        stream.write_all(opening).await.unwrap();
        assert_eq!(rest(&mut stream).await, b"");
    }
    assert_eq!((relay.relay.metrics().hosts.get(), relay.relay.metrics().admitted.get()), (0, 0));
}

#[tokio::test]
async fn a_stranger_gets_no_tunnel_and_hears_why() {
    let (known, stranger) = (Arc::new(Keypair::new()), Arc::new(Keypair::new()));
    let relay = relay_at(0, 0, Listed::parse(&known.pubkey().to_string()).unwrap(), Limits::default()).await;
    let tunnel = Tunnel::open(&identity(&stranger), &[relay.address()]);
    let mut links = tunnel.links();
    assert!(links.trouble().unwrap().contains("not connected yet"));
    timeout(PATIENCE, links.changed()).await.unwrap();
    let trouble = links.trouble().unwrap();
    assert!(trouble.contains("refuses this host") && trouble.contains("list"), "{trouble}");
    let tunnel = Tunnel::open(&identity(&known), &[relay.address()]);
    let mut links = tunnel.links();
    timeout(PATIENCE, links.changed()).await.unwrap();
    assert_eq!(links.trouble(), None);
}

/// Admits until it is told otherwise.
struct Until(Arc<Mutex<Result<(), Denied>>>);

impl Admission for Until {
    fn admit(&self, _: Pubkey, _: Pubkey) -> BoxFuture<'_, Result<(), Denied>> {
        async { self.0.lock().unwrap().clone() }.boxed()
    }
}

#[tokio::test]
async fn who_may_not_stay_is_put_out_but_a_dead_node_puts_nobody_out() {
    let verdict = Arc::new(Mutex::new(Ok(())));
    let limits = Limits { readmit: Duration::from_millis(20), ..Limits::default() };
    let relay = relay_at(0, 0, Until(verdict.clone()), limits).await;
    let key = Keypair::new();
    let mut host = relay.raw_host(&key).await;
    *verdict.lock().unwrap() = Err(Denied::Unknown("the node is down".into()));
    timeout(Duration::from_millis(200), host.read_u8()).await.expect_err("it stays");
    *verdict.lock().unwrap() = Err(Denied::Stranger("deregistered".into()));
    let bytes = rest(&mut host).await;
    assert_eq!((bytes[0], &bytes[2..]), (2, b"deregistered".as_slice()));
    assert_eq!(relay.relay.metrics().hosts.get(), 0);
}

#[tokio::test]
async fn one_host_and_one_address_have_so_many_places() {
    let limits = Limits { per_host: 2, per_source: 4, ..Limits::default() };
    let relay = relay(limits).await;
    let keys = [(); 3].map(|()| Arc::new(Keypair::new()));
    let mut tasks = Vec::new();
    for key in &keys {
        tasks.push(relay.host(key).await);
    }
    let [first, second, third] = keys.map(|key| key.pubkey());
    let mut held = vec![relay.client(&first).await.unwrap(), relay.client(&first).await.unwrap()];
    let busy = relay.client(&first).await.unwrap_err();
    assert!(busy.to_string().contains("InternalError"), "{busy}");
    held.push(relay.client(&second).await.unwrap());
    held.push(relay.client(&second).await.unwrap());
    let source = relay.client(&third).await.unwrap_err();
    assert!(source.to_string().contains("InternalError"), "the fifth of this address: {source}");
    // Those that were there are not disturbed, and a place that is given back is another's.
    says_back(&mut held[0], b"still here").await.unwrap();
    drop(held.pop());
    relay.until("a place is free", |relay| relay.metrics().connections.get() == 3).await;
    says_back(&mut relay.client(&third).await.unwrap(), b"hello").await.unwrap();
}

#[tokio::test]
async fn a_full_relay_takes_nobody_more_and_those_it_has_stay() {
    let relay = relay(Limits { connections: 2, hosts: 1, ..Limits::default() }).await;
    let key = Arc::new(Keypair::new());
    let _host = relay.host(&key).await;
    let mut held = [relay.client(&key.pubkey()).await.unwrap(), relay.client(&key.pubkey()).await.unwrap()];
    let mut third = TcpStream::connect(relay.public).await.unwrap();
    assert_eq!(rest(&mut third).await, b"", "closed at once, without being read");
    says_back(&mut held[0], b"still here").await.unwrap();

    let tunnel = Tunnel::open(&identity(&Arc::new(Keypair::new())), &[relay.address()]);
    let mut links = tunnel.links();
    timeout(PATIENCE, links.changed()).await.unwrap();
    assert!(links.trouble().unwrap().contains("this relay is full"), "{:?}", links.trouble());
    // The one that is there may come anew.
    let again = relay.raw_host(&key).await;
    assert_eq!(relay.relay.metrics().hosts.get(), 1);
    drop(again);
}

#[tokio::test]
async fn connecting_anew_wins_no_second_share() {
    let relay = relay(Limits { per_host: 2, ..Limits::default() }).await;
    let key = Arc::new(Keypair::new());
    let first = relay.host(&key).await;
    let mut held = [relay.client(&key.pubkey()).await.unwrap(), relay.client(&key.pubkey()).await.unwrap()];
    first.abort();
    relay.until("the control connection ends", |relay| relay.metrics().hosts.get() == 0).await;
    let _second = relay.host(&key).await;
    // What passed before still passes, and still counts.
    says_back(&mut held[0], b"still here").await.unwrap();
    assert!(relay.client(&key.pubkey()).await.unwrap_err().to_string().contains("InternalError"));
    drop(held);
    relay.until("the places are given back", |relay| relay.metrics().connections.get() == 0).await;
    says_back(&mut relay.client(&key.pubkey()).await.unwrap(), b"hello").await.unwrap();
}

#[tokio::test]
async fn a_host_that_does_not_dial_back_costs_its_client_only_a_while() {
    let limits = Limits { dial_back_timeout: Duration::from_millis(200), ..Limits::default() };
    let relay = relay(limits).await;
    let key = Keypair::new();
    let mut host = relay.raw_host(&key).await;
    let error = relay.client(&key.pubkey()).await.unwrap_err();
    assert!(error.to_string().contains("InternalError"), "{error}");
    relay.until("counted", |relay| relay.metrics().unanswered.get() == 1 && relay.metrics().connections.get() == 0).await;
    // The token comes too late now, and another one never was: both connections just end.
    let mut open = [0; 33];
    host.read_exact(&mut open).await.unwrap();
    assert_eq!(open[0], 1);
    for token in [&open[1..17], &[9; 16]] {
        let mut stream = TcpStream::connect(relay.hosts).await.unwrap();
        stream.write_all(&[b"DGRELAY1\x01", token].concat()).await.unwrap();
        assert_eq!(rest(&mut stream).await, b"");
    }
}

#[tokio::test]
async fn a_token_is_good_once() {
    let relay = relay(Limits::default()).await;
    let key = Keypair::new();
    let mut host = relay.raw_host(&key).await;
    let operator = key.pubkey();
    let (_client, stolen) = tokio::join!(relay.client(&operator), async {
        let mut open = [0; 33];
        host.read_exact(&mut open).await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(relay.hosts).await.unwrap();
            stream.write_all(&[b"DGRELAY1\x01", &open[1..17]].concat()).await.unwrap();
            streams.push(stream);
            // The first gets the client's hello before the second is sent.
            if streams.len() == 1 {
                assert_eq!(streams[0].read_u8().await.unwrap(), 22);
            }
        }
        let end = rest(&mut streams[1]).await;
        drop(streams);
        end
    });
    assert_eq!(stolen, b"");
}

#[tokio::test]
async fn the_newest_connection_of_a_key_wins() {
    let relay = relay(Limits::default()).await;
    let key = Arc::new(Keypair::new());
    let mut old = relay.raw_host(&key).await;
    let _host = relay.host(&key).await;
    let bye = rest(&mut old).await;
    assert_eq!(bye[0], 2);
    assert!(String::from_utf8_lossy(&bye).contains("took its place"));
    says_back(&mut relay.client(&key.pubkey()).await.unwrap(), b"hello").await.unwrap();
    assert_eq!(relay.relay.metrics().hosts.get(), 1, "the old one's end does not remove the new one");
}

#[tokio::test]
async fn a_silent_host_is_gone_after_three_pings() {
    let relay = relay(Limits { ping: Duration::from_millis(100), ..Limits::default() }).await;
    let mut silent = relay.raw_host(&Keypair::new()).await;
    let answering = Arc::new(Keypair::new());
    let _host = relay.host(&answering).await;
    let heard = rest(&mut silent).await;
    assert!(heard.iter().take_while(|kind| **kind == 0).count() >= 2, "it was asked: {heard:?}");
    assert!(String::from_utf8_lossy(&heard).contains("does not answer"));
    relay.until("only the one that answers stays", |relay| relay.metrics().hosts.get() == 1).await;
    says_back(&mut relay.client(&answering.pubkey()).await.unwrap(), b"hello").await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_cut() {
    let relay = relay(Limits { idle_timeout: Duration::from_millis(300), ..Limits::default() }).await;
    let key = Arc::new(Keypair::new());
    let _host = relay.host(&key).await;
    let mut stream = relay.client(&key.pubkey()).await.unwrap();
    says_back(&mut stream, b"hello").await.unwrap();
    assert!(timeout(PATIENCE, stream.read_u8()).await.expect("it is cut").is_err());
    relay.until("counted", |relay| relay.metrics().cut.get() == 1).await;
}

#[tokio::test]
async fn hosts_come_back_by_themselves_after_a_restart() {
    let first = relay(Limits::default()).await;
    let (public, hosts, address) = (first.public.port(), first.hosts.port(), first.address());
    let key = Arc::new(Keypair::new());
    let tunnel = Tunnel::open(&identity(&key), std::slice::from_ref(&address));
    let mut links = tunnel.links();
    timeout(PATIENCE, links.changed()).await.unwrap();
    assert_eq!(links.trouble(), None);
    // A connection that passes bytes lives on through the grace period; here it ends, and the relay with it.
    first.stop.send(()).unwrap();
    timeout(PATIENCE, first.task).await.expect("the relay stops").unwrap();
    timeout(PATIENCE, links.changed()).await.unwrap();
    assert!(links.trouble().unwrap().starts_with(&format!("relay {address}: ")));

    let second = relay_at(public, hosts, Anyone, Limits::default()).await;
    let _host = tokio::spawn(echo(key.clone(), tunnel));
    second.until("the host is back", |relay| relay.metrics().hosts.get() == 1).await;
    says_back(&mut second.client(&key.pubkey()).await.unwrap(), b"hello").await.unwrap();
}

#[tokio::test]
async fn a_stopping_relay_lets_what_passes_finish() {
    let relay = relay(Limits::default()).await;
    let key = Arc::new(Keypair::new());
    let _host = relay.host(&key).await;
    let mut stream = relay.client(&key.pubkey()).await.unwrap();
    relay.stop.send(()).unwrap();
    // It takes nobody new once the listener is gone.
    let closed = async { while TcpStream::connect(relay.public).await.is_ok() {} };
    timeout(PATIENCE, closed).await.expect("the port closes");
    says_back(&mut stream, b"the last words").await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    timeout(PATIENCE, relay.task).await.expect("and then it ends").unwrap();
}

#[tokio::test]
async fn a_relay_that_asks_for_too_much_or_talks_nonsense_harms_no_host() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: RelayAddress = listener.local_addr().unwrap().to_string().parse().unwrap();
    let key = Arc::new(Keypair::new());
    let mut tunnel = Tunnel::open(&identity(&key), &[address]);
    let mut links = tunnel.links();
    let (mut evil, _) = listener.accept().await.unwrap();
    evil.write_all(&[5; 16]).await.unwrap();
    let mut hello = vec![0; 9];
    evil.read_exact(&mut hello).await.unwrap();
    let length = evil.read_u16_le().await.unwrap();
    evil.read_exact(&mut vec![0; usize::from(length)]).await.unwrap();
    evil.write_u8(0).await.unwrap();
    timeout(PATIENCE, links.changed()).await.unwrap();
    assert_eq!(links.trouble(), None);
    // A thousand opens at once; nobody takes what comes, so at most 64 wait and the rest is dropped.
    for _ in 0..1_000 {
        evil.write_all(&[1; 33]).await.unwrap();
    }
    evil.write_u8(77).await.unwrap();
    timeout(PATIENCE, links.changed()).await.unwrap();
    assert!(links.trouble().unwrap().contains("does not speak this protocol"), "{:?}", links.trouble());
    let mut taken = 0;
    while tunnel.accept().now_or_never().is_some() {
        taken += 1;
    }
    assert!(taken <= 64, "{taken}");
}
