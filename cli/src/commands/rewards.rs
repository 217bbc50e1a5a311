//! The rewards vault.

use anyhow::Result;
use clap::Subcommand;
use datagalax_client::{addresses::Vault, amount::Ath, instructions};

use super::ath;
use crate::{context::Context, report::Report};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Move ATH from the wallet of --keypair into the rewards vault, for good
    Fund {
        /// Amount in ATH
        #[arg(value_parser = ath)]
        amount: u64,
    },
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let Self::Fund { amount } = self;
        let network = context.network().await?;
        let signing = context.signer().await?;
        let instruction = instructions::fund_rewards(&signing.address(), &network, amount);
        let landed = signing.send("fund the rewards vault", &[instruction]).await?;
        let ledger = context.reader.ledger(Vault::Rewards).await?;
        Ok(Report::new()
            .fields(
                "rewards_vault",
                vec![
                    ("balance", Ath(ledger.balance).into()),
                    ("liabilities", Ath(ledger.liabilities).into()),
                    ("free", Ath(ledger.free()).into()),
                ],
            )
            .sent(format!("Funded with {} ATH.", Ath(amount)), landed))
    }
}
