//! Epochs: what was measured and paid.

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use datagalax::{
    constants::SEATS,
    state::{Block, Epoch, Lane, Network, Row},
    tally::settle_seat,
};
use datagalax_client::{amount::Ath, clock::read_clock};

use crate::{
    context::{Context, some},
    judgement::{judge, pay},
    report::{Cell, Report},
};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// One epoch: its draw and its money
    Show {
        /// Number; without it, the epoch last advanced to
        number: Option<u32>,
    },
    /// What each seat said of each container in an epoch, the medians and the pay
    Report {
        /// Number; the blocks keep the reports of their last two epochs
        number: u32,
        /// Only this block
        #[arg(long, value_name = "INDEX")]
        block: Option<u32>,
    },
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let network = context.network().await?;
        match self {
            Self::Show { number } => show(context, &network, number).await,
            Self::Report { number, block } => report(context, &network, number, block).await,
        }
    }
}

async fn find(context: &Context, network: &Network, number: u32) -> Result<Box<Epoch>> {
    context.reader.epoch(number).await.map_err(|e| {
        if !e.is_not_found() {
            return e.into();
        }
        match some(network.current_epoch) {
            None => anyhow::anyhow!("no epoch has begun on chain yet: start a keeper (`datagalax-keeper`)"),
            Some(current) => anyhow::anyhow!(
                "there is no epoch {number}: the network is at epoch {current}, and epochs nobody advanced to are void"
            ),
        }
    })
}

async fn show(context: &Context, network: &Network, number: Option<u32>) -> Result<Report> {
    let number = number
        .or(some(network.current_epoch))
        .context("no epoch has begun on chain yet: start a keeper (`datagalax-keeper`)")?;
    let epoch = find(context, network, number).await?;
    let now = read_clock(context.reader.rpc().as_ref()).await?.unix_timestamp;
    let (start, end) = network.bounds(number);
    let (_, reveals_end, tally_end) = network.report_windows(number);
    let drawn = epoch.status == Epoch::DRAWN;
    let phase = match now {
        _ if !drawn && now >= network.draw_deadline(number) => "void: not drawn in its first quarter",
        _ if !drawn => "waiting for its draw",
        _ if now < end => "measuring and committing",
        _ if now < reveals_end => "revealing",
        _ if now < tally_end => "tallying",
        _ => "over",
    };
    Ok(Report::new().fields(
        "epoch",
        vec![
            ("number", number.into()),
            ("phase", phase.into()),
            ("start", Cell::Time(start)),
            ("end", Cell::Time(end)),
            ("reveals_until", Cell::Time(reveals_end)),
            ("tally_until", Cell::Time(tally_end)),
            ("drawn", drawn.into()),
            ("tickets", epoch.tickets.into()),
            ("blocks", epoch.blocks.into()),
            ("blocks_tallied", epoch.blocks_tallied.into()),
            ("nominal_weight", epoch.nominal.into()),
            // What one unit of weight earns for a whole epoch at 100 percent of both.
            ("pay_of_weight_1", epoch.rate.pay(10_000).map(Ath).into()),
            ("pay_of_a_seat", Ath(epoch.seat_pay).into()),
            ("pool", Ath(epoch.pool).into()),
            ("container_pool", Ath(epoch.container_pool).into()),
            ("container_credited", Ath(epoch.container_credited).into()),
            ("checker_pool", Ath(epoch.checker_pool).into()),
            ("checker_credited", Ath(epoch.checker_credited).into()),
            ("treasury_pool", Ath(epoch.treasury_pool).into()),
            ("keeper_credited", Ath(epoch.keeper_credited).into()),
            ("keeper_fee", Ath(epoch.keeper_fee).into()),
            ("tickets_to_churn", epoch.churn_left().into()),
            ("released", (epoch.released == 1).into()),
        ],
    ))
}

