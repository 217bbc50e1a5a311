//! One checker and thousands of containers: the real measuring and the real store against agents that another process
//! simulates. Asks whether every probe is sent when it is due, none is lost by this side, and memory stays flat; prints what it
//! costs.
//!
//! A program of its own (no test harness): it starts itself once more as the agents. Some seconds with 2,000 containers (256
//! in an unoptimised build); with `DATAGALAX_LONG` set, 20,000. Figures worth noting are those of an optimised build,
//! `DATAGALAX_LONG=1 cargo test --release -p datagalax-checker --test load`.

mod simulator;

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use datagalax_checker::{
    beacons::Beacon,
    measure::{Measurer, Plan, Progress, Reread, Round, RowState},
    metrics::Metrics,
    probe::{Limits, Prober},
    reach::Policy,
    record::{Recorder, Sink},
    score::BeaconScore,
    store::{BlockKey, EpochKey, Record, Store, What},
};
use datagalax_gpu::beacon::Slot;
use datagalax_protocol::evidence::Outcome;
use datagalax_service::metrics::{Histogram, Registry, encode, exponential_buckets};
use futures_util::{FutureExt, future::BoxFuture};
use simulator::{CLUSTER, EPOCH, SLOT};
use solana_keypair::Keypair;
use tokio::time::Instant;

/// Tells long tests to run in full.
const LONG: &str = "DATAGALAX_LONG";
/// The first argument of the process that plays the agents.
const SIMULATE: &str = "simulate-agents";
const MIB: u64 = 1 << 20;
/// By so much memory may be above the middle third's at its highest in the last third: caches that fill, pages that are kept.
const SLACK: u64 = 16 * MIB;

/// How much.
#[derive(Clone, Copy)]
struct Size {
    containers: usize,
    probes: usize,
    window: Duration,
    /// Longest wait for an answer.
    timeout: Duration,
    /// Containers that are asked about one beacon at the same instant.
    beacon: usize,
}

const SHORT: Size =
    Size { containers: 2_000, probes: 2, window: Duration::from_secs(15), timeout: Duration::from_secs(3), beacon: 256 };
const FULL: Size =
    Size { containers: 20_000, probes: 2, window: Duration::from_secs(45), timeout: Duration::from_secs(3), beacon: 4_096 };
/// Unoptimised, a question costs some ten milliseconds: the same with a load that half a core bears, and patience with a machine
/// that builds something else meanwhile. All is sent within the window less the timeout.
const SHORT_UNOPTIMISED: Size =
    Size { containers: 256, probes: 1, window: Duration::from_secs(35), timeout: Duration::from_secs(25), beacon: 256 };
const FULL_UNOPTIMISED: Size = Size { containers: 20_000, window: Duration::from_secs(800), ..SHORT_UNOPTIMISED };

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == SIMULATE) {
        let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(0);
        return finish(simulator::run(number(1), number(2)));
    }
    // As `cargo test` calls it: a filter that is not for this one, or a list.
    let filtered = arguments.iter().any(|argument| !argument.starts_with('-') && !NAME.contains(argument.as_str()));
    if filtered || arguments.iter().any(|argument| argument == "--list") {
        println!("running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out");
        return ExitCode::SUCCESS;
    }
    let size = match (env::var_os(LONG).is_some(), cfg!(debug_assertions)) {
        (true, false) => FULL,
        (true, true) => FULL_UNOPTIMISED,
        (false, false) => SHORT,
        (false, true) => SHORT_UNOPTIMISED,
    };
    println!("running 1 test");
    let outcome = tokio::runtime::Runtime::new().context("no runtime").and_then(|runtime| runtime.block_on(load(size)));
    let (word, passed) = if outcome.is_ok() { ("ok", 1) } else { ("FAILED", 0) };
    println!("test {NAME} ... {word}");
    let code = finish(outcome);
    println!("\ntest result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out", 1 - passed);
    code
}

const NAME: &str = "thousands_of_containers_are_probed_in_time_in_flat_memory";

