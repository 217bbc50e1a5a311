//! A keeper of a real cluster against a node of the tests' own: what it reads, and what becomes of its batches.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anchor_lang::Discriminator;
use bytemuck::Pod;
use datagalax::{
    error::DatagalaxError,
    state::{Block, Container, Epoch, Grid, Keeper, Network, Row, VERSION},
};
use datagalax_client::{
    Address, Pipeline, Reader,
    addresses::{self, PROGRAM},
    clock::CLOCK_SYSVAR,
    pipeline::{MemoryStore, PendingStore, Settings},
    rpc::{Blockhash, Rpc, RpcError, Simulation, Status},
    token,
};
use datagalax_keeper::{
    Action, Chain, ClusterChain, Failure, Kind, Own,
    books::{Books, MemoryBooks},
    due,
    ledger::{Recorder, reconcile},
};
use futures_util::{FutureExt, future::BoxFuture};
use solana_account::Account;
use solana_hash::Hash;
use solana_instruction::error::InstructionError;
use solana_keypair::Keypair;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::Transaction;
use solana_transaction_error::TransactionError;

const LENGTH: u32 = 3_600;
/// The epoch that the clock is in: drawn, its blocks seated, the one before to be tallied.
const EPOCH: u32 = 100;

/// A node that answers from a state and counts what it would send over the wire.
#[derive(Default)]
struct Node {
    accounts: Mutex<HashMap<Address, Account>>,
    /// A transaction that names one of these is refused as tallied already.
    tallied: Mutex<BTreeSet<Address>>,
    /// A transaction that names one of these lands and fails.
    late: Mutex<BTreeSet<Address>>,
    statuses: Mutex<HashMap<Signature, Status>>,
    sent: AtomicUsize,
    bytes: AtomicU64,
    requests: AtomicU64,
}

fn account<T: Pod + Discriminator>(value: &T) -> Account {
    let mut data = T::DISCRIMINATOR.to_vec();
    data.extend_from_slice(bytemuck::bytes_of(value));
    data[8] = VERSION;
    Account { lamports: 1_000_000, data, owner: PROGRAM, executable: false, rent_epoch: u64::MAX }
}

/// As a node writes an account: the body of an answer of getMultipleAccounts.
fn json_bytes(account: Option<&Account>) -> u64 {
    let Some(account) = account else { return 5 };
    let around = format!(
        r#"{{"data":["","base64"],"executable":false,"lamports":{},"owner":"{}","rentEpoch":{},"space":41464}},"#,
        account.lamports, account.owner, account.rent_epoch
    );
    (around.len() + account.data.len().div_ceil(3) * 4) as u64
}

impl Node {
    fn put<T: Pod + Discriminator>(&self, at: Address, value: &T) {
        self.accounts.lock().unwrap().insert(at, account(value));
    }

    fn get<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, RpcError>> {
        std::future::ready(Ok(value)).boxed()
    }

    fn names(transaction: &Transaction, set: &Mutex<BTreeSet<Address>>) -> bool {
        transaction.message.account_keys.iter().any(|key| set.lock().unwrap().contains(key))
    }

    /// Bytes and requests since the last call.
    fn counted(&self) -> (u64, u64) {
        (self.bytes.swap(0, Relaxed), self.requests.swap(0, Relaxed))
    }
}

fn refusal() -> TransactionError {
    TransactionError::InstructionError(1, InstructionError::Custom(6_000 + DatagalaxError::AlreadyTallied as u32))
}

