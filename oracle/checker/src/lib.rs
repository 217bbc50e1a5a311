//! The checker: in every epoch it finds the blocks it sits on, measures their containers at random instants, commits to
//! its report before the epoch ends and reveals it after. What it will reveal is on disk before it commits, so a restart at
//! any instant carries on.
//!
//! | room | does |
//! |---|---|
//! | [`chain`] | what a checker needs of the chain, as a trait; [`onchain`] asks a node |
//! | [`schedule`] | random instants |
//! | [`probe`] | one question to one agent, within bounds of time and size |
//! | [`measure`] | all questions to all containers of a block in an epoch |
//! | [`score`] | from what was measured to the vote: pure |
//! | [`store`] | reports and evidence on disk |
//! | [`daemon`] | the two loops: measure and commit; reveal |

pub mod chain;
pub mod daemon;
pub mod measure;
pub mod onchain;
pub mod probe;
pub mod schedule;
pub mod score;
pub mod settings;
pub mod status;
pub mod store;
