//! What an agent needs: a registered container that is this machine, its cards, its key, its stake, and to be reached.

use std::{mem::offset_of, sync::Arc, time::Duration};

use anyhow::ensure;
use datagalax::state::{Block, Checker, Container, GpuClass, Network, Row};
use datagalax_client::{Address, ReadError, addresses::PROGRAM, amount::Ath, clock::unix_now};
use datagalax_gpu::{HostProbe, Probe as _, Settings, backend::Cuda};
use datagalax_protocol::{
    Context, GpuDetails, GpuMetrics, Inspection, InspectionAnswer, InspectionRequest, ReachableAnswer, ReachableRequest,
    path, reachable,
};
use tokio::{join, task::spawn_blocking};

use super::{
    Doctor, OnChain, connect,
    host::{self, SIGNATURE},
};
use crate::{
    agent::{Agent, exchange, url},
    commands::container::halted,
    finding::{Finding, PATIENCE, Reading, bounded},
    http,
};

/// Transactions of a container in a day: leases it starts, faults it reports.
const TRANSACTIONS: u64 = 50;
const GIB: f64 = (1u64 << 30) as f64;

/// What the machine has.
struct Hardware {
    fingerprint: [u8; 32],
    cards: Vec<(GpuMetrics, GpuDetails)>,
}

/// Whether the endpoint takes connections, and who tried.
struct Reached {
    by: By,
    outcome: Reading<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    /// This very machine: it says nothing about a firewall in front of it. With why no checker did, if one was asked.
    Here(Option<String>),
    /// A checker, asked at this URL.
    Checker(String),
}

/// Looks.
pub async fn look(doctor: &Doctor, on: &OnChain<'_>) -> Vec<Finding> {
    let found = bounded(find(doctor, on)).await;
    let id = "agent.registered";
    let (address, container) = match found {
        Ok(Some(found)) => found,
        Ok(None) => {
            let found = match doctor.container {
                Some(address) => format!("there is no container at {address}"),
                None => format!("no container has the operator {}", on.key),
            };
            let advice = "see which class fits with `datagalax gpu bench`, then `datagalax container register`";
            return vec![Finding::failed(id, found, advice)];
        }
        Err(why) => return vec![Finding::skipped(id, why, "mend rpc.answers first")],
    };
    let reader = &on.context.reader;
    let probing = bounded(spawn_blocking({
        let (gpus, machine_id) = (!doctor.no_gpu, doctor.machine_id.clone());
        move || hardware(gpus, machine_id)
    }));
    let cuda = bounded(spawn_blocking(|| Cuda::open_all().map(|cards| cards.len()).map_err(|error| error.to_string())));
    let endpoint = container.endpoint().to_owned();
    let (class, block, hardware, cuda, inspection, reached) = join!(
        bounded(reader.class(container.class)),
        bounded(reader.block(container.block)),
        probing,
        async { if doctor.no_gpu { Ok(Ok(0)) } else { cuda.await } },
        inspect(on, &address, &container),
        reach(doctor, on, &address, &endpoint),
    );
    let (hardware, cuda) = (hardware.and_then(|read| read), cuda.and_then(|read| read));
    let mut findings = vec![Finding::ok(id, address.to_string()), operator(&container, &address, on.key)];
    findings.push(identity(&hardware, &container));
    match &class {
        Ok(class) => findings.extend([driver(&hardware, &cuda, class), cards(&hardware, &container, class)]),
        Err(why) => findings.push(Finding::skipped("agent.cards", why, "mend rpc.answers first")),
    }
    findings.push(faults(&inspection, &hardware));
    findings.push(in_step(&inspection, &container));
    findings.push(in_reach(&reached).of(endpoint));
    match &block {
        Ok(block) => findings.push(row(block, &container)),
        Err(why) => findings.push(Finding::skipped("agent.row", why, "mend rpc.answers first")),
    }
    findings.extend([halt(&container, &address), stake(&container, &address), accepting(&container, &address)]);
    findings.push(host::state(&on.host.disk));
    findings.push(host::balance(on.host, TRANSACTIONS * SIGNATURE, doctor.days));
    findings
}

