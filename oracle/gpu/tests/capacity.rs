//! The challenge of a beacon as a property: all backends agree, what is honest passes, whatever else is refused by name.

use std::{num::NonZeroUsize, sync::atomic::AtomicBool};

use datagalax_gpu::{
    Isa,
    backend::{Backend, BackendError, Cpu, Reference},
    capacity::{self, Demand, Limits, PlanError, Proof, ProveError, SampleError, Spread},
};
use datagalax_protocol::{
    Context, DeviceOpening, Digest, Envelope, Payload, SampleAnswer, SampleRequest, WorkSize, Workload,
    beacon::{MAX_DEVICES, MAX_PASSES, OpenedWalk, RowAt, SampledRow, WalkAt},
    envelope::MAX_MESSAGE,
    merkle::{ProofError, Tree},
};
use proptest::prelude::*;
use solana_keypair::Keypair;

type Devices = Vec<Box<dyn Backend>>;

fn processors(workload: &Workload, isa: Isa, threads: usize) -> Devices {
    let threads = NonZeroUsize::new(threads).unwrap();
    (0..workload.devices).map(|_| Box::new(Cpu::with_isa(isa, threads)) as Box<dyn Backend>).collect()
}

fn references(workload: &Workload) -> Devices {
    (0..workload.devices).map(|_| Box::<Reference>::default() as Box<dyn Backend>).collect()
}

fn prove(challenge: &Digest, workload: &Workload, devices: &mut Devices) -> Proof {
    let threads = NonZeroUsize::new(2).unwrap();
    capacity::prove(challenge, workload, devices, &Limits::CPU, threads, &AtomicBool::new(false)).unwrap()
}

fn workloads() -> impl Strategy<Value = Workload> {
    ((1u32..40, 1u32..100, 1u32..40), 1u16..4, (1u32..20, 1u32..40), any::<bool>(), 1u16..4).prop_map(
        |((rows, inner, columns), passes, (walkers, steps), walk, devices)| Workload {
            size: WorkSize { rows, inner, columns },
            passes,
            walkers: if walk { walkers } else { 0 },
            steps: if walk { steps } else { 0 },
            devices,
        },
    )
}

#[test]
fn the_root_is_the_committed_one() {
    // Another backend, or another release, must get exactly this.
    let size = WorkSize { rows: 7, inner: 19, columns: 5 };
    let workload = Workload { size, passes: 2, walkers: 3, steps: 4, devices: 2 };
    let proof = prove(&[42; 32], &workload, &mut references(&workload));
    assert_eq!(hex::encode(proof.root()), "f8cefa4792ddec6787d1747ca57279eddfcbe7d1ad31db6e64a0c199e5f32811");
}

#[test]
fn the_digests_of_the_rows_are_the_committed_ones() {
    let size = WorkSize { rows: 3, inner: 11, columns: 5 };
    let reference: Box<dyn Backend> = Box::<Reference>::default();
    let processors =
        Isa::supported().into_iter().map(|isa| Box::new(Cpu::with_isa(isa, NonZeroUsize::MIN)) as Box<dyn Backend>);
    for mut device in processors.chain([reference]) {
        device.load(&[42; 32], &size).unwrap();
        assert_eq!(
            device.multiply(&[42; 32]).unwrap().iter().map(hex::encode).collect::<Vec<_>>(),
            [
                "7aeea70b5b19b9afee3a14e86c051cfa43adec18cac7a85d4a204f6c56ac5e2e",
                "1cfa424655f689909ae8cd214e662c0a43afe061a7722a34bc07945811da4804",
                "f889e9f2cb0643d6165ef757c946325060963676b444bcfbac3ba8c44da3a8f0"
            ],
            "{}",
            device.describe()
        );
    }
}

