//! A command on a leased container, from the lease to the bill.

use std::{cell::RefCell, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use datagalax::{constants::NOT_SERVED_WITHIN, error::DatagalaxError, state::Lease};
use datagalax_client::{Address, pipeline::Landed};
use datagalax_protocol::lease::{End, Workload};
use datagalax_tenant::Tenant;
use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncWriteExt as _, stdout},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    commands::leases::{end, refused_with},
    context::{Context, Signing},
    interrupts::Interrupts,
    lease::{
        coming_up::{self, CameUp},
        contact::{Contact, News},
        follow::{self, Following, Step},
        forward::{Forward, Listening},
        host,
        market::{self, Seen},
        opening::{Opened, Opening},
        settling, statement,
        workload::WorkloadOptions,
    },
    options::Output,
    patience::{Patience, is_passing},
    progress::Steps,
    report::Report,
    time::{span, utc},
};

/// How often chain and host are looked at while the output is followed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest that the host is waited for in one look.
const ANSWER: Duration = Duration::from_secs(8);
/// Pause before a stream that broke off is opened again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How long the output may still come once the chain says that the lease is over.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// What runs, where, and for how long.
#[derive(Args)]
pub struct Run {
    /// On this container; without it, the cheapest that fits
    #[arg(long, conflicts_with_all = ["class", "gpus", "vram", "region"], value_name = "ADDRESS")]
    container: Option<Address>,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    workload: WorkloadOptions,
    /// A port of the workload, and the port of this machine that it is to have
    #[arg(long, value_name = "NAME[:LOCAL]")]
    forward: Vec<Forward>,
    /// Leave the lease running when the command has ended, or at Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Wait until the lease is settled to its end; what is used less than its least time is due all the same
    #[arg(long)]
    wait: bool,
}

/// How following ended.
enum Followed {
    /// The workload has ended.
    Ended(End),
    /// The user wants an end; whether the host was lost by then.
    Interrupted { lost: bool },
    /// The lease is over on chain, and nothing more comes.
    Over,
    /// Nobody reads the output any more.
    Unread,
}

impl Run {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let workload = self.workload.workload(rand::random())?;
        for forward in &self.forward {
            ensure!(
                workload.ports.iter().any(|port| port.name == forward.name),
                "--forward {0}: the workload has no such port; declare it with --port {0}",
                forward.name
            );
        }
        // Taken before anything is paid for.
        let mut listening = Vec::new();
        for forward in &self.forward {
            listening.push(Listening::at(forward).await?);
        }
        let network = context.network().await?;
        let signing = context.signer().await?;
        let named: Vec<Address> = self.container.into_iter().collect();
        let offers = self.opening.choose(&context.reader, &named, 1).await?;
        let (opened, landed) = self.opening.open(context, &signing, &network, &offers, &workload).await?;
        let Opened { lease, container } = *opened.first().context("no lease was opened")?;
        let interrupts = Interrupts::listen()?;
        let session = Session {
            context,
            signing: &signing,
            lease,
            interrupts: &interrupts,
            voice: Voice { silent: context.output() == Output::Json, said: RefCell::default() },
            keep: self.keep,
            wait: self.wait,
        };
        session.voice.say(format!("lease {lease} of container {container} is open"));
        let outcome = tokio::select! {
            outcome = session.through(&workload, listening, landed) => outcome,
            () = interrupts.asked(2) => Err(anyhow::anyhow!("left at once")),
        };
        outcome.or_else(|error| {
            let error = error.context(format!(
                "the lease may still run and cost: look with `datagalax lease show {lease}`, end it with `datagalax lease close {lease}`"
            ));
            eprintln!("error: {error:#}");
            Ok(Report::new().ends_with(follow::NOT_RUN))
        })
    }
}

/// What is said meanwhile: on standard error for people, with the bill for programs.
struct Voice {
    silent: bool,
    said: RefCell<Vec<String>>,
}

