//! Following a container from its registration to its first credited epoch, as the chain shows it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use datagalax::{
    constants::{HISTORY, NONE, VOID},
    report::Vote,
    state::{Block, Epoch, Lane, Network, Row},
};
use datagalax_client::{addresses, clock::read_clock};
use tokio::time::sleep;

use crate::{Books, Deployment};

/// Pause between two looks at the chain.
const LOOK: Duration = Duration::from_millis(400);
/// Epochs after which a run that credited nothing gives up: more than twice what it takes when all goes well.
const PATIENCE: u32 = 14;
/// Reads in a row that may fail before the run gives up: a slow answer is no end, a dead node is.
const READS: u32 = 10;

/// What the chain shows at one instant.
pub struct View {
    /// The chain's time, seconds.
    pub now: i64,
    /// Epoch by the clock, `None` before the first.
    pub epoch: Option<u32>,
    /// Seconds left of it.
    pub left: i64,
    /// The network.
    pub network: Box<Network>,
    /// The container's block.
    pub block: Box<Block>,
    /// The container's row.
    pub row: Row,
}

impl View {
    /// Seats of an epoch's committee that committed and that revealed, and how many there are.
    pub fn seats(&self, epoch: u32) -> Option<(usize, usize, u8)> {
        let lane = self.block.lane(epoch).ok()?;
        let committed = lane.committee.iter().filter(|s| s.is_filled() && s.has_committed()).count();
        let revealed = lane.committee.iter().filter(|s| s.revealed == 1).count();
        Some((committed, revealed, lane.seats))
    }

    /// Whether this epoch is tallied.
    pub fn is_tallied(&self, epoch: u32) -> bool {
        self.block.lane(epoch).is_ok_and(|lane| lane.tallied == 1)
    }
}

/// Something breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A checker dies.
    KillChecker(usize),
    /// It comes back on its store.
    RestartChecker(usize),
    /// The keeper dies.
    KillKeeper,
    /// It comes back.
    RestartKeeper,
    /// The host's agent dies.
    KillAgent,
    /// It comes back.
    RestartAgent,
}

/// Who is told what happens, and may break things.
pub trait Observer {
    /// A new look at the chain.
    fn looked(&mut self, view: &View);
    /// Something worth a line.
    fn happened(&mut self, line: String);
    /// What breaks now; asked after every look.
    fn fault(&mut self, _view: &View) -> Option<Fault> {
        None
    }
}

/// A seat's word on the container.
#[derive(Clone, Copy, Debug)]
pub struct SeatVote {
    /// Checker's id.
    pub checker: u32,
    /// Whether it committed.
    pub committed: bool,
    /// Whether it revealed.
    pub revealed: bool,
    /// What it voted, if it did.
    pub vote: Option<Vote>,
    /// Rows it was right on, of how many it was judged on.
    pub right: (u16, u16),
}

/// The first epoch that credited the container, complete.
pub struct Credited {
    /// Epoch the container was registered in.
    pub registered: u32,
    /// Epochs from the registration's on that had committees: on a busy machine one may not be drawn in time, and is void for all.
    pub drawn: Vec<u32>,
    /// First epoch it was checked in and found good.
    pub checked: u32,
    /// First epoch that earned.
    pub live_from: u32,
    /// The credited epoch's account.
    pub epoch: Box<Epoch>,
    /// Its committee's votes.
    pub votes: Vec<SeatVote>,
    /// Median availability, percent.
    pub availability: u8,
    /// Median capacity, percent.
    pub capacity: u8,
    /// The row after the tally.
    pub row: Row,
    /// Block and row of the container.
    pub place: (u32, u8),
}

impl Credited {
    /// The first epoch with committees that is not before this one.
    pub fn drawn_from(&self, first: u32) -> Option<u32> {
        self.drawn.iter().copied().find(|number| *number >= first)
    }
}

/// The epoch in which the container was registered.
///
/// # Errors
/// The chain cannot be read.
pub async fn registered_in(deployment: &Deployment) -> Result<u32> {
    let (network, container) =
        tokio::try_join!(deployment.reader.network(), deployment.reader.container(&deployment.container))?;
    network.epoch_at(container.registered_at).ok().context("registered before epoch 0")
}

