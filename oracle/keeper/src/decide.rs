//! What is due. Pure: the chain as it was read, and a time.

use std::fmt;

use datagalax::{
    constants::{MAX_SETTLED_EPOCHS, NONE},
    settlement,
    state::{Block, Case, Container, Epoch, Lease, Network, Row},
};
use datagalax_client::Address;

/// Epochs that a running lease may have to be settled before a keeper pays a transaction for it: a quarter of what a row's history
/// keeps, so that a late keeper loses nobody a verdict.
const SETTLE_EVERY: u32 = 8;

/// What the decision is made from, read at about the same time.
#[derive(Clone)]
pub struct ChainView {
    /// The network.
    pub network: Box<Network>,
    /// Slot of the chain's clock.
    pub slot: u64,
    /// The epoch that the network advanced to last; `None` before the first.
    pub epoch: Option<Box<Epoch>>,
    /// Every block of full length.
    pub blocks: Vec<Box<Block>>,
    /// What is not of every epoch.
    pub chores: Chores,
}

/// Containers, cases and leases that may want something done. Read seldom, and only as much as one keeper does at a time.
#[derive(Clone, Default)]
pub struct Chores {
    /// Containers whose rows are frozen or left, with the case of a frozen one if somebody opened it.
    pub containers: Vec<Watched>,
    /// Leases that wait for their host, run, or have ended and are not settled.
    pub leases: Vec<(Address, Box<Lease>)>,
}

/// A container whose row is frozen or left.
#[derive(Clone)]
pub struct Watched {
    /// Its address.
    pub address: Address,
    /// The account.
    pub container: Box<Container>,
    /// The case of dishonesty since the row's first condemned epoch.
    pub case: Option<Box<Case>>,
}

/// Rows that may want something done, as block and row: frozen ones, and those that left.
pub fn rows_of_interest(network: &Network, blocks: &[Box<Block>], now: i64) -> Vec<(u32, u8)> {
    let Ok(current) = network.epoch_at(now) else { return Vec::new() };
    let left = |row: &Row| row.status == Row::LEAVING && current > row.until;
    let of = |block: &Block| -> Vec<(u32, u8)> {
        let rows = (0u8..=u8::MAX).zip(&block.rows);
        rows.filter(|(_, row)| row.is_accused() || left(row)).map(|(index, _)| (block.index, index)).collect()
    };
    blocks.iter().flat_map(|block| of(block)).collect()
}

/// One instruction that may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Move to this epoch.
    Advance(u32),
    /// Let waiting tickets into the order, before this epoch is drawn.
    Churn(u32),
    /// Fix this epoch's seed.
    Draw(u32),
    /// Write a block's committee.
    SeatBlock {
        /// Number of the epoch.
        epoch: u32,
        /// Index of the block.
        block: u32,
    },
    /// Judge and pay a block's rows.
    Tally {
        /// Number of the epoch.
        epoch: u32,
        /// Index of the block.
        block: u32,
    },
    /// Open the case of a frozen row.
    OpenCase {
        /// Address of the container.
        container: Address,
        /// First condemned epoch.
        epoch: u32,
    },
    /// Decide a case whose window is over.
    CloseCase {
        /// Address of the container.
        container: Address,
        /// First condemned epoch.
        epoch: u32,
    },
    /// Release a row whose case nobody opened.
    ReleaseRow {
        /// Address of the container.
        container: Address,
        /// First condemned epoch.
        epoch: u32,
    },
    /// Free the row of a container that left.
    VacateRow(Address),
    /// Give a user back what a lease that was not started in time escrowed.
    CancelLease(Address),
    /// End a lease whose escrow is used up.
    CloseLease(Address),
    /// Settle a lease as far as its epochs are judged.
    SettleLease(Address),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Advance(epoch) => write!(f, "advance to epoch {epoch}"),
            Self::Churn(epoch) => write!(f, "churn before epoch {epoch}"),
            Self::Draw(epoch) => write!(f, "draw epoch {epoch}"),
            Self::SeatBlock { epoch, block } => write!(f, "seat block {block} for epoch {epoch}"),
            Self::Tally { epoch, block } => write!(f, "tally block {block} for epoch {epoch}"),
            Self::OpenCase { container, epoch } => write!(f, "open the case of container {container} since epoch {epoch}"),
            Self::CloseCase { container, epoch } => write!(f, "close the case of container {container} since epoch {epoch}"),
            Self::ReleaseRow { container, epoch } => write!(f, "release container {container}, frozen since epoch {epoch}"),
            Self::VacateRow(container) => write!(f, "vacate the row of container {container}"),
            Self::CancelLease(lease) => write!(f, "cancel lease {lease}"),
            Self::CloseLease(lease) => write!(f, "close lease {lease}"),
            Self::SettleLease(lease) => write!(f, "settle lease {lease}"),
        }
    }
}

