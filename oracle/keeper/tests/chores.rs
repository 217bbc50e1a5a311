//! What is due beyond the epochs: cases, rows that left, leases.

use bytemuck::Zeroable;
use datagalax::{
    constants::NONE,
    state::{Block, Case, Container, Epoch, Grid, Keeper, Lease, Network, Row},
};
use datagalax_client::Address;
use datagalax_keeper::{Action, ChainView, Chores, Rented, Watched, due, heads::BlockHead, next_actions, rows_of_interest};

const LENGTH: u32 = 60;
/// The epoch that everything is looked at in.
const EPOCH: u32 = 100;
/// In its middle, drawn and seated, with the epoch before tallied: no epoch's work is due.
const NOW: i64 = EPOCH as i64 * LENGTH as i64 + 30;
const CONTAINER: Address = Address::new_from_array([7; 32]);
const LEASE: Address = Address::new_from_array([8; 32]);

fn boxed<T: bytemuck::Zeroable>() -> Box<T> {
    bytemuck::allocation::zeroed_box()
}

/// A network with one block whose row 3 is `row`, and its container.
fn view(row: Row) -> ChainView {
    let mut network = boxed::<Network>();
    let grid = Grid { start: 0, first_epoch: 0, length: LENGTH, reveal_window: 15, commit_lead: 10 };
    network.grids = [grid, grid];
    (network.current_epoch, network.previous_epoch, network.blocks) = (EPOCH, NONE, 1);
    let mut epoch = boxed::<Epoch>();
    (epoch.number, epoch.status, epoch.tickets) = (EPOCH, Epoch::DRAWN, 5);
    let mut block = boxed::<Block>();
    (block.full, block.occupied, block.last_tallied) = (1, 1, EPOCH - 1);
    for (lane, number) in block.lanes.iter_mut().zip([EPOCH, EPOCH - 1]) {
        lane.epoch = number;
        lane.tallied = u8::from(number != EPOCH);
    }
    let mut container = boxed::<Container>();
    (container.provider, container.row) = (1, 3);
    let chores = Chores {
        containers: vec![Watched { address: CONTAINER, container, row, case: None }],
        leases: vec![],
        rented: vec![],
    };
    ChainView {
        network,
        slot: 0,
        now: NOW,
        epoch: Some(epoch),
        blocks: vec![BlockHead::of(&block)],
        chores,
        others: vec![],
        keeper: None,
        claim_from: None,
        balance: 1_000_000_000,
        keep_epochs: 48,
    }
}

fn wanted(view: &ChainView) -> Vec<Action> {
    next_actions(view, NOW)
}

/// What would be found in a block with the container's row.
fn interesting(view: &ChainView) -> Vec<u8> {
    let mut block = boxed::<Block>();
    block.rows[3] = view.chores.containers[0].row;
    rows_of_interest(&view.network, &block, NOW)
}

/// The deadline of the only thing that is due.
fn deadline(view: &ChainView) -> Option<i64> {
    let all = due(view, NOW);
    assert_eq!(all.len(), 1);
    all[0].deadline
}

/// A live row that was first condemned in an epoch, with a window of 8 epochs.
fn accused(epoch: u32) -> Row {
    let mut row = Row { status: Row::LIVE, ..Row::checking(1, 0, 100, 1, 0) };
    row.accuse(epoch, 8);
    row
}

fn case(epoch: u32, status: u8) -> Option<Box<Case>> {
    let mut case = boxed::<Case>();
    (case.kind, case.status, case.epoch, case.until) = (Case::DISHONEST, status, epoch, epoch + 7);
    Some(case)
}

#[test]
fn a_quiet_row_wants_nothing() {
    let row = Row { status: Row::LIVE, ..Row::checking(1, 0, 100, 1, 0) };
    let view = view(row);
    assert_eq!(wanted(&view), []);
    assert!(interesting(&view).is_empty());
}

#[test]
fn a_condemned_row_gets_its_case_at_once_and_once() {
    let mut view = view(accused(EPOCH - 1));
    assert_eq!(interesting(&view), [3]);
    assert_eq!(wanted(&view), [Action::OpenCase { container: CONTAINER, epoch: EPOCH - 1 }]);
    view.chores.containers[0].case = case(EPOCH - 1, Case::OPEN);
    assert_eq!(wanted(&view), [], "the window is open");
}

