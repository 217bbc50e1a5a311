//! Nothing that a proposal changes reaches back: what an epoch, a ticket, a request or a lease was fixed to, it keeps.

use bytemuck::bytes_of;
use datagalax::{
    instructions::OpenLeaseArgs,
    state::{Epoch, Lease, Parameters, Ticket},
};
use datagalax_program_tests::{
    Report, World,
    addresses::{self, Vault},
    epochs::all,
    instructions,
    settings::ATH,
    stage::{Stage, perfect},
};
use solana_signer::Signer;

use crate::proposals::{apply, enact, propose, unchanged};

/// Rates, thresholds, tolerance, shares, caps, fees and emission, all other than before.
fn harsher(parameters: &mut Parameters) {
    parameters.availability_threshold = 90;
    parameters.capacity_threshold = 100;
    parameters.breach_threshold = 90;
    parameters.tolerance = 0;
    parameters.tokens_required = 1;
    (parameters.container_share_bps, parameters.checker_share_bps, parameters.treasury_share_bps) = (1_000, 1_000, 8_000);
    parameters.max_seat_pay = 1;
    parameters.max_rate = datagalax::math::Rate { hi: 0, lo: 1 };
    parameters.keeper_fee = 5;
    parameters.case_window = 600;
    parameters.unbonding = 900;
}

/// A proposal, harsh or without effect, is applied between advance and draw of epoch 3; then everything of epoch 3, with epoch 4
/// drawn before its tally.
fn epoch_three(harsh: bool) -> Stage {
    let votes = all(Report::flat(85, 99, 9));
    let mut stage = Stage::new(3, 2).pass_to(2, &votes);
    let mut proposal = unchanged(&stage.world);
    if harsh {
        harsher(&mut proposal.parameters);
        proposal.emission.amount = 10 * ATH;
    }
    propose(&mut stage.world, proposal);
    let world = &mut stage.world;
    world.reveal_all(&stage.checkers, 2, &votes);
    world.advance(3);
    world.patch_as::<datagalax::state::Network>(&addresses::network(), |n| n.pending_at = 1);
    apply(world);
    world.draw(3);
    world.seat(3, 0);
    world.tally_all(2);
    world.commit_all(&stage.checkers, 3, &votes);
    world.reveal_all(&stage.checkers, 3, &votes);
    world.open(4);
    world.tally_all(3);
    stage
}

#[test]
fn an_epoch_under_way_is_paid_and_judged_by_what_it_was_fixed_to() {
    let (plain, harsh) = (epoch_three(false), epoch_three(true));
    let (epoch, same) = (plain.world.epoch(3), harsh.world.epoch(3));
    assert_eq!(bytes_of::<Epoch>(&epoch), bytes_of(&same), "the whole epoch");
    // 850 ATH x 0.85 x 0.99 of 375 ATH a row; three seats share 200 ATH.
    for world in [&plain.world, &harsh.world] {
        let rows: Vec<u64> = world.block(0).rows[..2].iter().map(|r| r.accrued).collect();
        assert_eq!(rows, [375 * ATH * 85 * 99 / 10_000; 2]);
        let pay: Vec<u64> = world.tickets().iter().map(|t| t.accrued).collect();
        assert_eq!(pay, [200 * ATH / 3; 3]);
        world.check_books();
    }

    // The next epoch goes by the new ones.
    let mut harsh = harsh;
    let next = harsh.world.epoch(4);
    assert_eq!((next.pool, next.container_pool, next.checker_pool, next.treasury_pool), (10 * ATH, ATH, ATH, 8 * ATH));
    assert_eq!((next.thresholds.availability, next.thresholds.tolerance, next.thresholds.tokens_required), (90, 0, 1));
    assert_eq!((next.seat_pay, next.keeper_fee, next.rate.hi, next.rate.lo), (1, 5, 0, 1));
    let votes = all(Report::flat(85, 99, 9));
    harsh.world.commit_all(&harsh.checkers, 4, &votes);
    let before = harsh.world.accrued(0);
    harsh.world.finish(&harsh.checkers, 4, &votes);
    assert_eq!(harsh.world.accrued(0), before, "85 is below the new threshold of 90");
}

#[test]
fn a_ticket_keeps_the_price_it_was_bought_for_and_the_time_it_was_asked_back_under() {
    let mut stage = Stage::new(5, 1).pass_to(2, &perfect());
    let leave = instructions::leave_tickets(&stage.checkers[0], &[0]);
    stage.world.must(&[leave], &[&stage.checkers[0].owner]);
    let asked_at = stage.world.now();
    enact(&mut stage.world, |p| {
        p.parameters.ticket_price = 250 * ATH;
        p.parameters.unbonding = 100_000;
    });
    assert!(stage.world.tickets().iter().all(|t: &Ticket| t.price == 100 * ATH), "tickets held");
    let second = instructions::register_tickets(&stage.world, &stage.checkers[1], 1);
    stage.world.must(&[second], &[&stage.checkers[1].owner]);
    assert_eq!(stage.world.tickets()[5].price, 250 * ATH);
    assert_eq!(stage.world.checker(1).staked, 350 * ATH);
    let late = instructions::leave_tickets(&stage.checkers[2], &[2]);
    stage.world.must(&[late], &[&stage.checkers[2].owner]);
    assert_eq!(i64::from(stage.world.tickets()[2].unlocks_at), stage.world.now() + 100_000);

    let current = stage.world.network().current_epoch;
    let next = u32::try_from((stage.world.now() - stage.world.start) / 60).expect("after the start") + 1;
    assert!(next > current);
    stage.world.open(next);
    let withdraw = instructions::withdraw_tickets(&stage.world, &stage.checkers[0], &[0]);
    stage.world.set_time(asked_at + 719);
    stage.world.refused(withdraw.clone(), &[], "TicketResting");
    stage.world.set_time(asked_at + 720);
    stage.world.run(withdraw);
    assert_eq!(stage.world.balance(&stage.checkers[0].to), 100 * ATH);
    stage.world.check_books();
}

