//! `close_account` of every kind: who may, when, and to whom its rent goes; nothing is closed that still owes or is needed, and what
//! was closed stays closed.

use datagalax::{
    instructions::OpenLeaseArgs,
    state::{Case, Epoch, Keeper, Lease, Provider},
};
use datagalax_program_tests::{
    Report, World,
    accounts::rows,
    actors::fingerprint,
    addresses::{self, SYSTEM_PROGRAM, Vault},
    epochs::SeatAt,
    instructions,
    refusals::Call,
    settings::ATH,
    stage::{Stage, perfect},
    world::{Key, named_key},
};
use solana_instruction::{AccountMeta, Instruction};
use solana_pubkey::Pubkey;
use solana_signer::Signer;

use crate::{
    keepers::{name_keeper, paying},
    withdraw::Settled,
};

const DAY: i64 = 86_400;

fn lamports(world: &World, address: &Pubkey) -> u64 {
    world.try_account(address).map_or(0, |a| a.lamports)
}

/// Closes, and checks that all its lamports went to `to` and that nothing is left.
#[track_caller]
fn closes(world: &mut World, signer: &Key, account: &Pubkey, to: &Pubkey) {
    // More than the rent: whatever it holds goes to who paid.
    let mut rich = world.account(account);
    rich.lamports += 12_345;
    world.put_account(*account, rich);
    let (before, held) = (lamports(world, to), lamports(world, account));
    let close = instructions::close_account(&signer.pubkey(), account, to);
    world.must(std::slice::from_ref(&close), &[signer]);
    world.forgetful = true;
    assert_eq!(lamports(world, to), before + held);
    assert!(world.try_account(account).is_none(), "nothing is left");
    world.check_books();
    assert!(world.send(&[close], &[signer]).is_err(), "twice");
}

#[track_caller]
fn refused(world: &mut World, signer: &Key, account: &Pubkey, to: &Pubkey, name: &str) {
    world.refused(instructions::close_account(&signer.pubkey(), account, to), &[signer], name);
}

/// The shared table, and the call itself on a clone.
#[track_caller]
fn check(world: &World, signer: &Key, account: &Pubkey, to: &Pubkey, anybody: bool) {
    let mut world = world.clone();
    world.forgetful = true;
    let mut call = Call::new(world, instructions::close_account(&signer.pubkey(), account, to), &[signer]);
    call.may_be_anybody = anybody.then_some(0);
    call.check();
}

#[test]
fn a_provider_is_closed_by_its_owner_when_nothing_is_staked_owed_or_registered() {
    let Settled { mut stage, .. } = Settled::new();
    let (world, provider) = (&mut stage.world, stage.provider.clone());
    let (address, owner) = (addresses::provider(0), &provider.owner);
    let payer = owner.pubkey();
    let pay = |world: &mut World, name: Vault| {
        let pay = instructions::withdraw(world, &address, name, &provider.to);
        world.run(pay);
    };
    // A lease's money, rewards that vest, a container, stake: each alone holds it up.
    refused(world, owner, &address, &payer, "NotDone");
    let epoch = u32::try_from((world.now() - world.start) / 60 + 1).expect("after the start");
    world.open(epoch);
    let leave = instructions::deregister_container(world, &provider, &fingerprint(0));
    world.must(&[leave], &[owner]);
    world.open(epoch + 2);
    let vacate = instructions::vacate_row(world, 0, &fingerprint(0));
    world.run(vacate);
    let free = world.provider(0).free_stake();
    let ask = instructions::request_unstake(&provider, free);
    world.must(&[ask], &[owner]);
    let asked_at = world.now();
    refused(world, owner, &address, &payer, "NotDone");
    world.set_time(asked_at + 720);
    pay(world, Vault::Stake);
    pay(world, Vault::Rewards);
    assert_eq!((world.provider(0).staked, world.provider(0).containers), (0, 0));
    // All but the lease's money, then all but what has not vested.
    let mut vested = world.clone();
    vested.set_time(asked_at + 181 * DAY);
    pay(&mut vested, Vault::Rewards);
    refused(&mut vested, owner, &address, &payer, "NotDone");
    pay(world, Vault::Escrow);
    refused(world, owner, &address, &payer, "NotDone");
    world.set_time(asked_at + 181 * DAY);
    pay(world, Vault::Rewards);

    // Done with. Only the owner, and only to who paid the rent.
    let stranger = world.actor("stranger");
    for key in [&stranger, &provider.operator] {
        refused(world, key, &address, &payer, "Unauthorized");
    }
    refused(world, owner, &address, &provider.payout, "WrongAccount");
    check(world, owner, &address, &payer, false);

    // After a hand-over the new owner closes, and the rent still goes to who paid it.
    let heir = world.actor("heir");
    let name = instructions::propose_owner(&payer, &address, &heir.pubkey());
    let accept = instructions::accept_owner(&heir.pubkey(), &address);
    world.must(&[name, accept], &[owner, &heir]);
    refused(world, owner, &address, &payer, "Unauthorized");
    refused(world, &heir, &address, &heir.pubkey(), "WrongAccount");
    // In a pause as well.
    world.set_paused(true);
    closes(world, &heir, &address, &payer);
    world.set_paused(false);

    // Its id is not given again.
    let again = instructions::register_provider(&payer, 0, &payer, &payer);
    world.refused(again, &[owner], "InvalidSeeds");
    assert_eq!(world.provider_with(0).id, 1);
}