#[test]
fn a_case_is_closed_when_the_tally_of_its_last_epoch_is_over() {
    // The last epoch of the window is `until`; its tally ends with the epoch after it.
    for (until, expected) in
        [(EPOCH - 1, vec![]), (EPOCH - 2, vec![Action::CloseCase { container: CONTAINER, epoch: EPOCH - 9 }])]
    {
        let mut view = view(accused(until - 7));
        view.chores.containers[0].case = case(until - 7, Case::OPEN);
        assert_eq!(wanted(&view), expected, "window until {until}");
    }
    let mut view = view(accused(EPOCH - 20));
    view.chores.containers[0].case = case(EPOCH - 20, Case::REJECTED);
    assert_eq!(wanted(&view), [], "closed already");
    // A case of an earlier accusation is not this one.
    view.chores.containers[0].case = case(EPOCH - 40, Case::UPHELD);
    assert_eq!(wanted(&view), [Action::ReleaseRow { container: CONTAINER, epoch: EPOCH - 20 }]);
}

#[test]
fn a_case_that_nobody_opened_is_released_or_opened_for_its_verdict() {
    let mut view = view(accused(EPOCH - 20));
    assert_eq!(wanted(&view), [Action::ReleaseRow { container: CONTAINER, epoch: EPOCH - 20 }]);
    // Two condemned epochs of eight are enough for a verdict, and only a case can give it.
    view.chores.containers[0].row.condemned = 2;
    assert_eq!(wanted(&view), [Action::OpenCase { container: CONTAINER, epoch: EPOCH - 20 }]);
}

#[test]
fn a_row_is_vacated_once_it_left_and_owes_nothing() {
    let left = |until| Row { status: Row::LEAVING, until, ..Row::checking(1, 0, 100, 1, 0) };
    assert_eq!(wanted(&view(left(EPOCH))), [], "its last epoch is not tallied for certain");
    let mut view = view(left(EPOCH - 1));
    assert_eq!(interesting(&view), [3]);
    assert_eq!(wanted(&view), [Action::VacateRow(CONTAINER)]);
    view.chores.containers[0].container.unsettled = 1;
    assert_eq!(wanted(&view), [], "a lease is not settled");
    view.chores.containers[0].container.unsettled = 0;
    view.chores.containers[0].container.lease = LEASE;
    assert_eq!(wanted(&view), [], "a lease runs");
    view.chores.containers[0].container.lease = Address::default();
    view.chores.containers[0].row.provider = 2;
    assert_eq!(wanted(&view), [], "the row is another's by now");
}

/// A lease of an hour at 3,600 base units an hour without a fee, started and settled at `started`.
fn lease(status: u8, started: i64) -> Lease {
    let mut lease: Lease = Zeroable::zeroed();
    (lease.version, lease.status, lease.row, lease.last_availability) = (1, status, 3, 100);
    (lease.max_seconds, lease.price_per_hour, lease.indexer) = (3_600, 3_600, NONE);
    (lease.started, lease.settled_until) = (started, started);
    lease.escrowed = 3_601;
    lease
}

fn with_lease(lease: Lease) -> ChainView {
    let mut view = view(Row { status: Row::LIVE, history: [90; 32], ..Row::checking(1, 0, 100, 1, 0) });
    view.chores.leases.push((LEASE, Box::new(lease)));
    view
}

#[test]
fn a_lease_that_was_not_started_is_cancelled_after_its_time() {
    for (start_by, expected) in [(NOW, vec![]), (NOW - 1, vec![Action::CancelLease(LEASE)])] {
        let lease = Lease { start_by, started: 0, settled_until: 0, ..lease(Lease::OPEN, 0) };
        assert_eq!(wanted(&with_lease(lease)), expected);
    }
}

