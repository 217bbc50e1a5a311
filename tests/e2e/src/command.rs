//! The `datagalax` command, as the people of a run would use it.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::Deployment;

/// The command line of a run's people: every key of the run's folder by its name.
#[derive(Clone, Debug)]
pub struct CommandLine {
    binary: PathBuf,
    rpc: String,
    ws: String,
    folder: PathBuf,
}

impl CommandLine {
    /// The command with somebody's key and what every call has in common.
    fn call(&self, key: &str, options: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(options).args(["--rpc", &self.rpc, "--ws", &self.ws]).arg("--keypair").arg(self.key(key));
        command.arg("--pending").arg(self.folder.join("command-pending"));
        command.arg("--leases").arg(self.folder.join("command-leases")).args(arguments);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// The file of a key.
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// Runs it and reads its JSON.
    ///
    /// # Errors
    /// The command failed, with what it said, or did not print JSON.
    pub async fn json(&self, key: &str, arguments: &[&str]) -> Result<Value> {
        let output = self.call(key, &["--output", "json"], arguments).output().await?;
        let command = arguments.join(" ");
        ensure!(
            output.status.success(),
            "`datagalax {command}` failed: {}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`datagalax --output json {command}` did not print JSON"))
    }

    /// Runs it as a person would, to its end, whatever that is.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn text(&self, key: &str, arguments: &[&str]) -> Result<Output> {
        self.call(key, &[], arguments).output().await.context("cannot start the datagalax command")
    }

    /// Starts it as a person would, with its output to be read while it runs.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, key: &str, arguments: &[&str]) -> Result<Child> {
        let mut command = self.call(key, &[], arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start the datagalax command")
    }

    /// A line for a shell that does the same, for people.
    pub fn line(&self, key: &str, arguments: &str) -> String {
        let path = |path: &Path| path.display().to_string();
        format!("{} --rpc {} --keypair {} {arguments}", path(&self.binary), self.rpc, path(&self.key(key)))
    }
}

impl Deployment {
    /// The command line of this run.
    pub fn command_line(&self) -> CommandLine {
        CommandLine {
            binary: self.settings.binaries.join("datagalax"),
            rpc: self.settings.rpc_url(),
            ws: self.settings.ws_url(),
            folder: self.workdir.path().to_owned(),
        }
    }

    /// Runs the `datagalax` command with the key of this name in the run's folder and reads its JSON.
    ///
    /// # Errors
    /// As [`CommandLine::json`].
    pub async fn datagalax(&self, key: &str, arguments: &[&str]) -> Result<Value> {
        self.command_line().json(key, arguments).await
    }
}
