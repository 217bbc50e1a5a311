//! The one table of errors. A test keeps it true to the program's source: same names, same order, same words.

use solana_instruction::error::InstructionError;
use solana_transaction_error::TransactionError;

use super::{Advice, FIRST_CODE};

const fn advice(name: &'static str, message: &'static str, next_step: &'static str) -> Option<Advice> {
    Some(Advice { name, message, next_step })
}

/// Position = code - 6000, as in `datagalax::error`.
#[rustfmt::skip]
const DATAGALAX: &[(&str, &str, &str)] = &[
    ("Overflow", "Arithmetic left its range; nothing was changed", "Use smaller amounts; if they were ordinary, report this transaction"),
    ("InvariantViolated", "The books would no longer balance; nothing was changed. Please report this transaction", "Report the command and the program's log lines"),
    ("Unauthorized", "This key may not do that; sign with the key that the account names", "Name that key's file with --keypair"),
    ("NotUpgradeAuthority", "Only the program's upgrade authority may initialise the network", "Sign with the key the program was deployed with"),
    ("MintRefused", "The mint must have 6 decimals, exist, and have no freeze authority unless that was allowed", "Create one for a local network with `datagalax mint create`"),
    ("ParameterOutOfBounds", "A parameter is out of its bounds", "Compare each parameter with its range in `datagalax network init --help`"),
    ("WindowsDoNotFit", "The windows do not fit the epoch's length", "Make the epoch longer or the windows shorter: lead and reveals under half an epoch, cases at least 8 epochs, unbonding 4 more"),
    ("NotStarted", "The first epoch has not started yet", "Wait until the start that `datagalax network show` gives"),
    ("Paused", "The network is paused", "Wait until the guardian or the authority ends the pause"),
    ("WrongAccount", "This is not the account the network names here", "Check that program and client have the same version and --url names the right cluster"),
    ("BadAmount", "The amount must be above zero and at most 2^56 base units", "Give an amount in that range"),
    ("ClassTooHeavy", "The class's weight exceeds its share of reference throughput", "Lower the weight or raise the reference throughput"),
    ("ClassInactive", "The class takes no new containers", "Choose an active class from `datagalax class list`"),
    ("StakeTooLow", "Not enough free stake: stake more first", "Add stake with `datagalax provider stake`"),
    ("BlockNotFull", "The block is not at its full length yet: grow it first", "Run `datagalax block create` again: it goes on where it stopped"),
    ("BlockFull", "The block has its full length already", "Nothing is left to grow: go on"),
    ("FreeRowsLeft", "There are free rows: register in a block that has one", "Register the container; a new block comes only when all are full"),
    ("NoFreeRow", "The block has no free row: name another block", "Create a block with `datagalax block create`"),
    ("BadEndpoint", "The endpoint must be 1 to 128 bytes of UTF-8", "Give a shorter URL, such as http://host:port"),
    ("BadContainer", "A field of the container is out of its range", "Check units (1 to 255), latitude (-90 to 90) and longitude (-180 to 180)"),
    ("BadTicketCount", "The number of tickets must be 1 to 200 a call, and the set holds at most 150,000", "Ask for fewer tickets at a time"),
    ("WrongEpoch", "The epoch is not the one the clock is in", "Try again: the epoch turned meanwhile"),
    ("NotAdvanced", "The network has not advanced to an epoch yet: advance first", "Start a keeper, or wait until one has advanced the epoch"),
    ("AlreadyAdvanced", "The epoch was advanced to already", "Nothing to do: somebody was faster"),
    ("ChurnPending", "Churn has tickets to let in first", "Run churn, then draw: a keeper does both"),
    ("NothingToChurn", "Nothing is left to churn at this boundary", "Nothing to do: go on"),
    ("AlreadyDrawn", "The epoch was drawn already", "Nothing to do: somebody was faster"),
    ("TooEarlyToDraw", "The draw slot has not passed yet: try again in a moment", "Wait a few slots"),
    ("EpochVoid", "The epoch was not drawn in its first quarter: it is void", "Wait for the next epoch, and keep a keeper running"),
    ("NotDrawn", "The epoch is not drawn yet", "Start a keeper, or wait until one has drawn the epoch"),
    ("AlreadySeated", "The block has a committee for this epoch already", "Nothing to do: somebody was faster"),
    ("NotSeated", "The block has no committee for this epoch", "Start a keeper, or wait until one has seated the block"),
    ("BlockEmpty", "The block has no container that was present for the whole epoch", "Nothing to do until a container was registered for a whole epoch"),
    ("NoSuchSeat", "The seat does not exist or is empty", "Compute the seats again from the epoch's seed"),
    ("OutsideCommitWindow", "Commits are taken from the draw until the epoch's end", "Report in the next epoch, and send earlier"),
    ("EmptyCommitment", "A commitment of zeros is not one", "Hash the report and its salt first"),
    ("CheckerRequired", "The first commit of a seat must pass its checker account", "Pass the checker's account"),
    ("OutsideRevealWindow", "Reports are revealed only in the window after the epoch's end", "Check this machine's clock; a report that was not revealed in time counts as absent"),
    ("NotCommitted", "This seat committed to nothing", "Commit before the epoch's end"),
    ("AlreadyRevealed", "This seat has revealed already", "Nothing to do: go on"),
    ("CommitmentMismatch", "The report is not the one that was committed to", "Reveal exactly the values, salt and evidence root that were hashed"),
    ("OutsideTallyWindow", "The tally runs from the end of reveals until the end of the next epoch", "Wait for the window; when it has passed, the epoch is lost for this block"),
    ("AlreadyTallied", "The block was tallied for this epoch already", "Nothing to do: somebody was faster"),
    ("NoRows", "Name at least one row", "Give the rows to claim"),
    ("NotYourRow", "A row belongs to another provider", "Leave that row out"),
    ("NothingToPay", "Nothing to pay", "Wait until an epoch was tallied in which something was earned"),
    ("NotYourTicket", "A slot belongs to another checker", "Leave that slot out"),
    ("BadSlotHashes", "The SlotHashes account does not read as one", "Check that the cluster fills the SlotHashes sysvar"),
    ("CurrentEpochRequired", "The network's current epoch account must be passed", "Try again: the epoch turned meanwhile"),
    ("PreviousEpochRequired", "The epoch before must be passed, because its reservation is not released yet", "Try again: the network's state changed meanwhile"),
];

