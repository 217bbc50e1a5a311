//! A node over JSON-RPC, with its WebSocket for confirmations.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use serde::Deserialize;
use serde_json::json;
use solana_account::Account;
use solana_account_decoder_client_types::{UiAccount, UiAccountEncoding, UiDataSliceConfig};
use solana_client::{
    client_error::{ClientError, ClientErrorKind},
    nonblocking::{pubsub_client::PubsubClient, rpc_client::RpcClient},
    rpc_config::{
        RpcAccountInfoConfig, RpcContextConfig, RpcProgramAccountsConfig, RpcSendTransactionConfig,
        RpcSignatureSubscribeConfig, RpcSimulateTransactionConfig,
    },
    rpc_custom_error::{
        JSON_RPC_SERVER_ERROR_BLOCK_CLEANED_UP, JSON_RPC_SERVER_ERROR_BLOCK_NOT_AVAILABLE,
        JSON_RPC_SERVER_ERROR_BLOCK_STATUS_NOT_AVAILABLE_YET, JSON_RPC_SERVER_ERROR_LONG_TERM_STORAGE_SLOT_SKIPPED,
        JSON_RPC_SERVER_ERROR_MIN_CONTEXT_SLOT_NOT_REACHED, JSON_RPC_SERVER_ERROR_SLOT_SKIPPED,
    },
    rpc_filter::{Memcmp, RpcFilterType},
    rpc_request::{RpcError as WireError, RpcRequest, RpcResponseErrorData},
    rpc_response::{Response, RpcBlockhash},
};
use solana_commitment_config::CommitmentConfig;
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction::Transaction;
use tokio::{sync::Mutex, time::timeout};

use super::{Blockhash, Fate, MAX_ACCOUNTS, Node, REQUEST_TIMEOUT, Rpc, RpcError, Simulation, Snapshot, Status, fate};
use crate::Address;

/// How long connecting to the WebSocket may take before polling does alone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Most accounts that one question for recent fees may name.
const MAX_FEE_ACCOUNTS: usize = 128;
/// Codes by which a node says that it has no block in a slot.
const NO_BLOCK: [i64; 5] = [
    JSON_RPC_SERVER_ERROR_BLOCK_CLEANED_UP,
    JSON_RPC_SERVER_ERROR_BLOCK_NOT_AVAILABLE,
    JSON_RPC_SERVER_ERROR_SLOT_SKIPPED,
    JSON_RPC_SERVER_ERROR_LONG_TERM_STORAGE_SLOT_SKIPPED,
    JSON_RPC_SERVER_ERROR_BLOCK_STATUS_NOT_AVAILABLE_YET,
];

/// [`Rpc`] over HTTP and, where a WebSocket URL is given, notifications. Everything at commitment "confirmed".
pub struct HttpRpc {
    /// For messages.
    url: String,
    /// What of the URL may be a secret, and is cut out of messages.
    secret: Option<String>,
    /// The newest slot whose state it showed.
    shown: AtomicU64,
    /// The newest slot of which accounts were read here: behind one address there can be several nodes.
    read_at: AtomicU64,
    /// Answers must not be older than this slot.
    required: AtomicU64,
    client: RpcClient,
    ws: Option<String>,
    /// Shared by all who wait for a confirmation; dropped when it breaks, opened by the next who needs it.
    socket: Mutex<Option<Arc<PubsubClient>>>,
}

impl HttpRpc {
    /// A node at `url` (`http://host:port`), with its WebSocket at `ws`. Connects when it is first used.
    pub fn new(url: &str, ws: Option<&str>) -> Self {
        Self {
            url: Self::shown_url(url),
            secret: path_of(url).filter(|path| path.len() > 1).map(str::to_owned),
            shown: AtomicU64::new(0),
            read_at: AtomicU64::new(0),
            required: AtomicU64::new(0),
            client: RpcClient::new_with_timeout_and_commitment(
                url.to_owned(),
                REQUEST_TIMEOUT,
                CommitmentConfig::confirmed(),
            ),
            ws: ws.map(str::to_owned),
            socket: Mutex::new(None),
        }
    }

    /// A URL as it may be shown and logged: without user, password, path and query, where providers put their keys.
    pub fn shown_url(url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let path = path_of(url).filter(|path| path.len() > 1).map_or("", |_| "/...");
        if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
    }