impl Rpc for Node {
    fn url(&self) -> &str {
        "http://test"
    }
    fn accounts<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<Vec<Option<Account>>, RpcError>> {
        self.slices(addresses, 0, usize::MAX)
    }
    fn accounts_at<'a>(&'a self, addresses: &'a [Address]) -> BoxFuture<'a, Result<(u64, Vec<Option<Account>>), RpcError>> {
        self.accounts(addresses).map(|read| Ok((1_000, read?))).boxed()
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
        let accounts = self.accounts.lock().unwrap();
        let cut = |account: &Account| {
            let len = account.data.len();
            let data = account.data[from.min(len)..from.saturating_add(bytes).min(len)].to_vec();
            Account { data, ..account.clone() }
        };
        let read: Vec<Option<Account>> = addresses.iter().map(|at| accounts.get(at).map(cut)).collect();
        // The answer's frame is some 100 bytes, a request's another 300 and 47 for each address.
        let requests = addresses.len().div_ceil(100) as u64;
        self.requests.fetch_add(requests, Relaxed);
        let body: u64 = read.iter().map(|account| json_bytes(account.as_ref())).sum();
        self.bytes.fetch_add(body + 400 * requests + 47 * addresses.len() as u64, Relaxed);
        Self::get(read)
    }
    fn program_accounts<'a>(
        &'a self,
        _: &'a Address,
        holding: &'a [(usize, Vec<u8>)],
    ) -> BoxFuture<'a, Result<Vec<(Address, Account)>, RpcError>> {
        let accounts = self.accounts.lock().unwrap();
        let holds =
            |account: &Account| holding.iter().all(|(at, bytes)| account.data.get(*at..at + bytes.len()) == Some(bytes));
        let found: Vec<_> = accounts.iter().filter(|(_, a)| holds(a)).map(|(at, a)| (*at, a.clone())).collect();
        self.requests.fetch_add(1, Relaxed);
        let body: u64 = found.iter().map(|(_, account)| json_bytes(Some(account)) + 66).sum();
        self.bytes.fetch_add(body + 500, Relaxed);
        Self::get(found)
    }
    fn latest_blockhash(&self) -> BoxFuture<'_, Result<Blockhash, RpcError>> {
        Self::get(Blockhash { hash: Hash::new_from_array([7; 32]), last_valid_block_height: 1_000 })
    }
    fn block_height(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        Self::get(1)
    }
    fn finalized_slot(&self) -> BoxFuture<'_, Result<u64, RpcError>> {
        Self::get(1)
    }
    fn block_time(&self, _: u64) -> BoxFuture<'_, Result<Option<i64>, RpcError>> {
        Self::get(None)
    }
    fn genesis_hash(&self) -> BoxFuture<'_, Result<Hash, RpcError>> {
        Self::get(Hash::default())
    }
    fn rent(&self, _: usize) -> BoxFuture<'_, Result<u64, RpcError>> {
        Self::get(1)
    }
    fn simulate<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<Simulation, RpcError>> {
        let outcome = if Self::names(transaction, &self.tallied) { Err(refusal()) } else { Ok(()) };
        Self::get(Simulation { outcome, logs: vec![], units: 100_000 })
    }
    fn send<'a>(&'a self, transaction: &'a Transaction, _: bool) -> BoxFuture<'a, Result<(), RpcError>> {
        self.sent.fetch_add(1, Relaxed);
        let outcome = if Self::names(transaction, &self.late) { Err(refusal()) } else { Ok(()) };
        self.statuses.lock().unwrap().insert(transaction.signatures[0], Status { slot: 9, outcome, confirmed: true });
        Self::get(())
    }
    fn statuses<'a>(&'a self, signatures: &'a [Signature]) -> BoxFuture<'a, Result<Vec<Option<Status>>, RpcError>> {
        let known = self.statuses.lock().unwrap();
        Self::get(signatures.iter().map(|signature| known.get(signature).cloned()).collect())
    }
    fn recent_fees<'a>(&'a self, _: &'a [Address]) -> BoxFuture<'a, Result<Vec<u64>, RpcError>> {
        Self::get(vec![])
    }
    fn confirmed<'a>(&'a self, _: &'a Signature) -> BoxFuture<'a, ()> {
        std::future::pending().boxed()
    }
}

fn boxed<T: Pod>() -> Box<T> {
    bytemuck::allocation::zeroed_box()
}

fn block(index: u32) -> Box<Block> {
    let mut block = boxed::<Block>();
    (block.full, block.index, block.occupied, block.live) = (1, index, 200, 200);
    (block.seated_from, block.last_tallied) = (1, EPOCH - 2);
    for (lane, number) in block.lanes.iter_mut().zip([EPOCH, EPOCH - 1]) {
        (lane.epoch, lane.seats) = (number, 5);
    }
    block
}

/// A network of so many blocks, its epochs' work done but for the tally of the last one.
fn node(blocks: u32) -> Arc<Node> {
    let node = Node::default();
    let mut network = boxed::<Network>();
    let grid = Grid { start: 0, first_epoch: 0, length: LENGTH, reveal_window: 600, commit_lead: 300 };
    network.grids = [grid, grid];
    (network.current_epoch, network.previous_epoch, network.blocks) = (EPOCH, EPOCH - 1, blocks);
    network.emission.amount = 1;
    node.put(addresses::network(), &*network);
    let mut epoch = boxed::<Epoch>();
    (epoch.number, epoch.status, epoch.tickets, epoch.keeper_fee) = (EPOCH, Epoch::DRAWN, 50, 10);
    node.put(addresses::epoch(EPOCH), &*epoch);
    for index in 0..blocks {
        node.put(addresses::block(index), &*block(index));
    }
    clock(&node, 1_000);
    Arc::new(node)
}

