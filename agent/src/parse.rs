//! Bytes to structs: no I/O, no clock, no panic on any input. Each file has a fuzz target.

pub mod algorithm;
pub mod cgroup;
pub mod der;
pub mod encryption;
pub mod keys;
pub mod names;
pub mod openssh;
pub mod os_release;
pub mod passwd;
pub mod pem;
pub mod private_key;
pub mod procfs;
pub mod x509;

pub use keys::{Found, Within, keys};
