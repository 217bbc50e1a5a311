//! Classes of hardware.

mod apply_class;
mod create_class;
mod update_class;

pub use apply_class::*;
pub use create_class::*;
pub use update_class::*;
