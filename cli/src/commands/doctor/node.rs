//! Nodes, the chain's clock, the program.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datagalax::state::Network;
use datagalax_client::{
    addresses::PROGRAM,
    clock::{Instant, read_clock},
    rpc::{HttpRpc, Rpc},
};
use futures_util::future::join_all;
use tokio::{join, time};

use super::connect;
use crate::{
    context::{Context, some},
    finding::{Finding, Reading, bounded},
    time::{span, utc},
};

/// Between two looks at a node's slot: three slots.
const BETWEEN: Duration = Duration::from_millis(1_200);
/// From so many slots behind the best node on it is more than how nodes talk.
const LAG: u64 = 21;
/// From so many on its blockhashes are about to be refused as too old.
const FAR: u64 = 101;
/// Distance of the clocks in seconds that is well within what messages allow (30).
const NEAR: u64 = 10;
/// Distance in seconds from which messages are refused for their age.
const APART: u64 = 25;

/// What one node says.
pub struct Endpoint {
    url: String,
    /// How long its first answer took.
    took: Reading<Duration>,
    genesis: Reading<[u8; 32]>,
    /// Its slot now and [`BETWEEN`] later.
    slots: Reading<(u64, u64)>,
    version: Reading<String>,
    websocket: (String, Reading<()>),
}

/// The chain's clock and this machine's at the same time.
pub struct Clock {
    /// The chain's.
    pub chain: Instant,
    /// Chain less machine, milliseconds.
    pub offset: i64,
}

/// What the chain says.
pub struct Chain {
    /// The clocks.
    pub clock: Reading<Clock>,
    /// The network's account.
    pub network: Reading<Box<Network>>,
    /// Whether something lives at the program's address, and can be run.
    program: Reading<Option<bool>>,
}

/// Asks all nodes.
pub async fn endpoints(context: &Context) -> Vec<Endpoint> {
    join_all(context.nodes().into_iter().map(|(url, ws)| endpoint(url, ws))).await
}

async fn endpoint(url: String, ws: String) -> Endpoint {
    let rpc = HttpRpc::new(&url, None);
    let asked = time::Instant::now();
    let genesis = async {
        let genesis = bounded(rpc.genesis_hash()).await.map(|hash| hash.to_bytes());
        (genesis, asked.elapsed())
    };
    let slots = bounded(async {
        let first = read_clock(&rpc).await?.slot;
        time::sleep(BETWEEN).await;
        Ok::<_, datagalax_client::ReadError>((first, read_clock(&rpc).await?.slot))
    });
    let address = ws.split_once("://").map_or(ws.as_str(), |(_, rest)| rest);
    let address = address.split_once('/').map_or(address, |(host, _)| host).to_owned();
    let default = if ws.starts_with("wss") { 443 } else { 80 };
    let address = if address.rsplit_once(':').is_some() { address } else { format!("{address}:{default}") };
    let ((genesis, took), slots, version, websocket) = join!(genesis, slots, bounded(version(&url)), connect(&address));
    let took = genesis.as_ref().map(|_| took).map_err(Clone::clone);
    // There may be a key in a URL.
    let (url, ws) = (HttpRpc::shown_url(&url), HttpRpc::shown_url(&ws));
    Endpoint { url, took, genesis, slots, version, websocket: (ws, websocket) }
}

async fn version(url: &str) -> anyhow::Result<String> {
    let asked = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "getVersion" });
    let answer = crate::http::post_json(url, &asked).await?;
    let version = answer["result"]["solana-core"].as_str();
    Ok(version.ok_or_else(|| anyhow::anyhow!("it names no version of solana-core"))?.chars().take(40).collect())
}

