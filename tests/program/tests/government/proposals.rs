//! `propose`, `apply_proposal`, `cancel_proposal`: the time lock and the bounds.

use datagalax::{
    constants::MAX_AMOUNT,
    math::Rate,
    state::{Emission, Parameters, Proposal, VestingTerms},
};
use datagalax_program_tests::{
    Settings, World,
    addresses::{self, Vault},
    instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
    tokens::MintData,
    world::address_of,
};
use solana_signer::Signer;

/// A proposal that leaves everything as it is.
pub fn unchanged(world: &World) -> Proposal {
    let network = world.network();
    Proposal {
        parameters: network.parameters,
        emission: network.emission,
        vesting: VestingTerms::default(),
        treasury: network.treasury,
        guardian: network.guardian,
        epoch_length: network.grids[0].length,
        reserved: 0,
    }
}

/// Proposes.
#[track_caller]
pub fn propose(world: &mut World, proposal: Proposal) {
    let (instruction, authority) = (instructions::propose(world, proposal), world.authority.clone());
    world.must(&[instruction], &[&authority]);
}

/// Applies what is pending.
#[track_caller]
pub fn apply(world: &mut World) {
    let treasury = world.network().pending.treasury;
    world.run(instructions::apply_proposal(&treasury));
}

/// Changes parameters by a proposal, its time lock waited out.
#[track_caller]
pub fn enact(world: &mut World, change: impl FnOnce(&mut Proposal)) {
    let mut proposal = unchanged(world);
    change(&mut proposal);
    propose(world, proposal);
    world.wait_until(world.network().pending_at);
    apply(world);
}

fn something_else(world: &mut World) -> Proposal {
    let (mint, owner) = (world.mint, address_of(&[b"new treasury"]));
    let treasury = world.put_token_account(&mint, &owner, 0, "");
    Proposal {
        parameters: Parameters { ticket_price: 7 * ATH, time_lock: 50, keeper_fee: 3, ..world.network().parameters },
        emission: Emission { amount: 5 * ATH, decay_bps: 100, decay_every: 10, next_decay: 10, reserved: 0 },
        vesting: VestingTerms {
            immediate_bps: 10_000,
            short_days: 1,
            long_days: 1,
            // The program sets these itself.
            id: 77,
            from_day: 1,
            ..VestingTerms::default()
        },
        treasury,
        guardian: address_of(&[b"new guardian"]),
        epoch_length: 59,
        reserved: 0,
    }
}

#[test]
fn what_is_proposed_applies_when_its_time_lock_has_run_out_to_the_second() {
    let mut world = World::new();
    let (before, proposal) = (world.network(), something_else(&mut world));
    let proposed_at = world.now();
    propose(&mut world, proposal);
    let network = world.network();
    assert_eq!((network.pending, network.pending_at), (proposal, proposed_at + 60));
    assert_eq!((network.parameters, network.treasury), (before.parameters, before.treasury), "nothing has changed yet");

    let apply = instructions::apply_proposal(&proposal.treasury);
    world.refused(apply.clone(), &[], "TimeLocked");
    world.set_time(proposed_at + 59);
    world.refused(apply.clone(), &[], "TimeLocked");
    world.set_time(proposed_at + 60);
    // Anybody may.
    world.run(apply.clone());
    let network = world.network();
    assert_eq!((network.parameters, network.emission), (proposal.parameters, proposal.emission));
    assert_eq!((network.treasury, network.guardian), (proposal.treasury, proposal.guardian));
    assert_eq!((network.authority, network.pending_at), (before.authority, 0));
    let today = (world.now() / 86_400) as u32;
    let terms = network.vesting_terms[1];
    assert_eq!((terms.id, terms.from_day, terms.immediate_bps), (2, today + 1, 10_000));
    assert_eq!(network.vesting_terms[0], before.vesting_terms[0]);
    world.check_books();

    // Twice.
    world.refused(apply, &[], "NothingPending");
}

