//! Runs every operation of the test program in LiteSVM, on edge values and random ones, and compares with the host.

#[path = "../program/src/operations.rs"]
mod operations;

use std::{env, path::PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use litesvm::LiteSVM;
use operations::{BYTES, OPERATIONS};
use rand::{Rng, SeedableRng, rngs::StdRng};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::Message;
use solana_pubkey::{Pubkey, pubkey};
use solana_signer::Signer;
use solana_transaction::Transaction;

/// Operations in one transaction: their results must fit 1024 bytes of return data.
const BATCH: usize = 1024 / BYTES;
/// Random operand pairs besides the edges'.
const RANDOM_PAIRS: usize = 400;
const SEED: u64 = 0x6461_7461_6761_6c78;
const COMPUTE_BUDGET: Pubkey = pubkey!("ComputeBudget111111111111111111111111111111");

struct Chain {
    svm: LiteSVM,
    payer: Keypair,
    program: Pubkey,
    /// Compute units used so far.
    units: u64,
}

impl Chain {
    fn start() -> Result<Self> {
        let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/deploy/datagalax_lowering.so");
        let path = env::var_os("DATAGALAX_LOWERING_SO").map_or(built, PathBuf::from);
        ensure!(
            path.is_file(),
            "{} is missing: run `cargo xtask build-program --program-dir tests/lowering/program` first, or set \
             DATAGALAX_LOWERING_SO",
            path.display()
        );
        // Without a history, equal transactions may follow each other.
        let mut svm = LiteSVM::new().with_sigverify(false).with_transaction_history(0);
        let (payer, program) = (Keypair::new(), Pubkey::new_unique());
        svm.airdrop(&payer.pubkey(), 1_000_000_000_000).map_err(|e| anyhow!("{e:?}"))?;
        svm.add_program_from_file(program, &path)
            .map_err(|e| anyhow!("{} does not load ({e:?}): build it again", path.display()))?;
        Ok(Self { svm, payer, program, units: 0 })
    }

    /// The results of operations from `first` on, as the program encodes them.
    fn run(&mut self, first: usize, count: usize, a: u128, b: u128) -> Result<Vec<u8>> {
        let mut data = vec![u8::try_from(first)?, u8::try_from(count)?];
        data.extend(a.to_le_bytes());
        data.extend(b.to_le_bytes());
        let mut limit = vec![2];
        limit.extend(1_400_000_u32.to_le_bytes());
        let instructions = [
            Instruction { program_id: COMPUTE_BUDGET, accounts: vec![], data: limit },
            Instruction { program_id: self.program, accounts: vec![], data },
        ];
        let message = Message::new(&instructions, Some(&self.payer.pubkey()));
        let transaction = Transaction::new(&[&self.payer], message, self.svm.latest_blockhash());
        let outcome = self
            .svm
            .send_transaction(transaction)
            .map_err(|e| anyhow!("operations {first}.. on {a:#x} and {b:#x} failed: {:?}, logs {:?}", e.err, e.meta.logs))?;
        self.units += outcome.compute_units_consumed;
        let mut data = outcome.return_data.data;
        // The runtime drops trailing zeros.
        data.resize(count * BYTES, 0);
        Ok(data)
    }

    /// Compares all operations on a pair; gives their number.
    fn compare(&mut self, a: u128, b: u128) -> Result<usize> {
        for first in (0..OPERATIONS.len()).step_by(BATCH) {
            let batch = &OPERATIONS[first..OPERATIONS.len().min(first + BATCH)];
            let results = self.run(first, batch.len(), a, b)?;
            for ((name, operation), chain) in batch.iter().zip(results.chunks(BYTES)) {
                let host = operation(a, b);
                ensure!(
                    chain == host.bytes(),
                    "{name} of {a:#x} and {b:#x}: the host gives {:#x} {}, the chain {:#x} {}",
                    host.value,
                    host.flag,
                    u128::from_le_bytes(chain[..16].try_into().context("16 bytes")?),
                    chain[16]
                );
            }
        }
        Ok(OPERATIONS.len())
    }
}

/// Zero, one, the ends of each width, powers of two and their neighbours, shift amounts.
fn edges() -> Vec<u128> {
    let mut edges = vec![0, 1, 2, 3, 7, 10, 0x5555_5555_5555_5555, 1_000_000_007, 10_u128.pow(38), u128::MAX, u128::MAX / 3];
    for bits in [7, 8, 15, 16, 31, 32, 33, 62, 63, 64, 65, 95, 96, 97, 126, 127] {
        let power = 1_u128 << bits;
        edges.extend([bits, power - 1, power, power + 1, power.wrapping_neg(), power.wrapping_neg() - 1]);
    }
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// A value of random length, so that small ones and those with a few set bits occur as well.
fn random(rng: &mut StdRng) -> u128 {
    let value = match rng.random_range(0..4) {
        0 => 1_u128.wrapping_shl(rng.random::<u32>()).wrapping_add(rng.random_range(0..3)).wrapping_sub(1),
        _ => rng.random(),
    };
    value.wrapping_shr(rng.random_range(0..128))
}

#[test]
fn edge_values_agree() -> Result<()> {
    let mut chain = Chain::start()?;
    let edges = edges();
    let mut compared = 0;
    for &a in &edges {
        for &b in &edges {
            compared += chain.compare(a, b)?;
        }
    }
    println!("{compared} operations on {} pairs of edge values agree", edges.len() * edges.len());
    ensure!(compared >= 5000);
    Ok(())
}

#[test]
fn random_values_agree() -> Result<()> {
    let mut chain = Chain::start()?;
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut compared = 0;
    for _ in 0..RANDOM_PAIRS {
        let (a, b) = (random(&mut rng), random(&mut rng));
        // The second pair makes quotients near a power of two, and divisors near the dividend.
        let near = (a >> rng.random_range(0..128)).wrapping_add(rng.random_range(0..3));
        compared += chain.compare(a, b)? + chain.compare(a, near)?;
    }
    let pairs = 2 * RANDOM_PAIRS;
    let units = chain.units / pairs as u64;
    println!("{compared} operations on {pairs} random pairs agree, {units} compute units a pair");
    ensure!(compared >= 5000);
    Ok(())
}

/// Operations whose table this is must not come apart from the program's: it would compare different things.
#[test]
fn the_program_knows_every_operation() -> Result<()> {
    let mut chain = Chain::start()?;
    let last = OPERATIONS.len() - 1;
    let (a, b) = (u128::MAX / 7, 12_345);
    let past = chain.run(last + 1, 1, a, b)?;
    ensure!(past.iter().all(|byte| *byte == 0), "the program knows more operations than this test: build it again");
    Ok(())
}