/// Reads the chain.
pub async fn chain(context: &Context) -> Chain {
    let rpc = context.reader.rpc().clone();
    let clock = bounded(async {
        let chain = read_clock(rpc.as_ref()).await?;
        let local = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The chain shows whole seconds: on average it is half a second further.
        let millis = chain.unix_timestamp.saturating_mul(1_000).saturating_add(500);
        let offset = millis.saturating_sub(i64::try_from(local.as_millis()).unwrap_or(i64::MAX));
        Ok::<_, datagalax_client::ReadError>(Clock { chain, offset })
    });
    let program = bounded(async {
        let found = rpc.heads(&[PROGRAM], 0).await?.into_iter().next().flatten();
        Ok::<_, datagalax_client::rpc::RpcError>(found.map(|account| account.executable))
    });
    let (clock, network, program) = join!(clock, bounded(context.reader.network()), program);
    Chain { clock, network, program }
}

/// All checks of nodes and chain.
pub fn check(nodes: &[Endpoint], chain: &Chain) -> Vec<Finding> {
    let any = nodes.iter().any(|node| node.took.is_ok());
    let mut findings = Vec::new();
    let best = nodes.iter().filter_map(|node| Some(node.slots.as_ref().ok()?.1)).max();
    let expected = chain.network.as_ref().ok().map(|network| network.genesis_hash);
    for node in nodes {
        let of_node = |finding: Finding| finding.of(node.url.clone());
        findings.push(of_node(answers(&node.took, any)));
        if node.took.is_err() {
            continue;
        }
        findings.push(of_node(advances(&node.slots)));
        findings.push(of_node(lag(&node.slots, best.filter(|_| nodes.len() > 1))));
        findings.push(of_node(speaks(&node.version)));
        findings.push(of_node(cluster(&node.genesis, expected.as_ref())));
        let (ws, reached) = &node.websocket;
        findings.push(websocket(reached).of(ws.clone()));
    }
    if !any {
        let skipped = ["clock.offset", "program.deployed", "program.initialised"];
        findings.extend(skipped.map(|id| Finding::skipped(id, "no node answers", "mend rpc.answers first")));
        return findings;
    }
    findings.push(clock(chain.clock.as_ref().map(|clock| clock.offset).map_err(Clone::clone)));
    let now = chain.clock.as_ref().ok().map(|clock| clock.chain.unix_timestamp);
    findings.push(deployed(&chain.program));
    findings.extend(initialised(&chain.network, now));
    findings
}

/// `clock.offset`: the chain's clock less this machine's, milliseconds.
fn clock(offset: Reading<i64>) -> Finding {
    let id = "clock.offset";
    let offset = match offset {
        Ok(offset) => offset,
        Err(why) => {
            return Finding::skipped(id, format!("the chain's clock cannot be read: {why}"), "mend rpc.answers first");
        }
    };
    let seconds = offset.unsigned_abs() / 1_000;
    let which = if offset < 0 { "behind" } else { "ahead of" };
    let found = format!("the chain is {}.{} s {which} this machine", seconds, offset.unsigned_abs() % 1_000 / 100);
    let advice = "set this machine's clock by NTP: `timedatectl set-ntp true`, and look with `timedatectl timesync-status`; \
                  messages more than 30 s off are refused. If it is right, the node lags: see rpc.lag";
    match seconds {
        0..NEAR => Finding::ok(id, found),
        NEAR..APART => Finding::warning(id, found, advice),
        _ => Finding::failed(id, found, advice),
    }
}

/// `rpc.answers`: `any` says that another one does at least.
fn answers(took: &Reading<Duration>, any: bool) -> Finding {
    let id = "rpc.answers";
    let advice = "check that the node runs and that its URL is right; name others with --url <URL>,<URL>";
    match took {
        Ok(took) if *took < Duration::from_secs(1) => Finding::ok(id, format!("answers in {} ms", took.as_millis())),
        Ok(took) => {
            let advice = "a node this slow delays commits and reveals: use one that is nearer, first in --url";
            Finding::warning(id, format!("answers in {} ms", took.as_millis()), advice)
        }
        Err(why) if any => Finding::warning(id, why, advice),
        Err(why) => Finding::failed(id, why, advice),
    }
}