fn finish(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The process that plays the agents; it ends with its standard input.
struct Agents {
    child: Child,
    _alive: ChildStdin,
    port: u16,
}

impl Agents {
    fn start(containers: usize, proved: usize) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args([SIMULATE, &containers.to_string(), &proved.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let alive = child.stdin.take().context("piped")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let port = line.trim().parse().context("the agents did not start")?;
        Ok(Self { child, _alive: alive, port })
    }

    fn cpu(&self) -> Result<Duration> {
        cpu(&self.child.id().to_string())
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Processor time of a process, in user and kernel, to the system's tick of 10 ms.
fn cpu(process: &str) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Bytes of memory that this process holds.
fn resident() -> Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    Ok(statm.split_whitespace().nth(1).context("no pages")?.parse::<u64>()? * 4_096)
}

/// Keeps how long each took, and hands on.
struct Timed {
    recorder: Recorder,
    /// Microseconds of answered probes. As large as it will be from the start, so that it is no growth.
    trips: Mutex<Vec<u32>>,
}

impl Sink for Timed {
    fn record(&self, record: Record) -> BoxFuture<'_, ()> {
        if let What::Probe(exchange) = &record.what
            && let Outcome::Answered(_) = exchange.outcome
        {
            self.trips.lock().expect("no panic holds it").push(exchange.took_us.min(u64::from(u32::MAX)) as u32);
        }
        self.recorder.record(record)
    }
}

async fn load(size: Size) -> Result<()> {
    let Size { containers, probes, window, timeout, beacon } = size;
    println!("starting {containers} agents");
    let agents = Agents::start(containers, beacon)?;
    let blocks = simulator::blocks(containers, agents.port);
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path(), &CLUSTER)?;
    let recorder = Recorder::start(store);
    let planned = containers * probes;
    let timed = Arc::new(Timed { recorder: recorder.clone(), trips: Mutex::new(vec![0; planned]) });
    timed.trips.lock().expect("no panic holds it").clear();
    let sink: Arc<dyn Sink> = timed.clone();
    let (metrics, delays) = measured_metrics();
    let limits = Limits { timeout, policy: Policy::Private, ..Limits::default() };
    let prober = Prober::new(Arc::new(Keypair::new()), limits, metrics)?;
    let measurer = Arc::new(Measurer::new(prober, Plan { probes, ..Plan::default() }));
    let rounds: Vec<(Round, Arc<Progress>)> = (0u32..)
        .zip(blocks)
        .map(|(block, targets)| {
            let place = BlockKey { epoch: EpochKey { start: 0, number: EPOCH }, block };
            (Round { cluster: CLUSTER, place }, Progress::new(targets, Vec::new()))
        })
        .collect();
    println!("{planned} probes of {containers} containers in {} blocks within {} s", rounds.len(), window.as_secs());

    let memory = tokio::spawn(sample());
    let (begun, before, theirs) = (Instant::now(), cpu("self")?, agents.cpu()?);
    let until = begun + window;
    let probing = rounds.iter().map(|(round, progress)| measurer.probe(*round, progress, &sink, until));
    futures_util::future::join_all(probing).await;
    let took = begun.elapsed();
    ensure!(recorder.flush().await, "the store refused evidence");
    let (ours, theirs) = (cpu("self")?.saturating_sub(before), agents.cpu()?.saturating_sub(theirs));
    memory.abort();
    let end = resident()?;
    let samples = SAMPLES.lock().expect("no panic holds it").clone();

    let states: Vec<RowState> = rounds.iter().flat_map(|(_, progress)| progress.states()).collect();
    let (asked, answered) = states.iter().fold((0, 0), |(a, b), s| (a + s.asked as usize, b + s.answered as usize));
    let trips = {
        let mut trips = timed.trips.lock().expect("no panic holds it").clone();
        trips.sort_unstable();
        trips
    };
    let trip = |share: f64| trips.get((trips.len() as f64 * share) as usize).map_or(0.0, |us| f64::from(*us) / 1e3);
    let delay = |share: f64| delays.quantile(share);
    let third = samples.len() / 3;
    let highest = |part: &[u64]| part.iter().max().copied().unwrap_or(0);
    let (middle, last) = (highest(&samples[third..2 * third]), highest(&samples[2 * third..]));
    println!("probes          {asked} sent, {answered} answered, {} dropped here", planned - asked);
    println!("rate            {:.0} a second over {:.1} s", asked as f64 / took.as_secs_f64(), took.as_secs_f64());
    println!(
        "a core does     {:.0} probes a second (checker: {:.2} s of processor time)",
        asked as f64 / ours.as_secs_f64(),
        ours.as_secs_f64()
    );
    println!("the agents took {:.2} s of processor time", theirs.as_secs_f64());
    println!("sent late by    p50 < {:.1} ms, p99 < {:.1} ms", delay(0.5) * 1e3, delay(0.99) * 1e3);
    println!("round trips     p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms", trip(0.5), trip(0.99), trip(0.999_999));
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    println!(
        "memory          {:.0} MiB at the start, {:.0} in the middle third, {:.0} in the last, {:.0} at the end",
        mib(samples.first().copied().unwrap_or(0)),
        mib(middle),
        mib(last),
        mib(end)
    );
    let disk =
        fs::read_dir(folder.path())?.filter_map(|entry| entry.ok()?.metadata().ok()).map(|meta| meta.len()).sum::<u64>();
    println!("evidence        {:.0} MiB on disk, {} bytes a probe", mib(disk), disk / asked.max(1) as u64);

    let inspected = states.iter().filter(|state| state.inspected == Some(true)).count();
    println!("inspections     {inspected} of {containers} answered");
    ensure!(asked == planned, "{} of {planned} probes were dropped by the checker", planned - asked);
    // The agents are honest: what was not answered was lost between two processes of one machine.
    ensure!(answered * 1_000 >= planned * 999, "only {answered} of {planned} probes were answered");
    ensure!(inspected * 1_000 >= containers * 999, "only {inspected} of {containers} inspections were answered");
    ensure!(last <= middle + middle / 10 + SLACK, "memory grew from {middle} to {last} bytes");
    ensure!(third > 5, "too few samples of memory");
    ask_beacon(&measurer, &rounds, &sink, beacon).await
}

/// Asks many containers about one beacon at the same instant.
async fn ask_beacon(
    measurer: &Arc<Measurer>,
    rounds: &[(Round, Arc<Progress>)],
    sink: &Arc<dyn Sink>,
    containers: usize,
) -> Result<()> {
    let slot = Slot { number: SLOT.0, hash: SLOT.1, time: 0 };
    let (begun, before) = (Instant::now(), cpu("self")?);
    let beacon = Beacon { slot, seen: Some(begun), certain: true };
    let reread: Reread = Arc::new(|| async { None }.boxed());
    let until = begun + Duration::from_secs(30);
    let asked = &rounds[..containers / 256];
    let asking =
        asked.iter().map(|(round, progress)| measurer.beacon(*round, progress, beacon, reread.clone(), sink, until));
    futures_util::future::join_all(asking).await;
    let (took, ours) = (begun.elapsed(), cpu("self")?.saturating_sub(before));
    let states: Vec<RowState> = asked.iter().flat_map(|(_, progress)| progress.states()).collect();
    let good = |state: &&RowState| {
        let score = state.beacons.get(&SLOT.0).map(|result| result.score);
        matches!(score, Some(BeaconScore::Answered { capacity: Some(100), dishonest: false, .. }))
    };
    let full = states.iter().filter(good).count();
    println!(
        "a beacon        {full} of {containers} containers at once proved their work, the last after {:.1} s; {:.2} s of processor time",
        took.as_secs_f64(),
        ours.as_secs_f64()
    );
    let trouble = states.iter().find_map(|state| state.trouble.clone()).unwrap_or_default();
    ensure!(full == containers, "{} answers to the beacon were lost: {trouble}", containers - full);
    Ok(())
}

static SAMPLES: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Notes the memory four times a second.
async fn sample() {
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    loop {
        tick.tick().await;
        if let Ok(bytes) = resident() {
            SAMPLES.lock().expect("no panic holds it").push(bytes);
        }
    }
}

/// The delays that the checker itself counts, in finer steps than it tells.
struct Delays(Registry);

fn measured_metrics() -> (Metrics, Delays) {
    let delay = Histogram::new(exponential_buckets(0.000_1, 1.25, 50));
    let mut registry = Registry::default();
    registry.register("delay", "From due to sent", delay.clone());
    (Metrics { probe_delay_seconds: delay, ..Metrics::unregistered() }, Delays(registry))
}

impl Delays {
    /// The least bound that this share of all is under, seconds.
    fn quantile(&self, share: f64) -> f64 {
        let text = encode(&self.0);
        let bucket = |line: &str| {
            let (bound, count) = line.strip_prefix("delay_bucket{le=\"")?.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.split(' ').next()?.parse::<f64>().ok()?))
        };
        let buckets: Vec<(f64, f64)> = text.lines().filter_map(bucket).collect();
        let all = buckets.last().map_or(0.0, |(_, count)| *count);
        buckets.iter().find(|(_, count)| *count >= all * share).map_or(f64::INFINITY, |(bound, _)| *bound)
    }
}
