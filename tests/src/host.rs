//! Hosts made of files, and keys made by the real tools.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// Checks a document against the schema that CycloneDX's own library brings; how many components it has.
///
/// # Panics
/// Where it is not valid, or there is no Node.js.
#[must_use]
pub fn validate_cbom(version: &str, bom: &[u8]) -> usize {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/cbom");
    assert!(dir.join("node_modules/ajv").exists(), "run `npm ci` in tests/support/cbom, as scripts/test does");
    let mut node = Command::new("node");
    let mut child = node.arg(dir.join("validate.mjs")).arg(version).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("node");
    child.stdin.take().expect("its input").write_all(bom).expect("written");
    let out = child.wait_with_output().expect("it ends");
    assert!(out.status.success(), "CycloneDX {version}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().parse().expect("a count")
}
