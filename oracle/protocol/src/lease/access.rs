//! Handing a workload over, and getting in.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::{Notice, Workload, stream::End};
use crate::{
    Digest,
    envelope::{Domain, Malformed, Payload},
};

/// Longest session in seconds.
pub const LONGEST_SESSION: u32 = 3_600;
/// A session's token stands behind this in the header `authorization`, in hex.
pub const TOKEN_PREFIX: &str = "Bearer ";

/// What proves a session: 32 random bytes, a secret.
pub type Token = [u8; 32];

/// Hands over the workload of a lease. Signed by the wallet that opened it; the message's subject is the container.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct WorkloadRequest {
    /// The lease's account.
    pub lease: [u8; 32],
    /// What to run; its hash is the lease's.
    pub workload: Workload,
}

impl Payload for WorkloadRequest {
    const DOMAIN: Domain = Domain::WorkloadRequest;

    fn check(&self) -> Result<(), Malformed> {
        self.workload.check().map_err(|invalid| Malformed::OutOfRange(invalid.0))
    }
}

/// The agent has the workload and will start it, or reject the lease. Handing over the same one again gives the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct WorkloadAnswer {
    /// [`crate::Envelope::digest`] of the request.
    pub request: Digest,
}

impl Payload for WorkloadAnswer {
    const DOMAIN: Domain = Domain::WorkloadAnswer;
}

/// Asks for a session. Signed by the wallet that opened the lease; the message's subject is the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SessionRequest {
    /// The lease's account.
    pub lease: [u8; 32],
    /// How long it is to last, 1 to [`LONGEST_SESSION`] seconds.
    pub seconds: u32,
}

impl Payload for SessionRequest {
    const DOMAIN: Domain = Domain::SessionRequest;

    fn check(&self) -> Result<(), Malformed> {
        if !(1..=LONGEST_SESSION).contains(&self.seconds) {
            return Err(Malformed::OutOfRange("seconds"));
        }
        Ok(())
    }
}

/// A session. It ends with its time, with the lease, and with the agent's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SessionAnswer {
    /// [`crate::Envelope::digest`] of the request.
    pub request: Digest,
    /// What proves it.
    pub token: Token,
    /// When it ends, unix seconds by the agent's clock.
    pub expires: i64,
}

impl Payload for SessionAnswer {
    const DOMAIN: Domain = Domain::SessionAnswer;
}

/// Where a workload is, in the agent's eyes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Its user has not handed it over yet.
    Awaited,
    /// The image is being fetched, or the workload comes up.
    Starting {
        /// What is being done, for people.
        step: String,
    },
    /// It runs.
    Running,
    /// It has ended, or did not come up.
    Ended {
        /// How.
        end: End,
    },
}

/// What a lease used so far, by the host's own word; all cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds during which it ran, times the container's units.
    pub gpu_seconds: u64,
    /// Joules that its GPUs drew.
    pub joules: u64,
    /// Bytes sent and received.
    pub bytes: u64,
}

/// A lease, in the agent's eyes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The lease's account, base58.
    pub lease: String,
    /// Where its workload is.
    #[serde(flatten)]
    pub state: State,
    /// When what was escrowed is used up, unix seconds of the chain's clock; `None` before it started.
    pub ends: Option<i64>,
    /// What it used.
    pub usage: Usage,
    /// Names of the workload's ports.
    pub ports: Vec<String>,
    /// What the host has to tell the user, oldest first, at most 32.
    pub notices: Vec<Notice>,
}

#[cfg(test)]
mod tests {
    use solana_keypair::Keypair;
    use solana_pubkey::Pubkey;
    use solana_signer::Signer;

    use super::*;
    use crate::{
        Context, Envelope, Expected, Refusal,
        envelope::{MAX_MESSAGE, SignError},
        lease::MAX_WORKLOAD,
    };

    const CONTEXT: Context = Context {
        genesis_hash: [1; 32],
        program: Pubkey::new_from_array([2; 32]),
        subject: Pubkey::new_from_array([3; 32]),
        epoch: 4,
    };

    fn largest() -> Workload {
        let mut workload = Workload { command: vec!["true".into(), String::new()], ..Workload::default() };
        workload.command[1] = "x".repeat(MAX_WORKLOAD - borsh::to_vec(&workload).unwrap().len());
        workload
    }

    #[test]
    fn the_largest_workload_fits_into_a_message_and_comes_out_as_it_went_in() {
        let (user, workload) = (Keypair::new(), largest());
        workload.check().unwrap();
        let request = WorkloadRequest { lease: [5; 32], workload };
        let envelope = Envelope::sign(&CONTEXT, &request, [6; 16], 1_000, &user).unwrap();
        let bytes = envelope.encode();
        assert!(bytes.len() <= MAX_MESSAGE);
        let signers = [user.pubkey()];
        let expected = Expected { context: CONTEXT, nonce: None, signers: &signers, now: 1_000 };
        assert_eq!(Envelope::decode(&bytes).unwrap().verify::<WorkloadRequest>(&expected).unwrap(), request);
        // A message to hand over is none to open a session with.
        let other = Envelope::decode(&bytes).unwrap().verify::<SessionRequest>(&expected);
        assert!(matches!(other, Err(Refusal::WrongDomain { .. })));
        let mut more = request;
        more.workload.command[1].push('x');
        assert!(matches!(
            Envelope::sign(&CONTEXT, &more, [6; 16], 1_000, &user),
            Err(SignError::Malformed(Malformed::OutOfRange(text))) if text.contains("48 KiB")
        ));
    }

    #[test]
    fn sessions_last_a_second_to_an_hour() {
        let asked = |seconds| SessionRequest { lease: [5; 32], seconds }.check().is_ok();
        assert!(asked(1) && asked(LONGEST_SESSION) && !asked(0) && !asked(LONGEST_SESSION + 1));
    }

    #[test]
    fn a_status_says_its_state_beside_the_rest() {
        let status = Status {
            lease: "11111111111111111111111111111111".into(),
            state: State::Ended { end: End::OverLimit { what: "disk".into() } },
            ends: Some(7),
            usage: Usage { gpu_seconds: 1, joules: 2, bytes: 3 },
            ports: vec!["HTTP".into()],
            notices: vec![Notice { at: 5, text: "hello".into() }],
        };
        let json = serde_json::to_string(&status).unwrap();
        let expected = r#"{"lease":"11111111111111111111111111111111","state":"ended","end":{"how":"over_limit","what":"disk"},"ends":7,"usage":{"gpu_seconds":1,"joules":2,"bytes":3},"ports":["HTTP"],"notices":[{"at":5,"text":"hello"}]}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
        for state in [State::Awaited, State::Starting { step: "pulling".into() }, State::Running] {
            let status = Status { state, ..status.clone() };
            assert_eq!(serde_json::from_str::<Status>(&serde_json::to_string(&status).unwrap()).unwrap(), status);
        }
    }
}