#[test]
fn the_lock_in_force_counts_and_not_the_proposed_one() {
    let mut world = World::new();
    let mut proposal = unchanged(&world);
    proposal.parameters.time_lock = 0;
    propose(&mut world, proposal);
    let proposed_at = world.now();
    world.set_time(proposed_at + 59);
    world.refused(instructions::apply_proposal(&proposal.treasury), &[], "TimeLocked");
    world.set_time(proposed_at + 60);
    apply(&mut world);

    // Without a lock a proposal applies at once; a longer lock holds from the next proposal on.
    proposal.parameters.time_lock = 30 * 86_400;
    propose(&mut world, proposal);
    apply(&mut world);
    propose(&mut world, proposal);
    let proposed_at = world.now();
    world.set_time(proposed_at + 30 * 86_400 - 1);
    world.refused(instructions::apply_proposal(&proposal.treasury), &[], "TimeLocked");
    world.set_time(proposed_at + 30 * 86_400);
    apply(&mut world);
}

#[test]
fn a_new_proposal_replaces_the_pending_one_and_its_lock_begins_anew() {
    let mut world = World::new();
    let first = something_else(&mut world);
    propose(&mut world, first);
    let begin = world.now();
    world.set_time(begin + 60);
    let mut second = unchanged(&world);
    second.parameters.ticket_price = 9 * ATH;
    propose(&mut world, second);
    world.refused(instructions::apply_proposal(&first.treasury), &[], "TimeLocked");
    world.set_time(begin + 120);
    world.refused(instructions::apply_proposal(&first.treasury), &[], "WrongAccount");
    apply(&mut world);
    assert_eq!((world.network().parameters, world.network().emission), (second.parameters, second.emission));
}

#[test]
fn cancel_drops_what_was_proposed() {
    let mut world = World::new();
    let authority = world.authority.clone();
    let cancel = instructions::cancel_proposal(&world);
    world.refused(cancel.clone(), &[&authority], "NothingPending");
    let (before, proposal) = (world.network(), something_else(&mut world));
    propose(&mut world, proposal);
    let ready = world.now() + 60;
    world.set_time(ready);
    world.must(std::slice::from_ref(&cancel), &[&authority]);
    world.refused(instructions::apply_proposal(&proposal.treasury), &[], "NothingPending");
    world.refused(cancel, &[&authority], "NothingPending");
    assert_eq!((world.network().parameters, world.network().pending_at), (before.parameters, 0));
}

#[test]
fn only_the_authority_proposes_and_cancels() {
    let mut world = World::new();
    let proposal = something_else(&mut world);
    let stranger = world.actor("stranger");
    let guardian = world.network().guardian;
    for key in [stranger.pubkey(), guardian] {
        let mut instruction = instructions::propose(&world, proposal);
        instruction.accounts[0].pubkey = key;
        world.refused(instruction, &[&stranger], "Unauthorized");
    }
    propose(&mut world, proposal);
    for key in [stranger.pubkey(), guardian] {
        let mut instruction = instructions::cancel_proposal(&world);
        instruction.accounts[0].pubkey = key;
        world.refused(instruction, &[&stranger], "Unauthorized");
    }
}

#[test]
fn propose_refuses_what_every_instruction_must() {
    let mut world = World::new();
    let (proposal, authority) = (something_else(&mut world), world.authority.clone());
    let instruction = instructions::propose(&world, proposal);
    Call::new(world, instruction, &[&authority]).check();
}

#[test]
fn apply_proposal_refuses_what_every_instruction_must() {
    let mut world = Stage::new(3, 2).pass_to(4, &perfect()).world;
    let proposal = something_else(&mut world);
    let proposal = Proposal { epoch_length: 60, ..proposal };
    propose(&mut world, proposal);
    let ready = world.now() + 60;
    world.set_time(ready);
    Call::new(world, instructions::apply_proposal(&proposal.treasury), &[]).check();
}

#[test]
fn cancel_proposal_refuses_what_every_instruction_must() {
    let mut world = World::new();
    let (proposal, authority) = (something_else(&mut world), world.authority.clone());
    propose(&mut world, proposal);
    let instruction = instructions::cancel_proposal(&world);
    Call::new(world, instruction, &[&authority]).check();
}

