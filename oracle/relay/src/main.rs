//! `datagalax-relay`: settings, logs, exit status; the rest is in the library.

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use datagalax_client::rpc::HttpRpc;
use datagalax_relay::{
    Relay,
    admit::{Admission, Anyone, Listed, Registered},
    limits::Limits,
    relay::Metrics,
};
use datagalax_service::{Ended, Service, Shared, http::listen};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A relay for hosts behind NAT. Hosts dial in (`datagalax-agent --relay <name>:7443`) and register
/// `https://<label>.<name>:<port>` as their endpoint, where the label is their operator key in base32; a wildcard DNS record
/// `*.<name>` leads to this machine. The relay passes connections on by the server name in their first TLS message. It holds
/// no key and no certificate and cannot read what passes.
#[derive(Clone, Debug, Parser)]
#[command(name = "datagalax-relay", version)]
struct Settings {
    /// Host name by which hosts dial this relay, such as relay.example; several, if it has several.
    #[arg(long, env = "DATAGALAX_RELAY_NAME", required = true, value_delimiter = ',')]
    name: Vec<String>,
    /// Where to take connections of the public.
    #[arg(long, env = "DATAGALAX_RELAY_LISTEN", default_value = "0.0.0.0:443")]
    listen: SocketAddr,
    /// Where to take connections of hosts.
    #[arg(long, env = "DATAGALAX_RELAY_HOSTS", default_value = "0.0.0.0:7443")]
    hosts: SocketAddr,
    /// JSON-RPC address of a Solana node: hosts are admitted whose container is registered there with their operator key.
    #[arg(long, env = "DATAGALAX_RPC", default_value = "http://127.0.0.1:8899")]
    rpc: String,
    /// Admit the operator keys of this file instead (one a line, `#` begins a comment); the chain is not asked.
    #[arg(long, env = "DATAGALAX_RELAY_ALLOW", conflicts_with = "anyone")]
    allow: Option<PathBuf>,
    /// Admit anyone who has a key. Only for a relay that strangers cannot reach.
    #[arg(long, env = "DATAGALAX_RELAY_ANYONE")]
    anyone: bool,
    /// Most connections of the public at a time, 1 to 1,000,000; each takes two files.
    #[arg(long, env = "DATAGALAX_RELAY_CONNECTIONS", default_value_t = 4_096, value_parser = places)]
    connections: usize,
    /// Most connections to one host at a time.
    #[arg(long, env = "DATAGALAX_RELAY_PER_HOST", default_value_t = 64, value_parser = places)]
    per_host: usize,
    /// Most connections of one address (IPv6: one /64) at a time, on each port.
    #[arg(long, env = "DATAGALAX_RELAY_PER_SOURCE", default_value_t = 256, value_parser = places)]
    per_source: usize,
    /// Most hosts connected at a time.
    #[arg(long, env = "DATAGALAX_RELAY_MAX_HOSTS", default_value_t = 4_096, value_parser = places)]
    max_hosts: usize,
    /// Bytes a second to and from one host together.
    #[arg(long, env = "DATAGALAX_RELAY_RATE", default_value_t = 16 << 20, value_parser = clap::value_parser!(u64).range(1_024..))]
    rate: u64,
    #[command(flatten)]
    shared: Shared,
}

impl datagalax_service::Settings for Settings {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Files that are no connections: standard streams, listeners, the monitor, the node's connections.
const OTHER_FILES: u64 = 256;

fn places(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| "a number from 1 to 1,000,000".into())
}

#[tokio::main]
async fn main() -> ExitCode {
    datagalax_service::serve(start).await
}

async fn start(settings: Settings, service: Service<Metrics>) -> Result<(), Ended> {
    let admission: Arc<dyn Admission> = match &settings.allow {
        Some(path) => {
            let list = fs::read_to_string(path).with_context(|| format!("--allow: cannot read {}", path.display()));
            let bad = |error| Ended::Settings(anyhow!("--allow: {}, {error}", path.display()));
            Arc::new(Listed::parse(&list.map_err(Ended::Settings)?).map_err(bad)?)
        }
        None if settings.anyone => Arc::new(Anyone),
        None => Arc::new(Registered::new(Arc::new(HttpRpc::new(&settings.rpc, None)))),
    };
    let limits = Limits {
        connections: settings.connections,
        per_host: settings.per_host,
        per_source: settings.per_source,
        hosts: settings.max_hosts,
        bytes_per_second: settings.rate,
        ..Limits::default()
    };
    allow_files(&limits).map_err(Ended::Settings)?;
    let (public, hosts) = (listen(settings.listen, "--listen").await?, listen(settings.hosts, "--hosts").await?);
    tracing::info!(listen = %settings.listen, hosts = %settings.hosts, names = ?settings.name, "relay started");
    let Service { metrics, health, shutdown } = service;
    let relay = Relay::new(&settings.name, admission, limits, metrics, health.clone());
    health.started();
    // Somewhat less than what the process gets, so that it ends by itself.
    relay.run(public, hosts, shutdown.requested(), settings.shared.grace.mul_f64(0.8)).await;
    Ok(())
}

/// Raises the limit of open files to what the limits need: two for each connection, one for each host.
fn allow_files(limits: &Limits) -> anyhow::Result<()> {
    let needed = (limits.connections * 2 + limits.hosts) as u64 + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        bail!(
            "--connections and --max-hosts need {needed} open files, and this process may have {maximum}: lower them, or raise \
             the limit (LimitNOFILE= of the systemd unit, `ulimit -Hn` in a shell)"
        );
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).context("cannot raise the limit of open files")
}
