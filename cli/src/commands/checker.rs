//! Checkers: who measures.

use anyhow::{Result, ensure};
use clap::Subcommand;
use datagalax::{
    constants::{BPS, MAX_TICKETS_PER_CALL},
    state::{Checker, Ticket},
};
use datagalax_client::{Address, CheckerSet, amount::Ath, instructions, token};

use crate::{
    context::{Context, Signing, some},
    report::{Cell, Report},
};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Register a checker; --keypair becomes its owner
    Register {
        /// Hot key that commits and reveals; without it, the owner
        #[arg(long, value_name = "ADDRESS")]
        operator: Option<Address>,
        /// Wallet that receives pay; without it, the owner
        #[arg(long, value_name = "ADDRESS")]
        payout: Option<Address>,
        /// Operator's share of the pay in 1/100 percent, 0 to 10,000
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=BPS as i64), value_name = "BPS")]
        commission_bps: u16,
    },
    /// Stake for tickets from the wallet of --keypair, the owner
    Tickets {
        /// Checker's id
        id: u32,
        /// How many, 1 to 200
        #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_TICKETS_PER_CALL)))]
        count: u16,
    },
    /// One checker and its tickets
    Show {
        /// Checker's id
        id: u32,
    },
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Register { operator, payout, commission_bps } => register(context, operator, payout, commission_bps).await,
            Self::Tickets { id, count } => tickets(context, id, count).await,
            Self::Show { id } => show(context, id).await,
        }
    }
}

async fn register(
    context: &Context,
    operator: Option<Address>,
    payout: Option<Address>,
    commission_bps: u16,
) -> Result<Report> {
    let network = context.network().await?;
    let signing = context.signer().await?;
    let owner = signing.address();
    let (id, operator, payout) = (network.checkers, operator.unwrap_or(owner), payout.unwrap_or(owner));
    // The program pays commission and rest to two different accounts, so with one wallet for both nothing could be claimed.
    ensure!(
        commission_bps == 0 || operator != payout,
        "a commission is for an operator other than the payout wallet: name one with --operator or --payout, or leave out --commission-bps"
    );
    let instruction = instructions::register_checker(&owner, id, &operator, &payout, commission_bps);
    let landed = signing.send("register the checker", &[instruction]).await?;
    Ok(Report::new().fields("checker", vec![("id", id.into())]).sent(format!("Checker {id} registered."), landed))
}

async fn tickets(context: &Context, id: u32, count: u16) -> Result<Report> {
    let network = context.network().await?;
    let signing = context.signer().await?;
    let instruction = instructions::register_tickets(&signing.address(), id, &network.mint, count);
    let landed = signing.send("register tickets", &[instruction]).await?;
    let checker = context.reader.checker(id).await?;
    Ok(Report::new()
        .fields(
            "checker",
            vec![("id", id.into()), ("tickets", checker.tickets.into()), ("staked", Ath(checker.staked).into())],
        )
        .sent(format!("{count} tickets wait to enter at the next epoch."), landed))
}

async fn show(context: &Context, id: u32) -> Result<Report> {
    context.network().await?;
    let checker = context.reader.checker(id).await?;
    let set = context.reader.checker_set().await?;
    let slots = set.slots_of(id);
    let held: Vec<(u32, &Ticket)> = slots.iter().filter_map(|s| Some((*s, set.tickets.get(*s as usize)?))).collect();
    let waiting = held.iter().map(|(_, t)| t.accrued).fold(0, u64::saturating_add);
    let rows = held.iter().map(|(slot, t)| ticket_row(*slot, t)).collect();
    Ok(Report::new()
        .fields(
            "checker",
            vec![
                ("id", id.into()),
                ("owner", checker.owner.into()),
                ("operator", checker.operator.into()),
                ("payout", checker.payout.into()),
                ("commission_bps", checker.commission_bps.into()),
                ("staked", Ath(checker.staked).into()),
                ("tickets", checker.tickets.into()),
                ("retired", checker.retired.into()),
                ("unclaimed", Ath(waiting).into()),
                ("claimed", Ath(checker.claimed).into()),
            ],
        )
        .rows(
            "tickets",
            &["slot", "status", "position", "marked_epochs_of_64", "last_seat_epoch", "seats", "marked", "unclaimed"],
            rows,
        ))
}

