//! What the user of a lease and the container's agent say to each other.
//!
//! The user hands its [`Workload`] over and asks for a session, each signed by the wallet that opened the lease; everything after
//! that carries the session's token. All of it goes over TLS pinned to the container's operator key: the agent answers none of
//! these paths in the clear, because a workload holds secrets and a token is one.
//!
//! | path | method | body | answer |
//! |---|---|---|---|
//! | [`path::WORKLOAD`] | POST | envelope of a [`WorkloadRequest`] | envelope of a [`WorkloadAnswer`] |
//! | [`path::SESSION`] | POST | envelope of a [`SessionRequest`] | envelope of a [`SessionAnswer`] |
//! | [`path::status`] | GET | | JSON of a [`Status`] |
//! | [`path::logs`] `?from=<offset>&follow=<bool>` | WebSocket | | [`LogFrame`]s |
//! | [`path::exec`] | WebSocket | [`ExecInput`]s | [`ExecOutput`]s |
//! | [`path::port`] | WebSocket | bytes | bytes |
//! | [`path::files`] `?path=<relative path>` | GET, PUT | a file | a file |
//!
//! A frame is the borsh of its type in one binary WebSocket message, at most [`MAX_FRAME`] bytes. On a port each message is bytes
//! as they are, and an empty one ends its direction: what TCP calls a half-close.

mod access;
mod stream;
mod workload;

pub use access::{
    LONGEST_SESSION, SessionAnswer, SessionRequest, State, Status, TOKEN_PREFIX, Token, Usage, WorkloadAnswer,
    WorkloadRequest,
};
pub use stream::{End, ExecInput, ExecOutput, LogFrame, MAX_FRAME, Notice};
pub use workload::{Invalid, MAX_WORKLOAD, Port, Workload};

/// Paths of the agent's interface for users of leases.
pub mod path {
    use solana_pubkey::Pubkey;

    /// Takes a [`super::WorkloadRequest`].
    pub const WORKLOAD: &str = "/v1/lease/workload";
    /// Takes a [`super::SessionRequest`].
    pub const SESSION: &str = "/v1/lease/session";

    /// Where a lease is.
    pub fn status(lease: &Pubkey) -> String {
        format!("/v1/leases/{lease}")
    }

    /// The output of its workload.
    pub fn logs(lease: &Pubkey) -> String {
        format!("/v1/leases/{lease}/logs")
    }

    /// A command beside its workload.
    pub fn exec(lease: &Pubkey) -> String {
        format!("/v1/leases/{lease}/exec")
    }

    /// One of its workload's ports.
    pub fn port(lease: &Pubkey, name: &str) -> String {
        format!("/v1/leases/{lease}/ports/{name}")
    }

    /// Its workload's files.
    pub fn files(lease: &Pubkey) -> String {
        format!("/v1/leases/{lease}/files")
    }
}
