//! `datagalax gpu verify`: the operator challenges its own agent exactly as a checker does, and sees what the vote would be.

use std::{mem::offset_of, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use datagalax::state::{Container, Network, Row};
use datagalax_client::{
    Address,
    addresses::PROGRAM,
    clock::ChainClock,
    slots::{SeenSlot, SlotWatch},
};
use datagalax_gpu::{
    ask::{self, Ask},
    beacon,
    capacity::{Spread, draw},
    location::{Location, reach_km},
    score,
};
use datagalax_protocol::{
    BeaconAnswer, BeaconRequest, Context as About, Digest, InspectionAnswer, InspectionRequest, LivenessAnswer,
    LivenessRequest, Payload, SampleAnswer, path,
};
use rand::Rng as _;
use solana_signer::Signer as _;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use crate::{
    agent::{Agent, Answer, Answered, NotNow},
    context::Context,
    finding::Finding,
    progress::Steps,
    report::{Cell, Report},
};

/// Longest time for a liveness probe, an opening or an inspection: what checkers allow.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for a slot.
const SLOT: Duration = Duration::from_secs(15);

/// Whom to challenge.
#[derive(Args)]
pub struct Verify {
    /// The container's address, whose registered endpoint is asked; or the URL of its agent, when it is to be tried elsewhere
    #[arg(long, value_name = "CONTAINER|URL")]
    against: String,
    /// With a URL: the container's address, when --keypair operates several
    #[arg(long, value_name = "ADDRESS")]
    container: Option<Address>,
    /// Liveness probes, at random instants half a second apart
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100), value_name = "COUNT")]
    probes: u16,
}

impl Verify {
    /// Challenges and reports.
    ///
    /// # Errors
    /// The chain cannot be read, or there is no such container; what is wrong with the agent is in the report.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let steps = Steps::new();
        steps.step("reading the container on chain");
        let network = context.network().await?;
        let key = Arc::new(context.load_key()?);
        let (address, container, endpoint) = self.target(context, &key.pubkey()).await?;
        let (class, block) = tokio::try_join!(context.reader.class(container.class), context.reader.block(container.block))?;
        let row = &block.rows[usize::from(container.row)];
        let clock = ChainClock::connect(context.reader.rpc().clone()).await?;
        let epoch = settled(&network, &clock, row, &steps, |leased| {
            Ask::of(&class.terms, container.gpus, leased).map(|ask| ask.schedule.deadline)
        })
        .await?;
        let ask = Ask::of(&class.terms, container.gpus, ask::is_leased(row, epoch))
            .with_context(|| format!("no challenge can be planned for class {}", class.id))?;
        let about = About { genesis_hash: network.genesis_hash, program: PROGRAM, subject: address, epoch };
        let agent = Agent { endpoint: endpoint.clone(), context: about, operator: container.operator, key };
        steps.step("probing whether it lives");
        let (lives, answered) = liveness(&agent, self.probes).await;
        steps.step("waiting for a slot");
        let ws = context.nodes().into_iter().next().map(|(_, ws)| ws);
        let mut slots = SlotWatch::new(context.reader.rpc().clone(), ws.as_deref(), None);
        let seen = timeout(SLOT, slots.next()).await.context("no new slot: the node stands still")??;
        let slot = *seen.last().context("the node shows no slot")?;
        steps.step(format!("challenging it with slot {} ({} ms at most)", slot.number, ask.schedule.deadline.as_millis()));
        let judged = challenge(&agent, &ask, &slot).await;
        steps.step("having it show its parts");
        let inspected = inspect(&agent).await;
        drop(steps);
        let mut checks = vec![lives];
        checks.extend(judged.findings);
        checks.push(capacity(&judged.score, network.parameters.capacity_threshold));
        checks.push(inspected);
        let availability = u8::try_from(u32::from(answered) * 100 / u32::from(self.probes)).unwrap_or(0);
        let workload = ask.workload;
        Ok(Report::new()
            .fields(
                "challenge",
                vec![
                    ("container", address.into()),
                    ("endpoint", endpoint.into()),
                    ("epoch", epoch.into()),
                    ("slot", slot.number.into()),
                    ("leased", ask::is_leased(row, epoch).into()),
                    ("devices", workload.devices.into()),
                    ("passes", workload.passes.into()),
                    ("operations", workload.operations().into()),
                    ("reference", ask.reference.into()),
                    ("expected_ms", millis(ask.schedule.expected).into()),
                    ("allowance_ms", millis(ask.schedule.allowance).into()),
                    ("deadline_ms", millis(ask.schedule.deadline).into()),
                ],
            )
            .checks(checks)
            .fields(
                "score",
                vec![
                    ("availability", Cell::Percent(availability)),
                    ("capacity", Cell::Percent(judged.score.capacity)),
                    ("token", judged.score.token.into()),
                    ("dishonest", judged.score.dishonest.into()),
                ],
            ))
    }

    /// The container, and where to ask.
    async fn target(&self, context: &Context, key: &Address) -> Result<(Address, Box<Container>, String)> {
        if let Ok(address) = self.against.parse::<Address>() {
            let container = context.reader.container(&address).await?;
            let endpoint = container.endpoint().to_owned();
            return Ok((address, container, endpoint));
        }
        if let Some(address) = self.container {
            return Ok((address, context.reader.container(&address).await?, self.against.clone()));
        }
        let mine = context.reader.matching::<Container>(&[(offset_of!(Container, operator), key.as_ref())]).await?;
        ensure!(
            !mine.is_empty(),
            "no container has the operator {key}: name its key with --keypair, or the container with --container"
        );
        let registered =
            |container: &Container| container.endpoint().trim_end_matches('/') == self.against.trim_end_matches('/');
        let mut there = if mine.len() > 1 { mine.into_iter().filter(|(_, c)| registered(c)).collect() } else { mine };
        match (there.pop(), there.is_empty()) {
            (Some((address, container)), true) => Ok((address, container, self.against.clone())),
            _ => bail!("{key} operates several containers: say which with --container"),
        }
    }
}