/// An error of the program itself.
pub(super) fn datagalax(code: u32) -> Option<Advice> {
    let index = usize::try_from(code.checked_sub(FIRST_CODE)?).ok()?;
    let (name, message, next_step) = *DATAGALAX.get(index)?;
    Some(Advice { name, message, next_step })
}

/// A check that the framework makes for the program.
pub(super) const fn anchor(code: u32) -> Option<Advice> {
    const VERSIONS: &str = "Check that this command and the program have the same version";
    match code {
        2000 => advice("ConstraintMut", "An account must be writable", VERSIONS),
        2001 => advice(
            "ConstraintHasOne",
            "An account does not belong to the one beside it",
            "Name accounts that belong together",
        ),
        2003 => advice(
            "ConstraintRaw",
            "An account does not meet a condition of the instruction",
            "Name the account that the network expects",
        ),
        2005 => advice("ConstraintRentExempt", "An account holds too few lamports to stay", "Give it more SOL"),
        2007 => advice("ConstraintExecutable", "An account must be a program", VERSIONS),
        2012 => advice(
            "ConstraintAddress",
            "An account is not the one that is named there",
            "Name the account that the network expects, or sign with its key",
        ),
        2013 => advice("ConstraintZero", "An account that must be empty is in use", "Use a new account"),
        2019 => advice("ConstraintSpace", "An account has another length than its type", VERSIONS),
        2020 => advice("ConstraintAccountIsNone", "An account that is needed was left out", VERSIONS),
        2040 => advice("ConstraintDuplicateMutableAccount", "One account was passed twice", "Name different accounts"),
        _ => None,
    }
}

/// An error of the token program.
pub(super) const fn token(code: u32) -> Option<Advice> {
    match code {
        0 => advice("NotRentExempt", "The token account holds too few lamports to stay", "Give the payer more SOL"),
        1 => advice(
            "InsufficientFunds",
            "The token account holds less ATH than that",
            "Use a smaller amount, or fund the wallet first",
        ),
        3 => advice(
            "MintMismatch",
            "The token account is of another mint",
            "Use the mint that `datagalax network show` names",
        ),
        4 => advice(
            "OwnerMismatch",
            "The key does not own that token account or mint",
            "Sign with its owner's key (for minting: the mint authority's)",
        ),
        5 => advice(
            "FixedSupply",
            "The mint's supply is fixed",
            "Nothing can be minted any more: transfer from a wallet that holds some",
        ),
        6 => advice("AlreadyInUse", "The account is in use already", "Use a new key for a new mint"),
        17 => advice("AccountFrozen", "The token account is frozen", "Ask the mint's freeze authority"),
        _ => None,
    }
}