#[test]
fn a_treasury_must_be_a_token_account_of_the_mint_when_it_is_applied() {
    let mut world = World::new();
    let (mint, owner) = (world.mint, address_of(&[b"somebody"]));
    let other_mint = address_of(&[b"other mint"]);
    world.put_mint(other_mint, MintData::default());
    let foreign = world.put_token_account(&other_mint, &owner, 0, "");
    let own = world.put_token_account(&mint, &owner, 0, "");
    let old = world.network().treasury;

    let proposal = Proposal { treasury: foreign, ..unchanged(&world) };
    propose(&mut world, proposal);
    let ready = world.now() + 60;
    world.set_time(ready);
    world.refused(instructions::apply_proposal(&foreign), &[], "WrongAccount");
    // Another account than the proposed one, the one in force included.
    for account in [own, old, addresses::vault(Vault::Rewards)] {
        world.refused(instructions::apply_proposal(&account), &[], "WrongAccount");
    }
    // The network's own accounts, whose ledgers would not book what is paid to them.
    let odd = world.put_token_account(&mint, &addresses::network(), 0, "odd");
    for treasury in [addresses::vault(Vault::Stake), addresses::vault(Vault::Rewards), odd] {
        let mut world = world.clone();
        let proposal = Proposal { treasury, ..unchanged(&world) };
        propose(&mut world, proposal);
        world.wait_until(world.network().pending_at);
        world.refused(instructions::apply_proposal(&treasury), &[], "WrongAccount");
    }
    // One that is closed by now, and a mint, whose bytes read as something else.
    let proposal = Proposal { treasury: own, ..unchanged(&world) };
    propose(&mut world, proposal);
    world.set_time(ready + 60);
    let mut closed = world.clone();
    closed.put(own, addresses::SYSTEM_PROGRAM, vec![]);
    assert!(closed.send(&[instructions::apply_proposal(&own)], &[]).is_err(), "a closed account");
    assert!(world.send(&[instructions::apply_proposal(&mint)], &[]).is_err(), "a mint");
    apply(&mut world);
    assert_eq!(world.network().treasury, own);
}

/// One change of a proposal.
type Change = fn(&mut Proposal);