#[test]
fn a_running_lease_is_settled_every_eight_epochs_and_closed_when_it_is_used_up() {
    let boundary = |epochs: i64| (i64::from(EPOCH) - epochs) * i64::from(LENGTH);
    assert_eq!(wanted(&with_lease(lease(Lease::STARTED, boundary(7)))), [], "seven whole epochs are tallied");
    assert_eq!(wanted(&with_lease(lease(Lease::STARTED, boundary(8)))), [Action::SettleLease(LEASE)]);
    // The hour is over to the second.
    assert_eq!(wanted(&with_lease(lease(Lease::STARTED, NOW - 3_600))), [Action::CloseLease(LEASE)]);
}

#[test]
fn an_ended_lease_is_settled_as_soon_as_anything_can_be() {
    let ended = Lease { ended: NOW - 5, ..lease(Lease::ENDED, NOW - 20) };
    assert_eq!(wanted(&with_lease(ended)), [Action::SettleLease(LEASE)]);
    // It ends in the future (a minimum is due): nothing to settle until then.
    let ended = Lease { ended: NOW + 60, ..lease(Lease::ENDED, NOW - 20) };
    assert_eq!(wanted(&with_lease(ended)), []);
    let settled = Lease { ended: NOW - 5, ..lease(Lease::SETTLED, NOW - 20) };
    assert_eq!(wanted(&with_lease(settled)), []);
}

#[test]
fn every_chore_has_the_deadline_of_what_is_lost_by_it() {
    let boundary = |epoch: u32| i64::from(epoch) * i64::from(LENGTH);
    // While the lane holds the votes; then while the window is open; then it is never too late.
    assert_eq!(deadline(&view(accused(EPOCH - 1))), Some(boundary(EPOCH + 1)));
    assert_eq!(deadline(&view(accused(EPOCH - 4))), Some(boundary(EPOCH - 4 + 9)));
    assert_eq!(deadline(&view(accused(EPOCH - 20))), None);
    // A verdict is overwritten 32 epochs later, which are tallied from their end on.
    let ended = |epoch: u32| Lease { ended: NOW - 5, ..lease(Lease::ENDED, boundary(epoch)) };
    assert_eq!(deadline(&with_lease(ended(EPOCH - 10))), Some(boundary(EPOCH - 10 + 33)));
    assert_eq!(deadline(&with_lease(ended(EPOCH - 50))), Some(boundary(EPOCH + 1)));
    let open = Lease { start_by: NOW - 1, started: 0, settled_until: 0, ..lease(Lease::OPEN, 0) };
    assert_eq!(deadline(&with_lease(open)), None);
}

#[test]
fn pay_is_withdrawn_last_and_when_it_is_enough() {
    let mut view = view(accused(EPOCH - 20));
    let mut keeper = boxed::<Keeper>();
    keeper.due = 500;
    view.keeper = Some((LEASE, keeper));
    for (from, expected) in [(None, false), (Some(501), false), (Some(500), true)] {
        view.claim_from = from;
        assert_eq!(wanted(&view).last() == Some(&Action::Claim), expected, "from {from:?}");
    }
    view.keeper.as_mut().unwrap().1.due = 0;
    view.claim_from = Some(0);
    assert_ne!(wanted(&view).last(), Some(&Action::Claim), "nothing is nothing");
}

#[test]
fn rent_is_taken_back_when_nobody_needs_the_account() {
    let quiet = Row { status: Row::LIVE, ..Row::checking(1, 0, 100, 1, 0) };
    let wants = |rented| {
        let mut view = view(quiet);
        view.chores.rented = vec![(LEASE, rented)];
        wanted(&view) == [Action::Reclaim(LEASE)]
    };
    let epoch = |number, released| wants(Rented::Epoch { number, released });
    assert!(epoch(EPOCH - 48, true) && !epoch(EPOCH - 47, true), "48 of them are kept");
    assert!(!epoch(EPOCH - 60, false), "what it reserved is not released");
    let month = 30 * 86_400;
    assert!(wants(Rented::Case { closed: Some(NOW - month) }) && !wants(Rented::Case { closed: Some(NOW - month + 1) }));
    assert!(!wants(Rented::Case { closed: None }));
    // However few are kept, the program wants four.
    let mut view = view(quiet);
    view.keep_epochs = 0;
    view.chores.rented = vec![(LEASE, Rented::Epoch { number: EPOCH - 3, released: true })];
    assert_eq!(wanted(&view), []);
}