#[test]
fn what_a_stranger_asks_is_bounded_before_anything_is_allocated() {
    let go = |size, limits: &Limits| {
        let workload = Workload { size, passes: MAX_PASSES, walkers: 0, steps: 0, devices: 1 };
        let mut devices = processors(&workload, Isa::Portable, 1);
        let off = AtomicBool::new(false);
        capacity::prove(&[0; 32], &workload, &mut devices, limits, NonZeroUsize::MIN, &off).unwrap_err()
    };
    let huge = WorkSize { rows: u32::MAX, inner: u32::MAX, columns: u32::MAX };
    let refused = PlanError::TooMuchWork { asked: u64::MAX, allowed: Limits::CPU.operations };
    assert_eq!(go(huge, &Limits::CPU), ProveError::Plan(refused));
    // The sums themselves must not wrap around to something small.
    let any_work = Limits { operations: u64::MAX, ..Limits::CPU };
    assert!(matches!(go(huge, &any_work), ProveError::Plan(PlanError::TooMuchDeviceMemory { .. })));
    let wide = WorkSize { rows: 1, inner: 1 << 14, columns: 1 << 14 };
    assert!(matches!(go(wide, &Limits::CPU), ProveError::Plan(PlanError::TooMuchDeviceMemory { .. })));
    let tall = WorkSize { rows: 1 << 20, inner: 1, columns: 1 };
    assert!(matches!(go(tall, &Limits::CPU), ProveError::Plan(PlanError::TooMuchHostMemory { .. })));
}

#[test]
fn the_cpu_workload_passes_and_is_opened() {
    let workload = Demand::cpu(2).unwrap();
    let proof = prove(&[9; 32], &workload, &mut processors(&workload, Isa::detect(), 2));
    let request = capacity::draw(&workload, &proof.root(), &Spread::default(), &[1; 32]);
    assert_eq!((request.rows.len(), request.walks.len()), (24, 2));
    request.check().unwrap();
    assert_eq!(capacity::verify(&[9; 32], &workload, &request, &proof.open(&request).unwrap()), Ok(()));
    assert_eq!(proof.device_times().len(), 1);
}

#[test]
fn devices_must_be_as_many_as_asked_and_failures_have_names() {
    let workload = Workload { devices: 2, ..Demand::cpu(1).unwrap() };
    let go = |devices: &mut Devices, limits: &Limits, off: bool| {
        capacity::prove(&[0; 32], &workload, devices, limits, NonZeroUsize::MIN, &AtomicBool::new(off)).unwrap_err()
    };
    let asked = go(&mut processors(&Workload { devices: 1, ..workload }, Isa::Portable, 1), &Limits::CPU, false);
    assert_eq!(asked, ProveError::Plan(PlanError::Devices { asked: 2, has: 1 }));
    let mut devices = processors(&workload, Isa::Portable, 1);
    assert_eq!(go(&mut devices, &Limits::CPU, true), ProveError::CalledOff);
    let none = Limits { device_memory: 0, ..Limits::CPU };
    assert!(matches!(go(&mut devices, &none, false), ProveError::Plan(PlanError::TooMuchDeviceMemory { .. })));
    let mut cpu = Cpu::new(NonZeroUsize::MIN);
    assert_eq!(cpu.multiply(&[0; 32]), Err(BackendError::OutOfOrder("multiply")));
    assert_eq!(cpu.walk([0; 2], 1, 1), Err(BackendError::OutOfOrder("walk")));
    let more_than_there_is = WorkSize { rows: u32::MAX, inner: 1, columns: u32::MAX };
    assert!(matches!(cpu.load(&[0; 32], &more_than_there_is), Err(BackendError::Memory { .. })));
}

#[test]
fn the_largest_answer_fits_a_message() {
    let proof = vec![[7; 32]; 32];
    let row = datagalax_protocol::OpenedRow { index: 1, digest: [1; 32], proof: proof.clone() };
    let device = |device: u16| DeviceOpening {
        device,
        pass_roots: vec![[2; 32]; usize::from(MAX_PASSES)],
        walk_root: [3; 32],
        proof: vec![[4; 32]; 6],
        rows: vec![SampledRow { pass: 1, row: row.clone() }; 4],
        walks: vec![OpenedWalk { walker: 1, state: 2, proof: proof.clone() }],
    };
    let answer = SampleAnswer { request: [0; 32], devices: (0..8).map(device).collect() };
    let context = Context { genesis_hash: [1; 32], program: [2; 32].into(), subject: [3; 32].into(), epoch: 4 };
    let envelope = Envelope::sign(&context, &answer, [0; 16], 0, &Keypair::new_from_array([7; 32])).unwrap();
    assert!(envelope.encode().len() <= MAX_MESSAGE);
    let more = |change: fn(&mut SampleAnswer)| {
        let mut answer = answer.clone();
        change(&mut answer);
        answer.check().is_err()
    };
    assert!(more(|answer| answer.devices.clear()));
    assert!(more(|answer| answer.devices.push(answer.devices[0].clone())));
    assert!(more(|answer| answer.devices[0].rows.extend_from_within(..1)));
    assert!(more(|answer| answer.devices[0].walks.extend_from_within(..1)));
    assert!(more(|answer| answer.devices[3].pass_roots.push([0; 32])));
    assert!(more(|answer| answer.devices[3].proof = vec![[0; 32]; 33]));
}

