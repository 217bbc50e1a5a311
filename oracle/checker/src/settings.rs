//! Settings: command line, environment, file, default.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, value_parser};
use datagalax_client::amount::parse_ath;
use datagalax_gpu::location::Position;
use datagalax_service::Shared;

/// The daemon of a checker: in every epoch it measures the containers of the blocks it sits on at random instants and at every
/// beacon, commits to its report before the epoch ends and reveals it after. It may be stopped and started at any instant: what
/// it measured and committed to is in --state-dir.
#[derive(Clone, Debug, Parser)]
#[command(name = "datagalax-checker", version)]
pub struct Settings {
    /// JSON-RPC address of a Solana node; several (repeated, or separated by commas) stand in for each other, the preferred first.
    #[arg(long, env = "DATAGALAX_RPC", default_value = "http://127.0.0.1:8899", value_name = "URL", value_delimiter = ',')]
    pub rpc: Vec<String>,
    /// WebSocket address of each node, in the same order [default: the RPC's port plus one].
    #[arg(long, env = "DATAGALAX_WS", value_name = "URL", value_delimiter = ',')]
    pub ws: Vec<String>,
    /// The checkers' operator key, a Solana JSON keypair file of mode 0600. It pays the fees of commits, reveals and claims.
    #[arg(long, env = "DATAGALAX_CHECKER_KEYPAIR", value_name = "FILE")]
    pub keypair: PathBuf,
    /// The checker's id on chain; several (repeated, or separated by commas) when one operator works for several checkers. A
    /// block that several of them sit on is measured once.
    #[arg(long, env = "DATAGALAX_CHECKER_ID", value_name = "ID", required = true, value_delimiter = ',')]
    pub checker_id: Vec<u32>,
    /// Folder for reports, evidence and pending transactions. Losing it in mid-epoch loses that epoch's reports.
    #[arg(long, env = "DATAGALAX_CHECKER_STATE_DIR", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Most MiB that reports and evidence may take. Evidence is kept for 30 days; when the bound is reached, the oldest goes
    /// earlier. A block of 256 containers makes some 10 to 20 MiB an epoch.
    #[arg(long, env = "DATAGALAX_CHECKER_DISK", default_value_t = 20_480, value_name = "MIB", value_parser = value_parser!(u64).range(64..=1 << 30))]
    pub disk: u64,
    /// Liveness probes of each container in an epoch, at random instants. Where a host is can be judged from 8 on.
    #[arg(long, env = "DATAGALAX_CHECKER_PROBES", default_value_t = 8, value_name = "NUMBER", value_parser = value_parser!(u16).range(1..=256))]
    pub probes: u16,
    /// Most liveness probes and inspections in flight.
    #[arg(long, env = "DATAGALAX_CHECKER_CONCURRENCY", default_value_t = 256, value_name = "NUMBER", value_parser = value_parser!(u16).range(1..=4_096))]
    pub concurrency: u16,
    /// Most containers asked at once at a beacon: 256 for each block. Each takes a socket: mind the limit of open files.
    #[arg(long, env = "DATAGALAX_CHECKER_BEACON_CONCURRENCY", default_value_t = 4_096, value_name = "NUMBER", value_parser = value_parser!(u32).range(256..=65_536))]
    pub beacon_concurrency: u32,
    /// Answers to beacons that are recomputed at the same time, each on one core.
    #[arg(long, env = "DATAGALAX_CHECKER_VERIFIERS", default_value_t = 2, value_name = "NUMBER", value_parser = value_parser!(u16).range(1..=256))]
    pub verifiers: u16,
    /// Where this checker is, as latitude,longitude in degrees (50.11,8.68). Hosts whose answers come faster than light could
    /// travel from where they claim to be get no capacity; without it, places are not judged.
    #[arg(long, env = "DATAGALAX_CHECKER_POSITION", value_name = "LAT,LON", value_parser = position, allow_hyphen_values = true)]
    pub position: Option<Position>,
    /// Ask endpoints on this machine and in private networks, too, true or false [default: true when every --rpc is on this
    /// machine, else false]. Never link-local ones.
    #[arg(long, env = "DATAGALAX_CHECKER_ALLOW_PRIVATE_ENDPOINTS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub allow_private_endpoints: Option<bool>,
    /// Where to serve evidence (after its reveal) and to answer operators who ask whether their host can be reached, such as
    /// 0.0.0.0:7080. Without it this is not served, and nobody can look into this checker's votes.
    #[arg(long, env = "DATAGALAX_CHECKER_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Least pay in $ATH that is claimed: the fee of a claim is some 5,000 lamports.
    #[arg(long, env = "DATAGALAX_CHECKER_CLAIM_ABOVE", default_value = "10", value_name = "ATH", value_parser = parse_ath)]
    pub claim_above: u64,
    /// Pause between two looks at whether there is pay to claim; 0s: never claim.
    #[arg(long, env = "DATAGALAX_CHECKER_CLAIM_EVERY", default_value = "6h", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub claim_every: Duration,
    /// Price of a compute unit in micro-lamports.
    #[arg(long, env = "DATAGALAX_PRIORITY_FEE", default_value_t = 0, value_name = "MICRO_LAMPORTS")]
    pub priority_fee: u64,
    /// Seconds to wait at start for the node and the registration before giving up; 0: one try.
    #[arg(long, env = "DATAGALAX_CHECKER_START_TIMEOUT", default_value_t = 30, value_name = "SECONDS")]
    pub start_timeout: u64,
    /// File to describe the block measured last in as JSON. It shows votes before they are revealed: keep it private.
    #[arg(long, env = "DATAGALAX_CHECKER_STATUS_JSON", value_name = "FILE")]
    pub status_json: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its own documentation says it")]
    pub shared: Shared,
}

impl datagalax_service::Settings for Settings {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Degrees to 1/100 degree.
fn position(text: &str) -> Result<Position, String> {
    let wrong = || "expected latitude,longitude in degrees, such as 50.11,8.68 or -33.87,151.21".to_owned();
    let (latitude, longitude) = text.split_once(',').ok_or_else(wrong)?;
    let hundredths = |degrees: &str| {
        let degrees: f64 = degrees.trim().parse().map_err(|_| wrong())?;
        // Out of range for i16 is out of range for a place, and saturates.
        if degrees.is_finite() { Ok((degrees * 100.0).round() as i16) } else { Err(wrong()) }
    };
    Position::new(hundredths(latitude)?, hundredths(longitude)?).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_degrees() {
        assert_eq!(position("50.11,8.68"), Ok(Position::new(5_011, 868).unwrap()));
        assert_eq!(position("-33.87, 151.21"), Ok(Position::new(-3_387, 15_121).unwrap()));
        for bad in ["", "50.11", "a,b", "NaN,0", "91,0", "0,-181", "1e9,0"] {
            assert!(position(bad).is_err(), "{bad}");
        }
    }
}
