//! Containers: the hosts that are measured and paid.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use datagalax::{
    constants::{HISTORY, MAINTENANCE_A_MONTH, NONE, VOID},
    state::{Block, Container, Network, Row},
};
use datagalax_client::{
    Address, addresses,
    amount::Ath,
    instructions::{self, RegisterContainerArgs, UpdateContainerArgs},
};
use datagalax_gpu::{HostProbe, Probe as _, Settings};

use super::{ath, bytes32, epoch::status, padded, unpadded};
use crate::{
    context::{Context, some},
    report::{Cell, Report},
};

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Register a container; --keypair is the provider's owner
    Register(Box<Register>),
    /// Change price, endpoint and what else the hot key may; what is not named stays; --keypair is the provider's operator or owner
    Update(Update),
    /// Replace the key that starts leases and signs measurements; --keypair is the provider's owner
    Rotate {
        /// Container's address
        address: Address,
        /// The new key
        operator: Address,
    },
    /// Announce maintenance, at least 24 hours ahead; --keypair is the provider's operator or owner
    Maintenance {
        /// Container's address
        address: Address,
        /// Start, seconds since 1970
        #[arg(long, value_name = "UNIX")]
        start: i64,
        /// How long it lasts, seconds, at most 8 hours in 30 days
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAINTENANCE_A_MONTH)), value_name = "SECONDS")]
        length: u32,
    },
    /// Let it leave with the end of this epoch; --keypair is the provider's owner
    Deregister {
        /// Container's address
        address: Address,
    },
    /// Free the row of a container that left; anybody may
    Vacate {
        /// Container's address
        address: Address,
    },
    /// One container
    Show {
        /// Its address
        address: Address,
    },
    /// All containers
    List,
}

/// A new container.
#[derive(Args)]
pub struct Register {
    /// Provider's id
    #[arg(long)]
    provider: u32,
    /// Class's id
    #[arg(long)]
    class: u16,
    /// Key that signs the host's measurements
    #[arg(long, value_name = "ADDRESS")]
    operator: Address,
    /// URL where checkers reach its agent, at most 128 bytes
    #[arg(long, value_name = "URL")]
    endpoint: String,
    #[command(flatten)]
    fingerprint: Fingerprint,
    #[command(flatten)]
    this_host: ThisHost,
    /// Units of the class, 1 to 255
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    units: u8,
    /// Price an hour, ATH
    #[arg(long, value_parser = ath, default_value = "0", value_name = "ATH")]
    price: u64,
    /// Least length of a lease, seconds, 600 or more
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(600..), value_name = "SECONDS")]
    minimum_lease: u32,
    /// Region, at most 16 ASCII characters
    #[arg(long, default_value = "", value_parser = padded::<16>)]
    region: [u8; 16],
    /// Latitude, 1/100 degree, -9,000 to 9,000
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i16).range(-9_000..=9_000))]
    latitude: i16,
    /// Longitude, 1/100 degree, -18,000 to 18,000
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i16).range(-18_000..=18_000))]
    longitude: i16,
    /// Hash of the published specification, 64 hexadecimal digits
    #[arg(long, value_parser = bytes32, default_value = "0000000000000000000000000000000000000000000000000000000000000000", hide_default_value = true, value_name = "HEX")]
    spec_hash: [u8; 32],
    /// Block to register in; without it, the first with a free row
    #[arg(long, value_name = "INDEX")]
    block: Option<u32>,
}

/// What changes.
#[derive(Args)]
pub struct Update {
    /// Container's address
    address: Address,
    /// Price an hour, ATH; leases keep theirs
    #[arg(long, value_parser = ath, value_name = "ATH")]
    price: Option<u64>,
    /// URL where checkers reach its agent, at most 128 bytes
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Whether it takes new leases
    #[arg(long, action = clap::ArgAction::Set, value_name = "true|false")]
    accepting: Option<bool>,
    /// Least length of a lease, seconds, 600 or more
    #[arg(long, value_parser = clap::value_parser!(u32).range(600..), value_name = "SECONDS")]
    minimum_lease: Option<u32>,
    /// Hash of the published specification, 64 hexadecimal digits
    #[arg(long, value_parser = bytes32, value_name = "HEX")]
    spec_hash: Option<[u8; 32]>,
}

impl Update {
    fn args(self, now: &Container) -> UpdateContainerArgs {
        UpdateContainerArgs {
            spec_hash: self.spec_hash.unwrap_or(now.spec_hash),
            price_per_hour: self.price.unwrap_or(now.price_per_hour),
            minimum_lease: self.minimum_lease.unwrap_or(now.minimum_lease),
            accepting: self.accepting.map_or(now.accepting, u8::from),
            endpoint: self.endpoint.unwrap_or_else(|| now.endpoint().to_owned()),
        }
    }
}