/// Sets the chain's clock to so many seconds into the epoch.
fn clock(node: &Node, into: i64) {
    let mut data = vec![0; 40];
    data[..8].copy_from_slice(&1_000u64.to_le_bytes());
    data[32..].copy_from_slice(&(i64::from(EPOCH * LENGTH) + into).to_le_bytes());
    let owner = Address::default();
    node.accounts
        .lock()
        .unwrap()
        .insert(CLOCK_SYSVAR, Account { lamports: 1, data, owner, executable: false, rent_epoch: 0 });
}

fn chain(node: &Arc<Node>, books: &Arc<MemoryBooks>) -> ClusterChain {
    let payer = Arc::new(Keypair::new());
    let wallet = payer.pubkey();
    let mut keeper = boxed::<Keeper>();
    (keeper.wallet, keeper.due) = (wallet, 500);
    node.put(addresses::keeper(&wallet), &*keeper);
    let pending: Arc<dyn PendingStore> = Arc::new(MemoryStore::default());
    let recorder = Arc::new(Recorder::new(pending, books.clone()));
    let pipeline = Pipeline::new(node.clone(), payer, recorder.clone(), Settings::default());
    ClusterChain::new(pipeline, recorder, &[], Own { wallet, claim_from: Some(500), keep_epochs: 48 })
}

/// Views until there is nothing more to read at once; how many it took.
async fn settle(chain: &ClusterChain) -> usize {
    for rounds in 1.. {
        chain.view().await.unwrap();
        let more = chain.changed(Duration::from_secs(3_600)).now_or_never().is_some();
        if !more {
            return rounds;
        }
    }
    unreachable!()
}

#[tokio::test(start_paused = true)]
async fn a_network_of_four_thousand_blocks_is_read_in_kilobytes() {
    let node = node(4_000);
    clock(&node, 100);
    let chain = chain(&node, &Arc::default());
    let rounds = settle(&chain).await;
    let (first, requests) = node.counted();
    println!("heads of 4,000 blocks, once an epoch: {first} bytes in {requests} requests and {rounds} rounds");
    assert!(first < 3_000_000 && rounds == 8, "{first} bytes, {rounds} rounds");
    // At the start every block is looked through for rows that were frozen or left before, some at a time.
    let whole = 4_000 * u64::try_from(size_of::<Block>()).unwrap() * 4 / 3;
    let mut sweep = 0;
    for _ in 0..10 {
        tokio::time::advance(Duration::from_secs(60)).await;
        chain.view().await.unwrap();
        sweep = sweep.max(node.counted().0);
    }
    println!("a look at the chores while the rows are looked through: at most {sweep} bytes");
    assert!(sweep < 600_000, "{sweep}");
    // A quiet round.
    chain.view().await.unwrap();
    let (quiet, requests) = node.counted();
    println!("a quiet round: {quiet} bytes in {requests} request; before, {whole}");
    assert!(requests == 1 && quiet < 8_000, "{quiet}");
    // All of them to be tallied.
    clock(&node, 1_000);
    tokio::time::advance(Duration::from_secs(16)).await;
    let (view, now) = chain.view().await.unwrap();
    let (pending, _) = node.counted();
    println!("a round with 4,000 tallies due: {pending} bytes");
    assert_eq!(due(&view, now).iter().filter(|due| due.action.kind() == Kind::Tally).count(), 4_000);
    assert!(pending < 200_000, "{pending}");
    let batch: Vec<Action> = (0..9).map(|block| Action::Tally { epoch: EPOCH - 1, block }).collect();
    assert_eq!(chain.undone(&view, &batch).await.unwrap(), [true; 9]);
    let (again, _) = node.counted();
    println!("looking again at nine before they are sent: {again} bytes");
    assert!(again < 4_000, "{again}");
}

fn tallies(blocks: impl IntoIterator<Item = u32>) -> Vec<Action> {
    blocks.into_iter().map(|block| Action::Tally { epoch: EPOCH - 1, block }).collect()
}