/// The container named, or this operator's.
async fn find(doctor: &Doctor, on: &OnChain<'_>) -> Result<Option<(Address, Box<Container>)>, ReadError> {
    let reader = &on.context.reader;
    if let Some(address) = doctor.container {
        return Ok(reader.find::<Container>(&address).await?.map(|container| (address, container)));
    }
    let mine = reader.matching::<Container>(&[(offset_of!(Container, operator), on.key.as_ref())]).await?;
    Ok(mine.into_iter().min_by_key(|(_, container)| (container.block, container.row)))
}

fn hardware(gpus: bool, machine_id: Option<std::path::PathBuf>) -> Reading<Hardware> {
    let settings = Settings { agent_version: env!("CARGO_PKG_VERSION").to_owned(), gpus, machine_id };
    let probe = HostProbe::open(settings).map_err(|error| error.to_string())?;
    let Inspection { metrics, details, .. } = probe.inspect(unix_now()).map_err(|error| error.to_string())?;
    Ok(Hardware { fingerprint: probe.fingerprint(), cards: metrics.gpus.into_iter().zip(details).collect() })
}

/// Asks the agent at the registered endpoint, with the operator's own key.
async fn inspect(on: &OnChain<'_>, address: &Address, container: &Container) -> Reading<Inspection> {
    let epoch = epoch(on.network, on.now)?;
    let key = on.context.load_key().map_err(|error| format!("{error:#}"))?;
    let agent = Agent {
        endpoint: container.endpoint().to_owned(),
        context: Context { genesis_hash: on.network.genesis_hash, program: PROGRAM, subject: *address, epoch },
        operator: container.operator,
        key: Arc::new(key),
    };
    let asked = agent.ask::<_, InspectionAnswer>(path::INSPECTION, &InspectionRequest, PATIENCE);
    bounded(asked).await.map(|answered| answered.answer.inspection)
}

fn epoch(network: &Network, now: i64) -> Reading<u32> {
    network.epoch_at(now).map_err(|_| "the first epoch has not begun".to_owned())
}

/// Has a checker try the endpoint, and tries it from here where none can.
async fn reach(doctor: &Doctor, on: &OnChain<'_>, container: &Address, endpoint: &str) -> Reached {
    let why = match &doctor.ask {
        None => None,
        Some(checker) => match bounded(ask_checker(on, checker, container)).await {
            Ok(answer) if answer.trouble.is_empty() => {
                return Reached { by: By::Checker(checker.clone()), outcome: Ok(Duration::from_micros(answer.took_us)) };
            }
            Ok(answer) => return Reached { by: By::Checker(checker.clone()), outcome: Err(answer.trouble) },
            Err(why) => Some(why),
        },
    };
    Reached { by: By::Here(why), outcome: timed(endpoint).await }
}

/// Asks a checker's evidence server to reach the container's registered endpoint.
async fn ask_checker(on: &OnChain<'_>, checker: &str, container: &Address) -> anyhow::Result<ReachableAnswer> {
    let epoch = epoch(on.network, on.now).map_err(anyhow::Error::msg)?;
    let about = Context { genesis_hash: on.network.genesis_hash, program: PROGRAM, subject: *container, epoch };
    let (url, key) = (url(checker, reachable::PATH)?, on.context.load_key()?);
    let asked = exchange(&http::client()?, &url, &about, &key, &ReachableRequest, None, PATIENCE).await?;
    let operates = on.context.reader.matching::<Checker>(&[(offset_of!(Checker, operator), asked.signer.as_ref())]).await?;
    ensure!(!operates.is_empty(), "{} signed the answer, which operates no checker", asked.signer);
    Ok(asked.answer)
}

