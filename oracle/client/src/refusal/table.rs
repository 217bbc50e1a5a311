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
    ("Paused", "The network is paused", "Wait until the time that `datagalax network show` gives; withdrawals, reports and cases go on meanwhile"),
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
    ("BadTicketCount", "The number of tickets must be 1 to 150 a call, and the set holds at most 150,000", "Ask for fewer tickets at a time"),
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
    ("NothingToPay", "Nothing to pay", "Wait until something was earned, has vested or has unlocked"),
    ("NotYourTicket", "A slot belongs to another checker", "Leave that slot out"),
    ("BadSlotHashes", "The SlotHashes account does not read as one", "Check that the cluster fills the SlotHashes sysvar"),
    ("CurrentEpochRequired", "The network's current epoch account must be passed", "Try again: the epoch turned meanwhile"),
    ("PreviousEpochRequired", "The epoch before must be passed, because its reservation is not released yet", "Try again: the network's state changed meanwhile"),
    ("AlreadyExists", "The account exists already", "Nothing to create: go on, or name another"),
    ("MintExtensionRefused", "The mint has an extension that gives somebody power over other people's tokens; the log names its number", "Use a mint without that extension: metadata pointer, token metadata and group are allowed"),
    ("NothingPending", "Nothing is pending: propose it first", "Propose first: `datagalax network propose` or `datagalax class update`"),
    ("TimeLocked", "The time lock has not run out yet: try again when it has", "Wait until the time that `datagalax network show` or `datagalax class list` gives"),
    ("GridChangePending", "The epoch's lengths changed a moment ago: propose another change two epochs later", "Apply it two epochs after the last change of lengths"),
    ("TooManyVestingTerms", "Eight sets of vesting terms may still be in use: wait until the oldest have vested", "Propose without new vesting terms, or wait up to 180 days"),
    ("GuardianRests", "The guardian paused the network less than 7 days ago: ask the authority", "Let the authority pause the network"),
    ("NotPaused", "The network is not paused", "Nothing to do: go on"),
    ("NotNamed", "Only the key that was named as the next one may accept", "Sign with the key that was named, or let the owner name another"),
    ("TooManyRequests", "All eight requests to unstake are waiting: withdraw one that has unlocked first", "Withdraw unlocked stake with `datagalax withdraw`, or wait until a request unlocks"),
    ("BreakerOpen", "So much left the vault in 24 hours that the circuit breaker is open: try again later", "Withdraw later: what left the vault more than 24 hours ago makes room; for tickets, name fewer"),
    ("ContainerHalted", "The container is halted because it lacks stake: restore it first", "Lock what it lacks with `datagalax provider restore`"),
    ("NotHalted", "The container is not halted", "Nothing to do: go on"),
    ("AlreadyLeaving", "It is leaving already", "Nothing to do: wait until it has left"),
    ("ContainerLeased", "The container has an open or running lease, or one that is not settled: close and settle it first", "Close its lease and let it be settled, then try again"),
    ("ContainerAccused", "A case is pending against the container: it must be closed first", "Wait until the case is closed: `datagalax case close` when its window is over"),
    ("NotLeaving", "The container must be deregistered first, and its last epochs tallied", "Deregister it first, then wait until its last epoch's tally is over"),
    ("BadMaintenance", "Announce maintenance at least 24 hours ahead, of at most 8 hours in 30 days", "Choose a start at least 24 hours ahead and at most 8 hours in 30 days"),
    ("TicketNotInOrder", "A ticket is not in the state for this: only tickets that wait or sit may leave, only removed ones are withdrawn", "See each ticket's state with `datagalax checker show` and name others"),
    ("TicketResting", "A ticket's last epochs are not over, its time has not come, or its pay is not claimed yet", "Claim its pay with `datagalax claim`, and wait until three epochs after its removal and its unlock time"),
    ("NotAccepting", "The container takes no new leases now", "Choose another container from `datagalax offers`, or ask its provider"),
    ("NotLive", "The container is not live: it is being checked or leaving", "Choose another container from `datagalax offers`, or wait until its committees have found it good"),
    ("TooDear", "The container asks more per hour than you allowed", "Allow more with --max-price, or choose another container from `datagalax offers`: its price rose meanwhile"),
    ("BadDuration", "A lease lasts at least 600 seconds, the container's minimum, and at most 366 days", "Ask for a time in that range with --for; `datagalax offers` shows each container's least time"),
    ("WrongLeaseState", "The lease is not in the state for this", "Look at the lease's state with `datagalax lease show`"),
    ("StartTimedOut", "The lease was not started in time: cancel it, everything goes back", "Cancel it with `datagalax lease close`: its user gets everything back"),
    ("StartNotTimedOut", "The host may still start the lease: wait until its time is over", "Wait until the time that `datagalax lease show` gives as `start by`, then close it"),
    ("NotServedTooLate", "A lease is closed as not served within 300 seconds of its start, once a day for each container", "Close it without --not-served: its least time is due, each epoch at its availability"),
    ("LeaseRunning", "The lease still runs: only its user or the container's operator may close it", "Sign with the key of its user or of the container's operator (--keypair), or wait until it is used up"),
    ("NothingToSettle", "Nothing can be settled yet: the epoch is not over or not tallied", "Wait with `datagalax lease settle --wait`, or try again once the epoch is tallied"),
    ("UsageWentBack", "Usage is cumulative and bounded by time: it never falls and never exceeds the clock", "Give figures that are at least the last ones"),
    ("MatchMissing", "The indexer's signature is missing: put the Ed25519 instruction right before this one", "Send the indexer's Ed25519 instruction right before this one"),
    ("MatchMismatch", "The indexer's signature is not for this user, container, lease and moment", "Ask the indexer for a new signature on exactly this match"),
    ("IndexerLeaving", "The indexer is leaving: it matches nobody any more", "Open the lease without an indexer, or through another"),
    ("NotAccused", "No case is pending against the container", "Nothing to do: go on"),
    ("CaseOpen", "The case's window is not over, or its last epochs are not tallied", "Wait until the case's window and the tally of its last epoch are over"),
    ("CaseClosed", "The case is closed already", "Nothing to do: go on"),
    ("NoBreach", "The lease was not breached in two whole epochs in a row, or maintenance had been announced", "Look at the container's history: both epochs must be covered by the lease, tallied and below the threshold"),
    ("BreachedToday", "Stake was taken for a breach within the last day, or for these epochs", "Report later epochs, a day after the last breach"),
    ("TooFewTickets", "No stake is taken while there are fewer than 15 tickets", "Nothing to do while the network is that small"),
    ("NotDone", "The account is still needed: pay out and settle everything first", "Withdraw what it is owed and settle what is open, then close it"),
    ("CaseExists", "Somebody opened a case against the container: close it instead", "Close the case with `datagalax case close`"),
    ("ForeignAccount", "The account belongs to another program than it must", "Check that it was created, was not closed since, and is on this cluster"),
    ("WrongAccountKind", "The account is of another kind than it must be", "Name an account of the kind that the command asks for"),
    ("WrongAccountLength", "The account is cut short, too long, or not grown to its full length yet", "Grow a block with `datagalax block create`; else check that this command and the program have the same version"),
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
