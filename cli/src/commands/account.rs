//! The end of accounts that are done with.

use anyhow::{Context as _, Result};
use clap::Subcommand;
use datagalax::state::{Case, Checker, Epoch, Indexer, Keeper, Lease, Provider};
use datagalax_client::{Address, instructions};

use crate::{context::Context, report::Report};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Close an account that is done with and return its rent to who paid it; a provider's, checker's, indexer's or keeper's own
    /// key signs, a lease's user, who paid a case's rent, and 30 days later anybody; an epoch may be closed by anybody
    Close {
        /// Address of a provider's, checker's, indexer's, keeper's, lease's, case's or epoch's account
        address: Address,
    },
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let Self::Close { address } = self;
        context.network().await?;
        let recipient = rent_payer(context, &address).await?;
        let signing = context.signer().await?;
        let instruction = instructions::close_account(&signing.address(), &address, &recipient);
        let landed = signing.send("close the account", &[instruction]).await?;
        Ok(Report::new()
            .fields("account", vec![("address", address.into()), ("rent_returned_to", recipient.into())])
            .sent(format!("Account {address} closed."), landed))
    }
}

/// Who paid an account's rent, of whatever type it is.
async fn rent_payer(context: &Context, address: &Address) -> Result<Address> {
    macro_rules! first_of {
        ($($type:ident . $field:ident),* $(,)?) => {
            $(if let Ok(account) = context.reader.get::<$type>(address).await {
                return Ok(account.$field);
            })*
        };
    }
    first_of!(
        Provider.rent_payer,
        Checker.rent_payer,
        Indexer.rent_payer,
        Keeper.rent_payer,
        Case.rent_payer,
        Epoch.rent_payer
    );
    let lease = context.reader.get::<Lease>(address).await;
    let what =
        "this account cannot be closed: name a provider's, checker's, indexer's, keeper's, lease's, case's or epoch's";
    Ok(lease.context(what)?.user)
}
