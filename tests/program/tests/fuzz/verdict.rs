//! Which answers are refusals, and which are failures of the program.

use datagalax_program_tests::send::ERRORS;
use solana_instruction::error::InstructionError;
use solana_transaction_error::TransactionError;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was done.
    Done,
    /// Refused by name.
    Refused(String),
    /// A panic, a bad access, no more compute, or an answer that has no name.
    Broken(String),
}

/// The runtime's end of a program that signs by seeds which are no address. The network's bump is written once, when it is
/// initialised, and checking it in every payment would cost as much as the payment's own book-keeping: what an impossible bump leads
/// to is left to the runtime, which moves nothing then.
pub const BAD_SEEDS: &str = "BadSignerSeeds";

/// Codes of Anchor's named constraints (2000 to 2506).
const ANCHOR: [u32; 17] =
    [2000, 2001, 2003, 2005, 2007, 2011, 2012, 2013, 2019, 2020, 2040, 2500, 2501, 2502, 2503, 2504, 2505];
/// `TokenError` has 20 variants; the system program's errors are among the first nine.
const TOKEN_ERRORS: u32 = 20;

// The name that the programs' own libraries still give it.
#[allow(deprecated)]
pub fn judge(error: &TransactionError, logs: &[String]) -> Verdict {
    use InstructionError as E;
    let name = format!("{error:?}");
    if logs.iter().any(|l| l.contains("Could not create program address with signer seeds")) {
        return Verdict::Refused(BAD_SEEDS.into());
    }
    let panicked = logs.iter().any(|l| l.contains("panicked") || l.contains("Access violation"));
    let named = match error {
        // What a hostile account's lamports or length lead to after the program, and a fee payer that the call made poor.
        TransactionError::InsufficientFundsForRent { .. } | TransactionError::InvalidAccountForFee => true,
        TransactionError::InstructionError(_, error) => match error {
            E::Custom(code @ 6000..) => {
                return match ERRORS.get(*code as usize - 6000) {
                    Some(known) if !panicked => Verdict::Refused(format!("{known:?}")),
                    _ => Verdict::Broken(name),
                };
            }
            E::Custom(code) => *code < TOKEN_ERRORS || ANCHOR.contains(code),
            E::InvalidArgument
            | E::InvalidInstructionData
            | E::InvalidAccountData
            | E::AccountDataTooSmall
            | E::InsufficientFunds
            | E::IncorrectProgramId
            | E::MissingRequiredSignature
            | E::UninitializedAccount
            | E::NotEnoughAccountKeys
            | E::IllegalOwner
            | E::InvalidSeeds
            | E::MaxSeedLengthExceeded
            | E::InvalidRealloc
            | E::ArithmeticOverflow
            | E::PrivilegeEscalation
            | E::MissingAccount
            | E::ReadonlyLamportChange
            | E::UnbalancedInstruction
            | E::UnsupportedProgramId
            // The legacy token program, about an account of Token-2022 whose mint is the legacy one: there is none outside this test.
            | E::ExternalAccountDataModified
            // The system program, about a payer that is an emptied account of this program.
            | E::ExternalAccountLamportSpend
            | E::AccountNotExecutable => true,
            _ => false,
        },
        _ => false,
    };
    if named && !panicked { Verdict::Refused(name) } else { Verdict::Broken(name) }
}