#[test]
fn staked_alone_holds_a_provider_up() {
    let mut world = World::new();
    let provider = world.provider_with(1);
    let (address, owner) = (addresses::provider(0), provider.owner.clone());
    refused(&mut world, &owner, &address, &owner.pubkey(), "NotDone");
    world.patch_as::<Provider>(&address, |p| p.staked = 0);
    world.patch_as::<datagalax::state::VaultLedger>(&addresses::ledger(Vault::Stake), |l| l.liabilities = 0);
    closes(&mut world, &owner, &address, &owner.pubkey());
}

#[test]
fn a_checker_is_closed_when_it_holds_no_ticket() {
    let mut stage = Stage::new(5, 1);
    let checker = stage.checkers[0].clone();
    let (address, owner) = (addresses::checker(0), &checker.owner);
    refused(&mut stage.world, owner, &address, &owner.pubkey(), "NotDone");
    let leave = instructions::leave_tickets(&checker, &[0]);
    stage.world.must(&[leave], &[owner]);
    let asked_at = stage.world.now();
    let mut stage = stage.pass_to(2, &perfect());
    let world = &mut stage.world;
    // Removed from the order, not withdrawn.
    refused(world, owner, &address, &owner.pubkey(), "NotDone");
    world.set_time(asked_at + 720);
    let withdraw = instructions::withdraw_tickets(world, &checker, &[0]);
    world.run(withdraw);
    let stranger = world.actor("stranger");
    for key in [&stranger, &checker.operator] {
        refused(world, key, &address, &owner.pubkey(), "Unauthorized");
    }
    refused(world, owner, &address, &stranger.pubkey(), "WrongAccount");
    check(world, owner, &address, &owner.pubkey(), false);
    closes(world, owner, &address, &owner.pubkey());
    assert_eq!(world.checker_with(0, 0).id, 5, "its id is not given again");
}

#[test]
fn an_indexer_is_closed_when_it_is_paid_out_and_its_leases_are_settled() {
    let Settled { mut stage, user, indexer, .. } = Settled::new();
    let world = &mut stage.world;
    let (address, owner) = (addresses::indexer(indexer.id), &indexer.owner);
    refused(world, owner, &address, &owner.pubkey(), "NotDone");
    let leave = instructions::leave_indexer(&indexer);
    world.must(&[leave], &[owner]);
    let left = world.now();
    world.set_time(left + 720);
    let stake = instructions::withdraw(world, &address, Vault::Stake, &indexer.to);
    world.run(stake);
    // Its fees.
    refused(world, owner, &address, &owner.pubkey(), "NotDone");
    let fees = instructions::withdraw(world, &address, Vault::Escrow, &indexer.to);
    world.run(fees);
    // A lease that it matched and that is not settled: its share is still to come.
    let mut open = world.clone();
    open.patch_as::<datagalax::state::Indexer>(&address, |i| i.open_leases = 1);
    refused(&mut open, owner, &address, &owner.pubkey(), "NotDone");
    for key in [&user.key, &indexer.operator] {
        refused(world, key, &address, &owner.pubkey(), "Unauthorized");
    }
    refused(world, owner, &address, &user.key.pubkey(), "WrongAccount");
    check(world, owner, &address, &owner.pubkey(), false);
    closes(world, owner, &address, &owner.pubkey());
}

