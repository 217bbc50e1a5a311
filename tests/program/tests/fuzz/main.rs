//! Arbitrary bytes and arbitrary accounts for every instruction: whatever comes, the answer is a refusal by name.
//!
//! `DATAGALAX_LONG=1` (or `cargo xtask test --long`) makes more than a million calls. `DATAGALAX_FUZZ_SEED=n` repeats a run,
//! `DATAGALAX_FUZZ_ONLY=n` one call of it.

mod calls;
mod cast;
mod mutate;
mod random;
mod story;
mod verdict;

use std::{collections::BTreeMap, env, fmt::Write, sync::LazyLock, thread};

use datagalax_program_tests::World;
use litesvm::LiteSVM;
use solana_instruction::Instruction;
use solana_message::Message;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use solana_transaction::Transaction;

use cast::Moment;
use mutate::{Case, Pool, Power, mutate, shrink};
use random::Random;
use verdict::{BAD_SEEDS, Verdict, judge};

/// The seed of ordinary runs: a failure that somebody sees is everybody's.
const SEED: u64 = 0x00da_7a9a_1a5e;

fn number_of(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn long() -> bool {
    ["DATAGALAX_LONG", "DATAGALAX_LONG_TESTS"].iter().any(|v| env::var(v).is_ok_and(|text| text == "1"))
}

/// A moment, what is called at it, by the instruction's number, and what may be named in such calls.
struct Scene {
    moment: Moment,
    calls: BTreeMap<u8, Vec<Instruction>>,
    pool: Pool,
}

static SCENES: LazyLock<Vec<Scene>> = LazyLock::new(|| cast::moments().into_iter().map(Scene::of).collect());

impl Scene {
    fn of(moment: Moment) -> Self {
        let mut by_number: BTreeMap<u8, Vec<Instruction>> = BTreeMap::new();
        for call in calls::calls(&moment) {
            by_number.entry(call.data[0]).or_default().push(call);
        }
        Self { pool: Pool::of(&moment.world), calls: by_number, moment }
    }

    /// Every instruction with the same chance, however many calls of it there are.
    fn call(&self, random: &mut Random) -> &Instruction {
        let numbers: Vec<&Vec<Instruction>> = self.calls.values().collect();
        let calls = *random.pick::<&Vec<Instruction>>(&numbers);
        random.pick(calls)
    }
}

fn transaction(payer: &Pubkey, instruction: &Instruction) -> Transaction {
    // Unsigned: LiteSVM does not check signatures here, so every flag of the message holds and everybody colludes.
    let budget = datagalax_program_tests::send::compute_budget(1_400_000);
    Transaction::new_unsigned(Message::new(&[budget[0].clone(), instruction.clone()], Some(payer)))
}

/// What comes of a call with hostile accounts in place; nothing stays of it.
fn verdict_of(svm: &mut LiteSVM, world: &World, case: &Case) -> Verdict {
    for (address, account) in &case.hostile {
        svm.set_account(*address, account.clone()).expect("LiteSVM takes any account");
    }
    let verdict = match svm.simulate_transaction(transaction(&world.payer.pubkey(), &case.instruction)) {
        Ok(_) => Verdict::Done,
        Err(failed) => judge(&failed.err, &failed.meta.logs),
    };
    for (address, _) in &case.hostile {
        svm.set_account(*address, world.account_or_empty(address)).expect("LiteSVM takes any account");
    }
    verdict
}

/// The call that failed, as somebody needs it who is to repeat it.
fn describe(scene: &Scene, case: &Case, verdict: &Verdict, seed: u64, number: u64) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut text = format!(
        "{verdict:?}\nDATAGALAX_FUZZ_SEED={seed} DATAGALAX_FUZZ_ONLY={number}, at \"{}\"\ninstruction {}, data {}\n",
        scene.moment.name,
        case.instruction.data.first().copied().unwrap_or_default(),
        hex(&case.instruction.data),
    );
    for (i, meta) in case.instruction.accounts.iter().enumerate() {
        let was = case.honest.accounts.get(i).is_some_and(|h| h == meta);
        let flags = (if meta.is_signer { "s" } else { "" }, if meta.is_writable { "w" } else { "" });
        let _ = writeln!(text, "  account {i} {}{}{} {}", meta.pubkey, flags.0, flags.1, if was { "" } else { "(changed)" });
    }
    for (address, account) in &case.hostile {
        let honest = scene.moment.world.account_or_empty(address);
        let _ = writeln!(
            text,
            "  hostile {address}: {} bytes of {}, were {}",
            account.data.len(),
            account.owner,
            honest.data.len()
        );
        let different = account.data.iter().zip(&honest.data).enumerate().filter(|(_, (a, b))| a != b);
        for (at, (now, before)) in different.take(64) {
            let _ = write!(text, " [{at}] {before:02x}->{now:02x}");
        }
        text.push('\n');
    }
    text
}

