//! Providers: owners of containers.

use anyhow::{Result, ensure};
use clap::Subcommand;
use datagalax::{
    constants::DAY,
    state::{Network, Provider, Row},
    vesting,
};
use datagalax_client::{Address, addresses, amount::Ath, clock::read_clock, instructions, pipeline::Landed, token};

use super::{
    ath,
    party::{self, Keys, Rotate},
    withdraw::{unlocked, vested},
};
use crate::{
    context::{Context, Signing},
    report::{Cell, Report},
    time::utc,
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
    /// Ask free stake back; it unlocks after the unbonding time; --keypair is the owner
    Unstake {
        /// Provider's id
        id: u32,
        /// Amount in ATH
        #[arg(value_parser = ath)]
        amount: u64,
    },
    /// Lock again what a halted container lacks, out of the free stake; --keypair is the owner
    Restore {
        /// Container's address
        container: Address,
    },
    /// Replace its keys; --keypair is its owner
    Rotate(Rotate),
    /// Become its owner, as named; --keypair is the key that was named
    Accept {
        /// Provider's id
        id: u32,
    },
    /// One provider, its requests to unstake and its grants that still vest
    Show {
        /// Provider's id
        id: u32,
    },
    /// Claim what its rows earned into vesting; --keypair is its operator or owner
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
            Self::Unstake { id, amount } => unstake(context, id, amount).await,
            Self::Restore { container } => restore(context, container).await,
            Self::Rotate(rotate) => {
                let provider = context.reader.provider(rotate.id()).await?;
                let account = addresses::provider(provider.id);
                let keys = Keys { account, operator: provider.operator, payout: provider.payout };
                rotate.run(context, "provider", keys).await
            }
            Self::Accept { id } => party::accept(context, "provider", id, addresses::provider(id)).await,
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
    let instruction = instructions::stake(&signing.address(), &network, id, amount);
    let landed = signing.send("stake", &[instruction]).await?;
    let provider = context.reader.provider(id).await?;
    Ok(Report::new()
        .fields("provider", vec![("staked", Ath(provider.staked).into()), ("free_stake", Ath(provider.free_stake()).into())])
        .sent(format!("Staked {} ATH.", Ath(amount)), landed))
}

async fn unstake(context: &Context, id: u32, amount: u64) -> Result<Report> {
    let network = context.network().await?;
    let signing = context.signer().await?;
    let landed = signing.send("unstake", &[instructions::request_unstake(&signing.address(), id, amount)]).await?;
    let provider = context.reader.provider(id).await?;
    let now = read_clock(context.reader.rpc().as_ref()).await?.unix_timestamp;
    let unlocks_at = provider.unbonding_entries.iter().filter(|e| e.amount == amount).map(|e| e.unlocks_at).max();
    let unlocks_at = unlocks_at.unwrap_or(now.saturating_add(i64::from(network.parameters.unbonding)));
    Ok(Report::new()
        .fields(
            "provider",
            vec![
                ("staked", Ath(provider.staked).into()),
                ("free_stake", Ath(provider.free_stake()).into()),
                ("unbonding", Ath(provider.unbonding).into()),
                ("unlocks", Cell::Time(unlocks_at)),
            ],
        )
        .sent(format!("Asked {} ATH back: they unlock at {}.", Ath(amount), utc(unlocks_at)), landed)
        .note("Then withdraw them with `datagalax withdraw`."))
}

async fn restore(context: &Context, address: Address) -> Result<Report> {
    context.network().await?;
    let container = context.reader.container(&address).await?;
    let signing = context.signer().await?;
    let instruction = instructions::restore_stake(&signing.address(), &address, &container);
    let landed = signing.send("restore the stake", &[instruction]).await?;
    let container = context.reader.container(&address).await?;
    Ok(Report::new()
        .fields("container", vec![("address", address.into()), ("locked_stake", Ath(container.locked_stake).into())])
        .sent("Stake restored: the container is halted no more.", landed))
}

