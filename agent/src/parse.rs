//! Bytes to structs: no I/O, no clock, no panic on any input. Each file has a fuzz target.

pub mod os_release;
pub mod procfs;
