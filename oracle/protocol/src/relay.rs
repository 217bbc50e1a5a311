//! "I am the host that this name leads to": how a host behind NAT makes itself known to a relay.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::envelope::{Domain, Malformed, Payload};

/// Longest name of a relay in bytes: the longest host name.
pub const MAX_RELAY_NAME: usize = 253;
/// The epoch in a [`RelayHello`]'s envelope: it belongs to none, the relay's nonce keeps it fresh.
pub const NO_EPOCH: u32 = 0;

/// Asks a relay to pass on connections for the signer's key. The envelope's nonce is the one that the relay chose for this
/// connection, its subject the container, its epoch [`NO_EPOCH`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RelayHello {
    /// The host name that the sender dialled, lower case, 1 to [`MAX_RELAY_NAME`] bytes, so that no relay can use the hello
    /// at another.
    pub relay: String,
}

impl Payload for RelayHello {
    const DOMAIN: Domain = Domain::RelayHello;

    fn check(&self) -> Result<(), Malformed> {
        let lower = !self.relay.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii_graphic());
        if !(1..=MAX_RELAY_NAME).contains(&self.relay.len()) || !lower {
            return Err(Malformed::OutOfRange("relay"));
        }
        Ok(())
    }
}
