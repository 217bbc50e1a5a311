//! Cases: dishonesty, judged by every committee of its window; breach, a recorded fact.

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use datagalax::{
    constants::NONE,
    state::{Case, Container, Lease},
};
use datagalax_client::{Address, addresses, amount::Ath, instructions, pipeline::Landed};

use crate::{
    context::Context,
    report::{Cell, Report},
};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Open the case of a container that a committee condemned; anybody may, --keypair pays the rent
    Open {
        /// Container's address
        container: Address,
    },
    /// Decide a case of dishonesty whose window is over; anybody may
    Close {
        /// Container's address
        container: Address,
        /// Wallet whose keeper account gets the fee
        #[arg(long, value_name = "ADDRESS")]
        keeper: Option<Address>,
    },
    /// Release a container whose case nobody opened within its window; anybody may
    Release {
        /// Container's address
        container: Address,
    },
    /// Record that a lease was not served in two whole epochs in a row; anybody may, --keypair pays the rent
    Breach {
        /// Lease's address
        lease: Address,
        /// First of the two epochs
        epoch: u32,
    },
    /// All cases
    List,
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let network = context.network().await?;
        match self {
            Self::Open { container: address } => {
                let (container, epoch) = accused(context, &address).await?;
                let signing = context.signer().await?;
                let instruction = instructions::open_case(&signing.address(), &address, &container, epoch);
                let landed = signing.send("open the case", &[instruction]).await?;
                shown(context, addresses::case(&address, epoch, Case::DISHONEST), "Case opened.", landed).await
            }
            Self::Close { container: address, keeper } => {
                let (container, epoch) = accused(context, &address).await?;
                let signing = context.signer().await?;
                let keeper = keeper.as_ref().map(addresses::keeper);
                let instruction = instructions::close_case(&network, &address, &container, epoch, keeper);
                let landed = signing.send("close the case", &[instruction]).await?;
                shown(context, addresses::case(&address, epoch, Case::DISHONEST), "Case closed.", landed).await
            }
            Self::Release { container: address } => {
                let (container, epoch) = accused(context, &address).await?;
                let signing = context.signer().await?;
                let instruction = instructions::release_row(&address, &container, epoch);
                let landed = signing.send("release the container", &[instruction]).await?;
                Ok(Report::new()
                    .sent(format!("Container {address} released: what it accrued can be claimed again."), landed))
            }
            Self::Breach { lease: address, epoch } => {
                let lease = context.reader.get::<Lease>(&address).await?;
                let signing = context.signer().await?;
                let instruction = instructions::report_breach(&signing.address(), &address, &lease, epoch);
                let landed = signing.send("report the breach", &[instruction]).await?;
                shown(context, addresses::case(&lease.container, epoch, Case::BREACH), "Breach recorded.", landed).await
            }
            Self::List => {
                let mut cases = context.reader.list::<Case>().await?;
                cases.sort_by_key(|(_, case)| case.opened);
                let rows = cases.iter().map(|(address, case)| row(address, case)).collect();
                Ok(Report::new().rows("cases", &COLUMNS, rows))
            }
        }
    }
}

/// A container that is accused, and since which epoch.
async fn accused(context: &Context, address: &Address) -> Result<(Box<Container>, u32)> {
    let container = context.reader.container(address).await?;
    let block = context.reader.block(container.block).await?;
    let row = block.rows.get(usize::from(container.row)).context("the container's row is out of range")?;
    ensure!(
        row.is_accused() && row.first_condemned != NONE,
        "no committee has condemned container {address}: there is no case"
    );
    Ok((container, row.first_condemned))
}

async fn shown(context: &Context, address: Address, said: &str, landed: Landed) -> Result<Report> {
    let case = context.reader.get::<Case>(&address).await?;
    let fields = COLUMNS.into_iter().zip(row(&address, &case)).collect();
    Ok(Report::new().fields("case", fields).sent(said, landed))
}

const COLUMNS: [&str; 12] = [
    "address",
    "container",
    "kind",
    "status",
    "epoch",
    "until",
    "condemned",
    "opened",
    "stake_taken",
    "grants_taken",
    "accrual_taken",
    "compensation",
];

fn row(address: &Address, case: &Case) -> Vec<Cell> {
    let kind = if case.kind == Case::BREACH { "breach" } else { "dishonesty" };
    let status = match case.status {
        Case::OPEN => "open",
        Case::UPHELD => "upheld",
        _ => "rejected",
    };
    vec![
        (*address).into(),
        case.container.into(),
        kind.into(),
        status.into(),
        case.epoch.into(),
        case.until.into(),
        case.condemned.into(),
        Cell::Time(case.opened),
        Ath(case.stake_taken).into(),
        Ath(case.grants_taken).into(),
        Ath(case.accrual_taken).into(),
        Ath(case.compensation).into(),
    ]
}
