//! Attacks, each attempted and refused by name, or shown to be without effect: the mistakes that others' code has made, and the
//! eleven classes of Sealevel attacks. The populated network is the fuzz test's.

// That test needs more of these modules than this one.
#[allow(dead_code)]
#[path = "../fuzz/calls.rs"]
mod calls;
#[allow(dead_code)]
#[path = "../fuzz/cast.rs"]
mod cast;
#[path = "../fuzz/verdict.rs"]
mod verdict;

mod mistakes;
mod sealevel;

use std::sync::LazyLock;

use datagalax_program_tests::World;
use solana_account::Account;
use solana_instruction::Instruction;
use solana_message::Message;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use solana_transaction::Transaction;

use cast::Moment;
use verdict::{Verdict, judge};

static MOMENTS: LazyLock<Vec<Moment>> = LazyLock::new(cast::moments);

/// A fresh copy of a moment.
fn at(name: &str) -> Moment {
    MOMENTS.iter().find(|m| m.name == name).unwrap_or_else(|| panic!("no moment is called {name}")).clone()
}

/// What would come of instructions in one transaction, every signer of the message having signed; nothing stays.
fn attempt(world: &World, instructions: &[Instruction]) -> Verdict {
    let budget = datagalax_program_tests::send::compute_budget(1_400_000);
    let all = [&budget[..1], instructions].concat();
    let transaction = Transaction::new_unsigned(Message::new(&all, Some(&world.payer.pubkey())));
    match world.svm.simulate_transaction(transaction) {
        Ok(_) => Verdict::Done,
        Err(failed) => judge(&failed.err, &failed.meta.logs),
    }
}

/// A call that succeeds at a moment.
struct Success {
    moment: &'static Moment,
    call: Instruction,
}

/// One success of every instruction in each way in which its accounts differ (which are there, and how many).
static SUCCESSES: LazyLock<Vec<Success>> = LazyLock::new(|| {
    let mut all: Vec<Success> = vec![];
    for moment in MOMENTS.iter() {
        for call in calls::calls(moment) {
            let shape =
                |c: &Instruction| -> Vec<Vec<u8>> { c.accounts.iter().map(|m| kind_of(&moment.world, &m.pubkey)).collect() };
            let known = |s: &Success| {
                s.call.data[0] == call.data[0]
                    && s.call.accounts.len() == call.accounts.len()
                    && s.call.accounts.iter().map(|m| kind_of(&s.moment.world, &m.pubkey)).eq(shape(&call))
            };
            if !all.iter().any(known) && attempt(&moment.world, std::slice::from_ref(&call)) == Verdict::Done {
                all.push(Success { moment, call });
            }
        }
    }
    all
});

/// What an account is: owner and, of the program's own, discriminator.
fn kind_of(world: &World, address: &Pubkey) -> Vec<u8> {
    let Account { owner, data, .. } = world.account_or_empty(address);
    let head = if owner == datagalax::ID { data.get(..8).unwrap_or_default().to_vec() } else { vec![data.len() as u8] };
    [owner.as_ref(), &head].concat()
}

fn is_ours(world: &World, address: &Pubkey) -> bool {
    world.account_or_empty(address).owner == datagalax::ID
}