#[test]
fn every_parameter_has_bounds() {
    const OUT: &str = "ParameterOutOfBounds";
    const FIT: &str = "WindowsDoNotFit";
    // What is refused, and beside it the nearest value that is not.
    let changes: &[(&str, &str, Change, Change)] = &[
        (
            "shortest epoch",
            OUT,
            |p| p.epoch_length = 19,
            |p| (p.epoch_length, p.parameters.reveal_window, p.parameters.commit_lead) = (20, 9, 4),
        ),
        (
            "longest epoch",
            OUT,
            |p| p.epoch_length = 86_401,
            |p| {
                p.epoch_length = 86_400;
                (p.parameters.case_window, p.parameters.unbonding) = (8 * 86_400, 12 * 86_400);
            },
        ),
        ("ticket price of zero", OUT, |p| p.parameters.ticket_price = 0, |p| p.parameters.ticket_price = 1),
        ("ticket price", OUT, |p| p.parameters.ticket_price = MAX_AMOUNT + 1, |p| p.parameters.ticket_price = MAX_AMOUNT),
        (
            "rate",
            OUT,
            |p| p.parameters.max_rate = Rate { hi: MAX_AMOUNT + 1, lo: 0 },
            |p| p.parameters.max_rate = Rate { hi: MAX_AMOUNT, lo: u64::MAX },
        ),
        ("seat pay", OUT, |p| p.parameters.max_seat_pay = MAX_AMOUNT + 1, |p| p.parameters.max_seat_pay = MAX_AMOUNT),
        ("keeper fee", OUT, |p| p.parameters.keeper_fee = MAX_AMOUNT + 1, |p| p.parameters.keeper_fee = MAX_AMOUNT),
        ("indexer stake", OUT, |p| p.parameters.indexer_stake = MAX_AMOUNT + 1, |p| p.parameters.indexer_stake = 0),
        ("closed breaker 0", OUT, |p| p.parameters.breaker_limits[0] = 0, |p| p.parameters.breaker_limits[0] = 1),
        ("closed breaker 1", OUT, |p| p.parameters.breaker_limits[1] = 0, |p| p.parameters.breaker_limits[1] = 1),
        ("closed breaker 2", OUT, |p| p.parameters.breaker_limits[2] = 0, |p| p.parameters.breaker_limits[2] = 1),
        (
            "breaker 0",
            OUT,
            |p| p.parameters.breaker_limits[0] = MAX_AMOUNT + 1,
            |p| p.parameters.breaker_limits = [MAX_AMOUNT; 3],
        ),
        ("breaker 2", OUT, |p| p.parameters.breaker_limits[2] = u64::MAX, |p| p.parameters.breaker_limits = [MAX_AMOUNT; 3]),
        ("no draw delay", OUT, |p| p.parameters.draw_delay = 0, |p| p.parameters.draw_delay = 1),
        ("draw delay", OUT, |p| p.parameters.draw_delay = 257, |p| p.parameters.draw_delay = 256),
        // 7 s lie between the end of measuring and the draw: 22 + 7 < 30.
        ("commit lead", FIT, |p| p.parameters.commit_lead = 23, |p| p.parameters.commit_lead = 22),
        ("no reveal window", OUT, |p| p.parameters.reveal_window = 0, |p| p.parameters.reveal_window = 1),
        ("reveal window", FIT, |p| p.parameters.reveal_window = 30, |p| p.parameters.reveal_window = 29),
        (
            "reveal window of an odd epoch",
            FIT,
            |p| (p.epoch_length, p.parameters.reveal_window) = (59, 29),
            |p| (p.epoch_length, p.parameters.reveal_window) = (59, 28),
        ),
        ("short case window", FIT, |p| p.parameters.case_window = 479, |p| p.parameters.case_window = 480),
        (
            "long case window",
            FIT,
            |p| (p.parameters.case_window, p.parameters.unbonding) = (60_001, 90_000),
            |p| (p.parameters.case_window, p.parameters.unbonding) = (60_000, 60_240),
        ),
        ("unbonding", FIT, |p| p.parameters.unbonding = 719, |p| p.parameters.unbonding = 720),
        ("no time to start", OUT, |p| p.parameters.start_timeout = 0, |p| p.parameters.start_timeout = 1),
        ("start time-out", OUT, |p| p.parameters.start_timeout = 86_401, |p| p.parameters.start_timeout = 86_400),
        ("time lock", OUT, |p| p.parameters.time_lock = 30 * 86_400 + 1, |p| p.parameters.time_lock = 30 * 86_400),
        ("beacon modulus", OUT, |p| p.parameters.beacon_modulus = 0, |p| p.parameters.beacon_modulus = 1),
        ("no stake", OUT, |p| p.parameters.stake_coefficient_bps = 0, |p| p.parameters.stake_coefficient_bps = 1),
        (
            "stake",
            OUT,
            |p| p.parameters.stake_coefficient_bps = 1_000_001,
            |p| p.parameters.stake_coefficient_bps = 1_000_000,
        ),
        (
            "shares above one",
            OUT,
            |p| p.parameters.container_share_bps += 1,
            |p| {
                p.parameters.container_share_bps += 1;
                p.parameters.treasury_share_bps -= 1;
            },
        ),
        (
            "shares below one",
            OUT,
            |p| p.parameters.checker_share_bps -= 1,
            |p| {
                (p.parameters.container_share_bps, p.parameters.checker_share_bps, p.parameters.treasury_share_bps) =
                    (10_000, 0, 0)
            },
        ),
        ("treasury share", OUT, |p| p.parameters.treasury_share_bps = 501, |p| p.parameters.treasury_share_bps = 500),
        ("lease fee", OUT, |p| p.parameters.lease_fee_bps = 10_001, |p| p.parameters.lease_fee_bps = 10_000),
        ("indexer share", OUT, |p| p.parameters.indexer_share_bps = 10_001, |p| p.parameters.indexer_share_bps = 10_000),
        ("availability", OUT, |p| p.parameters.availability_threshold = 101, |p| p.parameters.availability_threshold = 100),
        ("capacity", OUT, |p| p.parameters.capacity_threshold = 101, |p| p.parameters.capacity_threshold = 100),
        ("breach", OUT, |p| p.parameters.breach_threshold = 101, |p| p.parameters.breach_threshold = 100),
        ("tolerance", OUT, |p| p.parameters.tolerance = 101, |p| p.parameters.tolerance = 100),
        ("tokens", OUT, |p| p.parameters.tokens_required = 2, |p| p.parameters.tokens_required = 1),
        ("reserved first byte", OUT, |p| p.parameters.reserved[0] = 1, |p| p.parameters.reserved[0] = 0),
        ("reserved last byte", OUT, |p| p.parameters.reserved[36] = 1, |p| p.parameters.reserved[36] = 0),
        ("emission", OUT, |p| p.emission.amount = MAX_AMOUNT + 1, |p| p.emission.amount = MAX_AMOUNT),
        ("decay", OUT, |p| p.emission.decay_bps = 10_001, |p| p.emission.decay_bps = 10_000),
        ("emission's reserved", OUT, |p| p.emission.reserved = 1, |p| p.emission.decay_every = u32::MAX),
        ("proposal's reserved", OUT, |p| p.reserved = 1, |p| p.guardian = Default::default()),
        ("vesting above one", OUT, |p| p.vesting = terms(10_000, 0, 1, 1, 1), |p| p.vesting = terms(9_999, 0, 1, 1, 1)),
        (
            "vesting below one",
            OUT,
            |p| p.vesting = terms(3_000, 3_000, 90, 3_999, 180),
            |p| p.vesting = terms(3_000, 3_000, 90, 4_000, 180),
        ),
        ("vesting of no days", OUT, |p| p.vesting = terms(10_000, 0, 0, 0, 1), |p| p.vesting = terms(10_000, 0, 1, 0, 1)),
        (
            "vesting of no long days",
            OUT,
            |p| p.vesting = terms(10_000, 0, 1, 0, 0),
            |p| p.vesting = terms(10_000, 0, 1, 0, 1),
        ),
        (
            "vesting of many days",
            OUT,
            |p| p.vesting = terms(0, 10_000, 181, 0, 1),
            |p| p.vesting = terms(0, 10_000, 180, 0, 1),
        ),
        (
            "vesting of many long days",
            OUT,
            |p| p.vesting = terms(0, 0, 1, 10_000, 181),
            |p| p.vesting = terms(0, 0, 1, 10_000, 180),
        ),
    ];
    let base = World::new();
    for (what, name, wrong, right) in changes {
        let (mut world, mut proposal) = (base.clone(), unchanged(&base));
        wrong(&mut proposal);
        let (instruction, authority) = (instructions::propose(&world, proposal), world.authority.clone());
        match world.send(&[instruction], &[&authority]) {
            Ok(_) => panic!("{what}: was done"),
            Err(failure) => assert_eq!(failure.name, *name, "{what}"),
        }
        // The nearest value passes both gates, and the network lives on with it.
        let mut proposal = unchanged(&base);
        right(&mut proposal);
        propose(&mut world, proposal);
        world.wait_until(world.network().pending_at);
        apply(&mut world);
        assert_eq!(world.network().parameters, proposal.parameters, "{what}");
        assert_eq!(world.network().grids[0].length, proposal.epoch_length, "{what}");
    }
}