#[test]
fn a_keeper_closes_its_own_account_once_it_is_paid() {
    let mut stage = Stage::of(paying(3 * ATH), 3, 1);
    let wallet = name_keeper(&mut stage.world, "keeper");
    let mut stage = stage.pass_to(1, &perfect());
    let world = &mut stage.world;
    let (key, address, payer) = (named_key("keeper"), addresses::keeper(&wallet), world.payer.clone());
    refused(world, &key, &address, &payer.pubkey(), "NotDone");
    let mint = world.mint;
    let to = world.put_token_account(&mint, &wallet, 0, "");
    let pay = instructions::withdraw(world, &address, Vault::Rewards, &to);
    world.run(pay);
    // Who opened it for the keeper gets the rent back, but does not close it.
    refused(world, &payer, &address, &payer.pubkey(), "Unauthorized");
    refused(world, &key, &address, &wallet, "WrongAccount");
    check(world, &key, &address, &payer.pubkey(), false);
    world.keeper = None;
    // The payer pays the fee, so its lamports are looked at on another's.
    let fees = world.actor("fee payer");
    let (before, held) = (lamports(world, &payer.pubkey()), lamports(world, &address));
    let close = instructions::close_account(&wallet, &address, &payer.pubkey());
    world.send_paid_by(&fees, &[close], &[&key]).expect("it closes");
    assert_eq!(lamports(world, &payer.pubkey()), before + held);
    world.forgetful = true;
    world.check_books();
    // Opened again, it begins with nothing.
    name_keeper(world, "keeper");
    let keeper: Keeper = world.read(&address);
    assert_eq!((keeper.due, keeper.earned, keeper.actions), (0, 0, 0));
}

#[test]
fn a_lease_is_closed_by_its_user_at_once_and_by_anybody_after_thirty_days() {
    let Settled { mut stage, user, lease, .. } = Settled::new();
    let world = &mut stage.world;
    let (wallet, stranger) = (user.key.pubkey(), world.actor("stranger"));
    refused(world, &user.key, &lease, &wallet, "NotDone");
    let refund = instructions::withdraw(world, &lease, Vault::Escrow, &user.from);
    world.run(refund);
    // The compensation is still to be paid.
    refused(world, &user.key, &lease, &wallet, "NotDone");
    let compensation = instructions::withdraw(world, &lease, Vault::Stake, &user.from);
    world.run(compensation);
    refused(world, &user.key, &lease, &stranger.pubkey(), "WrongAccount");
    check(world, &user.key, &lease, &wallet, false);
    let ended = world.read::<Lease>(&lease).ended;
    for key in [&stranger, &stage.provider.owner, &stage.provider.operator] {
        refused(world, key, &lease, &wallet, "Unauthorized");
    }
    let mut late = world.clone();
    late.set_time(ended + 30 * DAY - 1);
    refused(&mut late, &stranger, &lease, &wallet, "Unauthorized");
    late.set_time(ended + 30 * DAY);
    refused(&mut late, &stranger, &lease, &stranger.pubkey(), "WrongAccount");
    check(&late, &stranger, &lease, &wallet, true);
    closes(&mut late, &stranger, &lease, &wallet);
    closes(world, &user.key, &lease, &wallet);
}

