//! Reading offers and leases from the chain, in few requests.

use std::{collections::BTreeMap, mem::offset_of};

use anyhow::{Context as _, Result, bail};
use datagalax::state::{Block, Container, GpuClass, Lease, Network};
use datagalax_client::{
    Address, Reader,
    accounts::{AccountError, decode},
    addresses,
    clock::{CLOCK_SYSVAR, parse_clock, read_clock},
};

use super::{bill::Bill, offer::Offer};

/// Blocks that one request reads: each is 41 KB.
const BLOCKS_A_REQUEST: usize = 25;

/// Every container that takes a lease now. The node looks for those that accept and have no lease; of the blocks only theirs are
/// read.
pub async fn offers(reader: &Reader) -> Result<Vec<Offer>> {
    let nobody = Address::default();
    let fields: [(usize, &[u8]); 3] = [
        (offset_of!(Container, accepting), &[1]),
        (offset_of!(Container, status), &[0]),
        (offset_of!(Container, lease), nobody.as_ref()),
    ];
    let containers = reader.matching::<Container>(&fields).await?;
    let blocks = blocks(reader, containers.iter().map(|(_, c)| c.block)).await?;
    let classes: BTreeMap<u16, Box<GpuClass>> = reader.classes().await?.into_iter().map(|c| (c.id, c)).collect();
    let offer = |(address, container): &(Address, Box<Container>)| {
        let block = blocks.get(&container.block)?;
        Offer::of(*address, container, block, classes.get(&container.class).map(AsRef::as_ref)).ok()
    };
    Ok(containers.iter().filter_map(offer).collect())
}

/// The offers of these containers.
///
/// # Errors
/// The first that takes no lease now, and why.
pub async fn offers_of(reader: &Reader, addresses: &[Address]) -> Result<Vec<Offer>> {
    let read = reader.many::<Container>(addresses).await?;
    let mut containers = Vec::new();
    for (address, container) in addresses.iter().zip(read) {
        let container = container.with_context(|| {
            format!("there is no container {address}: `datagalax offers` lists those that can be leased")
        })?;
        containers.push((*address, container));
    }
    let blocks = blocks(reader, containers.iter().map(|(_, c)| c.block)).await?;
    let mut offers = Vec::new();
    for (address, container) in containers {
        let block =
            blocks.get(&container.block).with_context(|| format!("the block of container {address} cannot be read"))?;
        let class = reader.class(container.class).await?;
        match Offer::of(address, &container, block, Some(&class)) {
            Ok(offer) => offers.push(offer),
            Err(why) => bail!("container {address} takes no lease now: {why}. `datagalax offers` lists those that do"),
        }
    }
    Ok(offers)
}

async fn blocks(reader: &Reader, indices: impl Iterator<Item = u32>) -> Result<BTreeMap<u32, Box<Block>>> {
    let mut wanted: Vec<u32> = indices.collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut blocks = BTreeMap::new();
    for part in wanted.chunks(BLOCKS_A_REQUEST) {
        let addresses: Vec<Address> = part.iter().map(|index| addresses::block(*index)).collect();
        for block in reader.many::<Block>(&addresses).await?.into_iter().flatten() {
            blocks.insert(block.index, block);
        }
    }
    Ok(blocks)
}

/// A lease and what belongs to it, all of one moment.
pub struct Seen {
    /// Its address.
    pub address: Address,
    /// The lease.
    pub lease: Box<Lease>,
    /// The network.
    pub network: Box<Network>,
    /// The chain's time, seconds.
    pub now: i64,
    /// Its container; `None` when it was vacated since.
    pub container: Option<Box<Container>>,
    /// The block of its row, while its container stands there.
    pub block: Option<Box<Block>>,
}

impl Seen {
    /// What it came to so far.
    ///
    /// # Errors
    /// The chain's figures cannot be.
    pub fn bill(&self) -> Result<Bill> {
        Bill::new(&self.lease, &self.network, self.block.as_deref(), self.now)
    }
}

/// Reads a lease and what belongs to it.
///
/// # Errors
/// The node, or there is no such lease.
pub async fn see(reader: &Reader, address: &Address) -> Result<Seen> {
    // What an account says of where the others are never changes.
    let lease = reader.get::<Lease>(address).await?;
    let (network_at, block_at) = (addresses::network(), addresses::block(lease.block));
    let wanted = [*address, network_at, CLOCK_SYSVAR, lease.container, block_at];
    let read = reader.rpc().accounts(&wanted).await?;
    let [Some(lease), Some(network), Some(clock), container, block] = &read[..] else {
        bail!("the lease {address} was closed while it was read");
    };
    let container = gone_is_none(container.as_ref().map(|account| decode::<Container>(&wanted[3], account)))?;
    let lease = decode::<Lease>(address, lease)?;
    let stands = container.as_ref().is_some_and(|c| (c.block, c.row) == (lease.block, lease.row));
    let block = gone_is_none(block.as_ref().filter(|_| stands).map(|account| decode::<Block>(&block_at, account)))?;
    Ok(Seen {
        address: *address,
        lease,
        network: decode::<Network>(&network_at, network)?,
        now: parse_clock(clock)?.unix_timestamp,
        container,
        block,
    })
}

fn gone_is_none<T>(read: Option<Result<Box<T>, AccountError>>) -> Result<Option<Box<T>>, AccountError> {
    match read {
        None | Some(Err(AccountError::NotFound { .. })) => Ok(None),
        Some(read) => read.map(Some),
    }
}

/// The chain's time, seconds.
///
/// # Errors
/// The node.
pub async fn now(reader: &Reader) -> Result<i64> {
    Ok(read_clock(reader.rpc().as_ref()).await?.unix_timestamp)
}
