//! `register_indexer`, `update_indexer`, `leave_indexer`.

use datagalax::{
    constants::NONE,
    state::{Indexer as Account, Network, VERSION},
};
use datagalax_program_tests::{
    Indexer, World,
    actors::PURSE,
    addresses::{self, Vault},
    instructions,
    refusals::Call,
    settings::ATH,
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::scene::Scene;

const ENDPOINT: &str = "https://indexer.example";

fn account(world: &World, indexer: &Indexer) -> Account {
    world.read(&addresses::indexer(indexer.id))
}

fn endpoint(account: &Account) -> &[u8] {
    &account.endpoint[..usize::from(account.endpoint_len)]
}

#[test]
fn register_indexer_stakes_and_takes_the_next_id() {
    let mut world = World::new();
    for id in 0..3 {
        let indexer = world.indexer();
        let account = account(&world, &indexer);
        assert_eq!((indexer.id, account.id, account.version, account.status), (id, id, VERSION, Account::ACTIVE));
        assert_eq!((account.owner, account.operator), (indexer.owner.pubkey(), indexer.operator.pubkey()));
        assert_eq!((account.payout, account.rent_payer), (indexer.payout, indexer.owner.pubkey()));
        assert_eq!((account.staked, account.unlocks_at, account.due, account.earned), (50 * ATH, 0, 0, 0));
        assert_eq!(endpoint(&account), ENDPOINT.as_bytes());
        assert_eq!(world.balance(&indexer.from), PURSE - 50 * ATH);
    }
    let ledger = world.ledger(Vault::Stake);
    assert_eq!((world.network().indexers, ledger.balance, ledger.liabilities), (3, 150 * ATH, 150 * ATH));
    world.check_books();
}

#[test]
fn where_nothing_is_staked_nothing_moves() {
    let mut world = World::new();
    world.patch_as::<Network>(&addresses::network(), |n| n.parameters.indexer_stake = 0);
    let indexer = world.indexer();
    assert_eq!((account(&world, &indexer).staked, world.balance(&indexer.from)), (0, PURSE));
    world.check_books();
}

#[test]
fn register_indexer_refuses() {
    let mut world = World::new();
    let first = world.indexer();
    let to_be = world.indexer_to_be();
    let register = |world: &World, indexer: &Indexer| instructions::register_indexer(world, indexer, ENDPOINT);
    for id in [first.id, to_be.id + 1] {
        let wrong = register(&world, &Indexer { id, ..to_be.clone() });
        world.refused(wrong, &[&to_be.owner], "InvalidSeeds");
    }
    for text in ["".to_owned(), "x".repeat(129)] {
        let wrong = instructions::register_indexer(&world, &to_be, &text);
        world.refused(wrong, &[&to_be.owner], "BadEndpoint");
    }
    // A key of zeros: anybody can make up its signatures.
    let mut nobody = register(&world, &to_be);
    let at = nobody.data.windows(32).position(|w| w == to_be.operator.pubkey().as_ref()).expect("the operator");
    nobody.data[at..at + 32].fill(0);
    world.refused(nobody, &[&to_be.owner], "ParameterOutOfBounds");
    // Another's money; less than is asked; another vault.
    let mut wrong = register(&world, &to_be);
    wrong.accounts[3].pubkey = first.from;
    world.refused(wrong, &[&to_be.owner], "OwnerMismatch");
    let mut poor = world.clone();
    let mint = poor.mint;
    let purse = poor.put_token_account(&mint, &to_be.owner.pubkey(), 50 * ATH - 1, "poor");
    let wrong = register(&poor, &Indexer { from: purse, ..to_be.clone() });
    poor.refused(wrong, &[&to_be.owner], "InsufficientFunds");
    let mut wrong = register(&world, &to_be);
    for account in &mut wrong.accounts {
        if account.pubkey == addresses::vault(Vault::Stake) {
            account.pubkey = addresses::vault(Vault::Escrow);
        } else if account.pubkey == addresses::ledger(Vault::Stake) {
            account.pubkey = addresses::ledger(Vault::Escrow);
        }
    }
    world.refused(wrong, &[&to_be.owner], "WrongAccount");
    world.set_paused(true);
    let valid = register(&world, &to_be);
    world.refused(valid.clone(), &[&to_be.owner], "Paused");
    world.set_paused(false);

    // Ids end before the one that means "none".
    let mut last = world.clone();
    last.patch_as::<Network>(&addresses::network(), |n| n.indexers = NONE - 1);
    let wrong = register(&last, &Indexer { id: NONE - 1, ..to_be.clone() });
    last.refused(wrong, &[&to_be.owner], "Overflow");
    Call::new(world, valid, &[&to_be.owner]).check();
}

#[test]
fn update_indexer_replaces_the_endpoint() {
    let mut world = World::new();
    let (indexer, other) = (world.indexer(), world.indexer());
    // By the operator, and by the owner; to the longest.
    let longest = "y".repeat(128);
    for (key, text) in [(&indexer.operator, "https://elsewhere.example"), (&indexer.owner, longest.as_str())] {
        let before = account(&world, &indexer);
        let mut update = instructions::update_indexer(&indexer, text);
        update.accounts[0].pubkey = key.pubkey();
        world.must(&[update], &[key]);
        let after = account(&world, &indexer);
        assert_eq!(endpoint(&after), text.as_bytes());
        let same = Account { endpoint: before.endpoint, endpoint_len: before.endpoint_len, ..after };
        assert_eq!(bytemuck::bytes_of(&same), bytemuck::bytes_of(&before), "nothing else");
    }
    // A shorter one leaves nothing of the longer behind.
    let update = instructions::update_indexer(&indexer, "z");
    world.must(std::slice::from_ref(&update), &[&indexer.operator]);
    assert!(account(&world, &indexer).endpoint[1..].iter().all(|byte| *byte == 0));

    for text in ["".to_owned(), "x".repeat(129)] {
        let wrong = instructions::update_indexer(&indexer, &text);
        world.refused(wrong, &[&indexer.operator], "BadEndpoint");
    }
    for key in [&other.operator, &other.owner] {
        let mut wrong = instructions::update_indexer(&indexer, "stolen");
        wrong.accounts[0].pubkey = key.pubkey();
        world.refused(wrong, &[key], "Unauthorized");
    }
    let valid = instructions::update_indexer(&indexer, ENDPOINT);
    Call::new(world, valid, &[&indexer.operator]).check();
}

#[test]
fn an_indexer_that_leaves_gets_its_stake_after_the_wait_and_its_shares_all_along() {
    let mut scene = Scene::new();
    let user = scene.user.key.clone();
    let indexer = scene.world().indexer();
    let address = addresses::indexer(indexer.id);
    let lease = scene.open_matched(&indexer, 0, 600);
    scene.start(&lease);
    let withdraw = |scene: &Scene, vault| instructions::withdraw(&scene.stage.world, &address, vault, &indexer.to);
    let stake = withdraw(&scene, Vault::Stake);
    scene.world().refused(stake.clone(), &[], "NothingToPay");

    let leave = instructions::leave_indexer(&indexer);
    scene.world().must(std::slice::from_ref(&leave), &[&indexer.owner]);
    let left = scene.stage.world.now();
    let state = account(&scene.stage.world, &indexer);
    assert_eq!((state.status, state.unlocks_at, state.staked), (Account::LEAVING, left + 720, 50 * ATH));
    scene.world().refused(leave, &[&indexer.owner], "AlreadyLeaving");
    // A longer wait, asked for later, does not hold it.
    scene.world().patch_as::<Network>(&addresses::network(), |n| n.parameters.unbonding = 10_000);
    scene.world().set_time(left + 719);
    scene.world().refused(stake.clone(), &[], "NothingToPay");
    scene.world().set_time(left + 720);
    scene.world().run(stake.clone());
    assert_eq!(scene.stage.world.balance(&indexer.to), 50 * ATH);
    scene.world().refused(stake, &[], "NothingToPay");
    scene.stage.world.check_books();

    // Its account stays while it is owed anything.
    let owner = indexer.owner.pubkey();
    let close = instructions::close_account(&owner, &address, &owner);
    scene.world().refused(close.clone(), &[&indexer.owner], "NotDone");
    scene.close(&user, &lease);
    scene.settle_to_the_end(&lease);
    let share = scene.lease(&lease).indexer_fee;
    assert_eq!(share, scene.lease(&lease).paid / 5 / 10);
    assert!(share > 0);
    scene.world().refused(close.clone(), &[&indexer.owner], "NotDone");
    let fees = withdraw(&scene, Vault::Escrow);
    scene.world().run(fees);
    assert_eq!(scene.stage.world.balance(&indexer.to), 50 * ATH + share);
    // Nobody else closes it, and the rent goes to who paid it.
    let stranger = scene.world().actor("stranger");
    let wrong = instructions::close_account(&stranger.pubkey(), &address, &owner);
    scene.world().refused(wrong, &[&stranger], "Unauthorized");
    scene.world().must(&[close], &[&indexer.owner]);
    assert!(scene.stage.world.try_account(&address).is_none());
    scene.stage.world.check_books();
}

#[test]
fn leave_indexer_is_its_owners() {
    let mut world = World::new();
    let (indexer, other) = (world.indexer(), world.indexer());
    for key in [&indexer.operator, &other.owner] {
        let mut wrong = instructions::leave_indexer(&indexer);
        wrong.accounts[0].pubkey = key.pubkey();
        world.refused(wrong, &[key], "Unauthorized");
    }
    // Nobody is kept by a pause.
    let mut paused = world.clone();
    paused.set_paused(true);
    let valid = instructions::leave_indexer(&indexer);
    paused.must(std::slice::from_ref(&valid), &[&indexer.owner]);
    Call::new(world, valid, &[&indexer.owner]).check();
}

/// What an indexer is owed goes to the wallet it names, whoever asks.
#[test]
fn an_indexers_shares_go_home() {
    let mut scene = Scene::new();
    let user = scene.user.key.clone();
    let indexer = scene.world().indexer();
    let lease = scene.open_matched(&indexer, 0, 600);
    scene.start(&lease);
    scene.close(&user, &lease);
    let later = scene.stage.world.now() + 10_000;
    scene.world().set_time(later);
    scene.settle_to_the_end(&lease);
    let thief = scene.world().user();
    let address: Pubkey = addresses::indexer(indexer.id);
    for to in [thief.from, indexer.from] {
        let wrong = instructions::withdraw(scene.world(), &address, Vault::Escrow, &to);
        scene.world().refused(wrong, &[&thief.key], "WrongAccount");
    }
    // Not out of another vault.
    for vault in [Vault::Rewards, Vault::Stake] {
        let wrong = instructions::withdraw(scene.world(), &address, vault, &indexer.to);
        scene.world().refused(wrong, &[&thief.key], "NothingToPay");
    }
    let withdraw = instructions::withdraw(scene.world(), &address, Vault::Escrow, &indexer.to);
    scene.world().must(&[withdraw], &[&thief.key]);
    assert_eq!(scene.stage.world.balance(&indexer.to), scene.lease(&lease).indexer_fee);
}