/// What may be sent at `now` (seconds of the chain's clock), the nearest deadline first.
pub fn next_actions(view: &ChainView, now: i64) -> Vec<Action> {
    let network = &view.network;
    let Ok(number) = network.epoch_at(now) else { return Vec::new() };
    let mut due = Vec::new();

    if network.current_epoch == NONE || network.current_epoch < number {
        // Late in its epoch an advance still releases reservations and lets containers register, but hurries nobody.
        let deadline =
            if now < network.draw_deadline(number) { network.draw_deadline(number) } else { network.bounds(number).1 };
        due.push((deadline, Action::Advance(number)));
    } else if let Some(epoch) = view.epoch.as_deref().filter(|e| e.number == number) {
        due.extend(draw(view, epoch, now));
        due.extend(seats(view, epoch));
    }
    if let Some(before) = number.checked_sub(1) {
        due.extend(tallies(view, before, now));
    }

    due.extend(chores(view, number, now).map(|action| (i64::MAX, action)));

    due.sort_unstable();
    due.into_iter().map(|(_, action)| action).collect()
}

/// Churn or draw of the current epoch.
fn draw(view: &ChainView, epoch: &Epoch, now: i64) -> Option<(i64, Action)> {
    let deadline = view.network.draw_deadline(epoch.number);
    if epoch.status != Epoch::ADVANCED || now >= deadline {
        return None;
    }
    if epoch.churn_left() > 0 {
        return Some((deadline, Action::Churn(epoch.number)));
    }
    // A slot's hash is known from the slot after it on.
    (view.slot > epoch.draw_slot).then_some((deadline, Action::Draw(epoch.number)))
}

/// Blocks of the drawn epoch that have no committee yet.
fn seats<'a>(view: &'a ChainView, epoch: &'a Epoch) -> impl Iterator<Item = (i64, Action)> + 'a {
    let (_, end) = view.network.bounds(epoch.number);
    let deadline = end.saturating_sub(i64::from(view.network.grid_of(epoch.number).commit_lead));
    // Without tickets there is nobody to seat.
    let drawn = epoch.status == Epoch::DRAWN && epoch.tickets > 0;
    let open = move |block: &&Block| {
        let lane = &block.lanes[(epoch.number & 1) as usize];
        drawn && block.occupied > 0 && block.seated_from <= epoch.number && (lane.epoch == NONE || lane.epoch < epoch.number)
    };
    view.blocks
        .iter()
        .map(AsRef::as_ref)
        .filter(open)
        .map(move |b| (deadline, Action::SeatBlock { epoch: epoch.number, block: b.index }))
}

/// Blocks whose committee of this epoch has had its time to reveal and is not tallied yet.
fn tallies(view: &ChainView, number: u32, now: i64) -> impl Iterator<Item = (i64, Action)> {
    let (_, opens, closes) = view.network.report_windows(number);
    let inside = now >= opens && now < closes;
    let waiting = move |block: &&Block| {
        let lane = &block.lanes[(number & 1) as usize];
        inside && lane.epoch == number && lane.tallied == 0
    };
    view.blocks
        .iter()
        .map(AsRef::as_ref)
        .filter(waiting)
        .map(move |b| (closes, Action::Tally { epoch: number, block: b.index }))
}

