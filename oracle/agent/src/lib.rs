//! The agent: runs on a GPU host, reads its real metrics, and answers the probes and challenges of the committee that
//! judges its container in the current epoch. It registers nothing and holds no money.
//!
//! A request passes, in this order: a bound on connections and on their time, a bound on its size, a bound on requests in
//! flight, the envelope's checks against cluster, program, container and epoch, the committee as the chain has it, the
//! signature, the replay record. Only then anything is measured or computed.
//!
//! | room | does |
//! |---|---|
//! | [`chain`] | what the agent needs to know of the chain, as a trait; [`onchain`] asks a node |
//! | [`admission`] | who may ask: the committee's cache and the record of nonces |
//! | [`prover`] | one capacity challenge at a time, and the products kept for their openings |
//! | [`server`] | the HTTP interface |
//! | [`daemon`] | start, readiness and ordered shutdown |

pub mod admission;
pub mod chain;
pub mod daemon;
mod listen;
pub mod onchain;
pub mod prover;
pub mod readiness;
pub mod server;
pub mod settings;
