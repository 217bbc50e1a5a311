//! The user's side of a lease: what is offered, what is asked for, and what it came to. Pure where it can be; the commands carry
//! it out.

pub mod bill;
pub mod coming_up;
pub mod consent;
pub mod contact;
pub mod follow;
pub mod forward;
pub mod history;
pub mod host;
pub mod kept;
pub mod market;
pub mod offer;
pub mod opening;
pub mod reason;
pub mod settling;
pub mod size;
pub mod statement;
pub mod workload;
