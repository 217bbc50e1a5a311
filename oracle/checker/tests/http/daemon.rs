//! Whole epochs of the daemon against a made-up chain and agents over real HTTP: what was committed is what is revealed,
//! whatever happens in between.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::fake::{
    ANSWER, CLUSTER, EPOCH, FakeChain,
    agent::{Fault, bad, honest},
    slot_hash,
};
use datagalax_checker::{
    chain::SeatRef,
    daemon::{Options, Parts, run},
    measure::{Measurer, Plan},
    metrics::Metrics,
    probe::{Limits, Prober},
    reach::Policy,
    store::{BlockKey, EpochKey, SavedReport, Stage, Store},
};
use datagalax_gpu::{
    beacon,
    capacity::{self, Spread},
};
use datagalax_protocol::{
    ReportValues,
    evidence::{Opening, Outcome},
};
use datagalax_service::Health;
use solana_keypair::Keypair;
use tokio::{sync::oneshot, task::JoinHandle};

const PROBES: usize = 6;

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

fn start(folder: &Path, chain: &Arc<FakeChain>, ids: &[u32]) -> Running {
    let limits =
        Limits { timeout: ANSWER, spread: Spread { rows: 6, walks: 2 }, policy: Policy::Private, ..Limits::default() };
    let prober = Prober::new(Arc::new(Keypair::new()), limits, Metrics::unregistered()).unwrap();
    let plan = Plan { probes: PROBES, concurrency: 64, ..Plan::default() };
    let parts = Parts {
        ids: ids.to_vec(),
        cluster: CLUSTER,
        chain: chain.clone(),
        store: Store::open(folder, &CLUSTER).unwrap(),
        measurer: Arc::new(Measurer::new(prober, plan)),
        options: Options {
            poll: Duration::from_millis(100),
            status: Some(folder.join("status.json")),
            disk: 1 << 30,
            claim_above: 1_000,
            claim_every: Duration::from_millis(300),
        },
        health: Health::default(),
        metrics: Metrics::unregistered(),
    };
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(run(parts, async {
        stopped.await.ok();
    }));
    Running { stop, task }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }

    /// As `kill -9` does it: nothing of the daemon's runs any more, whatever it was doing. The store's thread ends what it was
    /// handed, so the file is opened again only then.
    async fn kill(self, folder: &Path) {
        self.task.abort();
        self.task.await.unwrap_err();
        reopen(folder).await;
    }
}

