//! One process of the run: started with its log in a file, stopped in order, never left behind.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// How long a daemon gets to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// Lines of its log that a failure shows.
const LOG_LINES: usize = 15;

/// A running process.
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a binary; what it writes to stderr (and stdout, unless `stdout` is asked for) goes to `<name>.log`.
    ///
    /// # Errors
    /// The binary is not there or cannot be started.
    pub fn start(name: &str, binary: &Path, arguments: &[String], folder: &Path, stdout: bool) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(binary);
        command.args(arguments).stdin(Stdio::null()).stderr(file.try_clone()?).current_dir(folder).kill_on_drop(true);
        command.stdout(if stdout { Stdio::piped() } else { file.into() });
        // A group of its own: Ctrl-C reaches this process alone, which then stops the others in order.
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe and touches nothing of this process's memory.
        unsafe {
            command.pre_exec(|| {
                // If this process is killed outright, its daemons end too.
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == 0 {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}: run `cargo xtask demo`, which builds it", binary.display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its standard output, once, if it was asked for.
    pub fn take_stdout(&mut self) -> Option<tokio::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Fails when the process has ended, with the end of its log.
    ///
    /// # Errors
    /// It is not running any more.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}); the end of its log:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Kills it outright, as a crash would.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))
    }

    /// Asks it to end and waits; one that does not within ten seconds is killed.
    ///
    /// # Errors
    /// It had to be killed, or did not end with status 0.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id() {
            // SAFETY: the child is not reaped yet, so the pid is its own.
            unsafe { libc::kill(pid.cast_signed(), libc::SIGTERM) };
        }
        let Ok(ended) = timeout(GRACE, self.child.wait()).await else {
            self.child.kill().await?;
            bail!("{} did not end within {} s and was killed", self.name, GRACE.as_secs());
        };
        let status: ExitStatus = ended?;
        if !status.success() {
            bail!("{} ended with {status}; the end of its log:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }
}
