//! What happens to those who leave and to those who fail: containers that go, tickets that leave or are retired, cases of
//! dishonesty and of breach. A module for each instruction or pair of them.

mod breach;
mod churn;
mod containers;
mod court;
mod dishonesty;
mod leaving;
mod maintenance;
mod order;
mod restore;
mod retirement;
mod withdrawal;
