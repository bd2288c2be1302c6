//! Bytes to structs: no I/O, no clock, no panic on any input. Each file has a fuzz target.

pub mod algorithm;
pub mod ber;
pub mod der;
pub mod encryption;
pub mod given;
pub mod jks;
pub mod keys;
pub mod openssh;
pub mod os_release;
pub mod pbe;
pub mod pem;
pub mod pkcs12;
pub mod private_key;
pub mod procfs;
pub mod weak;
pub mod x509;

pub use keys::{Found, Within, keys};
