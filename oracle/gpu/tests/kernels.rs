//! The CUDA kernels, run thread by thread on the processor (see `emulator.c`): their digests and walks are the reference's.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use datagalax_gpu::backend::{Backend, Reference};
use datagalax_protocol::WorkSize;
use sha2::{Digest as _, Sha256};

/// The emulator, compiled once with the C compiler that Rust links with.
fn emulator() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (fresh, binary) = (directory.join(std::process::id().to_string()), directory.join("kernel-emulator"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulator.c");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(compiler).args(["-std=gnu11", "-O2", "-w", "-o"]).arg(&fresh).arg(&source).status();
        assert!(built.expect("a C compiler, as the README asks for").success(), "{} does not compile", source.display());
        // Another run's copy may be running: it keeps what it has open.
        std::fs::rename(fresh, &binary).unwrap();
        binary
    })
}

/// The keys of a stream, as `matrix` defines them.
fn keys(seed: &[u8; 32], factor: &[u8]) -> [u64; 2] {
    let digest = Sha256::new().chain_update(b"datagalax:matrix:v1").chain_update(seed).chain_update(factor).finalize();
    [0, 8].map(|at| u64::from_le_bytes(digest[at..at + 8].try_into().unwrap()))
}

/// Digests by tensor cores, digests by dp4a, and walks, as lines.
fn emulate(size: &WorkSize, a_seed: &[u8; 32], b_seed: &[u8; 32], walk: [u64; 2], walkers: u32, steps: u32) -> Vec<String> {
    let WorkSize { rows, inner, columns } = *size;
    let mut case = format!("{rows} {inner} {columns} {walkers} {steps}\n");
    for key in [keys(a_seed, b"A"), keys(b_seed, b"B"), walk].as_flattened() {
        case += &format!("{key} ");
    }
    let mut header = [b"datagalax:row:v1".as_slice(), a_seed].concat();
    for number in [rows, inner, columns, 0] {
        header.extend(number.to_le_bytes());
    }
    for word in header.as_chunks::<4>().0 {
        case += &format!("{} ", u32::from_be_bytes(*word));
    }
    let mut child = Command::new(emulator()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(case.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{size:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect()
}

#[test]
fn both_ways_to_multiply_hash_and_walk_give_the_references_bits() {
    let sizes = [
        // Everything smaller than a tile.
        (1, 1, 1),
        (5, 7, 13),
        // Whole tiles, more steps than stages.
        (128, 448, 256),
        // Edges in every direction, an inner dimension that is no multiple of a word, an odd number of columns.
        (131, 331, 259),
        (300, 129, 77),
        // More tiles of rows than are worked on side by side.
        (1_200, 64, 300),
        // Every length of what is left over in a row's last block of sha256.
        (2, 16, 14),
        (2, 16, 15),
        (2, 16, 16),
        (2, 16, 30),
    ];
    for (rows, inner, columns) in sizes {
        let size = WorkSize { rows, inner, columns };
        let (a_seed, b_seed, walk) = ([rows as u8; 32], [columns as u8; 32], [u64::MAX - 5, 77]);
        let mut reference = Reference::default();
        reference.load(&b_seed, &size).unwrap();
        let digests: Vec<String> = reference.multiply(&a_seed).unwrap().iter().map(hex::encode).collect();
        let states = reference.walk(walk, 9, 33).unwrap();
        let lines = emulate(&size, &a_seed, &b_seed, walk, 9, 33);
        assert_eq!(lines.len(), 2 * digests.len() + states.len());
        assert_eq!(lines[..digests.len()], digests, "tensor cores, {size:?}");
        assert_eq!(lines[digests.len()..2 * digests.len()], digests, "dp4a, {size:?}");
        let states: Vec<String> = states.iter().map(|state| format!("{state:016x}")).collect();
        assert_eq!(lines[2 * digests.len()..], states, "walks, {size:?}");
    }
}
