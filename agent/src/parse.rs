//! Bytes to structs: no I/O, no clock, no panic on any input. Each file has a fuzz target.