/// Makes `count` calls from `first` on; says how often each answer came.
fn run_calls(seed: u64, first: u64, count: u64, step: u64) -> (BTreeMap<String, u64>, Vec<String>) {
    let mut chains: Vec<LiteSVM> = SCENES.iter().map(|s| s.moment.world.svm.clone()).collect();
    let (mut answers, mut failures) = (BTreeMap::new(), vec![]);
    let mut seen: Vec<(u8, String)> = vec![];
    for number in (first..first + count * step).step_by(step as usize) {
        let mut random = Random::of(seed, number);
        let at = random.below(SCENES.len());
        let scene = &SCENES[at];
        let power = if random.percent(50) { Power::Writer } else { Power::Caller };
        let world = &scene.moment.world;
        let honest = scene.call(&mut random).clone();
        let case = mutate(&mut random, world, &scene.pool, &honest, power);
        let verdict = verdict_of(&mut chains[at], world, &case);
        let name = match &verdict {
            Verdict::Done => "Done".to_owned(),
            Verdict::Refused(name) => name.clone(),
            Verdict::Broken(name) => format!("BROKEN {name}"),
        };
        // What the program itself wrote never breaks its own books, whatever anybody sends.
        let unbalanced = case.hostile.is_empty() && ["InvariantViolated", BAD_SEEDS].contains(&name.as_str());
        if matches!(verdict, Verdict::Broken(_)) || unbalanced {
            let kind = (honest.data[0], name.clone());
            if !seen.contains(&kind) {
                seen.push(kind);
                let chain = std::cell::RefCell::new(&mut chains[at]);
                let fails = |c: &Case| verdict_of(&mut chain.borrow_mut(), world, c) == verdict;
                let small = shrink(case, &|a| world.account_or_empty(a), &fails);
                failures.push(describe(scene, &small, &verdict, seed, number));
            }
        }
        *answers.entry(name).or_default() += 1;
    }
    (answers, failures)
}

#[test]
fn whatever_is_sent_is_refused_by_name() {
    let seed = number_of("DATAGALAX_FUZZ_SEED").unwrap_or(SEED);
    println!("DATAGALAX_FUZZ_SEED={seed}");
    let total = if long() { 1_200_000 } else { 30_000 };
    let threads = if long() { thread::available_parallelism().map_or(1, |n| n.get() as u64) } else { 1 };
    let parts: Vec<_> = match number_of("DATAGALAX_FUZZ_ONLY") {
        Some(only) => vec![run_calls(seed, only, 1, 1)],
        None => thread::scope(|scope| {
            let running: Vec<_> =
                (0..threads).map(|t| scope.spawn(move || run_calls(seed, t, total / threads, threads))).collect();
            running.into_iter().map(|t| t.join().expect("a thread")).collect()
        }),
    };
    let (mut answers, mut failures) = (BTreeMap::<String, u64>::new(), vec![]);
    for (part, failed) in parts {
        part.into_iter().for_each(|(name, count)| *answers.entry(name).or_default() += count);
        failures.extend(failed);
    }
    println!("{answers:#?}");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn whatever_is_done_the_books_balance() {
    let seed = number_of("DATAGALAX_FUZZ_SEED").unwrap_or(SEED);
    println!("DATAGALAX_FUZZ_SEED={seed}");
    let stories = if long() { 4_000 } else { 150 };
    let numbers: Vec<u64> = number_of("DATAGALAX_FUZZ_ONLY").map_or_else(|| (0..stories).collect(), |only| vec![only]);
    let mut done = 0;
    for number in numbers {
        match story::tell(seed, number) {
            Ok(count) => done += count,
            Err(wrong) => panic!("DATAGALAX_FUZZ_SEED={seed} DATAGALAX_FUZZ_ONLY={number}: {wrong}"),
        }
    }
    println!("{done} calls were done");
    assert!(done > stories, "stories in which nothing happens test nothing");
}

#[test]
fn every_instruction_is_done_at_some_moment() {
    let mut done: BTreeMap<u8, usize> = calls::NUMBERS.iter().map(|n| (*n, 0)).collect();
    for scene in SCENES.iter() {
        let world = &scene.moment.world;
        for call in scene.calls.values().flatten() {
            let case = Case { honest: call.clone(), instruction: call.clone(), hostile: vec![] };
            let verdict = verdict_of(&mut world.svm.clone(), world, &case);
            let what = describe(scene, &case, &verdict, 0, 0);
            assert!(!matches!(verdict, Verdict::Broken(_)), "{what}");
            *done.get_mut(&call.data[0]).expect("an instruction") += usize::from(verdict == Verdict::Done);
        }
    }
    let never: Vec<u8> = done.iter().filter(|(_, n)| **n == 0).map(|(number, _)| *number).collect();
    assert!(never.is_empty(), "never done: {never:?}");
}
