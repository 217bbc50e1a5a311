//! Indexers: who matches users to containers.

use anyhow::Result;
use clap::Subcommand;
use datagalax::state::Indexer;
use datagalax_client::{Address, addresses, amount::Ath, instructions};

use super::party::{self, Keys, Rotate};
use crate::{
    context::Context,
    report::{Cell, Report},
    time::utc,
};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Register an indexer and stake for it from the wallet of --keypair, its owner
    Register {
        /// URL where it is reached, at most 128 bytes
        #[arg(long, value_name = "URL")]
        endpoint: String,
        /// Hot key that signs matches; without it, the owner
        #[arg(long, value_name = "ADDRESS")]
        operator: Option<Address>,
        /// Wallet that receives fees and stake; without it, the owner
        #[arg(long, value_name = "ADDRESS")]
        payout: Option<Address>,
    },
    /// Replace its endpoint; --keypair is its operator or owner
    Update {
        /// Indexer's id
        id: u32,
        /// URL where it is reached, at most 128 bytes
        #[arg(long, value_name = "URL")]
        endpoint: String,
    },
    /// Ask its stake back and match nobody any more; --keypair is its owner
    Leave {
        /// Indexer's id
        id: u32,
    },
    /// Replace its keys; --keypair is its owner
    Rotate(Rotate),
    /// Become its owner, as named; --keypair is the key that was named
    Accept {
        /// Indexer's id
        id: u32,
    },
    /// One indexer
    Show {
        /// Indexer's id
        id: u32,
    },
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let network = context.network().await?;
        match self {
            Self::Register { endpoint, operator, payout } => {
                let signing = context.signer().await?;
                let (owner, id) = (signing.address(), network.indexers);
                let (operator, payout) = (operator.unwrap_or(owner), payout.unwrap_or(owner));
                let instruction = instructions::register_indexer(&owner, &network, &operator, &payout, &endpoint);
                let landed = signing.send("register the indexer", &[instruction]).await?;
                let indexer = context.reader.indexer(id).await?;
                Ok(Report::new().fields("indexer", fields(&indexer)).sent(format!("Indexer {id} registered."), landed))
            }
            Self::Update { id, endpoint } => {
                let signing = context.signer().await?;
                let instruction = instructions::update_indexer(&signing.address(), id, &endpoint);
                let landed = signing.send("update the indexer", &[instruction]).await?;
                Ok(Report::new().sent(format!("Indexer {id} is reached at {endpoint} now."), landed))
            }
            Self::Leave { id } => {
                let signing = context.signer().await?;
                let landed =
                    signing.send("let the indexer leave", &[instructions::leave_indexer(&signing.address(), id)]).await?;
                let unlocks_at = context.reader.indexer(id).await?.unlocks_at;
                let said = format!("Indexer {id} leaves: its stake unlocks at {}.", utc(unlocks_at));
                Ok(Report::new().sent(said, landed).note("Then withdraw it with `datagalax withdraw`."))
            }
            Self::Rotate(rotate) => {
                let indexer = context.reader.indexer(rotate.id()).await?;
                let account = addresses::indexer(indexer.id);
                rotate.run(context, "indexer", Keys { account, operator: indexer.operator, payout: indexer.payout }).await
            }
            Self::Accept { id } => party::accept(context, "indexer", id, addresses::indexer(id)).await,
            Self::Show { id } => {
                let indexer = context.reader.indexer(id).await?;
                Ok(Report::new().fields("indexer", fields(&indexer)))
            }
        }
    }
}

fn fields(indexer: &Indexer) -> Vec<(&'static str, Cell)> {
    let leaving = indexer.status == Indexer::LEAVING;
    let endpoint = &indexer.endpoint[..usize::from(indexer.endpoint_len).min(indexer.endpoint.len())];
    vec![
        ("id", indexer.id.into()),
        ("status", if leaving { "leaving" } else { "active" }.into()),
        ("owner", indexer.owner.into()),
        ("operator", indexer.operator.into()),
        ("payout", indexer.payout.into()),
        ("endpoint", String::from_utf8_lossy(endpoint).into_owned().into()),
        ("staked", Ath(indexer.staked).into()),
        ("stake_unlocks", if leaving { Cell::Time(indexer.unlocks_at) } else { Cell::None }),
        ("due", Ath(indexer.due).into()),
        ("earned", Ath(indexer.earned).into()),
        ("open_leases", indexer.open_leases.into()),
        ("matched", indexer.matched.into()),
    ]
}
