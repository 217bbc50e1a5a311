//! The agent: runs on a GPU host, reads its real metrics, answers the probes of the committee that judges its container, proves
//! its devices at every beacon, follows its leases, and keeps tenants away from hardware that is about to fail them. It
//! registers nothing and holds no money beyond fees.
//!
//! | room | does |
//! |---|---|
//! | [`chain`] | what the agent needs to know of the chain and does there, as traits; [`onchain`] is a node of it |
//! | [`admission`], [`limit`] | who may ask what, how often, and each message once |
//! | [`beacon`] | which slots are beacons; computing them, and keeping the proofs to be opened |
//! | [`faults`] | what is wrong with the hardware, and until when it counts |
//! | [`leases`] | what is to be done about the container's lease; [`leases::Workloads`] is who does it |
//! | [`workloads`] | running what users lease the host for, and letting them in |
//! | [`offer`] | endpoint, price and accepting on chain, in step with settings and hardware |
//! | [`selfcheck`] | whether everything around it is as it must be, and what to do when not |
//! | [`server`], `listen`, [`metrics`] | the HTTP interface; its port, in the clear or pinned TLS, and the relays that lead to it; what is counted |
//! | [`daemon`] | start, the tasks, ordered shutdown |

pub mod admission;
pub mod beacon;
pub mod chain;
pub mod daemon;
pub mod faults;
pub mod leases;
pub mod limit;
mod listen;
pub mod metrics;
pub mod offer;
pub mod onchain;
pub mod retry;
pub mod selfcheck;
pub mod server;
pub mod settings;
pub mod state;
pub mod workloads;