#[test]
fn a_request_to_unstake_keeps_its_time_when_the_wait_becomes_longer_or_shorter() {
    for (before, after) in [(720u32, 10_000u32), (10_000, 720)] {
        let mut world = World::new();
        enact(&mut world, |p| p.parameters.unbonding = before);
        let (provider, indexer) = (world.provider_with(100 * ATH), world.indexer());
        let ask = instructions::request_unstake(&provider, 40 * ATH);
        let leave = instructions::leave_indexer(&indexer);
        world.must(&[ask.clone(), leave], &[&provider.owner, &indexer.owner]);
        let asked_at = world.now();
        enact(&mut world, |p| p.parameters.unbonding = after);
        let ask_later = instructions::request_unstake(&provider, 30 * ATH);
        world.must(&[ask_later], &[&provider.owner]);
        let asked_later_at = world.now();

        let (id, address) = (addresses::provider(provider.id), addresses::indexer(indexer.id));
        let mut due: Vec<(i64, u64)> =
            vec![(asked_at + i64::from(before), 40 * ATH), (asked_later_at + i64::from(after), 30 * ATH)];
        due.sort_unstable();
        let pay = instructions::withdraw(&world, &id, Vault::Stake, &provider.to);
        let mut paid = 0;
        for (at, amount) in due {
            world.set_time(at - 1);
            world.refused(pay.clone(), &[], "NothingToPay");
            world.set_time(at);
            world.run(pay.clone());
            paid += amount;
            assert_eq!(world.balance(&provider.to), paid);
            world.check_books();
        }
        let pay = instructions::withdraw(&world, &address, Vault::Stake, &indexer.to);
        let mut early = world.clone();
        early.set_time(asked_at + i64::from(before) - 1);
        early.refused(pay.clone(), &[], "NothingToPay");
        early.set_time(asked_at + i64::from(before));
        early.run(pay);
        assert_eq!(early.balance(&indexer.to), 50 * ATH);
        early.check_books();
    }
}

#[test]
fn a_lease_keeps_its_price_its_fee_and_its_time_to_start() {
    let stage = Stage::new(3, 1).pass_to(3, &perfect());
    let settled = |change: bool, late: bool| -> Result<Lease, String> {
        let mut world = stage.world.clone();
        let user = world.user();
        let container = addresses::container(0, &datagalax_program_tests::actors::fingerprint(0));
        let args =
            OpenLeaseArgs { nonce: 1, seconds: 600, max_price_per_hour: 2 * ATH, workload_hash: [1; 32], match_expires: 0 };
        let open = instructions::open_lease(&world, &user, &container, None, args);
        world.must(&[open], &[&user.key]);
        let lease = addresses::lease(&user.key.pubkey(), 1);
        let opened_at = world.now();
        let mut proposal = unchanged(&world);
        if change {
            proposal.parameters.lease_fee_bps = 5_000;
            proposal.parameters.start_timeout = 5;
        }
        propose(&mut world, proposal);
        world.patch_as::<datagalax::state::Network>(&addresses::network(), |n| n.pending_at = 1);
        apply(&mut world);
        world.set_time(opened_at + if late { 61 } else { 60 });
        let operator = world.container_operator(&datagalax_program_tests::actors::fingerprint(0));
        let start = instructions::start_lease(&world, &operator.pubkey(), &lease);
        world.send(&[start], &[&operator]).map_err(|f| f.name)?;
        world.set_time(opened_at + 60 + 600);
        let close = instructions::close_lease(&world, &user.key.pubkey(), &lease, false, 0);
        world.must(&[close], &[&user.key]);
        world.set_time(opened_at + 60 + 3_600);
        let settle = instructions::settle_lease(&world, &lease);
        world.run(settle);
        world.check_books();
        Ok(world.read(&lease))
    };
    let (plain, changed) = (settled(false, false).expect("in time"), settled(true, false).expect("in time"));
    assert_eq!(bytes_of::<Lease>(&plain), bytes_of(&changed));
    // 600 s at 2 ATH an hour, a fee of 20 percent.
    assert_eq!((changed.status, changed.paid, changed.fee), (Lease::SETTLED, 333_333, 66_666));
    assert_eq!(settled(true, true).err().as_deref(), Some("StartTimedOut"));
}
