//! Refusals in words: what the program, the token program or the runtime said no to, and what to do next.

mod table;

use std::fmt;

use datagalax::error::DatagalaxError;
use solana_instruction::error::InstructionError;
use solana_transaction_error::TransactionError;

use crate::{
    Address,
    addresses::PROGRAM,
    token::{SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
};

/// First code of the program's own errors.
pub const FIRST_CODE: u32 = 6_000;

/// A sentence and a next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The error's name in the code that raises it.
    pub name: &'static str,
    /// What was refused and why.
    pub message: &'static str,
    /// What to do.
    pub next_step: &'static str,
}

/// A transaction that failed, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The runtime's own error.
    pub error: TransactionError,
    /// The program that refused, where it is known.
    pub program: Option<Address>,
    /// The programs' log lines, empty when the transaction had landed.
    pub logs: Vec<String>,
}

impl Refusal {
    /// A refusal of a transaction that calls these programs, one an instruction.
    pub fn new(error: TransactionError, logs: Vec<String>, programs: &[Address]) -> Self {
        let program = failed_program(&logs).or_else(|| match &error {
            TransactionError::InstructionError(index, _) => programs.get(usize::from(*index)).copied(),
            _ => None,
        });
        Self { error, program, logs }
    }

    /// The custom code, of whatever program.
    pub const fn custom_code(&self) -> Option<u32> {
        match self.error {
            TransactionError::InstructionError(_, InstructionError::Custom(code)) => Some(code),
            _ => None,
        }
    }

    /// Whether the Datagalax program refused with this error.
    pub fn is(&self, error: DatagalaxError) -> bool {
        self.custom_code() == Some(FIRST_CODE + error as u32) && self.program.is_none_or(|p| p == PROGRAM)
    }

    /// What is known of this refusal.
    pub fn advice(&self) -> Option<Advice> {
        let (found, code) = match &self.error {
            TransactionError::InstructionError(_, InstructionError::Custom(code)) => (self.custom(*code), Some(*code)),
            TransactionError::InstructionError(_, error) => (table::instruction(error), None),
            error => (table::transaction(error), None),
        };
        let newer = || {
            (self.program == Some(PROGRAM) && code.is_some_and(|c| c >= FIRST_CODE)).then_some(Advice {
                name: "unknown",
                message: "The program refused with an error this version does not know",
                next_step: "Update this command to the version of the program",
            })
        };
        found.or_else(newer)
    }

    fn custom(&self, code: u32) -> Option<Advice> {
        match self.program {
            Some(TOKEN_PROGRAM | TOKEN_2022_PROGRAM) => table::token(code),
            Some(SYSTEM_PROGRAM) => table::system(code),
            Some(PROGRAM) | None => table::datagalax(code).or_else(|| table::anchor(code)),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.advice() {
            Some(Advice { name, message, next_step }) => write!(f, "{message} ({name}). {next_step}.")?,
            None => write!(f, "{}.", self.error)?,
        }
        // Where no table knows the error, the program's own words are all there is.
        if self.advice().is_none()
            && let Some(line) = self.logs.iter().rev().find(|l| l.starts_with("Program log: "))
        {
            write!(f, " It says: {}", line.trim_start_matches("Program log: "))?;
        }
        Ok(())
    }
}

/// The program that failed first, and so is the innermost: the callers fail after it.
fn failed_program(logs: &[String]) -> Option<Address> {
    logs.iter().find_map(|line| {
        let (id, rest) = line.strip_prefix("Program ")?.split_once(' ')?;
        rest.starts_with("failed").then(|| id.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(code: u32, program: Option<Address>) -> Refusal {
        let error = TransactionError::InstructionError(1, InstructionError::Custom(code));
        Refusal { error, program, logs: vec![] }
    }

    #[test]
    fn a_refusal_of_the_program_is_a_sentence_and_a_next_step() {
        let refusal = custom(FIRST_CODE + DatagalaxError::StakeTooLow as u32, Some(PROGRAM));
        assert!(refusal.is(DatagalaxError::StakeTooLow) && !refusal.is(DatagalaxError::Overflow));
        let text = refusal.to_string();
        assert!(text.contains("Not enough free stake") && text.contains("provider stake"), "{text}");
        assert!(custom(6_999, Some(PROGRAM)).to_string().contains("Update this command"));
    }

    #[test]
    fn codes_are_read_by_the_program_that_raised_them() {
        assert!(custom(1, Some(TOKEN_PROGRAM)).to_string().contains("token account"));
        assert!(custom(1, Some(SYSTEM_PROGRAM)).to_string().contains("SOL"));
        assert!(!custom(FIRST_CODE, Some(TOKEN_PROGRAM)).is(DatagalaxError::Overflow));
    }

    #[test]
    fn the_innermost_failed_program_is_found_in_the_logs() {
        let logs = [
            format!("Program {PROGRAM} invoke [1]"),
            format!("Program {TOKEN_PROGRAM} invoke [2]"),
            format!("Program {TOKEN_PROGRAM} failed: custom program error: 0x1"),
            format!("Program {PROGRAM} failed: custom program error: 0x1"),
        ];
        let error = TransactionError::InstructionError(0, InstructionError::Custom(1));
        let refusal = Refusal::new(error.clone(), logs.to_vec(), &[PROGRAM]);
        assert_eq!(refusal.program, Some(TOKEN_PROGRAM));
        assert_eq!(Refusal::new(error, vec![], &[PROGRAM]).program, Some(PROGRAM));
    }
}
