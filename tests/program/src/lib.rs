//! A world in LiteSVM with the real program in it: actors, clock, epochs, reports, and the books' own check.
//!
//! Everything panics with what it wanted: it is used by tests only, and a test has nobody to hand an error to.
//! Build the program first: `cargo xtask build-program`.

pub mod accounts;
pub mod actors;
pub mod addresses;
pub mod books;
pub mod epochs;
pub mod instructions;
pub mod refusals;
pub mod reports;
pub mod send;
pub mod settings;
pub mod stage;
pub mod time;
pub mod tokens;
pub mod world;

pub use actors::{Checker, Indexer, Provider, User};
pub use reports::Report;
pub use send::{Failure, Outcome};
pub use settings::Settings;
pub use world::World;