    /// The WebSocket URL that belongs to an RPC URL by convention: `ws` for `http`, and the port after it where one is given.
    pub fn default_ws(url: &str) -> String {
        let (scheme, rest) = match url.split_once("://") {
            Some(("https", rest)) => ("wss", rest),
            Some((_, rest)) => ("ws", rest),
            None => ("ws", url),
        };
        let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(h, p)| (h, format!("/{p}")));
        let next = host.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?.checked_add(1)?)));
        match next {
            Some((name, port)) => format!("{scheme}://{name}:{port}{path}"),
            None => format!("{scheme}://{host}{path}"),
        }
    }

    /// Text of the transport's, which may quote the URL.
    fn told(&self, text: String) -> String {
        match &self.secret {
            Some(secret) => text.replace(secret.as_str(), "/..."),
            None => text,
        }
    }

    fn error(&self, error: ClientError) -> RpcError {
        let url = self.url.clone();
        match *error.kind {
            ClientErrorKind::RpcError(WireError::RpcResponseError {
                code: JSON_RPC_SERVER_ERROR_MIN_CONTEXT_SLOT_NOT_REACHED,
                ..
            }) => RpcError::Behind { url, needed: self.required.load(Relaxed) },
            ClientErrorKind::RpcError(WireError::RpcResponseError { code, message, data }) => match data {
                RpcResponseErrorData::SendTransactionPreflightFailure(result) => match result.err {
                    Some(error) => RpcError::Preflight { error: error.into(), logs: result.logs.unwrap_or_default() },
                    None => RpcError::Refused { url, code, message },
                },
                RpcResponseErrorData::Empty | RpcResponseErrorData::NodeUnhealthy { .. } => {
                    RpcError::Refused { url, code, message }
                }
            },
            ClientErrorKind::TransactionError(error) => RpcError::Preflight { error, logs: Vec::new() },
            ClientErrorKind::Io(e) => RpcError::Down { url, reason: self.told(e.to_string()) },
            ClientErrorKind::Reqwest(e) if e.is_decode() => RpcError::Unreadable { url, reason: self.told(e.to_string()) },
            // The innermost cause says what happened ("connection refused"); the outer ones repeat the URL.
            ClientErrorKind::Reqwest(e) => RpcError::Down { url, reason: self.told(innermost(&e)) },
            ClientErrorKind::Middleware(e) => RpcError::Down { url, reason: self.told(innermost(e.as_ref())) },
            other => RpcError::Unreadable { url, reason: self.told(other.to_string()) },
        }
    }

    /// Bytes are bytes: a node that answers in another encoding than the one asked for is refused, not trusted.
    fn account(&self, address: &Address, account: &UiAccount) -> Result<Account, RpcError> {
        account.decode().ok_or_else(|| RpcError::Unreadable {
            url: self.url.clone(),
            reason: format!("the data of {address} is not in the encoding asked for"),
        })
    }

    fn context(&self) -> RpcContextConfig {
        RpcContextConfig { commitment: Some(CommitmentConfig::confirmed()), min_context_slot: self.least_slot() }
    }

    /// The slot that an answer must not be older than, as the wire has it.
    fn least_slot(&self) -> Option<u64> {
        Some(self.required.load(Relaxed)).filter(|slot| *slot > 0)
    }

    /// Refuses state older than what was shown when the request began; newer state is remembered.
    fn not_older(&self, slot: u64, than: u64) -> Result<(), RpcError> {
        if slot < than {
            return Err(RpcError::Behind { url: self.url.clone(), needed: than });
        }
        self.shown.fetch_max(slot, Relaxed);
        Ok(())
    }

    async fn read(&self, addresses: &[Address], config: RpcAccountInfoConfig) -> Result<Vec<Option<Account>>, RpcError> {
        let mut accounts = Vec::with_capacity(addresses.len());
        for part in addresses.chunks(MAX_ACCOUNTS) {
            accounts.extend(self.read_at_once(part, config.clone()).await?.1);
        }
        Ok(accounts)
    }

    async fn read_at_once(&self, part: &[Address], config: RpcAccountInfoConfig) -> Result<Snapshot, RpcError> {
        let oldest = self.read_at.load(Relaxed).max(self.required.load(Relaxed));
        let config = RpcAccountInfoConfig { min_context_slot: self.least_slot(), ..config };
        let answer = self.client.get_multiple_ui_accounts_with_config(part, config).await.map_err(|e| self.error(e))?;
        let slot = answer.context.slot;
        self.not_older(slot, oldest)?;
        self.read_at.fetch_max(slot, Relaxed);
        if answer.value.len() != part.len() {
            let reason = format!("{} accounts for {} addresses", answer.value.len(), part.len());
            return Err(RpcError::Unreadable { url: self.url.clone(), reason });
        }
        let read = part.iter().zip(answer.value);
        let accounts = read.map(|(address, account)| account.map(|a| self.account(address, &a)).transpose());
        Ok((slot, accounts.collect::<Result<_, _>>()?))
    }

    /// The statuses, and the slot that they are of.
    async fn statuses_at(&self, signatures: &[Signature]) -> Result<(u64, Vec<Option<Status>>), RpcError> {
        let answer = self.client.get_signature_statuses_with_history(signatures).await.map_err(|e| self.error(e))?;
        if answer.value.len() != signatures.len() {
            let reason = format!("{} statuses for {} signatures", answer.value.len(), signatures.len());
            return Err(RpcError::Unreadable { url: self.url.clone(), reason });
        }
        let commitment = CommitmentConfig::confirmed();
        let statuses = answer.value.into_iter().map(|status| {
            status.map(|status| Status {
                slot: status.slot,
                confirmed: status.satisfies_commitment(commitment),
                outcome: status.err.map_or(Ok(()), Err),
            })
        });
        Ok((answer.context.slot, statuses.collect()))
    }

    async fn socket(&self, url: &str) -> Option<Arc<PubsubClient>> {
        let mut socket = self.socket.lock().await;
        if let Some(open) = &*socket {
            return Some(open.clone());
        }
        match timeout(CONNECT_TIMEOUT, PubsubClient::new(url)).await {
            Ok(Ok(open)) => Some(socket.insert(Arc::new(open)).clone()),
            Ok(Err(e)) => {
                tracing::warn!(url = Self::shown_url(url), error = %e, "no WebSocket: confirmations are polled");
                None
            }
            Err(_) => {
                tracing::warn!(url = Self::shown_url(url), "the WebSocket does not answer: confirmations are polled");
                None
            }
        }
    }

    async fn wait_confirmed(&self, signature: &Signature) -> Option<()> {
        let socket = self.socket(self.ws.as_deref()?).await?;
        let config = RpcSignatureSubscribeConfig {
            commitment: Some(CommitmentConfig::confirmed()),
            enable_received_notification: Some(false),
        };
        let notified = match socket.signature_subscribe(signature, Some(config)).await {
            // The node ends the subscription with its one notification, so there is nothing to unsubscribe.
            Ok((mut notifications, _)) => notifications.next().await.map(|_| ()),
            Err(e) => {
                tracing::warn!(error = %e, "the WebSocket broke: confirmations are polled until it is back");
                None
            }
        };
        if notified.is_none() {
            let mut shared = self.socket.lock().await;
            if shared.as_ref().is_some_and(|s| Arc::ptr_eq(s, &socket)) {
                *shared = None;
            }
        }
        notified
    }
}

