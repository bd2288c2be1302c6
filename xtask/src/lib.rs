//! The project's own chores. `tidy` reads the tree and says what breaks the rules of `CONTRIBUTING.md` and
//! `ARCHITECTURE.md`. Nothing here is part of the product, and nothing here changes a file.

pub mod bpf;
pub mod tidy;
pub mod tree;
