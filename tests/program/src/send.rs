//! Sending transactions, and refusals by name.

use datagalax::error::DatagalaxError;
use solana_instruction::{Instruction, error::InstructionError};
use solana_keypair::Keypair;
use solana_message::Message;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use solana_transaction::Transaction;
use solana_transaction_error::TransactionError;

use crate::{World, addresses::COMPUTE_BUDGET};

/// What a confirmed transaction took.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Compute units of all its instructions.
    pub compute_units: u64,
    /// Its logs.
    pub logs: Vec<String>,
    /// Its length on the wire, bytes.
    pub bytes: usize,
}

/// A refused transaction.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Custom code, if it has one.
    pub code: Option<u32>,
    /// The program's own name of the refusal, Anchor's name of a constraint, or the runtime's name of the error.
    pub name: String,
    /// Its logs.
    pub logs: Vec<String>,
}

/// Every error of the program in the order of its code. `DatagalaxError` cannot be enumerated, hence this list; a test holds
/// it to the codes.
#[rustfmt::skip]
pub const ERRORS: &[DatagalaxError] = {
    use DatagalaxError::*;
    &[
        Overflow, InvariantViolated, Unauthorized, NotUpgradeAuthority, MintRefused, ParameterOutOfBounds,
        WindowsDoNotFit, NotStarted, Paused, WrongAccount, BadAmount, ClassTooHeavy, ClassInactive, StakeTooLow,
        BlockNotFull, BlockFull, FreeRowsLeft, NoFreeRow, BadEndpoint, BadContainer, BadTicketCount, WrongEpoch,
        NotAdvanced, AlreadyAdvanced, ChurnPending, NothingToChurn, AlreadyDrawn, TooEarlyToDraw, EpochVoid, NotDrawn,
        AlreadySeated, NotSeated, BlockEmpty, NoSuchSeat, OutsideCommitWindow, EmptyCommitment, CheckerRequired,
        OutsideRevealWindow, NotCommitted, AlreadyRevealed, CommitmentMismatch, OutsideTallyWindow, AlreadyTallied,
        NoRows, NotYourRow, NothingToPay, NotYourTicket, BadSlotHashes, CurrentEpochRequired, PreviousEpochRequired,
        AlreadyExists, MintExtensionRefused, NothingPending, TimeLocked, GridChangePending, TooManyVestingTerms,
        GuardianRests, NotPaused, NotNamed, TooManyRequests, BreakerOpen, ContainerHalted, NotHalted, AlreadyLeaving,
        ContainerLeased, ContainerAccused, NotLeaving, BadMaintenance, TicketNotInOrder, TicketResting, NotAccepting,
        NotLive, TooDear, BadDuration, WrongLeaseState, StartTimedOut, StartNotTimedOut, NotServedTooLate, LeaseRunning,
        NothingToSettle, UsageWentBack, MatchMissing, MatchMismatch, IndexerLeaving, NotAccused, CaseOpen, CaseClosed,
        NoBreach, BreachedToday, TooFewTickets, NotDone, CaseExists, ForeignAccount, WrongAccountKind,
        WrongAccountLength,
    ]
};

fn name_of(error: &InstructionError) -> String {
    match error {
        InstructionError::Custom(code @ 6000..) => {
            ERRORS.get(*code as usize - 6000).map_or_else(|| format!("Custom({code})"), |e| format!("{e:?}"))
        }
        // Anchor's constraints.
        InstructionError::Custom(2000) => "ConstraintMut".into(),
        InstructionError::Custom(2003) => "ConstraintRaw".into(),
        InstructionError::Custom(2012) => "ConstraintAddress".into(),
        InstructionError::Custom(2020) => "ConstraintAccountIsNone".into(),
        InstructionError::Custom(2040) => "ConstraintDuplicateMutableAccount".into(),
        // The token program's.
        InstructionError::Custom(1) => "InsufficientFunds".into(),
        InstructionError::Custom(3) => "MintMismatch".into(),
        InstructionError::Custom(4) => "OwnerMismatch".into(),
        other => format!("{other:?}"),
    }
}

