//! What lengthens, ends and settles a lease, and its bill.

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use datagalax::{
    constants::{LONGEST_LEASE, NOT_SERVED_WITHIN},
    error::DatagalaxError,
    state::Lease,
};
use datagalax_client::{
    Address,
    amount::Ath,
    instructions,
    pipeline::{Landed, SendError},
};

use crate::{
    commands::seconds,
    context::{Context, Signing},
    lease::{
        consent,
        market::{self, Seen},
        settling, statement,
    },
    progress::Steps,
    report::{Cell, Report},
    time::{span, utc},
};

/// The bill of a lease as it stands.
pub async fn bill(context: &Context, lease: &Address) -> Result<Report> {
    let seen = market::see(&context.reader, lease).await?;
    Ok(statement::report(&seen.bill()?, lease))
}

/// By how much.
#[derive(Args)]
pub struct TopUp {
    /// Lease's address
    lease: Address,
    /// How much longer, such as 30min or 2h
    #[arg(long = "for", value_parser = seconds, value_name = "TIME")]
    seconds: u32,
    /// Do not ask before money is escrowed
    #[arg(long)]
    yes: bool,
}

impl TopUp {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let Seen { lease, network, now, .. } = market::see(&context.reader, &self.lease).await?;
        ensure!(
            lease.status == Lease::STARTED && now < lease.end(),
            "only a running lease can be lengthened: this one {}",
            if lease.status == Lease::OPEN { "has not started" } else { "is over; rent again" }
        );
        let total = lease.max_seconds.checked_add(self.seconds).filter(|total| *total <= LONGEST_LEASE);
        let total = total.context("a lease lasts at most 366 days in all: ask for less with --for")?;
        let escrow = lease.bill().escrow(total).ok().context("that costs more than any account holds")?;
        let more = escrow.saturating_sub(lease.escrowed);
        let question = format!(
            "Escrow {} ATH more, so that it runs until {}?",
            Ath(more),
            utc(lease.started.saturating_add(i64::from(total)))
        );
        consent::ask(&question, self.yes)?;
        let signing = context.signer().await?;
        let instruction = instructions::top_up_lease(&network, &self.lease, &lease, self.seconds);
        let landed = signing.send("lengthen the lease", &[instruction]).await?;
        let lease = context.reader.get::<Lease>(&self.lease).await?;
        let fields = vec![
            ("address", self.lease.into()),
            ("asked", Cell::Span(lease.max_seconds.into())),
            ("ends", Cell::Time(lease.end())),
            ("escrowed", Ath(lease.escrowed).into()),
        ];
        Ok(Report::new().fields("lease", fields).sent("Lease lengthened.", landed))
    }
}

/// How.
#[derive(Args)]
pub struct Close {
    /// Lease's address
    lease: Address,
    /// Within 300 s of the start: it was not served; only the seconds that passed are due; once a day for a container
    #[arg(long)]
    not_served: bool,
    /// Wait until it is settled to its end
    #[arg(long)]
    wait: bool,
    /// As its host: do not ask before stake is paid for ending it early
    #[arg(long)]
    yes: bool,
}

impl Close {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let seen = market::see(&context.reader, &self.lease).await?;
        let signing = context.signer().await?;
        if let Some(question) = costs_stake(&signing.address(), &seen)? {
            consent::ask(&question, self.yes)?;
        }
        let (said, landed) = end(&signing, &seen, self.not_served).await?;
        context.leases()?.remove(&self.lease)?;
        let report = landed.map_or_else(|| Report::new().note(&*said), |landed| Report::new().sent(&*said, landed));
        Ok(report.and(settled(context, &signing, &self.lease, self.wait).await?))
    }
}

