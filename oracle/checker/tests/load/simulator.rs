//! Thousands of agents in one process: one port, of which each agent has an address of its own in 127.0.0.0/8, and a key of
//! its own, with which it signs a true answer to every question. What can be made before is made before, so that the checker
//! is what is measured.

use std::{
    io::Read as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use datagalax_checker::chain::{Cluster, Target};
use datagalax_gpu::{
    ask::Ask,
    backend::{Backend, Cpu},
    beacon,
    capacity::{self, Limits, Proof, Schedule},
    location::Position,
};
use datagalax_protocol::{
    BeaconAnswer, Context, Digest, Envelope, GpuDetails, GpuMetrics, HostMetrics, Inspection, InspectionAnswer,
    LivenessAnswer, Metrics, Payload, SampleAnswer, SampleRequest, WorkSize, Workload, path,
};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub const CLUSTER: Cluster = Cluster { genesis_hash: [7; 32], program: Pubkey::new_from_array([8; 32]) };
pub const EPOCH: u32 = 5;
/// The beacon's slot and hash.
pub const SLOT: (u64, Digest) = (4_321, [9; 32]);
/// Rows of a block.
const ROWS: usize = 256;
/// Longest request that is read.
const LONGEST: usize = 16 << 10;

/// The key of an agent; both processes derive the same.
fn key(index: usize) -> Keypair {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&(index as u64).to_le_bytes());
    Keypair::new_from_array(seed)
}

fn container(index: usize) -> Pubkey {
    let mut bytes = [2; 32];
    bytes[..8].copy_from_slice(&(index as u64).to_le_bytes());
    Pubkey::new_from_array(bytes)
}

/// 127.1.0.1 and on: as many connections to each as there are ports.
fn address(index: usize) -> Ipv4Addr {
    let [a, b] = ((index + 1) as u16).to_be_bytes();
    Ipv4Addr::new(127, 1 + (index >> 16) as u8, a, b)
}

fn index_of(address: IpAddr) -> Option<usize> {
    let IpAddr::V4(v4) = address else { return None };
    let [_, high, a, b] = v4.octets();
    (usize::from(high.checked_sub(1)?) << 16 | usize::from(u16::from_be_bytes([a, b]))).checked_sub(1)
}

/// A small piece of work, so that making thousands of proofs takes seconds: what a real one costs to verify is in
/// docs/proof-of-capacity.md.
fn ask() -> Ask {
    let size = WorkSize { rows: 64, inner: 64, columns: 64 };
    let workload = Workload { size, passes: 1, walkers: 4, steps: 4, devices: 1 };
    let most = Duration::from_secs(30);
    Ask { workload, schedule: Schedule { expected: most, allowance: most, deadline: most }, reference: 1 }
}

/// The containers as the chain shows them, in blocks.
pub fn blocks(containers: usize, port: u16) -> Vec<Vec<Target>> {
    let target = |index: usize| Target {
        row: (index % ROWS) as u8,
        container: container(index),
        operator: key(index).pubkey(),
        endpoint: format!("http://{}:{port}", address(index)),
        fingerprint: [3; 32],
        gpus: 8,
        minimum_memory: 80 << 30,
        ask: Some(ask()),
        claimed: None::<Position>,
    };
    let all: Vec<Target> = (0..containers).map(target).collect();
    all.chunks(ROWS).map(<[Target]>::to_vec).collect()
}

struct Agents {
    keys: Vec<Keypair>,
    proofs: Vec<Proof>,
    metrics: Metrics,
}

/// Serves until the standard input ends. Prints its port when it is ready.
pub fn run(containers: usize, proved: usize) -> anyhow::Result<()> {
    let keys = (0..containers).map(key).collect();
    let proofs = (0..proved).map(prove).collect();
    let agents = Arc::new(Agents { keys, proofs, metrics: metrics() });
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpSocket::new_v4()?;
        listener.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        let listener = listener.listen(16_384)?;
        println!("{}", listener.local_addr()?.port());
        let served = tokio::spawn(serve(listener, agents));
        // The parent holds the other end: when it is gone, whatever the reason, so is this.
        tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        served.abort();
        anyhow::Ok(())
    })
}

