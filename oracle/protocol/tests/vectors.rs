//! The committed test vectors: whoever writes an agent or a checker in another language starts from these.
//!
//! A change of any of them is a change of the protocol and needs another version.

use datagalax_protocol::{
    BeaconAnswer, BeaconRequest, Context, DeviceOpening, Envelope, GpuDetails, GpuMetrics, HostMetrics, Inspection,
    InspectionAnswer, InspectionRequest, LivenessAnswer, LivenessRequest, Metrics, OpenedRow, Payload, ReachableAnswer,
    ReachableRequest, RelayHello, SampleAnswer, SampleRequest, WorkSize, Workload,
    beacon::{OpenedWalk, RowAt, SampledRow, WalkAt},
    evidence::{BeaconEvidence, Exchange, Opening, Outcome, RowEvidence},
    inspection::{GpuProcess, Interface, Virtualisation, Xid},
    lease::{self, Port, SessionAnswer, SessionRequest, WorkloadAnswer, WorkloadRequest},
    merkle::Tree,
};
use serde_json::{Value, json};
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;

fn metrics() -> Metrics {
    Metrics {
        agent_version: "0.1.0".into(),
        fingerprint: [0xf1; 32],
        measured_at: 1_700_000_000,
        host: HostMetrics {
            cpu_model: "Example 9000".into(),
            cpu_cores: 8,
            cpu_threads: 16,
            cpu_usage: 1234,
            memory_total: 1 << 36,
            memory_used: 1 << 34,
            disk_total: 1 << 40,
            disk_free: 1 << 39,
            load: [100, 50, 25],
            uptime: 86_400,
            os: "Debian GNU/Linux 12".into(),
            kernel: "6.1.0".into(),
        },
        gpus: vec![GpuMetrics {
            uuid: "GPU-00000000-0000-0000-0000-000000000000".into(),
            model: "Example H1".into(),
            driver: "570.1".into(),
            memory_total: 80 << 30,
            memory_used: 1 << 30,
            utilisation: Some(5),
            temperature: Some(40),
            power: Some(70_000),
            clock: None,
            pcie_generation: Some(5),
            pcie_width: Some(16),
            ecc_corrected: Some(0),
            ecc_uncorrected: None,
            mig: Some(false),
        }],
    }
}

fn signed<P: Payload>(payload: &P) -> Envelope {
    let context =
        Context { genesis_hash: [1; 32], program: Pubkey::from([2; 32]), subject: Pubkey::from([3; 32]), epoch: 4 };
    let key = Keypair::new_from_array([7; 32]);
    Envelope::sign(&context, payload, [5; 16], 1_700_000_000, &key).unwrap()
}

fn vector<P: Payload>(name: &str, payload: &P) -> Value {
    let envelope = signed(payload);
    json!({ "name": name, "encoded": hex::encode(envelope.encode()), "digest": hex::encode(envelope.digest()) })
}

fn inspection() -> Inspection {
    let details = GpuDetails {
        compute_capability: Some((9, 0)),
        clock_max: Some(1_980),
        pcie_address: Some("00000000:1B:00.0".into()),
        ecc: Some(true),
        virtualisation: Some(Virtualisation::PassThrough),
        xids: vec![Xid { code: 79, seen_at: 1_700_000_001 }],
        lost: true,
        processes: vec![GpuProcess { pid: 7, memory: Some(1 << 20), compute: true }],
        ..GpuDetails::default()
    };
    let interface = Interface { name: "eth0".into(), received: 1, sent: 2, errors: 3 };
    Inspection { metrics: metrics(), details: vec![details], interfaces: vec![interface] }
}

fn sampled(opened: &OpenedRow) -> DeviceOpening {
    DeviceOpening {
        device: 1,
        pass_roots: vec![[0xa1; 32], [0xa2; 32]],
        walk_root: [0xb1; 32],
        proof: vec![[0xc1; 32]],
        rows: vec![SampledRow { pass: 1, row: opened.clone() }],
        walks: vec![OpenedWalk { walker: 9, state: 0x0123_4567_89ab_cdef, proof: vec![[0xc2; 32]] }],
    }
}

