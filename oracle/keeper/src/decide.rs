//! What is due, and until when. Pure: the chain as it was read, and a time.

use std::fmt;

use datagalax::{
    constants::{DAY, EPOCH_REST, HISTORY, MAX_SETTLED_EPOCHS, NONE},
    settlement,
    state::{Block, Case, Container, Epoch, Keeper, Lease, Network, Row},
};
use datagalax_client::Address;

use crate::{
    heads::BlockHead,
    plan::{Due, in_order},
};

/// Epochs that a running lease may have to be settled before a keeper pays a transaction for it: a quarter of what a row's history
/// keeps, so that a late keeper loses nobody a verdict.
const SETTLE_EVERY: u32 = 8;
/// Seconds for which a decided case is left for readers: as long as evidence is kept.
const CASE_KEPT: i64 = 30 * DAY;
/// Time of a slot, milliseconds, where seconds are made of slots.
const SLOT: i64 = 400;

/// What the decision is made from, read at about the same time.
#[derive(Clone)]
pub struct ChainView {
    /// The network.
    pub network: Box<Network>,
    /// Slot of the chain's clock.
    pub slot: u64,
    /// The chain's clock, seconds.
    pub now: i64,
    /// The epoch that the network advanced to last; `None` before the first.
    pub epoch: Option<Box<Epoch>>,
    /// Every block of full length, by index.
    pub blocks: Vec<BlockHead>,
    /// What is not of every epoch.
    pub chores: Chores,
    /// Wallets of the other keepers that are at work, as far as is known.
    pub others: Vec<Address>,
    /// This keeper's own account, if it has one: its address and what it is owed.
    pub keeper: Option<(Address, Box<Keeper>)>,
    /// From how much on its pay is withdrawn, base units; `None` when that is left to its owner.
    pub claim_from: Option<u64>,
    /// Lamports of the fee payer.
    pub balance: u64,
    /// Epochs whose accounts are left for readers before their rent is taken back.
    pub keep_epochs: u32,
}

/// Containers, cases and leases that may want something done. Read seldom, and only as much as one keeper does at a time.
#[derive(Clone, Default)]
pub struct Chores {
    /// Containers whose rows are frozen or left, with the case of a frozen one if somebody opened it.
    pub containers: Vec<Watched>,
    /// Leases that wait for their host, run, or have ended and are not settled.
    pub leases: Vec<(Address, Box<Lease>)>,
    /// Accounts that this keeper pays the rent of.
    pub rented: Vec<(Address, Rented)>,
}

/// An account whose rent this keeper paid and gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rented {
    /// An epoch's.
    Epoch {
        /// Its number.
        number: u32,
        /// Whether what nobody earned went back to the vault.
        released: bool,
    },
    /// A case's.
    Case {
        /// When it was decided, seconds of the chain's clock; `None` while it is open.
        closed: Option<i64>,
    },
}

/// A container whose row is frozen or left.
#[derive(Clone)]
pub struct Watched {
    /// Its address.
    pub address: Address,
    /// The account.
    pub container: Box<Container>,
    /// Its row, read after the account.
    pub row: Row,
    /// The case of dishonesty since the row's first condemned epoch.
    pub case: Option<Box<Case>>,
}

/// Rows of a block that may want something done: frozen ones, and those that left.
pub fn rows_of_interest(network: &Network, block: &Block, now: i64) -> Vec<u8> {
    let Ok(current) = network.epoch_at(now) else { return Vec::new() };
    let left = |row: &Row| row.status == Row::LEAVING && current > row.until;
    let rows = (0u8..=u8::MAX).zip(&block.rows);
    rows.filter(|(_, row)| row.is_accused() || left(row)).map(|(index, _)| index).collect()
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
    /// Close an account whose rent this keeper paid, to get it back.
    Reclaim(Address),
    /// Have this keeper's own pay sent to its wallet.
    Claim,
}

