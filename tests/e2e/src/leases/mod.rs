//! Leases as their users and hosts see them: who rents, what committees said meanwhile, and what a lease must then come to.

pub mod availability;
pub mod bill;
pub mod user;

pub use availability::{Recorded, Recorder};
pub use bill::{Bill, Terms};
pub use user::User;
