//! Mail servers for tests: a real one in a process of its own (Debian's aiosmtpd, see `tests/support/smtp_server.py`), with
//! a certificate of its own CA, and a scripted one that says what no honest server would. Both end with their handle.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;
use tempfile::TempDir;

/// What the server took, as Python's mail parser reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Mail {
    /// Envelope sender.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// `TLSv1.3`, if there was TLS.
    pub tls: Option<String>,
    /// Who logged in.
    pub user: Option<String>,
    /// Names and decoded values.
    pub headers: Vec<(String, String)>,
    /// Of the mail and its parts, outermost first.
    pub content_types: Vec<String>,
    /// What the parser found wrong.
    pub defects: Vec<String>,
    /// The plain part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// Whether all bytes are ASCII.
    pub ascii: bool,
}

impl Mail {
    /// Value of a header that must be there once.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => value,
            _ => panic!("{name} must be there once: {:?}", self.headers),
        }
    }
}

/// A CA and a certificate for `127.0.0.1`, made with openssl.
#[derive(Debug)]
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// New ones.
    #[must_use]
    pub fn make() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("leaf.cnf"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n")
            .expect("a file");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(dir.path(), &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca"));
        openssl(dir.path(), &format!("req -new {key} -keyout leaf.key -out leaf.csr -subj /CN=mail.test"));
        openssl(dir.path(), "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile leaf.cnf -out leaf.pem");
        Self { dir }
    }

    /// One of `ca.pem`, `leaf.pem`, `leaf.key`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let out = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output().expect("openssl is installed");
    assert!(out.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A real mail server.
#[derive(Debug)]
pub struct SmtpServer {
    child: Child,
    dir: TempDir,
    /// On 127.0.0.1.
    pub port: u16,
}

impl SmtpServer {
    /// Starts one; `options` as in `smtp_server.py`, such as `["--tls", "none"]`.
    #[must_use]
    pub fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/smtp_server.py");
        // The system's Python: another one in PATH would not have Debian's packages.
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .arg("--dir")
            .arg(dir.path())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("a port: is python3-aiosmtpd installed?");
        Self { child, dir, port }
    }

    /// Starts one with TLS by `certificates`.
    #[must_use]
    pub fn with_tls(certificates: &Certificates, options: &[&str]) -> Self {
        let (cert, key) = (certificates.path("leaf.pem"), certificates.path("leaf.key"));
        let paths = ["--cert", cert.to_str().expect("UTF-8"), "--key", key.to_str().expect("UTF-8")];
        Self::start(&[&paths, options].concat())
    }

    /// All mail so far, in order. What a sender was told is taken is among it.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        let entries = std::fs::read_dir(self.dir.path()).expect("the directory");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths.iter().map(|path| serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("a mail")).collect()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes one connection and says `greeting`, then the next of `replies` after each line that it hears; then says nothing and
/// waits for the other side to go.
#[must_use]
pub fn scripted(greeting: &'static str, replies: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let Ok((stream, _)) = listener.accept() else { return };
        let _ = converse(stream, greeting, replies);
    });
    port
}

fn converse(mut stream: TcpStream, greeting: &str, replies: &[&str]) -> std::io::Result<()> {
    stream.write_all(greeting.as_bytes())?;
    let mut lines = BufReader::new(stream.try_clone()?);
    for reply in replies {
        lines.read_line(&mut String::new())?;
        stream.write_all(reply.as_bytes())?;
    }
    std::io::copy(&mut lines.by_ref(), &mut std::io::sink()).map(|_| ())
}

/// Someone on the way to the server at `port`: appends `injected` to its "go ahead" for TLS and passes on all else.
#[must_use]
pub fn injecting(port: u16, injected: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let Ok((client, _)) = listener.accept() else { return };
        let _ = inject(client, port, injected);
    });
    own
}

fn inject(mut client: TcpStream, port: u16, injected: &str) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let mut lines = BufReader::new(&mut server);
    let mut greetings = 0;
    while greetings < 2 {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        greetings += u8::from(line.starts_with("220 "));
        if greetings == 2 {
            line.push_str(injected);
        }
        client.write_all(line.as_bytes())?;
    }
    std::io::copy(&mut lines, &mut client)?;
    client.shutdown(Shutdown::Write)
}