/// What kind of action, for settings, books and batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// [`Action::Advance`]
    Advance,
    /// [`Action::Churn`]
    Churn,
    /// [`Action::Draw`]
    Draw,
    /// [`Action::SeatBlock`]
    Seat,
    /// [`Action::Tally`]
    Tally,
    /// [`Action::OpenCase`]
    OpenCase,
    /// [`Action::CloseCase`]
    CloseCase,
    /// [`Action::ReleaseRow`]
    Release,
    /// [`Action::VacateRow`]
    Vacate,
    /// [`Action::CancelLease`]
    CancelLease,
    /// [`Action::CloseLease`]
    CloseLease,
    /// [`Action::SettleLease`]
    Settle,
    /// [`Action::Reclaim`]
    Reclaim,
    /// [`Action::Claim`]
    Claim,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Advance,
        Self::Churn,
        Self::Draw,
        Self::Seat,
        Self::Tally,
        Self::OpenCase,
        Self::CloseCase,
        Self::Release,
        Self::Vacate,
        Self::CancelLease,
        Self::CloseLease,
        Self::Settle,
        Self::Reclaim,
        Self::Claim,
    ];

    /// Its name in books, labels and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Advance => "advance",
            Self::Churn => "churn",
            Self::Draw => "draw",
            Self::Seat => "seat",
            Self::Tally => "tally",
            Self::OpenCase => "open-case",
            Self::CloseCase => "close-case",
            Self::Release => "release",
            Self::Vacate => "vacate",
            Self::CancelLease => "cancel-lease",
            Self::CloseLease => "close-lease",
            Self::Settle => "settle",
            Self::Reclaim => "reclaim",
            Self::Claim => "claim",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the program pays a keeper for it.
    pub const fn is_paid(self) -> bool {
        matches!(self, Self::Advance | Self::Draw | Self::Tally | Self::CloseCase)
    }

    /// Most of them that one transaction may hold, by its compute units and bytes (docs/costs.md): a tally of 256 leased rows takes
    /// 144,000 units, the settling of 64 epochs 28,000.
    pub const fn batch(self) -> usize {
        match self {
            Self::Advance | Self::Churn | Self::Draw | Self::Claim => 1,
            Self::Seat => 20,
            Self::Tally => 9,
            Self::OpenCase | Self::CloseCase | Self::Release | Self::Vacate => 3,
            Self::CancelLease | Self::CloseLease | Self::Settle => 4,
            Self::Reclaim => 8,
        }
    }
}

impl Action {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Advance(_) => Kind::Advance,
            Self::Churn(_) => Kind::Churn,
            Self::Draw(_) => Kind::Draw,
            Self::SeatBlock { .. } => Kind::Seat,
            Self::Tally { .. } => Kind::Tally,
            Self::OpenCase { .. } => Kind::OpenCase,
            Self::CloseCase { .. } => Kind::CloseCase,
            Self::ReleaseRow { .. } => Kind::Release,
            Self::VacateRow(_) => Kind::Vacate,
            Self::CancelLease(_) => Kind::CancelLease,
            Self::CloseLease(_) => Kind::CloseLease,
            Self::SettleLease(_) => Kind::Settle,
            Self::Reclaim(_) => Kind::Reclaim,
            Self::Claim => Kind::Claim,
        }
    }

    /// What it is about, the same on every keeper: its kind, a number or an address, and an epoch.
    pub fn subject(&self) -> [u8; 37] {
        let mut subject = [0; 37];
        subject[0] = self.kind() as u8;
        let (address, block, epoch) = match self {
            Self::Advance(epoch) | Self::Churn(epoch) | Self::Draw(epoch) => (None, 0, *epoch),
            Self::SeatBlock { epoch, block } | Self::Tally { epoch, block } => (None, *block, *epoch),
            Self::OpenCase { container, epoch }
            | Self::CloseCase { container, epoch }
            | Self::ReleaseRow { container, epoch } => (Some(container), 0, *epoch),
            Self::VacateRow(address)
            | Self::CancelLease(address)
            | Self::CloseLease(address)
            | Self::SettleLease(address)
            | Self::Reclaim(address) => (Some(address), 0, 0),
            Self::Claim => (None, 0, 0),
        };
        match address {
            Some(address) => subject[1..33].copy_from_slice(address.as_ref()),
            None => subject[1..5].copy_from_slice(&block.to_le_bytes()),
        }
        subject[33..].copy_from_slice(&epoch.to_le_bytes());
        subject
    }
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
            Self::Reclaim(account) => write!(f, "close {account} and get its rent back"),
            Self::Claim => f.write_str("withdraw the keeper's pay"),
        }
    }
}

