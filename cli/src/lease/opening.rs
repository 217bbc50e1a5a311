//! Opening leases: which containers, what they cost, and how many one transaction holds.

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use datagalax::{
    constants::LONGEST_LEASE,
    settlement,
    state::{Lease, Network},
};
use datagalax_client::{
    Address, Reader, addresses,
    amount::Ath,
    instructions::{self, OpenLeaseArgs},
    pipeline::{Landed, MAX_TRANSACTION, transaction_bytes},
    token,
};
use datagalax_protocol::lease::Workload;
use solana_instruction::Instruction;

use super::{
    consent,
    kept::Kept,
    market,
    offer::{self, Offer, Wanted},
};
use crate::{
    commands::seconds,
    context::{Context, Signing},
    options::Output,
    report::{Cell, Report},
    time::{span, utc},
};

/// Which containers, for how long, and for how much.
#[derive(Args, Clone, Debug)]
pub struct Opening {
    #[command(flatten)]
    pub wanted: Wanted,
    /// For how long, such as 30min or 2h; what is not used goes back, but for the container's least time
    #[arg(long = "for", value_parser = seconds, default_value = "1h", value_name = "TIME")]
    pub seconds: u32,
    /// Do not ask before money is escrowed
    #[arg(long)]
    pub yes: bool,
}

/// A lease that was opened.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Its address.
    pub lease: Address,
    /// Its container.
    pub container: Address,
}

/// What a lease costs, base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// To the provider when all is delivered, rounded up.
    pub price: u64,
    /// The fee on that.
    pub fee: u64,
    /// What is escrowed: both.
    pub escrow: u64,
}

/// What an offer costs for so many seconds.
///
/// # Errors
/// More than any account holds.
pub fn cost(network: &Network, offer: &Offer, seconds: u32) -> Result<Cost> {
    let fee_bps = network.parameters.lease_fee_bps;
    let bill = settlement::Bill { price_per_hour: offer.container.price_per_hour, fee_bps, indexer_share_bps: 0 };
    let whole = u64::from(seconds);
    let amounts = bill.amounts(whole, whole * 100).ok();
    let both = bill.escrow(seconds).ok().zip(amounts);
    let (escrow, amounts) = both.with_context(|| format!("container {} asks more than any account holds", offer.address))?;
    Ok(Cost { price: escrow.saturating_sub(amounts.fee), fee: amounts.fee, escrow })
}

/// How many of these instructions, from the first on, one transaction holds.
pub fn fitting(payer: &Address, instructions: &[Instruction]) -> usize {
    let fits = |count: &usize| transaction_bytes(payer, &instructions[..*count]) <= MAX_TRANSACTION;
    (1..=instructions.len()).take_while(fits).last().unwrap_or(0)
}

impl Opening {
    /// Chooses `count` containers, or takes those that are named.
    ///
    /// # Errors
    /// What stands in the way, and what to do.
    pub async fn choose(&self, reader: &Reader, named: &[Address], count: usize) -> Result<Vec<Offer>> {
        let seconds = self.seconds;
        ensure!(seconds <= LONGEST_LEASE, "a lease lasts at most 366 days: ask for less with --for");
        if named.is_empty() {
            let offers = market::offers(reader).await?;
            return offer::choose(&offers, &self.wanted, seconds, count, rand::random).map_err(anyhow::Error::msg);
        }
        let mut all = named.to_vec();
        all.sort_unstable();
        all.dedup();
        ensure!(all.len() == named.len(), "a container is named twice: it takes one lease at a time");
        let offers = market::offers_of(reader, named).await?;
        for offer in &offers {
            let address = offer.address;
            if let Some(option) = self.wanted.missing(offer) {
                bail!("container {address} is not what {option} asks for: `datagalax container show {address}`");
            }
            let least = offer.least_seconds();
            ensure!(
                seconds >= least,
                "container {address} takes no lease under {}: ask with `--for {least}s`",
                span(least.into())
            );
        }
        Ok(offers)
    }

    /// Shows what it costs, asks, keeps the workload, and opens the leases in one transaction.
    ///
    /// # Errors
    /// Nothing was opened, unless the error says that this is not known.
    pub async fn open(
        &self,
        context: &Context,
        signing: &Signing,
        network: &Network,
        offers: &[Offer],
        workload: &Workload,
    ) -> Result<(Vec<Opened>, Landed)> {
        let (user, now) = (signing.address(), market::now(&context.reader).await?);
        ensure!(
            !network.is_paused(now),
            "the network is paused until {}: no lease can be opened",
            utc(network.paused_until)
        );
        let costs = offers.iter().map(|offer| cost(network, offer, self.seconds)).collect::<Result<Vec<_>>>()?;
        let total = costs.iter().try_fold(0u64, |sum, cost| sum.checked_add(cost.escrow));
        let total = total.context("together they cost more than any account holds")?;
        let hash = workload.hash();
        let mut opened = Vec::new();
        let mut all = Vec::new();
        for offer in offers {
            let args = OpenLeaseArgs {
                nonce: rand::random(),
                seconds: self.seconds,
                // The price that was looked at: a raise in between is refused.
                max_price_per_hour: offer.container.price_per_hour,
                workload_hash: hash,
                match_expires: 0,
            };
            opened.push(Opened { lease: addresses::lease(&user, args.nonce), container: offer.address });
            all.push(instructions::open_lease(&user, network, &offer.address, &offer.container, None, args));
        }
        let most = fitting(&user, &all);
        ensure!(
            most == all.len(),
            "{} leases do not fit one transaction, and all or none are opened: at most {most} of these do. Rent the others by a second command",
            all.len()
        );
        affordable(&context.reader, network, &user, total).await?;
        // Programs that said yes get the figures with the answer.
        if !(self.yes && context.output() == Output::Json) {
            eprint!("{}", self.plan(network, offers, &costs, total, now).render(Output::Table));
        }
        consent::ask(&format!("Escrow {} ATH?", Ath(total)), self.yes)?;
        let kept = context.leases()?;
        for one in &opened {
            kept.put(&one.lease, workload)?;
        }
        let label = if all.len() == 1 { "open the lease".to_owned() } else { format!("open {} leases", all.len()) };
        match signing.send(&label, &all).await {
            Ok(landed) => Ok((opened, landed)),
            Err(error) => {
                forget_unopened(&context.reader, &kept, &opened, &error).await;
                Err(error)
            }
        }
    }