/// Connects to the host and port of a URL.
async fn timed(endpoint: &str) -> Reading<Duration> {
    let url = reqwest::Url::parse(endpoint).map_err(|error| format!("it is no URL: {error}"))?;
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err("it names no host and port".to_owned());
    };
    let start = tokio::time::Instant::now();
    connect(&format!("{host}:{port}")).await.map(|()| start.elapsed())
}

/// `agent.operator_key`.
fn operator(container: &Container, address: &Address, key: &Address) -> Finding {
    let id = "agent.operator_key";
    if container.operator == *key {
        return Finding::ok(id, "the registered one");
    }
    let found = format!("--keypair is {key}, registered is {}", container.operator);
    let advice =
        format!("run the agent with the registered key, or replace it with `datagalax container rotate {address} {key}`");
    Finding::failed(id, found, advice)
}

/// `agent.fingerprint`: whether this machine is the registered one.
fn identity(hardware: &Reading<Hardware>, container: &Container) -> Finding {
    let id = "agent.fingerprint";
    match hardware {
        Ok(hardware) if hardware.fingerprint == container.fingerprint => {
            Finding::ok(id, "this machine is the registered one")
        }
        Ok(hardware) => Finding::failed(
            id,
            format!("{}, registered is {}", hex::encode(hardware.fingerprint), hex::encode(container.fingerprint)),
            "run this on the container's own machine, with --no-gpu and --machine-id as its agent has them; \
             a machine whose cards changed is registered anew with `datagalax container register --this-host`",
        ),
        Err(why) => Finding::failed(id, why, "the agent cannot read this machine either: mend what it names"),
    }
}

/// `agent.driver`: NVML shows the cards and CUDA opens as many.
fn driver(hardware: &Reading<Hardware>, cuda: &Reading<usize>, class: &GpuClass) -> Finding {
    let id = "agent.driver";
    if class.terms.minimum_vram == 0 {
        return Finding::skipped(id, "the class is one of processors", "nothing to do");
    }
    let advice = "install or restart NVIDIA's driver with its CUDA libraries (libcuda, libnvrtc), and see that `nvidia-smi` shows every card";
    match (hardware, cuda) {
        (Err(why), _) | (_, Err(why)) => Finding::failed(id, why, advice),
        (Ok(hardware), Ok(opened)) => {
            let shown = hardware.cards.len();
            let version = hardware.cards.first().map(|(card, _)| card.driver.as_str()).unwrap_or_default();
            let found = format!("driver {version} shows {shown} cards, CUDA opens {opened}");
            if shown == *opened && shown > 0 { Finding::ok(id, found) } else { Finding::failed(id, found, advice) }
        }
    }
}

/// `agent.cards`: as many as registered, with the class's memory.
fn cards(hardware: &Reading<Hardware>, container: &Container, class: &GpuClass) -> Finding {
    let id = "agent.cards";
    if class.terms.minimum_vram == 0 {
        return Finding::skipped(id, "the class is one of processors", "nothing to do");
    }
    let Ok(hardware) = hardware else {
        return Finding::skipped(id, "the cards cannot be read", "mend agent.fingerprint first");
    };
    let (has, registered) = (hardware.cards.len(), usize::from(container.gpus));
    let least = hardware.cards.iter().map(|(card, _)| card.memory_total).min().unwrap_or(0);
    let asked = class.terms.minimum_vram;
    let found = format!(
        "{has} of {registered} registered, the smallest with {:.1} GiB of {:.1} that class {} asks for",
        least as f64 / GIB,
        asked as f64 / GIB,
        class.name()
    );
    if has == registered && least >= asked {
        return Finding::ok(id, found);
    }
    let advice = "beacons ask for all registered cards and their memory: put the missing ones back, or deregister and register \
                  in the class that `datagalax gpu bench` names";
    Finding::failed(id, found, advice)
}

