//! Indexers: whoever matches users to containers for a share of the fee.

mod leave_indexer;
mod register_indexer;
mod update_indexer;

pub use leave_indexer::*;
pub use register_indexer::*;
pub use update_indexer::*;
