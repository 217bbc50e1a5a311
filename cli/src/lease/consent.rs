//! Asking before money moves.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail, ensure};

/// Asks a question on the terminal; `yes` was given beforehand.
///
/// # Errors
/// The answer is not yes, or there is nobody to ask.
pub fn ask(question: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    ensure!(io::stdin().is_terminal(), "{question} Nobody is there to say yes: add --yes");
    eprint!("{question} [y/N] ");
    io::stderr().flush().context("the question cannot be asked")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("the answer cannot be read")?;
    if !matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        bail!("nothing was sent");
    }
    Ok(())
}