impl Failure {
    fn new(error: &TransactionError, logs: Vec<String>) -> Self {
        let (code, name) = match error {
            TransactionError::InstructionError(_, inner @ InstructionError::Custom(code)) => (Some(*code), name_of(inner)),
            TransactionError::InstructionError(_, inner) => (None, name_of(inner)),
            other => (None, format!("{other:?}")),
        };
        Self { code, name, logs }
    }
}

impl World {
    /// Sends instructions in one transaction, paid by the world's payer and signed by it and `signers`.
    ///
    /// # Errors
    /// [`Failure`] when the transaction is refused; then nothing but the fee changed.
    pub fn send(&mut self, instructions: &[Instruction], signers: &[&Keypair]) -> Result<Outcome, Failure> {
        let payer = self.payer.insecure_clone();
        self.send_paid_by(&payer, instructions, signers)
    }

    /// [`Self::send`], with another fee payer.
    ///
    /// # Errors
    /// [`Failure`] when the transaction is refused.
    pub fn send_paid_by(
        &mut self,
        payer: &Keypair,
        instructions: &[Instruction],
        signers: &[&Keypair],
    ) -> Result<Outcome, Failure> {
        let transaction = self.transaction(payer, instructions, signers);
        let bytes = wire_length(&transaction);
        match self.svm.send_transaction(transaction) {
            Ok(meta) => Ok(Outcome { compute_units: meta.compute_units_consumed, logs: meta.logs, bytes }),
            Err(failed) => Err(Failure::new(&failed.err, failed.meta.logs)),
        }
    }

    fn transaction(&self, payer: &Keypair, instructions: &[Instruction], signers: &[&Keypair]) -> Transaction {
        let message = Message::new(instructions, Some(&payer.pubkey()));
        let required = usize::from(message.header.num_required_signatures);
        let mut keys: Vec<&Keypair> = vec![payer];
        for signer in signers {
            let needed = message.account_keys[..required].contains(&signer.pubkey());
            if needed && keys.iter().all(|k| k.pubkey() != signer.pubkey()) {
                keys.push(signer);
            }
        }
        let mut transaction = Transaction::new_unsigned(message);
        // The runtime checks signatures before any program runs, and LiteSVM is told not to: what the program checks is
        // the flag in the message.
        transaction.partial_sign(&keys, self.svm.latest_blockhash());
        transaction
    }

    /// [`Self::send`] that must succeed.
    #[track_caller]
    pub fn must(&mut self, instructions: &[Instruction], signers: &[&Keypair]) -> Outcome {
        match self.send(instructions, signers) {
            Ok(outcome) => outcome,
            Err(failure) => panic!("refused with {}: {:#?}", failure.name, failure.logs),
        }
    }

    /// [`Self::send`] that must be refused under this name.
    #[track_caller]
    pub fn refused(&mut self, instruction: Instruction, signers: &[&Keypair], name: &str) {
        match self.send(&[instruction], signers) {
            Ok(outcome) => panic!("{name} was expected, but it was done: {:#?}", outcome.logs),
            Err(failure) => assert_eq!(failure.name, name, "{:#?}", failure.logs),
        }
    }
}

/// Bytes of a transaction on the wire.
pub fn wire_length(transaction: &Transaction) -> usize {
    let compact = |n: usize| if n < 128 { 1 } else { 2 };
    let signatures = usize::from(transaction.message.header.num_required_signatures);
    let keys = transaction.message.account_keys.len();
    let instructions = &transaction.message.instructions;
    let body: usize = instructions
        .iter()
        .map(|i| 1 + compact(i.accounts.len()) + i.accounts.len() + compact(i.data.len()) + i.data.len())
        .sum();
    compact(signatures) + 64 * signatures + 3 + compact(keys) + 32 * keys + 32 + compact(instructions.len()) + body
}

/// The two compute-budget instructions a real sender adds: limit and price.
pub fn compute_budget(limit: u32) -> [Instruction; 2] {
    let instruction =
        |tag: u8, value: &[u8]| Instruction { program_id: COMPUTE_BUDGET, accounts: vec![], data: [&[tag], value].concat() };
    [instruction(2, &limit.to_le_bytes()), instruction(3, &1u64.to_le_bytes())]
}

/// The signer's key.
pub fn key(keypair: &Keypair) -> Pubkey {
    keypair.pubkey()
}