fn account_config() -> RpcAccountInfoConfig {
    RpcAccountInfoConfig {
        encoding: Some(UiAccountEncoding::Base64),
        commitment: Some(CommitmentConfig::confirmed()),
        ..RpcAccountInfoConfig::default()
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl Rpc for HttpRpc {
    fn url(&self) -> &str {
        &self.url
    }

    fn sockets(&self) -> Vec<String> {
        self.ws.iter().cloned().collect()
    }

    fn accounts<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.read(addresses, account_config()).boxed()
    }

    fn accounts_at<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Snapshot, RpcError>> {
        self.read_at_once(addresses, account_config()).boxed()
    }

    fn heads<'a>(&'a self, addresses: &'a [Address], bytes: usize) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.slices(addresses, 0, bytes)
    }

    fn slices<'a>(
        &'a self,
        addresses: &'a [Address],
        from: usize,
        bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        let data_slice = Some(UiDataSliceConfig { offset: from, length: bytes });
        self.read(addresses, RpcAccountInfoConfig { data_slice, ..account_config() }).boxed()
    }

    fn program_accounts<'a>(
        &'a self,
        program: &'a Address,
        holding: &'a [(usize, Vec<u8>)],
    ) -> BoxFuture<'a, Result<Vec<(Address, Account)>, RpcError>> {
        async move {
            let filter = |(at, bytes): &(usize, Vec<u8>)| RpcFilterType::Memcmp(Memcmp::new_raw_bytes(*at, bytes.clone()));
            let config = RpcProgramAccountsConfig {
                filters: Some(holding.iter().map(filter).collect()),
                account_config: RpcAccountInfoConfig { min_context_slot: self.least_slot(), ..account_config() },
                ..RpcProgramAccountsConfig::default()
            };
            let read = self.client.get_program_ui_accounts_with_config(program, config).await.map_err(|e| self.error(e))?;
            read.into_iter().map(|(address, account)| self.account(&address, &account).map(|a| (address, a))).collect()
        }
        .boxed()
    }

    fn recent_fees<'a>(&'a self, writable: &'a [Address]) -> BoxFuture<'a, Result<Vec<u64>, RpcError>> {
        async move {
            let asked = &writable[..writable.len().min(MAX_FEE_ACCOUNTS)];
            let fees = self.client.get_recent_prioritization_fees(asked).await.map_err(|e| self.error(e))?;
            Ok(fees.into_iter().map(|fee| fee.prioritization_fee).collect())
        }
        .boxed()
    }

    fn latest_blockhash(&self) -> BoxFuture<'_, Result<Blockhash, RpcError>> {
        async move {
            let oldest = self.required.load(Relaxed);
            // Not by `get_latest_blockhash`, which says not of which slot the answer is.
            let answer: Response<RpcBlockhash> = self
                .client
                .send(RpcRequest::GetLatestBlockhash, json!([self.context()]))
                .await
                .map_err(|e| self.error(e))?;
            self.not_older(answer.context.slot, oldest)?;
            let RpcBlockhash { blockhash, last_valid_block_height } = answer.value;
            let hash = blockhash
                .parse()
                .map_err(|_| RpcError::Unreadable { url: self.url.clone(), reason: "the blockhash is none".to_owned() })?;
            Ok(Blockhash { hash, last_valid_block_height })
        }
        .boxed()
    }

    fn block_height(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        async move {
            self.client.get_block_height_with_commitment(CommitmentConfig::confirmed()).await.map_err(|e| self.error(e))
        }
        .boxed()
    }

    fn finalized_slot(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        async move { self.client.get_slot_with_commitment(CommitmentConfig::finalized()).await.map_err(|e| self.error(e)) }
            .boxed()
    }

    fn block_time(&self, slot: u64) -> BoxFuture<'_, Result<Option<i64>, RpcError>> {
        async move {
            // Not by `get_block_time`, which makes a known answer ("no such block") an error like any other.
            match self.client.send::<Option<i64>>(RpcRequest::GetBlockTime, json!([slot])).await.map_err(|e| self.error(e)) {
                Err(RpcError::Refused { code, .. }) if NO_BLOCK.contains(&code) => Ok(None),
                other => other,
            }
        }
        .boxed()
    }

    fn genesis_hash(&self) -> BoxFuture<'_, Result<Hash, RpcError>> {
        async move { self.client.get_genesis_hash().await.map_err(|e| self.error(e)) }.boxed()
    }

    fn rent(&self, bytes: usize) -> BoxFuture<'_, Result<u64, RpcError>> {
        async move { self.client.get_minimum_balance_for_rent_exemption(bytes).await.map_err(|e| self.error(e)) }.boxed()
    }

    fn simulate<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<Simulation, RpcError>> {
        async move {
            let config = RpcSimulateTransactionConfig {
                sig_verify: false,
                replace_recent_blockhash: true,
                commitment: Some(CommitmentConfig::confirmed()),
                min_context_slot: self.least_slot(),
                ..RpcSimulateTransactionConfig::default()
            };
            let result =
                self.client.simulate_transaction_with_config(transaction, config).await.map_err(|e| self.error(e))?.value;
            Ok(Simulation {
                outcome: result.err.map_or(Ok(()), |e| Err(e.into())),
                logs: result.logs.unwrap_or_default(),
                units: result.units_consumed.unwrap_or_default(),
            })
        }
        .boxed()
    }

    fn send<'a>(&'a self, transaction: &'a Transaction, preflight: bool) -> BoxFuture<'a, Result<(), RpcError>> {
        async move {
            let config = RpcSendTransactionConfig {
                skip_preflight: !preflight,
                preflight_commitment: Some(CommitmentConfig::confirmed().commitment),
                // The pipeline resends by itself until the blockhash expires.
                max_retries: Some(0),
                // It is the preflight that must not be run on older state than was read.
                min_context_slot: self.least_slot().filter(|_| preflight),
                ..RpcSendTransactionConfig::default()
            };
            self.client.send_transaction_with_config(transaction, config).await.map(|_| ()).map_err(|e| self.error(e))
        }
        .boxed()
    }

    fn statuses<'a>(&'a self, signatures: &'a [Signature]) -> BoxFuture<'a, Result<Vec<Option<Status>>, RpcError>> {
        async move { Ok(self.statuses_at(signatures).await?.1) }.boxed()
    }

    fn fate<'a>(&'a self, signature: &'a Signature, last_valid_block_height: u64) -> BoxFuture<'a, Result<Fate, RpcError>> {
        async move {
            // Slot and height in one answer, so that it is known how old the look may be: behind one address there can be
            // several nodes.
            let now: EpochInfo =
                self.client.send(RpcRequest::GetEpochInfo, json!([self.context()])).await.map_err(|e| self.error(e))?;
            let behind = |needed| RpcError::Behind { url: self.url.clone(), needed };
            let required = self.required.load(Relaxed);
            if now.absolute_slot < required {
                return Err(behind(required));
            }
            let (slot, statuses) = self.statuses_at(std::slice::from_ref(signature)).await?;
            if slot < now.absolute_slot {
                return Err(behind(now.absolute_slot));
            }
            // A node may count the block that it is at, which is not confirmed: one more, then the last valid one is.
            Ok(fate(statuses.into_iter().next().flatten(), now.block_height.saturating_sub(1), last_valid_block_height))
        }
        .boxed()
    }

    fn confirmed<'a>(&'a self, signature: &'a Signature) -> BoxFuture<'a, ()> {
        async move {
            if self.wait_confirmed(signature).await.is_none() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

impl Node for HttpRpc {
    fn probe(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        async move { self.client.get_slot_with_commitment(CommitmentConfig::confirmed()).await.map_err(|e| self.error(e)) }
            .boxed()
    }

    fn shown(&self) -> u64 {
        self.shown.load(Relaxed)
    }

    fn require(&self, slot: u64) {
        self.required.fetch_max(slot, Relaxed);
    }
}

/// What is of interest of `getEpochInfo`: slot and height at one moment.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EpochInfo {
    absolute_slot: u64,
    block_height: u64,
}

/// Path and query of a URL, with the slash.
fn path_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find(['/', '?', '#']).map(|at| &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_websocket_follows_the_rpc_url() {
        for (rpc, ws) in [
            ("http://127.0.0.1:8899", "ws://127.0.0.1:8900"),
            ("https://api.example.org", "wss://api.example.org"),
            ("https://api.example.org/key", "wss://api.example.org/key"),
            ("http://localhost:80/x", "ws://localhost:81/x"),
            ("http://localhost:65535", "ws://localhost:65535"),
        ] {
            assert_eq!(HttpRpc::default_ws(rpc), ws);
        }
    }

    #[test]
    fn what_may_be_a_key_is_not_shown() {
        for (url, shown) in [
            ("http://127.0.0.1:8899", "http://127.0.0.1:8899"),
            ("http://127.0.0.1:8899/", "http://127.0.0.1:8899"),
            ("https://rpc.example.org/v2/s3cret", "https://rpc.example.org/..."),
            ("https://rpc.example.org?api-key=s3cret", "https://rpc.example.org/..."),
            ("https://me:s3cret@rpc.example.org:443/x", "https://rpc.example.org:443/..."),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(HttpRpc::shown_url(url), shown);
        }
    }

    #[tokio::test]
    async fn a_refusal_of_the_transport_does_not_tell_the_key() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v2/s3cret", listener.local_addr().unwrap());
        let answers = ["HTTP/1.1 403 Forbidden", "HTTP/1.1 200 OK"];
        let serve = async {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4_096];
                let _ = stream.read(&mut request).await.unwrap();
                let answer = format!("{answer}\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let node = HttpRpc::new(&url, None);
        let ask = async {
            let refused = node.block_height().await.unwrap_err();
            assert!(matches!(&refused, RpcError::Down { reason, .. } if reason.contains("403")), "{refused:?}");
            let unreadable = node.block_height().await.unwrap_err();
            assert!(matches!(unreadable, RpcError::Unreadable { .. }) && unreadable.is_transient(), "{unreadable:?}");
            for error in [refused, unreadable] {
                assert!(!format!("{error:?} {error}").contains("s3cret"), "{error:?}");
            }
        };
        tokio::join!(serve, ask);
    }

    #[tokio::test]
    async fn a_node_that_is_down_is_named_with_its_url() {
        // Bound and not listening: nobody else gets the port meanwhile.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let error = HttpRpc::new(&url, None).block_height().await.unwrap_err();
        assert!(matches!(&error, RpcError::Down { url: at, .. } if *at == url), "{error:?}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