#[test]
fn workloads_out_of_range_are_refused() {
    let good = Demand::cpu(1).unwrap();
    good.check().unwrap();
    let bad = [
        Workload { passes: 0, ..good },
        Workload { passes: MAX_PASSES + 1, ..good },
        Workload { devices: 0, ..good },
        Workload { devices: MAX_DEVICES + 1, ..good },
        Workload { walkers: u32::MAX, ..good },
        Workload { steps: u32::MAX, ..good },
        Workload { steps: 0, ..good },
        Workload { walkers: 0, ..good },
        Workload { size: WorkSize { rows: 0, ..good.size }, ..good },
    ];
    for workload in bad {
        assert!(workload.check().is_err(), "{workload:?}");
        assert!(matches!(Limits::default().check(&workload), Err(PlanError::Malformed(_))));
        let request = SampleRequest { root: [0; 32], rows: vec![RowAt { device: 0, pass: 0, row: 0 }], walks: vec![] };
        assert_eq!(capacity::verify(&[0; 32], &workload, &request, &[]), Err(SampleError::OutsideWorkload));
    }
}

#[test]
fn a_tree_of_other_leaves_does_not_pass_for_a_device() {
    // Second preimages: a device's leaf taken apart, or an inner node shown as a leaf.
    let workload = Workload { devices: 2, ..small() };
    let proof = prove(&[5; 32], &workload, &mut references(&workload));
    let request = one_row(&proof, RowAt { device: 1, pass: 1, row: 3 });
    let opened = proof.open(&request).unwrap();
    let lone = Workload { devices: 1, ..workload };
    let forged = SampleRequest { rows: vec![RowAt { device: 0, ..request.rows[0] }], ..request.clone() };
    let mut alone = opened.clone();
    alone[0].device = 0;
    assert!(matches!(capacity::verify(&[5; 32], &lone, &forged, &alone), Err(SampleError::Device { .. })));
    let leaf = DeviceOpening::leaf(&opened[0].pass_roots, &opened[0].walk_root);
    let split = Tree::new(leaf.chunks(32));
    let request = SampleRequest { root: split.root(), ..request };
    assert!(matches!(capacity::verify(&[5; 32], &workload, &request, &opened), Err(SampleError::Device { .. })));
}

fn small() -> Workload {
    Workload { size: WorkSize { rows: 12, inner: 33, columns: 9 }, passes: 2, walkers: 5, steps: 6, devices: 1 }
}

