//! Machines that this one is not, played from recordings.

use datagalax_gpu::{
    Hardware, Probe, ProbeError, RecordedProbe,
    plausibility::{self, Claim, Finding},
    probe::{RecordedGpu, Recording},
};
use datagalax_protocol::{
    GpuMetrics, Inspection, InspectionAnswer, LivenessAnswer, Payload,
    inspection::{MAX_INTERFACES, MAX_PROCESSES, Virtualisation},
};
use proptest::prelude::*;

const NOW: i64 = 1_719_840_000;
const GIB: u64 = 1 << 30;

fn recording(name: &str) -> Recording {
    let path = format!("{}/tests/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn probe(name: &str) -> RecordedProbe {
    RecordedProbe::new(recording(name), "0.1.0").unwrap()
}

fn claim(probe: &RecordedProbe, gpus: u16, minimum_memory: u64) -> Claim {
    Claim { fingerprint: probe.fingerprint(), gpus, minimum_memory }
}

#[test]
fn sound_machines_are_measured_and_nothing_is_found() {
    for (name, class, gpus, memory) in [
        ("cpu", "cpu", 0, 0),
        ("consumer", "NVIDIA GeForce RTX 4090", 1, 23 * GIB),
        ("hgx-h100", "NVIDIA H100 80GB HBM3", 8, 79 * GIB),
        ("virtual-a100", "NVIDIA A100-SXM4-80GB", 2, 79 * GIB),
    ] {
        let probe = probe(name);
        assert_eq!(probe.hardware_class(), class);
        let metrics = probe.measure(NOW).unwrap();
        assert_eq!((metrics.gpus.len(), metrics.measured_at), (usize::from(gpus), NOW), "{name}");
        assert!(metrics.gpus.is_sorted_by(|a, b| a.uuid < b.uuid));
        LivenessAnswer { request: [0; 32], metrics }.check().unwrap();
        let inspection = probe.inspect(NOW).unwrap();
        assert!(inspection.details.iter().all(|details| details.compute_capability.is_some()));
        assert_eq!(plausibility::findings(&claim(&probe, gpus, memory), &inspection, NOW + 3), [], "{name}");
        InspectionAnswer { request: [0; 32], inspection }.check().unwrap();
    }
    let rented = probe("virtual-a100").inspect(NOW).unwrap();
    assert_eq!(rented.details[0].virtualisation, Some(Virtualisation::PassThrough));
    assert_eq!(rented.details[0].processes.len(), 1);
}

#[test]
fn a_machine_with_a_lost_card_is_not_ready_but_says_what_is_wrong() {
    let probe = probe("faulty");
    let refused = probe.measure(NOW).unwrap_err();
    assert!(matches!(&refused, ProbeError::CardLost(uuid) if uuid.starts_with("GPU-b02d61f8")), "{refused}");
    let (broken, lost) = ("GPU-4be9a7c2-06f1-4d35-8c97-fe210b84d6a9", "GPU-b02d61f8-e473-4a9c-b5d1-73c8f6e0a924");
    let found = plausibility::findings(&claim(&probe, 2, 44 * GIB), &probe.inspect(NOW).unwrap(), NOW);
    let expected = [
        Finding::Xid { uuid: broken.into(), codes: vec![94, 48] },
        Finding::Uncorrected { uuid: broken.into(), errors: 3 },
        Finding::Xid { uuid: lost.into(), codes: vec![79] },
        Finding::Lost(lost.into()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_fingerprint_survives_what_it_should_and_nothing_else() {
    let original = recording("hgx-h100");
    let of = |recording: &Recording| recording.hardware().unwrap().fingerprint();
    let changed = |change: &dyn Fn(&mut Recording)| {
        let mut changed = original.clone();
        change(&mut changed);
        of(&changed)
    };
    // A reboot, a new driver, a new kernel, other slots, other memory, another system: the same machine.
    let same = changed(&|r| {
        r.host.uptime = 1;
        r.host.kernel = "6.8.0".into();
        r.host.os = "Another".into();
        r.host.memory_total /= 2;
        r.machine_id = Some("0123456789abcdef0123456789abcdef".into());
        r.gpus.reverse();
        for gpu in &mut r.gpus {
            gpu.metrics.driver = "570.1".into();
            gpu.details.pcie_address = None;
        }
    });
    assert_eq!(same, of(&original));
    // A card exchanged, added or taken out: another.
    assert_ne!(changed(&|r| r.gpus[3].metrics.uuid.replace_range(4..5, "f")), of(&original));
    assert_ne!(changed(&|r| drop(r.gpus.pop())), of(&original));
    let another = RecordedGpu { metrics: GpuMetrics { uuid: "GPU-new".into(), ..Default::default() }, ..Default::default() };
    assert_ne!(changed(&|r| r.gpus.push(another.clone())), of(&original));
    assert_eq!(
        probe("hgx-h100").fingerprint(),
        Hardware::of_cards(&probe("hgx-h100").measure(0).unwrap().gpus).fingerprint()
    );
}

#[test]
fn recordings_of_impossible_machines_are_refused() {
    let bad = |change: fn(&mut Recording)| {
        let mut bad = recording("consumer");
        change(&mut bad);
        RecordedProbe::new(bad, "0.1.0").unwrap_err()
    };
    let refused = bad(|r| r.gpus.clear());
    assert!(matches!(refused, ProbeError::Fingerprint(_)), "{refused}");
    let refused = bad(|r| r.gpus = vec![r.gpus[0].clone(); 65]);
    assert!(matches!(refused, ProbeError::TooManyGpus(65)), "{refused}");
    for change in [
        (|r| r.host.cpu_usage = 10_001) as fn(&mut Recording),
        |r| r.gpus[0].metrics.model = "x".repeat(129),
        |r| r.gpus[0].details.pcie_address = Some("x".repeat(129)),
        |r| r.gpus[0].details.processes = vec![r.gpus[0].details.processes[0]; MAX_PROCESSES + 1],
        |r| r.interfaces = vec![r.interfaces[0].clone(); MAX_INTERFACES + 1],
    ] {
        let refused = bad(change);
        assert!(matches!(refused, ProbeError::Recording(_)), "{refused}");
    }
}

#[test]
fn what_cannot_be_true_is_found() {
    let probe = probe("consumer");
    let registered = claim(&probe, 1, 23 * GIB);
    let found = |change: &dyn Fn(&mut Inspection)| {
        let mut inspection = probe.inspect(NOW).unwrap();
        change(&mut inspection);
        plausibility::findings(&registered, &inspection, NOW)
    };
    let uuid = || "GPU-5d6f8c1a-93b2-4c0f-a1d7-2b7e4d9c6f30".to_owned();
    let impossible = |reading| vec![Finding::Impossible { uuid: uuid(), reading }];
    assert_eq!(found(&|i| i.metrics.gpus[0].temperature = Some(200)), impossible("temperature"));
    assert_eq!(found(&|i| i.metrics.gpus[0].utilisation = Some(101)), impossible("utilisation"));
    assert_eq!(found(&|i| i.metrics.gpus[0].clock = Some(9_999)), impossible("clock"));
    assert_eq!(found(&|i| i.details[0].memory_clock = Some(20_000)), impossible("memory clock"));
    assert_eq!(found(&|i| i.metrics.gpus[0].pcie_generation = Some(6)), impossible("PCIe generation"));
    assert_eq!(found(&|i| i.metrics.gpus[0].pcie_width = Some(7)), impossible("PCIe width"));
    assert_eq!(found(&|i| i.metrics.gpus[0].memory_used = u64::MAX), [Finding::MemoryInUse(uuid())]);
    assert_eq!(found(&|i| i.metrics.measured_at -= 31), [Finding::Clock(31)]);
    assert_eq!(found(&|i| i.metrics.measured_at = i64::MIN), [Finding::Clock(i64::MAX)]);
    assert_eq!(found(&|i| i.details[0].virtualisation = Some(Virtualisation::Vgpu)), [Finding::Shared(uuid())]);
    let less = 12 * GIB;
    assert_eq!(found(&|i| i.metrics.gpus[0].memory_total = less), [Finding::Memory { uuid: uuid(), reported: less }]);
}

proptest! {
    #[test]
    fn any_recording_is_a_probe_or_a_named_error(
        uuids in proptest::collection::vec("[ -~]{0,140}", 0..70), memory: u64, used: u64, machine_id: Option<String>, now: i64,
    ) {
        let gpu = |uuid| RecordedGpu {
            metrics: GpuMetrics { uuid, memory_total: memory, memory_used: used, ..Default::default() },
            ..Default::default()
        };
        let recording = Recording { gpus: uuids.into_iter().map(gpu).collect(), machine_id, ..Default::default() };
        let text = serde_json::to_string(&recording).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Recording>(&text).unwrap(), &recording);
        if let Ok(probe) = RecordedProbe::new(recording, &"v".repeat(200)) {
            let inspection = probe.inspect(now).unwrap();
            plausibility::findings(&claim(&probe, 3, GIB), &inspection, now);
        }
    }
}