#[test]
fn a_lease_that_runs_or_waits_is_not_closed() {
    let mut stage = Stage::new(3, 1).pass_to(3, &perfect());
    let (user, operator) = (stage.world.user(), stage.world.container_operator(&fingerprint(0)));
    let (world, container) = (&mut stage.world, addresses::container(0, &fingerprint(0)));
    let args =
        |nonce| OpenLeaseArgs { nonce, seconds: 600, max_price_per_hour: 2 * ATH, workload_hash: [1; 32], match_expires: 0 };
    let open = instructions::open_lease(world, &user, &container, None, args(1));
    world.must(&[open], &[&user.key]);
    let (lease, wallet) = (addresses::lease(&user.key.pubkey(), 1), user.key.pubkey());
    refused(world, &user.key, &lease, &wallet, "NotDone");
    // Rejected: settled at once, and its refund is still there.
    let mut rejected = world.clone();
    let reject = instructions::reject_lease(&rejected, &operator.pubkey(), &lease, 3);
    rejected.must(&[reject], &[&operator]);
    refused(&mut rejected, &user.key, &lease, &wallet, "NotDone");
    let refund = instructions::withdraw(&rejected, &lease, Vault::Escrow, &user.from);
    rejected.run(refund);
    closes(&mut rejected, &user.key, &lease, &wallet);
    // A closed lease's nonce serves again, from nothing.
    let again = instructions::open_lease(&rejected, &user, &container, None, args(1));
    rejected.must(&[again], &[&user.key]);
    assert_eq!(rejected.read::<Lease>(&lease).withdrawn, 0);
    rejected.check_books();

    let start = instructions::start_lease(world, &operator.pubkey(), &lease);
    world.must(&[start], &[&operator]);
    refused(world, &user.key, &lease, &wallet, "NotDone");
    let started = world.now();
    world.set_time(started + 600);
    let close = instructions::close_lease(world, &wallet, &lease, false, 0);
    world.must(&[close], &[&user.key]);
    refused(world, &user.key, &lease, &wallet, "NotDone");
}

/// In epochs 12 and 13 the host does not serve.
fn idle(at: SeatAt) -> Option<Report> {
    let report = if at.epoch == 12 || at.epoch == 13 { Report::perfect().row(0, 10, 100, 9) } else { Report::perfect() };
    Some(report.salted(at.epoch, at.block, at.seat))
}

#[test]
fn a_host_does_not_close_a_lease_to_escape_the_report_of_its_breach() {
    let mut stage = Stage::new(15, 1).pass_to(4, &idle);
    let (user, operator) = (stage.world.user(), stage.world.container_operator(&fingerprint(0)));
    let world = &mut stage.world;
    let container = addresses::container(0, &fingerprint(0));
    let args =
        OpenLeaseArgs { nonce: 1, seconds: 600, max_price_per_hour: 2 * ATH, workload_hash: [1; 32], match_expires: 0 };
    let open = instructions::open_lease(world, &user, &container, None, args);
    world.must(&[open], &[&user.key]);
    let lease = addresses::lease(&user.key.pubkey(), 1);
    let start = instructions::start_lease(world, &operator.pubkey(), &lease);
    world.must(&[start], &[&operator]);
    // 600 s from 30 s of epoch 4 on: it ends at 30 s of epoch 14.
    let mut stage = stage.pass_to(14, &idle);
    let world = &mut stage.world;
    let thief = stage.provider.operator.clone();
    let close = instructions::close_lease(world, &thief.pubkey(), &lease, false, 0);
    let settle = instructions::settle_lease(world, &lease);
    let refund = instructions::withdraw(world, &lease, Vault::Escrow, &user.from);
    let end = instructions::close_account(&thief.pubkey(), &lease, &user.key.pubkey());
    let ended = world.now();
    world.wait_until(ended + 30);
    let all = [close, settle, refund, end];
    assert_eq!(world.send(&all, &[&thief]).map_err(|f| f.name).err().as_deref(), Some("Unauthorized"));
    world.must(&all[..3], &[&thief]);
    assert_eq!(world.read::<Lease>(&lease).status, Lease::SETTLED);
    let payer = world.payer.pubkey();
    let report = instructions::report_breach(world, &payer, &lease, 12);
    world.run(report);
    assert_eq!(world.read::<Lease>(&lease).compensation, 2 * ATH * 60 / 3_600);
    world.check_books();

    // Once the breach's own account is closed it is still not reported twice, neither at once nor a day later.
    let case = addresses::case(&container, 12, Case::BREACH);
    world.run(instructions::close_account(&payer, &case, &payer));
    world.forgetful = true;
    let later = world.now() + DAY;
    for time in [world.now(), later] {
        world.set_time(time);
        let again = instructions::report_breach(world, &payer, &lease, 12);
        world.refused(again, &[], "BreachedToday");
    }
    world.check_books();
}

