//! `update_container`, `rotate_container_operator`.

use datagalax::{constants::MAX_AMOUNT, instructions::UpdateContainerArgs};
use datagalax_program_tests::{
    actors::fingerprint,
    addresses, instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
    world::named_key,
};
use solana_signer::Signer;

use crate::court::{address, container, leased, open, row};

fn args() -> UpdateContainerArgs {
    UpdateContainerArgs {
        spec_hash: [8; 32],
        price_per_hour: 3 * ATH,
        minimum_lease: 900,
        accepting: 0,
        endpoint: "https://relay.example/7".into(),
    }
}

#[test]
fn update_container_replaces_what_the_hot_key_may_change() {
    let mut stage = Stage::new(3, 2);
    let before = container(&stage, 0);
    let update = instructions::update_container(&stage.provider, &fingerprint(0), args());
    stage.world.must(&[update], &[&stage.provider.operator]);

    let after = container(&stage, 0);
    assert_eq!((after.spec_hash, after.price_per_hour, after.minimum_lease), ([8; 32], 3 * ATH, 900));
    assert_eq!((after.accepting, after.endpoint()), (0, "https://relay.example/7"));
    let kept = |c: datagalax::state::Container| (c.operator, c.class, c.gpus, c.row, c.block, c.locked_stake, c.region);
    assert_eq!(kept(after), kept(before));
    assert_eq!(container(&stage, 1).price_per_hour, 2 * ATH, "its neighbour is as it was");

    // The owner may as well; a shorter endpoint leaves nothing of the longer one.
    let mut again = instructions::update_container(
        &stage.provider,
        &fingerprint(0),
        UpdateContainerArgs { endpoint: "é".into(), ..args() },
    );
    again.accounts[0].pubkey = stage.provider.owner.pubkey();
    stage.world.must(&[again], &[&stage.provider.owner]);
    let after = container(&stage, 0);
    assert_eq!((after.endpoint(), &after.endpoint[2..]), ("é", &[0; 126][..]));
    stage.world.check_books();
}

#[test]
fn update_container_refuses() {
    let mut stage = Stage::new(3, 1);
    let other = stage.world.provider_with(0);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let update = |args| instructions::update_container(provider, &fingerprint(0), args);
    let refused: [(&str, UpdateContainerArgs); 5] = [
        ("BadContainer", UpdateContainerArgs { price_per_hour: MAX_AMOUNT + 1, ..args() }),
        ("BadContainer", UpdateContainerArgs { minimum_lease: 599, ..args() }),
        ("BadContainer", UpdateContainerArgs { accepting: 2, ..args() }),
        ("BadEndpoint", UpdateContainerArgs { endpoint: String::new(), ..args() }),
        ("BadEndpoint", UpdateContainerArgs { endpoint: "x".repeat(129), ..args() }),
    ];
    for (name, args) in refused {
        world.refused(update(args), &[&provider.operator], name);
    }
    let mut wrong = update(args());
    *wrong.data.last_mut().expect("the endpoint's last byte") = 0xff;
    world.refused(wrong, &[&provider.operator], "InvalidInstructionData");

    // Another provider's operator; that one's own provider, but this container.
    let mut wrong = update(args());
    wrong.accounts[0].pubkey = other.operator.pubkey();
    world.refused(wrong.clone(), &[&other.operator], "Unauthorized");
    wrong.accounts[1].pubkey = addresses::provider(other.id);
    world.refused(wrong, &[&other.operator], "WrongAccount");

    // The ends of each range are inside; a pause is about money, not about an address.
    let most = UpdateContainerArgs {
        price_per_hour: MAX_AMOUNT,
        minimum_lease: 600,
        accepting: 1,
        endpoint: "x".repeat(128),
        ..args()
    };
    world.set_paused(true);
    world.must(&[update(most)], &[&provider.operator]);
    world.set_paused(false);
    Call::new(world.clone(), update(args()), &[&provider.operator]).check();
}

#[test]
fn rotate_container_operator_hands_leases_to_another_key() {
    let mut stage = Stage::new(3, 1).pass_to(3, &perfect());
    let next = named_key("next container operator");
    stage.world.give_lamports(&next.pubkey());
    let user = stage.world.user();
    let lease = open(&mut stage, &user, 0, 1);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let rotate = instructions::rotate_container_operator(provider, &fingerprint(0), &next.pubkey());
    let before = world.container(0, &fingerprint(0));
    world.must(&[rotate], &[&provider.owner]);
    let after = world.container(0, &fingerprint(0));
    assert_eq!(after.operator, next.pubkey());
    assert_eq!((after.price_per_hour, after.endpoint()), (before.price_per_hour, before.endpoint()));

    // What was stolen is worth nothing any more.
    let stolen = world.container_operator(&fingerprint(0));
    let start = instructions::start_lease(world, &stolen.pubkey(), &lease);
    world.refused(start, &[&stolen], "Unauthorized");
    let start = instructions::start_lease(world, &next.pubkey(), &lease);
    world.must(&[start], &[&next]);
    world.check_books();
}

#[test]
fn rotate_container_operator_refuses() {
    let mut stage = Stage::new(3, 1);
    let other = stage.world.provider_with(0);
    let (world, provider) = (&mut stage.world, &stage.provider);
    let next = named_key("next container operator").pubkey();
    let valid = instructions::rotate_container_operator(provider, &fingerprint(0), &next);

    // The hot keys may be what was stolen: neither the provider's operator nor the container's may rotate.
    let own = world.container_operator(&fingerprint(0));
    for key in [&provider.operator, &own, &other.owner] {
        let mut wrong = valid.clone();
        wrong.accounts[0].pubkey = key.pubkey();
        world.refused(wrong, &[key], "Unauthorized");
    }
    let mut wrong = valid.clone();
    wrong.accounts[0].pubkey = other.owner.pubkey();
    wrong.accounts[1].pubkey = addresses::provider(other.id);
    world.refused(wrong, &[&other.owner], "WrongAccount");
    world.set_paused(true);
    let mut paused = world.clone();
    paused.must(std::slice::from_ref(&valid), &[&provider.owner]);
    world.set_paused(false);
    Call::new(world.clone(), valid, &[&provider.owner]).check();
}

#[test]
fn a_lease_keeps_the_price_it_was_opened_at() {
    let mut stage = Stage::new(3, 1).pass_to(3, &perfect());
    let (_, lease) = leased(&mut stage, 0);
    let dearer = UpdateContainerArgs { price_per_hour: 50 * ATH, accepting: 1, ..args() };
    let update = instructions::update_container(&stage.provider, &fingerprint(0), dearer);
    stage.world.must(&[update], &[&stage.provider.operator]);
    let lease: datagalax::state::Lease = stage.world.read(&lease);
    assert_eq!((lease.price_per_hour, lease.minimum_seconds, lease.container), (2 * ATH, 600, address(&stage.provider, 0)));
    assert_eq!(row(&stage.world, 0).status, datagalax::state::Row::LIVE);
}
