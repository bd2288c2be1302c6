//! The aggregator: takes batches from agents, stores them before it says so, answers questions, alerts, shows.
//! One sample's way: `ingest` -> `store` -> (asked) `query` -> `web`. `run` is the only file that wires them.

pub mod index;
pub mod query;
pub mod store;
