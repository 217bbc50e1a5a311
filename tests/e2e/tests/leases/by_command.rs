//! What a user and a host do with a lease by the command alone: kept and reached by its port, files in and out, handed over late,
//! read by a program, ended early by its host.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use datagalax::state::{Container, Lease};
use datagalax_client::Address;
use datagalax_e2e::{Books, command::CommandLine, leases::User, until::until};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Child,
    time::{sleep, timeout},
};

use super::{Chain, Host, output};

/// How long a command gets for what takes it a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers what it hears on its port. The package comes with `cargo xtask setup`.
const ECHO: &str = "echo it answers; while :; do /bin/busybox nc -l -p $PORT_ECHO -e /bin/busybox cat; done";
/// The least time there is.
pub const LENGTH: &str = "600s";

/// A lease's bill as a program reads it, which must add up.
pub async fn bill(user: &User, lease: &Address) -> Result<Value> {
    let shown = user.json(&["lease", "bill", &lease.to_string()]).await?;
    let bill = &shown["bill"];
    let part = |name: &str| bill[name].as_str().and_then(|text| text.parse::<u64>().ok()).context(name.to_owned());
    assert_eq!(part("escrowed")?, part("paid")? + part("fee")? + part("refunded")? + part("held")?, "{shown}");
    assert_eq!((part("escrowed")?, &bill["adds_up"]), (user.lease(lease).await?.escrowed, &true.into()), "{shown}");
    Ok(bill.clone())
}

/// The one lease of this user that is not over.
async fn open_lease(chain: &Chain, user: &User) -> Result<Option<Address>> {
    let mine = chain.reader.leases_of(&user.address()).await?.into_iter();
    Ok(mine.filter(|(_, lease)| matches!(lease.status, Lease::OPEN | Lease::STARTED)).map(|(address, _)| address).next())
}

/// `run --keep --forward`: the workload's port on this machine while the command is there, and the lease when Ctrl-C ended it.
pub async fn kept(chain: &Chain, host: &Host<'_>, user: &User) -> Result<()> {
    let container = host.container.to_string();
    let arguments = ["--container", &container, "--for", LENGTH, "--yes", "--keep", "--port", "ECHO", "--forward", "ECHO"];
    let mut run = user.start(&[&["run"], &arguments[..], &["--", "sh", "-c", ECHO]].concat())?;
    let mut said = BufReader::new(run.stderr.take().context("its errors are piped")?).lines();
    let mut heard = String::new();
    let at: SocketAddr = timeout(PATIENCE, async {
        loop {
            let line = said.next_line().await?.with_context(|| format!("it ended: {heard}"))?;
            heard += &format!("{line}\n");
            if let Some((_, at)) = line.split_once("port ECHO of the workload is at ") {
                return Ok::<_, anyhow::Error>(at.parse()?);
            }
        }
    })
    .await
    .with_context(|| format!("no port within {} s: {heard}", PATIENCE.as_secs()))??;
    let lease = open_lease(chain, user).await?.context("it has a lease")?;
    timeout(PATIENCE, echoed(at, b"through the tunnel")).await.context("the port does not answer")?;

    ctrl_c(&run);
    let status = timeout(PATIENCE, run.wait()).await.context("Ctrl-C does not end it")??;
    while let Some(line) = said.next_line().await? {
        heard += &format!("{line}\n");
    }
    ensure!(status.code() == Some(130) && heard.contains("The lease goes on"), "{status}: {heard}");
    assert_eq!(user.lease(&lease).await?.status, Lease::STARTED);
    ensure!(TcpStream::connect(at).await.is_err(), "the command is gone and its port is not");

    let name = lease.to_string();
    let ports = user.json(&["lease", "ports", &name]).await?;
    assert_eq!(ports["ports"][0]["name"], "ECHO", "{ports}");
    ensure!(output(user, &lease).await?.starts_with("it answers\n"), "its output is there");
    files(user, &name).await?;
    let closed = user.json(&["lease", "close", &name]).await?;
    assert_eq!(closed["bill"]["ended_because"], "closed by its user", "{closed}");
    bill(user, &lease).await.map(drop)
}

/// Files in and out, byte for byte; one that is not there leaves nothing.
async fn files(user: &User, lease: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let here = |name: &str| folder.path().join(name).display().to_string();
    let bytes: Vec<u8> = (0..100_000u32).flat_map(|i| i.wrapping_mul(i).to_le_bytes()).collect();
    std::fs::write(here("in"), &bytes)?;
    user.json(&["lease", "cp", &here("in"), &format!("{lease}:data.bin")]).await?;
    let counted = user.text(&["lease", "exec", lease, "--", "sh", "-c", "wc -c < data.bin"]).await?;
    assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), bytes.len().to_string());
    user.json(&["lease", "cp", &format!("{lease}:data.bin"), &here("out")]).await?;
    ensure!(std::fs::read(here("out"))? == bytes, "it came back changed");
    user.refused(&["lease", "cp", &format!("{lease}:nothing"), &here("nothing")]).await?;
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 2, "half a file was left");
    Ok(())
}

