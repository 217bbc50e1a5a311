//! `propose_authority`, `accept_authority`: a hand-over in two steps.

use datagalax_program_tests::{World, instructions, refusals::Call, world::Key};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::proposals::unchanged;

fn name(world: &mut World, by: &Key, next: &Pubkey) {
    let mut instruction = instructions::propose_authority(world, next);
    instruction.accounts[0].pubkey = by.pubkey();
    world.must(&[instruction], &[by]);
}

#[test]
fn the_named_key_becomes_the_authority_when_it_accepts_and_not_before() {
    let mut world = World::new();
    let (old, next) = (world.authority.clone(), world.actor("next authority"));
    name(&mut world, &old, &next.pubkey());
    assert_eq!((world.network().authority, world.network().pending_authority), (old.pubkey(), next.pubkey()));

    // Named is not appointed: only the old one governs yet.
    let mut early = instructions::unpause(&world);
    early.accounts[0].pubkey = next.pubkey();
    world.refused(early, &[&next], "Unauthorized");
    let proposal = unchanged(&world);
    let propose = instructions::propose(&world, proposal);
    world.must(std::slice::from_ref(&propose), &[&old]);

    world.must(&[instructions::accept_authority(&next.pubkey())], &[&next]);
    assert_eq!((world.network().authority, world.network().pending_authority), (next.pubkey(), Pubkey::default()));
    world.refused(propose.clone(), &[&old], "Unauthorized");
    let mut by_next = propose;
    by_next.accounts[0].pubkey = next.pubkey();
    world.must(&[by_next], &[&next]);

    // Twice, and the old one cannot take it back.
    world.refused(instructions::accept_authority(&next.pubkey()), &[&next], "NotNamed");
    world.refused(instructions::accept_authority(&old.pubkey()), &[&old], "NotNamed");
    world.check_books();
}

#[test]
fn only_the_last_named_key_may_accept() {
    let mut world = World::new();
    let authority = world.authority.clone();
    let (first, second) = (world.actor("first"), world.actor("second"));
    // Nobody is named: nobody accepts, not even the address of zeros.
    for key in [first.pubkey(), authority.pubkey()] {
        world.refused(instructions::accept_authority(&key), &[&first, &authority], "NotNamed");
    }
    name(&mut world, &authority, &first.pubkey());
    name(&mut world, &authority, &second.pubkey());
    world.refused(instructions::accept_authority(&first.pubkey()), &[&first], "NotNamed");
    // Named again as nobody: the hand-over is off.
    name(&mut world, &authority, &Pubkey::default());
    world.refused(instructions::accept_authority(&second.pubkey()), &[&second], "NotNamed");
    assert_eq!(world.network().authority, authority.pubkey());
}

#[test]
fn only_the_authority_names_the_next() {
    let mut world = World::new();
    let stranger = world.actor("stranger");
    for key in [stranger.pubkey(), world.network().guardian] {
        let mut instruction = instructions::propose_authority(&world, &stranger.pubkey());
        instruction.accounts[0].pubkey = key;
        world.refused(instruction, &[&stranger], "Unauthorized");
    }
}

#[test]
fn both_steps_refuse_what_every_instruction_must() {
    let mut world = World::new();
    let (authority, next) = (world.authority.clone(), world.actor("next"));
    let propose = instructions::propose_authority(&world, &next.pubkey());
    Call::new(world.clone(), propose, &[&authority]).check();
    name(&mut world, &authority, &next.pubkey());
    Call::new(world, instructions::accept_authority(&next.pubkey()), &[&next]).check();
}
