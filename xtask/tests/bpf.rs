//! The kernel programs that are built into the agent are those whose sources lie here.

use std::path::Path;

#[test]
fn the_objects_are_of_their_sources() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    assert_eq!(xtask::bpf::check(&root, false), Ok(()));
}
