//! Compute for money, from a user's command to the last base unit: real daemons, a real chain, real processes. One network for all
//! of it, and everything by the `datagalax` command but what no honest command does.
//!
//! The shortest lease owes 600 s, so what ends by itself needs `DATAGALAX_LONG=1`.

use std::{
    cell::Cell,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use datagalax::{
    error::DatagalaxError,
    state::{Grid, Lease, Row},
};
use datagalax_client::{
    Address, Pipeline, Reader, addresses,
    addresses::Vault,
    clock::read_clock,
    instructions, keys,
    pipeline::{self, MemoryStore, SendError},
};
use datagalax_e2e::{
    Books, Deployment, History, Settings,
    command::CommandLine,
    daemon::Daemon,
    deployment::{ATH, Printed},
    leases::{Bill, Recorder, Terms, User, user::SECONDS},
    settings::Leases,
    until::{until, until_within},
};
use solana_keypair::Keypair;
use solana_signer::Signer;
use tokio::time::sleep;

mod by_command;
mod images;

/// The shortest epochs there are.
const EPOCH: u32 = 20;

/// Each part has users of its own.
const USERS: u32 = 8;

/// Epochs that a busy machine may miss in a row, of a lease that its user can call not served within 300 s.
const MISSED: u32 = 4;

/// A price that no number of seconds and percents divides: every rounding shows.
const PRICE: u64 = 7 * ATH + 654_321;

/// A workload that counts, and says which process it is.
const COUNTER: &str = "echo pid $$; i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.2; done";

/// One container, whoever's agent runs it.
struct Host<'a> {
    container: Address,
    agent: &'a mut Daemon,
    /// Where its workloads lie.
    workloads: PathBuf,
    recorder: &'a Recorder,
}

/// What everybody may look at.
#[derive(Clone)]
struct Chain {
    reader: Reader,
    grid: Grid,
    /// Where its node answers.
    node: SocketAddr,
}

impl Chain {
    async fn now(&self) -> Result<i64> {
        Ok(read_clock(self.reader.rpc().as_ref()).await?.unix_timestamp)
    }

    async fn epoch(&self) -> Result<u32> {
        self.grid.epoch_at(self.now().await?).context("before epoch 0")
    }

    async fn lease(&self, address: &Address) -> Result<Box<Lease>> {
        Ok(self.reader.get::<Lease>(address).await?)
    }

    async fn until_status(&self, address: &Address, status: u8, what: &str) -> Result<Box<Lease>> {
        until(what, || async { Ok(self.lease(address).await?.status == status) }).await?;
        self.lease(address).await
    }

