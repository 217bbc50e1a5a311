//! What a vault owes: vested rewards, unlocked stake, income and refunds of leases, fees. Anybody may have it paid out; it goes to
//! the wallet that the account names.

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use datagalax::{
    constants::{DAY, NONE, SLOT_REST},
    state::{Checker, Indexer, Keeper, Lease, Network, Provider, Ticket},
};
use datagalax_client::{
    Address, addresses, addresses::Vault, amount::Ath, clock::read_clock, instructions, pipeline::Landed, token,
};
use solana_instruction::Instruction;

use super::checker::SLOTS_A_CALL;
use crate::{
    context::{Context, Signing},
    report::{Cell, Report},
};

/// For whom.
#[derive(Args)]
pub struct Withdraw {
    /// Only for this account: a provider's, checker's, indexer's, keeper's or lease's; without it, for all that --keypair has a
    /// part in
    #[arg(long, value_name = "ADDRESS")]
    account: Option<Address>,
}

/// One payment that is due.
struct Due {
    account: Address,
    what: &'static str,
    vault: Vault,
    owed: u64,
    wallet: Address,
    instruction: Instruction,
}

impl Due {
    fn of(
        network: &Network,
        account: Address,
        wallet: Address,
        vault: Vault,
        what: &'static str,
        owed: u64,
    ) -> Option<Self> {
        let instruction = instructions::withdraw(network, &account, vault, &wallet);
        (owed > 0).then_some(Self { account, what, vault, owed, wallet, instruction })
    }
}

/// What a provider may withdraw now.
fn of_provider(network: &Network, account: Address, p: &Provider, now: i64) -> Result<Vec<Due>> {
    let due = |vault, what, owed| Due::of(network, account, p.payout, vault, what, owed);
    let all = [
        due(Vault::Rewards, "vested rewards", vested(network, p, now)?),
        due(Vault::Stake, "unlocked stake", unlocked(p, now)),
        due(Vault::Escrow, "income of leases", p.lease_due),
    ];
    Ok(all.into_iter().flatten().collect())
}

/// What of a provider's grants has vested and is not withdrawn, base units.
pub fn vested(network: &Network, provider: &Provider, now: i64) -> Result<u64> {
    let day = u32::try_from(now / DAY).context("the chain's clock is out of range")?;
    provider
        .vested(day, &network.vesting_terms)
        .ok()
        .context("the provider names vesting terms that the network does not keep")
}

/// What of a provider's stake was asked back and has unlocked, base units.
pub fn unlocked(provider: &Provider, now: i64) -> u64 {
    provider.unbonding_entries.iter().filter(|e| e.unlocks_at <= now).map(|e| e.amount).fold(0, u64::saturating_add)
}

fn of_indexer(network: &Network, account: Address, i: &Indexer, now: i64) -> Vec<Due> {
    let stake = if i.status == Indexer::LEAVING && i.unlocks_at <= now { i.staked } else { 0 };
    let due = |vault, what, owed| Due::of(network, account, i.payout, vault, what, owed);
    [due(Vault::Stake, "unlocked stake", stake), due(Vault::Escrow, "fees of leases", i.due)].into_iter().flatten().collect()
}

fn of_lease(network: &Network, account: Address, l: &Lease) -> Vec<Due> {
    let due = |vault, what, owed| Due::of(network, account, l.user, vault, what, owed);
    let refund = l.refunded.saturating_sub(l.withdrawn);
    let compensation = l.compensation.saturating_sub(l.compensation_withdrawn);
    [due(Vault::Escrow, "refund", refund), due(Vault::Stake, "compensation", compensation)].into_iter().flatten().collect()
}

fn of_keeper(network: &Network, account: Address, k: &Keeper) -> Vec<Due> {
    Due::of(network, account, k.wallet, Vault::Rewards, "keeper's fees", k.due).into_iter().collect()
}

/// Whether a ticket's price can be withdrawn in an epoch at a time, its pay apart.
fn is_free(ticket: &Ticket, current: u32, now: i64) -> bool {
    ticket.is_out()
        && ticket.removed != NONE
        && u64::from(current) >= u64::from(ticket.removed) + u64::from(SLOT_REST)
        && now >= i64::from(ticket.unlocks_at)
        && ticket.accrued == 0
}

