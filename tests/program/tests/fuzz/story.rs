//! Many calls one after the other, honest ones and others, each of which stays: whatever is done, the books balance.

use std::panic::{AssertUnwindSafe, catch_unwind};

use datagalax_program_tests::World;
use solana_instruction::Instruction;
use solana_signer::Signer;

use crate::{
    SCENES,
    calls::calls,
    mutate::{Power, mutate},
    random::Random,
    transaction,
    verdict::{BAD_SEEDS, Verdict, judge},
};

/// A step of a story: seconds that pass, then a call.
#[derive(Clone, Debug)]
pub struct Step {
    wait: i64,
    call: Instruction,
}

const STEPS: usize = 40;

/// Does a step for good; says how many calls were done (0 or 1), or what is wrong.
fn take(world: &mut World, step: &Step) -> Result<u64, String> {
    if step.wait > 0 {
        let now = world.now() + step.wait;
        world.set_time(now);
    }
    let payer = world.payer.pubkey();
    match world.svm.send_transaction(transaction(&payer, &step.call)) {
        Ok(_) => Ok(1),
        Err(failed) => match judge(&failed.err, &failed.meta.logs) {
            // The program wrote all of it, so nothing that anybody sends may find it out of balance.
            Verdict::Refused(name) if name != "InvariantViolated" && name != BAD_SEEDS => Ok(0),
            verdict => Err(format!("{verdict:?}")),
        },
    }
}

/// Whether the books balance.
fn balance(world: &World) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| world.check_books())).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
    })
}

fn beginning(scene: usize) -> World {
    let mut world = SCENES[scene].moment.world.clone();
    // Accounts are closed on the way.
    world.forgetful = true;
    world
}

/// Tells a story; says how many calls were done, or the shortest story found that goes wrong.
pub fn tell(seed: u64, number: u64) -> Result<u64, String> {
    let mut random = Random::of(seed, number);
    // Not the one before the network: it has no books.
    let scene = 1 + random.below(SCENES.len() - 1);
    let mut moment = SCENES[scene].moment.clone();
    moment.world = beginning(scene);
    let mut steps: Vec<Step> = vec![];
    let mut done = 0;
    let mut all = calls(&moment);
    let pool = &SCENES[scene].pool;
    for _ in 0..STEPS {
        let wait = if random.percent(25) { *random.pick(&[1, 5, 10, 15, 30, 60, 120, 600, 3_600, 90_000]) } else { 0 };
        let number = random.pick(&all).data[0];
        let same: Vec<&Instruction> = all.iter().filter(|c| c.data[0] == number).collect();
        let honest = (*random.pick(&same)).clone();
        let call = if random.percent(60) {
            honest
        } else {
            let mut changed = mutate(&mut random, &moment.world, pool, &honest, Power::Caller).instruction;
            // Nobody has the key of an address without one.
            changed.accounts.iter_mut().filter(|m| m.is_signer).for_each(|m| m.is_signer = m.pubkey.is_on_curve());
            changed
        };
        steps.push(Step { wait, call });
        match take(&mut moment.world, &steps[steps.len() - 1]) {
            Ok(count) => done += count,
            Err(wrong) => return Err(shortest(scene, steps, wrong)),
        }
        if wait > 0 || random.percent(10) {
            all = calls(&moment);
        }
    }
    match balance(&moment.world) {
        Ok(()) => Ok(done),
        Err(wrong) => Err(shortest(scene, steps, wrong)),
    }
}

/// Leaves out what is not needed for it to go wrong in the same way.
fn shortest(scene: usize, mut steps: Vec<Step>, wrong: String) -> String {
    let goes_wrong = |steps: &[Step]| {
        let mut world = beginning(scene);
        let taken = steps.iter().try_for_each(|step| take(&mut world, step).map(drop));
        taken.and_then(|()| balance(&world)).is_err_and(|w| w == wrong)
    };
    for i in (0..steps.len()).rev() {
        let mut without = steps.clone();
        without.remove(i);
        if goes_wrong(&without) {
            steps = without;
        }
    }
    let mut text = format!("{wrong}\nfrom \"{}\"\n", SCENES[scene].moment.name);
    for step in &steps {
        text += &format!("  after {} s instruction {}: {:?}\n", step.wait, step.call.data[0], step.call.data);
        step.call.accounts.iter().for_each(|m| text += &format!("    {} {} {}\n", m.pubkey, m.is_signer, m.is_writable));
    }
    text
}
