//! What is due beyond the epochs: cases, rows that left, leases.

use bytemuck::Zeroable;
use datagalax::{
    constants::NONE,
    state::{Block, Case, Container, Epoch, Grid, Lease, Network, Row},
};
use datagalax_client::Address;
use datagalax_keeper::{Action, ChainView, Chores, Watched, next_actions, rows_of_interest};

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
    block.rows[3] = row;
    let mut container = boxed::<Container>();
    (container.provider, container.row) = (1, 3);
    let chores = Chores { containers: vec![Watched { address: CONTAINER, container, case: None }], leases: vec![] };
    ChainView { network, slot: 0, epoch: Some(epoch), blocks: vec![block], chores }
}

fn due(view: &ChainView) -> Vec<Action> {
    next_actions(view, NOW)
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
    assert_eq!(due(&view), []);
    assert_eq!(rows_of_interest(&view.network, &view.blocks, NOW), []);
}

#[test]
fn a_condemned_row_gets_its_case_at_once_and_once() {
    let mut view = view(accused(EPOCH - 1));
    assert_eq!(rows_of_interest(&view.network, &view.blocks, NOW), [(0, 3)]);
    assert_eq!(due(&view), [Action::OpenCase { container: CONTAINER, epoch: EPOCH - 1 }]);
    view.chores.containers[0].case = case(EPOCH - 1, Case::OPEN);
    assert_eq!(due(&view), [], "the window is open");
}

#[test]
fn a_case_is_closed_when_the_tally_of_its_last_epoch_is_over() {
    // The last epoch of the window is `until`; its tally ends with the epoch after it.
    for (until, expected) in
        [(EPOCH - 1, vec![]), (EPOCH - 2, vec![Action::CloseCase { container: CONTAINER, epoch: EPOCH - 9 }])]
    {
        let mut view = view(accused(until - 7));
        view.chores.containers[0].case = case(until - 7, Case::OPEN);
        assert_eq!(due(&view), expected, "window until {until}");
    }
    let mut view = view(accused(EPOCH - 20));
    view.chores.containers[0].case = case(EPOCH - 20, Case::REJECTED);
    assert_eq!(due(&view), [], "closed already");
    // A case of an earlier accusation is not this one.
    view.chores.containers[0].case = case(EPOCH - 40, Case::UPHELD);
    assert_eq!(due(&view), [Action::ReleaseRow { container: CONTAINER, epoch: EPOCH - 20 }]);
}

#[test]
fn a_case_that_nobody_opened_is_released_or_opened_for_its_verdict() {
    let mut view = view(accused(EPOCH - 20));
    assert_eq!(due(&view), [Action::ReleaseRow { container: CONTAINER, epoch: EPOCH - 20 }]);
    // Two condemned epochs of eight are enough for a verdict, and only a case can give it.
    view.blocks[0].rows[3].condemned = 2;
    assert_eq!(due(&view), [Action::OpenCase { container: CONTAINER, epoch: EPOCH - 20 }]);
}

#[test]
fn a_row_is_vacated_once_it_left_and_owes_nothing() {
    let left = |until| Row { status: Row::LEAVING, until, ..Row::checking(1, 0, 100, 1, 0) };
    assert_eq!(due(&view(left(EPOCH))), [], "its last epoch is not tallied for certain");
    let mut view = view(left(EPOCH - 1));
    assert_eq!(rows_of_interest(&view.network, &view.blocks, NOW), [(0, 3)]);
    assert_eq!(due(&view), [Action::VacateRow(CONTAINER)]);
    view.chores.containers[0].container.unsettled = 1;
    assert_eq!(due(&view), [], "a lease is not settled");
    view.chores.containers[0].container.unsettled = 0;
    view.chores.containers[0].container.lease = LEASE;
    assert_eq!(due(&view), [], "a lease runs");
    view.chores.containers[0].container.lease = Address::default();
    view.blocks[0].rows[3].provider = 2;
    assert_eq!(due(&view), [], "the row is another's by now");
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
        assert_eq!(due(&with_lease(lease)), expected);
    }
}

#[test]
fn a_running_lease_is_settled_every_eight_epochs_and_closed_when_it_is_used_up() {
    let boundary = |epochs: i64| (i64::from(EPOCH) - epochs) * i64::from(LENGTH);
    assert_eq!(due(&with_lease(lease(Lease::STARTED, boundary(7)))), [], "seven whole epochs are tallied");
    assert_eq!(due(&with_lease(lease(Lease::STARTED, boundary(8)))), [Action::SettleLease(LEASE)]);
    // The hour is over to the second.
    assert_eq!(due(&with_lease(lease(Lease::STARTED, NOW - 3_600))), [Action::CloseLease(LEASE)]);
}

#[test]
fn an_ended_lease_is_settled_as_soon_as_anything_can_be() {
    let ended = Lease { ended: NOW - 5, ..lease(Lease::ENDED, NOW - 20) };
    assert_eq!(due(&with_lease(ended)), [Action::SettleLease(LEASE)]);
    // It ends in the future (a minimum is due): nothing to settle until then.
    let ended = Lease { ended: NOW + 60, ..lease(Lease::ENDED, NOW - 20) };
    assert_eq!(due(&with_lease(ended)), []);
    let settled = Lease { ended: NOW - 5, ..lease(Lease::SETTLED, NOW - 20) };
    assert_eq!(due(&with_lease(settled)), []);
}
