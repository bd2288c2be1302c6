//! Keys that come to lie where another lay: their operations are nobody else's.

use std::path::Path;

use keyvigil_tests::host::tool;
use keyvigil_tests::watched::Watched;

use super::map;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_with_a_key_at_the_place_of_one_that_was_freed_is_not_held_against_that_one() {
    let make = |keys: &Path| ["a", "b"].iter().for_each(|name| drop(tool(keys, &format!("openssl genpkey -algorithm ED25519 -out {name}.key"))));
    let Some(watched) = Watched::start(make).await else { return };
    let program = watched.harness.dir("bin").join("uses");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operations/uses.c");
    let listed = tool(Path::new("/"), "ldd /usr/bin/openssl");
    let Some(library) = listed.split_whitespace().find(|word| word.starts_with('/') && word.ends_with("libcrypto.so.3")) else {
        eprintln!("not tried: openssl has no libcrypto.so.3 here");
        return watched.stop().await;
    };
    tool(&watched.keys, &format!("cc -O1 -o {} {} {library}", program.display(), source.display()));
    let uses = program.to_str().expect("text");
    tool(&watched.keys, &format!("{uses} load a.key sign 3 free make sign 5 free load b.key sign 4 free make sign 2"));
    // Freed by one of two who hold it: it is still the same.
    tool(&watched.keys, &format!("{uses} load b.key hold free sign 7"));
    watched.settled().await;
    assert_eq!(watched.uses("a.key").await, map([("signing_ops", 3.0)]));
    assert_eq!(watched.uses("b.key").await, map([("signing_ops", 11.0)]));
    let unknown = watched.counts("crypto.key.signing_ops", uses, &["key"]).await.get("unknown").copied();
    assert_eq!(unknown, Some(7.0), "keys of no file");
    watched.stop().await;
}
