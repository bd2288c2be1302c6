//! The aggregator: takes batches from agents, stores them before it says so, answers questions, alerts, shows.
//! One sample's way: `ingest` -> `store` -> (asked) `query` -> `web`. `run` is the only file that wires them.

pub mod alert;
pub mod authority;
pub mod cli;
pub mod config;
pub mod endpoints;
pub mod enroll;
pub mod fleet;
pub mod index;
pub mod ingest;
pub mod job;
pub mod keys;
pub mod maintain;
#[doc(hidden)]
pub mod measured;
pub mod notify;
pub mod orders;
pub mod query;
pub mod rotation;
pub mod run;
pub mod serving;
pub mod store;
pub mod tenant;
pub mod upkeep;
pub mod web;
