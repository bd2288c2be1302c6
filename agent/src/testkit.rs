//! Keys and certificates for tests, made at test time by the tools that users make theirs with: no private key lies in the
//! repository, and what we read is compared with what those tools say.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keyvigil_common::{hex, sha256};

/// A directory that is removed with all that was made in it.
pub(crate) struct Workshop(tempfile::TempDir);

impl Workshop {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name.trim_start_matches('/'))
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs a tool in the directory with arguments separated by spaces; its output.
    pub(crate) fn run(&self, program: &str, arguments: &str) -> Vec<u8> {
        // An empty argument is written `''`.
        let list = arguments.split_ascii_whitespace().map(|argument| if argument == "''" { "" } else { argument });
        let out = Command::new(program).args(list).current_dir(self.root()).stdin(Stdio::null()).output().unwrap();
        assert!(out.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    pub(crate) fn openssl(&self, arguments: &str) -> Vec<u8> {
        self.run("openssl", arguments)
    }

    pub(crate) fn ssh_keygen(&self, arguments: &str) -> Vec<u8> {
        self.run("ssh-keygen", arguments)
    }

    pub(crate) fn keytool(&self, arguments: &str) -> Vec<u8> {
        self.run("keytool", arguments)
    }

    /// A new P-256 key, the cheapest that the tools make.
    pub(crate) fn ec_key(&self, name: &str) -> PathBuf {
        self.make_room(name);
        self.openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {}", self.path(name).display()));
        self.path(name)
    }

    /// A new self-signed certificate and its key.
    pub(crate) fn certificate(&self, name: &str, key: &str, common_name: &str, days: u32) -> PathBuf {
        self.ec_key(key);
        self.make_room(name);
        let (key, out) = (self.path(key), self.path(name));
        self.openssl(&format!(
            "req -x509 -new -key {} -subj /CN={common_name} -addext subjectAltName=DNS:{common_name} -days {days} -out {}",
            key.display(),
            out.display()
        ));
        out
    }

    fn make_room(&self, name: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
    }

    /// Fingerprint of a private key's public half as `openssl` computes it.
    pub(crate) fn spki_sha256(&self, arguments: &str) -> String {
        hex(&sha256(&self.openssl(&format!("pkey {arguments} -pubout -outform der"))))
    }

    /// Fingerprint as `ssh-keygen` prints it.
    pub(crate) fn ssh_fingerprint(&self, name: &str) -> String {
        let line = String::from_utf8(self.ssh_keygen(&format!("-lf {name}"))).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().to_owned()
    }
}