/// Where the hardware's fingerprint comes from.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Fingerprint {
    /// Hardware fingerprint as the host's agent prints it, 64 hexadecimal digits
    #[arg(long, value_parser = bytes32, value_name = "HEX")]
    fingerprint: Option<[u8; 32]>,
    /// Read the fingerprint of the machine this command runs on
    #[arg(long)]
    this_host: bool,
}

/// How this machine is read.
#[derive(Args)]
struct ThisHost {
    /// With --this-host: do not look for GPUs
    #[arg(long, conflicts_with = "fingerprint")]
    no_gpu: bool,
    /// With --this-host: file of the machine id, instead of the system's
    #[arg(long, conflicts_with = "fingerprint", value_name = "FILE")]
    machine_id: Option<PathBuf>,
}

impl ThisHost {
    fn fingerprint(self) -> Result<[u8; 32]> {
        let settings = Settings {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            gpus: !self.no_gpu,
            machine_id: self.machine_id,
        };
        Ok(HostProbe::open(settings)?.fingerprint())
    }
}

impl Command {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        let network = context.network().await?;
        match self {
            Self::Register(container) => register(context, &network, *container).await,
            Self::Update(update) => {
                let address = update.address;
                let container = context.reader.container(&address).await?;
                let signing = context.signer().await?;
                let args = update.args(&container);
                let instruction = instructions::update_container(&signing.address(), container.provider, &address, args);
                let landed = signing.send("update the container", &[instruction]).await?;
                Ok(show(context, address).await?.sent("Container updated.", landed))
            }
            Self::Rotate { address, operator } => {
                let provider = context.reader.container(&address).await?.provider;
                let signing = context.signer().await?;
                let instruction = instructions::rotate_container_operator(&signing.address(), provider, &address, &operator);
                let landed = signing.send("replace the container's key", &[instruction]).await?;
                Ok(Report::new().sent(format!("{operator} signs for container {address} now."), landed))
            }
            Self::Maintenance { address, start, length } => {
                let provider = context.reader.container(&address).await?.provider;
                let signing = context.signer().await?;
                let end = start.saturating_add(length.into());
                let instruction = instructions::announce_maintenance(&signing.address(), provider, &address, start, end);
                let landed = signing.send("announce maintenance", &[instruction]).await?;
                let fields = vec![("start", Cell::Time(start)), ("end", Cell::Time(end))];
                Ok(Report::new().fields("maintenance", fields).sent("Maintenance announced.", landed))
            }
            Self::Deregister { address } => {
                let container = context.reader.container(&address).await?;
                let signing = context.signer().await?;
                let instruction = instructions::deregister_container(&signing.address(), &network, &address, &container);
                let landed = signing.send("deregister the container", &[instruction]).await?;
                let block = context.reader.block(container.block).await?;
                let until = block.rows[usize::from(container.row)].until;
                Ok(Report::new()
                    .fields("container", vec![("address", address.into()), ("counts_until_epoch", until.into())])
                    .sent("Container leaves with the end of this epoch.", landed)
                    .note("A keeper vacates its row two epochs later, or you with `datagalax container vacate`."))
            }
            Self::Vacate { address } => {
                let container = context.reader.container(&address).await?;
                let signing = context.signer().await?;
                let instruction = instructions::vacate_row(&network, &address, &container);
                let landed = signing.send("vacate the row", &[instruction]).await?;
                let fields = vec![
                    ("address", address.into()),
                    ("unlocked_stake", Ath(container.locked_stake).into()),
                    ("rent_returned_to", container.rent_payer.into()),
                ];
                let said = "Row vacated: what it had accrued vests, its stake is free.";
                Ok(Report::new().fields("container", fields).sent(said, landed))
            }
            Self::Show { address } => show(context, address).await,
            Self::List => list(context, &network).await,
        }
    }
}

async fn register(context: &Context, network: &Network, wanted: Register) -> Result<Report> {
    if some(network.current_epoch).is_none() {
        bail!("the network has not advanced to its first epoch: start a keeper (`datagalax-keeper`), then register");
    }
    let block = match wanted.block {
        Some(index) => context.reader.block(index).await?,
        None => context
            .reader
            .blocks(network.blocks)
            .await?
            .into_iter()
            .find(|b| b.lowest_free_row().is_some())
            .context("no block has a free row: create one with `datagalax block create`")?,
    };
    let fingerprint = wanted.fingerprint.fingerprint.map_or_else(|| wanted.this_host.fingerprint(), Ok)?;
    let signing = context.signer().await?;
    let args = RegisterContainerArgs {
        fingerprint,
        operator: wanted.operator,
        spec_hash: wanted.spec_hash,
        gpus: wanted.units,
        latitude: wanted.latitude,
        longitude: wanted.longitude,
        region: wanted.region,
        price_per_hour: wanted.price,
        minimum_lease: wanted.minimum_lease,
        endpoint: wanted.endpoint,
    };
    let instruction =
        instructions::register_container(&signing.address(), network, wanted.provider, wanted.class, &block, args);
    let landed = signing.send("register the container", &[instruction]).await?;
    let address = addresses::container(wanted.provider, &fingerprint);
    let container = context.reader.container(&address).await?;
    Ok(Report::new()
        .fields(
            "container",
            vec![
                ("address", address.into()),
                ("block", container.block.into()),
                ("row", container.row.into()),
                ("locked_stake", Ath(container.locked_stake).into()),
            ],
        )
        .sent("Container registered: it is checked from the next whole epoch on.", landed))
}