/// What may be sent at `now` (seconds of the chain's clock), in the order in which it should be.
pub fn due(view: &ChainView, now: i64) -> Vec<Due> {
    let network = &view.network;
    let Ok(number) = network.epoch_at(now) else { return Vec::new() };
    let mut due = Vec::new();
    if network.current_epoch == NONE || network.current_epoch < number {
        due.push(advance(network, number, now));
    } else if let Some(epoch) = view.epoch.as_deref().filter(|e| e.number == number) {
        due.extend(draw(view, epoch, now));
        due.extend(seats(view, epoch, now));
    }
    if let Some(before) = number.checked_sub(1) {
        due.extend(tallies(view, before, now));
    }
    // The program wants the account of the current epoch in some of them.
    let advanced = network.current_epoch != NONE;
    due.extend(view.chores.containers.iter().filter_map(|watched| container(network, watched, number, now, advanced)));
    due.extend(view.chores.leases.iter().filter_map(|(address, l)| lease(view, *address, l, number, now, advanced)));
    due.extend(view.chores.rented.iter().filter_map(|(address, rented)| reclaim(view, *address, rented, now)));
    due.extend(claim(view));
    in_order(&mut due);
    due
}

/// [`due`] without the dates.
pub fn next_actions(view: &ChainView, now: i64) -> Vec<Action> {
    due(view, now).into_iter().map(|due| due.action).collect()
}

/// The first of these times that is not over.
fn ahead(now: i64, times: impl IntoIterator<Item = i64>) -> Option<i64> {
    times.into_iter().find(|time| *time > now)
}

fn advance(network: &Network, number: u32, now: i64) -> Due {
    let (_, end) = network.bounds(number);
    let draw_by = network.draw_deadline(number);
    // The draw waits for slots after it. Late in its epoch an advance still releases reservations and lets containers register, but
    // hurries nobody.
    let wait = (i64::from(network.parameters.draw_delay) + 2) * SLOT / 1_000 + 1;
    Due {
        action: Action::Advance(number),
        deadline: ahead(now, [draw_by - wait, draw_by, end]),
        since: now,
        value: u64::MAX,
    }
}

/// Churn or draw of the current epoch.
fn draw(view: &ChainView, epoch: &Epoch, now: i64) -> Option<Due> {
    let deadline = view.network.draw_deadline(epoch.number);
    if epoch.status != Epoch::ADVANCED || now >= deadline {
        return None;
    }
    // A slot's hash is known from the slot after it on.
    let action = match epoch.churn_left() {
        0 => (view.slot > epoch.draw_slot).then_some(Action::Draw(epoch.number))?,
        _ => Action::Churn(epoch.number),
    };
    Some(Due { action, deadline: Some(deadline), since: now, value: u64::MAX })
}

/// Blocks of the drawn epoch that have no committee yet. Nobody can commit to one before: by the middle of the epoch, then before
/// measuring ends, in the end before the epoch does.
fn seats<'a>(view: &'a ChainView, epoch: &'a Epoch, now: i64) -> impl Iterator<Item = Due> + 'a {
    let (start, end) = view.network.bounds(epoch.number);
    let lead = i64::from(view.network.grid_of(epoch.number).commit_lead);
    let deadline = ahead(now, [start.midpoint(end), end - lead, end]);
    // Without tickets there is nobody to seat.
    let drawn = epoch.status == Epoch::DRAWN && epoch.tickets > 0;
    let open = view.blocks.iter().filter(move |block| drawn && block.wants_seats(epoch.number));
    open.map(move |block| {
        let action = Action::SeatBlock { epoch: epoch.number, block: block.index };
        Due { action, deadline, since: now, value: u64::from(block.occupied) }
    })
}

/// Blocks whose committee of this epoch has had its time to reveal and is not tallied yet.
fn tallies(view: &ChainView, number: u32, now: i64) -> impl Iterator<Item = Due> {
    let (_, opens, closes) = view.network.report_windows(number);
    let inside = now >= opens && now < closes;
    view.blocks.iter().filter(move |block| inside && block.wants_tally(number)).map(move |block| {
        let action = Action::Tally { epoch: number, block: block.index };
        Due { action, deadline: Some(closes), since: opens, value: u64::from(block.occupied) }
    })
}

