//! Parts of the world that tests bring along: servers that the product talks to. Never used outside tests.

pub mod slack;
pub mod smtp;
