//! The agent: senses keys, certificates and the host's health, keeps what it saw on disk, and delivers it exactly once.
//! One sample's way: `collect/*` -> `sampler` -> `buffer` -> `uplink`. `run` is the only file that wires them.

pub mod allocator;
pub mod buffer;
pub mod canary;
pub mod cli;
pub mod collect;
pub mod config;
pub mod control;
pub mod doctor;
pub mod enhanced;
pub mod enroll;
pub mod http;
pub mod identity;
pub mod parse;
pub mod policy;
pub mod probe;
pub mod rootfs;
pub mod run;
pub mod sampler;
pub mod sender;
pub mod standing;
pub mod status;
pub mod top;
pub mod uplink;

#[cfg(test)]
mod testkit;
