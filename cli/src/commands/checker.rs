//! Checkers: who measures.

use anyhow::{Result, ensure};
use clap::Subcommand;
use datagalax::{
    constants::{BPS, MAX_TICKETS_PER_CALL},
    state::{Checker, Ticket},
};
use datagalax_client::{Address, CheckerSet, addresses, amount::Ath, instructions, token};

use super::{
    party::{self, Keys, Rotate},
    withdraw,
};
use crate::{
    context::{Context, Signing, some},
    report::{Cell, Report},
    time::utc,
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
        /// How many, 1 to 150
        #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_TICKETS_PER_CALL)))]
        count: u16,
    },
    /// Ask tickets out of the order; their price unlocks after the unbonding time; --keypair is the owner
    Leave {
        /// Checker's id
        id: u32,
        /// How many; those with the highest slots leave
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=SLOTS_A_CALL as i64), conflicts_with = "slots", required_unless_present = "slots")]
        count: Option<u16>,
        /// Exactly these slots, separated by commas
        #[arg(long, value_delimiter = ',', value_name = "SLOTS")]
        slots: Vec<u32>,
    },
    /// Have the price of removed tickets paid back to the payout wallet; anybody may
    WithdrawTickets {
        /// Checker's id
        id: u32,
    },
    /// Replace its keys; --keypair is its owner
    Rotate(Rotate),
    /// Become its owner, as named; --keypair is the key that was named
    Accept {
        /// Checker's id
        id: u32,
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
            Self::Leave { id, count, slots } => leave(context, id, count, slots).await,
            Self::WithdrawTickets { id } => {
                let checker = context.reader.checker(id).await?;
                withdraw::tickets(context, &checker).await
            }
            Self::Rotate(rotate) => {
                let checker = context.reader.checker(rotate.id()).await?;
                let account = addresses::checker(checker.id);
                let keys = Keys { account, operator: checker.operator, payout: checker.payout };
                rotate.run(context, "checker", keys).await
            }
            Self::Accept { id } => party::accept(context, "checker", id, addresses::checker(id)).await,
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
    let instruction = instructions::register_tickets(&signing.address(), &network, id, count);
    let landed = signing.send("register tickets", &[instruction]).await?;
    let checker = context.reader.checker(id).await?;
    Ok(Report::new()
        .fields(
            "checker",
            vec![("id", id.into()), ("tickets", checker.tickets.into()), ("staked", Ath(checker.staked).into())],
        )
        .sent(format!("{count} tickets wait to enter at the next epoch."), landed))
}

/// The last `count` slots of a checker whose tickets sit in the order or wait and were not asked out yet.
fn leaving(set: &CheckerSet, checker: u32, count: u16) -> Vec<u32> {
    let may_leave = |slot: &u32| {
        let ticket = set.tickets.get(*slot as usize);
        ticket.is_some_and(|t| t.unlocks_at == 0 && matches!(t.status, Ticket::LIVE | Ticket::WAITING))
    };
    let mut slots: Vec<u32> = set.slots_of(checker).into_iter().filter(may_leave).collect();
    slots.split_off(slots.len().saturating_sub(usize::from(count)))
}

async fn leave(context: &Context, id: u32, count: Option<u16>, slots: Vec<u32>) -> Result<Report> {
    context.network().await?;
    let slots = match count {
        Some(count) => leaving(&context.reader.checker_set().await?, id, count),
        None => slots,
    };
    ensure!(
        !slots.is_empty(),
        "checker {id} has no ticket that could leave: look at them with `datagalax checker show {id}`"
    );
    let signing = context.signer().await?;
    let landed = signing.send("leave", &[instructions::leave_tickets(&signing.address(), id, &slots)]).await?;
    let set = context.reader.checker_set().await?;
    let held: Vec<(u32, &Ticket)> = slots.iter().filter_map(|s| Some((*s, set.tickets.get(*s as usize)?))).collect();
    let unlocks_at = held.iter().map(|(_, t)| t.unlocks_at).max().unwrap_or_default();
    let rows = held.iter().map(|(slot, ticket)| ticket_row(*slot, ticket)).collect();
    Ok(Report::new()
        .rows("tickets", &TICKET_COLUMNS, rows)
        .sent(
            format!("{} tickets leave at a boundary; their price unlocks at {}.", slots.len(), utc(unlocks_at.into())),
            landed,
        )
        .note("Claim their pay, then withdraw their price with `datagalax withdraw`."))
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
        .rows("tickets", &TICKET_COLUMNS, rows))
}

const TICKET_COLUMNS: [&str; 10] = [
    "slot",
    "status",
    "position",
    "price",
    "unlocks",
    "marked_epochs_of_64",
    "last_seat_epoch",
    "seats",
    "marked",
    "unclaimed",
];