/// A checker's tickets whose price can be withdrawn now, as many a call as fit a transaction.
async fn of_checker(context: &Context, network: &Network, checker: &Checker, now: i64) -> Result<Vec<Due>> {
    let Ok(current) = network.epoch_at(now) else { return Ok(vec![]) };
    let set = context.reader.checker_set().await?;
    let free: Vec<(u32, u64)> = (0u32..)
        .zip(&set.tickets)
        .filter(|(_, t)| t.checker == checker.id && is_free(t, current, now))
        .map(|(slot, t)| (slot, t.price))
        .collect();
    let calls = free.chunks(SLOTS_A_CALL).map(|part| {
        let slots: Vec<u32> = part.iter().map(|(slot, _)| *slot).collect();
        Due {
            account: addresses::checker(checker.id),
            what: "price of tickets",
            vault: Vault::Stake,
            owed: part.iter().map(|(_, price)| *price).fold(0, u64::saturating_add),
            wallet: checker.payout,
            instruction: instructions::withdraw_tickets(network, checker, &slots),
        }
    });
    Ok(calls.collect())
}

/// Everything that an account is owed now, whatever it is.
async fn of_account(context: &Context, network: &Network, account: Address, now: i64) -> Result<Vec<Due>> {
    let reader = &context.reader;
    // The first read that fits its type counts; the last one's error says what the account is not.
    if let Ok(provider) = reader.get::<Provider>(&account).await {
        return of_provider(network, account, &provider, now);
    }
    if let Ok(checker) = reader.get::<Checker>(&account).await {
        return of_checker(context, network, &checker, now).await;
    }
    if let Ok(indexer) = reader.get::<Indexer>(&account).await {
        return Ok(of_indexer(network, account, &indexer, now));
    }
    if let Ok(keeper) = reader.get::<Keeper>(&account).await {
        return Ok(of_keeper(network, account, &keeper));
    }
    let lease = reader.get::<Lease>(&account).await;
    let lease = lease.context(
        "nothing can be withdrawn for this account: name a provider's, checker's, indexer's, keeper's or lease's",
    )?;
    Ok(of_lease(network, account, &lease))
}

/// Everything that accounts in which a key has a part are owed now, and how many such accounts there are.
async fn of_key(context: &Context, network: &Network, me: Address, now: i64) -> Result<(Vec<Due>, usize)> {
    let reader = &context.reader;
    let (mut due, mut mine) = (Vec::new(), 0);
    for (account, p) in reader.list::<Provider>().await? {
        if [p.owner, p.operator, p.payout].contains(&me) {
            mine += 1;
            due.extend(of_provider(network, account, &p, now)?);
        }
    }
    for (_, c) in reader.list::<Checker>().await? {
        if [c.owner, c.operator, c.payout].contains(&me) {
            mine += 1;
            due.extend(of_checker(context, network, &c, now).await?);
        }
    }
    for (account, i) in reader.list::<Indexer>().await? {
        if [i.owner, i.operator, i.payout].contains(&me) {
            mine += 1;
            due.extend(of_indexer(network, account, &i, now));
        }
    }
    let keeper = addresses::keeper(&me);
    if let Some(k) = reader.find::<Keeper>(&keeper).await? {
        mine += 1;
        due.extend(of_keeper(network, keeper, &k));
    }
    for (account, l) in reader.leases_of(&me).await? {
        mine += 1;
        due.extend(of_lease(network, account, &l));
    }
    Ok((due, mine))
}

impl Withdraw {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let network = context.network().await?;
        let now = read_clock(context.reader.rpc().as_ref()).await?.unix_timestamp;
        let signing = context.signer().await?;
        let due = match self.account {
            Some(account) => of_account(context, &network, account, now).await?,
            None => {
                let me = signing.address();
                let (due, mine) = of_key(context, &network, me, now).await?;
                ensure!(
                    mine > 0,
                    "{me} has a part in no provider, checker, indexer, keeper or lease: name another key with --keypair, or an account with --account"
                );
                due
            }
        };
        pay(context, &network, &signing, due).await
    }
}

/// Withdraws what a checker's tickets may be withdrawn for.
pub async fn tickets(context: &Context, checker: &Checker) -> Result<Report> {
    let network = context.network().await?;
    let now = read_clock(context.reader.rpc().as_ref()).await?.unix_timestamp;
    let signing = context.signer().await?;
    let due = of_checker(context, &network, checker, now).await?;
    pay(context, &network, &signing, due).await
}

const COLUMNS: [&str; 7] = ["account", "what", "vault", "owed", "paid", "wallet", "balance"];