impl Voice {
    fn say(&self, text: impl Into<String>) {
        let text = text.into();
        if self.silent {
            self.said.borrow_mut().push(text);
        } else {
            eprintln!("note: {text}");
        }
    }

    fn steps(&self) -> Steps {
        if self.silent { Steps::silent() } else { Steps::new() }
    }
}

/// A lease that was opened, and what its user wants.
struct Session<'a> {
    context: &'a Context,
    signing: &'a Signing,
    lease: Address,
    interrupts: &'a Interrupts,
    voice: Voice,
    keep: bool,
    wait: bool,
}

impl Session<'_> {
    async fn through(&self, workload: &Workload, listening: Vec<Listening>, opened: Landed) -> Result<Report> {
        let report = Report::new().apart().sent("Lease opened.", opened);
        let (tenant, _) = host::of(&self.context.reader, self.signing.key(), &self.lease).await?;
        let up = self.bring_up(&tenant, workload).await?;
        if up.seen.lease.status != Lease::STARTED {
            return self.not_run(report, &up);
        }
        if self.interrupts.is_asked() {
            return self.finish(report, 130, true, "Stopped before it was followed.".to_owned()).await;
        }
        self.voice.say(format!("it runs, until {} at the latest", utc(up.seen.lease.end())));
        let mut forwarding = JoinSet::new();
        for one in listening {
            self.voice.say(one.shown());
            forwarding.spawn(one.serve(tenant.clone()));
        }
        let followed = self.follow(&tenant).await?;
        drop(forwarding);
        let (status, said, not_served) = match followed {
            Followed::Ended(end) => {
                let (status, said) = follow::status(&end);
                (status, said.unwrap_or_else(|| format!("The command ended with status {status}.")), false)
            }
            Followed::Interrupted { lost } => (130, "Stopped by Ctrl-C.".to_owned(), lost),
            Followed::Over => (follow::NOT_RUN, "The lease ended before the command did.".to_owned(), false),
            Followed::Unread => (141, "Nobody reads the output any more.".to_owned(), false),
        };
        if self.keep {
            let lease = self.lease;
            return Ok(report
                .note(said)
                .note(format!("The lease goes on: follow it with `datagalax lease logs -f {lease}`, end it with `datagalax lease close {lease}`."))
                .ends_with(status));
        }
        self.finish(report, status, not_served, said).await
    }

    /// Until it runs or is over. The first Ctrl-C is answered, and counts once it runs: an open lease cannot be closed.
    async fn bring_up(&self, tenant: &Tenant, workload: &Workload) -> Result<CameUp> {
        let steps = self.voice.steps();
        let tell = |text: String| steps.goes_on(text);
        let up = coming_up::bring_up(&self.context.reader, self.signing, tenant, &self.lease, workload, tell);
        tokio::pin!(up);
        tokio::select! {
            up = &mut up => return up,
            () = self.interrupts.asked(1) => {}
        }
        self.voice.say(
            "the lease is closed as soon as it starts; if it does not, everything goes back. Ctrl-C again leaves at once",
        );
        up.await
    }

    /// The workload was rejected, or never started: everything went back.
    fn not_run(&self, report: Report, up: &CameUp) -> Result<Report> {
        self.context.leases()?.remove(&self.lease)?;
        let report = match &up.refusal {
            Some(why) => report.note(format!("The host says: {why}.")),
            None => report,
        };
        Ok(self.said(report).and(statement::report(&up.seen.bill()?, &self.lease)).apart().ends_with(follow::NOT_RUN))
    }

    fn said(&self, report: Report) -> Report {
        self.voice.said.borrow().iter().fold(report, |report, text| report.note(text))
    }

    /// Writes the workload's output until it ends, over broken connections and restarts of the agent.
    async fn follow(&self, tenant: &Tenant) -> Result<Followed> {
        let (mut following, mut contact) = (Following::default(), Contact::default());
        let start = Instant::now();
        let mut over = None;
        let (mut looks, _looking) = self.look(tenant.clone());
        let mut out = stdout();
        loop {
            let mut frames = tenant.logs(following.offset(), true);
            let broke = loop {
                tokio::select! {
                    frame = frames.next() => match frame {
                        Some(Ok(frame)) => {
                            self.news(contact.heard(start.elapsed()), None);
                            match following.take(frame) {
                                Step::Write(bytes, said) => {
                                    said.into_iter().for_each(|said| self.voice.say(said));
                                    if out.write_all(&bytes).await.is_err() || out.flush().await.is_err() {
                                        return Ok(Followed::Unread);
                                    }
                                }
                                Step::Say(text) => self.voice.say(text),
                                Step::Ended(end) => return Ok(Followed::Ended(end)),
                                Step::Again(why) => break why,
                            }
                        }
                        Some(Err(error)) => break follow::printable(&error.to_string()),
                        None => break "the host ended it".to_owned(),
                    },
                    look = looks.recv() => {
                        let Some(Look { seen, answered }) = look else { bail!("nobody looks at the chain any more") };
                        let at = start.elapsed();
                        let news = if answered { contact.heard(at) } else { contact.missed(at) };
                        self.news(news, seen.as_ref());
                        if seen.as_ref().is_some_and(|seen| is_over(&seen.lease, seen.now)) {
                            let since = *over.get_or_insert_with(Instant::now);
                            if since.elapsed() >= LAST_WORDS {
                                return Ok(Followed::Over);
                            }
                        }
                    }
                    () = self.interrupts.asked(1) => return Ok(Followed::Interrupted { lost: contact.is_lost() }),
                }
            };
            // Not worth a word by itself: whether the host is there is told by `contact`.
            tracing::debug!(broke, offset = following.offset(), "the output broke off");
            sleep(AGAIN_AFTER).await;
        }
    }

    fn news(&self, news: News, seen: Option<&Seen>) {
        match news {
            News::None => {}
            News::Back(after) => self.voice.say(format!("the host is back after {}", span(after.as_secs()))),
            News::Lost(silent) => {
                self.voice.say(choices(silent, &self.lease, seen.map(|seen| (&*seen.lease, seen.now)), self.keep))
            }
        }
    }

    /// Looks at chain and host now and then, beside the output. Ends with what is returned.
    fn look(&self, tenant: Tenant) -> (mpsc::Receiver<Look>, JoinSet<()>) {
        let (sender, receiver) = mpsc::channel(1);
        let (reader, lease) = (self.context.reader.clone(), self.lease);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                sleep(LOOK_EVERY).await;
                let seen = market::see(&reader, &lease).await.ok();
                let answered = matches!(timeout(ANSWER, tenant.status()).await, Ok(Ok(_)));
                if sender.send(Look { seen, answered }).await.is_err() {
                    return;
                }
            }
        });
        (receiver, task)
    }

    /// Closes, settles what can be settled, and gives the bill.
    async fn finish(&self, report: Report, status: u8, not_served: bool, said: String) -> Result<Report> {
        let steps = self.voice.steps();
        steps.step("closing the lease");
        let (closed, landed) = self.close(not_served, &steps).await?;
        self.context.leases()?.remove(&self.lease)?;
        steps.step("settling what can be settled");
        let reader = &self.context.reader;
        let (seen, sent) = if self.wait {
            settling::settle_to_the_end(reader, self.signing, &self.lease, &steps).await?
        } else {
            settling::settle(reader, self.signing, &self.lease).await?
        };
        drop(steps);
        let report = match landed {
            Some(landed) => report.sent(closed, landed),
            None => report.note(closed),
        };
        let report = sent.into_iter().fold(report, |report, landed| report.sent("Settled.", landed));
        let report = self.said(report).and(statement::report(&seen.bill()?, &self.lease)).note(said);
        Ok(report.apart().ends_with(status))
    }

    async fn close(&self, not_served: bool, steps: &Steps) -> Result<(String, Option<Landed>)> {
        let (mut not_served, mut patience) = (not_served, Patience::default());
        loop {
            let closed = match market::see(&self.context.reader, &self.lease).await {
                Ok(seen) => {
                    not_served &= seen.now < seen.lease.started.saturating_add(i64::from(NOT_SERVED_WITHIN));
                    end(self.signing, &seen, not_served).await
                }
                Err(error) => Err(error),
            };
            match closed {
                Err(error) if not_served && refused_with(&error, DatagalaxError::NotServedTooLate) => not_served = false,
                // Its provider, or whoever closes what is used up, was faster.
                Err(error) if refused_with(&error, DatagalaxError::WrongLeaseState) && patience.goes_on() => {}
                Err(error) if is_passing(&error) && patience.goes_on() => {
                    steps.goes_on(format!("{error:#}; trying again"));
                    sleep(AGAIN_AFTER).await;
                }
                other => return other,
            }
        }
    }
}