/// `agent.faults`: lost cards, errors of their memory, Xid errors since the agent started.
fn faults(asked: &Reading<Inspection>, hardware: &Reading<Hardware>) -> Finding {
    let id = "agent.faults";
    let (cards, source): (Vec<_>, _) = match (asked, hardware) {
        (Ok(inspection), _) => (inspection.gpus().collect(), "since the agent started"),
        (Err(_), Ok(hardware)) => (
            hardware.cards.iter().map(|(card, details)| (card, details)).collect(),
            "now; the agent, which keeps them, does not answer",
        ),
        (Err(why), Err(_)) => return Finding::skipped(id, why, "mend agent.answers and agent.fingerprint first"),
    };
    let mut bad = Vec::new();
    for (card, details) in &cards {
        let xids: Vec<String> = details.xids.iter().map(|xid| xid.code.to_string()).collect();
        if details.lost {
            bad.push(format!("{} does not answer", card.uuid));
        }
        if !xids.is_empty() {
            bad.push(format!("{}: Xid {}", card.uuid, xids.join(", ")));
        }
        if card.ecc_uncorrected.unwrap_or(0) > 0 {
            bad.push(format!("{}: {} uncorrected memory errors", card.uuid, card.ecc_uncorrected.unwrap_or(0)));
        }
    }
    if bad.is_empty() {
        return Finding::ok(id, format!("none of {} cards {source}", cards.len()));
    }
    let advice = "see `dmesg | grep Xid` and NVIDIA's catalogue of Xid errors; reset the card or reboot, and exchange it when it comes back";
    Finding::failed(id, bad.join("; "), advice)
}

/// `agent.answers`: at the registered endpoint the registered machine answers, signed with the registered key.
fn in_step(asked: &Reading<Inspection>, container: &Container) -> Finding {
    let id = "agent.answers";
    match asked {
        Ok(inspection) if inspection.metrics.fingerprint == container.fingerprint => {
            Finding::ok(id, format!("release {} answers for this container", inspection.metrics.agent_version))
        }
        Ok(_) => Finding::failed(
            id,
            "another machine answers for this container",
            "its endpoint must lead to its own agent: `datagalax container update <CONTAINER> --endpoint <URL>`",
        ),
        Err(why) => Finding::failed(
            id,
            why,
            "start `datagalax-agent`, and see that the registered endpoint leads to its --listen address; \
             change it with `datagalax container update <CONTAINER> --endpoint <URL>`",
        ),
    }
}

/// `agent.reachable`: whether its port takes connections.
fn in_reach(reached: &Reached) -> Finding {
    let id = "agent.reachable";
    let mend = "start the agent, open its port in the firewall and forward it, or register a relay's URL as the endpoint (`datagalax-agent --relay`)";
    match (&reached.by, &reached.outcome) {
        (By::Checker(checker), Ok(took)) => {
            Finding::ok(id, format!("the checker at {checker} reached it in {} ms", took.as_millis()))
        }
        (By::Checker(checker), Err(why)) => {
            Finding::failed(id, format!("the checker at {checker} did not reach it: {why}"), mend)
        }
        (By::Here(asked), Ok(took)) => {
            let asked = asked.as_ref().map(|why| format!(" (the checker that was asked: {why})")).unwrap_or_default();
            Finding::warning(
                id,
                format!(
                    "takes connections from this machine ({} ms); from outside it was not tried{asked}",
                    took.as_millis()
                ),
                "have a checker try it with --ask <URL of its evidence server>, or try it from another network",
            )
        }
        (By::Here(_), Err(why)) => Finding::failed(id, format!("from this machine: {why}"), mend),
    }
}

/// `agent.row`: how the container stands.
fn row(block: &Block, container: &Container) -> Finding {
    let id = "agent.row";
    let row: &Row = &block.rows[usize::from(container.row)];
    let bad = row.bad_epochs.count_ones();
    let found = format!(
        "{}, {bad} bad epochs of the last 16, row {} of block {}",
        crate::commands::epoch::status(row),
        container.row,
        container.block
    );
    let look = "compare what the seats said with `datagalax epoch report <NUMBER>`, and have the agent judged with `datagalax gpu verify`";
    match row.status {
        _ if row.is_accused() => {
            let found = format!("{found}; condemned first in epoch {}", row.first_condemned);
            Finding::failed(
                id,
                found,
                "its accrual is frozen until the case is closed: see `datagalax case list`, and mend the host at once",
            )
        }
        Row::LIVE if bad == 0 => Finding::ok(id, found),
        Row::LIVE => Finding::warning(id, found, format!("at four bad epochs it is no longer paid: {look}")),
        Row::CHECKING => {
            Finding::warning(id, found, format!("it is not paid until a whole epoch of it was good: wait, or {look}"))
        }
        _ => Finding::warning(
            id,
            found,
            "it leaves: nothing is paid from there on; `datagalax container vacate` frees its stake",
        ),
    }
}