    /// Waits until an epoch is over.
    async fn until_over(&self, epoch: u32) -> Result<()> {
        until(&format!("the end of epoch {epoch}"), || async { Ok(self.epoch().await? > epoch) }).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compute_is_rented_used_and_paid_for() -> Result<()> {
    let leases = Leases::Serve;
    let settings = Settings { epoch_seconds: EPOCH, hosts: 2, users: USERS, leases, ..Settings::of_this_checkout()? }
        .on_free_ports()?;
    let mut net = Deployment::start(settings, &Printed).await?;
    let outcome = everything(&mut net).await;
    if outcome.is_err() {
        println!("{}", net.logs());
    }
    let stopped = net.stop().await;
    outcome.and(stopped)
}

async fn everything(net: &mut Deployment) -> Result<()> {
    let node = ([127, 0, 0, 1], net.settings.rpc_port).into();
    let chain = Chain { reader: net.reader.clone(), grid: net.reader.network().await?.grids[0], node };
    let line = net.command_line();
    let users = (0..USERS).map(|i| User::new(net, &format!("user-{i}"))).collect::<Result<Vec<_>>>()?;
    let operator = |name: &str| keys::load(&line.key(name)).map(Arc::new);
    let operators = [operator("container-operator")?, operator("container-operator-1")?];
    let containers = [net.container, net.more_hosts[0].container];
    for container in &containers {
        let price = format!("{}.{:06}", PRICE / ATH, PRICE % ATH);
        line.json("provider-operator", &["container", "update", &container.to_string(), "--price", &price]).await?;
    }
    let mut recorders = Vec::new();
    for container in &containers {
        let place = net.reader.container(container).await?;
        recorders.push(Recorder::watch(&net.reader, place.block, place.row));
    }
    until("both containers to be live", || async {
        Ok(chain.reader.block(0).await?.rows.iter().filter(|row| row.status == Row::LIVE).count() == 2)
    })
    .await?;

    let leases = all_or_nothing(&chain, &users[0], &containers).await?;
    let folder = net.workdir.workloads().to_owned();
    let [first, second] = [&recorders[0], &recorders[1]];
    let (agent, other) = (&mut net.agent, &mut net.more_hosts[0].agent);
    let mut here = Host { container: containers[0], agent, workloads: folder.join("agent"), recorder: first };
    let mut there = Host { container: containers[1], agent: other, workloads: folder.join("agent-1"), recorder: second };
    let (restarted, died) = tokio::try_join!(
        async {
            let paid = agent_restarts(&chain, &mut here, &users[0], &users[1], &leases[0], &operators[0]).await?;
            never_started(&chain, &mut here, &users[2]).await?;
            Ok::<_, anyhow::Error>(paid)
        },
        host_dies(&chain, &mut there, &users[0], &leases[1]),
    )?;
    paid_out(&chain, &line, &users, &[restarted, died]).await?;
    // One host after the other would take twice as long.
    let (closed_early, ()) = tokio::try_join!(
        async {
            let closed_early = run_to_the_end(&chain, &users[3], &containers[0]).await?;
            by_command::kept(&chain, &here, &users[5]).await?;
            Ok::<_, anyhow::Error>(closed_early)
        },
        async {
            by_command::handed_over_late(&chain, &mut there, &users[6], &users[0]).await?;
            by_command::read_by_a_program(&users[6], &containers[1]).await?;
            images::image_is_run(&mut there, &users[7]).await?;
            by_command::ended_by_its_host(&chain, &line, &there, "container-operator-1", &users[7]).await
        },
    )?;
    if std::env::var_os("DATAGALAX_LONG").is_some() {
        ends_by_itself(&chain, &here, &users[4], &closed_early).await?;
    }
    Books::audit(&chain.reader).await.map(drop)
}

/// Two leases in one transaction: neither is opened when one cannot be, and both by the command.
async fn all_or_nothing(chain: &Chain, user: &User, containers: &[Address; 2]) -> Result<Vec<Address>> {
    let before = user.balance().await?;
    let [dear, cheap] = [PRICE, PRICE - 1];
    let refused = user.open(&[(containers[0], dear), (containers[1], cheap)], 1).await.err().context("both were opened")?;
    let refusal = refused.downcast_ref::<SendError>().with_context(|| format!("{refused:#}"))?;
    ensure!(refusal.is(DatagalaxError::TooDear), "{refusal}");
    for container in containers {
        assert_eq!(chain.reader.container(container).await?.lease, Address::default(), "none is taken");
    }
    assert_eq!(user.balance().await?, before, "nothing is escrowed");
    let leases = user.rent(containers, COUNTER).await?;
    let mut escrowed = 0;
    for (container, address) in containers.iter().zip(&leases) {
        assert_eq!(chain.reader.container(container).await?.lease, *address);
        escrowed += chain.lease(address).await?.escrowed;
    }
    assert_eq!(before - user.balance().await?, escrowed);
    let sent =
        History::read(chain.node).await?.0.into_iter().filter(|one| one.sent.payer == user.address() && one.succeeded);
    let opened: Vec<_> = sent.map(|one| one.sent.actions.len()).collect();
    assert_eq!(opened, [2], "both by one transaction");
    Ok(leases)
}

/// What a workload wrote so far.
async fn output(user: &User, lease: &Address) -> Result<String> {
    let said = user.text(&["lease", "logs", &lease.to_string()]).await?;
    ensure!(said.status.success(), "no logs: {}", String::from_utf8_lossy(&said.stderr));
    Ok(String::from_utf8(said.stdout)?)
}

/// The process that [`COUNTER`] says it is, and how far it counted, every number once.
fn counted(output: &str) -> Result<(u32, usize)> {
    let mut lines = output.lines();
    let pid = lines.next().and_then(|line| line.strip_prefix("pid ")).context("no first line")?.parse()?;
    let mut ticks = 0;
    for line in lines {
        ensure!(line == format!("tick {ticks}"), "tick {ticks} is missing before `{line}`");
        ticks += 1;
    }
    Ok((pid, ticks))
}

/// Waits until the counter got further, and gives what [`counted`] does.
async fn counts_on(user: &User, lease: &Address, from: usize) -> Result<(u32, usize)> {
    let last = Cell::new(None);
    until(&format!("tick {from} and more"), || async {
        // While the agent comes up there are no logs.
        let Ok(output) = output(user, lease).await else { return Ok(false) };
        if output.is_empty() {
            return Ok(false);
        }
        let counted = counted(&output)?;
        last.set(Some(counted));
        Ok(counted.1 > from)
    })
    .await?;
    last.get().context("no logs")
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits until nothing is left of a lease: neither its process nor its files.
async fn until_gone(host: &Host<'_>, lease: &Address, pid: u32) -> Result<()> {
    let named = lease.to_string();
    until("everything of the lease to be gone", || async {
        let left = std::fs::read_dir(&host.workloads)?.filter_map(Result::ok);
        let left = left.filter(|entry| entry.file_name().to_string_lossy().contains(&named)).count();
        Ok(!is_alive(pid) && left == 0)
    })
    .await
}

/// Waits for the keeper to settle a lease to its end, and holds it to the last unit against section 8.
async fn settled(chain: &Chain, recorder: &Recorder, address: &Address) -> Result<Box<Lease>> {
    let lease = chain.until_status(address, Lease::SETTLED, "the keeper to settle the lease").await?;
    let terms = Terms::of(&lease)?;
    let verdicts = match terms.whole_epochs(&chain.grid) {
        Some((first, last)) => recorder.verdicts(first, last).await?,
        None => Default::default(),
    };
    let bill = terms.bill(&chain.grid, &verdicts)?;
    println!("lease {address}: {} s, {verdicts:?}: {bill:?}", terms.ended - terms.started);
    assert_eq!(
        bill,
        Bill { paid: lease.paid, fee: lease.fee, indexer_fee: lease.indexer_fee, refunded: lease.refunded },
        "{terms:?} {verdicts:?}"
    );
    assert_eq!(lease.escrowed, lease.paid + lease.fee + lease.refunded);
    assert_eq!(u128::from(lease.escrowed), terms.escrow());
    Books::audit(&chain.reader).await?;
    Ok(lease)
}

/// The agent is killed while a lease runs and comes back: the workload never noticed, its logs go on where they were, and the bill
/// is that of what was delivered. Meanwhile somebody else wants in, time is bought, and the host claims too much.
async fn agent_restarts(
    chain: &Chain,
    host: &mut Host<'_>,
    user: &User,
    stranger: &User,
    address: &Address,
    operator: &Arc<Keypair>,
) -> Result<Box<Lease>> {
    let started = chain.until_status(address, Lease::STARTED, "the agent to start the lease").await?;
    let (pid, before) = counts_on(user, address, 5).await?;
    host.agent.kill().await?;
    sleep(Duration::from_secs(2)).await;
    ensure!(is_alive(pid), "the workload ended with the agent");
    host.agent.restart()?;
    let (same, _) = counts_on(user, address, before + 10).await?;
    assert_eq!(pid, same);

    let lease = address.to_string();
    let said = user.text(&["lease", "exec", &lease, "--", "sh", "-c", "echo beside it; exit 7"]).await?;
    assert_eq!((said.status.code(), &*String::from_utf8_lossy(&said.stdout)), (Some(7), "beside it\n"));
    let refused = stranger.text(&["lease", "logs", &lease]).await?;
    ensure!(!refused.status.success() && refused.stdout.is_empty(), "a stranger reads the logs: {refused:?}");

    user.json(&["lease", "top-up", &lease, "--for", "10min", "--yes"]).await?;
    let longer = chain.lease(address).await?;
    assert_eq!((longer.max_seconds, longer.end()), (2 * SECONDS, started.end() + i64::from(SECONDS)));
    ensure!(longer.escrowed > started.escrowed, "more time is escrowed");

    chain.until_over(chain.grid.epoch_at(started.started).context("a lease before epoch 0")? + 2).await?;
    lies_about_usage(chain, user, address, operator).await?;
    user.json(&["lease", "close", &lease, "--not-served"]).await?;
    let settled = settled(chain, host.recorder, address).await?;
    ensure!(settled.ended - settled.started >= 2 * i64::from(EPOCH), "it covers whole epochs");
    until_gone(host, address, pid).await?;
    Ok(settled)
}

/// A host's word on usage pays nothing: more than there can have been is refused, the rest stands beside what checkers measured.
async fn lies_about_usage(chain: &Chain, user: &User, address: &Address, operator: &Arc<Keypair>) -> Result<()> {
    let lease = chain.lease(address).await?;
    let store = Arc::new(MemoryStore::default());
    let pipeline = Pipeline::new(chain.reader.rpc().clone(), operator.clone(), store, pipeline::Settings::default());
    let claim = async |gpu_seconds: u64, bytes: u64| {
        let record = instructions::record_usage(&operator.pubkey(), address, &lease, gpu_seconds, 1 << 40, bytes);
        pipeline.send("record usage", &[record], &[]).await
    };
    let refused = claim(u64::from(SECONDS), 1 << 50).await.err().context("600 GPU-seconds were believed")?;
    ensure!(refused.is(DatagalaxError::UsageWentBack), "{refused}");
    let passed = u64::try_from(chain.now().await? - lease.started)?;
    claim(passed, 1 << 50).await?;
    let claimed = chain.lease(address).await?;
    assert_eq!((claimed.usage_gpu_seconds, claimed.usage_bytes), (passed, 1 << 50));
    assert_eq!((claimed.paid, claimed.fee, claimed.escrowed), (lease.paid, lease.fee, lease.escrowed), "it pays nothing");
    let shown = user.json(&["lease", "show", &address.to_string()]).await?;
    let of = |figure: &str, column: &str| {
        let rows = shown["usage"].as_array().into_iter().flatten();
        let row = rows.clone().find(|row| row["figure"] == figure);
        row.and_then(|row| row[column].as_u64()).with_context(|| format!("no {column} of {figure}: {shown}"))
    };
    assert_eq!((of("gpu_seconds", "host_on_chain")?, of("bytes", "host_on_chain")?), (passed, 1 << 50));
    ensure!(of("gpu_seconds", "checkers_measured")? <= passed + u64::from(EPOCH), "{shown}");
    ensure!(shown["epochs"].as_array().is_some_and(|epochs| epochs.len() > 2), "no epochs: {shown}");
    Ok(())
}

/// The host dies half-way through a lease of several epochs and stays dead: what it delivered is paid, the rest goes back, to the
/// last unit. When it comes back it takes away what the lease left.
async fn host_dies(chain: &Chain, host: &mut Host<'_>, user: &User, address: &Address) -> Result<Box<Lease>> {
    let started = chain.until_status(address, Lease::STARTED, "the other agent to start its lease").await?;
    let first = chain.grid.epoch_at(started.started).context("a lease before epoch 0")?;
    let (pid, _) = counts_on(user, address, 1).await?;
    // A whole epoch is served, and half of the next: its tally takes so long. One that a busy machine did not draw in time has none.
    let (mut served, mut good) = (first, None);
    while good.is_none() {
        served += 1;
        ensure!(served <= first + MISSED, "no epoch was drawn in time");
        chain.until_over(served).await?;
        good = host.recorder.verdicts(served, served).await?[&served];
    }
    ensure!(good >= Some(80), "the host served before it died: {good:?}");
    host.agent.kill().await?;
    let died = chain.now().await?;
    let (mut last, mut dead) = (chain.epoch().await?, 0);
    let died_in = last;
    while dead < 2 {
        last += 1;
        ensure!(last <= died_in + 1 + MISSED, "no epoch was drawn in time");
        chain.until_over(last).await?;
        let verdict = host.recorder.verdicts(last, last).await?[&last];
        ensure!(matches!(verdict, None | Some(0)), "nobody was there in epoch {last}: {verdict:?}");
        dead += u32::from(verdict.is_some());
    }
    ensure!(is_alive(pid), "nobody was there to end the workload");
    user.json(&["lease", "close", &address.to_string(), "--not-served"]).await?;
    host.agent.restart()?;

    let settled = settled(chain, host.recorder, address).await?;
    // Two dead epochs went back, and what was never used.
    let price = |seconds: i64| i128::from(PRICE) * i128::from(seconds) / 3_600;
    let (paid, served) = (i128::from(settled.paid), died - settled.started);
    ensure!(paid < price(settled.ended - settled.started - 2 * i64::from(EPOCH)) + 1, "dead epochs were paid: {paid}");
    ensure!(paid >= price(served - i64::from(EPOCH)), "what was served was not paid: {paid} for {served} s");
    assert_eq!((settled.reason, settled.compensation), (Lease::REASON_NOT_SERVED, 0));
    until_gone(host, address, pid).await?;
    Ok(settled)
}

/// A host that takes a lease and never starts it: cancelled by the keeper, everything goes back, the miss is counted.
async fn never_started(chain: &Chain, host: &mut Host<'_>, user: &User) -> Result<()> {
    host.agent.stop().await?;
    host.agent.set("--leases", "leave")?;
    host.agent.restart()?;
    let before = user.balance().await?;
    let address = user.open(&[(host.container, PRICE)], 1).await?[0];
    let cancelled = chain.until_status(&address, Lease::SETTLED, "the keeper to cancel the lease").await?;
    assert_eq!((cancelled.reason, cancelled.refunded), (Lease::REASON_TIMED_OUT, cancelled.escrowed));
    let container = chain.reader.container(&host.container).await?;
    assert_eq!((container.misses, container.lease), (1, Address::default()));
    let said = user.json(&["withdraw", "--account", &address.to_string()]).await?;
    assert_eq!(said["withdrawals"][0]["paid"], cancelled.refunded.to_string(), "{said}");
    assert_eq!(user.balance().await?, before);
    Books::audit(&chain.reader).await?;
    host.agent.stop().await?;
    host.agent.set("--leases", "serve")?;
    host.agent.restart()
}

/// Each party withdraws its own, no more and no less; what remains are fees, which fund rewards.
async fn paid_out(chain: &Chain, line: &CommandLine, users: &[User], leases: &[Box<Lease>]) -> Result<()> {
    let paid: u64 = leases.iter().map(|lease| lease.paid).sum();
    let fees: u64 = leases.iter().map(|lease| lease.fee).sum();
    let said = line.json("provider-operator", &["withdraw"]).await?;
    let income: Vec<_> = said["withdrawals"].as_array().into_iter().flatten().map(|w| (&w["what"], &w["paid"])).collect();
    assert_eq!(income, [(&"income of leases".into(), &paid.to_string().into())], "{said}");
    for lease in leases {
        let before = users[0].balance().await?;
        let address = addresses::lease(&lease.user, lease.nonce).to_string();
        // Anybody may send what is the user's; only the user may close the account within 30 days.
        users[1].json(&["withdraw", "--account", &address]).await?;
        assert_eq!(users[0].balance().await? - before, lease.refunded);
        let stranger = users[1].refused(&["account", "close", &address]).await?;
        ensure!(stranger.contains("Unauthorized"), "{stranger}");
        users[0].json(&["account", "close", &address]).await?;
    }
    assert_eq!(chain.reader.ledger(Vault::Escrow).await?.balance, fees);
    users[1].json(&["network", "sweep", "--vault", "escrow"]).await?;
    assert_eq!(chain.reader.ledger(Vault::Escrow).await?.balance, 0);
    Books::audit(&chain.reader).await.map(drop)
}

/// One command from the offer to the bill: output, exit status, and figures that add up.
async fn run_to_the_end(chain: &Chain, user: &User, container: &Address) -> Result<Address> {
    let (container, length) = (container.to_string(), format!("{SECONDS}s"));
    let script = "echo to stdout; echo to stderr >&2; exit 3";
    let arguments = ["run", "--container", &container, "--for", &length, "--yes", "--", "sh", "-c", script];
    let said = user.text(&arguments).await?;
    let (stdout, stderr) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    println!("{stdout}\n{stderr}");
    assert_eq!(said.status.code(), Some(3), "{stdout}\n{stderr}");
    ensure!(stdout.contains("to stdout"), "{stdout}\n{stderr}");
    ensure!(stderr.contains("it adds up"), "no bill: {stderr}");
    let (address, lease) = chain.reader.leases_of(&user.address()).await?.into_iter().next().context("no lease")?;
    assert_eq!(lease.reason, Lease::REASON_USER);
    by_command::bill(user, &address).await?;
    Ok(address)
}

/// Longer than everything else here: a lease that nobody ends, and one that its user closed at once.
async fn ends_by_itself(chain: &Chain, host: &Host<'_>, user: &User, closed_early: &Address) -> Result<()> {
    let address = user.rent(&[host.container], COUNTER).await?[0];
    let (pid, _) = counts_on(user, &address, 1).await?;
    let whole = Duration::from_secs(u64::from(SECONDS) + 120);
    until_within(whole, "the escrow to be used up", || async { Ok(chain.lease(&address).await?.status == Lease::SETTLED) })
        .await?;
    let used_up = settled(chain, host.recorder, &address).await?;
    assert_eq!((used_up.reason, used_up.ended - used_up.started), (Lease::REASON_EXHAUSTED, i64::from(SECONDS)));
    until_gone(host, &address, pid).await?;
    // Opened before, and as long.
    let closed = settled(chain, host.recorder, closed_early).await?;
    assert_eq!((closed.reason, closed.ended - closed.started), (Lease::REASON_USER, i64::from(SECONDS)));
    Ok(())
}
