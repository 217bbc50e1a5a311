//! How long trouble that may pass is waited out.

use std::time::Duration;

use datagalax_client::{ReadError, pipeline::SendError, rpc::RpcError};
use tokio::time::Instant;

/// How long a node may be away.
const LONGEST: Duration = Duration::from_secs(120);

/// Since when there is trouble.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    since: Option<Instant>,
}

impl Patience {
    /// Trouble again; says whether to go on trying.
    pub fn goes_on(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        since.elapsed() < LONGEST
    }
}

/// Whether the same may succeed later without anybody's doing: the node is away, or behind.
pub fn is_passing(error: &anyhow::Error) -> bool {
    let sent = error.downcast_ref::<SendError>().is_some_and(SendError::is_transient);
    let read = error.downcast_ref::<ReadError>().is_some_and(ReadError::is_transient);
    sent || read || error.downcast_ref::<RpcError>().is_some_and(RpcError::is_transient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_is_waited_out_for_a_while() {
        let mut patience = Patience::default();
        assert!(patience.goes_on());
        tokio::time::advance(Duration::from_secs(119)).await;
        assert!(patience.goes_on());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!patience.goes_on());
        let down = RpcError::Down { url: "u".into(), reason: "r".into() };
        assert!(is_passing(&ReadError::Rpc(down).into()));
        assert!(!is_passing(&anyhow::anyhow!("no")));
    }
}
