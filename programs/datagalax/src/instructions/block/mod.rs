//! Blocks of rows.

mod create_block;
mod grow_block;

pub use create_block::*;
pub use grow_block::*;