/// Sends each payment and shows what arrived: a vault's circuit breaker may hold a part back.
async fn pay(context: &Context, network: &Network, signing: &Signing, due: Vec<Due>) -> Result<Report> {
    let mut rows = Vec::new();
    let mut sent: Vec<(String, Landed)> = Vec::new();
    let nothing = due.is_empty();
    for payment in due {
        let home = token::home(&payment.wallet, network);
        let balance = || async { Ok::<_, anyhow::Error>(context.reader.token_balance(&home).await?) };
        let before = balance().await?;
        if before.is_none() {
            // On its own, so that a call with many slots has all of its transaction.
            let create = token::create_home(&signing.address(), &payment.wallet, network);
            signing.send("create a token account", &[create]).await?;
        }
        let label = format!("withdraw {} of {}", payment.what, payment.account);
        let landed = signing.send(&label, std::slice::from_ref(&payment.instruction)).await?;
        let after = balance().await?.context("the wallet's token account is gone")?;
        let paid = after.saturating_sub(before.unwrap_or(0));
        rows.push(vec![
            payment.account.into(),
            payment.what.into(),
            payment.vault.name().into(),
            Ath(payment.owed).into(),
            Ath(paid).into(),
            payment.wallet.into(),
            Cell::from(Ath(after)),
        ]);
        sent.push((format!("Withdrew {} ATH, {}.", Ath(paid), payment.what), landed));
    }
    let mut report = Report::new().rows("withdrawals", &COLUMNS, rows);
    for (said, landed) in sent {
        report = report.sent(said, landed);
    }
    if nothing {
        report = report.note("Nothing to withdraw yet: wait until something has vested, unlocked or been settled.");
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use datagalax::state::{Unbonding, VestingTerms};

    use super::*;

    #[test]
    fn a_provider_gets_what_vested_and_unlocked() {
        let mut network = bytemuck::allocation::zeroed_box::<Network>();
        network.vesting_terms[0] = VestingTerms {
            id: 1,
            immediate_bps: 3_000,
            short_bps: 3_000,
            short_days: 90,
            long_bps: 4_000,
            long_days: 180,
            from_day: 0,
        };
        let mut provider = bytemuck::allocation::zeroed_box::<Provider>();
        provider.grant(1_000_000, 20_000, 1).unwrap();
        (provider.withdrawn, provider.lease_due) = (100_000, 7);
        provider.unbonding_entries[2] = Unbonding { amount: 50, unlocks_at: 20_000 * DAY };
        provider.unbonding_entries[3] = Unbonding { amount: 60, unlocks_at: 20_000 * DAY + 1 };
        let due = of_provider(&network, Address::default(), &provider, 20_000 * DAY).unwrap();
        let amounts: Vec<_> = due.iter().map(|d| (d.vault, d.owed)).collect();
        assert_eq!(amounts, [(Vault::Rewards, 200_000), (Vault::Stake, 50), (Vault::Escrow, 7)]);
        // 45 days later: 30 + 15 + 10 percent.
        assert_eq!(vested(&network, &provider, 20_045 * DAY).unwrap(), 450_000);
    }

    #[test]
    fn a_ticket_is_free_three_epochs_after_its_removal_once_unlocked_and_claimed() {
        let mut ticket = Ticket::waiting(1, 5);
        (ticket.status, ticket.removed, ticket.unlocks_at) = (Ticket::REMOVED, 10, 1_000);
        assert!(is_free(&ticket, 13, 1_000));
        assert!(!is_free(&ticket, 12, 1_000) && !is_free(&ticket, 13, 999));
        ticket.accrued = 1;
        assert!(!is_free(&ticket, 13, 1_000));
        let live = Ticket { status: Ticket::LIVE, accrued: 0, ..ticket };
        assert!(!is_free(&live, 13, 1_000));
    }

    #[test]
    fn an_active_indexer_keeps_its_stake() {
        let network = bytemuck::allocation::zeroed_box::<Network>();
        let mut indexer: Indexer = Zeroable::zeroed();
        (indexer.status, indexer.staked, indexer.due) = (Indexer::ACTIVE, 9, 4);
        let owed =
            |i: &Indexer, now| of_indexer(&network, Address::default(), i, now).iter().map(|d| d.owed).collect::<Vec<_>>();
        assert_eq!(owed(&indexer, 100), [4]);
        (indexer.status, indexer.unlocks_at) = (Indexer::LEAVING, 100);
        assert_eq!((owed(&indexer, 99), owed(&indexer, 100)), (vec![4], vec![9, 4]));
    }
}
