//! An image on a live network, from a user's command to the bill, in a real engine of this test's own.

// The engine is the one of the runtime's tests, which use more of it.
#[path = "../../../../oracle/runtime/tests/engine/mod.rs"]
#[allow(dead_code, reason = "the runtime's tests use the rest")]
mod engine;

use anyhow::{Context, Result, ensure};
use bollard::query_parameters::ListContainersOptionsBuilder;
use datagalax_e2e::{leases::User, until::until};

use super::{Host, by_command};

/// The host's agent goes over to an engine; a command in an image is leased, run and billed; nothing of it is left. Afterwards the
/// host runs plain processes again.
pub async fn image_is_run(host: &mut Host<'_>, user: &User) -> Result<()> {
    let engine = engine::engine().await;
    host.agent.set("--docker-host", &format!("unix://{}", engine.socket.display()))?;
    runs_by(host, "docker").await?;

    let (container, secret) = (host.container.to_string(), tempfile::NamedTempFile::new()?);
    std::fs::write(secret.path(), "xyzzy\n")?;
    let secret = format!("WORD=@{}", secret.path().display());
    let script = "echo the word is $WORD; touch /outside 2>/dev/null || echo read-only; id -u; exit 4";
    let arguments = [
        "run",
        "--container",
        &container,
        "--for",
        by_command::LENGTH,
        "--yes",
        "--image",
        &engine.image,
        "--secret",
        &secret,
    ];
    let said = user.text(&[&arguments[..], &["--", "sh", "-c", script]].concat()).await?;
    let (stdout, stderr) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    println!("{stdout}\n{stderr}");
    assert_eq!(said.status.code(), Some(4), "{stdout}\n{stderr}");
    assert!(stdout.starts_with("the word is xyzzy\nread-only\n"), "{stdout}\n{stderr}");
    ensure!(stderr.contains("it adds up"), "no bill: {stderr}");

    let listed = user.json(&["lease", "list"]).await?;
    let lease = listed["leases"][0]["lease"].as_str().with_context(|| format!("no lease: {listed}"))?.parse()?;
    by_command::bill(user, &lease).await?;
    until("the engine to have nothing of it", || async {
        let all = ListContainersOptionsBuilder::new().all(true).build();
        Ok(engine.docker.list_containers(Some(all)).await?.is_empty())
    })
    .await?;

    // What the host runs is not what it did: it says so.
    runs_by(host, "process").await?;
    let refused = user.text(&[&arguments[..], &["--", "true"]].concat()).await?;
    let stderr = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(125) && stderr.contains("The host says: "), "{:?}: {stderr}", refused.status);
    Ok(())
}

/// Restarts the agent with another runtime.
async fn runs_by(host: &mut Host<'_>, runtime: &str) -> Result<()> {
    host.agent.stop().await?;
    host.agent.set("--runtime", runtime)?;
    host.agent.restart()
}
