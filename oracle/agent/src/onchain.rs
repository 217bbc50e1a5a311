//! [`Chain`] through a node of the cluster.

use std::sync::Arc;

use datagalax_client::{
    Address, Reader, addresses,
    clock::read_clock,
    rpc::{HttpRpc, Rpc},
};
use futures_util::{FutureExt, future::BoxFuture, try_join};
use solana_pubkey::Pubkey;

use crate::chain::{Chain, ChainError, Cluster, Committee, Registration};

/// The chain as one node shows it.
pub struct OnChain {
    rpc: Arc<dyn Rpc>,
    reader: Reader,
}

impl OnChain {
    /// Asks this node. Nothing is asked yet.
    pub fn new(rpc: &str, ws: Option<&str>) -> Self {
        let rpc: Arc<dyn Rpc> = Arc::new(HttpRpc::new(rpc, ws));
        Self { reader: Reader::new(rpc.clone()), rpc }
    }
}

fn failed(error: impl std::fmt::Display) -> ChainError {
    ChainError(error.to_string())
}

impl Chain for OnChain {
    fn cluster(&self) -> BoxFuture<'_, Result<Cluster, ChainError>> {
        async {
            let network = self.reader.network().await.map_err(failed)?;
            Ok(Cluster { genesis_hash: network.genesis_hash, program: addresses::PROGRAM })
        }
        .boxed()
    }

    fn registration(&self, container: Pubkey) -> BoxFuture<'_, Result<Option<Registration>, ChainError>> {
        async move {
            let found = self.reader.find::<datagalax::state::Container>(&container).await.map_err(failed)?;
            Ok(found.map(|container| Registration {
                block: container.block,
                row: container.row,
                operator: container.operator,
                fingerprint: container.fingerprint,
                endpoint: container.endpoint().to_owned(),
            }))
        }
        .boxed()
    }

    fn committee(&self, block: u32) -> BoxFuture<'_, Result<Committee, ChainError>> {
        async move {
            let (network, clock, block) = try_join!(
                async { self.reader.network().await.map_err(failed) },
                async { read_clock(self.rpc.as_ref()).await.map_err(failed) },
                async { self.reader.block(block).await.map_err(failed) },
            )?;
            let now = clock.unix_timestamp;
            let epoch = network.epoch_at(now).map_err(|_| failed("the network's first epoch has not begun"))?;
            let (_, end) = network.bounds(epoch);
            let remaining = u32::try_from(end.saturating_sub(now)).unwrap_or(0);
            // Not seated yet is no error: the epoch may have begun a moment ago.
            let seats = block.lane(epoch).map(|lane| lane.committee.as_slice()).unwrap_or_default();
            let seated: Vec<_> = seats.iter().filter(|seat| seat.is_filled()).collect();
            let checkers: Vec<Address> = seated.iter().map(|seat| addresses::checker(seat.checker)).collect();
            let checkers = self.reader.many::<datagalax::state::Checker>(&checkers).await.map_err(failed)?;
            // A seat's operator is copied by its first commit; a key changed after that leaves two that may ask.
            let copied = seated.iter().map(|seat| seat.operator).filter(|key| *key != Address::default());
            let mut operators: Vec<Pubkey> = copied.chain(checkers.into_iter().flatten().map(|c| c.operator)).collect();
            operators.sort_unstable();
            operators.dedup();
            Ok(Committee { epoch, operators, remaining })
        }
        .boxed()
    }
}
