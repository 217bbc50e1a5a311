//! The whole of Datagalax on one machine: a local Solana network, the program, one container (this very machine), three
//! checkers and a keeper, each its own process as an operator would run it.
//!
//! `cargo xtask demo` runs it for people, `tests/` runs the same for CI, and breaks it: [`proxy`] stands between the daemons and the
//! world, [`history`] says afterwards what landed.

pub mod actions;
pub mod books;
pub mod closing;
pub mod command;
pub mod daemon;
pub mod deployment;
pub mod follow;
pub mod history;
pub mod leases;
pub mod proxy;
pub mod settings;
pub mod until;
pub mod workdir;

mod hardware;

pub use books::Books;
pub use deployment::Deployment;
pub use history::History;
pub use proxy::Proxy;
pub use settings::Settings;
