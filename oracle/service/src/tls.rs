//! TLS pinned to an operator key: whoever holds the key that is registered on chain is the host, whatever it calls itself.
//!
//! The server shows a self-signed certificate of its Solana ed25519 key, made anew at each start; the client insists that the
//! certificate's key is the one it knows from the chain, and TLS 1.3 that the server holds it (it signs the handshake with it).
//! Names, dates and authorities mean nothing here, and TLS 1.2 is not spoken. Nobody on the way, a relay for example, can
//! read, change or repeat anything; it can only cut.
//!
//! The operator key signs Solana transactions and Datagalax messages, too. None of the three can be taken for another: a
//! handshake's signed text begins with 64 spaces, which is no transaction (32 signers of whom 32 only read, so nobody pays);
//! a certificate's with `30 81 89` (48 signers of whom 129 only read); a message's with 0xff.
//!
//! ```no_run
//! # async fn example(operator: solana_pubkey::Pubkey) -> reqwest::Result<()> {
//! let http = datagalax_service::tls::http(&operator).build()?;
//! let answer = http.get("https://203.0.113.7:7070/ready").send().await?;
//! # Ok(()) }
//! ```

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, LazyLock},
};

use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::{NoServerSessionStorage, ParsedCertificate},
    version::TLS13,
};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;

/// What is spoken inside.
const ALPN: &[u8] = b"http/1.1";
/// First second of a certificate, ASN.1 UTCTime. Nobody checks it.
const NOT_BEFORE: &[u8; 13] = b"700101000000Z";
/// Last second of a certificate: the date that RFC 5280 (4.1.2.5) gives to what never expires.
const NOT_AFTER: &[u8; 15] = b"99991231235959Z";
/// DER of the algorithm ed25519 (RFC 8410).
const ED25519: [u8; 7] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));

/// The server's side: TLS 1.3 with a certificate of this key, nothing kept between connections.
pub fn server(key: &Keypair) -> Arc<ServerConfig> {
    serve_as(certificate(key, NOT_AFTER), key)
}

/// The client's side: TLS 1.3 with whoever holds the operator's key and nobody else.
pub fn client(operator: &Pubkey) -> ClientConfig {
    let pin = Pin { key_info: key_info(operator) };
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("ring speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pin))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Each connection proves the key anew, and a client per host costs no table of sessions.
    config.resumption = Resumption::disabled();
    config
}

/// An HTTP client for one operator: only HTTPS, only with that key, no redirects, no proxy, no kept connections. A host name
/// under `localhost` is the loopback address, as RFC 6761 says and not every resolver knows. Set time-outs before `build`.
pub fn http(operator: &Pubkey) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .use_preconfigured_tls(client(operator))
        .https_only(true)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(Localhost))
}

fn serve_as(certificate: CertificateDer<'static>, key: &Keypair) -> Arc<ServerConfig> {
    let prefix = [0x30, 0x2e, 0x02, 0x01, 0x00].as_slice();
    let private = [prefix, &ED25519, &[0x04, 0x22, 0x04, 0x20], key.secret_bytes()].concat();
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("ring speaks TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(private).into())
        .expect("a keypair's halves belong together, and the certificate is made of it");
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// DER of an ed25519 public key as certificates hold it (SubjectPublicKeyInfo): 44 bytes, one encoding only.
fn key_info(key: &Pubkey) -> Vec<u8> {
    [&[0x30, 0x2a], ED25519.as_slice(), &[0x03, 0x21, 0x00], key.as_array()].concat()
}

/// A self-signed X.509 certificate, version 3, without extensions. Every length in it is fixed.
fn certificate(key: &Keypair, not_after: &[u8; 15]) -> CertificateDer<'static> {
    // One common name, as issuer and as subject.
    let name =
        [&[0x30, 0x14, 0x31, 0x12, 0x30, 0x10, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x09], b"datagalax".as_slice()].concat();
    let signed = [
        // A sequence of 137 bytes: version 3, serial number 1, the algorithm.
        [0x30, 0x81, 0x89, 0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 0x01, 0x01].as_slice(),
        &ED25519,
        &name,
        // From a UTCTime to a GeneralizedTime.
        &[0x30, 0x20, 0x17, 0x0d],
        NOT_BEFORE,
        &[0x18, 0x0f],
        not_after,
        &name,
        &key_info(&key.pubkey()),
    ]
    .concat();
    let signature = key.sign_message(&signed);
    // A sequence of 214 bytes: what is signed, the algorithm, the signature as a bit string.
    [&[0x30, 0x81, 0xd6], signed.as_slice(), &ED25519, &[0x03, 0x41, 0x00], signature.as_ref()].concat().into()
}

/// Accepts one key.
#[derive(Debug)]
struct Pin {
    key_info: Vec<u8>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key_info = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        if *key_info != *self.key_info {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The system's resolver, but for names under `localhost`.
struct Localhost;

impl Resolve for Localhost {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().trim_end_matches('.').to_ascii_lowercase();
            if host == "localhost" || host.ends_with(".localhost") {
                let loopback: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
                return Ok(Box::new(loopback.into_iter()) as Addrs);
            }
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
