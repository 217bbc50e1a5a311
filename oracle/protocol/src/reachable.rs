//! "Can you reach me?": a container's operator asks a checker whether the endpoint that is registered on chain can be reached
//! from outside. Nothing in the message says where to look: only the chain does, so that nobody can have others' ports tried.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Digest,
    envelope::{Domain, Malformed, Payload},
    evidence::MAX_REASON,
};

/// Path of a checker's interface: POST, borsh [`crate::Envelope`] as body and answer.
pub const PATH: &str = "/v1/reachable";

/// Asks whether the endpoint of the message's subject, a container, answers. Signed by the container's operator key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ReachableRequest;

impl Payload for ReachableRequest {
    const DOMAIN: Domain = Domain::ReachableRequest;
}

/// The answer to a [`ReachableRequest`], signed by the checker.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ReachableAnswer {
    /// [`crate::Envelope::digest`] of the request.
    pub request: Digest,
    /// The endpoint that was tried, as on chain.
    pub endpoint: String,
    /// Microseconds it took to connect and get an HTTP answer, or to give up.
    pub took_us: u64,
    /// Empty when an HTTP answer of any status came; otherwise what went wrong, at most [`MAX_REASON`] bytes.
    pub trouble: String,
}

impl Payload for ReachableAnswer {
    const DOMAIN: Domain = Domain::ReachableAnswer;

    fn check(&self) -> Result<(), Malformed> {
        // The chain allows 128 bytes.
        if self.endpoint.len() > 128 {
            return Err(Malformed::OutOfRange("endpoint"));
        }
        if self.trouble.len() > MAX_REASON {
            return Err(Malformed::OutOfRange("trouble"));
        }
        Ok(())
    }
}
