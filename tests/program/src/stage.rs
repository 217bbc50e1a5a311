//! A network at work: checkers, one provider, one block with a few rows.

use crate::{Checker, Provider, Report, Settings, World, epochs::Votes, settings::ATH};

/// Weight of a unit of class 0.
pub const WEIGHT: u16 = 100;

/// A world and the actors in it.
#[derive(Clone)]
pub struct Stage {
    /// The world.
    pub world: World,
    /// The checkers, by id.
    pub checkers: Vec<Checker>,
    /// The provider of all its containers.
    pub provider: Provider,
    /// The block that they are in.
    pub block: u32,
}

impl Stage {
    /// In epoch 0, drawn: `checkers` of one ticket each are in the order, `rows` containers of one unit are registered.
    pub fn of(settings: Settings, checkers: u32, rows: u32) -> Self {
        let mut world = World::with(settings);
        world.class_of(0, WEIGHT);
        let checkers: Vec<_> = (0..checkers).map(|_| world.checker_with(1, 0)).collect();
        let block = world.grown_block();
        let provider = world.provider_with(100_000 * ATH);
        world.open(0);
        world.containers(&provider, 0, block, 0, rows);
        world.check_books();
        Self { world, checkers, provider, block }
    }

    /// [`Self::of`] with the default settings.
    pub fn new(checkers: u32, rows: u32) -> Self {
        Self::of(Settings::default(), checkers, rows)
    }

    /// Passes whole epochs up to and with this one.
    #[track_caller]
    pub fn pass_to(mut self, epoch: u32, votes: Votes) -> Self {
        let next = self.world.network().current_epoch + 1;
        for number in next..=epoch {
            self.world.pass(&self.checkers, number, votes);
        }
        self
    }

    /// Passes one epoch.
    #[track_caller]
    pub fn pass(&mut self, epoch: u32, votes: Votes) {
        self.world.pass(&self.checkers, epoch, votes);
    }

    /// Opens the next epoch: advance, churn, draw, seats.
    #[track_caller]
    pub fn open_next(mut self) -> Self {
        let next = self.world.network().current_epoch + 1;
        self.world.open(next);
        self
    }
}

/// Everybody reports that everything is perfect.
pub fn perfect() -> impl Fn(crate::epochs::SeatAt) -> Option<Report> {
    crate::epochs::all(Report::perfect())
}