/// One look at chain and host.
struct Look {
    seen: Option<Seen>,
    answered: bool,
}

/// Whether nothing more can come of a lease.
fn is_over(lease: &Lease, now: i64) -> bool {
    lease.status != Lease::STARTED || now > lease.end()
}

/// What a user can do about a host that says nothing.
fn choices(silent: Duration, address: &Address, lease: Option<(&Lease, i64)>, keep: bool) -> String {
    let mut text = format!(
        "no word from the host for {}. Checkers measure it meanwhile, and what is not delivered is not billed. You can\n  \
         - wait: the workload may go on, as while its agent restarts, and its output is taken up where it broke off",
        span(silent.as_secs())
    );
    let Some((lease, now)) = lease.filter(|_| !keep) else {
        let leaves = if keep { "leave, and the lease goes on" } else { "close the lease" };
        return text + &format!("\n  - Ctrl-C: {leaves}");
    };
    let within = lease.started.saturating_add(i64::from(NOT_SERVED_WITHIN));
    let least = lease.started.saturating_add(i64::from(lease.minimum_seconds));
    if now < within {
        text += &format!(
            "\n  - Ctrl-C until {}: close it as not served, as `datagalax lease close {address} --not-served` does: only the seconds until then are due",
            utc(within)
        );
    }
    let when = if now < within { " later" } else { "" };
    text + &format!("\n  - Ctrl-C{when}: close it; it is due until {} at least, each epoch at its availability", utc(least))
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[test]
    fn a_lost_host_leaves_choices_by_name() {
        let mut lease = Lease::zeroed();
        (lease.started, lease.minimum_seconds, lease.max_seconds) = (1_000, 600, 3_600);
        let address = Address::new_from_array([1; 32]);
        let text = |now, keep| choices(Duration::from_secs(25), &address, Some((&lease, now)), keep);
        let early = text(1_100, false);
        assert!(early.contains("25 s") && early.contains(&format!("lease close {address} --not-served")), "{early}");
        assert!(early.contains(&utc(1_300)) && early.contains(&utc(1_600)), "{early}");
        assert!(!text(1_300, false).contains("--not-served"));
        assert!(text(1_100, true).contains("the lease goes on"));
        assert!(choices(Duration::from_secs(25), &address, None, false).contains("Ctrl-C: close the lease"));
    }

    #[test]
    fn a_lease_is_over_on_chain_or_when_it_is_used_up() {
        let mut lease = Lease::zeroed();
        (lease.status, lease.started, lease.max_seconds) = (Lease::STARTED, 1_000, 600);
        assert!(!is_over(&lease, 1_600) && is_over(&lease, 1_601));
        lease.status = Lease::ENDED;
        assert!(is_over(&lease, 1_100));
    }
}