/// Follows the container until an epoch is credited.
///
/// # Errors
/// A process that ended, a chain that cannot be read, or no credit within [`PATIENCE`] epochs.
pub async fn until_credited(deployment: &mut Deployment, observer: &mut dyn Observer) -> Result<Credited> {
    let container = deployment.reader.container(&deployment.container).await?;
    let place = (container.block, container.row);
    let registered = registered_in(deployment).await?;
    observer.happened(format!("Registered in epoch {registered}: block {}, row {}", place.0, place.1));
    let (mut seen, mut checked, mut failures) = (None, None, 0);
    loop {
        deployment.check()?;
        let view = match look(deployment, place).await {
            Ok(view) => view,
            Err(e) if failures < READS => {
                failures += 1;
                observer.happened(format!("The chain did not answer ({e:#}); trying again"));
                sleep(LOOK).await;
                continue;
            }
            Err(e) => return Err(e),
        };
        failures = 0;
        observer.looked(&view);
        // The lane of an epoch is judged once: speak of each tally once.
        let tallied = view.block.last_tallied;
        if tallied != NONE && seen != Some(tallied) {
            seen = Some(tallied);
            let lane = view.block.lane(tallied).context("the lane of the epoch tallied last")?;
            let votes = votes_of(lane, place.1);
            observer.happened(format!("Epoch {tallied} tallied: {}", verdict(&view.row, tallied, &votes)));
            // Whatever just happened, the books balance at every epoch.
            Books::audit(&deployment.reader).await?;
            if view.row.status == Row::LIVE && checked.is_none() {
                checked = Some(tallied);
                observer.happened(format!("The container is live from epoch {}", view.row.live_from));
            }
            if view.row.accrued > 0 {
                let epoch = deployment.reader.epoch(tallied).await?;
                let mut drawn = Vec::new();
                for number in registered..=tallied {
                    let epoch = deployment.reader.find::<Epoch>(&addresses::epoch(number)).await?;
                    drawn.extend(epoch.filter(|epoch| epoch.status == Epoch::DRAWN).map(|epoch| epoch.number));
                }
                let availability = view.row.history[(tallied % HISTORY) as usize] & !datagalax::constants::BREACHED;
                return Ok(Credited {
                    registered,
                    drawn,
                    checked: checked.unwrap_or(registered),
                    live_from: view.row.live_from,
                    availability,
                    capacity: view.row.full_capacity,
                    row: view.row,
                    epoch,
                    votes,
                    place,
                });
            }
        }
        if view.epoch.is_some_and(|e| e > registered + PATIENCE) {
            bail!("no epoch was credited in {PATIENCE} epochs; the logs are in {}", deployment.workdir.path().display());
        }
        if let Some(fault) = observer.fault(&view) {
            observer.happened(format!("Fault injected: {fault:?}"));
            inject(deployment, fault).await?;
        }
        sleep(LOOK).await;
    }
}

/// Looks once.
///
/// # Errors
/// The chain cannot be read.
pub async fn look(deployment: &Deployment, (block, row): (u32, u8)) -> Result<View> {
    let reader = &deployment.reader;
    let network = reader.network().await?;
    let block = reader.block(block).await?;
    let now = read_clock(reader.rpc().as_ref()).await?.unix_timestamp;
    let epoch = network.epoch_at(now).ok();
    let left = epoch.map_or(0, |e| network.bounds(e).1.saturating_sub(now));
    let row = block.rows[usize::from(row)];
    Ok(View { now, epoch, left, network, block, row })
}

async fn inject(deployment: &mut Deployment, fault: Fault) -> Result<()> {
    let daemon = match fault {
        Fault::KillChecker(i) | Fault::RestartChecker(i) => {
            &mut deployment.checkers.get_mut(i).context("there is no such checker")?.process
        }
        Fault::KillKeeper | Fault::RestartKeeper => &mut deployment.keeper,
        Fault::KillAgent | Fault::RestartAgent => &mut deployment.agent,
    };
    match fault {
        Fault::KillChecker(_) | Fault::KillKeeper | Fault::KillAgent => daemon.kill().await,
        Fault::RestartChecker(_) | Fault::RestartKeeper | Fault::RestartAgent => daemon.restart(),
    }
}

fn votes_of(lane: &Lane, row: u8) -> Vec<SeatVote> {
    let r = usize::from(row);
    lane.committee
        .iter()
        .filter(|seat| seat.is_filled())
        .map(|seat| SeatVote {
            checker: seat.checker,
            committed: seat.has_committed(),
            revealed: seat.revealed == 1,
            vote: (seat.revealed == 1).then(|| Vote::read(seat.availability[r], seat.capacity[r], seat.token[r])).flatten(),
            right: (seat.right, seat.judged),
        })
        .collect()
}

fn verdict(row: &Row, epoch: u32, votes: &[SeatVote]) -> String {
    let said: Vec<String> = votes
        .iter()
        .map(|v| match v.vote {
            Some(vote) => format!("{}/{}", vote.availability, vote.capacity),
            None if v.revealed => "no vote".into(),
            None => "silent".into(),
        })
        .collect();
    let said = said.join(", ");
    if row.history[(epoch % HISTORY) as usize] == VOID {
        return format!("void for this container (availability/capacity by seat: {said})");
    }
    format!("availability/capacity by seat {said}; earned so far {}", datagalax_client::amount::Ath(row.accrued))
}
