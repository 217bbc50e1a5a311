//! Containers: from registration to the vacated row.

mod announce_maintenance;
mod deregister_container;
mod register_container;
mod rotate_container_operator;
mod update_container;
mod vacate_row;

pub use announce_maintenance::*;
pub use deregister_container::*;
pub use register_container::*;
pub use rotate_container_operator::*;
pub use update_container::*;
pub use vacate_row::*;

use anchor_lang::prelude::Result;

use crate::{
    constants::MAX_ENDPOINT,
    error::DatagalaxError,
    state::{Container, Row},
};

/// Writes an endpoint of 1 to 128 bytes into its field and says its length.
///
/// # Errors
/// [`DatagalaxError::BadEndpoint`].
#[inline(never)]
pub(super) fn write_endpoint(to: &mut [u8; MAX_ENDPOINT], endpoint: &str) -> Result<u8> {
    let bytes = endpoint.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_ENDPOINT {
        return Err(DatagalaxError::BadEndpoint.into());
    }
    to.fill(0);
    to[..bytes.len()].copy_from_slice(bytes);
    Ok(bytes.len() as u8)
}

/// Halts a container that lacks stake, and its row after the present epoch.
pub(super) fn halt(container: &mut Container, row: &mut Row, reason: u16, epoch: u32) {
    container.status = 1;
    container.halt_reason = reason;
    row.halt(epoch);
}