/// `rpc.advances`: whether the node sees new slots.
fn advances(slots: &Reading<(u64, u64)>) -> Finding {
    let id = "rpc.advances";
    let advice = "the node is cut off from its cluster or still catches up: use another with --url";
    match slots {
        Ok((first, later)) if later > first => {
            Finding::ok(id, format!("slot {later}, {} in {} ms", later - first, BETWEEN.as_millis()))
        }
        Ok((_, later)) => Finding::warning(id, format!("stands at slot {later} for {} ms", BETWEEN.as_millis()), advice),
        Err(why) => Finding::failed(id, format!("its clock cannot be read: {why}"), advice),
    }
}

/// `rpc.lag`: slots behind the best of several nodes.
fn lag(slots: &Reading<(u64, u64)>, best: Option<u64>) -> Finding {
    let id = "rpc.lag";
    let (Ok((_, slot)), Some(best)) = (slots, best) else {
        return Finding::skipped(
            id,
            "there is one node only to go by",
            "name a second with --url <URL>,<URL> to compare them",
        );
    };
    let behind = best.saturating_sub(*slot);
    let found = format!("{behind} slots behind the best");
    let advice = "put it last in --url, or use another: a node that lags shows old seats and its blockhashes expire early";
    match behind {
        ..LAG => Finding::ok(id, found),
        LAG..FAR => Finding::warning(id, found, advice),
        _ => Finding::failed(id, found, advice),
    }
}

/// `rpc.version`: the generation this release is built for.
fn speaks(version: &Reading<String>) -> Finding {
    let id = "rpc.version";
    let advice = "this release is made for nodes of generation 2 and later: update the node, or use another with --url";
    match version {
        Ok(version) => match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(2..) => Finding::ok(id, format!("solana-core {version}")),
            _ => Finding::warning(id, format!("solana-core {version}"), advice),
        },
        Err(why) => Finding::warning(id, format!("does not tell its version: {why}"), advice),
    }
}

/// `rpc.genesis`: whether the node is of the network's cluster.
fn cluster(genesis: &Reading<[u8; 32]>, expected: Option<&[u8; 32]>) -> Finding {
    let id = "rpc.genesis";
    match (genesis, expected) {
        (Ok(genesis), Some(expected)) if genesis == expected => Finding::ok(id, "the network's own cluster"),
        (Ok(genesis), Some(_)) => Finding::failed(
            id,
            format!("genesis hash {}, not the one that the network was initialised with", solana_hash(genesis)),
            "every signed message would be refused: name a node of the right cluster with --url",
        ),
        (Ok(_), None) => Finding::skipped(id, "there is no network to compare it with", "see program.initialised"),
        (Err(why), _) => Finding::failed(id, why.clone(), "use another node with --url"),
    }
}

fn solana_hash(bytes: &[u8; 32]) -> String {
    datagalax_client::Address::new_from_array(*bytes).to_string()
}

/// `rpc.websocket`: whether its port takes connections.
fn websocket(reached: &Reading<()>) -> Finding {
    let id = "rpc.websocket";
    match reached {
        Ok(()) => Finding::ok(id, "takes connections"),
        Err(why) => Finding::warning(
            id,
            why.clone(),
            "confirmations and changes are polled without it, which is slower: name the right one with --ws, or open its port",
        ),
    }
}

/// `program.deployed`.
fn deployed(program: &Reading<Option<bool>>) -> Finding {
    let id = "program.deployed";
    let advice = "name a node of the cluster that Datagalax runs on with --url";
    match program {
        Ok(Some(true)) => Finding::ok(id, PROGRAM.to_string()),
        Ok(Some(false)) => Finding::failed(id, format!("{PROGRAM} is an account, but no program"), advice),
        Ok(None) => Finding::failed(id, format!("there is no program at {PROGRAM}"), advice),
        Err(why) => Finding::failed(id, why, "see the node's own checks above"),
    }
}

