//! A node over JSON-RPC, with its WebSocket for confirmations.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use serde_json::json;
use solana_account::Account;
use solana_account_decoder_client_types::{UiAccount, UiAccountEncoding, UiDataSliceConfig};
use solana_client::{
    client_error::{ClientError, ClientErrorKind},
    nonblocking::{pubsub_client::PubsubClient, rpc_client::RpcClient},
    rpc_config::{
        RpcAccountInfoConfig, RpcProgramAccountsConfig, RpcSendTransactionConfig, RpcSignatureSubscribeConfig,
        RpcSimulateTransactionConfig,
    },
    rpc_custom_error::{
        JSON_RPC_SERVER_ERROR_BLOCK_CLEANED_UP, JSON_RPC_SERVER_ERROR_BLOCK_NOT_AVAILABLE,
        JSON_RPC_SERVER_ERROR_BLOCK_STATUS_NOT_AVAILABLE_YET, JSON_RPC_SERVER_ERROR_LONG_TERM_STORAGE_SLOT_SKIPPED,
        JSON_RPC_SERVER_ERROR_SLOT_SKIPPED,
    },
    rpc_filter::{Memcmp, RpcFilterType},
    rpc_request::{RpcError as WireError, RpcRequest, RpcResponseErrorData},
};
use solana_commitment_config::CommitmentConfig;
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction::Transaction;
use tokio::{sync::Mutex, time::timeout};

use super::{Blockhash, MAX_ACCOUNTS, REQUEST_TIMEOUT, Rpc, RpcError, Simulation, Status};
use crate::Address;

/// How long connecting to the WebSocket may take before polling does alone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

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
    url: String,
    client: RpcClient,
    ws: Option<String>,
    /// Shared by all who wait for a confirmation; dropped when it breaks, opened by the next who needs it.
    socket: Mutex<Option<Arc<PubsubClient>>>,
}

impl HttpRpc {
    /// A node at `url` (`http://host:port`), with its WebSocket at `ws`. Connects when it is first used.
    pub fn new(url: &str, ws: Option<&str>) -> Self {
        Self {
            url: url.to_owned(),
            client: RpcClient::new_with_timeout_and_commitment(
                url.to_owned(),
                REQUEST_TIMEOUT,
                CommitmentConfig::confirmed(),
            ),
            ws: ws.map(str::to_owned),
            socket: Mutex::new(None),
        }
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

    fn error(&self, error: ClientError) -> RpcError {
        let url = self.url.clone();
        match *error.kind {
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
            ClientErrorKind::Io(e) => RpcError::Down { url, reason: e.to_string() },
            ClientErrorKind::Reqwest(e) if e.is_decode() => RpcError::Unreadable { url, reason: e.to_string() },
            // The innermost cause says what happened ("connection refused"); the outer ones repeat the URL.
            ClientErrorKind::Reqwest(e) => RpcError::Down { url, reason: innermost(&e) },
            ClientErrorKind::Middleware(e) => RpcError::Down { url, reason: innermost(e.as_ref()) },
            other => RpcError::Unreadable { url, reason: other.to_string() },
        }
    }

    /// Bytes are bytes: a node that answers in another encoding than the one asked for is refused, not trusted.
    fn account(&self, address: &Address, account: &UiAccount) -> Result<Account, RpcError> {
        account.decode().ok_or_else(|| RpcError::Unreadable {
            url: self.url.clone(),
            reason: format!("the data of {address} is not in the encoding asked for"),
        })
    }

    async fn read(&self, addresses: &[Address], config: RpcAccountInfoConfig) -> Result<Vec<Option<Account>>, RpcError> {
        let mut accounts = Vec::with_capacity(addresses.len());
        for part in addresses.chunks(MAX_ACCOUNTS) {
            let read = self
                .client
                .get_multiple_ui_accounts_with_config(part, config.clone())
                .await
                .map_err(|e| self.error(e))?
                .value;
            if read.len() != part.len() {
                let reason = format!("{} accounts for {} addresses", read.len(), part.len());
                return Err(RpcError::Unreadable { url: self.url.clone(), reason });
            }
            for (address, account) in part.iter().zip(read) {
                accounts.push(account.map(|a| self.account(address, &a)).transpose()?);
            }
        }
        Ok(accounts)
    }

    async fn socket(&self, url: &str) -> Option<Arc<PubsubClient>> {
        let mut socket = self.socket.lock().await;
        if let Some(open) = &*socket {
            return Some(open.clone());
        }
        match timeout(CONNECT_TIMEOUT, PubsubClient::new(url)).await {
            Ok(Ok(open)) => Some(socket.insert(Arc::new(open)).clone()),
            Ok(Err(e)) => {
                tracing::warn!(url, error = %e, "no WebSocket: confirmations are polled");
                None
            }
            Err(_) => {
                tracing::warn!(url, "the WebSocket does not answer: confirmations are polled");
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

    fn accounts<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.read(addresses, account_config()).boxed()
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
                account_config: account_config(),
                ..RpcProgramAccountsConfig::default()
            };
            let read = self.client.get_program_ui_accounts_with_config(program, config).await.map_err(|e| self.error(e))?;
            read.into_iter().map(|(address, account)| self.account(&address, &account).map(|a| (address, a))).collect()
        }
        .boxed()
    }

    fn latest_blockhash(&self) -> BoxFuture<'_, Result<Blockhash, RpcError>> {
        async move {
            let (hash, last_valid_block_height) = self
                .client
                .get_latest_blockhash_with_commitment(CommitmentConfig::confirmed())
                .await
                .map_err(|e| self.error(e))?;
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
                ..RpcSendTransactionConfig::default()
            };
            self.client.send_transaction_with_config(transaction, config).await.map(|_| ()).map_err(|e| self.error(e))
        }
        .boxed()
    }

    fn statuses<'a>(&'a self, signatures: &'a [Signature]) -> BoxFuture<'a, Result<Vec<Option<Status>>, RpcError>> {
        async move {
            let read = self.client.get_signature_statuses_with_history(signatures).await.map_err(|e| self.error(e))?.value;
            let commitment = CommitmentConfig::confirmed();
            Ok(read
                .into_iter()
                .map(|status| {
                    status.map(|s| Status {
                        slot: s.slot,
                        confirmed: s.satisfies_commitment(commitment),
                        outcome: s.err.map_or(Ok(()), Err),
                    })
                })
                .collect())
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

    #[tokio::test]
    async fn a_node_that_is_down_is_named_with_its_url() {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = format!("http://{unused}");
        let error = HttpRpc::new(&url, None).block_height().await.unwrap_err();
        assert!(matches!(&error, RpcError::Down { url: at, .. } if *at == url), "{error:?}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