    fn plan(&self, network: &Network, offers: &[Offer], costs: &[Cost], total: u64, now: i64) -> Report {
        let row = |(offer, cost): (&Offer, &Cost)| -> Vec<Cell> {
            vec![
                offer.address.into(),
                offer.class.1.clone().into(),
                offer.container.gpus.into(),
                Ath(offer.container.price_per_hour).into(),
                Cell::Span(self.seconds.into()),
                Ath(cost.price).into(),
                Ath(cost.fee).into(),
                Ath(cost.escrow).into(),
            ]
        };
        let columns = ["container", "class", "gpus", "price_per_hour", "for", "price", "fee", "escrowed"];
        let rows = offers.iter().zip(costs).map(row).collect();
        let least = offers.iter().map(Offer::least_seconds).max().unwrap_or(0);
        let mut report = Report::new().rows("to_be_escrowed", &columns, rows).note(format!(
            "{} ATH in all, the fee of {} % in it. What is not delivered or not used goes back; once it started, {} are due at least.",
            Ath(total),
            f64::from(network.parameters.lease_fee_bps) / 100.0,
            span(least.into()),
        ));
        for offer in offers {
            if let Some((start, end)) = offer.maintenance(now, self.seconds) {
                report = report.note(format!(
                    "Container {} announced maintenance from {} to {}: it may close the lease for it.",
                    offer.address,
                    utc(start),
                    utc(end)
                ));
            }
        }
        report
    }
}

/// A wallet that holds too little is told so before anything is signed.
async fn affordable(reader: &Reader, network: &Network, user: &Address, total: u64) -> Result<()> {
    let held = reader.token_balance(&token::home(user, network)).await?.unwrap_or(0);
    ensure!(
        held >= total,
        "wallet {user} holds {} ATH, {} are to be escrowed: send it {} more, or rent for a shorter time with --for",
        Ath(held),
        Ath(total),
        Ath(total.saturating_sub(held))
    );
    Ok(())
}

/// Removes the workloads of leases that were certainly not opened.
async fn forget_unopened(reader: &Reader, kept: &Kept, opened: &[Opened], error: &anyhow::Error) {
    use datagalax_client::pipeline::SendError;
    let certain = error.downcast_ref::<SendError>().is_some_and(|error| !matches!(error, SendError::Unknown { .. }));
    for one in opened {
        if certain
            && matches!(reader.find::<Lease>(&one.lease).await, Ok(None))
            && let Err(error) = kept.remove(&one.lease)
        {
            eprintln!("note: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use datagalax::state::{Block, Container, Row};

    use super::*;

    fn offer(n: u8, block: u32, price: u64) -> Offer {
        let mut container = Container::zeroed();
        (container.accepting, container.gpus, container.block, container.price_per_hour) = (1, 1, block, price);
        let mut live = bytemuck::allocation::zeroed_box::<Block>();
        live.rows[0].status = Row::LIVE;
        Offer::of(Address::new_from_array([n; 32]), &container, &live, None).unwrap()
    }

    #[test]
    fn a_cost_is_what_the_program_escrows() {
        let mut network = bytemuck::allocation::zeroed_box::<Network>();
        network.parameters.lease_fee_bps = 2_000;
        let of = |price, seconds| cost(&network, &offer(1, 0, price), seconds).unwrap();
        assert_eq!(of(3_600_000_000, 3_600), Cost { price: 3_600_000_000, fee: 720_000_000, escrow: 4_320_000_000 });
        // A third of a base unit is rounded up: the escrow always covers what is due.
        assert_eq!(of(1, 1_200), Cost { price: 1, fee: 0, escrow: 1 });
        assert_eq!(of(0, 600).escrow, 0);
        assert!(cost(&network, &offer(1, 0, u64::MAX), LONGEST_LEASE).is_err());
    }

    #[test]
    fn a_transaction_holds_some_leases_and_it_is_known_how_many() {
        let network = bytemuck::allocation::zeroed_box::<Network>();
        let user = Address::new_from_array([200; 32]);
        let leases = |one_block: bool| -> Vec<Instruction> {
            (0..12)
                .map(|n| {
                    let offer = offer(n, if one_block { 0 } else { n.into() }, 5);
                    let args = OpenLeaseArgs {
                        nonce: n.into(),
                        seconds: 600,
                        max_price_per_hour: 5,
                        workload_hash: [n; 32],
                        match_expires: 0,
                    };
                    instructions::open_lease(&user, &network, &offer.address, &offer.container, None, args)
                })
                .collect()
        };
        let (near, far) = (leases(true), leases(false));
        let counts = (fitting(&user, &near), fitting(&user, &far));
        // The user's guide says so.
        assert_eq!(counts, (5, 4));
        assert!(transaction_bytes(&user, &near[..counts.0]) <= MAX_TRANSACTION);
        assert!(transaction_bytes(&user, &near[..=counts.0]) > MAX_TRANSACTION);
        assert_eq!(fitting(&user, &[]), 0);
    }
}