/// `program.initialised`, `network.running` and `network.advances`.
fn initialised(network: &Reading<Box<Network>>, now: Option<i64>) -> Vec<Finding> {
    let id = "program.initialised";
    let network = match network {
        Ok(network) => network,
        Err(why) => {
            let advice = "initialise one with `datagalax network init`, or name a node of the right cluster with --url";
            return vec![Finding::failed(id, why, advice)];
        }
    };
    let mut findings = vec![Finding::ok(id, format!("{} blocks, {} checkers", network.blocks, network.checkers))];
    if let Some(now) = now {
        findings.push(running(network, now));
        findings.push(advanced(network, now));
    }
    findings
}

fn running(network: &Network, now: i64) -> Finding {
    let id = "network.running";
    if !network.is_paused(now) {
        return Finding::ok(id, "not paused");
    }
    let found = format!("paused until {}", utc(network.paused_until));
    Finding::warning(id, found, "measuring, settling and matured withdrawals go on; wait with the rest, or ask its guardian")
}

fn advanced(network: &Network, now: i64) -> Finding {
    let id = "network.advances";
    let Ok(epoch) = network.epoch_at(now) else {
        let found = format!("the first epoch begins at {}", utc(network.grids[0].start));
        return Finding::warning(id, found, "nothing can be registered before: wait until then");
    };
    let keeper = "no keeper drives the network: run one with `datagalax-keeper`, or ask those who do";
    match some(network.current_epoch) {
        Some(current) if current >= epoch => Finding::ok(id, format!("at epoch {current}, as the clock is")),
        Some(current) => {
            let length = u64::from(network.grid_of(epoch).length);
            let behind = u64::from(epoch - current);
            let found = format!("at epoch {current}, the clock is in {epoch} ({} ago)", span(behind.saturating_mul(length)));
            // Somebody has to be the first to notice.
            if behind == 1 { Finding::warning(id, found, keeper) } else { Finding::failed(id, found, keeper) }
        }
        None => Finding::failed(id, format!("never advanced, the clock is in epoch {epoch}"), keeper),
    }
}

#[cfg(test)]
mod tests {
    use datagalax::{constants::NONE, state::Grid};

    use super::*;
    use crate::finding::State::{self, Failed, Ok as Fine, Skipped, Warning};

    fn states(findings: &[Finding]) -> Vec<(&'static str, State)> {
        findings.iter().map(|finding| (finding.id, finding.state)).collect()
    }

    fn no<T>() -> Reading<T> {
        Err("nobody there".to_owned())
    }

    #[test]
    fn clocks_may_differ_by_less_than_messages_allow() {
        let of = |millis| clock(Ok(millis)).state;
        assert_eq!([0, 9_999, -9_999].map(of), [Fine; 3]);
        assert_eq!([10_000, -24_999].map(of), [Warning; 2]);
        assert_eq!([25_000, -86_400_000, i64::MIN].map(of), [Failed; 3]);
        assert_eq!(clock(no()).state, Skipped);
        assert!(clock(Ok(-1_250)).found.contains("1.2 s behind"), "{}", clock(Ok(-1_250)).found);
    }

    #[test]
    fn one_node_down_is_a_fault_only_without_another() {
        assert_eq!(answers(&no(), true).state, Warning);
        assert_eq!(answers(&no(), false).state, Failed);
        assert_eq!(answers(&Ok(Duration::from_millis(20)), false).state, Fine);
        assert_eq!(answers(&Ok(Duration::from_secs(2)), false).state, Warning);
    }

    #[test]
    fn nodes_are_compared_with_the_best() {
        let of = |slot, best| lag(&Ok((0, slot)), best).state;
        assert_eq!(of(100, None), Skipped);
        assert_eq!([100, 80, 79, 0].map(|slot| of(slot, Some(100))), [Fine, Fine, Warning, Warning]);
        assert_eq!(of(100, Some(201)), Failed);
        assert_eq!([(1, 2), (2, 2), (2, 1)].map(|slots| advances(&Ok(slots)).state), [Fine, Warning, Warning]);
        assert_eq!(advances(&no()).state, Failed);
    }