fn terms(immediate_bps: u16, short_bps: u16, short_days: u16, long_bps: u16, long_days: u16) -> VestingTerms {
    VestingTerms { id: 0, immediate_bps, short_bps, short_days, long_bps, long_days, from_day: 0 }
}

#[test]
fn bounds_are_checked_again_when_a_proposal_is_applied() {
    // A later version of the program may have narrower bounds than the one it was proposed under.
    let mut world = World::new();
    let proposal = unchanged(&world);
    propose(&mut world, proposal);
    let ready = world.now() + 60;
    world.set_time(ready);
    world.patch_as::<datagalax::state::Network>(&addresses::network(), |n| n.pending.parameters.tolerance = 101);
    world.refused(instructions::apply_proposal(&proposal.treasury), &[], "ParameterOutOfBounds");
    world.patch_as::<datagalax::state::Network>(&addresses::network(), |n| n.pending.parameters.tolerance = 100);
    world.patch_as::<datagalax::state::Network>(&addresses::network(), |n| n.pending.parameters.reveal_window = 30);
    world.refused(instructions::apply_proposal(&proposal.treasury), &[], "WindowsDoNotFit");
}

#[test]
fn a_decay_that_is_named_for_the_past_is_taken_once() {
    let mut world = World::with(Settings { start_in: 10, ..Settings::default() });
    world.advance(0);
    world.advance(1);
    world.advance(2);
    enact(&mut world, |p| {
        p.emission = Emission { amount: 1_000 * ATH, decay_bps: 5_000, decay_every: 1, next_decay: 0, reserved: 0 };
    });
    assert_eq!(world.network().emission.next_decay, 3, "not before the epoch that follows the current one");
    world.advance(3);
    assert_eq!(world.epoch(3).pool, 500 * ATH);
    world.advance(5);
    assert_eq!(world.epoch(5).pool, 125 * ATH, "once for each epoch that passed");
    world.check_books();
}
