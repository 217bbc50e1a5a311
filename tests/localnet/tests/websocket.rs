//! Notifications over the WebSocket.

mod support;

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use solana_client::{
    nonblocking::pubsub_client::PubsubClient,
    rpc_config::{
        RpcAccountInfoConfig, RpcProgramAccountsConfig, RpcSignatureSubscribeConfig, RpcTransactionLogsConfig,
        RpcTransactionLogsFilter,
    },
    rpc_response::RpcSignatureResult,
};
use solana_commitment_config::CommitmentConfig;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use solana_system_interface::instruction::{create_account, transfer};
use support::{Localnet, MEMO, SOL, memo};
use tokio::time::timeout;

/// The most a notification may take on a loaded machine.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_announced_one_by_one() {
    let net = tokio::task::spawn_blocking(|| Localnet::start(&["--slot-time-ms", "100"])).await.unwrap();
    let client = PubsubClient::new(net.ws()).await.unwrap();
    let (mut slots, _unsubscribe) = client.slot_subscribe().await.unwrap();
    let mut last = timeout(SOON, slots.next()).await.unwrap().unwrap().slot;
    for _ in 0..20 {
        let info = timeout(SOON, slots.next()).await.unwrap().unwrap();
        assert_eq!((info.slot, info.parent), (last + 1, last));
        last = info.slot;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_announced_to_account_and_signature() {
    let (net, payer) = tokio::task::spawn_blocking(|| {
        let net = Localnet::start(&[]);
        let payer = net.funded(SOL);
        (net, payer)
    })
    .await
    .unwrap();
    let target = Keypair::new().pubkey();
    let client = PubsubClient::new(net.ws()).await.unwrap();
    let config = RpcAccountInfoConfig { commitment: Some(CommitmentConfig::confirmed()), ..Default::default() };
    let (mut accounts, _a) = client.account_subscribe(&target, Some(config)).await.unwrap();

    let transaction = net.sign(&[transfer(&payer.pubkey(), &target, SOL / 4)], &[&payer]);
    let config = RpcSignatureSubscribeConfig { commitment: Some(CommitmentConfig::confirmed()), ..Default::default() };
    let (mut signatures, _s) = client.signature_subscribe(&transaction.signatures[0], Some(config)).await.unwrap();
    let start = Instant::now();
    // Held until the end: the network goes with it.
    let _net =
        tokio::task::spawn_blocking(move || net.rpc.send_transaction(&transaction).map(|_| net)).await.unwrap().unwrap();

    let account = timeout(SOON, accounts.next()).await.unwrap().unwrap();
    let account_after = start.elapsed();
    assert_eq!(account.value.lamports, SOL / 4);
    let signature = timeout(SOON, signatures.next()).await.unwrap().unwrap();
    println!("account notice after {account_after:?}, signature confirmed after {:?}", start.elapsed());
    assert!(matches!(signature.value, RpcSignatureResult::ProcessedSignature(result) if result.err.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_is_announced_to_its_program_and_logs_to_who_they_mention() {
    let (net, payer) = tokio::task::spawn_blocking(|| {
        let net = Localnet::start(&[]);
        let payer = net.funded(SOL);
        (net, payer)
    })
    .await
    .unwrap();
    let owner: Pubkey = MEMO.parse().unwrap();
    let account = Keypair::new();
    let client = PubsubClient::new(net.ws()).await.unwrap();
    let config = RpcProgramAccountsConfig {
        account_config: RpcAccountInfoConfig { commitment: Some(CommitmentConfig::confirmed()), ..Default::default() },
        ..Default::default()
    };
    let (mut accounts, _a) = client.program_subscribe(&owner, Some(config)).await.unwrap();
    let filter = RpcTransactionLogsFilter::Mentions(vec![owner.to_string()]);
    let config = RpcTransactionLogsConfig { commitment: Some(CommitmentConfig::confirmed()) };
    let (mut logs, _l) = client.logs_subscribe(filter, config).await.unwrap();

    let rent = SOL / 100;
    let instructions = [create_account(&payer.pubkey(), &account.pubkey(), rent, 100, &owner), memo(&owner, b"hello")];
    let key = account.pubkey().to_string();
    let send = move || net.send(&instructions, &[&payer, &account]).map(|signature| (net, signature));
    let (_net, signature) = tokio::task::spawn_blocking(send).await.unwrap().unwrap();

    let notice = timeout(SOON, accounts.next()).await.unwrap().unwrap().value;
    assert_eq!((notice.pubkey, notice.account.lamports), (key, rent));
    let notice = timeout(SOON, logs.next()).await.unwrap().unwrap().value;
    assert_eq!(notice.signature, signature.to_string());
    assert!(notice.err.is_none() && notice.logs.iter().any(|line| line.contains("hello")));
}