/// One row's evidence with every part, and its way to the root of two rows.
fn evidence() -> Value {
    let exchange =
        |request: Envelope, outcome| Exchange { asked_at_ms: 1_700_000_000_123, took_us: 4_567, request, outcome };
    let answered = |answer: Envelope| Outcome::Answered(Box::new(answer));
    let liveness = LivenessAnswer { request: [0xab; 32], metrics: metrics() };
    let inspected = InspectionAnswer { request: [0xab; 32], inspection: inspection() };
    let row = RowEvidence {
        row: 3,
        container: [3; 32],
        liveness: vec![exchange(signed(&LivenessRequest), answered(signed(&liveness)))],
        inspection: Some(exchange(signed(&InspectionRequest), answered(signed(&inspected)))),
        beacons: vec![BeaconEvidence {
            slot: 1_000,
            slot_hash: [0x51; 32],
            elapsed_us: Some(8_765_432),
            exchanges: vec![exchange(signed(&LivenessRequest), Outcome::failed("no answer within 5.0s"))],
        }],
        findings: vec!["a finding".into()],
    };
    let empty = RowEvidence {
        row: 9,
        container: [9; 32],
        liveness: Vec::new(),
        inspection: None,
        beacons: Vec::new(),
        findings: Vec::new(),
    };
    let encoded = [row.encode(), empty.encode()];
    let tree = Tree::new(&encoded);
    let opening = Opening::new(&tree, 2, 0, encoded[0].clone()).unwrap();
    json!({
        "rows": encoded.map(hex::encode),
        "root": hex::encode(tree.root()),
        "opening of the first": hex::encode(opening.encode()),
    })
}

fn leased() -> lease::Workload {
    lease::Workload {
        salt: [0x5a; 32],
        image: Some(format!("registry.example/trainer:1@sha256:{}", "ab".repeat(32))),
        command: vec!["train".into(), "--epochs=3".into()],
        environment: [("API_KEY".into(), "secret".into())].into(),
        ports: vec![Port { name: "HTTP".into(), number: 8_080 }],
        volumes: vec!["/data".into()],
        memory: 1 << 34,
        disk: 0,
    }
}

fn vectors() -> Value {
    let tree = Tree::new([b"a", b"b", b"c"]);
    let proof: Vec<_> = tree.proof(2).unwrap().iter().map(hex::encode).collect();
    let size = WorkSize { rows: 256, inner: 512, columns: 128 };
    let opened = OpenedRow { index: 1, digest: [0xd1; 32], proof: vec![[0xe1; 32], [0xe2; 32]] };
    let workload = Workload { size, passes: 2, walkers: 16, steps: 32, devices: 2 };
    let beacon =
        BeaconAnswer { request: [0xab; 32], slot: 1_000, slot_hash: [0x51; 32], workload, root: [9; 32], elapsed_us: 1_234 };
    let rows = vec![RowAt { device: 1, pass: 1, row: 1 }];
    let sample = SampleRequest { root: [9; 32], rows, walks: vec![WalkAt { device: 1, walker: 9 }] };
    let reachable = ReachableAnswer {
        request: [0xab; 32],
        endpoint: "host.example:7070".into(),
        took_us: 1_234,
        trouble: "connection refused".into(),
    };
    json!({
        "signer": "ed25519 key from the 32-byte seed 07..07",
        "messages": [
            vector("LivenessRequest", &LivenessRequest),
            vector("LivenessAnswer", &LivenessAnswer { request: [0xab; 32], metrics: metrics() }),
            vector("BeaconRequest", &BeaconRequest { slot: 1_000, workload, deadline_ms: 13_000 }),
            vector("BeaconAnswer", &beacon),
            vector("SampleRequest", &sample),
            vector("SampleAnswer", &SampleAnswer { request: [0xab; 32], devices: vec![sampled(&opened)] }),
            vector("InspectionRequest", &InspectionRequest),
            vector("InspectionAnswer", &InspectionAnswer { request: [0xab; 32], inspection: inspection() }),
            vector("ReachableRequest", &ReachableRequest),
            vector("ReachableAnswer", &reachable),
            vector("RelayHello", &RelayHello { relay: "relay.example".into() }),
            vector("WorkloadRequest", &WorkloadRequest { lease: [0x1e; 32], workload: leased() }),
            vector("WorkloadAnswer", &WorkloadAnswer { request: [0xab; 32] }),
            vector("SessionRequest", &SessionRequest { lease: [0x1e; 32], seconds: 600 }),
            vector("SessionAnswer", &SessionAnswer { request: [0xab; 32], token: [0x70; 32], expires: 1_700_000_600 }),
        ],
        "evidence": evidence(),
        "lease workload's hash": hex::encode(leased().hash()),
        "merkle": {
            "leaves": ["61", "62", "63"],
            "root": hex::encode(tree.root()),
            "proof of leaf 2": proof,
            "empty": hex::encode(Tree::new::<&[u8]>([]).root()),
        },
    })
}

#[test]
fn the_encoding_is_the_committed_one() {
    let committed: Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    let now = vectors();
    assert_eq!(committed, now, "the encoding changed; if that is meant, raise the version and commit:\n{now:#}");
}
