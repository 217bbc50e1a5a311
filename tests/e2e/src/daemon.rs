//! One process of the run: started with its log in a file, stopped in order, never left behind.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// How long a daemon gets to end by itself.
const GRACE: Duration = Duration::from_secs(30);
/// Lines of its log that a failure shows.
const LOG_LINES: usize = 30;

/// A process of the run, and how to start it again.
pub struct Daemon {
    name: String,
    binary: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Starts a binary in `folder`; all it says goes to `<name>.log` there.
    ///
    /// # Errors
    /// The binary is not there or cannot be started.
    pub fn start(name: &str, binary: &Path, arguments: &[String], folder: &Path) -> Result<Self> {
        let mut daemon = Self::prepared(name, binary, arguments, folder);
        daemon.spawn(false)?;
        Ok(daemon)
    }

    /// As [`Self::start`], and hands out its standard output.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_talking(name: &str, binary: &Path, arguments: &[String], folder: &Path) -> Result<(Self, ChildStdout)> {
        let mut daemon = Self::prepared(name, binary, arguments, folder);
        daemon.spawn(true)?;
        let stdout = daemon.child.as_mut().and_then(|c| c.stdout.take()).context("its output is not captured")?;
        Ok((daemon, stdout))
    }

    fn prepared(name: &str, binary: &Path, arguments: &[String], folder: &Path) -> Self {
        let (name, binary, folder) = (name.to_owned(), binary.to_owned(), folder.to_owned());
        Self { name, binary, arguments: arguments.to_vec(), folder, child: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it again after [`Self::kill`], with the same arguments and in the same folder; the log goes on.
    ///
    /// # Errors
    /// It runs, or cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} is running", self.name);
        self.spawn(false)
    }

    /// Gives an option another value from the next start on.
    ///
    /// # Errors
    /// It was not started with this option.
    pub fn set(&mut self, option: &str, value: &str) -> Result<()> {
        let at = self.arguments.iter().position(|argument| argument == option);
        let old = at.and_then(|at| self.arguments.get_mut(at + 1));
        *old.with_context(|| format!("{} has no {option}", self.name))? = value.to_owned();
        Ok(())
    }

    fn spawn(&mut self, stdout: bool) -> Result<()> {
        let log = self.log();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).stdin(Stdio::null()).stderr(file.try_clone()?).current_dir(&self.folder);
        command.stdout(if stdout { Stdio::piped() } else { file.into() }).kill_on_drop(true);
        // A group of its own: Ctrl-C reaches this process alone, which then stops the others in order.
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe and touches nothing of this process's memory.
        unsafe {
            command.pre_exec(|| {
                // If this process is killed outright, its daemons end too.
                let set = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == 0;
                if set { Ok(()) } else { Err(std::io::Error::last_os_error()) }
            });
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}: run `cargo xtask demo`, which builds it", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// Fails when the process has ended without being killed by [`Self::kill`], with the end of its log.
    ///
    /// # Errors
    /// It is not running any more.
    pub fn check(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            bail!("{} ended ({status}); the end of its log:\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let bytes = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Kills it outright, as a crash would.
    ///
    /// # Errors
    /// It is not running, or the system refuses.
    pub async fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().with_context(|| format!("{} is not running", self.name))?;
        child.kill().await.with_context(|| format!("cannot kill {}", self.name))
    }

    /// Asks it to end and waits; one that does not within half a minute is killed. Nothing happens when it does not run.
    ///
    /// # Errors
    /// It had to be killed, or did not end with status 0.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(pid) = child.id() {
            // SAFETY: the child is not reaped yet, so the pid is its own.
            unsafe { libc::kill(pid.cast_signed(), libc::SIGTERM) };
        }
        let Ok(ended) = timeout(GRACE, child.wait()).await else {
            child.kill().await?;
            bail!("{} did not end within {} s and was killed", self.name, GRACE.as_secs());
        };
        let status = ended?;
        ensure!(status.success(), "{} ended with {status}; the end of its log:\n{}", self.name, self.log_tail());
        Ok(())
    }
}
