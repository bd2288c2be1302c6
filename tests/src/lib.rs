//! The harness: real aggregators and agents, in this process or as their own, and the parts of the world that a test
//! brings along (a link that fails, a host made of files, mail and Slack servers). Never used outside tests.

pub mod cost;
pub mod fleet;
pub mod harness;
pub mod host;
pub mod link;
pub mod nginx;
pub mod oracle;
pub mod packets;
pub mod probe;
pub mod process;
pub mod prometheus;
pub mod protobuf;
pub mod proxy;
pub mod random;
pub mod recording;
pub mod replay;
pub mod sender;
pub mod slack;
pub mod smtp;
pub mod up;
pub mod watched;
