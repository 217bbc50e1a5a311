//! Arbitrary bytes and arbitrary accounts for every instruction: whatever comes, the answer is a refusal by name.

mod calls;
mod cast;
mod random;
mod verdict;

use std::collections::BTreeMap;

use litesvm::LiteSVM;
use solana_instruction::Instruction;
use solana_message::Message;
use solana_pubkey::Pubkey;
use solana_transaction::Transaction;

use verdict::{Verdict, judge};

pub fn transaction(payer: &Pubkey, instruction: &Instruction) -> Transaction {
    let budget = datagalax_program_tests::send::compute_budget(1_400_000);
    Transaction::new_unsigned(Message::new(&[budget[0].clone(), instruction.clone()], Some(payer)))
}

pub fn try_call(svm: &LiteSVM, payer: &Pubkey, instruction: &Instruction) -> Verdict {
    match svm.simulate_transaction(transaction(payer, instruction)) {
        Ok(_) => Verdict::Done,
        Err(failed) => judge(&failed.err, &failed.meta.logs),
    }
}

#[test]
fn every_instruction_is_done_at_some_moment() {
    use solana_signer::Signer;
    let mut done: BTreeMap<u8, usize> = calls::NUMBERS.iter().map(|n| (*n, 0)).collect();
    for moment in cast::moments() {
        for call in calls::calls(&moment) {
            let verdict = try_call(&moment.world.svm, &moment.world.payer.pubkey(), &call);
            if std::env::var("SHOW").is_ok() {
                println!("{} {} {verdict:?}", moment.name, call.data[0]);
            }
            assert!(!matches!(verdict, Verdict::Broken(_)), "{}: {} {verdict:?}", moment.name, call.data[0]);
            *done.get_mut(&call.data[0]).expect("an instruction") += usize::from(verdict == Verdict::Done);
        }
    }
    let never: Vec<u8> = done.iter().filter(|(_, n)| **n == 0).map(|(number, _)| *number).collect();
    assert!(never.is_empty(), "never done: {never:?}");
}