async fn report(context: &Context, network: &Network, number: u32, only: Option<u32>) -> Result<Report> {
    let epoch = find(context, network, number).await?;
    let blocks = match only {
        Some(index) => vec![context.reader.block(index).await?],
        None => context.reader.blocks(network.blocks).await?,
    };
    let mut report = Report::new();
    let (mut shown, mut credited) = (0u32, 0u64);
    for block in &blocks {
        let Ok(lane) = block.lane(number) else { continue };
        shown += 1;
        report = report.rows(format!("block_{}_seats", block.index), &SEAT_COLUMNS, seats(lane, &epoch));
        let (rows, sum) = rows(block, lane, &epoch);
        credited = credited.saturating_add(sum);
        report = report.rows(format!("block_{}_rows", block.index), &ROW_COLUMNS, rows);
    }
    if shown == 0 {
        let kept: Vec<u32> = blocks.iter().flat_map(|b| b.lanes.iter().filter_map(|l| some(l.epoch))).collect();
        match (kept.iter().min(), kept.iter().max()) {
            (Some(first), Some(last)) => {
                bail!(
                    "no block keeps reports of epoch {number}: they hold epochs {first} to {last}; a block keeps its last two"
                )
            }
            _ => bail!("no block has had a committee yet: register a container, run a keeper, and wait for a whole epoch"),
        }
    }
    // The chain keeps the sum only; what is shown by row has to agree with it.
    let complete = only.is_none() && epoch.blocks_tallied == shown;
    report = report.fields(
        "epoch",
        vec![
            ("number", number.into()),
            ("blocks_tallied", epoch.blocks_tallied.into()),
            ("container_credited", Ath(epoch.container_credited).into()),
            ("checker_credited", Ath(epoch.checker_credited).into()),
        ],
    );
    if !complete {
        report = report.note("Not every block is tallied: pay is what the tally will credit if no report follows.");
    } else if credited != epoch.container_credited {
        report = report.note(format!(
            "The rows shown add up to {} ATH, the chain credited {}: containers left or changed since.",
            Ath(credited),
            Ath(epoch.container_credited)
        ));
    }
    Ok(report)
}

const SEAT_COLUMNS: [&str; 8] = ["seat", "checker", "slot", "committed", "revealed", "judged", "right", "pay"];

fn seats(lane: &Lane, epoch: &Epoch) -> Vec<Vec<Cell>> {
    (0u8..)
        .zip(&lane.committee)
        .filter(|(_, seat)| seat.is_filled())
        .map(|(number, seat)| {
            let pay = (lane.tallied == 1).then(|| Ath(settle_seat(seat, epoch.seat_pay, epoch.blocks).pay));
            vec![
                number.into(),
                seat.checker.into(),
                seat.slot.into(),
                // Once revealed, the evidence root stands where the commitment was.
                (seat.revealed == 1 || seat.has_committed()).into(),
                (seat.revealed == 1).into(),
                seat.judged.into(),
                seat.right.into(),
                pay.into(),
            ]
        })
        .collect()
}

const ROW_COLUMNS: [&str; 11] =
    ["row", "provider", "status", "seat_0", "seat_1", "seat_2", "seat_3", "seat_4", "availability", "capacity", "pay"];

/// The rows of a block and the sum of their pay.
fn rows(block: &Block, lane: &Lane, epoch: &Epoch) -> (Vec<Vec<Cell>>, u64) {
    let (mut table, mut sum) = (Vec::new(), 0u64);
    for (index, row) in (0u8..=u8::MAX).zip(&block.rows).filter(|(_, row)| row.status != Row::FREE) {
        let judgement = judge(lane, index);
        let earned = pay(row, &judgement, epoch);
        sum = sum.saturating_add(earned);
        let mut cells: Vec<Cell> = vec![index.into(), row.provider.into(), status(row).into()];
        let vote = |seat: usize| {
            judgement.votes[seat].map(|v| {
                let verdict = if v.dishonest { " dishonest" } else { "" };
                format!("{}/{}{verdict}", v.availability, v.capacity)
            })
        };
        cells.extend((0..SEATS).map(|seat| Cell::from(vote(seat))));
        cells.push(judgement.medians.map_or(Cell::Text("void".into()), |m| Cell::Percent(m.availability)));
        cells.push(judgement.medians.map_or(Cell::None, |m| Cell::Percent(m.capacity)));
        cells.push(Ath(earned).into());
        table.push(cells);
    }
    (table, sum)
}

/// A row's place in the life of a container.
pub fn status(row: &Row) -> &'static str {
    match row.status {
        Row::FREE => "free",
        Row::CHECKING => "checking",
        Row::LIVE => "live",
        Row::LEAVING => "leaving",
        _ => "unknown",
    }
}