#[tokio::test(start_paused = true)]
async fn one_that_is_refused_keeps_no_other_back() {
    let (node, books) = (node(9), Arc::new(MemoryBooks::default()));
    let chain = chain(&node, &books);
    settle(&chain).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    let (view, _) = chain.view().await.unwrap();
    node.tallied.lock().unwrap().insert(addresses::block(4));
    let batch = tallies(0..9);
    let outcomes = chain.perform(&view, &batch).await;
    for (block, outcome) in outcomes.iter().enumerate() {
        match block {
            4 => assert!(matches!(outcome.result, Err(Failure::Raced(_))) && outcome.fee == 0, "{outcome:?}"),
            _ => assert!(outcome.result.is_ok() && outcome.pay == 10, "{outcome:?}"),
        }
    }
    // Of nine, halves: 4 and 5, of which 2 and 3, of which 1 (refused) and 1.
    let sent = node.sent.load(Relaxed);
    assert!(sent <= 4, "{sent} transactions");
    let fees: u64 = outcomes.iter().map(|outcome| outcome.fee).sum();
    assert_eq!(fees, 5_000 * sent as u64);
    // In the books before they were sent; what became of them is the loop's to write down, or the next start's.
    let open = books.open().await.unwrap();
    assert_eq!(open.iter().map(|entry| entry.actions).sum::<u32>(), 8);
    assert_eq!(open.iter().map(|entry| entry.fee).sum::<u64>(), fees);
    assert_eq!(reconcile(node.as_ref(), books.as_ref(), i64::MAX).await.unwrap(), sent);
    assert!(books.open().await.unwrap().is_empty());
    let sum = books.sums(0).await.unwrap()[&(EPOCH, Kind::Tally)];
    assert_eq!((sum.done, sum.wasted, sum.fees), (8, 0, fees));
    // What was done is not looked for again.
    let (view, now) = chain.view().await.unwrap();
    assert_eq!(due(&view, now).iter().map(|due| due.action).collect::<Vec<_>>(), tallies([4]));
}

#[tokio::test(start_paused = true)]
async fn what_lands_and_fails_costs_one_fee_and_is_written_down_as_lost() {
    let (node, books) = (node(3), Arc::new(MemoryBooks::default()));
    let chain = chain(&node, &books);
    settle(&chain).await;
    let (view, _) = chain.view().await.unwrap();
    node.late.lock().unwrap().insert(addresses::block(1));
    let outcomes = chain.perform(&view, &tallies(0..3)).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome.result, Err(Failure::Raced(_)))), "{outcomes:?}");
    assert_eq!(outcomes.iter().map(|outcome| outcome.fee).collect::<Vec<_>>(), [1_668, 1_666, 1_666]);
    reconcile(node.as_ref(), books.as_ref(), i64::MAX).await.unwrap();
    let sum = books.sums(0).await.unwrap()[&(EPOCH, Kind::Tally)];
    assert_eq!((sum.done, sum.wasted, sum.fees_wasted), (0, 3, 5_000));
}

#[tokio::test(start_paused = true)]
async fn what_others_did_is_seen_before_anything_is_sent() {
    let (node, books) = (node(3), Arc::new(MemoryBooks::default()));
    let chain = chain(&node, &books);
    settle(&chain).await;
    let (view, _) = chain.view().await.unwrap();
    let mut done = block(2);
    done.lanes[1].tallied = 1;
    node.put(addresses::block(2), &*done);
    node.accounts.lock().unwrap().remove(&addresses::block(0));
    assert_eq!(chain.undone(&view, &tallies(0..3)).await.unwrap(), [false, true, false]);
    let (view, now) = chain.view().await.unwrap();
    assert_eq!(due(&view, now).iter().map(|due| due.action).collect::<Vec<_>>(), tallies([1]));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_condemned_is_found_by_its_votes() {
    let (node, books) = (node(60), Arc::new(MemoryBooks::default()));
    let mut container = boxed::<Container>();
    (container.block, container.row, container.provider) = (33, 7, 5);
    let at = Address::new_from_array([9; 32]);
    node.put(at, &*container);
    let chain = chain(&node, &books);
    // The first sweep of all rows is over before it happens.
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(60)).await;
        chain.view().await.unwrap();
    }
    for index in 0..60 {
        let mut tallied = block(index);
        tallied.lanes[1].tallied = 1;
        if index == 33 {
            // The second seat's word is enough to look; the first did not vote.
            tallied.lanes[1].committee[1].availability[7] = 0x80 | 90;
            tallied.rows[7] = Row { status: Row::LIVE, ..Row::checking(5, 0, 100, 1, 0) };
            tallied.rows[7].accuse(EPOCH - 1, 48);
        }
        node.put(addresses::block(index), &*tallied);
    }
    let wanted = Action::OpenCase { container: at, epoch: EPOCH - 1 };
    let mut found = false;
    for _ in 0..6 {
        tokio::time::advance(Duration::from_secs(60)).await;
        let (view, now) = chain.view().await.unwrap();
        found |= due(&view, now).iter().any(|due| due.action == wanted);
    }
    assert!(found);
}