fn ticket_row(slot: u32, ticket: &Ticket) -> Vec<Cell> {
    let status = match ticket.status {
        Ticket::WAITING => "waiting",
        Ticket::LIVE => "live",
        _ => "removed",
    };
    vec![
        slot.into(),
        status.into(),
        some(ticket.position).into(),
        ticket.record.count_ones().into(),
        some(ticket.epoch).into(),
        ticket.seats.into(),
        ticket.marked.into(),
        Ath(ticket.accrued).into(),
    ]
}

/// Slots of a checker whose tickets earned something, as many a claim as fit.
fn unclaimed(set: &CheckerSet, checker: u32) -> Vec<Vec<u32>> {
    let earning = |t: &Ticket| t.checker == checker && t.accrued > 0;
    let slots: Vec<u32> = (0u32..).zip(&set.tickets).filter(|(_, t)| earning(t)).map(|(slot, _)| slot).collect();
    slots.chunks(CLAIM_CHUNK).map(<[u32]>::to_vec).collect()
}

/// Slots a claim names: 4 bytes each of a transaction of 1,232, the rest taken by eleven accounts and a signature.
const CLAIM_CHUNK: usize = 120;

/// Claims what a checker's tickets earned; `None` when that is nothing.
pub async fn claim_all(context: &Context, signing: &Signing, checker: &Checker) -> Result<Option<Report>> {
    let network = context.network().await?;
    let claims = unclaimed(&context.reader.checker_set().await?, checker.id);
    if claims.is_empty() {
        return Ok(None);
    }
    let mut accounts = vec![token::create_associated_account(&signing.address(), &checker.payout, &network.mint)];
    if checker.commission_bps > 0 {
        accounts.push(token::create_associated_account(&signing.address(), &checker.operator, &network.mint));
    }
    // On their own, so that the first claim has the same room as the others.
    signing.send("create token accounts", &accounts).await?;
    let mut sent = Vec::new();
    for slots in claims {
        let claim = instructions::claim_seat_pay(&network, checker, &slots);
        sent.push(signing.send(&format!("claim pay of checker {}", checker.id), &[claim]).await?);
    }
    let wallet = token::associated_account(&checker.payout, &network.mint);
    let balance = context.reader.token_balance(&wallet).await?;
    ensure!(balance.is_some(), "the payout wallet's token account {wallet} is gone");
    let key = format!("checker_{}", checker.id);
    // By the chain's own count: a ticket may have earned more between the look at it and the claim.
    let paid = context.reader.checker(checker.id).await?.claimed.saturating_sub(checker.claimed);
    let mut report = Report::new().fields(
        key,
        vec![
            ("claimed_now", Ath(paid).into()),
            ("payout", checker.payout.into()),
            ("payout_balance", balance.map(Ath).into()),
        ],
    );
    for landed in sent {
        report = report.sent(format!("Claimed seat pay of checker {}.", checker.id), landed);
    }
    Ok(Some(report))
}

#[cfg(test)]
mod tests {
    use datagalax::state::CheckerSetHeader;

    use super::*;

    #[test]
    fn claims_name_earning_slots_of_the_checker_in_parts() {
        let header = CheckerSetHeader {
            version: 1,
            bump: 0,
            reserved_flags: [0; 2],
            live: 0,
            pending: 0,
            pending_head: 0,
            pending_tail: 0,
            free: 0,
            free_head: 0,
            reserved: [0; 36],
        };
        let tickets = (0..300u32).map(|i| Ticket { accrued: u64::from(i % 2), ..Ticket::waiting(i % 3 % 2) }).collect();
        let set = CheckerSet { header, tickets };
        let claims = unclaimed(&set, 0);
        let slots = claims.concat();
        assert!(slots.iter().all(|s| s % 2 == 1 && s % 3 != 1) && slots.len() == 100);
        assert_eq!(claims.len(), 1);
        assert!(unclaimed(&set, 7).is_empty());
    }

    #[test]
    fn the_largest_claim_fits_a_transaction() {
        // Signature, header, 12 keys (with payer and compute budget), blockhash, two instructions, slots.
        let bytes = 1 + 64 + 3 + 1 + 12 * 32 + 32 + 1 + (2 + 1 + 5) + (2 + 9 + 2 + 1 + 4) + 4 * CLAIM_CHUNK;
        assert!(bytes <= datagalax_client::pipeline::MAX_TRANSACTION, "{bytes}");
    }
}