fn one_row(proof: &Proof, at: RowAt) -> SampleRequest {
    SampleRequest { root: proof.root(), rows: vec![at], walks: vec![] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn all_backends_commit_to_the_same_root(challenge: Digest, workload in workloads(), threads in 1usize..5) {
        let root = prove(&challenge, &workload, &mut references(&workload)).root();
        for isa in Isa::supported() {
            prop_assert_eq!(prove(&challenge, &workload, &mut processors(&workload, isa, threads)).root(), root, "{:?}", isa);
        }
    }

    #[test]
    fn what_is_honest_passes_and_whatever_is_changed_does_not(
        challenge: Digest, workload in workloads(), secret: Digest, rows in 1usize..20, walks in 0usize..5, flip in any::<(u8, u8)>(),
    ) {
        let proof = prove(&challenge, &workload, &mut processors(&workload, Isa::detect(), 1));
        let request = capacity::draw(&workload, &proof.root(), &Spread { rows, walks }, &secret);
        prop_assert!(request.check().is_ok());
        let places = usize::from(workload.devices) * usize::from(workload.passes) * workload.size.rows as usize;
        prop_assert_eq!(request.rows.len(), rows.min(places));
        let opened = proof.open(&request).unwrap();
        let check = |opened: &[DeviceOpening]| capacity::verify(&challenge, &workload, &request, opened);
        prop_assert_eq!(check(&opened), Ok(()));

        // Another challenge, another workload of the same shape, another root.
        let mut other = challenge;
        other[0] ^= 1;
        let refused = capacity::verify(&other, &workload, &request, &opened);
        prop_assert!(refused.is_err_and(|error| error.is_lie()));
        let longer = Workload { size: WorkSize { inner: workload.size.inner + 1, ..workload.size }, ..workload };
        prop_assert!(capacity::verify(&challenge, &longer, &request, &opened).is_err_and(|error| error.is_lie()));
        let mut moved = request.clone();
        moved.root[usize::from(flip.0) % 32] ^= 1;
        let refused = capacity::verify(&challenge, &workload, &moved, &opened);
        let expected = SampleError::Device { device: opened[0].device, error: ProofError::WrongRoot };
        prop_assert_eq!(refused, Err(expected));

        // Anything left out, doubled or renamed.
        prop_assert_eq!(check(&[]), Err(SampleError::WrongPlaces));
        prop_assert_eq!(check(&opened[1..]), Err(SampleError::WrongPlaces));
        let changed = |change: &dyn Fn(&mut DeviceOpening)| {
            let mut changed = opened.clone();
            let at = usize::from(flip.0) % changed.len();
            change(&mut changed[at]);
            check(&changed)
        };
        let wrong = |found: &Result<(), SampleError>| *found == Err(SampleError::WrongPlaces);
        prop_assert!(wrong(&changed(&|device| device.device ^= 1)));
        prop_assert!(wrong(&changed(&|device| device.pass_roots.push([0; 32]))));
        prop_assert!(wrong(&changed(&|device| device.pass_roots.clear())));
        let surplus = OpenedWalk { walker: 0, state: 0, proof: vec![] };
        prop_assert!(wrong(&changed(&|device| device.walks.push(surplus.clone()))));
        // Anything that is hashed, changed in one bit.
        let bit = 1 << (flip.1 % 8);
        let unproved = |found: Result<(), SampleError>| found.is_err_and(|error| !error.is_lie());
        prop_assert!(unproved(changed(&|device| device.pass_roots[0][3] ^= bit)));
        prop_assert!(unproved(changed(&|device| device.walk_root[3] ^= bit)));
        prop_assert!(unproved(changed(&|device| device.proof.push([0; 32]))));
        let rows = |device: &DeviceOpening| !device.rows.is_empty();
        if opened.iter().all(rows) {
            prop_assert!(unproved(changed(&|device| device.rows[0].row.digest[3] ^= bit)));
            prop_assert!(unproved(changed(&|device| device.rows[0].row.proof.push([0; 32]))));
            prop_assert!(wrong(&changed(&|device| device.rows[0].row.index ^= 1)));
            prop_assert!(wrong(&changed(&|device| device.rows[0].pass ^= 1)));
            prop_assert!(wrong(&changed(&|device| drop(device.rows.pop()))));
        }
        if opened.iter().all(|device| !device.walks.is_empty()) {
            prop_assert!(unproved(changed(&|device| device.walks[0].state ^= 1)));
            prop_assert!(wrong(&changed(&|device| device.walks[0].walker ^= 1)));
        }

        // What is outside is not opened.
        let outside = [
            RowAt { device: workload.devices, pass: 0, row: 0 },
            RowAt { device: 0, pass: workload.passes, row: 0 },
            RowAt { device: 0, pass: 0, row: workload.size.rows },
        ];
        for at in outside {
            let request = one_row(&proof, at);
            prop_assert!(proof.open(&request).is_none());
            prop_assert_eq!(capacity::verify(&challenge, &workload, &request, &opened), Err(SampleError::OutsideWorkload));
        }
        let walks = vec![WalkAt { device: 0, walker: workload.walkers }];
        let request = SampleRequest { walks, ..request.clone() };
        prop_assert!(proof.open(&request).is_none());
    }

    #[test]
    fn what_is_drawn_is_within_bounds_whatever_the_workload(
        (rows, passes, walkers, devices) in (1u32.., 1u16..=MAX_PASSES, 0u32..1 << 24, 1u16..=MAX_DEVICES), secret: Digest,
    ) {
        let size = WorkSize { rows, inner: 1, columns: 1 };
        let workload = Workload { size, passes, walkers, steps: u32::from(walkers > 0), devices };
        let request = capacity::draw(&workload, &[0; 32], &Spread { rows: 99, walks: 99 }, &secret);
        prop_assert!(request.check().is_ok());
        prop_assert!(request.rows.iter().all(|at| at.device < devices && at.pass < passes && at.row < rows));
        prop_assert!(request.walks.iter().all(|at| at.device < devices && at.walker < walkers));
        prop_assert_eq!(capacity::draw(&workload, &[0; 32], &Spread { rows: 99, walks: 99 }, &secret), request);
    }
}
