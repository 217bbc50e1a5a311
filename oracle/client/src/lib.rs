//! The Rust SDK of Datagalax: everything a daemon or the command line needs to talk to the program, and nothing that decides.
//!
//! | to ... | use |
//! |---|---|
//! | name an account | [`addresses`] |
//! | read accounts, typed and checked | [`Reader`], [`accounts::decode`] |
//! | build an instruction | [`instructions`] (the program), [`token`] (the $ATH mint and wallets) |
//! | send a transaction and know what became of it | [`Pipeline`], with a [`pipeline::PendingStore`] |
//! | understand a refusal | [`refusal::Refusal`]: a sentence and a next step |
//! | load a key | [`keys::load`] |
//! | know the chain's time | [`clock::ChainClock`] |
//! | print or parse $ATH | [`amount`] |
//! | reach one node or several that stand in for each other | [`rpc::connect`] |
//! | see every slot with its hash and time | [`slots::SlotWatch`] |
//! | keep accounts in memory as they change | [`feed::AccountFeed`] |
//! | be woken when accounts change | [`rpc::Changes`] |
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use datagalax_client::{Pipeline, Reader, keys, pipeline::{DirectoryStore, Settings}, rpc};
//!
//! let rpc = rpc::connect(&["http://127.0.0.1:8899".to_owned()], &[])?;
//! let reader = Reader::new(rpc.clone());
//! let network = reader.network().await?;
//! println!("epoch {} of {} blocks", network.current_epoch, network.blocks);
//!
//! let payer = Arc::new(keys::load("operator.json".as_ref())?);
//! let pipeline = Pipeline::new(rpc, payer, Arc::new(DirectoryStore::open("pending".as_ref())?), Settings::default());
//! pipeline.resolve_pending().await?; // before any new work: what a stopped process left behind
//! # let instructions = [];
//! let landed = pipeline.send("commit block 3", &instructions, &[]).await?;
//! println!("{}", landed.signature);
//! # Ok(()) }
//! ```
//!
//! Money is computed by the program only: this crate reads it from the chain.

pub mod accounts;
pub mod addresses;
pub mod amount;
pub mod clock;
pub mod feed;
pub mod instructions;
pub mod keys;
pub mod pipeline;
mod reader;
pub mod refusal;
pub mod rpc;
pub mod slots;
pub mod token;

/// The address type of the whole project (`solana-address` 2, which `solana_pubkey::Pubkey` and Anchor's `Address` are too).
pub use anchor_lang::prelude::Address;
pub use pipeline::Pipeline;
pub use reader::{CheckerSet, ReadError, Reader};
