//! The user's side of a lease: hands its workload over to the container's agent, follows it, and gets in.
//!
//! Everything goes over TLS pinned to the container's operator key. What the wallet has to sign (the handover, and a session now
//! and then) is signed here; everything else carries the session's token, which is renewed by itself.
//!
//! | file | holds |
//! |---|---|
//! | `host` | questions to the host: signed, or with the session's token |
//! | `session` | the token, and its renewal |
//! | `socket` | WebSockets to the host |
//! | `logs`, `exec`, `port`, `files` | what a user does |
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use datagalax_tenant::{Contexts, Tenant, TenantError};
//! # use datagalax_protocol::lease::{LogFrame, Workload};
//! # use futures_util::StreamExt;
//! # async fn example(contexts: Arc<dyn Contexts>, wallet: Arc<datagalax_tenant::Wallet>, operator: solana_pubkey::Pubkey,
//! #     lease: solana_pubkey::Pubkey, workload: Workload) -> Result<(), TenantError> {
//! let tenant = Tenant::connect("http://203.0.113.7:7070", operator, contexts, wallet, lease)?;
//! tenant.hand_over(&workload).await?;
//! let mut logs = tenant.logs(0, true);
//! while let Some(frame) = logs.next().await {
//!     if let LogFrame::Output { bytes, .. } = frame? {
//!         print!("{}", String::from_utf8_lossy(&bytes));
//!     }
//! }
//! # Ok(()) }
//! ```

mod error;
mod exec;
mod files;
mod host;
mod logs;
mod port;
mod session;
mod socket;

pub use error::TenantError;
pub use exec::Exec;
pub use host::{Contexts, Tenant, Wallet};
pub use port::Port;