/// Everybody calls row 0 dishonest in epoch 3.
fn accusing(at: SeatAt) -> Option<Report> {
    let report = if at.epoch == 3 { Report::perfect().dishonest(0) } else { Report::perfect() };
    Some(report.salted(at.epoch, at.block, at.seat))
}

#[test]
fn a_case_is_closed_by_its_payer_at_once_and_by_anybody_after_thirty_days() {
    let mut stage = Stage::new(5, 2).pass_to(4, &accusing);
    let container = addresses::container(0, &fingerprint(0));
    let address = addresses::case(&container, 3, Case::DISHONEST);
    let (payer, stranger) = (stage.world.actor("accuser"), stage.world.actor("stranger"));
    let open = instructions::open_case(&stage.world, &payer.pubkey(), &container, 3);
    stage.world.must(&[open], &[&payer]);
    refused(&mut stage.world, &payer, &address, &payer.pubkey(), "NotDone");
    let until = stage.world.block(0).rows[0].case_until;
    let mut stage = stage.pass_to(until + 2, &accusing);
    let world = &mut stage.world;
    refused(world, &payer, &address, &payer.pubkey(), "NotDone");
    let decide = instructions::close_case(world, &container, 3);
    world.run(decide);
    let closed = world.now();
    refused(world, &stranger, &address, &payer.pubkey(), "Unauthorized");
    refused(world, &payer, &address, &stranger.pubkey(), "WrongAccount");
    check(world, &payer, &address, &payer.pubkey(), false);
    let mut late = world.clone();
    late.set_time(closed + 30 * DAY - 1);
    refused(&mut late, &stranger, &address, &payer.pubkey(), "Unauthorized");
    late.set_time(closed + 30 * DAY);
    refused(&mut late, &stranger, &address, &stranger.pubkey(), "WrongAccount");
    check(&late, &stranger, &address, &payer.pubkey(), true);
    closes(&mut late, &stranger, &address, &payer.pubkey());
    closes(world, &payer, &address, &payer.pubkey());
    // What was decided is not opened again.
    let again = instructions::open_case(world, &payer.pubkey(), &container, 3);
    world.refused(again, &[&payer], "NotAccused");
}

#[test]
fn an_epoch_is_closed_four_epochs_later_by_anybody() {
    let mut stage = Stage::new(3, 1);
    let world = &mut stage.world;
    let (payer, stranger) = (world.payer.clone(), world.actor("stranger"));
    for current in 1..=4 {
        // Epoch 0 is released with the advance to 2, and still read until 4.
        refused(world, &stranger, &addresses::epoch(0), &payer.pubkey(), "NotDone");
        world.open(current);
    }
    assert_eq!(world.epoch(0).released, 1);
    refused(world, &stranger, &addresses::epoch(0), &stranger.pubkey(), "WrongAccount");
    check(world, &stranger, &addresses::epoch(0), &payer.pubkey(), true);
    for early in 1..=4 {
        refused(world, &stranger, &addresses::epoch(early), &payer.pubkey(), "NotDone");
    }
    // Released it must be, however old: books that say otherwise keep it.
    let mut broken = world.clone();
    broken.patch_as::<Epoch>(&addresses::epoch(0), |e| e.released = 0);
    refused(&mut broken, &stranger, &addresses::epoch(0), &payer.pubkey(), "NotDone");

    let fees = world.actor("fee payer");
    let (before, held) = (lamports(world, &payer.pubkey()), lamports(world, &addresses::epoch(0)));
    let close = instructions::close_account(&stranger.pubkey(), &addresses::epoch(0), &payer.pubkey());
    world.send_paid_by(&fees, &[close], &[&stranger]).expect("it closes");
    world.forgetful = true;
    assert_eq!(lamports(world, &payer.pubkey()), before + held);
    world.check_books();
    // It is not advanced to again, and the network goes on without it.
    let again = instructions::advance_epoch(world, &payer.pubkey(), 0);
    world.refused(again, &[], "WrongEpoch");
    world.open(5);
    world.check_books();
}