    #[test]
    fn versions_clusters_and_sockets() {
        let of = |version: &str| speaks(&Ok(version.to_owned())).state;
        assert_eq!(["2.0.1", "3.1.14", "1.18.26", "x"].map(of), [Fine, Fine, Warning, Warning]);
        assert_eq!(speaks(&no()).state, Warning);
        let (mine, other) = ([1; 32], [2; 32]);
        assert_eq!(cluster(&Ok(mine), Some(&mine)).state, Fine);
        assert_eq!(cluster(&Ok(other), Some(&mine)).state, Failed);
        assert_eq!((cluster(&Ok(mine), None).state, cluster(&no(), Some(&mine)).state), (Skipped, Failed));
        assert_eq!((websocket(&Ok(())).state, websocket(&no()).state), (Fine, Warning));
    }

    fn network(current_epoch: u32) -> Box<Network> {
        let mut network = bytemuck::allocation::zeroed_box::<Network>();
        network.current_epoch = current_epoch;
        network.grids = [Grid { start: 1_000, first_epoch: 0, length: 100, reveal_window: 10, commit_lead: 10 }; 2];
        network
    }

    #[test]
    fn the_program_must_be_there_initialised_and_driven() {
        let of = |found: Reading<Option<bool>>| deployed(&found).state;
        assert_eq!([Ok(Some(true)), Ok(Some(false)), Ok(None), no()].map(of), [Fine, Failed, Failed, Failed]);
        assert_eq!(states(&initialised(&no(), Some(1))), [("program.initialised", Failed)]);
        let of = |current, now| states(&initialised(&Ok(network(current)), Some(now)))[2];
        assert_eq!(of(3, 1_350), ("network.advances", Fine));
        assert_eq!(of(2, 1_350).1, Warning);
        assert_eq!(of(1, 1_350).1, Failed);
        assert_eq!(of(NONE, 1_350).1, Failed);
        assert_eq!(of(NONE, 999).1, Warning);
        let mut paused = network(3);
        paused.paused_until = 2_000;
        assert_eq!(states(&initialised(&Ok(paused), Some(1_350)))[1], ("network.running", Warning));
    }

    #[test]
    fn a_node_that_is_down_is_one_finding_and_not_six() {
        let down = |url: &str| Endpoint {
            url: url.to_owned(),
            took: no(),
            genesis: no(),
            slots: no(),
            version: no(),
            websocket: ("ws://x".to_owned(), no()),
        };
        let up = Endpoint {
            took: Ok(Duration::ZERO),
            genesis: Ok([0; 32]),
            slots: Ok((7, 8)),
            version: Ok("3.1.0".to_owned()),
            websocket: ("ws://b".to_owned(), Ok(())),
            ..down("b")
        };
        let clock = Clock { chain: Instant { slot: 8, unix_timestamp: 1_350 }, offset: 0 };
        let chain = Chain { clock: Ok(clock), network: Ok(network(3)), program: Ok(Some(true)) };
        let found = check(&[down("a"), up], &chain);
        let of_a: Vec<_> = found.iter().filter(|finding| finding.of.as_deref() == Some("a")).collect();
        assert_eq!(of_a.len(), 1);
        assert!(found.iter().all(|finding| (finding.state == Fine) == finding.advice.is_none()), "{found:?}");
        let bad: Vec<_> = found.iter().filter(|finding| finding.state != Fine).map(|finding| finding.id).collect();
        assert_eq!(bad, ["rpc.answers"]);
        let none = check(&[down("a")], &Chain { clock: no(), network: no(), program: no() });
        let mut expected = vec![("rpc.answers", Failed)];
        expected.extend(["clock.offset", "program.deployed", "program.initialised"].map(|id| (id, Skipped)));
        assert_eq!(states(&none), expected);
    }
}
