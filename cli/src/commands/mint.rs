//! A mint of $ATH for local networks.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use datagalax_client::{Address, amount::Ath, keys, token};
use solana_keypair::Keypair;
use solana_signer::Signer;

use super::ath;
use crate::{context::Context, report::Report};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Create a mint with 6 decimals; --keypair becomes its mint authority
    Create {
        /// Keypair file of the mint's own address, written when it is missing; without it, a new address whose key is dropped
        #[arg(long, value_name = "FILE")]
        mint_keypair: Option<PathBuf>,
    },
    /// Mint ATH into a wallet, creating its token account; --keypair is the mint authority
    To {
        /// Amount in ATH
        #[arg(value_parser = ath)]
        amount: u64,
        /// Wallet that receives it; without it, that of --keypair
        #[arg(long, value_name = "ADDRESS")]
        wallet: Option<Address>,
        /// The mint; without it, the network's
        #[arg(long, value_name = "ADDRESS")]
        mint: Option<Address>,
    },
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Create { mint_keypair } => create(context, mint_keypair).await,
            Self::To { amount, wallet, mint } => to(context, amount, wallet, mint).await,
        }
    }
}

async fn create(context: &Context, path: Option<PathBuf>) -> Result<Report> {
    let signing = context.signer().await?;
    let mint = path.map_or_else(|| Ok(Keypair::new()), |path| keys::load_or_create(&path))?;
    let (authority, address) = (signing.address(), mint.pubkey());
    let rent = context.reader.rpc().rent(token::MINT_LEN).await?;
    let instructions = token::create_mint(&authority, &address, &authority, rent);
    let landed = signing.send_with("create the mint", &instructions, &[&mint]).await?;
    Ok(Report::new()
        .fields("mint", vec![("address", address.into()), ("decimals", 6u8.into()), ("mint_authority", authority.into())])
        .sent("Mint created.", landed))
}

async fn to(context: &Context, amount: u64, wallet: Option<Address>, mint: Option<Address>) -> Result<Report> {
    let mint = match mint {
        Some(mint) => mint,
        None => context.network().await?.mint,
    };
    let signing = context.signer().await?;
    let wallet = wallet.unwrap_or(signing.address());
    let account = token::associated_account(&wallet, &mint);
    let instructions = [
        token::create_associated_account(&signing.address(), &wallet, &mint),
        token::mint_to(&mint, &account, &signing.address(), amount),
    ];
    let landed = signing.send("mint ATH", &instructions).await?;
    let balance = context.reader.token_balance(&account).await?;
    Ok(Report::new()
        .fields(
            "wallet",
            vec![("address", wallet.into()), ("token_account", account.into()), ("balance", balance.map(Ath).into())],
        )
        .sent(format!("Minted {} ATH.", Ath(amount)), landed))
}
