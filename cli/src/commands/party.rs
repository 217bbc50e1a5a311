//! What providers, checkers and indexers have in common: their keys.

use anyhow::{Result, ensure};
use clap::Args;
use datagalax_client::{Address, instructions};

use crate::{context::Context, report::Report};

/// New keys. What is not named stays.
#[derive(Args)]
pub struct Rotate {
    /// Id
    id: u32,
    /// New hot key
    #[arg(long, value_name = "ADDRESS")]
    operator: Option<Address>,
    /// New wallet that receives every withdrawal
    #[arg(long, value_name = "ADDRESS")]
    payout: Option<Address>,
    /// Key that shall be the owner; it becomes that once it accepts
    #[arg(long, value_name = "ADDRESS")]
    next_owner: Option<Address>,
}

/// The keys of a provider, checker or indexer as they are.
pub struct Keys {
    /// Its account.
    pub account: Address,
    /// Hot key.
    pub operator: Address,
    /// Payout wallet.
    pub payout: Address,
}

impl Rotate {
    /// Id of the provider, checker or indexer.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Sends what was named; `kind` is "provider", "checker" or "indexer".
    pub async fn run(self, context: &Context, kind: &str, keys: Keys) -> Result<Report> {
        let rotates = self.operator.is_some() || self.payout.is_some();
        ensure!(
            rotates || self.next_owner.is_some(),
            "nothing to change: name at least one of --operator, --payout and --next-owner"
        );
        let signing = context.signer().await?;
        let (owner, account) = (signing.address(), keys.account);
        let (operator, payout) = (self.operator.unwrap_or(keys.operator), self.payout.unwrap_or(keys.payout));
        let mut all = Vec::new();
        if rotates {
            all.push(instructions::rotate_keys(&owner, &account, &operator, &payout));
        }
        if let Some(next) = self.next_owner {
            all.push(instructions::propose_owner(&owner, &account, &next));
        }
        let landed = signing.send(&format!("rotate keys of {kind} {}", self.id), &all).await?;
        let mut report = Report::new().fields(
            kind,
            vec![
                ("id", self.id.into()),
                ("operator", operator.into()),
                ("payout", payout.into()),
                ("next_owner", self.next_owner.into()),
            ],
        );
        report = report.sent(format!("Keys of {kind} {} changed.", self.id), landed);
        if self.next_owner.is_some() {
            report = report.note(format!("The next owner takes over with `datagalax {kind} accept {}`.", self.id));
        }
        Ok(report)
    }
}

/// Becomes the owner, as named.
pub async fn accept(context: &Context, kind: &str, id: u32, account: Address) -> Result<Report> {
    let signing = context.signer().await?;
    let instruction = instructions::accept_owner(&signing.address(), &account);
    let landed = signing.send(&format!("accept {kind} {id}"), &[instruction]).await?;
    Ok(Report::new().sent(format!("{} is the owner of {kind} {id} now.", signing.address()), landed))
}