/// Until what was said comes back: it listens a moment after it says so.
async fn echoed(at: SocketAddr, said: &[u8]) {
    let ask = async || {
        let mut port = TcpStream::connect(at).await.ok()?;
        port.write_all(said).await.ok()?;
        let mut heard = vec![0; said.len()];
        port.read_exact(&mut heard).await.ok()?;
        (heard == said).then_some(())
    };
    while ask().await.is_none() {
        sleep(Duration::from_millis(100)).await;
    }
}

fn ctrl_c(child: &Child) {
    if let Some(pid) = child.id() {
        // SAFETY: the child is not reaped yet, so the pid is its own.
        unsafe { libc::kill(pid.cast_signed(), libc::SIGINT) };
    }
}

/// The user's command dies between opening the lease and handing the workload over, while the agent is away; later only the user
/// can hand it over, from what the command kept.
pub async fn handed_over_late(chain: &Chain, host: &mut Host<'_>, user: &User, stranger: &User) -> Result<()> {
    // It was away for whole epochs before: committees must find it good again.
    let row = usize::from(chain.reader.container(&host.container).await?.row);
    until("the container to be live", || async { Ok(chain.reader.block(0).await?.rows[row].is_live()) }).await?;
    host.agent.kill().await?;
    let container = host.container.to_string();
    let mut rent = user.start(&[
        "rent",
        "--container",
        &container,
        "--for",
        LENGTH,
        "--yes",
        "--",
        "sh",
        "-c",
        "echo late; sleep 600",
    ])?;
    let opened = until("the lease to be open", || async { Ok(open_lease(chain, user).await?.is_some()) });
    let mut said = rent.stderr.take().context("its errors are piped")?;
    tokio::select! {
        opened = opened => opened?,
        ended = rent.wait() => {
            let mut text = String::new();
            said.read_to_string(&mut text).await?;
            bail!("it ended before it opened a lease: {}: {text}", ended?);
        }
    }
    rent.kill().await?;
    let lease = open_lease(chain, user).await?.context("it has a lease")?;
    assert_eq!(user.lease(&lease).await?.status, Lease::OPEN, "nobody was there to start it");
    host.agent.restart()?;

    let name = lease.to_string();
    let refused = stranger.refused(&["lease", "hand-over", &name]).await?;
    ensure!(refused.contains(&user.address().to_string()), "it does not name the user: {refused}");
    let said = user.json(&["lease", "hand-over", &name]).await?;
    assert_eq!(user.lease(&lease).await?.status, Lease::STARTED, "{said}");
    until("its output", || async { Ok(output(user, &lease).await.is_ok_and(|output| output == "late\n")) }).await?;
    user.json(&["lease", "close", &name]).await?;
    bill(user, &lease).await.map(drop)
}

/// `run --output json`: the workload's output alone on standard output, one document on standard error.
pub async fn read_by_a_program(user: &User, container: &Address) -> Result<()> {
    let container = container.to_string();
    let arguments = ["--output", "json", "run", "--container", &container, "--for", LENGTH, "--yes", "--"];
    let said = user.text(&[&arguments[..], &["sh", "-c", "echo out; echo err >&2; exit 5"]].concat()).await?;
    let (stdout, stderr) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.status.code(), Some(5), "{stdout}\n{stderr}");
    let mut lines: Vec<&str> = stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
    let document: Value = serde_json::from_str(&stderr).with_context(|| format!("no JSON: {stderr}"))?;
    assert_eq!(
        (&document["bill"]["ended_because"], &document["bill"]["adds_up"]),
        (&"closed by its user".into(), &true.into())
    );
    let lease = document["bill"]["lease"].as_str().context("no lease")?.parse()?;
    bill(user, &lease).await.map(drop)
}

/// The host ends a lease early: asked before it pays, then the user has an epoch's price out of its stake, and it is halted.
pub async fn ended_by_its_host(
    chain: &Chain,
    line: &CommandLine,
    host: &Host<'_>,
    operator: &str,
    user: &User,
) -> Result<()> {
    let lease = user.rent(&[host.container], "sleep 600").await?[0];
    let name = lease.to_string();
    let asked = line.json(operator, &["lease", "close", &name]).await.err().context("it was not asked")?;
    let asked = format!("{asked:#}");
    ensure!(asked.contains("out of the container's stake") && asked.contains("--yes"), "{asked}");
    assert_eq!(user.lease(&lease).await?.status, Lease::STARTED, "nothing was sent");

    let before = chain.reader.container(&host.container).await?.locked_stake;
    line.json(operator, &["lease", "close", &name, "--yes"]).await?;
    let closed = user.lease(&lease).await?;
    let length = chain.grid.length;
    let price = closed.bill().epoch_price(length).ok().context("a price")?;
    assert_eq!((closed.reason, closed.compensation), (Lease::REASON_PROVIDER, price));
    let container = chain.reader.container(&host.container).await?;
    assert_eq!(before - container.locked_stake, price);
    assert_eq!(container.halt_reason, Container::HALT_CLOSED_EARLY);

    // The user's, whatever the lease itself comes to.
    let balance = user.balance().await?;
    let paid = user.json(&["withdraw", "--account", &name]).await?;
    ensure!(user.balance().await? - balance >= price, "{paid}");
    until("the lease to be settled", || async { Ok(user.lease(&lease).await?.status == Lease::SETTLED) }).await?;
    assert_eq!(bill(user, &lease).await?["compensation"], price.to_string());
    Books::audit(&chain.reader).await.map(drop)
}