/// Opens the store once the last task of a run that ended has let go of it.
async fn reopen(folder: &Path) -> Store {
    for _ in 0..3_000 {
        if let Ok(store) = Store::open(folder, &CLUSTER) {
            return store;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the store was not given back");
}

async fn reports(folder: &Path) -> Vec<SavedReport> {
    reopen(folder).await.reports().await.unwrap()
}

fn votes(values: [u8; 768]) -> Vec<(u8, u8, u8, bool)> {
    let votes = ReportValues::from_bytes(values);
    votes.votes().map(|(row, vote)| (row, vote.availability, vote.capacity, vote.token != 0)).collect()
}

pub async fn all_seats_of_the_operator_are_measured_committed_revealed_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (good, probes) = honest(0, 3).await;
    let (other, _) = honest(1, 7).await;
    let odd = bad(12, Fault::OtherHardware).await;
    let targets = vec![(0, good.clone()), (0, bad(9, Fault::Hangs).await), (0, odd), (1, other)];
    // Two checkers of one operator share block 0; a stranger sits there, too.
    let seats = [(0, 1, 7), (0, 3, 8), (0, 4, 99), (1, 0, 7)];
    let chain = FakeChain::new(10, targets, &seats);
    chain.pay.store(5_000, Ordering::SeqCst);
    // One of the seats is written into its block only late.
    chain.hidden.lock().unwrap().push((0, 3));
    let running = start(folder.path(), &chain, &[7, 8]);
    chain.until("the first commits", |chain| chain.commitment(0, 1) != [0; 32] && chain.commitment(1, 0) != [0; 32]).await;
    // Blocks that are done at the same look are committed together; no commit is sent twice in any case.
    assert!(chain.commit_calls.load(Ordering::SeqCst) <= 2);
    assert!(chain.values(0, 1).is_none());
    chain.hidden.lock().unwrap().clear();
    chain.until("the late seat's commit", |chain| chain.commitment(0, 3) != [0; 32]).await;
    chain.until("the reveals", |chain| chain.reveals.load(Ordering::SeqCst) == 3).await;
    chain.until("the claim", |chain| chain.claims.load(Ordering::SeqCst) == 1).await;
    running.stop().await;

    let expected = [(3, 100, 100, true), (9, 0, 0, false), (12, 100, 100, true)];
    assert_eq!(votes(chain.values(0, 1).unwrap()), expected);
    assert_eq!(votes(chain.values(1, 0).unwrap()), [(7, 100, 100, true)]);
    assert_eq!(chain.values(0, 3), chain.values(0, 1), "one measurement for both seats");
    assert_eq!(probes.load(Ordering::SeqCst), PROBES as u32);
    assert_eq!(chain.commits.load(Ordering::SeqCst), 3);
    assert_eq!((chain.pay.load(Ordering::SeqCst), chain.claims.load(Ordering::SeqCst)), (0, 1));
    let store = reopen(folder.path()).await;
    assert!(store.reports().await.unwrap().iter().all(|report| report.stage == Stage::Revealed));

    // Anybody can check the vote against what the chain shows.
    let at = SeatRef { block: 0, epoch: EPOCH, seat: 3 };
    let bytes = store.opening(at, 3).await.unwrap().unwrap().encode();
    let evidence = Opening::verify(&bytes, &chain.commitment(0, 3), 3).unwrap();
    let answered = |outcome: &Outcome| matches!(outcome, Outcome::Answered(_));
    assert_eq!(evidence.liveness.iter().filter(|exchange| answered(&exchange.outcome)).count(), PROBES);
    let inspected = evidence.inspection.unwrap();
    let Outcome::Answered(inspection) = &inspected.outcome else { panic!("{:?}", inspected.outcome) };
    assert!(inspection.signature_holds() && inspection.signer() == good.operator);
    assert_eq!(evidence.findings, [""; 0]);
    // Other hardware than the registered is found, and costs nothing.
    let bytes = store.opening(at, 12).await.unwrap().unwrap().encode();
    let odd = Opening::verify(&bytes, &chain.commitment(0, 3), 12).unwrap();
    assert_eq!(odd.findings, ["the hardware is not the registered one: another fingerprint"]);
    let slots: Vec<u64> = evidence.beacons.iter().map(|beacon| beacon.slot).collect();
    assert_eq!(slots, chain.beacons(), "every beacon of the epoch");
    let last = evidence.beacons.last().unwrap();
    assert_eq!(last.exchanges.len(), 2);
    let Outcome::Answered(signed) = &last.exchanges[0].outcome else { panic!() };
    let answer: datagalax_protocol::BeaconAnswer = borsh::from_slice(&signed.payload).unwrap();
    let token = ReportValues::from_bytes(chain.values(0, 3).unwrap()).get(3).unwrap().token;
    assert_eq!(token, beacon::token(Some(&answer.root)), "the vote's token is the last answer's");
    // And recompute what was opened.
    let Outcome::Answered(opened) = &last.exchanges[1].outcome else { panic!() };
    let opened: datagalax_protocol::SampleAnswer = borsh::from_slice(&opened.payload).unwrap();
    let asked: datagalax_protocol::SampleRequest = borsh::from_slice(&last.exchanges[1].request.payload).unwrap();
    let challenge = beacon::challenge(&slot_hash(last.slot), &good.container.to_bytes());
    capacity::verify(&challenge, &answer.workload, &asked, &opened.devices).unwrap();
    assert!(store.opening(at, 4).await.unwrap().is_none(), "an empty row has none");
    assert!(store.opening(SeatRef { seat: 4, ..at }, 3).await.unwrap().is_none(), "a stranger's seat is not ours to show");

    let status = std::fs::read(folder.path().join("status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["rows"][0]["vote"]["capacity"], 100);
    assert_eq!(status["rows"][0]["inspection"], "answered");
}

/// Kills the checker at each step of an epoch, in one epoch each, side by side.
pub async fn a_checker_killed_at_any_step_carries_on() {
    tokio::join!(
        killed("while measuring", |_, folder| has(folder, "-wal", 100_000)),
        killed("before its commit landed", |chain, folder| {
            chain.refuse_commits.store(true, Ordering::SeqCst);
            folder.join("status.json").exists()
        }),
        killed("after its commit", |chain, _| chain.commitment(0, 1) != [0; 32]),
        killed("after a commit whose answer got lost", |chain, _| {
            chain.lose_answers.fetch_or(chain.commits.load(Ordering::SeqCst) == 0, Ordering::SeqCst);
            chain.commitment(0, 1) != [0; 32]
        }),
        killed("at its reveal", |chain, _| {
            chain.refuse_reveals.store(true, Ordering::SeqCst);
            crate::fake::now() >= chain.end
        }),
    );
}

fn has(folder: &Path, suffix: &str, bytes: u64) -> bool {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let found = files.filter(|file| file.file_name().to_string_lossy().ends_with(suffix));
    found.map(|file| file.metadata().unwrap().len()).sum::<u64>() > bytes
}

async fn killed(step: &str, condition: impl Fn(&FakeChain, &Path) -> bool) {
    let folder = tempfile::tempdir().unwrap();
    let (target, probes) = honest(0, 0).await;
    let container = target.container;
    let chain = FakeChain::new(11, vec![(0, target)], &[(0, 1, 7)]);
    let first = start(folder.path(), &chain, &[7]);
    chain.until(step, |chain| condition(chain, folder.path())).await;
    first.kill(folder.path()).await;
    let place = BlockKey { epoch: EpochKey { start: chain.start, number: EPOCH }, block: 0 };
    let on_disk = reopen(folder.path()).await.resume(place, 0, container.to_bytes()).await.unwrap().probes.len();
    let (committed, saved) = (chain.commitment(0, 1), reports(folder.path()).await.pop());
    chain.refuse_commits.store(false, Ordering::SeqCst);
    chain.refuse_reveals.store(false, Ordering::SeqCst);
    let second = start(folder.path(), &chain, &[7]);
    chain.until("the reveal", |chain| chain.values(0, 1).is_some()).await;
    second.stop().await;
    let [report] = reports(folder.path()).await.try_into().unwrap();
    assert_eq!(report.stage, Stage::Revealed, "{step}");
    if let Some(saved) = saved {
        assert_eq!(
            (saved.salt, saved.commitment),
            (report.salt, report.commitment),
            "{step}: what was saved is what counts"
        );
    }
    assert!(committed == [0; 32] || committed == report.commitment, "{step}: no second commitment");
    assert_eq!(chain.commits.load(Ordering::SeqCst), 1, "{step}");
    assert_eq!(chain.reveals.load(Ordering::SeqCst), 1, "{step}");
    assert_eq!(votes(chain.values(0, 1).unwrap()), [(0, 100, 100, true)], "{step}");
    let at = SeatRef { block: 0, epoch: EPOCH, seat: 1 };
    let bytes = reopen(folder.path()).await.opening(at, 0).await.unwrap().unwrap().encode();
    let evidence = Opening::verify(&bytes, &chain.commitment(0, 1), 0).unwrap();
    assert!(evidence.inspection.is_some_and(|asked| matches!(asked.outcome, Outcome::Answered(_))), "{step}");
    // What was not on the disk yet, in the worst case all of them, is asked again; whatever was is not.
    let asked = probes.load(Ordering::SeqCst) as usize;
    assert!((1..=2 * PROBES - on_disk).contains(&asked), "{step}: asked {asked} times, {on_disk} were on the disk");
}

pub async fn what_cannot_be_revealed_is_given_up_and_said() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let silent = FakeChain::revealed_within(3, 8, vec![(0, honest(0, 0).await.0)], &[(0, 1, 7)]);
    silent.refuse_commits.store(true, Ordering::SeqCst);
    let taken = FakeChain::revealed_within(3, 8, vec![(0, honest(0, 0).await.0)], &[(0, 1, 7)]);
    let refused = FakeChain::revealed_within(3, 8, vec![(0, honest(0, 0).await.0)], &[(0, 1, 7)]);
    refused.behind[1].store(u32::MAX, Ordering::SeqCst);
    let [one, two, three] = &folders;
    let running = [start(one.path(), &silent, &[7]), start(two.path(), &taken, &[7]), start(three.path(), &refused, &[7])];
    taken.until("the commit", |chain| chain.commitment(0, 1) != [0; 32]).await;
    taken.seats.lock().unwrap().get_mut(&(0, 1)).unwrap().commitment = [9; 32];
    silent.until("the epoch's end", |chain| crate::fake::now() > chain.end + 1).await;
    refused.until("the end of reveals", |chain| crate::fake::now() > chain.reveal_until + 1).await;
    for running in running {
        running.stop().await;
    }
    let lost = async |folder: &Path| match reports(folder).await.pop().unwrap().stage {
        Stage::Lost(reason) => reason,
        stage => panic!("{stage:?}"),
    };
    assert_eq!(lost(folders[0].path()).await, "its commitment did not land before the epoch's end");
    assert_eq!(lost(folders[1].path()).await, "another commitment is on chain: does a second process run?");
    assert_eq!(
        lost(folders[2].path()).await,
        "the reveal window is over; refused last: OutsideRevealWindow",
        "no refusal ends it before the chain's clock does"
    );
    assert!(silent.values(0, 1).is_none() && taken.values(0, 1).is_none());
}

pub async fn refusals_of_a_node_that_is_behind_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let chain = FakeChain::new(8, vec![(0, honest(0, 0).await.0)], &[(0, 1, 7)]);
    // More than it used to take to give a report up; fewer than fit into the windows.
    chain.behind[0].store(3, Ordering::SeqCst);
    chain.behind[1].store(4, Ordering::SeqCst);
    let running = start(folder.path(), &chain, &[7]);
    chain.until("the reveal", |chain| chain.values(0, 1).is_some()).await;
    assert_eq!(chain.behind.each_ref().map(|left| left.load(Ordering::SeqCst)), [0, 0]);
    running.stop().await;
    assert_eq!(reports(folder.path()).await[0].stage, Stage::Revealed);
}

pub async fn a_checker_that_comes_too_late_to_measure_reports_no_votes() {
    let folder = tempfile::tempdir().unwrap();
    let chain = FakeChain::new(5, vec![(0, honest(0, 0).await.0)], &[(0, 1, 7)]);
    chain.until("the end of measuring", |chain| crate::fake::now() >= chain.measure_until).await;
    let running = start(folder.path(), &chain, &[7]);
    chain.until("the reveal", |chain| chain.values(0, 1).is_some()).await;
    running.stop().await;
    // It neither guesses nor is it marked for silence.
    assert_eq!(votes(chain.values(0, 1).unwrap()), []);
}

pub async fn old_and_too_much_evidence_goes_and_open_reports_stay() {
    use datagalax_checker::chain::Seat;
    use datagalax_checker::store::{KEEP_SECONDS, RowFinish};
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &CLUSTER).unwrap();
    let day = 86_400;
    for (number, start) in [(1, 0), (2, day), (3, 20 * day), (4, 40 * day)] {
        let place = BlockKey { epoch: EpochKey { start, number }, block: 0 };
        let rows = (0..40)
            .map(|row| RowFinish {
                row,
                container: [row; 32],
                findings: vec!["x".repeat(200); 200],
                times_us: BTreeMap::new(),
                marks: Vec::new(),
            })
            .collect();
        let measured = store.finish(place, rows, Vec::new(), ReportValues::new()).await.unwrap();
        let seat = Seat { at: SeatRef { block: 0, epoch: number, seat: 2 }, checker: 7 };
        let mut report = SavedReport::new(&CLUSTER, seat, start, &measured);
        store.save(report.clone()).await.unwrap();
        if number != 2 {
            report.stage = Stage::Revealed;
            store.advance(report).await.unwrap();
        }
    }
    let shown = async |epoch| store.opening(SeatRef { block: 0, epoch, seat: 2 }, 3).await.unwrap().is_some();
    let kept = async || store.reports().await.unwrap().iter().map(|report| report.epoch).collect::<Vec<_>>();
    assert!(shown(1).await && !shown(2).await && shown(3).await, "only what was revealed is shown");
    let pruned = store.prune(KEEP_SECONDS + 100, u64::MAX, 2 * day).await.unwrap();
    assert_eq!((pruned.expired, pruned.early), (1, 0));
    assert_eq!(kept().await, [2, 3, 4]);
    assert!(!shown(1).await && shown(3).await);
    let size = store.size().await.unwrap();
    let pruned = store.prune(40 * day + 60, size - 100_000, 2 * day).await.unwrap();
    assert_eq!(pruned.early, 1, "epoch 3's, as 2's report is still to be revealed");
    assert!(store.size().await.unwrap() <= size - 100_000);
    assert!(!shown(3).await && shown(4).await);
    store.prune(40 * day + 60, 0, 2 * day).await.unwrap();
    assert!(shown(4).await, "young evidence stays whatever the bound");
    assert_eq!(kept().await, [2, 3, 4]);
}