/// `agent.halted`.
fn halt(container: &Container, address: &Address) -> Finding {
    let id = "agent.halted";
    match halted(container) {
        None => Finding::ok(id, "not halted"),
        Some(why) => Finding::failed(
            id,
            format!("halted: {why}"),
            format!(
                "bring its stake back with `datagalax provider restore {address}`; see `datagalax case list` for the reason"
            ),
        ),
    }
}

/// `agent.stake`.
fn stake(container: &Container, address: &Address) -> Finding {
    let id = "agent.stake";
    let (locked, original) = (container.locked_stake, container.original_locked_stake);
    if locked >= original {
        return Finding::ok(id, format!("{} ATH locked", Ath(locked)));
    }
    let found = format!("{} of {} ATH left", Ath(locked), Ath(original));
    let advice = format!(
        "stake the rest with `datagalax provider stake {} <ATH>`, then `datagalax provider restore {address}`",
        container.provider
    );
    Finding::failed(id, found, advice)
}

/// `agent.accepting`.
fn accepting(container: &Container, address: &Address) -> Finding {
    let id = "agent.accepting";
    if container.accepting == 1 {
        return Finding::ok(id, "takes new leases");
    }
    let advice = format!("open it with `datagalax container update {address} --accepting true`");
    Finding::warning(id, "takes no new leases", advice)
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use datagalax_protocol::inspection::Xid;

    use super::*;
    use crate::finding::State::{Failed, Ok as Fine, Skipped, Warning};

    fn no<T>() -> Reading<T> {
        Err("no".to_owned())
    }

    fn container() -> Container {
        Container { fingerprint: [7; 32], gpus: 2, ..Container::zeroed() }
    }

    fn machine(memory: &[u64]) -> Reading<Hardware> {
        let card = |memory: &u64| {
            let metrics = GpuMetrics { uuid: "GPU-a".into(), memory_total: *memory, ..GpuMetrics::default() };
            (metrics, GpuDetails::default())
        };
        Ok(Hardware { fingerprint: [7; 32], cards: memory.iter().map(card).collect() })
    }

    fn class(minimum_vram: u64) -> GpuClass {
        let mut class = GpuClass::zeroed();
        class.terms.minimum_vram = minimum_vram;
        class
    }

    fn inspection(details: GpuDetails) -> Reading<Inspection> {
        let mut inspection = Inspection::default();
        inspection.metrics.fingerprint = [7; 32];
        inspection.metrics.gpus.push(GpuMetrics { uuid: "GPU-a".into(), ..GpuMetrics::default() });
        inspection.details.push(details);
        Ok(inspection)
    }

    #[test]
    fn the_machine_must_be_the_registered_one() {
        assert_eq!(identity(&machine(&[1]), &container()).state, Fine);
        assert_eq!(identity(&machine(&[1]), &Container::zeroed()).state, Failed);
        assert_eq!(identity(&no(), &container()).state, Failed);
        let at = Address::default();
        assert_eq!(operator(&container(), &at, &at).state, Fine);
        assert_eq!(operator(&container(), &at, &Address::new_from_array([1; 32])).state, Failed);
    }

    #[test]
    fn all_registered_cards_must_be_there_with_the_class_s_memory() {
        let of = |memory: &[u64]| cards(&machine(memory), &container(), &class(80)).state;
        assert_eq!((of(&[80, 81]), of(&[80]), of(&[80, 79]), of(&[80, 80, 80])), (Fine, Failed, Failed, Failed));
        assert_eq!(cards(&machine(&[]), &container(), &class(0)).state, Skipped);
        assert_eq!(cards(&no(), &container(), &class(80)).state, Skipped);
        let of = |memory: &[u64], cuda| driver(&machine(memory), &cuda, &class(80)).state;
        assert_eq!((of(&[1, 1], Ok(2)), of(&[1, 1], Ok(1)), of(&[], Ok(0)), of(&[1], no())), (Fine, Failed, Failed, Failed));
        assert_eq!(driver(&no(), &Ok(0), &class(0)).state, Skipped);
    }

    #[test]
    fn faults_are_named_from_the_agent_or_from_here() {
        let xid = GpuDetails { xids: vec![Xid { code: 79, seen_at: 1 }], ..GpuDetails::default() };
        let bad = faults(&inspection(xid), &no());
        assert!(bad.state == Failed && bad.found.contains("GPU-a: Xid 79"), "{bad:?}");
        let lost = GpuDetails { lost: true, ..GpuDetails::default() };
        assert_eq!(faults(&inspection(lost), &no()).state, Failed);
        assert_eq!(faults(&inspection(GpuDetails::default()), &no()).state, Fine);
        assert!(faults(&no(), &machine(&[1])).found.contains("does not answer"));
        assert_eq!(faults(&no(), &no()).state, Skipped);
    }

    #[test]
    fn the_endpoint_must_lead_to_this_container() {
        assert_eq!(in_step(&inspection(GpuDetails::default()), &container()).state, Fine);
        assert_eq!(in_step(&inspection(GpuDetails::default()), &Container::zeroed()).state, Failed);
        assert_eq!(in_step(&no(), &container()).state, Failed);
        let here = |outcome| in_reach(&Reached { by: By::Here(Some("refused".into())), outcome });
        let found = here(Ok(Duration::ZERO)).found;
        assert!(found.contains("from outside it was not tried") && found.contains("refused"), "{found}");
        assert_eq!((here(Ok(Duration::ZERO)).state, here(no()).state), (Warning, Failed));
        let checker = |outcome| in_reach(&Reached { by: By::Checker("http://c".into()), outcome }).state;
        assert_eq!((checker(Ok(Duration::ZERO)), checker(no())), (Fine, Failed));
    }

    #[test]
    fn rows_that_are_not_paid_are_told() {
        let of = |status, bad_epochs, condemned: Option<u32>| {
            let mut block = bytemuck::allocation::zeroed_box::<Block>();
            let checking = Row::checking(0, 0, 1, 1, 0);
            let first_condemned = condemned.unwrap_or(checking.first_condemned);
            let flags = if condemned.is_some() { Row::ACCUSED } else { 0 };
            block.rows[0] = Row { status, bad_epochs, first_condemned, flags, ..checking };
            row(&block, &container()).state
        };
        assert_eq!((of(Row::LIVE, 0, None), of(Row::LIVE, 1, None)), (Fine, Warning));
        assert_eq!((of(Row::CHECKING, 0, None), of(Row::LEAVING, 0, None)), (Warning, Warning));
        assert_eq!(of(Row::LIVE, 0, Some(3)), Failed);
    }

    #[test]
    fn stake_halt_and_leases() {
        let at = Address::default();
        let of = |locked_stake| stake(&Container { locked_stake, original_locked_stake: 9, ..container() }, &at).state;
        assert_eq!((of(9), of(8)), (Fine, Failed));
        let halted = Container { status: 1, halt_reason: Container::HALT_BREACH, ..container() };
        assert_eq!((halt(&container(), &at).state, halt(&halted, &at).state), (Fine, Failed));
        assert!(halt(&halted, &at).found.contains("breached"));
        assert_eq!(accepting(&container(), &at).state, Warning);
        assert_eq!(accepting(&Container { accepting: 1, ..container() }, &at).state, Fine);
    }
}