/// An error of the system program.
pub(super) const fn system(code: u32) -> Option<Advice> {
    match code {
        0 => advice("AccountAlreadyInUse", "The account exists already", "Nothing to create: go on, or name another"),
        1 => advice(
            "ResultWithNegativeLamports",
            "The payer has too little SOL for rent and fees",
            "Send it SOL (on a local network: `solana airdrop`)",
        ),
        _ => None,
    }
}

/// What the runtime refuses within an instruction.
pub(super) const fn instruction(error: &InstructionError) -> Option<Advice> {
    const VERSIONS: &str = "Check that this command and the program have the same version";
    match error {
        InstructionError::MissingRequiredSignature => advice(
            "MissingRequiredSignature",
            "A signature is missing",
            "Sign with the key that the account names (--keypair)",
        ),
        InstructionError::InvalidSeeds => {
            advice("InvalidSeeds", "An account is not at the address that its seeds give", VERSIONS)
        }
        InstructionError::MissingAccount => advice("MissingAccount", "An account is missing from the instruction", VERSIONS),
        InstructionError::InvalidInstructionData => {
            advice("InvalidInstructionData", "The program does not understand this instruction", VERSIONS)
        }
        InstructionError::IncorrectProgramId => {
            advice("IncorrectProgramId", "The instruction went to another program than it is for", VERSIONS)
        }
        InstructionError::InvalidAccountOwner | InstructionError::IllegalOwner => advice(
            "IllegalOwner",
            "An account belongs to another program than it should",
            "Check that it was created, and on this cluster",
        ),
        InstructionError::UninitializedAccount => advice(
            "UninitializedAccount",
            "An account was not created yet",
            "Create it first; for the network itself: `datagalax network init`",
        ),
        InstructionError::AccountAlreadyInitialized => {
            advice("AccountAlreadyInitialized", "The account exists already", "Nothing to create: go on, or name another")
        }
        InstructionError::InsufficientFunds => advice(
            "InsufficientFunds",
            "An account holds too little SOL",
            "Send the payer SOL (on a local network: `solana airdrop`)",
        ),
        InstructionError::ComputationalBudgetExceeded => advice(
            "ComputationalBudgetExceeded",
            "The transaction needs more compute units than a transaction may use",
            "Do less in one transaction: fewer rows or tickets",
        ),
        _ => None,
    }
}

/// What the runtime refuses before any instruction.
pub(super) const fn transaction(error: &TransactionError) -> Option<Advice> {
    match error {
        TransactionError::AccountNotFound
        | TransactionError::InsufficientFundsForFee
        | TransactionError::InsufficientFundsForRent { .. } => advice(
            "InsufficientFunds",
            "The fee payer has too little SOL",
            "Send it SOL (on a local network: `solana airdrop`)",
        ),
        TransactionError::ProgramAccountNotFound | TransactionError::InvalidProgramForExecution => advice(
            "ProgramNotFound",
            "The program is not deployed on this cluster",
            "Check --url, and deploy the program first",
        ),
        TransactionError::BlockhashNotFound => {
            advice("BlockhashNotFound", "The node does not know the blockhash", "Try again: the node may lag behind")
        }
        TransactionError::SignatureFailure => {
            advice("SignatureFailure", "A signature does not verify", "Check the keypair files")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_program_says() {
        let source = include_str!("../../../../programs/datagalax/src/error.rs");
        let mut declared = Vec::new();
        let mut message = None;
        for line in source.lines().map(str::trim) {
            if let Some(text) = line.strip_prefix("#[msg(\"").and_then(|l| l.strip_suffix("\")]")) {
                message = Some(text);
            } else if let (Some(name), Some(text)) = (line.strip_suffix(','), message.take()) {
                declared.push((name, text));
            }
        }
        let known: Vec<_> = DATAGALAX.iter().map(|(name, message, _)| (*name, *message)).collect();
        assert_eq!(known, declared, "refusal/table.rs must list the errors of the program in their order");
    }

    #[test]
    fn every_next_step_is_a_sentence_without_its_full_stop() {
        for (name, message, next_step) in DATAGALAX {
            assert!(next_step.starts_with(|c: char| c.is_uppercase()) && !next_step.ends_with('.'), "{name}: {next_step}");
            assert!(!message.ends_with('.'), "{name}: {message}");
        }
    }
}
