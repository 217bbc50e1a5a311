//! Containers.

mod register_container;

pub use register_container::*;
