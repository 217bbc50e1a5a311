//! Providers: owners of containers.

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use datagalax::state::{Provider, Row};
use datagalax_client::{Address, amount::Ath, instructions, pipeline::Landed, token};

use super::ath;
use crate::{
    context::{Context, Signing},
    report::Report,
};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Register a provider; --keypair becomes its owner
    Register {
        /// Hot key that claims and tends containers; without it, the owner
        #[arg(long, value_name = "ADDRESS")]
        operator: Option<Address>,
        /// Wallet that receives rewards; without it, the owner
        #[arg(long, value_name = "ADDRESS")]
        payout: Option<Address>,
    },
    /// Add stake from the wallet of --keypair, the owner
    Stake {
        /// Provider's id
        id: u32,
        /// Amount in ATH
        #[arg(value_parser = ath)]
        amount: u64,
    },
    /// One provider
    Show {
        /// Provider's id
        id: u32,
    },
    /// Claim what its rows earned, to its payout wallet; --keypair is its operator or owner
    Claim {
        /// Provider's id
        id: u32,
    },
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Register { operator, payout } => register(context, operator, payout).await,
            Self::Stake { id, amount } => stake(context, id, amount).await,
            Self::Show { id } => show(context, id).await,
            Self::Claim { id } => claim(context, id).await,
        }
    }
}

async fn register(context: &Context, operator: Option<Address>, payout: Option<Address>) -> Result<Report> {
    let network = context.network().await?;
    let signing = context.signer().await?;
    let owner = signing.address();
    let (id, operator, payout) = (network.providers, operator.unwrap_or(owner), payout.unwrap_or(owner));
    let instruction = instructions::register_provider(&owner, id, &operator, &payout);
    let landed = signing.send("register the provider", &[instruction]).await?;
    Ok(Report::new().fields("provider", vec![("id", id.into())]).sent(format!("Provider {id} registered."), landed))
}

async fn stake(context: &Context, id: u32, amount: u64) -> Result<Report> {
    let network = context.network().await?;
    let signing = context.signer().await?;
    let instruction = instructions::stake(&signing.address(), id, &network.mint, amount);
    let landed = signing.send("stake", &[instruction]).await?;
    let provider = context.reader.provider(id).await?;
    Ok(Report::new()
        .fields("provider", vec![("staked", Ath(provider.staked).into()), ("free_stake", Ath(provider.free_stake()).into())])
        .sent(format!("Staked {} ATH.", Ath(amount)), landed))
}

/// Rows of a provider in a block and what they hold unclaimed, base units.
fn unclaimed(rows: &[Row], provider: u32) -> (Vec<u8>, u64) {
    let (mut mine, mut sum) = (Vec::new(), 0u64);
    for (index, row) in (0u8..=255).zip(rows) {
        if row.status != Row::FREE && row.provider == provider && row.accrued > 0 {
            mine.push(index);
            sum = sum.saturating_add(row.accrued);
        }
    }
    (mine, sum)
}

async fn show(context: &Context, id: u32) -> Result<Report> {
    let network = context.network().await?;
    let provider = context.reader.provider(id).await?;
    let blocks = context.reader.blocks(network.blocks).await?;
    let waiting = blocks.iter().map(|b| unclaimed(&b.rows, id).1).fold(0, u64::saturating_add);
    let wallet = token::associated_account(&provider.payout, &network.mint);
    let balance = context.reader.token_balance(&wallet).await?;
    Ok(Report::new().fields(
        "provider",
        vec![
            ("id", id.into()),
            ("owner", provider.owner.into()),
            ("operator", provider.operator.into()),
            ("payout", provider.payout.into()),
            ("staked", Ath(provider.staked).into()),
            ("locked_stake", Ath(provider.locked).into()),
            ("free_stake", Ath(provider.free_stake()).into()),
            ("containers", provider.containers.into()),
            ("unclaimed", Ath(waiting).into()),
            ("claimed", Ath(provider.claimed).into()),
            ("payout_balance", balance.map(Ath).into()),
        ],
    ))
}

async fn claim(context: &Context, id: u32) -> Result<Report> {
    let provider = context.reader.provider(id).await?;
    let signing = context.signer().await?;
    let may = [provider.operator, provider.owner].contains(&signing.address());
    ensure!(may, "{} is neither operator nor owner of provider {id}: name the key of one with --keypair", signing.address());
    let claimed = claim_all(context, &signing, &provider).await?;
    ensure!(
        !claimed.is_empty(),
        "provider {id} has nothing to claim: wait until an epoch was tallied in which its rows earned something"
    );
    report(context, &provider, claimed).await
}

/// Claims every row of a provider that earned something, a transaction for each block.
pub async fn claim_all(context: &Context, signing: &Signing, provider: &Provider) -> Result<Vec<(u32, Landed)>> {
    let network = context.network().await?;
    let create = token::create_associated_account(&signing.address(), &provider.payout, &network.mint);
    let mut claimed = Vec::new();
    for block in context.reader.blocks(network.blocks).await? {
        let (rows, amount) = unclaimed(&block.rows, provider.id);
        if amount > 0 {
            let claim = instructions::claim_rewards(&signing.address(), &network, provider, block.index, &rows);
            let landed = signing.send(&format!("claim block {}", block.index), &[create.clone(), claim]).await?;
            claimed.push((block.index, landed));
        }
    }
    Ok(claimed)
}

/// What was claimed since `provider` was read, and the wallet after it.
pub async fn report(context: &Context, provider: &Provider, claimed: Vec<(u32, Landed)>) -> Result<Report> {
    let network = context.network().await?;
    let wallet = token::associated_account(&provider.payout, &network.mint);
    let balance = context.reader.token_balance(&wallet).await?.context("the payout wallet's token account is gone")?;
    let key = format!("provider_{}", provider.id);
    // By the chain's own count: a row may have earned more between the look at it and the claim.
    let paid = context.reader.provider(provider.id).await?.claimed.saturating_sub(provider.claimed);
    let mut report = Report::new().fields(
        key,
        vec![("claimed_now", Ath(paid).into()), ("payout", provider.payout.into()), ("payout_balance", Ath(balance).into())],
    );
    for (block, landed) in claimed {
        report = report.sent(format!("Claimed from block {block}."), landed);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_of_the_provider_that_earned_are_claimed() {
        let mut rows = vec![Row::checking(1, 0, 1, 1, 0); 256];
        (rows[3].accrued, rows[255].accrued, rows[7].accrued) = (5, 6, 100);
        rows[7].provider = 2;
        assert_eq!(unclaimed(&rows, 1), (vec![3, 255], 11));
        assert_eq!(unclaimed(&rows, 9), (vec![], 0));
    }
}
