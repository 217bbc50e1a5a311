//! Account types, one a file: layout, seeds and invariant.
//!
//! Every type is zero-copy: `repr(C)`, without padding (checked at compile time), little-endian, with a version byte and
//! reserved bytes. `invariant()` is called at the end of each handler that changed the account.

mod block;
mod case;
mod checker;
mod checker_set;
mod container;
mod epoch;
mod gpu_class;
mod indexer;
mod keeper;
mod lease;
mod network;
mod parameters;
mod provider;
mod vault_ledger;

pub use block::*;
pub use case::*;
pub use checker::*;
pub use checker_set::*;
pub use container::*;
pub use epoch::*;
pub use gpu_class::*;
pub use indexer::*;
pub use keeper::*;
pub use lease::*;
pub use network::*;
pub use parameters::*;
pub use provider::*;
pub use vault_ledger::*;

/// Layout version that this program writes and accepts.
pub const VERSION: u8 = 1;

/// Fails the build when a layout changes size: accounts on chain would be read wrongly.
macro_rules! assert_size {
    ($type:ty, $bytes:expr) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $bytes, concat!("layout of ", stringify!($type)));
    };
}
pub(crate) use assert_size;
