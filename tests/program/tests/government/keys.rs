//! `rotate_keys`, `propose_owner`, `accept_owner` of providers, checkers and indexers.

use datagalax::state::{Checker, Indexer, Provider};
use datagalax_program_tests::{
    World,
    accounts::rows,
    addresses::{self, Vault},
    instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
    world::Key,
};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

/// One of each kind of party: its address, owner and operator.
fn parties(world: &mut World) -> Vec<(&'static str, Pubkey, Key, Key)> {
    let (provider, checker, indexer) = (world.provider_with(100 * ATH), world.checker_with(1, 0), world.indexer());
    vec![
        ("provider", addresses::provider(provider.id), provider.owner, provider.operator),
        ("checker", addresses::checker(checker.id), checker.owner, checker.operator),
        ("indexer", addresses::indexer(indexer.id), indexer.owner, indexer.operator),
    ]
}

/// Owner, next owner, operator and payout of a party of any kind, whose accounts begin alike.
fn keys(world: &World, address: &Pubkey) -> [Pubkey; 4] {
    let data = world.account(address).data;
    // Discriminator, four bytes of its own, the id.
    [16, 48, 80, 112].map(|at: usize| Pubkey::new_from_array(data[at..at + 32].try_into().expect("32 bytes")))
}

#[test]
fn the_heads_are_where_the_types_say() {
    let mut world = World::new();
    let all = parties(&mut world);
    let (p, c): (Provider, Checker) = (world.provider(0), world.checker(0));
    let i: Indexer = world.read(&all[2].1);
    assert_eq!(keys(&world, &all[0].1), [p.owner, p.pending_owner, p.operator, p.payout]);
    assert_eq!(keys(&world, &all[1].1), [c.owner, c.pending_owner, c.operator, c.payout]);
    assert_eq!(keys(&world, &all[2].1), [i.owner, i.pending_owner, i.operator, i.payout]);
}

#[test]
fn an_owner_replaces_operator_and_payout_of_every_kind() {
    let mut world = World::new();
    for (kind, address, owner, operator) in parties(&mut world) {
        let (next, payout) = (world.actor("next operator"), world.actor("next payout").pubkey());
        let rotate = instructions::rotate_keys(&owner.pubkey(), &address, &next.pubkey(), &payout);
        world.must(std::slice::from_ref(&rotate), &[&owner]);
        assert_eq!(keys(&world, &address), [owner.pubkey(), Pubkey::default(), next.pubkey(), payout], "{kind}");
        // An operator rotates nothing, nor does a stranger.
        for key in [&operator, &next] {
            let mut by_other = rotate.clone();
            by_other.accounts[0].pubkey = key.pubkey();
            world.refused(by_other, &[key], "Unauthorized");
        }
        let nobody = instructions::rotate_keys(&owner.pubkey(), &address, &Pubkey::default(), &payout);
        world.refused(nobody, &[&owner], "ParameterOutOfBounds");
        // In a pause as well: a stolen key is replaced at once.
        let mut paused = world.clone();
        paused.set_paused(true);
        let back = instructions::rotate_keys(&owner.pubkey(), &address, &operator.pubkey(), &payout);
        Call::new(paused, back, &[&owner]).check();
    }
}

#[test]
fn the_new_keys_act_and_the_old_ones_do_not() {
    let mut stage = Stage::new(3, 1).pass_to(4, &perfect());
    let (world, provider) = (&mut stage.world, stage.provider.clone());
    let (next, payout) = (world.actor("next operator"), world.actor("next payout").pubkey());
    let rotate = instructions::rotate_keys(&provider.owner.pubkey(), &addresses::provider(0), &next.pubkey(), &payout);
    world.must(&[rotate], &[&provider.owner]);
    let claim = instructions::claim_rewards(&provider, 0, &rows([0]));
    world.refused(claim.clone(), &[&provider.operator], "Unauthorized");
    let mut by_next = claim;
    by_next.accounts[0].pubkey = next.pubkey();
    world.must(&[by_next], &[&next]);
    // What was earned before goes to the new wallet as well.
    let mint = world.mint;
    let to = world.put_token_account(&mint, &payout, 0, "");
    let old = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &provider.to);
    world.refused(old, &[], "WrongAccount");
    let pay = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &to);
    world.run(pay);
    assert_eq!(world.balance(&to), 225 * ATH);

    let indexer = world.indexer();
    let rotate = instructions::rotate_keys(&indexer.owner.pubkey(), &addresses::indexer(0), &next.pubkey(), &indexer.payout);
    world.must(&[rotate], &[&indexer.owner]);
    let update = instructions::update_indexer(&indexer, "https://elsewhere.example");
    world.refused(update.clone(), &[&indexer.operator], "Unauthorized");
    let mut by_next = update;
    by_next.accounts[0].pubkey = next.pubkey();
    world.must(&[by_next], &[&next]);
    world.check_books();
}

