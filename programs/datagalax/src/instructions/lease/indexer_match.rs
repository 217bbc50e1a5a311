use alloc::vec::Vec;

use anchor_lang::prelude::*;

use crate::{
    clock::{after, now},
    constants::MATCH_LIFETIME,
    error::DatagalaxError,
    state::{Indexer, Network},
};

/// The sysvar of the transaction's instructions.
pub const INSTRUCTIONS_ID: Address = Address::from_str_const("Sysvar1nstructions1111111111111111111111111");
/// The native program that checks Ed25519 signatures.
pub const ED25519_ID: Address = Address::from_str_const("Ed25519SigVerify111111111111111111111111111");

/// What an indexer signs when it matches a user to a container.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// The cluster's genesis hash.
    pub genesis_hash: &'a [u8; 32],
    /// Id of the indexer.
    pub indexer: u32,
    /// Who will open the lease.
    pub user: &'a Address,
    /// The container.
    pub container: &'a Address,
    /// Nonce of the lease.
    pub nonce: u64,
    /// Until when the signature is good, seconds.
    pub expires: i64,
}

impl Match<'_> {
    /// The bytes to sign: tag, genesis hash, program, indexer, user, container, nonce, expiry; integers little-endian.
    pub fn message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(MESSAGE_LEN);
        message.extend_from_slice(TAG);
        message.extend_from_slice(self.genesis_hash);
        message.extend_from_slice(crate::ID.as_ref());
        message.extend_from_slice(&self.indexer.to_le_bytes());
        message.extend_from_slice(self.user.as_ref());
        message.extend_from_slice(self.container.as_ref());
        message.extend_from_slice(&self.nonce.to_le_bytes());
        message.extend_from_slice(&self.expires.to_le_bytes());
        message
    }
}

const TAG: &[u8] = b"datagalax:match:v1";
const MESSAGE_LEN: usize = TAG.len() + 4 * 32 + 4 + 8 + 8;
/// Where key, signature and message lie in the Ed25519 instruction: right behind its head, in this order.
const KEY: usize = 16;
const SIGNATURE: usize = KEY + 32;
const MESSAGE: usize = SIGNATURE + 64;
/// "In this very instruction".
const HERE: u16 = u16::MAX;

/// The head of an Ed25519 instruction with one signature over one message, all of it inside.
const fn head() -> [u8; KEY] {
    let fields = [SIGNATURE as u16, HERE, KEY as u16, HERE, MESSAGE as u16, MESSAGE_LEN as u16, HERE];
    let mut head = [0u8; KEY];
    head[0] = 1;
    let mut i = 0;
    while i < fields.len() {
        let bytes = fields[i].to_le_bytes();
        head[2 + 2 * i] = bytes[0];
        head[3 + 2 * i] = bytes[1];
        i += 1;
    }
    head
}

/// Refuses a lease that names an indexer which did not sign exactly this match.
///
/// # Errors
/// [`DatagalaxError::IndexerLeaving`]; [`DatagalaxError::MatchMissing`] when the instruction before this one is no Ed25519
/// instruction; [`DatagalaxError::MatchMismatch`] when it signs anything else, is over, or is good for longer than an hour.
#[inline(never)]
pub fn require_match(
    sysvar: Option<&AccountView>,
    network: &Network,
    indexer: &Indexer,
    user: &Address,
    container: &Address,
    nonce: u64,
    expires: i64,
) -> Result<()> {
    require!(indexer.status == Indexer::ACTIVE, DatagalaxError::IndexerLeaving);
    let now = now()?;
    require!(now <= expires && expires <= after(now, MATCH_LIFETIME), DatagalaxError::MatchMismatch);
    let sysvar = sysvar.ok_or(DatagalaxError::MatchMissing)?;
    // Attack: an account of one's own that lists an instruction which never ran.
    require!(*sysvar.address() == INSTRUCTIONS_ID, DatagalaxError::WrongAccount);
    let list = sysvar.try_borrow()?;
    let signed = previous_ed25519(&list).ok_or(DatagalaxError::MatchMissing)?;
    let genesis_hash = &network.genesis_hash;
    let message = Match { genesis_hash, indexer: indexer.id, user, container, nonce, expires }.message();
    // Attack: offsets or instruction indices that are left free let the native program check one key, signature or message and
    // the caller show another. All of the head is therefore fixed, and the length with it.
    let same = signed.len() == MESSAGE + MESSAGE_LEN
        && signed[..KEY] == head()
        && signed[KEY..SIGNATURE] == *indexer.operator.as_ref()
        && signed[MESSAGE..] == message[..];
    require!(same, DatagalaxError::MatchMismatch);
    Ok(())
}

/// Data of the instruction before the running one, if it is one of the Ed25519 program without accounts.
///
/// The sysvar reads: u16 count, u16 offset of each; at each offset u16 accounts (33 bytes each), program, u16 length, data; at the
/// end u16, the index of the running instruction.
fn previous_ed25519(list: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| list.get(at..)?.first_chunk::<2>().map(|b| usize::from(u16::from_le_bytes(*b)));
    let running = word(list.len().checked_sub(2)?)?;
    let at = word(2 + 2 * running.checked_sub(1)?)?;
    let program = list.get(at + 2..at + 34)?;
    if word(at)? != 0 || program != ED25519_ID.as_ref() {
        return None;
    }
    let length = word(at + 34)?;
    list.get(at + 36..at + 36 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_bound_to_everything_it_names() {
        let (a, b) = (Address::new_from_array([1; 32]), Address::new_from_array([2; 32]));
        let base = Match { genesis_hash: &[7; 32], indexer: 3, user: &a, container: &b, nonce: 9, expires: 100 };
        assert_eq!(base.message().len(), MESSAGE_LEN);
        for changed in [
            Match { genesis_hash: &[8; 32], ..base },
            Match { indexer: 4, ..base },
            Match { user: &b, ..base },
            Match { container: &a, ..base },
            Match { nonce: 8, ..base },
            Match { expires: 101, ..base },
        ] {
            assert_ne!(changed.message(), base.message(), "{changed:?}");
        }
    }

    #[test]
    fn a_list_that_is_none_is_read_to_its_end_only() {
        for length in 0..80 {
            for fill in [0u8, 1, 2, 255] {
                previous_ed25519(&vec![fill; length]);
            }
        }
    }
}