/// Availability in the last epoch that its block was tallied for; nothing when that was void for the row.
fn last_availability(block: &Block, row: &Row) -> Cell {
    match some(block.last_tallied).map(|epoch| row.history[(epoch % HISTORY) as usize]) {
        None | Some(VOID) => Cell::None,
        Some(seen) => Cell::Percent(seen & 0x7f),
    }
}

async fn show(context: &Context, address: Address) -> Result<Report> {
    let container: Box<Container> = context.reader.container(&address).await?;
    let block = context.reader.block(container.block).await?;
    let row = &block.rows[usize::from(container.row)];
    Ok(Report::new().fields(
        "container",
        vec![
            ("address", address.into()),
            ("provider", container.provider.into()),
            ("class", container.class.into()),
            ("units", container.gpus.into()),
            ("block", container.block.into()),
            ("row", container.row.into()),
            ("status", status(row).into()),
            ("counts_from_epoch", row.live_from.into()),
            ("availability", last_availability(&block, row)),
            ("capacity", if row.full_capacity_epoch != NONE { Cell::Percent(row.full_capacity) } else { Cell::None }),
            ("bad_epochs_of_16", row.bad_epochs.count_ones().into()),
            ("unclaimed", Ath(row.accrued).into()),
            ("accused_since_epoch", if row.is_accused() { row.first_condemned.into() } else { Cell::None }),
            ("halted", halted(&container).into()),
            ("lease", if container.lease == Address::default() { Cell::None } else { container.lease.into() }),
            ("unsettled_leases", container.unsettled.into()),
            ("accepting", (container.accepting == 1).into()),
            ("price_per_hour", Ath(container.price_per_hour).into()),
            ("locked_stake", Ath(container.locked_stake).into()),
            ("operator", container.operator.into()),
            ("endpoint", container.endpoint().into()),
            ("region", unpadded(&container.region).into()),
            ("fingerprint", hex::encode(container.fingerprint).into()),
            ("registered", Cell::Time(container.registered_at)),
        ],
    ))
}

/// Why a container is halted, `None` when it is not.
pub const fn halted(container: &Container) -> Option<&'static str> {
    match container.halt_reason {
        0 => None,
        Container::HALT_DISHONEST => Some("a case of dishonesty was upheld"),
        Container::HALT_BREACH => Some("a lease was breached"),
        Container::HALT_CLOSED_EARLY => Some("a lease was closed early"),
        _ => Some("another reason"),
    }
}

async fn list(context: &Context, network: &Network) -> Result<Report> {
    let blocks = context.reader.blocks(network.blocks).await?;
    let rows = context
        .reader
        .containers()
        .await?
        .iter()
        .map(|(address, c)| -> Result<Vec<Cell>> {
            let block =
                blocks.iter().find(|b| b.index == c.block).context("a container is in a block that cannot be read")?;
            let row = &block.rows[usize::from(c.row)];
            Ok(vec![
                (*address).into(),
                c.provider.into(),
                c.class.into(),
                c.gpus.into(),
                c.block.into(),
                c.row.into(),
                status(row).into(),
                last_availability(block, row),
                Ath(row.accrued).into(),
                c.endpoint().into(),
            ])
        })
        .collect::<Result<_>>()?;
    let columns =
        ["address", "provider", "class", "units", "block", "row", "status", "availability", "unclaimed", "endpoint"];
    Ok(Report::new().rows("containers", &columns, rows))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        register: Register,
    }

    fn line(more: &[&str]) -> Result<Register, clap::Error> {
        let operator = Address::default().to_string();
        let fixed = ["x", "--provider", "0", "--class", "1", "--operator", &operator, "--endpoint", "http://h:1"];
        Line::try_parse_from([&fixed[..], more].concat()).map(|l| l.register)
    }

    #[test]
    fn the_fingerprint_has_exactly_one_source() {
        let digits = "ab".repeat(32);
        let given = line(&["--fingerprint", &digits]).unwrap();
        assert_eq!(given.fingerprint.fingerprint, Some([0xab; 32]));
        let here = line(&["--this-host", "--machine-id", "file", "--no-gpu"]).unwrap();
        assert!(here.fingerprint.this_host && here.this_host.no_gpu);
        assert!(line(&[]).is_err());
        assert!(line(&["--this-host", "--fingerprint", &digits]).is_err());
        assert!(line(&["--fingerprint", &digits, "--no-gpu"]).is_err());
        assert!(line(&["--this-host", "--latitude", "-9000", "--longitude", "18000"]).is_ok());
        assert!(line(&["--this-host", "--latitude", "9001"]).is_err());
    }
}
