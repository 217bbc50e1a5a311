//! The command line: what may be asked for, its defaults and its bounds.

use std::{path::PathBuf, str::FromStr};

use clap::Parser;
use solana_pubkey::Pubkey;

/// Lamports in one SOL.
const LAMPORTS_PER_SOL: u64 = 1_000_000_000;

/// Decimals of one SOL.
const SOL_DECIMALS: usize = 9;

/// The most all `--fund` together may hand out, in lamports: 900,000 SOL. Surfpool's faucet starts with 1,000,000 SOL, and
/// the rest is left for `requestAirdrop`.
pub const MAX_FUNDED_LAMPORTS: u64 = 900_000 * LAMPORTS_PER_SOL;

/// The least one `--fund` may give, in lamports: the rent-exempt minimum of an account without data. The runtime would
/// drop an account below it.
pub const MIN_FUNDED_LAMPORTS: u64 = 890_880;

/// The local Solana network of Datagalax: JSON-RPC and WebSocket on this machine only, in memory, no network access.
#[derive(Debug, Parser)]
#[command(name = "datagalax-localnet", version)]
pub struct Settings {
    /// JSON-RPC port on 127.0.0.1; the WebSocket takes the port after it
    #[arg(long, value_name = "PORT", default_value_t = 8899, value_parser = clap::value_parser!(u16).range(1..=65_534))]
    pub port: u16,

    /// Load a program at start; may be repeated
    #[arg(long = "program", value_name = "ID=PATH.so")]
    pub programs: Vec<ProgramFile>,

    /// Upgrade authority of the loaded programs; without it they are final
    #[arg(long, value_name = "PUBKEY", requires = "programs")]
    pub upgrade_authority: Option<Pubkey>,

    /// Give an account SOL at start; may be repeated
    #[arg(long = "fund", value_name = "PUBKEY=SOL")]
    pub funds: Vec<Funding>,

    /// Time between two slots in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 400, value_parser = clap::value_parser!(u64).range(20..=10_000))]
    pub slot_time_ms: u64,

    /// Say that the network is ready in one line of JSON instead of text
    #[arg(long)]
    pub json: bool,

    /// Stop when the parent process ends. Give the parent's own process id to be safe from a parent that dies while this
    /// process starts
    #[arg(long, value_name = "PID", num_args = 0..=1, value_parser = clap::value_parser!(u32).range(1..))]
    pub exit_with_parent: Option<Option<u32>>,

    /// Log what the network does to stderr
    #[arg(long, short)]
    pub verbose: bool,
}

impl Settings {
    /// Checks what a single argument cannot tell: repeated keys and the total of the funds.
    ///
    /// # Errors
    /// A sentence that names the argument and says what to do.
    pub fn check(&self) -> Result<(), String> {
        for (index, program) in self.programs.iter().enumerate() {
            if self.programs[..index].iter().any(|p| p.id == program.id) {
                return Err(format!("--program names {} twice; give each program id once", program.id));
            }
        }
        let mut total = 0u64;
        for (index, fund) in self.funds.iter().enumerate() {
            if self.funds[..index].iter().any(|f| f.account == fund.account) {
                return Err(format!("--fund names {} twice; give each account once, with the whole amount", fund.account));
            }
            total = total.saturating_add(fund.lamports);
        }
        if total > MAX_FUNDED_LAMPORTS {
            return Err(format!(
                "--fund adds up to more than {} SOL, which is all the faucet gives at start; ask for less",
                MAX_FUNDED_LAMPORTS / LAMPORTS_PER_SOL
            ));
        }
        Ok(())
    }
}

/// One `--program ID=PATH.so`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFile {
    /// The address the program gets.
    pub id: Pubkey,
    /// The ELF file with its bytecode.
    pub path: PathBuf,
}

impl FromStr for ProgramFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, path) = text.split_once('=').ok_or("expected ID=PATH.so")?;
        if path.is_empty() {
            return Err("the path after `=` is empty; expected ID=PATH.so".into());
        }
        Ok(Self { id: pubkey(id)?, path: path.into() })
    }
}

