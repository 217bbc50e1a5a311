//! What proving and verifying cost on this machine: `cargo bench -p datagalax-gpu`. The figures of
//! `docs/proof-of-capacity.md` are from here.

use std::{
    hint::black_box,
    num::NonZeroUsize,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use datagalax_gpu::{
    Isa,
    backend::{self, Backend, Cpu},
    capacity::{self, Demand, Limits, Spread},
};
use datagalax_protocol::{WorkSize, Workload, merkle::Tree};

/// The shortest of a few runs: what is left is the machine's own time.
fn fastest(runs: u32, mut run: impl FnMut()) -> Duration {
    let times = (0..runs).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed()
    });
    times.min().unwrap_or_default()
}

fn threads(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN)
}

fn prove(workload: &Workload, devices: &mut [Box<dyn Backend>], threads: NonZeroUsize) -> capacity::Proof {
    let limits = Limits { device_memory: 4 << 30, operations: 1 << 50, ..Limits::CPU };
    capacity::prove(&[1; 32], workload, devices, &limits, threads, &AtomicBool::new(false)).expect("a proof")
}

fn main() {
    let all = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    println!("{all} threads, {}\n", Isa::detect().name());

    println!("one thread                 allocate and expand B, GB/s    expand A, multiply and hash, Gop/s");
    for isa in Isa::supported() {
        let mut cpu = Cpu::with_isa(isa, threads(1));
        let wide = WorkSize { rows: 1, inner: 1 << 14, columns: 1 << 12 };
        let expanding = fastest(20, || cpu.load(&[1; 32], &wide).expect("memory"));
        let size = WorkSize { rows: 256, inner: 1 << 12, columns: 1 << 10 };
        cpu.load(&[1; 32], &size).expect("memory");
        let multiplying = fastest(20, || drop(black_box(cpu.multiply(&[2; 32]))));
        let bytes = f64::from(wide.inner) * f64::from(wide.columns);
        println!(
            "{:<26} {:>27.2}    {:>30.1}",
            isa.name(),
            bytes / expanding.as_secs_f64() / 1e9,
            size.operations() as f64 / multiplying.as_secs_f64() / 1e9
        );
    }

    let workload = Demand::cpu(4).expect("a workload");
    for n in [1, all.get()] {
        let mut devices: Vec<Box<dyn Backend>> = vec![Box::new(Cpu::new(threads(n)))];
        let proving = fastest(20, || drop(black_box(prove(&workload, &mut devices, threads(n)))));
        let rate = workload.operations() as f64 / proving.as_secs_f64() / 1e9;
        println!("\nclass cpu, 4 passes, {n} threads: root after {proving:.1?} ({rate:.0} Gop/s)");
    }
    verifying("class cpu", &workload, threads(1));
    verifying("light", &Demand::light(1).expect("a workload"), all);

    // A verifier's costs depend on the inner dimension, the columns, the steps and what is opened, not on the rows and the
    // walkers: with few of those the real size of a GPU's challenge can be proved here.
    let gpu =
        Demand { memory: 80 << 30, share: 85, reference: 600_000_000_000_000, devices: 1, duration: Duration::from_secs(8) };
    let gpu = gpu.workload().expect("a workload");
    println!("\n80 GiB card: {gpu:?}");
    verifying("80 GiB card", &Workload { size: WorkSize { rows: 16, ..gpu.size }, passes: 2, walkers: 4, ..gpu }, all);

    let leaves = vec![[7; 32]; gpu.size.rows as usize];
    for n in [1, all.get()] {
        let hashing = fastest(8, || drop(black_box(Tree::of_digests(&leaves, threads(n)))));
        println!("tree over {} digests, {n} threads: {hashing:.1?}", leaves.len());
    }

    match backend::open_all(true, all) {
        Ok(devices) => devices.iter().for_each(|device| println!("\ndevice: {}", device.describe())),
        Err(error) => println!("\nno device: {error}"),
    }
}

fn verifying(name: &str, workload: &Workload, threads: NonZeroUsize) {
    let mut devices: Vec<Box<dyn Backend>> = vec![Box::new(Cpu::new(threads))];
    let proof = prove(workload, &mut devices, threads);
    for (rows, walks) in [(1, 0), (8, 0), (24, 0), (24, 2)] {
        let request = capacity::draw(workload, &proof.root(), &Spread { rows, walks }, &[3; 32]);
        let opened = proof.open(&request).expect("an opening");
        let taken = fastest(8, || capacity::verify(&[1; 32], workload, &request, &opened).expect("a proof"));
        println!("{name}: verifying {rows} rows and {walks} walks on one core: {taken:.1?}");
    }
}
