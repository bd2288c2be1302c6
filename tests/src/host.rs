//! Hosts made of files, and keys made by the real tools.

use std::path::{Path, PathBuf};
use std::process::Command;

use keyvigil_agent::rootfs::RootFs;

/// A copy of the small made-up host, to be changed by the test.
///
/// # Panics
/// Where the fixture is not there.
#[must_use]
pub fn small_host(into: &Path) -> RootFs {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/roots/small-host");
    copy(&fixture, into);
    RootFs::new(into)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("the fixture") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Runs a tool; its output.
///
/// # Panics
/// Where it fails.
pub fn tool(dir: &Path, command: &str) -> String {
    let mut words = command.split_whitespace();
    let name = words.next().expect("a command");
    let out = Command::new(name).args(words).current_dir(dir).output().unwrap_or_else(|e| panic!("{name} is not installed: {e}"));
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Makes a self-signed certificate `NAME.pem` with `NAME.key` that is valid for `days`; the certificate's path.
#[must_use]
pub fn certificate(dir: &Path, name: &str, days: u32) -> PathBuf {
    tool(
        dir,
        &format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.pem -days {days} -subj /CN={name}.example.org -addext basicConstraints=critical,CA:FALSE"
        ),
    );
    dir.join(format!("{name}.pem"))
}

/// SHA-256 of the public key of a certificate, as openssl sees it.
#[must_use]
pub fn spki_fingerprint(certificate: &Path) -> String {
    let script = format!("openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform der | sha256sum", certificate.display());
    let out = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    String::from_utf8_lossy(&out.stdout).split_whitespace().next().expect("a hash").to_owned()
}