/// One `--fund PUBKEY=SOL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Funding {
    /// The account that is given the amount.
    pub account: Pubkey,
    /// How much, in lamports.
    pub lamports: u64,
}

impl FromStr for Funding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (account, sol) = text.split_once('=').ok_or("expected PUBKEY=SOL")?;
        let lamports = lamports(sol)?;
        if lamports < MIN_FUNDED_LAMPORTS {
            return Err(format!("`{sol}` SOL is less than the rent-exempt minimum of 0.00089088 SOL; give more"));
        }
        Ok(Self { account: pubkey(account)?, lamports })
    }
}

fn pubkey(text: &str) -> Result<Pubkey, String> {
    text.parse().map_err(|e| format!("`{text}` is not a base58 address of 32 bytes: {e}"))
}

/// Reads a decimal amount of SOL without rounding: at most nine decimals, no sign, no exponent.
fn lamports(sol: &str) -> Result<u64, String> {
    let refuse = || format!("`{sol}` is not an amount of SOL; write for example 10 or 0.5, with at most nine decimals");
    let (whole, fraction) = sol.split_once('.').unwrap_or((sol, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > SOL_DECIMALS {
        return Err(refuse());
    }
    let whole: u64 = whole.parse().map_err(|_| refuse())?;
    let fraction: u64 = format!("{fraction:0<SOL_DECIMALS$}").parse().map_err(|_| refuse())?;
    whole.checked_mul(LAMPORTS_PER_SOL).and_then(|l| l.checked_add(fraction)).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const KEY: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";

    fn parse(arguments: &[&str]) -> Result<Settings, String> {
        let settings = Settings::try_parse_from([&["datagalax-localnet"], arguments].concat()).map_err(|e| e.to_string())?;
        settings.check().map(|()| settings)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Settings::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_solana() {
        let settings = parse(&[]).unwrap();
        assert_eq!((settings.port, settings.slot_time_ms), (8899, 400));
        assert_eq!(settings.exit_with_parent, None);
    }

    #[test]
    fn sol_is_read_exactly() {
        assert_eq!(lamports("1"), Ok(1_000_000_000));
        assert_eq!(lamports("0.000000001"), Ok(1));
        assert_eq!(lamports("1234.5"), Ok(1_234_500_000_000));
        assert_eq!(lamports("18446744073.709551615"), Ok(u64::MAX));
        for bad in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.0000000001", "18446744073.709551616", "1,5", " 1"] {
            assert!(lamports(bad).is_err(), "{bad:?} was read as an amount");
        }
    }

    #[test]
    fn bad_arguments_are_refused() {
        for bad in [
            vec!["--port", "0"],
            vec!["--port", "65535"],
            vec!["--slot-time-ms", "19"],
            vec!["--slot-time-ms", "10001"],
            vec!["--program", KEY],
            vec!["--program", "abc=program.so"],
            vec!["--fund", KEY],
            vec!["--exit-with-parent", "0"],
            vec!["--upgrade-authority", KEY],
            vec!["stray"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?} was accepted");
        }
        let empty_path = format!("{KEY}=");
        assert!(parse(&["--program", &empty_path]).is_err());
    }

    #[test]
    fn repeated_keys_and_too_much_sol_are_refused() {
        let (program, fund) = (format!("{KEY}=a.so"), format!("{KEY}=1"));
        assert!(parse(&["--program", &program, "--program", &program]).unwrap_err().contains("twice"));
        assert!(parse(&["--fund", &fund, "--fund", &fund]).unwrap_err().contains("twice"));
        assert!(parse(&["--fund", &format!("{KEY}=900000")]).is_ok());
        assert!(parse(&["--fund", &format!("{KEY}=900000.000000001")]).unwrap_err().contains("900000 SOL"));
        assert!(parse(&["--fund", &format!("{KEY}=0.000890879")]).unwrap_err().contains("rent-exempt"));
    }

    #[test]
    fn the_parent_is_optional() {
        assert_eq!(parse(&["--exit-with-parent"]).unwrap().exit_with_parent, Some(None));
        assert_eq!(parse(&["--exit-with-parent", "7", "--json"]).unwrap().exit_with_parent, Some(Some(7)));
    }
}
