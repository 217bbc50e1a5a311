//! Keepers: who drives the epochs for a small fee.

use anyhow::{Context as _, Result};
use clap::Subcommand;
use datagalax::state::Keeper;
use datagalax_client::{Address, addresses, amount::Ath, instructions};

use crate::{context::Context, report::Report};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Open the account in which a keeper's fees are kept; --keypair pays its rent
    Register {
        /// Wallet of the keeper; without it, that of --keypair
        #[arg(long, value_name = "ADDRESS")]
        wallet: Option<Address>,
    },
    /// One keeper
    Show {
        /// Its wallet; without it, that of --keypair
        wallet: Option<Address>,
    },
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        context.network().await?;
        match self {
            Self::Register { wallet } => {
                let signing = context.signer().await?;
                let wallet = wallet.unwrap_or_else(|| signing.address());
                let instruction = instructions::register_keeper(&signing.address(), &wallet);
                let landed = signing.send("register the keeper", &[instruction]).await?;
                Ok(show(context, wallet).await?.sent("Keeper registered: `datagalax-keeper` names it by itself.", landed))
            }
            Self::Show { wallet: Some(wallet) } => show(context, wallet).await,
            Self::Show { wallet: None } => show(context, context.signer().await?.address()).await,
        }
    }
}

async fn show(context: &Context, wallet: Address) -> Result<Report> {
    let address = addresses::keeper(&wallet);
    let keeper = context.reader.find::<Keeper>(&address).await?;
    let keeper =
        keeper.with_context(|| format!("{wallet} is no keeper: open its account with `datagalax keeper register`"))?;
    Ok(Report::new().fields(
        "keeper",
        vec![
            ("address", address.into()),
            ("wallet", wallet.into()),
            ("due", Ath(keeper.due).into()),
            ("earned", Ath(keeper.earned).into()),
            ("actions", keeper.actions.into()),
        ],
    ))
}
