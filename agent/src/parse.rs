//! Bytes to structs: no I/O, no clock, no panic on any input. Each file has a fuzz target.

pub mod algorithm;
pub mod ber;
pub mod cgroup;
pub mod der;
pub mod document;
pub mod encryption;
pub mod given;
pub mod gnupg;
pub mod greeting;
pub mod jks;
pub mod jwk;
pub mod keybox;
pub mod keys;
pub mod krl;
pub mod kubeconfig;
pub mod names;
pub mod ocsp;
pub mod openpgp;
pub mod openssh;
pub mod os_release;
pub mod passwd;
pub mod pbe;
pub mod pem;
pub mod pkcs12;
pub mod private_key;
pub mod proc_keys;
pub mod procfs;
pub mod spki;
pub mod ssh_files;
pub mod ssh_lines;
pub mod symmetric;
pub mod tls;
pub mod weak;
pub mod wireguard;
pub mod x509;

pub use keys::{Found, Within, keys};