#[test]
fn a_seat_keeps_the_key_that_committed_and_the_next_epoch_takes_the_new_one() {
    let mut stage = Stage::new(3, 1).pass_to(2, &perfect());
    let at = stage.world.seats(2, 0)[0];
    let checker = stage.checkers[at.checker as usize].clone();
    let next = stage.world.actor("next operator");
    let rotate =
        instructions::rotate_keys(&checker.owner.pubkey(), &addresses::checker(checker.id), &next.pubkey(), &checker.payout);
    stage.world.must(&[rotate], &[&checker.owner]);
    // It committed in `pass_to`, under the old key.
    let report = perfect()(at).expect("a report");
    let reveal = stage.world.reveal_of(&stage.checkers, at, &report);
    let mut by_next = reveal.clone();
    by_next.accounts[0].pubkey = next.pubkey();
    stage.world.enter(3, 1);
    stage.world.refused(by_next, &[&next], "Unauthorized");
    stage.world.must(&[reveal], &[&checker.operator]);

    stage.world.open(3);
    let at = stage.world.seats(3, 0).into_iter().find(|s| s.checker == checker.id).expect("three checkers, three seats");
    let commit = |key: &Key| instructions::commit_report(&key.pubkey(), 0, Some(checker.id), 3, at.seat, [7; 32]);
    stage.world.refused(commit(&checker.operator), &[&checker.operator], "Unauthorized");
    stage.world.must(&[commit(&next)], &[&next]);
}

#[test]
fn an_owner_changes_in_two_steps() {
    let mut world = World::new();
    for (kind, address, owner, operator) in parties(&mut world) {
        let (first, second) = (world.actor("first heir"), world.actor("second heir"));
        // Nobody is named: nobody accepts.
        for key in [&owner, &first] {
            world.refused(instructions::accept_owner(&key.pubkey(), &address), &[key], "NotNamed");
        }
        let name = |next: &Pubkey| instructions::propose_owner(&owner.pubkey(), &address, next);
        let mut by_operator = name(&first.pubkey());
        by_operator.accounts[0].pubkey = operator.pubkey();
        world.refused(by_operator, &[&operator], "Unauthorized");
        world.must(&[name(&first.pubkey())], &[&owner]);
        assert_eq!(keys(&world, &address)[..2], [owner.pubkey(), first.pubkey()], "{kind}");
        // Named again: the first is out. Named as nobody: off.
        world.must(&[name(&second.pubkey())], &[&owner]);
        world.refused(instructions::accept_owner(&first.pubkey(), &address), &[&first], "NotNamed");
        world.must(&[name(&Pubkey::default())], &[&owner]);
        world.refused(instructions::accept_owner(&second.pubkey(), &address), &[&second], "NotNamed");
        Call::new(world.clone(), name(&second.pubkey()), &[&owner]).check();

        world.must(&[name(&second.pubkey())], &[&owner]);
        // Named is not appointed.
        let rotate = |key: &Key| instructions::rotate_keys(&key.pubkey(), &address, &operator.pubkey(), &operator.pubkey());
        world.refused(rotate(&second), &[&second], "Unauthorized");
        let accept = instructions::accept_owner(&second.pubkey(), &address);
        Call::new(world.clone(), accept.clone(), &[&second]).check();
        world.must(std::slice::from_ref(&accept), &[&second]);
        assert_eq!(keys(&world, &address)[..2], [second.pubkey(), Pubkey::default()], "{kind}");
        world.refused(accept, &[&second], "NotNamed");
        // The old owner owns nothing any more; the new one does.
        world.refused(rotate(&owner), &[&owner], "Unauthorized");
        world.refused(name(&owner.pubkey()), &[&owner], "Unauthorized");
        world.must(&[rotate(&second)], &[&second]);
    }
    world.check_books();
}

#[test]
fn only_parties_have_owners() {
    let mut stage = Stage::new(3, 1);
    let world = &mut stage.world;
    let owner = stage.provider.owner.clone();
    let keeper = crate::keepers::name_keeper(world, "keeper");
    let container = addresses::container(0, &datagalax_program_tests::actors::fingerprint(0));
    for account in [addresses::network(), addresses::keeper(&keeper), container, addresses::epoch(0), addresses::class(0)] {
        let rotate = instructions::rotate_keys(&owner.pubkey(), &account, &owner.pubkey(), &owner.pubkey());
        world.refused(rotate, &[&owner], "WrongAccountKind");
        let name = instructions::propose_owner(&owner.pubkey(), &account, &owner.pubkey());
        world.refused(name, &[&owner], "WrongAccountKind");
        let accept = instructions::accept_owner(&owner.pubkey(), &account);
        world.refused(accept, &[&owner], "WrongAccountKind");
    }
}
