//! The ways in: plain HTTP and TLS on one port, and connections that a relay passes on.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::fake::{CONTAINER, Host, Setup, ask as asked, context, ready_host, sign, until};
use datagalax_checker::{
    chain::Target,
    probe::{self, Prober},
    reach::Policy,
};
use datagalax_protocol::{Envelope, LivenessRequest, evidence::Outcome, path};
use datagalax_relay::{Relay, admit::Anyone, limits::Limits, name, relay};
use datagalax_service::{
    Health, Shutdown,
    metrics::{Metrics as _, Registry},
    tls,
};
use reqwest::StatusCode;
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Between {
    relay: Arc<Relay>,
    public: SocketAddr,
    hosts: SocketAddr,
    shutdown: Shutdown,
}

/// A relay that hosts know as 127.0.0.1.
async fn between() -> Between {
    let [public, hosts] = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let [public_at, hosts_at] = [&public, &hosts].map(|listener| listener.local_addr().unwrap());
    let metrics = relay::Metrics::register(&mut Registry::default());
    let relay = Relay::new(&["127.0.0.1".into()], Arc::new(Anyone), Limits::default(), metrics, Health::default());
    let shutdown = Shutdown::default();
    let (running, stop) = (relay.clone(), shutdown.clone());
    tokio::spawn(async move { running.run(public, hosts, stop.requested(), Duration::from_secs(1)).await });
    Between { relay, public: public_at, hosts: hosts_at, shutdown }
}

/// A host behind that relay, whose endpoint is the relay's. It is ready only if it reaches itself that way.
async fn host_behind(between: &Between) -> (Host, String) {
    let key = Keypair::new();
    let endpoint = name::endpoint(&key.pubkey(), "localhost", between.public.port());
    let registered = endpoint.clone();
    let setup = Setup {
        key,
        relays: vec![between.hosts.to_string().parse().unwrap()],
        registration: Box::new(move |registration| registration.as_mut().unwrap().offer.endpoint = registered),
        ..Setup::default()
    };
    (ready_host(setup).await, endpoint)
}

/// Asks for signs of life over HTTPS; the answer's signer.
async fn ask(host: &Host, endpoint: &str, nonce: u8) -> reqwest::Result<(StatusCode, Vec<u8>)> {
    let http = tls::http(&host.operator.pubkey()).timeout(PATIENCE).build()?;
    let request = sign(&LivenessRequest, nonce, &host.checker);
    let answer = http.post(format!("{endpoint}{}", path::LIVENESS)).body(request.encode()).send().await?;
    Ok((answer.status(), answer.bytes().await?.to_vec()))
}

#[tokio::test]
async fn one_port_speaks_http_and_https_with_the_operators_key() {
    let host = ready_host(Setup::default()).await;
    assert_eq!(host.get("/live").await.0, StatusCode::OK);
    let endpoint = format!("https://{}", host.address);
    let (status, answer) = ask(&host, &endpoint, 1).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(Envelope::decode(&answer).unwrap().signer(), host.operator.pubkey());
    // Another's key is not this host's.
    let other = tls::http(&Keypair::new().pubkey()).timeout(PATIENCE).build().unwrap();
    other.get(format!("{endpoint}/live")).send().await.unwrap_err();
    // What begins as TLS and is none is closed, with an alert or without.
    let mut garbage = TcpStream::connect(host.address).await.unwrap();
    garbage.write_all(&[22, 3, 1, 0, 5, 1, 2, 3, 4, 5]).await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, garbage.read_to_end(&mut rest)).await.expect("it is closed").ok();
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    // A connection that says nothing, and one in the middle of its handshake, hold nobody's end up.
    let _silent = TcpStream::connect(host.address).await.unwrap();
    let mut begun = TcpStream::connect(host.address).await.unwrap();
    begun.write_all(&[22, 3, 1]).await.unwrap();
    assert_eq!(host.get("/live").await.0, StatusCode::OK, "those before it were taken in");
    timeout(PATIENCE, host.stop()).await.expect("it ends within the grace period").unwrap();
}

#[tokio::test]
async fn a_host_behind_a_relay_is_asked_through_it() {
    let between = between().await;
    let (host, endpoint) = host_behind(&between).await;
    for nonce in 1..4 {
        let (status, answer) = ask(&host, &endpoint, nonce).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        let envelope = Envelope::decode(&answer).unwrap();
        assert!(envelope.signer() == host.operator.pubkey() && envelope.signature_holds());
    }
    // The port of its own is still there, for who can reach it.
    assert_eq!(host.get("/live").await.0, StatusCode::OK);
    until("the self-check to come this way, too", || between.relay.metrics().passed.get() >= 4).await;
    host.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_relay_passes_on_is_tls_or_nothing() {
    // A relay of bad faith asks in the clear on a connection that was dialled back to it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let evil = Setup { relays: vec![listener.local_addr().unwrap().to_string().parse().unwrap()], ..Setup::default() };
    let host = crate::fake::host(evil).await;
    let (mut control, _) = listener.accept().await.unwrap();
    control.read_exact(&mut [0; 9]).await.unwrap();
    control.write_all(&[7; 16]).await.unwrap();
    let length = control.read_u16_le().await.unwrap();
    control.read_exact(&mut vec![0; usize::from(length)]).await.unwrap();
    control.write_all(&[0]).await.unwrap();
    control.write_all(&[1; 33]).await.unwrap();
    let (mut data, _) = listener.accept().await.unwrap();
    data.read_exact(&mut [0; 25]).await.unwrap();
    data.write_all(b"GET /live HTTP/1.1\r\nhost: agent\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, data.read_to_end(&mut rest)).await.expect("it is closed").ok();
    assert!(!rest.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&rest));
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_host_says_that_its_relay_is_gone() {
    let between = between().await;
    let (host, endpoint) = host_behind(&between).await;
    between.shutdown.request();
    let reason = || host.health.topics().get("relay").cloned();
    until("the host to notice", || reason().is_some()).await;
    assert!(reason().unwrap().contains(&between.hosts.to_string()), "{:?}", reason());
    ask(&host, &endpoint, 1).await.unwrap_err();
    host.stop().await.unwrap();
}

#[tokio::test]
async fn the_checkers_prober_asks_a_host_behind_a_relay_by_its_key() {
    let between = between().await;
    let (host, endpoint) = host_behind(&between).await;
    let limits = probe::Limits { policy: Policy::Private, ..probe::Limits::default() };
    let prober = {
        let metrics = datagalax_checker::metrics::Metrics::register(&mut Registry::default());
        Prober::new(Arc::new(host.checker.insecure_clone()), limits, metrics).unwrap()
    };
    let target = Target {
        row: 0,
        container: CONTAINER,
        operator: host.operator.pubkey(),
        // Only the relay is there.
        endpoint,
        fingerprint: host.fingerprint,
        gpus: 1,
        minimum_memory: 0,
        ask: Some(asked()),
        claimed: None,
    };
    let (exchange, metrics) = prober.liveness(&context(), &target).await;
    assert_eq!(metrics.unwrap().fingerprint, host.fingerprint);
    assert!(matches!(exchange.unwrap().outcome, Outcome::Answered(answer) if answer.signer() == host.operator.pubkey()));
    // Registered with another operator key, the host is not the one that is meant, and gets no question.
    let meant = Keypair::new().pubkey();
    let lured = Target { operator: meant, ..target };
    let (_, refused) = prober.liveness(&context(), &lured).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("ApplicationVerificationFailure"), "{refused}");
    host.stop().await.unwrap();
}