fn ticket_row(slot: u32, ticket: &Ticket) -> Vec<Cell> {
    let status = match ticket.status {
        Ticket::WAITING => "waiting",
        Ticket::LIVE => "live",
        Ticket::LEAVING => "leaving",
        Ticket::RETIRING => "retiring",
        Ticket::REMOVED => "removed",
        Ticket::RETIRED => "retired",
        _ => "free",
    };
    vec![
        slot.into(),
        status.into(),
        some(ticket.position).into(),
        Ath(ticket.price).into(),
        if ticket.unlocks_at == 0 { Cell::None } else { Cell::Time(ticket.unlocks_at.into()) },
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
    slots.chunks(SLOTS_A_CALL).map(<[u32]>::to_vec).collect()
}

/// Slots a call names: 4 bytes each of a transaction of 1,232, the rest taken by its accounts and a signature.
pub const SLOTS_A_CALL: usize = 110;

/// Claims what a checker's tickets earned; `None` when that is nothing.
pub async fn claim_all(context: &Context, signing: &Signing, checker: &Checker) -> Result<Option<Report>> {
    let network = context.network().await?;
    let claims = unclaimed(&context.reader.checker_set().await?, checker.id);
    if claims.is_empty() {
        return Ok(None);
    }
    let mut accounts = vec![token::create_home(&signing.address(), &checker.payout, &network)];
    if checker.commission_bps > 0 {
        accounts.push(token::create_home(&signing.address(), &checker.operator, &network));
    }
    // On their own, so that the first claim has the same room as the others.
    signing.send("create token accounts", &accounts).await?;
    let mut sent = Vec::new();
    for slots in claims {
        let claim = instructions::claim_seat_pay(&network, checker, &slots);
        sent.push(signing.send(&format!("claim pay of checker {}", checker.id), &[claim]).await?);
    }
    let wallet = token::home(&checker.payout, &network);
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
    use bytemuck::Zeroable;
    use datagalax::state::CheckerSetHeader;

    use super::*;

    fn set(tickets: Vec<Ticket>) -> CheckerSet {
        CheckerSet { header: CheckerSetHeader::zeroed(), tickets }
    }

    #[test]
    fn claims_name_earning_slots_of_the_checker_in_parts() {
        let tickets = (0..300u32).map(|i| Ticket { accrued: u64::from(i % 2), ..Ticket::waiting(i % 3 % 2, 1) }).collect();
        let set = set(tickets);
        let claims = unclaimed(&set, 0);
        let slots = claims.concat();
        assert!(slots.iter().all(|s| s % 2 == 1 && s % 3 != 1) && slots.len() == 100);
        assert_eq!(claims.len(), 1);
        assert!(unclaimed(&set, 7).is_empty());
    }

    #[test]
    fn those_leave_that_may_and_the_last_ones_first() {
        let ticket = |status| Ticket { status, ..Ticket::waiting(4, 1) };
        let asked = Ticket { unlocks_at: 9, ..ticket(Ticket::WAITING) };
        let all = [ticket(Ticket::LIVE), ticket(Ticket::WAITING), asked, ticket(Ticket::REMOVED), Ticket::waiting(5, 1)];
        let set = set(all.to_vec());
        assert_eq!(leaving(&set, 4, 1), [1]);
        assert_eq!(leaving(&set, 4, 9), [0, 1]);
        assert!(leaving(&set, 6, 1).is_empty());
    }

    #[test]
    fn the_largest_call_fits_a_transaction() {
        let many: Vec<u32> = (0..SLOTS_A_CALL as u32).collect();
        let keys = |n: u8| Address::new_from_array([n; 32]);
        let mut checker = Checker::zeroed();
        (checker.commission_bps, checker.operator, checker.payout) = (1, keys(1), keys(2));
        let mut network = bytemuck::allocation::zeroed_box::<datagalax::state::Network>();
        (network.mint, network.token_program) = (keys(3), keys(4));
        for instruction in [
            instructions::claim_seat_pay(&network, &checker, &many),
            instructions::withdraw_tickets(&network, &checker, &many),
            instructions::leave_tickets(&keys(5), 0, &many),
        ] {
            // Signature, header, keys (with payer, compute budget and the program), blockhash, two compute-budget instructions, this
            // one. The program is among its own accounts.
            let keys = instruction.accounts.len() + 2;
            let own = 1 + 1 + instruction.accounts.len() + 2 + instruction.data.len();
            let bytes = 1 + 64 + 3 + 1 + keys * 32 + 32 + 1 + (3 + 5) + (3 + 9) + own;
            assert!(bytes <= datagalax_client::pipeline::MAX_TRANSACTION, "{bytes}");
        }
    }
}
