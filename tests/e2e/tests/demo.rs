//! The demo's own loop as a test, alone and with daemons dying under it. One process at a time: the runs measure this
//! machine, so they must not load each other.

use anyhow::Result;
use datagalax_e2e::{
    Books, Deployment, Settings, closing,
    deployment::Printed,
    follow::{self, Credited, Fault, Observer, View},
};
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The shortest epochs the program allows with the windows of a local network.
const EPOCH: u32 = 20;

/// Injects each fault once, when its instant has come.
struct Script<F: FnMut(&View) -> Option<Fault>>(F);

impl<F: FnMut(&View) -> Option<Fault>> Observer for Script<F> {
    fn looked(&mut self, _: &View) {}
    fn happened(&mut self, line: String) {
        println!("{line}");
    }
    fn fault(&mut self, view: &View) -> Option<Fault> {
        (self.0)(view)
    }
}

async fn start() -> Result<Deployment> {
    let settings = Settings { epoch_seconds: EPOCH, ..Settings::of_this_checkout()? }.on_free_ports()?;
    Deployment::start(settings, &Printed).await
}

/// Follows, claims, audits and stops; on failure the folder with the logs is kept.
async fn to_the_end(
    mut deployment: Deployment,
    script: impl FnMut(&View) -> Option<Fault>,
) -> Result<(Credited, Books, closing::Claim)> {
    let outcome = async {
        let credited = follow::until_credited(&mut deployment, &mut Script(script)).await?;
        let claim = closing::claim(&deployment, &credited).await?;
        let books = Books::audit(&deployment.reader).await?;
        println!("{}", closing::table(&deployment, &credited, &claim, &books));
        Ok((credited, books, claim))
    }
    .await;
    if outcome.is_err() {
        println!("logs: {}", deployment.workdir.keep().display());
    }
    let stopped = deployment.stop().await;
    outcome.and_then(|result| stopped.map(|()| result))
}

/// A checker that dies after it committed costs the network that vote and nothing else; restarted, it carries on, and all are there
/// when the machine is first paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_measured_paid_and_claims_and_a_killed_checker_costs_its_vote_only() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let deployment = start().await?;
    let first = follow::registered_in(&deployment).await? + 1;
    let (mut died_in, mut restarted) = (None, false);
    let script = |view: &View| {
        let epoch = view.epoch?;
        // Dies with every commitment of the container's first epoch in, and stays away for its reveal.
        let all_committed =
            |e: &u32| *e >= first && view.seats(*e).is_some_and(|(committed, _, seats)| committed == usize::from(seats));
        if died_in.is_none()
            && let Some(epoch) = [epoch.saturating_sub(1), epoch].into_iter().find(all_committed)
        {
            died_in = Some(epoch);
            return Some(Fault::KillChecker(0));
        }
        if !restarted && died_in.is_some_and(|e| view.is_tallied(e) || epoch > e + 1) {
            restarted = true;
            return Some(Fault::RestartChecker(0));
        }
        None
    };
    let (credited, books, claim) = to_the_end(deployment, script).await?;
    assert!(restarted, "the tally of the epoch it died in went on without it");
    assert_eq!(died_in, credited.drawn_from(first));
    assert_eq!(Some(credited.checked), died_in, "two of three votes were enough in the first epoch it was there for");
    assert_eq!(credited.live_from, credited.checked + 2);
    let live = credited.drawn_from(credited.live_from);
    assert_eq!(Some(credited.epoch.number), live, "the first live epoch is credited");
    assert_eq!(credited.votes.iter().filter(|v| v.vote.is_some()).count(), 3, "restarted, it votes again");
    assert!(claim.after > claim.before);
    // Nothing but the claim was claimed: checkers leave their pay where it is.
    assert_eq!(books.claimed, claim.granted);
    assert_eq!(books.granted, claim.vesting);
    assert!(books.credited <= books.pools);
    assert!(books.fees > 0, "the keeper that drove the epochs is owed its fees");
    Ok(())
}

/// The host goes away in its first epoch, then the keeper dies over an epoch's start. Neither corrupts the books: the bad
/// epoch keeps the container in checking, reveals and tally go by the clock alone, and the epoch nobody drew is void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_host_and_a_lost_keeper_cost_epochs_only() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let deployment = start().await?;
    let first = follow::registered_in(&deployment).await? + 1;
    let mut lost_in = first;
    let mut faults = [Fault::KillAgent, Fault::RestartAgent, Fault::KillKeeper, Fault::RestartKeeper].into_iter().peekable();
    // By the clock, and also when its instant passed unseen.
    let script = |view: &View| {
        let epoch = view.epoch?;
        let due = match faults.peek()? {
            Fault::KillAgent => {
                lost_in = epoch;
                epoch >= first
            }
            // Measuring is over.
            Fault::RestartAgent => epoch > lost_in || (epoch == lost_in && view.left <= i64::from(EPOCH) / 7),
            Fault::KillKeeper => epoch > lost_in + 1 || (epoch == lost_in + 1 && view.left <= i64::from(EPOCH) / 6),
            // Past the first quarter: the epoch can no longer be drawn.
            _ => epoch > lost_in + 2 || (epoch == lost_in + 2 && view.left <= i64::from(EPOCH) / 2),
        };
        if due { faults.next() } else { None }
    };
    let (credited, ..) = to_the_end(deployment, script).await?;
    let good = credited.drawn_from(lost_in + 1);
    assert_eq!(Some(credited.checked), good, "the epoch without its agent did not count as good");
    assert_eq!(credited.live_from, credited.checked + 2);
    assert!(credited.epoch.number >= credited.live_from);
    Ok(())
}
