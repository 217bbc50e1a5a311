use std::{error::Error as _, io, net::SocketAddr, time::Duration};

use rustls::version::TLS12;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// Answers every TLS connection with one HTTP response; what went wrong in a handshake is nobody's.
async fn serve(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(config.clone());
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut head = [0; 1024];
                assert_ne!(stream.read(&mut head).await?, 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n").await?;
                stream.shutdown().await
            });
        }
    });
    address
}

/// Asks over HTTPS, pinned to `operator`.
async fn ask(address: SocketAddr, operator: &Pubkey) -> Result<String, String> {
    let http = http(operator).timeout(Duration::from_secs(10)).build().unwrap();
    let answer = async { http.get(format!("https://{address}/")).send().await?.text().await };
    answer.await.map_err(|error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        cause.to_string()
    })
}

async fn handshake(config: ClientConfig, address: SocketAddr) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("any.name.example").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
}

#[tokio::test]
async fn the_right_key_is_accepted_under_any_name() {
    let key = Keypair::new();
    let address = serve(server(&key)).await;
    assert_eq!(ask(address, &key.pubkey()).await.unwrap(), "hello\n");
    handshake(client(&key.pubkey()), address).await.unwrap();
    // And under `localhost`, which this machine's resolver need not know.
    let url = format!("https://anything.localhost:{}/", address.port());
    let answer = http(&key.pubkey()).build().unwrap().get(url).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "hello\n");
}

#[tokio::test]
async fn another_key_is_refused() {
    let address = serve(server(&Keypair::new())).await;
    let refused = ask(address, &Keypair::new().pubkey()).await.unwrap_err();
    assert!(refused.contains("ApplicationVerificationFailure"), "{refused}");
}

#[tokio::test]
async fn the_right_certificate_without_its_key_is_refused() {
    // A thief shows the operator's certificate, which is public, but holds another key: the handshake's signature tells.
    let (operator, thief) = (Keypair::new(), Keypair::new());
    let pkcs8 = [&[0x30, 0x2e, 2, 1, 0], ED25519.as_slice(), &[4, 0x22, 4, 0x20], thief.secret_bytes()].concat();
    let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8)).unwrap();
    let shown = rustls::sign::CertifiedKey::new(vec![certificate(&operator, NOT_AFTER)], signer);
    let config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    let refused = ask(serve(Arc::new(config)).await, &operator.pubkey()).await.unwrap_err();
    assert!(refused.contains("BadSignature"), "{refused}");
}

#[tokio::test]
async fn another_algorithm_is_refused() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(["agent.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let address = serve(Arc::new(config)).await;
    ask(address, &Keypair::new().pubkey()).await.unwrap_err();
    // Also when the server could sign as the client likes: the certificate's key decides.
    let refused = Pin { key_info: key_info(&Keypair::new().pubkey()) }.verify_server_cert(
        certificate.der(),
        &[],
        &ServerName::try_from("agent.example").unwrap(),
        &[],
        UnixTime::now(),
    );
    assert_eq!(refused.unwrap_err(), CertificateError::ApplicationVerificationFailure.into());
}

#[tokio::test]
async fn dates_mean_nothing() {
    let key = Keypair::new();
    let address = serve(serve_as(certificate(&key, b"19800101000000Z"), &key)).await;
    assert_eq!(ask(address, &key.pubkey()).await.unwrap(), "hello\n");
}

#[tokio::test]
async fn tls_1_2_is_refused_by_both_sides() {
    let key = Keypair::new();
    let old_client = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pin { key_info: key_info(&key.pubkey()) }))
        .with_no_client_auth();
    let refused = handshake(old_client, serve(server(&key)).await).await.unwrap_err();
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");

    let config = server(&key);
    let old_server = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(config.cert_resolver.clone());
    let refused = ask(serve(Arc::new(old_server)).await, &key.pubkey()).await.unwrap_err();
    assert!(refused.contains("ProtocolVersion") || refused.contains("version"), "{refused}");
}

#[tokio::test]
async fn plain_http_gets_nowhere_in_either_direction() {
    let key = Keypair::new();
    let address = serve(server(&key)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: agent\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert or a cut, but never the answer.
    timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap().ok();
    assert!(!answer.windows(5).any(|bytes| bytes == b"hello"), "{answer:?}");

    let plain = http(&key.pubkey()).build().unwrap().get(format!("http://{address}/")).send().await.unwrap_err();
    assert!(plain.source().unwrap().to_string().contains("URL scheme is not allowed"), "{:?}", plain.source());
}

#[tokio::test]
async fn who_passes_bytes_on_is_harmless_and_who_ends_tls_is_refused() {
    let key = Keypair::new();
    let host = serve(server(&key)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let between = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(host).await?;
                copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    assert_eq!(ask(between, &key.pubkey()).await.unwrap(), "hello\n");
    // One that reads what passes has to show a certificate, and it has only its own.
    let reader = serve(server(&Keypair::new())).await;
    ask(reader, &key.pubkey()).await.unwrap_err();
}

#[tokio::test]
async fn a_reader_of_certificates_agrees_with_what_is_written() {
    // Parsed by the same code as a client's, signed by its own key, and never one byte off the fixed lengths.
    for seed in 0..32 {
        let key = Keypair::new_from_array([seed; 32]);
        let der = certificate(&key, NOT_AFTER);
        assert_eq!(der.len(), 217);
        let parsed = ParsedCertificate::try_from(&der).unwrap();
        assert_eq!(*parsed.subject_public_key_info(), *key_info(&key.pubkey()));
        let signature = solana_signature::Signature::try_from(&der[der.len() - 64..]).unwrap();
        assert!(signature.verify(key.pubkey().as_array(), &der[3..143]));
    }
}
