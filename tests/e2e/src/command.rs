//! The `datagalax` command, as the people of a run would use it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::Deployment;

impl Deployment {
    /// Runs the `datagalax` command with the key of this name in the run's folder and reads its JSON.
    ///
    /// # Errors
    /// The command failed, with what it said, or did not print JSON.
    pub async fn datagalax(&self, key: &str, arguments: &[&str]) -> Result<Value> {
        let folder = self.workdir.path();
        let output = Command::new(self.settings.binaries.join("datagalax"))
            .args(["--output", "json", "--rpc", &self.settings.rpc_url(), "--ws", &self.settings.ws_url()])
            .arg("--keypair")
            .arg(folder.join(format!("{key}.json")))
            .arg("--pending")
            .arg(folder.join("command-pending"))
            .args(arguments)
            .output()
            .await
            .context("cannot start the datagalax command")?;
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
}
