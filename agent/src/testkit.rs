//! Keys and certificates for tests, made at test time by the tools that users make theirs with: no private key lies in the
//! repository, and what we read is compared with what those tools say.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keyvigil_common::{hex, sha256};

use crate::parse::Found;
use crate::parse::keys::{Parsed, keys_at, looks_like_keys};

/// The one object of a file at `path`.
pub(crate) fn only(bytes: &[u8], path: &str) -> Found {
    let found = all(bytes, path);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

/// All objects of a file at `path`, which has no faults.
pub(crate) fn all(bytes: &[u8], path: &str) -> Vec<Found> {
    assert!(looks_like_keys(bytes, bytes.len() as u64, Path::new(path)), "{path} is not even read");
    let parsed = keys(bytes, Path::new(path));
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    parsed.objects
}

/// What the file at `path` holds, read without passwords.
pub(crate) fn keys(bytes: &[u8], path: &Path) -> Parsed {
    keys_at(bytes, path)
}

/// `bytes` with some of them changed, and half of them cut off, as damaged and hostile files are.
pub(crate) fn damaged(bytes: &[u8], hits: &[(proptest::sample::Index, u8)], cut: proptest::sample::Index) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, value) in hits {
        let at = at.index(bytes.len());
        bytes[at] = *value;
    }
    if hits.len().is_multiple_of(2) {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

/// A home of GnuPG's; its agent ends with it.
pub(crate) struct Gpg(pub(crate) Workshop);

impl Gpg {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let shop = Workshop::new();
        std::fs::set_permissions(shop.root(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self(shop)
    }

    /// Runs `gpg` with arguments separated by spaces.
    pub(crate) fn run(&self, arguments: &str) -> Vec<u8> {
        self.talk(arguments, "")
    }

    /// Runs `gpg` and answers its questions.
    pub(crate) fn talk(&self, arguments: &str, answers: &str) -> Vec<u8> {
        let home = self.0.root();
        let mut gpg = Command::new("gpg");
        gpg.env("LC_ALL", "C").arg("--homedir").arg(home).args(["--yes", "--no-tty", "--pinentry-mode", "loopback", "--status-fd", "2"]);
        gpg.args(if answers.is_empty() { ["--batch"].as_slice() } else { &["--command-fd", "0"] });
        gpg.args(arguments.split_ascii_whitespace().map(|argument| if argument == "''" { "" } else { argument }));
        let mut gpg = gpg.current_dir(home).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        gpg.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
        let out = gpg.wait_with_output().unwrap();
        assert!(out.status.success(), "gpg {arguments}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    /// Makes a key without a password; its fingerprint.
    pub(crate) fn key(&self, user: &str, algorithm: &str, usage: &str, life: &str) -> String {
        self.run(&format!("--passphrase '' --quick-gen-key {user} {algorithm} {usage} {life}"));
        self.fingerprints(user)[0].clone()
    }

    /// Fingerprints of a key and its subkeys.
    pub(crate) fn fingerprints(&self, user: &str) -> Vec<String> {
        self.colons(user).iter().filter(|row| row[0] == "fpr").map(|row| row[9].to_ascii_lowercase()).collect()
    }

    /// What GnuPG says of a key, for programs.
    pub(crate) fn colons(&self, user: &str) -> Vec<Vec<String>> {
        let text = String::from_utf8(self.run(&format!("--with-colons --with-subkey-fingerprint --list-keys {user}"))).unwrap();
        text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let ended = Command::new("gpgconf").arg("--homedir").arg(self.0.root()).args(["--kill", "all"]).status();
        assert!(ended.unwrap().success());
    }
}

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

    /// An authority of that name in a directory of its own: `ca.pem`, `ca.key`.
    pub(crate) fn authority(&self, dir: &str, common_name: &str) {
        self.certificate(&format!("{dir}/ca.pem"), &format!("{dir}/ca.key"), common_name, 365);
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=DIR/index\ncrlnumber=DIR/number\ndefault_md=sha256\ndefault_crl_days=7\ncrl_extensions=e\n\
                      [e]\nauthorityKeyIdentifier=keyid\n";
        self.write(&format!("{dir}/ca.cnf"), config.replace("DIR", dir));
        self.write(&format!("{dir}/index"), "");
        self.write(&format!("{dir}/number"), "2A\n");
    }

    /// A certificate of the authority in `dir`.
    pub(crate) fn issue(&self, dir: &str, name: &str, common_name: &str, serial: &str) {
        self.ec_key("issued.key");
        self.make_room(name);
        self.openssl(&format!("req -new -key issued.key -subj /CN={common_name} -out issued.csr"));
        self.write("issued.ext", "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
        let by = format!("-CA {dir}/ca.pem -CAkey {dir}/ca.key -set_serial {serial} -extfile issued.ext");
        self.openssl(&format!("x509 -req -in issued.csr {by} -days 30 -out {name}"));
    }

    /// Has the authority in `dir` revoke a certificate, and write its list.
    pub(crate) fn revoke(&self, dir: &str, certificate: &str, list: &str) {
        let config = format!("ca -config {dir}/ca.cnf -keyfile {dir}/ca.key -cert {dir}/ca.pem");
        self.openssl(&format!("{config} -revoke {certificate} -crl_reason keyCompromise"));
        self.openssl(&format!("{config} -gencrl -out {list}"));
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