#[tokio::test(start_paused = true)]
async fn keepers_that_do_nothing_are_forgotten_after_two_epochs() {
    let (node, books) = (node(1), Arc::new(MemoryBooks::default()));
    let chain = chain(&node, &books);
    let other = Address::new_from_array([4; 32]);
    let mut keeper = boxed::<Keeper>();
    (keeper.wallet, keeper.actions) = (other, 3);
    node.put(addresses::keeper(&other), &*keeper);
    let looked = async |into: i64| {
        clock(&node, into);
        tokio::time::advance(Duration::from_secs(60)).await;
        chain.view().await.unwrap();
        chain.view().await.unwrap().0.others
    };
    let length = i64::from(LENGTH);
    assert_eq!(looked(0).await, [other]);
    assert_eq!(looked(2 * length).await, [other]);
    assert!(looked(3 * length).await.is_empty());
    keeper.actions += 1;
    node.put(addresses::keeper(&other), &*keeper);
    assert_eq!(looked(3 * length + 60).await, [other], "at work again");
}

#[tokio::test(start_paused = true)]
async fn the_rent_of_its_own_old_epochs_is_taken_back_and_of_no_others() {
    let (node, books) = (node(1), Arc::new(MemoryBooks::default()));
    let chain = chain(&node, &books);
    let payer = chain.pipeline().payer();
    for (number, rent_payer) in [(40, payer), (41, Address::default()), (42, payer), (90, payer)] {
        let mut epoch = boxed::<Epoch>();
        (epoch.number, epoch.status, epoch.released, epoch.rent_payer) = (number, Epoch::DRAWN, 1, rent_payer);
        node.put(addresses::epoch(number), &*epoch);
    }
    settle(&chain).await;
    let (view, now) = chain.view().await.unwrap();
    let wanted: Vec<Action> = due(&view, now).into_iter().map(|due| due.action).collect();
    let own = [40, 42].map(|number| Action::Reclaim(addresses::epoch(number)));
    assert!(own.iter().all(|action| wanted.contains(action)), "{wanted:?}");
    assert_eq!(wanted.iter().filter(|action| action.kind() == Kind::Reclaim).count(), 2);
    // Both in one transaction, and then they are not wanted any more.
    let outcomes = chain.perform(&view, &own).await;
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()) && node.sent.load(Relaxed) == 1);
    let (view, now) = chain.view().await.unwrap();
    assert!(due(&view, now).iter().all(|due| due.action.kind() != Kind::Reclaim));
}

#[tokio::test(start_paused = true)]
async fn pay_is_withdrawn_once_the_wallet_can_take_it() {
    let (node, books) = (node(1), Arc::new(MemoryBooks::default()));
    let chain = chain(&node, &books);
    let claims = async || {
        tokio::time::advance(Duration::from_secs(60)).await;
        let (view, now) = chain.view().await.unwrap();
        due(&view, now).iter().any(|due| due.action == Action::Claim)
    };
    assert!(!claims().await, "it has no token account");
    let network = Reader::new(node.clone()).network().await.unwrap();
    let home = token::home(&chain.pipeline().payer(), &network);
    // A token account: mint, owner, amount, and initialised at byte 108.
    let mut data = vec![0; 165];
    data[108] = 1;
    let account = Account { lamports: 1, data, owner: token::TOKEN_PROGRAM, executable: false, rent_epoch: 0 };
    node.accounts.lock().unwrap().insert(home, account);
    assert!(claims().await);
}

#[tokio::test(start_paused = true)]
async fn a_large_network_s_other_keepers_are_known_before_anything_is_done() {
    let (node, books) = (node(501), Arc::new(MemoryBooks::default()));
    let chain = chain(&node, &books);
    let other = Address::new_from_array([4; 32]);
    let mut keeper = boxed::<Keeper>();
    keeper.wallet = other;
    node.put(addresses::keeper(&other), &*keeper);
    assert_eq!(chain.view().await.unwrap().0.others, [other]);
}