/// Rows of a provider in a block and what they hold unclaimed and unfrozen, base units.
fn unclaimed(rows: &[Row], provider: u32) -> (Vec<u8>, u64) {
    let (mut mine, mut sum) = (Vec::new(), 0u64);
    for (index, row) in (0u8..=255).zip(rows) {
        if row.status != Row::FREE && row.provider == provider && row.accrued > 0 && !row.is_accused() {
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
    let mine = || blocks.iter().flat_map(|b| b.rows.iter()).filter(|r| r.status != Row::FREE && r.provider == id);
    let frozen = mine().filter(|r| r.is_accused()).map(|r| r.accrued).fold(0, u64::saturating_add);
    let balance = context.reader.token_balance(&token::home(&provider.payout, &network)).await?;
    let now = read_clock(context.reader.rpc().as_ref()).await?.unix_timestamp;
    let (vested, owed) = (vested(&network, &provider, now)?, provider.owed_grants().unwrap_or(0));
    let report = Report::new().fields(
        "provider",
        vec![
            ("id", id.into()),
            ("owner", provider.owner.into()),
            ("operator", provider.operator.into()),
            ("payout", provider.payout.into()),
            ("staked", Ath(provider.staked).into()),
            ("locked_stake", Ath(provider.locked).into()),
            ("free_stake", Ath(provider.free_stake()).into()),
            ("unbonding", Ath(provider.unbonding).into()),
            ("containers", provider.containers.into()),
            ("unclaimed", Ath(waiting).into()),
            ("frozen_by_cases", Ath(frozen).into()),
            ("claimed", Ath(provider.claimed).into()),
            ("taken_by_cases", Ath(provider.taken).into()),
            ("withdrawn", Ath(provider.withdrawn).into()),
            ("vested", Ath(vested).into()),
            ("still_vesting", Ath(owed.saturating_sub(vested)).into()),
            ("unlocked_stake", Ath(unlocked(&provider, now)).into()),
            ("lease_income", Ath(provider.lease_due).into()),
            ("payout_balance", balance.map(Ath).into()),
        ],
    );
    let requests = provider.unbonding_entries.iter().filter(|e| e.amount > 0);
    let requests = requests.map(|e| vec![Ath(e.amount).into(), Cell::Time(e.unlocks_at)]).collect();
    Ok(report.rows("unstaking", &["amount", "unlocks"], requests).rows("grants", &GRANTS, grants(&network, &provider, now)))
}

const GRANTS: [&str; 5] = ["granted_on", "amount", "taken", "vested", "terms"];

/// The grants that have not vested whole, oldest first.
fn grants(network: &Network, provider: &Provider, now: i64) -> Vec<Vec<Cell>> {
    let today = u32::try_from(now / DAY).unwrap_or(u32::MAX);
    let mut open: Vec<_> = provider
        .grants
        .iter()
        .filter(|g| g.amount > g.taken)
        .filter_map(|g| Some((g, vesting::vested(g, today, &network.vesting_terms).ok()?)))
        .filter(|(g, vested)| *vested < g.amount - g.taken)
        .collect();
    open.sort_by_key(|(g, _)| g.day);
    open.iter()
        .map(|(g, vested)| {
            let day = Cell::Time(i64::from(g.day) * DAY);
            vec![day, Ath(g.amount).into(), Ath(g.taken).into(), Ath(*vested).into(), g.terms.into()]
        })
        .collect()
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
    let mut claimed = Vec::new();
    for block in context.reader.blocks(network.blocks).await? {
        let (rows, amount) = unclaimed(&block.rows, provider.id);
        if amount > 0 {
            let claim = instructions::claim_rewards(&signing.address(), provider.id, block.index, &rows);
            let landed = signing.send(&format!("claim block {}", block.index), &[claim]).await?;
            claimed.push((block.index, landed));
        }
    }
    Ok(claimed)
}

/// What was granted since `provider` was read, and what of all grants may be withdrawn now.
pub async fn report(context: &Context, provider: &Provider, claimed: Vec<(u32, Landed)>) -> Result<Report> {
    let network = context.network().await?;
    let now = read_clock(context.reader.rpc().as_ref()).await?.unix_timestamp;
    let after = context.reader.provider(provider.id).await?;
    let key = format!("provider_{}", provider.id);
    let (vested, owed) = (vested(&network, &after, now)?, after.owed_grants().unwrap_or(0));
    let mut report = Report::new().fields(
        key,
        vec![
            // By the chain's own count: a row may have earned more between the look at it and the claim.
            ("granted_now", Ath(after.claimed.saturating_sub(provider.claimed)).into()),
            ("vested", Ath(vested).into()),
            ("still_vesting", Ath(owed.saturating_sub(vested)).into()),
            ("payout", after.payout.into()),
        ],
    );
    for (block, landed) in claimed {
        report = report.sent(format!("Claimed from block {block}, into vesting."), landed);
    }
    Ok(report.note("What has vested is paid by `datagalax withdraw`."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_of_the_provider_that_earned_are_claimed() {
        let mut rows = vec![Row::checking(1, 0, 1, 1, 0); 256];
        (rows[3].accrued, rows[255].accrued, rows[7].accrued) = (5, 6, 100);
        rows[7].provider = 2;
        // Frozen by a case.
        rows[9].accrued = 50;
        rows[9].accuse(1, 8);
        assert_eq!(unclaimed(&rows, 1), (vec![3, 255], 11));
        assert_eq!(unclaimed(&rows, 9), (vec![], 0));
    }
}
