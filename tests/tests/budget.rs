//! Promise: what the helper's probes cost is bounded. A program that calls probed functions without end has those of its library taken
//! away, which is told; what others do with their keys is counted all the same.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use keyvigil_tests::harness::until;
use keyvigil_tests::host::tool;
use keyvigil_tests::watched::Watched;

/// Takes and gives back a key without end. With a library of its own, so that no other program is concerned.
const SPINS: &str = "
void *EVP_PKEY_new(void); int EVP_PKEY_up_ref(void *); void EVP_PKEY_free(void *);
int main(void) { void *key = EVP_PKEY_new(); for (;;) { EVP_PKEY_up_ref(key); EVP_PKEY_free(key); } }
";

/// Builds the program in `dir` with a copy of this machine's library; `None` where that has another name.
fn build(dir: &Path) -> Option<()> {
    let listed = Command::new("sh").args(["-c", "ldd \"$(command -v openssl)\" | awk '/libcrypto.so/ { print $3 }'"]).output().expect("ldd");
    let library = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    if !library.ends_with("libcrypto.so.3") {
        return None;
    }
    std::fs::copy(&library, dir.join("libcrypto.so.3")).expect("a copy");
    std::fs::write(dir.join("spins.c"), SPINS).expect("written");
    tool(dir, &format!("cc -O1 -o spins spins.c ./libcrypto.so.3 -Wl,-rpath,{}", dir.display()));
    Some(())
}

/// The program, gone when dropped.
struct Spins(Child);

impl Drop for Spins {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_that_cost_too_much_go_and_are_told_and_other_programs_are_counted_on() {
    let Some(watched) = Watched::start(|_| {}).await else { return };
    let dir = watched.harness.dir("spins");
    let Some(()) = build(&dir) else {
        eprintln!("not tried: openssl has no libcrypto.so.3 here");
        return watched.stop().await;
    };
    let spins = Spins(Command::new(dir.join("spins")).stdin(Stdio::null()).spawn().expect("it runs"));
    let library = dir.join("libcrypto.so.3").to_string_lossy().into_owned();
    let is_told = |gap: &String| gap.contains(&format!("calls of {library}")) && gap.contains("which costs more than the probes may");
    until("that what costs too much is taken away", || async { watched.gaps().await.iter().any(is_told).then_some(()) }).await;
    // Others are counted while it goes on.
    watched.settled().await;
    let others: Vec<String> = watched.gaps().await.into_iter().filter(|gap| gap.contains("calls of ") && !gap.contains(&library)).collect();
    drop(spins);
    assert!(others.is_empty(), "{others:?}");
    watched.stop().await;
}
