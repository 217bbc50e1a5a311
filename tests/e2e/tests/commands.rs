//! The command line and the keeper's chores against a running network: government, keys, stake, a container that leaves, and what
//! is paid out to whom.

use std::sync::Mutex;

use anyhow::{Result, bail};
use datagalax::state::{Container, Indexer, Keeper, Row, Ticket};
use datagalax_client::{addresses, clock::read_clock, keys, token};
use datagalax_e2e::{
    Books, Deployment, Settings,
    deployment::{ATH, CLASS, Printed},
    until::until,
};
use serde_json::Value;
use solana_signer::Signer;

async fn now(net: &Deployment) -> Result<i64> {
    Ok(read_clock(net.reader.rpc().as_ref()).await?.unix_timestamp)
}

/// What a command that must be refused says.
async fn refused(net: &Deployment, key: &str, arguments: &[&str]) -> Result<String> {
    match net.datagalax(key, arguments).await {
        Ok(said) => bail!("`datagalax {}` went through: {said}", arguments.join(" ")),
        Err(e) => Ok(format!("{e:#}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_is_governed_and_a_container_leaves() -> Result<()> {
    let settings = Settings { epoch_seconds: 20, ..Settings::of_this_checkout()? }.on_free_ports()?;
    let mut net = Deployment::start(settings, &Printed).await?;
    let outcome = async {
        govern(&net).await?;
        challenge(&net).await?;
        owners(&net).await?;
        leave(&net).await?;
        paid(&net).await?;
        Books::audit(&net.reader).await
    }
    .await;
    if outcome.is_err() {
        println!("logs: {}", net.workdir.keep().display());
    }
    let stopped = net.stop().await;
    outcome.and(stopped)
}

/// Proposals wait for the time lock; a pause stops what it must and can be ended.
async fn govern(net: &Deployment) -> Result<()> {
    let class = CLASS.to_string();
    net.datagalax("authority", &["network", "propose", "--ticket-price", "9"]).await?;
    net.datagalax("authority", &["network", "cancel"]).await?;
    assert_eq!(net.reader.network().await?.pending_at, 0);
    net.datagalax("authority", &["network", "propose", "--ticket-price", "7", "--guardian", &net.payout.to_string()])
        .await?;
    let early = refused(net, "provider-owner", &["network", "apply"]).await?;
    assert!(early.contains("TimeLocked"), "{early}");
    net.datagalax("authority", &["class", "update", &class, "--stake-base", "1"]).await?;
    let stranger = refused(net, "provider-owner", &["network", "pause"]).await?;
    assert!(stranger.contains("Unauthorized"), "{stranger}");

    net.datagalax("authority", &["network", "pause"]).await?;
    let stopped = refused(net, "provider-owner", &["provider", "stake", "0", "1"]).await?;
    assert!(stopped.contains("Paused"), "{stopped}");
    net.datagalax("authority", &["network", "unpause"]).await?;
    net.datagalax("provider-owner", &["provider", "stake", "0", "100"]).await?;
    Ok(())
}

/// An operator challenges its own agent as a checker would, by the container's address and by a URL, and a place where no agent is.
async fn challenge(net: &Deployment) -> Result<()> {
    let container = net.container.to_string();
    let endpoint = net.reader.container(&net.container).await?.endpoint().to_owned();
    for against in [&container, &endpoint] {
        let passed = Mutex::new(Value::Null);
        // While the agent comes up, or its machine is busy, it does not.
        until("the agent to pass", || async {
            let said = net.datagalax("container-operator", &["gpu", "verify", "--against", against]).await;
            Ok(said.map(|said| *passed.lock().expect("nobody panics with it") = said).is_ok())
        })
        .await?;
        let said = passed.into_inner()?;
        let (challenge, score) = (&said["challenge"], &said["score"]);
        assert_eq!((&challenge["container"], &challenge["leased"]), (&container.as_str().into(), &false.into()), "{said}");
        assert_eq!((&score["availability"], &score["dishonest"]), (&100.into(), &false.into()), "{said}");
        assert!(score["capacity"].as_u64().is_some_and(|percent| percent >= 50), "{said}");
        assert!(score["token"].is_u64(), "{said}");
    }
    let line = ["gpu", "verify", "--against", "http://127.0.0.1:9", "--container", &container];
    let nobody = refused(net, "container-operator", &line).await?;
    assert!(nobody.contains("0 of 8 answered") && nobody.contains("start `datagalax-agent` on the host"), "{nobody}");
    Ok(())
}

/// Keys, stake, prices; an indexer from its registration to its account's end.
async fn owners(net: &Deployment) -> Result<()> {
    let container = net.container.to_string();
    net.datagalax("provider-owner", &["provider", "unstake", "0", "40"]).await?;
    let provider = net.reader.provider(0).await?;
    assert_eq!((provider.unbonding, provider.free_stake()), (40 * ATH, 60 * ATH));
    let shown = net.datagalax("provider-owner", &["provider", "show", "0"]).await?;
    assert_eq!(shown["unstaking"][0]["amount"], (40 * ATH).to_string());

    let authority = keys::load(&net.workdir.path().join("authority.json"))?.pubkey();
    net.datagalax("provider-owner", &["provider", "rotate", "0", "--next-owner", &authority.to_string()]).await?;
    let stranger = refused(net, "checker-0", &["provider", "accept", "0"]).await?;
    assert!(stranger.contains("NotNamed"), "{stranger}");
    net.datagalax("authority", &["provider", "accept", "0"]).await?;
    assert_eq!(net.reader.provider(0).await?.owner, authority);

    net.datagalax("provider-operator", &["container", "update", &container, "--price", "2", "--accepting", "false"]).await?;
    let start = now(net).await? + 90_000;
    let line = ["container", "maintenance", &container, "--start", &start.to_string(), "--length", "3600"];
    net.datagalax("provider-operator", &line).await?;
    let changed = net.reader.container(&net.container).await?;
    assert_eq!((changed.price_per_hour, changed.accepting), (2 * ATH, 0));
    assert_eq!((changed.maintenance_start, changed.maintenance_end), (start, start + 3_600));

    net.datagalax("checker-0", &["indexer", "register", "--endpoint", "http://i:1"]).await?;
    net.datagalax("checker-0", &["indexer", "update", "0", "--endpoint", "http://i:2"]).await?;
    let indexer = addresses::indexer(0).to_string();
    net.datagalax("checker-0", &["indexer", "leave", "0"]).await?;
    let shown = net.datagalax("checker-0", &["indexer", "show", "0"]).await?;
    assert_eq!((&shown["indexer"]["status"], &shown["indexer"]["endpoint"]), (&"leaving".into(), &"http://i:2".into()));
    net.datagalax("checker-0", &["account", "close", &indexer]).await?;
    assert!(net.reader.find::<Indexer>(&addresses::indexer(0)).await?.is_none());
    Ok(())
}

/// A ticket leaves at a boundary; a container leaves, and the keeper frees its row by itself.
async fn leave(net: &Deployment) -> Result<()> {
    let container = net.container.to_string();
    net.datagalax("checker-2", &["checker", "leave", "2", "--count", "1"]).await?;
    net.datagalax("authority", &["container", "deregister", &container]).await?;
    let block = net.reader.block(0).await?;
    assert_eq!(block.rows[0].status, Row::LEAVING);
    let early = refused(net, "checker-0", &["container", "vacate", &container]).await?;
    assert!(early.contains("NotLeaving"), "{early}");
    until("the ticket to be out of the order", || async {
        Ok(net.reader.checker_set().await?.tickets.iter().any(|t| t.checker == 2 && t.status == Ticket::REMOVED))
    })
    .await?;
    until("the keeper to vacate the row", || async { Ok(net.reader.find::<Container>(&net.container).await?.is_none()) })
        .await?;
    let provider = net.reader.provider(0).await?;
    assert_eq!((provider.locked, provider.containers), (0, 0));
    assert_eq!(net.reader.network().await?.free_rows, 256);
    // Not unlocked yet: the commands say so and send nothing.
    let said = net.datagalax("checker-2", &["checker", "withdraw-tickets", "2"]).await?;
    assert!(said["notes"][0].as_str().is_some_and(|note| note.starts_with("Nothing to withdraw")), "{said}");
    Ok(())
}

/// The time lock has run out meanwhile; treasury and keeper get theirs, nobody else anything.
async fn paid(net: &Deployment) -> Result<()> {
    let applies = net.reader.network().await?.pending_at.max(net.reader.class(CLASS).await?.pending_at);
    until("the time lock", || async { Ok(now(net).await? >= applies) }).await?;
    net.datagalax("provider-owner", &["network", "apply"]).await?;
    net.datagalax("provider-owner", &["class", "apply", &CLASS.to_string()]).await?;
    let network = net.reader.network().await?;
    assert_eq!((network.parameters.ticket_price, network.guardian), (7 * ATH, net.payout));
    assert_eq!(net.reader.class(CLASS).await?.terms.stake_base, ATH);

    let before = net.reader.token_balance(&network.treasury).await?.unwrap_or(0);
    let owed = network.treasury_due;
    assert!(owed > 0, "epochs were released meanwhile");
    net.datagalax("checker-0", &["network", "treasury"]).await?;
    let after = net.reader.token_balance(&network.treasury).await?.unwrap_or(0);
    assert!(after - before >= owed, "the treasury got {} of {owed}", after - before);

    let keeper = keys::load(&net.workdir.path().join("keeper.json"))?.pubkey();
    let owed = net.reader.get::<Keeper>(&addresses::keeper(&keeper)).await?.due;
    // An advance and a draw an epoch at least, each a hundredth of an ATH.
    assert!(owed >= 2 * ATH / 100, "the keeper is owed {owed}");
    net.datagalax("keeper", &["withdraw"]).await?;
    let wallet = token::home(&keeper, &network);
    assert!(net.reader.token_balance(&wallet).await?.unwrap_or(0) >= owed);

    let said = net.datagalax("checker-0", &["network", "sweep"]).await?;
    assert!(said["notes"][0].as_str().is_some_and(|note| note.starts_with("Nothing to sweep")), "{said}");
    let next = keys::load(&net.workdir.path().join("checker-1.json"))?.pubkey();
    net.datagalax("authority", &["network", "hand-over", &next.to_string()]).await?;
    net.datagalax("checker-1", &["network", "accept"]).await?;
    assert_eq!(net.reader.network().await?.authority, next);
    for shown in
        [&["network", "show"][..], &["class", "list"], &["epoch", "show"], &["container", "list"], &["case", "list"]]
    {
        net.datagalax("checker-0", shown).await?;
    }
    Ok(())
}
