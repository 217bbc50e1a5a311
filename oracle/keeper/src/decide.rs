//! What is due. Pure: the chain as it was read, and a time.

use std::fmt;

use datagalax::{
    constants::NONE,
    state::{Block, Epoch, Network},
};

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
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Advance(epoch) => write!(f, "advance to epoch {epoch}"),
            Self::Churn(epoch) => write!(f, "churn before epoch {epoch}"),
            Self::Draw(epoch) => write!(f, "draw epoch {epoch}"),
            Self::SeatBlock { epoch, block } => write!(f, "seat block {block} for epoch {epoch}"),
            Self::Tally { epoch, block } => write!(f, "tally block {block} for epoch {epoch}"),
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
    let deadline = end.saturating_sub(i64::from(view.network.parameters.commit_lead));
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
