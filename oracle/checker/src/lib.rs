//! The checker: in every epoch it finds the blocks it sits on, measures their containers at random instants and at every
//! beacon, commits to its report before the epoch ends and reveals it after. What was measured is on disk as it comes, and what it
//! will reveal is on disk before it commits, so a restart at any instant carries on.
//!
//! | room | does |
//! |---|---|
//! | [`chain`] | what a checker needs of the chain, as a trait; [`onchain`] asks a node |
//! | [`beacons`] | which beacons the epoch has had: pure |
//! | [`schedule`] | random instants |
//! | [`reach`] | which addresses a stranger's endpoint may name |
//! | [`probe`] | one question to one agent, within bounds of time and size |
//! | [`measure`] | all questions to all containers of a block in an epoch |
//! | [`score`] | from what was measured to the vote: pure |
//! | [`findings`] | what containers have in common and should not: evidence, no verdict; [`inspection`] what cannot be true of one |
//! | [`store`] | reports and evidence on disk; [`record`] writes what is measured in batches, [`disk`] says how much room is left |
//! | [`daemon`] | the loops: follow slots, measure, commit, reveal, claim, keep house |
//! | [`serve`] | evidence by Merkle proof after the reveal; whether a host can be reached |

pub mod beacons;
pub mod chain;
pub mod daemon;
pub mod disk;
pub mod findings;
pub mod inspection;
pub mod measure;
pub mod metrics;
pub mod onchain;
pub mod probe;
pub mod reach;
pub mod record;
pub mod schedule;
pub mod score;
pub mod serve;
pub mod settings;
pub mod status;
pub mod store;