/// What is not of every epoch. None of it has a deadline that an epoch's work has not, so it comes after that.
fn chores(view: &ChainView, current: u32, now: i64) -> impl Iterator<Item = Action> {
    // The program wants the account of the current epoch in some of them.
    let advanced = view.network.current_epoch != NONE;
    let containers = view.chores.containers.iter().filter_map(move |watched| container(view, watched, current, advanced));
    let leases =
        view.chores.leases.iter().filter_map(move |(address, lease)| self::lease(view, *address, lease, now, advanced));
    containers.chain(leases)
}

fn block_of(view: &ChainView, index: u32) -> Option<&Block> {
    view.blocks.iter().map(AsRef::as_ref).find(|b| b.index == index)
}

/// What a frozen or left container wants.
fn container(view: &ChainView, watched: &Watched, current: u32, advanced: bool) -> Option<Action> {
    let Watched { address, container, case } = watched;
    let row = block_of(view, container.block)?.rows.get(usize::from(container.row))?;
    // The row may have been freed since the container was read.
    if row.provider != container.provider {
        return None;
    }
    if row.is_accused() {
        let (container, epoch) = (*address, row.first_condemned);
        let over = u64::from(current) >= u64::from(row.case_until) + 2;
        return match case.as_deref().filter(|case| case.epoch == epoch) {
            Some(case) => (case.status == Case::OPEN && over && advanced).then_some(Action::CloseCase { container, epoch }),
            // Unopened to the end: with enough condemned epochs it is opened even then, to be closed.
            None if over && u32::from(row.condemned) < row.condemning_epochs() => {
                Some(Action::ReleaseRow { container, epoch })
            }
            None => Some(Action::OpenCase { container, epoch }),
        };
    }
    let gone = row.status == Row::LEAVING && current > row.until;
    let free = container.lease == Address::default() && container.unsettled == 0;
    (gone && free && advanced).then_some(Action::VacateRow(*address))
}

/// What a lease wants.
fn lease(view: &ChainView, address: Address, lease: &Lease, now: i64, advanced: bool) -> Option<Action> {
    match lease.status {
        Lease::OPEN => (now > lease.start_by && advanced).then_some(Action::CancelLease(address)),
        Lease::STARTED if now >= lease.end() => Some(Action::CloseLease(address)),
        Lease::STARTED | Lease::ENDED => {
            // The program's own function says how far it would come.
            let mut settled = *lease;
            let block = block_of(view, lease.block)?;
            let done = settlement::settle(&mut settled, &view.network, block, now, MAX_SETTLED_EPOCHS).ok()?;
            let epoch = |time: i64| view.network.epoch_at(time).unwrap_or(0);
            let epochs = epoch(settled.settled_until).saturating_sub(epoch(lease.settled_until));
            // An ended one holds its container's row and its user's money: every step of it is worth a transaction.
            (done || lease.status == Lease::ENDED || epochs >= SETTLE_EVERY).then_some(Action::SettleLease(address))
        }
        _ => None,
    }
}

/// The next time (seconds of the chain's clock, after `now`) at which something may become due by the clock alone.
pub fn next_moment(view: &ChainView, now: i64) -> i64 {
    let network = &view.network;
    let Ok(number) = network.epoch_at(now) else { return network.grids[0].start.max(now.saturating_add(1)) };
    let (_, end) = network.bounds(number);
    let reveals_end = number.checked_sub(1).map(|before| network.report_windows(before).1);
    let next = reveals_end.filter(|t| *t > now).unwrap_or(end).min(end);
    // The draw waits for slots, not seconds: look again soon.
    let drawing = view
        .epoch
        .as_deref()
        .is_some_and(|e| e.number == number && e.status == Epoch::ADVANCED && now < network.draw_deadline(number));
    if drawing { now.saturating_add(1) } else { next.max(now.saturating_add(1)) }
}