/// What a frozen or left container wants.
fn container(network: &Network, watched: &Watched, current: u32, now: i64, advanced: bool) -> Option<Due> {
    let Watched { address, container, row, case } = watched;
    // The row may have been freed since the container was read.
    if row.provider != container.provider {
        return None;
    }
    let value = container.locked_stake;
    let start = |epoch: u32| network.bounds(epoch).0;
    if row.is_accused() {
        let (container, epoch) = (*address, row.first_condemned);
        let ends = start(row.case_until.saturating_add(2));
        let over = u64::from(current) >= u64::from(row.case_until) + 2;
        let soon = |action| Due { action, deadline: None, since: ends, value };
        return match case.as_deref().filter(|case| case.epoch == epoch) {
            Some(case) => {
                (case.status == Case::OPEN && over && advanced).then(|| soon(Action::CloseCase { container, epoch }))
            }
            // Unopened to the end: with enough condemned epochs it is opened even then, to be closed.
            None if over && u32::from(row.condemned) < row.condemning_epochs() => {
                Some(soon(Action::ReleaseRow { container, epoch }))
            }
            // While the lane still holds the votes, accusers can be held to account.
            None => {
                let deadline = ahead(now, [start(epoch.saturating_add(2)), ends]);
                Some(Due { action: Action::OpenCase { container, epoch }, deadline, since: start(epoch), value })
            }
        };
    }
    let gone = row.status == Row::LEAVING && current > row.until;
    let free = container.lease == Address::default() && container.unsettled == 0;
    let since = start(row.until.saturating_add(1));
    (gone && free && advanced).then_some(Due { action: Action::VacateRow(*address), deadline: None, since, value })
}

/// What a lease wants.
fn lease(view: &ChainView, address: Address, lease: &Lease, current: u32, now: i64, advanced: bool) -> Option<Due> {
    let network = &view.network;
    let value = lease.held().unwrap_or(0);
    let some_time = |action, since| Due { action, deadline: None, since, value };
    match lease.status {
        Lease::OPEN => (now > lease.start_by && advanced).then(|| some_time(Action::CancelLease(address), lease.start_by)),
        Lease::STARTED if now >= lease.end() => Some(some_time(Action::CloseLease(address), lease.end())),
        Lease::STARTED | Lease::ENDED => {
            // The program's own function says how far it would come; how much it would pay is not asked.
            let mut settled = *lease;
            let at = view.blocks.binary_search_by_key(&lease.block, |block| block.index).ok()?;
            let block = view.blocks[at].sketch();
            let done = settlement::settle(&mut settled, network, &block, now, MAX_SETTLED_EPOCHS).ok()?;
            let epoch = |time: i64| network.epoch_at(time).unwrap_or(0);
            let first = epoch(lease.settled_until);
            let epochs = epoch(settled.settled_until).saturating_sub(first);
            // An ended one holds its container's row and its user's money: every step of it is worth a transaction.
            let worth = done || lease.status == Lease::ENDED || epochs >= SETTLE_EVERY;
            // The verdict of its first epoch is overwritten by the one 32 later, which is tallied from its end on; if that is over,
            // the next is at the end of this epoch.
            let ring = network.bounds(first.saturating_add(HISTORY)).1.max(network.bounds(current).1);
            let (action, since) = (Action::SettleLease(address), lease.settled_until);
            worth.then_some(Due { action, deadline: Some(ring), since, value })
        }
        _ => None,
    }
}

/// An account that this keeper pays the rent of and nobody needs any more.
fn reclaim(view: &ChainView, address: Address, rented: &Rented, now: i64) -> Option<Due> {
    let over = match *rented {
        Rented::Epoch { number, released } => {
            let kept = view.keep_epochs.max(EPOCH_REST);
            let current = view.network.current_epoch;
            released && current != NONE && number.saturating_add(kept) <= current
        }
        Rented::Case { closed } => closed.is_some_and(|closed| now >= closed.saturating_add(CASE_KEPT)),
    };
    over.then_some(Due { action: Action::Reclaim(address), deadline: None, since: i64::MAX - 1, value: 0 })
}

/// This keeper's own pay, when it is enough. Last of all.
fn claim(view: &ChainView) -> Option<Due> {
    let ((_, keeper), from) = (view.keeper.as_ref()?, view.claim_from?);
    let enough = keeper.due >= from.max(1);
    enough.then_some(Due { action: Action::Claim, deadline: None, since: i64::MAX, value: keeper.due })
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
