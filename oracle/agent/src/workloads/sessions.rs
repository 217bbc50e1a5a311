//! Sessions of leases' users: what proves that somebody is the lease's user without asking the wallet each time.
//!
//! Only hashes of tokens are kept, in memory: a restart of the agent ends all sessions.

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use datagalax_protocol::{
    Digest,
    lease::{TOKEN_PREFIX, Token},
};
use sha2::{Digest as _, Sha256};
use solana_pubkey::Pubkey;
use tokio::time::{self, Instant};

use crate::daemon::lock;

/// Most sessions of a lease. One more ends the one that would end first.
pub const PER_LEASE: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Session {
    hash: Digest,
    expires: Instant,
}

/// The sessions of all leases here.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<Pubkey, Vec<Session>>>);

impl Sessions {
    /// Opens a session of a lease that lasts so long.
    pub fn open(&self, lease: Pubkey, token: &Token, lasts: Duration) {
        let now = Instant::now();
        let mut leases = self.leases();
        let sessions = leases.entry(lease).or_default();
        sessions.retain(|session| session.expires > now);
        if sessions.len() >= PER_LEASE
            && let Some(first) = (0..sessions.len()).min_by_key(|at| sessions[*at].expires)
        {
            sessions.swap_remove(first);
        }
        sessions.push(Session { hash: hash(token), expires: now + lasts });
    }

    /// Whether this header is of a session of this lease.
    pub fn admits(&self, lease: &Pubkey, authorization: &str) -> bool {
        let Some(text) = authorization.strip_prefix(TOKEN_PREFIX) else { return false };
        let mut token = Token::default();
        if hex::decode_to_slice(text.trim(), &mut token).is_err() {
            return false;
        }
        let (hash, now) = (hash(&token), Instant::now());
        let leases = self.leases();
        // All are compared, and each to its last byte: how long it takes says nothing about any of them.
        let sessions = leases.get(lease).map(Vec::as_slice).unwrap_or_default();
        sessions.iter().fold(false, |found, session| found | (same(&session.hash, &hash) & (session.expires > now)))
    }

    /// Ends all sessions of a lease.
    pub fn close(&self, lease: &Pubkey) {
        self.leases().remove(lease);
    }

    /// Resolves once the lease has no session any more: what was opened with one may go on while its user renews it.
    pub async fn over(&self, lease: &Pubkey) {
        loop {
            let last = self.leases().get(lease).and_then(|sessions| sessions.iter().map(|session| session.expires).max());
            match last {
                Some(last) if last > Instant::now() => time::sleep_until(last).await,
                _ => return,
            }
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Pubkey, Vec<Session>>> {
        lock(&self.0)
    }
}

fn hash(token: &Token) -> Digest {
    Sha256::digest(token).into()
}

/// In a time that does not depend on the bytes.
fn same(a: &Digest, b: &Digest) -> bool {
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| black_box(differing | (a ^ b)));
    differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Pubkey = Pubkey::new_from_array([1; 32]);
    const B: Pubkey = Pubkey::new_from_array([2; 32]);
    const MINUTE: Duration = Duration::from_secs(60);

    fn bearer(token: &Token) -> String {
        format!("{TOKEN_PREFIX}{}", hex::encode(token))
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_opens_its_lease_until_it_expires() {
        let sessions = Sessions::default();
        let token = [7; 32];
        sessions.open(A, &token, MINUTE);
        assert!(sessions.admits(&A, &bearer(&token)));
        assert!(!sessions.admits(&B, &bearer(&token)), "another lease");
        assert!(!sessions.admits(&A, &bearer(&[8; 32])));
        for none in ["", "Bearer ", "Bearer zz", &bearer(&token)[7..], &format!("{}00", bearer(&token))] {
            assert!(!sessions.admits(&A, none), "{none}");
        }
        time::advance(MINUTE).await;
        assert!(!sessions.admits(&A, &bearer(&token)), "expired");
        sessions.open(A, &token, MINUTE);
        sessions.close(&A);
        assert!(!sessions.admits(&A, &bearer(&token)), "the lease is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_has_sixteen_and_the_one_that_ends_first_makes_room() {
        let sessions = Sessions::default();
        let token = |n: u8| [n; 32];
        for n in 0..PER_LEASE as u8 {
            sessions.open(A, &token(n), MINUTE - Duration::from_secs(u64::from(n)));
        }
        sessions.open(A, &token(99), MINUTE);
        let admitted = |n| sessions.admits(&A, &bearer(&token(n)));
        assert!(!admitted(15) && admitted(99) && (0..15).all(admitted));
        assert_eq!(sessions.leases()[&A].len(), PER_LEASE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_opened_goes_on_while_its_user_renews() {
        let sessions = Sessions::default();
        sessions.open(A, &[1; 32], MINUTE);
        let began = Instant::now();
        let renewing = async {
            time::sleep(MINUTE / 2).await;
            sessions.open(A, &[2; 32], MINUTE);
        };
        tokio::join!(sessions.over(&A), renewing);
        assert_eq!(began.elapsed(), MINUTE * 3 / 2);
        sessions.over(&B).await;
    }
}