/// What a host that ends a lease early is asked, because it pays for it; `None` when it does not.
fn costs_stake(signer: &Address, seen: &Seen) -> Result<Option<String>> {
    let (lease, now) = (&seen.lease, seen.now);
    let Some(container) = &seen.container else { return Ok(None) };
    let is_host = *signer == container.operator && *signer != lease.user;
    if !is_host || lease.status != Lease::STARTED || now >= lease.end() || container.is_excused(lease.opened, now, now + 1) {
        return Ok(None);
    }
    let epoch = seen.network.epoch_at(now).ok().context("the network has no epochs yet")?;
    let price = lease.bill().epoch_price(seen.network.grid_of(epoch).length).ok();
    let credit = price.context("a price that no account holds")?.min(container.locked_stake);
    Ok((credit > 0).then(|| {
        format!(
            "The lease runs until {} and no maintenance was announced before it was opened: ending it now pays its user {} ATH out of the container's stake, and the container is halted until its owner restores that. End it?",
            utc(lease.end()),
            Ath(credit)
        )
    }))
}

/// Ends a lease, whatever state it is in; says what was done.
///
/// # Errors
/// It cannot be ended now, and what to do.
pub async fn end(signing: &Signing, seen: &Seen, not_served: bool) -> Result<(String, Option<Landed>)> {
    let (address, lease) = (&seen.address, &seen.lease);
    match lease.status {
        Lease::OPEN if seen.now > lease.start_by => {
            let cancel = instructions::cancel_lease(&seen.network, address, lease);
            let landed = signing.send("cancel the lease", &[cancel]).await?;
            Ok(("Lease cancelled: its host did not start it in time, everything goes back.".to_owned(), Some(landed)))
        }
        Lease::OPEN => bail!(
            "the lease has not started: its host may start or reject it until {}. After that close it again, and everything goes back",
            utc(lease.start_by)
        ),
        Lease::STARTED => {
            let within = lease.started.saturating_add(i64::from(NOT_SERVED_WITHIN));
            let close = instructions::close_lease(&signing.address(), address, lease, not_served, 0);
            match signing.send("close the lease", &[close]).await {
                Ok(landed) if not_served => Ok(("Lease closed as not served.".to_owned(), Some(landed))),
                Ok(landed) => Ok(("Lease closed.".to_owned(), Some(landed))),
                Err(error) if refused_with(&error, DatagalaxError::NotServedTooLate) => Err(error.context(format!(
                    "a lease is not served within {} of its start (until {}), once a day for a container: close it without --not-served",
                    span(NOT_SERVED_WITHIN.into()),
                    utc(within)
                ))),
                Err(error) => Err(error),
            }
        }
        _ => Ok(("Lease is over already.".to_owned(), None)),
    }
}

/// Whether the program refused with this.
pub fn refused_with(error: &anyhow::Error, with: DatagalaxError) -> bool {
    error.downcast_ref::<SendError>().is_some_and(|error| error.is(with))
}

/// Whether to wait.
#[derive(Args)]
pub struct Settle {
    /// Lease's address
    lease: Address,
    /// Wait until it is settled to its end; only for a lease that has ended
    #[arg(long)]
    wait: bool,
}

impl Settle {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let seen = market::see(&context.reader, &self.lease).await?;
        ensure!(
            !self.wait || seen.lease.ended != 0,
            "the lease runs until {}: close it first with `datagalax lease close {}`",
            utc(seen.lease.end()),
            self.lease
        );
        let signing = context.signer().await?;
        settled(context, &signing, &self.lease, self.wait).await
    }
}

/// Settles what can be settled, or with `wait` everything, and gives the bill.
pub async fn settled(context: &Context, signing: &Signing, lease: &Address, wait: bool) -> Result<Report> {
    let (seen, sent) = if wait {
        let steps = Steps::new();
        settling::settle_to_the_end(&context.reader, signing, lease, &steps).await?
    } else {
        settling::settle(&context.reader, signing, lease).await?
    };
    let report = sent.into_iter().fold(Report::new(), |report, landed| report.sent("Settled.", landed));
    Ok(report.and(statement::report(&seen.bill()?, lease)))
}