/// The present epoch; when too little of it is left for a challenge, the next one once it has begun.
async fn settled<E: std::error::Error + Send + Sync + 'static>(
    network: &Network,
    clock: &ChainClock,
    row: &Row,
    steps: &Steps,
    deadline: impl Fn(bool) -> Result<Duration, E>,
) -> Result<u32> {
    let now = clock.read().await?.unix_timestamp;
    let epoch =
        network.epoch_at(now).ok().context("the first epoch has not begun: messages belong to an epoch, so wait for it")?;
    let (start, end) = network.bounds(epoch);
    let needed = deadline(ask::is_leased(row, epoch))? + 3 * PATIENCE;
    let needed = i64::try_from(needed.as_secs()).unwrap_or(i64::MAX).min((end - start) / 2);
    if end - now >= needed {
        return Ok(epoch);
    }
    steps.step("waiting for the next epoch, as this one ends too soon");
    let now = clock.wait_until(end).await?.unix_timestamp;
    network.epoch_at(now).ok().context("the chain's clock left the grid of epochs")
}

/// Asks until the agent says something else than to ask again, as it does while it has not seen an epoch or a slot yet; says how
/// often it did.
async fn patiently<Q: Payload, A: Answer>(
    agent: &Agent,
    path: &str,
    question: &Q,
    until: Instant,
) -> Result<(Answered<A>, u32)> {
    let mut waits = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match agent.ask(path, question, left).await {
            Ok(answered) => return Ok((answered, waits)),
            Err(error) if error.is::<NotNow>() => {
                let pause = Duration::from_millis(rand::rng().random_range(100..400));
                ensure!(Instant::now() + pause < until, "until the deadline it only said: {error:#}");
                waits += 1;
                sleep(pause).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Probes at random instants; says how many were answered.
async fn liveness(agent: &Agent, probes: u16) -> (Finding, u16) {
    let id = "verify.liveness";
    let (mut trips, mut trouble) = (Vec::new(), None);
    for probe in 0..probes {
        if probe > 0 {
            let moment = rand::rng().random_range(250..750);
            sleep(Duration::from_millis(moment)).await;
        }
        match patiently::<_, LivenessAnswer>(agent, path::LIVENESS, &LivenessRequest, Instant::now() + PATIENCE).await {
            Ok((answered, _)) => trips.push(answered.took),
            Err(error) => trouble = Some(format!("{error:#}")),
        }
    }
    trips.sort_unstable();
    let answered = u16::try_from(trips.len()).unwrap_or(probes);
    let times = match (trips.first(), trips.last()) {
        (Some(first), Some(last)) => {
            let (middle, reach) = (trips[trips.len() / 2], reach_km(*first));
            let [first, middle, last] = [*first, middle, *last].map(|trip| trip.as_secs_f64() * 1e3);
            format!(", round trips {first:.1} to {last:.1} ms, median {middle:.1}: within {reach:.0} km of here")
        }
        _ => String::new(),
    };
    let found = format!("{answered} of {probes} answered{times}");
    let finding = match trouble {
        None => Finding::ok(id, found),
        Some(why) => Finding::failed(id, format!("{found}; last trouble: {why}"), how_to_mend(&why)),
    };
    (finding, answered)
}

/// What to do about the usual refusals.
fn how_to_mend(why: &str) -> &'static str {
    if why.contains("no say") || why.contains("committee") {
        "sign with the container's operator key: name it with --keypair"
    } else if why.contains("clock") {
        "set both machines' clocks by NTP: `datagalax doctor` shows the offset"
    } else if why.contains("refused") || why.contains("no answer") {
        "start `datagalax-agent` on the host, and see that the endpoint leads to its --listen address: `datagalax doctor --agent`"
    } else {
        "look into the agent's log at that time"
    }
}

/// What the vote would say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Score {
    capacity: u8,
    token: u8,
    dishonest: bool,
}

struct Judged {
    findings: Vec<Finding>,
    score: Score,
}

/// The challenge of one slot: the root, what is opened of it, the verdict.
async fn challenge(agent: &Agent, ask: &Ask, slot: &SeenSlot) -> Judged {
    let mut judged = Judged { findings: Vec::new(), score: Score::default() };
    let id = "verify.root";
    let (answer, waits) = match root(agent, ask, slot).await {
        Ok(answer) => answer,
        Err(error) => {
            let why = format!("{error:#}");
            judged.findings.push(Finding::failed(id, &why, how_to_mend(&why)));
            judged.findings.push(Finding::skipped("verify.opened", "there is no root", "mend verify.root first"));
            return judged;
        }
    };
    let elapsed = slot.seen.elapsed();
    judged.score.token = beacon::token(Some(&answer.root));
    if (answer.slot, answer.slot_hash) != (slot.number, slot.hash) {
        let advice = "the agent's node is on another fork or cluster: compare both with `datagalax doctor`";
        judged.findings.push(Finding::failed(id, "the root is of another slot", advice));
        return judged;
    }
    if answer.workload != ask.workload {
        let advice =
            "the agent sees the class or the lease differently, or is of another release: update it, and look at its node";
        judged.findings.push(Finding::failed(id, "the root is of other work than the class asks for", advice));
        return judged;
    }
    let found = format!(
        "{} ms after the slot ({} ms by the host's own count; asked again {waits} times)",
        elapsed.as_millis(),
        answer.elapsed_us / 1_000
    );
    judged.findings.push(if elapsed > ask.schedule.deadline {
        Finding::failed(id, format!("{found}: too late"), "see verify.capacity")
    } else {
        Finding::ok(id, found)
    });
    judged.open(agent, ask, slot, &answer, elapsed).await;
    judged
}

/// Asks for the root until the deadline; says how often the agent asked to wait.
async fn root(agent: &Agent, ask: &Ask, slot: &SeenSlot) -> Result<(BeaconAnswer, u32)> {
    let request = BeaconRequest { slot: slot.number, workload: ask.workload, deadline_ms: ask.schedule.deadline_ms() };
    let until = slot.seen + ask.schedule.deadline;
    let (answered, waits) = patiently::<_, BeaconAnswer>(agent, path::BEACON, &request, until).await?;
    Ok((answered.answer, waits))
}

impl Judged {
    /// Opens rows and walks by a secret of this moment, recomputes them and scores.
    async fn open(&mut self, agent: &Agent, ask: &Ask, slot: &SeenSlot, answer: &BeaconAnswer, elapsed: Duration) {
        let id = "verify.opened";
        let secret: Digest = rand::random();
        let request = draw(&answer.workload, &answer.root, &Spread::default(), &secret);
        let (rows, walks) = (request.rows.len(), request.walks.len());
        let patience = Instant::now() + PATIENCE;
        let opened = match patiently::<_, SampleAnswer>(agent, path::SAMPLE, &request, patience).await {
            Ok((opened, _)) => opened,
            Err(error) => {
                let why = format!("{error:#}");
                self.findings.push(Finding::failed(id, &why, how_to_mend(&why)));
                return;
            }
        };
        let challenge = beacon::challenge(&slot.hash, &agent.context.subject.to_bytes());
        let (schedule, reference, workload, devices) = (ask.schedule, ask.reference, answer.workload, opened.answer.devices);
        let start = Instant::now();
        let judging = spawn_blocking(move || {
            let answer =
                score::Answer { challenge: &challenge, workload: &workload, elapsed, request: &request, opened: &devices };
            answer.judge(&schedule, reference, Location::Unknown)
        });
        let judgement = match judging.await {
            Ok(judgement) => judgement,
            Err(error) => {
                self.findings.push(Finding::failed(id, format!("this machine could not verify it: {error}"), "try again"));
                return;
            }
        };
        self.score = Score { capacity: judgement.capacity, token: judgement.token, dishonest: judgement.dishonest };
        let times = format!("opened in {} ms, verified in {} ms", opened.took.as_millis(), start.elapsed().as_millis());
        self.findings.push(match judgement.error {
            None => Finding::ok(id, format!("{rows} rows and {walks} walks hold, {times}")),
            Some(error) if error.is_lie() => {
                let advice = "a device computes wrongly, and checkers would call it dishonest: take the host out of service at once \
                              (`datagalax container update <CONTAINER> --accepting false`, stop the agent), test its memory";
                Finding::failed(id, format!("{error} ({times})"), advice)
            }
            Some(error) => Finding::failed(id, format!("{error} ({times})"), "update the agent; it does not open what it was asked"),
        });
    }
}

/// `verify.capacity`: against what pays.
fn capacity(score: &Score, threshold: u8) -> Finding {
    let id = "verify.capacity";
    let found = format!("{} percent of the reference, {threshold} pay", score.capacity);
    if score.capacity >= threshold && !score.dishonest {
        return Finding::ok(id, found);
    }
    let advice =
        "mend what failed above; where nothing did, the machine is too slow for its class: see `datagalax gpu bench`";
    Finding::failed(id, found, advice)
}

async fn inspect(agent: &Agent) -> Finding {
    let id = "verify.inspection";
    match patiently::<_, InspectionAnswer>(agent, path::INSPECTION, &InspectionRequest, Instant::now() + PATIENCE).await {
        Ok((answered, _)) => {
            let inspection = &answered.answer.inspection;
            let gpus = inspection.gpus().map(|(gpu, _)| gpu.model.as_str()).collect::<Vec<_>>();
            let gpus = if gpus.is_empty() { "no GPU".to_owned() } else { gpus.join(", ") };
            let release = &inspection.metrics.agent_version;
            Finding::ok(id, format!("release {release}, {gpus}, in {} ms", answered.took.as_millis()))
        }
        Err(error) => {
            let why = format!("{error:#}");
            Finding::failed(id, &why, how_to_mend(&why))
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        num::NonZeroUsize,
        sync::{Mutex, atomic::AtomicBool},
    };

    use datagalax::state::ClassTerms;
    use datagalax_gpu::{
        backend::{Backend, Cpu},
        capacity::{self, Limits, Proof},
    };
    use datagalax_protocol::{Envelope, Payload, SampleRequest};
    use solana_keypair::Keypair;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::finding::State::{self, Failed, Ok as Fine, Skipped};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fault {
        None,
        /// Says twice of everything that it is to be asked again.
        Waits,
        /// Opens a row that is not the product's under a root over it.
        Lies,
        OtherWork,
        Refuses,
        /// Opens nothing.
        Shut,
    }

    struct Fake {
        fault: Fault,
        key: Keypair,
        ask: Ask,
        /// Where it was asked.
        asked: Mutex<Vec<String>>,
        proof: Mutex<Option<Proof>>,
    }

    impl Fake {
        fn sign<A: Payload>(&self, request: &Envelope, answer: &A) -> (u16, Vec<u8>) {
            let about = About {
                genesis_hash: request.genesis_hash,
                program: request.program.into(),
                subject: request.subject.into(),
                epoch: request.epoch,
            };
            let signed =
                Envelope::sign(&about, answer, request.nonce, datagalax_client::clock::unix_now(), &self.key).unwrap();
            (200, signed.encode())
        }

        fn answer(&self, at: &str, request: &Envelope) -> (u16, Vec<u8>) {
            {
                let mut asked = self.asked.lock().unwrap();
                asked.push(at.to_owned());
                if self.fault == Fault::Waits && asked.iter().filter(|there| *there == at).count() <= 2 {
                    return (503, b"not seen yet".to_vec());
                }
            }
            match at {
                path::LIVENESS => {
                    self.sign(request, &LivenessAnswer { request: request.digest(), metrics: Default::default() })
                }
                path::INSPECTION => {
                    self.sign(request, &InspectionAnswer { request: request.digest(), inspection: Default::default() })
                }
                path::BEACON => self.prove(request),
                path::SAMPLE if self.fault == Fault::Shut => (404, b"nothing here".to_vec()),
                path::SAMPLE => {
                    let sample: SampleRequest = borsh::from_slice(&request.payload).unwrap();
                    let devices = self.proof.lock().unwrap().as_ref().unwrap().open(&sample).unwrap();
                    self.sign(request, &SampleAnswer { request: request.digest(), devices })
                }
                _ => (404, Vec::new()),
            }
        }

        fn prove(&self, request: &Envelope) -> (u16, Vec<u8>) {
            if self.fault == Fault::Refuses {
                return (403, b"key x has no say here".to_vec());
            }
            let beacon: BeaconRequest = borsh::from_slice(&request.payload).unwrap();
            assert_eq!((beacon.slot, beacon.workload), (7, self.ask.workload));
            let hash = if self.fault == Fault::Lies { [9; 32] } else { [8; 32] };
            let mut workload = beacon.workload;
            workload.passes += u16::from(self.fault == Fault::OtherWork);
            let challenge = beacon::challenge(&hash, &request.subject);
            let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(Cpu::new(NonZeroUsize::MIN))];
            let stop = AtomicBool::new(false);
            let proof =
                capacity::prove(&challenge, &workload, &mut backends, &Limits::CPU, NonZeroUsize::MIN, &stop).unwrap();
            let root = proof.root();
            *self.proof.lock().unwrap() = Some(proof);
            let answer =
                BeaconAnswer { request: request.digest(), slot: 7, slot_hash: [8; 32], workload, root, elapsed_us: 1 };
            self.sign(request, &answer)
        }
    }

    async fn serve(mut stream: TcpStream, fake: Arc<Fake>) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let (at, body) = loop {
            let mut part = [0; 4_096];
            let read = stream.read(&mut part).await?;
            bytes.extend_from_slice(&part[..read]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some(end) = text.find("\r\n\r\n") else { continue };
            let length =
                text.to_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse::<usize>();
            // The head is ASCII, so characters before its end are bytes.
            if bytes.len() >= end + 4 + length.unwrap() {
                break (text.split(' ').nth(1).unwrap().to_owned(), bytes.split_off(end + 4));
            }
        };
        let (status, body) = fake.answer(&at, &Envelope::decode(&body).unwrap());
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat()).await
    }

    async fn verified(fault: Fault) -> (Vec<(&'static str, State)>, Score, Finding, u16) {
        let terms = ClassTerms { reference_throughput: 1_000_000, active: 1, ..ClassTerms::default() };
        let ask = Ask::of(&terms, 1, false).unwrap();
        let key = Keypair::new();
        let operator = key.pubkey();
        let fake = Arc::new(Fake { fault, key, ask, asked: Mutex::default(), proof: Mutex::new(None) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, fake.clone()));
            }
        });
        let about = About { genesis_hash: [1; 32], program: PROGRAM, subject: Address::new_from_array([2; 32]), epoch: 3 };
        let agent = Agent { endpoint, context: about, operator, key: Arc::new(Keypair::new()) };
        let (lives, answered) = liveness(&agent, 2).await;
        let slot = SeenSlot { number: 7, hash: [8; 32], time: 0, seen: Instant::now() };
        let judged = challenge(&agent, &ask, &slot).await;
        let inspected = inspect(&agent).await;
        server.abort();
        assert_eq!((lives.state, answered, inspected.state), (Fine, 2, Fine), "{lives:?} {inspected:?}");
        let states = judged.findings.iter().map(|finding| (finding.id, finding.state)).collect();
        (states, judged.score, judged.findings.last().unwrap().clone(), answered)
    }

    #[tokio::test]
    async fn an_honest_agent_gets_full_marks_even_when_it_must_be_asked_again() {
        for fault in [Fault::None, Fault::Waits] {
            let (states, score, ..) = verified(fault).await;
            assert_eq!(states, [("verify.root", Fine), ("verify.opened", Fine)], "{fault:?}");
            assert!(score.capacity == 100 && score.token > 0 && !score.dishonest, "{score:?}");
            assert_eq!(capacity(&score, 50).state, Fine);
        }
    }

    #[tokio::test]
    async fn every_fault_is_named() {
        let failing = |score: &Score| capacity(score, 50).state == Failed;
        let (states, score, last, _) = verified(Fault::Lies).await;
        assert_eq!((states[1], score.dishonest), (("verify.opened", Failed), true), "{last:?}");
        assert!(failing(&score) && last.found.contains("not the product's"), "{last:?}");
        let (states, score, last, _) = verified(Fault::OtherWork).await;
        assert!(states == [("verify.root", Failed)] && failing(&score) && last.found.contains("other work"));
        let (states, score, ..) = verified(Fault::Refuses).await;
        assert!(states == [("verify.root", Failed), ("verify.opened", Skipped)] && failing(&score));
        let (states, score, last, _) = verified(Fault::Shut).await;
        assert!(states[1] == ("verify.opened", Failed) && failing(&score) && last.found.contains("404: nothing here"));
    }

    #[test]
    fn the_usual_refusals_are_explained() {
        assert!(how_to_mend("the agent answered 403: key x has no say here").contains("--keypair"));
        assert!(how_to_mend("the message is 99 seconds old: check both clocks").contains("NTP"));
        assert!(how_to_mend("Connection refused (os error 111)").contains("datagalax-agent"));
    }
}