#[test]
fn what_is_never_done_with_is_not_closed() {
    let mut stage = Stage::new(3, 1);
    let world = &mut stage.world;
    let (authority, payer) = (world.authority.clone(), world.payer.pubkey());
    let container = addresses::container(0, &fingerprint(0));
    let vaults = Vault::ALL.map(addresses::vault);
    for account in
        [addresses::block(0), addresses::class(0), addresses::checker_set(), container, addresses::ledger(Vault::Stake)]
    {
        refused(world, &authority, &account, &payer, "WrongAccount");
    }
    for account in vaults.into_iter().chain([addresses::network(), authority.pubkey()]) {
        let close = instructions::close_account(&authority.pubkey(), &account, &payer);
        assert!(world.send(&[close], &[&authority]).is_err(), "{account}");
    }
    // An account of the right bytes that is not the program's.
    let bytes = world.account(&addresses::epoch(0)).data;
    let forged = datagalax_program_tests::world::address_of(&[b"forged"]);
    world.put(forged, SYSTEM_PROGRAM, bytes);
    let close = instructions::close_account(&authority.pubkey(), &forged, &payer);
    assert!(world.send(&[close], &[&authority]).is_err());
}

fn transfer(from: &Pubkey, to: &Pubkey, lamports: u64) -> Instruction {
    let data = [&2u32.to_le_bytes()[..], &lamports.to_le_bytes()].concat();
    Instruction {
        program_id: SYSTEM_PROGRAM,
        accounts: vec![AccountMeta::new(*from, true), AccountMeta::new(*to, false)],
        data,
    }
}

#[test]
fn a_closed_account_is_not_used_or_revived_in_its_last_transaction() {
    // A provider that everything is paid to, claims anew with an account that is closed in the same transaction.
    let mut world = World::new();
    let provider = world.provider_with(0);
    let (address, owner) = (addresses::provider(0), provider.owner.clone());
    let rent = lamports(&world, &address);
    let close = instructions::close_account(&owner.pubkey(), &address, &owner.pubkey());
    let stake = instructions::stake(&world, &provider, ATH);
    let revive = transfer(&owner.pubkey(), &address, rent);
    let rotate = instructions::rotate_keys(&owner.pubkey(), &address, &owner.pubkey(), &owner.pubkey());
    let before = world.fingerprint();
    for all in [
        vec![close.clone(), stake.clone()],
        vec![close.clone(), revive.clone(), stake.clone()],
        vec![close.clone(), rotate.clone()],
        vec![close.clone(), revive.clone(), rotate],
        vec![close.clone(), close.clone()],
        vec![close.clone(), revive.clone(), close.clone()],
    ] {
        assert!(world.send(&all, &[&owner]).is_err());
        assert_eq!(world.fingerprint(), before, "all or nothing");
    }
    // Kept alive with lamports alone, it is a bare account of the system program that says nothing.
    world.must(&[close, revive], &[&owner]);
    let left = world.account(&address);
    assert_eq!((left.owner, left.data.len(), left.lamports), (SYSTEM_PROGRAM, 0, rent));
    assert!(world.send(&[stake], &[&owner]).is_err());
    world.forgetful = true;
    world.check_books();
}

#[test]
fn claimed_and_withdrawn_in_the_last_transaction_is_fine() {
    // The other way round: paying out and closing may share a transaction.
    let mut stage = Stage::new(3, 1).pass_to(4, &perfect());
    let world = &mut stage.world;
    let claim = instructions::claim_rewards(&stage.provider, 0, &rows([0]));
    let pay = instructions::withdraw(world, &addresses::provider(0), Vault::Rewards, &stage.provider.to);
    let close =
        instructions::close_account(&stage.provider.owner.pubkey(), &addresses::provider(0), &stage.provider.owner.pubkey());
    // What has not vested holds it up.
    let all = [claim.clone(), pay.clone(), close];
    let signers = [&*stage.provider.operator, &*stage.provider.owner];
    assert_eq!(world.send(&all, &signers).map_err(|f| f.name).err().as_deref(), Some("NotDone"));
    world.must(&[claim, pay], &signers);
    world.check_books();
}
