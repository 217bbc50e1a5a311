//! Reaching the host of a lease.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use datagalax_client::{Address, Reader, addresses::PROGRAM};
use datagalax_protocol::Context as About;
use datagalax_tenant::{Contexts, Tenant};
use futures_util::{FutureExt as _, future::BoxFuture};
use solana_keypair::Keypair;
use solana_signer::Signer as _;

use super::market::{self, Seen};

/// What messages to a container are about, by the chain's own clock.
struct OnChain {
    reader: Reader,
    container: Address,
}

impl Contexts for OnChain {
    fn context(&self) -> BoxFuture<'_, Result<About, String>> {
        async {
            let network = self.reader.network().await.map_err(|error| error.to_string())?;
            let now = market::now(&self.reader).await.map_err(|error| format!("{error:#}"))?;
            let epoch = network.epoch_at(now).ok().ok_or("the network's first epoch has not begun")?;
            Ok(About { genesis_hash: network.genesis_hash, program: PROGRAM, subject: self.container, epoch })
        }
        .boxed()
    }
}

/// The host of a lease, for its user. Nothing is asked yet.
///
/// # Errors
/// The key is not the user's, or the container is gone.
pub fn reach(reader: &Reader, key: &Arc<Keypair>, seen: &Seen) -> Result<Tenant> {
    let (lease, user) = (&seen.lease, seen.lease.user);
    ensure!(
        key.pubkey() == user,
        "the lease {} is of wallet {user}, and --keypair is {}: its host talks to that wallet only",
        seen.address,
        key.pubkey()
    );
    let container = seen.container.as_ref().with_context(|| format!("container {} is gone", lease.container))?;
    let contexts = Arc::new(OnChain { reader: reader.clone(), container: lease.container });
    Ok(Tenant::connect(container.endpoint(), container.operator, contexts, key.clone(), seen.address)?)
}

/// The host of a lease by its address, and the lease.
///
/// # Errors
/// As [`reach`]; there is no such lease.
pub async fn of(reader: &Reader, key: &Arc<Keypair>, lease: &Address) -> Result<(Tenant, Seen)> {
    let seen = market::see(reader, lease).await?;
    Ok((reach(reader, key, &seen)?, seen))
}
