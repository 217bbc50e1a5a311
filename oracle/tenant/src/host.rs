//! Questions to the host: signed by the wallet, or with the session's token.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use datagalax_protocol::{
    Context, Digest, Envelope, Expected, Payload,
    envelope::MAX_MESSAGE,
    lease::{Status, TOKEN_PREFIX, Workload, WorkloadAnswer, WorkloadRequest, path},
};
use datagalax_service::tls;
use futures_util::future::BoxFuture;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, header};
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use tokio::sync::Mutex;
use url::Url;

use crate::{
    TenantError,
    error::{accepted, bounded},
    session::Session,
};

/// Longest time for a connection and its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for a question and its answer, and for the begin of a stream.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// Signs for the user.
pub type Wallet = dyn Signer + Send + Sync;

/// Says what messages are about: the cluster, the program, the container, and the epoch that the chain is in now.
pub trait Contexts: Send + Sync + 'static {
    /// Asked anew for each message.
    ///
    /// # Errors
    /// The chain does not answer; for people.
    fn context(&self) -> BoxFuture<'_, Result<Context, String>>;
}

/// A lease, from its user's side. Clones share the session.
#[derive(Clone)]
pub struct Tenant(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// `https://host:port`
    endpoint: String,
    operator: Pubkey,
    contexts: Arc<dyn Contexts>,
    wallet: Arc<Wallet>,
    pub(crate) lease: Pubkey,
    http: Client,
    pub(crate) session: Mutex<Option<Session>>,
}

impl Tenant {
    /// A lease of the container whose agent is at `endpoint` as it is registered on chain (always reached over TLS, at the same
    /// host and port), known by its operator key. `wallet` opened the lease. Nothing is asked yet.
    ///
    /// # Errors
    /// The endpoint is none.
    pub fn connect(
        endpoint: &str,
        operator: Pubkey,
        contexts: Arc<dyn Contexts>,
        wallet: Arc<Wallet>,
        lease: Pubkey,
    ) -> Result<Self, TenantError> {
        let endpoint = secure(endpoint)?;
        let http = tls::http(&operator)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(ASK_TIMEOUT)
            .build()
            .map_err(|error| TenantError::Here(error.to_string()))?;
        let session = Mutex::default();
        Ok(Self(Arc::new(Inner { endpoint, operator, contexts, wallet, lease, http, session })))
    }

    /// The lease's account.
    pub fn lease(&self) -> Pubkey {
        self.0.lease
    }

    /// Hands over the workload whose hash is in the lease. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`TenantError::NotYet`] when the host has not seen the lease yet; [`TenantError::Refused`] when it does not take this
    /// workload: it rejects the lease then, and everything comes back.
    pub async fn hand_over(&self, workload: &Workload) -> Result<(), TenantError> {
        let question = WorkloadRequest { lease: self.0.lease.to_bytes(), workload: workload.clone() };
        let (asked, answer): (_, WorkloadAnswer) = self.exchange(path::WORKLOAD, &question).await?;
        answers(answer.request, asked)
    }

    /// Where the workload is.
    ///
    /// # Errors
    /// As [`TenantError`] says.
    pub async fn status(&self) -> Result<Status, TenantError> {
        let url = self.url(&path::status(&self.0.lease));
        let answer = self.authorised(|http| http.get(&url).timeout(ASK_TIMEOUT)).await?;
        let body = bounded(answer, 4 * MAX_MESSAGE).await?;
        serde_json::from_slice(&body).map_err(|error| TenantError::Garbled(error.to_string()))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0.endpoint)
    }

    /// Asks with the session's token. One that the host does not know any more, as after its restart, is renewed once.
    pub(crate) async fn authorised(&self, make: impl Fn(&Client) -> RequestBuilder) -> Result<Response, TenantError> {
        let mut renewed = false;
        loop {
            let token = self.token().await?;
            let authorization = format!("{TOKEN_PREFIX}{}", hex::encode(token));
            let answer = make(&self.0.http).header(header::AUTHORIZATION, authorization).send().await?;
            if answer.status() != StatusCode::UNAUTHORIZED || renewed {
                return accepted(answer).await;
            }
            renewed = true;
            self.forget(token).await;
        }
    }

    /// A question about one of the workload's files.
    pub(crate) async fn file(&self, method: Method, file: &str) -> Result<RequestBuilder, TenantError> {
        let authorization = format!("{TOKEN_PREFIX}{}", hex::encode(self.token().await?));
        let request = self.0.http.request(method, self.url(&path::files(&self.0.lease)));
        Ok(request.query(&[("path", file)]).header(header::AUTHORIZATION, authorization))
    }

    /// Asks a signed question. Returns its digest and the answer, which is the operator's.
    pub(crate) async fn exchange<Q: Payload, A: Payload>(
        &self,
        path: &str,
        question: &Q,
    ) -> Result<(Digest, A), TenantError> {
        let here = |error: String| TenantError::Here(error);
        let context = self.0.contexts.context().await.map_err(here)?;
        let wallet: &dyn Signer = self.0.wallet.as_ref();
        let request = Envelope::sign(&context, question, rand::random(), now(), wallet);
        let request = request.map_err(|error| TenantError::Here(error.to_string()))?;
        let asking = self.0.http.post(self.url(path)).timeout(ASK_TIMEOUT).body(request.encode());
        let body = bounded(accepted(asking.send().await?).await?, MAX_MESSAGE).await?;
        let signers = [self.0.operator];
        let expected = Expected { context, nonce: Some(request.nonce), signers: &signers, now: now() };
        let answer = Envelope::decode(&body).map_err(|error| TenantError::Garbled(error.to_string()))?;
        let answer = answer.verify(&expected).map_err(|error| TenantError::Garbled(error.to_string()))?;
        Ok((request.digest(), answer))
    }
}

/// Whether the answer is to this question.
pub(crate) fn answers(answered: Digest, asked: Digest) -> Result<(), TenantError> {
    if answered == asked { Ok(()) } else { Err(TenantError::Garbled("it answers another question".into())) }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The registered endpoint's host and port over TLS.
fn secure(endpoint: &str) -> Result<String, TenantError> {
    let none = |reason: String| TenantError::Here(format!("{endpoint:?} is no endpoint of a host: {reason}"));
    let url = Url::parse(endpoint).map_err(|error| none(error.to_string()))?;
    let place = url.host_str().zip(url.port_or_known_default());
    match place {
        Some((host, port)) if matches!(url.scheme(), "http" | "https") => Ok(format!("https://{host}:{port}")),
        _ => Err(none("expected http://host:port or https://host:port".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_registered_is_reached_over_tls_at_its_port() {
        assert_eq!(secure("http://203.0.113.7:7070").unwrap(), "https://203.0.113.7:7070");
        assert_eq!(secure("http://a.example/").unwrap(), "https://a.example:80");
        assert_eq!(secure("https://b32.relay.example").unwrap(), "https://b32.relay.example:443");
        assert_eq!(secure("http://[2001:db8::1]:7070").unwrap(), "https://[2001:db8::1]:7070");
        for none in ["", "a.example:7070", "ftp://a.example", "mailto:a@b"] {
            assert!(matches!(secure(none), Err(TenantError::Here(_))), "{none}");
        }
    }
}
