//! The program's rules about epochs, without money and reports: what it accepts and what it refuses. A cluster of it is in
//! [`world`].

pub mod world;

use std::collections::BTreeMap;

use bytemuck::Zeroable;
use datagalax::{
    constants::{CHURN_LIMIT, NONE},
    error::DatagalaxError::{self, *},
    state::{CheckerSetHeader, Epoch, Grid, Network},
};
use datagalax_keeper::{
    Action, ChainView, Chores,
    heads::{BlockHead, LaneHead},
    next_actions,
};

/// Slots a second, near enough.
const SLOTS: u64 = 2;
const START: i64 = 1_000_000;

#[derive(Clone)]
pub struct Model {
    pub network: Box<Network>,
    pub epochs: BTreeMap<u32, Box<Epoch>>,
    pub now: i64,
    pub slot: u64,
    tickets: CheckerSetHeader,
    blocks: Vec<BlockHead>,
}

impl Model {
    /// Blocks with one container each, registered in epoch 0, so seated from epoch 1; all tickets wait to enter.
    pub fn new(length: u32, reveal_window: u32, blocks: u32, tickets: u32) -> Self {
        let mut network = Box::<Network>::new(Network::zeroed());
        let grid = Grid { start: START, first_epoch: 0, length, reveal_window, commit_lead: 2 };
        network.grids = [grid, grid];
        network.current_epoch = NONE;
        network.previous_epoch = NONE;
        network.blocks = blocks;
        network.parameters.draw_delay = 2;
        let mut header = CheckerSetHeader::zeroed();
        header.pending = tickets;
        let lane = LaneHead { epoch: NONE, cursor: 0, seats: 0, tallied: false };
        let block = |index| BlockHead { index, seated_from: 1, last_tallied: NONE, occupied: 1, live: 0, lanes: [lane; 2] };
        let blocks = (0..blocks).map(block).collect();
        Self { network, epochs: BTreeMap::new(), now: START, slot: 50, tickets: header, blocks }
    }

    pub fn start(&self) -> i64 {
        START
    }

    pub fn tick(&mut self) {
        self.run_clock_to(self.now + 1);
    }

    pub fn run_clock_to(&mut self, time: i64) {
        let passed = u64::try_from(time - self.now).expect("time goes on");
        self.slot += passed * SLOTS;
        self.now = time;
    }

    /// Lets time pass with a keeper at work each second.
    pub fn run_to(&mut self, time: i64) {
        while self.now < time {
            for action in self.due() {
                self.perform(action).unwrap();
            }
            self.tick();
        }
    }

    pub fn view(&self) -> ChainView {
        ChainView {
            network: self.network.clone(),
            slot: self.slot,
            now: self.now,
            epoch: self.epochs.get(&self.network.current_epoch).cloned(),
            blocks: self.blocks.clone(),
            chores: Chores::default(),
            others: vec![],
            keeper: None,
            claim_from: None,
            balance: 1_000_000_000,
            keep_epochs: 48,
        }
    }

    pub fn due(&self) -> Vec<Action> {
        next_actions(&self.view(), self.now)
    }

    pub fn perform(&mut self, action: Action) -> Result<(), DatagalaxError> {
        let number = self.network.epoch_at(self.now).map_err(|_| NotStarted)?;
        let current = self.network.current_epoch;
        match action {
            Action::Advance(wanted) => {
                ensure(wanted == number, WrongEpoch)?;
                ensure(current == NONE || current < wanted, AlreadyAdvanced)?;
                let mut epoch = Box::<Epoch>::new(Epoch::zeroed());
                (epoch.number, epoch.status) = (wanted, Epoch::ADVANCED);
                epoch.entrants = self.tickets.pending;
                epoch.draw_slot = self.slot + u64::from(self.network.parameters.draw_delay);
                self.epochs.insert(wanted, epoch);
                self.network.previous_epoch = current;
                self.network.current_epoch = wanted;
            }
            Action::Churn(wanted) => {
                let epoch = current_epoch(&mut self.epochs, current, wanted)?;
                ensure(epoch.status == Epoch::ADVANCED, AlreadyDrawn)?;
                let moved = epoch.entrants.min(CHURN_LIMIT).saturating_sub(epoch.churned);
                ensure(moved > 0, NothingToChurn)?;
                epoch.churned += moved;
                self.tickets.pending -= moved;
                self.tickets.live += moved;
            }
            Action::Draw(wanted) => {
                let (start, end) = self.network.bounds(wanted);
                let epoch = current_epoch(&mut self.epochs, current, wanted)?;
                ensure(epoch.status == Epoch::ADVANCED, AlreadyDrawn)?;
                ensure(self.now < start + (end - start) / 4, EpochVoid)?;
                ensure(epoch.churned == epoch.entrants.min(CHURN_LIMIT), ChurnPending)?;
                ensure(self.slot > epoch.draw_slot, TooEarlyToDraw)?;
                (epoch.status, epoch.tickets) = (Epoch::DRAWN, self.tickets.live);
            }
            Action::SeatBlock { epoch, block } => {
                let drawn = self.epochs.get(&epoch).is_some_and(|e| e.status == Epoch::DRAWN);
                ensure(drawn, NotDrawn)?;
                ensure(number == epoch, WrongEpoch)?;
                let block = &mut self.blocks[block as usize];
                ensure(block.occupied > 0 && block.seated_from <= epoch, BlockEmpty)?;
                let lane = &mut block.lanes[(epoch & 1) as usize];
                ensure(lane.epoch == NONE || lane.epoch < epoch, AlreadySeated)?;
                (lane.epoch, lane.tallied) = (epoch, false);
            }
            Action::Tally { epoch, block } => {
                let (_, opens, closes) = self.network.report_windows(epoch);
                ensure(self.now >= opens && self.now < closes, OutsideTallyWindow)?;
                let lane = &mut self.blocks[block as usize].lanes[(epoch & 1) as usize];
                ensure(lane.epoch == epoch, NotSeated)?;
                ensure(!lane.tallied, AlreadyTallied)?;
                lane.tallied = true;
                self.epochs.get_mut(&epoch).ok_or(NotSeated)?.blocks_tallied += 1;
            }
            // Tested by themselves, in chores.rs: the model knows neither containers nor leases.
            _ => unreachable!("no chore is due without containers and leases: {action}"),
        }
        Ok(())
    }
}

fn current_epoch(
    epochs: &mut BTreeMap<u32, Box<Epoch>>,
    current: u32,
    wanted: u32,
) -> Result<&mut Box<Epoch>, DatagalaxError> {
    ensure(current == wanted, CurrentEpochRequired)?;
    epochs.get_mut(&wanted).ok_or(CurrentEpochRequired)
}

fn ensure(holds: bool, error: DatagalaxError) -> Result<(), DatagalaxError> {
    if holds { Ok(()) } else { Err(error) }
}