fn prove(index: usize) -> Proof {
    let challenge = beacon::challenge(&SLOT.1, &container(index).to_bytes());
    let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(Cpu::new(NonZeroUsize::MIN))];
    capacity::prove(&challenge, &ask().workload, &mut backends, &Limits::CPU, NonZeroUsize::MIN, &AtomicBool::new(false))
        .expect("a small proof")
}

/// What a host with eight cards says of itself.
fn metrics() -> Metrics {
    let gpu = |at: usize| GpuMetrics {
        uuid: format!("GPU-5b1f7a3e-91c2-4d6b-8f0a-0123456789{at:02}"),
        model: "NVIDIA H100 80GB HBM3".into(),
        driver: "570.86.15".into(),
        memory_total: 80 << 30,
        memory_used: 1 << 30,
        utilisation: Some(37),
        temperature: Some(51),
        power: Some(312_000),
        clock: Some(1_980),
        pcie_generation: Some(5),
        pcie_width: Some(16),
        ecc_corrected: Some(0),
        ecc_uncorrected: Some(0),
        mig: Some(false),
    };
    Metrics {
        agent_version: "0.1.0".into(),
        fingerprint: [3; 32],
        host: HostMetrics {
            cpu_model: "AMD EPYC 9654 96-Core Processor".into(),
            memory_total: 2 << 40,
            ..Default::default()
        },
        gpus: (0..8).map(gpu).collect(),
        ..Metrics::default()
    }
}

async fn serve(listener: TcpListener, agents: Arc<Agents>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files: those that are open will end.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let agents = agents.clone();
        tokio::spawn(async move {
            // A connection that breaks is the checker's to notice.
            answer(stream, &agents).await.ok();
        });
    }
}

async fn answer(mut stream: TcpStream, agents: &Agents) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let index = index_of(stream.local_addr()?.ip()).context("no agent's address")?;
    let mut bytes = Vec::with_capacity(1_024);
    let (head, length) = loop {
        anyhow::ensure!(bytes.len() < LONGEST && stream.read_buf(&mut bytes).await? > 0, "no request");
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&bytes[..end])?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let length = length.context("no length")?;
        if bytes.len() >= end + 4 + length {
            break (end, length);
        }
    };
    let at = std::str::from_utf8(&bytes[..head])?.split(' ').nth(1).context("no path")?.to_owned();
    let request = Envelope::decode(&bytes[head + 4..head + 4 + length])?;
    let body = agents.say(index, &at, &request)?;
    let mut message = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len()).into_bytes();
    message.extend_from_slice(&body);
    stream.write_all(&message).await?;
    Ok(stream.shutdown().await?)
}

impl Agents {
    fn say(&self, index: usize, at: &str, request: &Envelope) -> anyhow::Result<Vec<u8>> {
        use anyhow::Context as _;
        let of = request.digest();
        match at {
            path::LIVENESS => {
                let metrics = Metrics { measured_at: now(), ..self.metrics.clone() };
                self.sign(index, request, &LivenessAnswer { request: of, metrics })
            }
            path::INSPECTION => {
                let metrics = Metrics { measured_at: now(), ..self.metrics.clone() };
                let details = metrics.gpus.iter().map(|_| GpuDetails::default()).collect();
                let inspection = Inspection { metrics, details, interfaces: Vec::new() };
                self.sign(index, request, &InspectionAnswer { request: of, inspection })
            }
            path::BEACON => {
                let root = self.proofs.get(index).context("no proof")?.root();
                let (slot, slot_hash) = SLOT;
                let answer = BeaconAnswer { request: of, slot, slot_hash, workload: ask().workload, root, elapsed_us: 1 };
                self.sign(index, request, &answer)
            }
            path::SAMPLE => {
                let asked: SampleRequest = borsh::from_slice(&request.payload)?;
                let devices = self.proofs.get(index).and_then(|proof| proof.open(&asked)).context("nothing to open")?;
                self.sign(index, request, &SampleAnswer { request: of, devices })
            }
            _ => anyhow::bail!("no such path"),
        }
    }

    fn sign<A: Payload>(&self, index: usize, request: &Envelope, answer: &A) -> anyhow::Result<Vec<u8>> {
        let context = Context {
            genesis_hash: CLUSTER.genesis_hash,
            program: CLUSTER.program,
            subject: container(index),
            epoch: EPOCH,
        };
        Ok(Envelope::sign(&context, answer, request.nonce, now(), &self.keys[index])?.encode())
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64
}
