//! All leases of a user.

use anyhow::{Context as _, Result};
use clap::Args;
use datagalax::state::Lease;
use datagalax_client::{Address, amount::Ath};
use solana_signer::Signer as _;

use crate::{
    context::Context,
    lease::reason,
    report::{Cell, Report},
};

/// Whose.
#[derive(Args)]
pub struct List {
    /// Leases of this wallet; without it, of --keypair
    #[arg(long, value_name = "ADDRESS")]
    user: Option<Address>,
    /// Only those that are not settled to their end
    #[arg(long)]
    open: bool,
}

const COLUMNS: [&str; 12] = [
    "lease",
    "container",
    "state",
    "ended_because",
    "opened",
    "ends",
    "price_per_hour",
    "escrowed",
    "paid",
    "fee",
    "refunded",
    "held",
];

impl List {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let user = match self.user {
            Some(user) => user,
            None => context.load_key().context("name a wallet with --user, or a key with --keypair")?.pubkey(),
        };
        let mut leases = context.reader.leases_of(&user).await?;
        leases.retain(|(_, lease)| !self.open || lease.status != Lease::SETTLED);
        leases.sort_by_key(|(address, lease)| (std::cmp::Reverse(lease.opened), *address));
        let rows = leases.iter().map(|(address, lease)| row(address, lease)).collect();
        Ok(Report::new().rows("leases", &COLUMNS, rows))
    }
}

fn row(address: &Address, lease: &Lease) -> Vec<Cell> {
    vec![
        (*address).into(),
        lease.container.into(),
        reason::state(lease).into(),
        reason::word(lease).into(),
        Cell::Time(lease.opened),
        if lease.started == 0 && lease.ended == 0 { Cell::None } else { Cell::Time(lease.end()) },
        Ath(lease.price_per_hour).into(),
        Ath(lease.escrowed).into(),
        Ath(lease.paid).into(),
        Ath(lease.fee).into(),
        Ath(lease.refunded).into(),
        lease.held().ok().map(Ath).into(),
    ]
}
