//! Promise: it is known how often which key was really used, by which program, and how many TLS handshakes that were; counted from real
//! programs that know nothing of it. What cannot be counted is said to be unknown.

mod reuse;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use keyvigil_tests::harness::until;
use keyvigil_tests::host::{certificate, tool};
use keyvigil_tests::nginx::Nginx;
use keyvigil_tests::watched::Watched;

fn rsa(keys: &Path, name: &str) {
    tool(
        keys,
        &format!(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 90 -subj /CN={name}.example.org -addext basicConstraints=critical,CA:FALSE"
        ),
    );
}

/// One handshake of `openssl s_client`, and what it says of it.
fn connect(port: u16, name: &str, more: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-ign_eof", "-connect", &format!("127.0.0.1:{port}"), "-servername", &format!("{name}.example.org")]).args(more);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl starts");
    let request = format!("GET / HTTP/1.0\r\nHost: {name}.example.org\r\n\r\n");
    child.stdin.take().expect("a pipe").write_all(request.as_bytes()).expect("a request");
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("HTTP/1."), "{name} {more:?}: {said}");
    said.into_owned()
}

/// A handshake that a worker has begun and cannot end yet.
struct Begun {
    go_on: SyncSender<()>,
    client: JoinHandle<String>,
}

impl Begun {
    fn with(server: u16, name: &'static str) -> Self {
        let between = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = between.local_addr().expect("an address").port();
        let client = std::thread::spawn(move || connect(port, name, &[]));
        let ((mut inner, _), mut outer) = (between.accept().expect("the client"), TcpStream::connect(("127.0.0.1", server)).expect("the server"));
        let mut head = [0; 5];
        inner.read_exact(&mut head).expect("a record's head");
        outer.write_all(&head).expect("it is sent");
        while !is_read(server, outer.local_addr().expect("an address").port()) {
            std::thread::yield_now();
        }
        let (go_on, wait) = sync_channel(0);
        std::thread::spawn(move || {
            wait.recv().expect("it goes on");
            let (mut from, mut to) = (inner.try_clone().expect("a handle"), outer.try_clone().expect("a handle"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let _ = std::io::copy(&mut outer, &mut inner);
            let _ = inner.shutdown(Shutdown::Both);
        });
        Self { go_on, client }
    }

    fn end(self) -> String {
        self.go_on.send(()).expect("it waits");
        self.client.join().expect("the client ends well")
    }
}

/// Whether the server has a connection from this port, and has read all that came.
fn is_read(server: u16, client: u16) -> bool {
    let all = std::fs::read_to_string("/proc/net/tcp").expect("connections");
    let (from, to) = (format!(":{server:04X}"), format!(":{client:04X}"));
    let is_it = |fields: &[&str]| fields[1].ends_with(&from) && fields[2].ends_with(&to) && fields[4].ends_with(":00000000") && fields[9] != "0";
    all.lines().skip(1).any(|line| is_it(&line.split_whitespace().collect::<Vec<_>>()))
}

/// Certificates that a server showed, and how often.
#[derive(Default)]
struct Shown(Vec<(String, String, u32)>);

impl Shown {
    /// One more, that is there now.
    async fn add(&mut self, watched: &Watched) {
        let pem = std::fs::read_to_string(watched.keys.join("shop.pem")).expect("a certificate");
        let known: Vec<String> = self.0.iter().map(|(_, key, _)| key.clone()).collect();
        let key = until("the new key", || async { Some(watched.key("shop.key").await).filter(|key| !known.contains(key)) }).await;
        self.0.push((pem.trim().to_owned(), key, 0));
    }

    /// Which it was, by what the client said.
    fn count(&mut self, said: &str) -> usize {
        let at = self.0.iter().position(|(pem, ..)| said.contains(pem)).expect("one of those");
        self.0[at].2 += 1;
        at
    }
}

fn map<const N: usize>(rows: [(&str, f64); N]) -> BTreeMap<String, f64> {
    rows.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// A program of its own path, so that no other process of this machine is taken for it.
fn own(watched: &Watched, path: &str) -> PathBuf {
    let copy = watched.harness.dir("bin").join(Path::new(path).file_name().expect("a name"));
    std::fs::copy(path, &copy).expect("a copy");
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_signatures_and_handshakes_are_counted_with_the_right_key_also_over_a_reload() {
    let made = Watched::start(|keys| {
        let _path = certificate(keys, "shop", 90);
        rsa(keys, "blog");
    });
    let Some(watched) = made.await else { return };
    let dir = watched.harness.dir("nginx");
    let nginx = Nginx::start(&dir, &watched.keys, &["shop", "blog"]);
    for _ in 0..3 {
        connect(nginx.port, "shop", &["-tls1_3"]);
    }
    for _ in 0..5 {
        connect(nginx.port, "blog", &["-tls1_2"]);
    }
    watched.settled().await;
    assert_eq!(watched.uses("shop.key").await, map([("signing_ops", 3.0)]));
    assert_eq!(watched.uses("blog.key").await, map([("signing_ops", 5.0)]));
    let handshakes = || watched.counts("crypto.tls.handshakes_total", "sbin/nginx", &["role", "version", "resumed"]);
    let first = handshakes().await;
    assert_eq!(first, map([("server TLS 1.2 false", 5.0), ("server TLS 1.3 false", 3.0)]));

    for version in ["-tls1_2", "-tls1_3"] {
        let session = dir.join("session");
        connect(nginx.port, "shop", &[version, "-sess_out", session.to_str().expect("text")]);
        connect(nginx.port, "shop", &[version, "-sess_in", session.to_str().expect("text")]);
    }
    watched.settled().await;
    assert_eq!(watched.uses("shop.key").await, map([("signing_ops", 5.0)]), "what is resumed needs no key");
    let wanted = [("server TLS 1.2 false", 6.0), ("server TLS 1.2 true", 1.0), ("server TLS 1.3 false", 4.0), ("server TLS 1.3 true", 1.0)];
    assert_eq!(handshakes().await, map(wanted));

    let old = watched.key("shop.key").await;
    let renewed = watched.harness.dir("renewed");
    let _path = certificate(&renewed, "shop", 120);
    for name in ["shop.key", "shop.pem"] {
        std::fs::rename(renewed.join(name), watched.keys.join(name)).expect("renamed");
    }
    let new = until("the new key", || async { Some(watched.key("shop.key").await).filter(|key| *key != old) }).await;
    connect(nginx.port, "shop", &[]);
    nginx.reload();
    let mut connects = 0;
    until("the new one is used", || {
        connect(nginx.port, "shop", &[]);
        connects += 1;
        async { watched.uses_of(&new).await.get("signing_ops").copied() }
    })
    .await;
    watched.settled().await;
    let (before, after) = (watched.uses_of(&old).await["signing_ops"], watched.uses_of(&new).await["signing_ops"]);
    assert_eq!(before + after, 6.0 + f64::from(connects), "none is lost, none is counted twice: {before} + {after}");
    drop(nginx);
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_is_told_its_own_uses_over_renewals_whoever_still_holds_the_old_one() {
    let made = Watched::start(|keys| drop(certificate(keys, "shop", 90)));
    let Some(watched) = made.await else { return };
    let nginx = Nginx::start(&watched.harness.dir("nginx"), &watched.keys, &["shop"]);
    let renewed = watched.harness.dir("renewed");
    let mut shown = Shown::default();
    let handshake = |shown: &mut Shown| shown.count(&connect(nginx.port, "shop", &[]));
    shown.add(&watched).await;
    handshake(&mut shown);
    let begun = Begun::with(nginx.port, "shop");

    let _path = certificate(&renewed, "shop", 120);
    for name in ["shop.key", "shop.pem"] {
        std::fs::rename(renewed.join(name), watched.keys.join(name)).expect("renamed");
    }
    handshake(&mut shown);
    shown.add(&watched).await;
    (0..2).for_each(|_| assert_eq!(handshake(&mut shown), 0, "nobody has loaded the new one"));
    nginx.reload();
    while handshake(&mut shown) == 0 {}
    assert_eq!(shown.count(&begun.end()), 0, "the old worker goes on with the old one");

    // Written anew where it lies, and loaded before any scan.
    let (in_place, shorter) = (certificate(&renewed, "shop", 100), watched.keys.join("shop.key"));
    std::fs::copy(renewed.join("shop.key"), shorter).expect("a copy");
    std::fs::copy(in_place, watched.keys.join("shop.pem")).expect("a copy");
    nginx.reload();
    let last = std::fs::read_to_string(watched.keys.join("shop.pem")).expect("a certificate");
    let mut early = Vec::new();
    while !early.last().is_some_and(|said: &String| said.contains(last.trim())) {
        early.push(connect(nginx.port, "shop", &[]));
    }
    shown.add(&watched).await;
    for said in &early {
        shown.count(said);
    }
    // Other rights make no other key.
    std::fs::set_permissions(watched.keys.join("shop.key"), Permissions::from_mode(0o640)).expect("permissions");
    nginx.reload();
    for _ in 0..3 {
        handshake(&mut shown);
    }
    watched.settled().await;
    let mut last = Vec::new();
    for (_, key, times) in &shown.0 {
        last.push((watched.uses_of(key).await, map([("signing_ops", f64::from(*times))])));
    }
    assert!(last.iter().all(|(told, done)| told == done), "{last:?}");
    assert_eq!(last.len(), 3);
    drop(nginx);
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_openssl_does_on_the_command_line_is_counted_once_each() {
    let made = Watched::start(|keys| {
        rsa(keys, "rsa");
        let _path = certificate(keys, "ec", 90);
        tool(keys, "openssl genpkey -algorithm X25519 -out agree.key");
        tool(keys, "openssl pkey -in agree.key -pubout -out agree.pub");
        tool(keys, "openssl genpkey -algorithm ED25519 -out ed.key");
    });
    let Some(watched) = made.await else { return };
    let run = |command: &str| tool(&watched.keys, &format!("openssl {command}"));
    std::fs::write(watched.keys.join("text"), "text").expect("a file");
    std::fs::write(watched.keys.join("hash"), [7; 32]).expect("a file");
    run("req -new -key ec.key -subj /CN=other -out other.csr");
    run("x509 -req -in other.csr -CA ec.pem -CAkey ec.key -out other.pem");
    for _ in 0..7 {
        run("dgst -sha256 -sign rsa.key -out sig text");
    }
    run("dgst -sha256 -prverify rsa.key -signature sig text");
    run("cms -sign -signer rsa.pem -inkey rsa.key -in text -outform DER -out cms");
    run("pkeyutl -sign -inkey rsa.key -in hash -pkeyopt digest:sha256 -out sig");
    run("pkeyutl -encrypt -certin -inkey rsa.pem -in text -out secret");
    for _ in 0..4 {
        run("pkeyutl -decrypt -inkey rsa.key -in secret -out plain");
    }
    for _ in 0..2 {
        run("pkeyutl -derive -inkey agree.key -peerkey agree.pub -out shared");
    }
    run("pkeyutl -sign -rawin -inkey ed.key -in text -out sig");
    run("x509 -in ec.pem -signkey ec.key -out x.pem");
    watched.settled().await;
    let rsa = watched.uses("rsa.key").await;
    assert_eq!((rsa["signing_ops"], rsa["decryption_ops"]), (9.0, 4.0), "{rsa:?}");
    let ec = watched.uses("ec.key").await;
    assert_eq!(ec["signing_ops"], 3.0, "a request, a certificate of another, one of its own: {ec:?}");
    assert_eq!(watched.uses("agree.key").await, map([("derivation_ops", 2.0)]));
    assert_eq!(watched.uses("ed.key").await, map([("signing_ops", 1.0)]));
    watched.stop().await;
}

fn ssh_key(keys: &Path, kind: &str) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(keys.join(format!("{kind}.key"))).status();
    assert!(made.expect("ssh-keygen").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_libraries_are_counted_as_well_and_what_openssh_does_itself_is_told_to_be_unknown() {
    let made = Watched::start(|keys| {
        rsa(keys, "web");
        for kind in ["rsa", "ecdsa", "ed25519"] {
            ssh_key(keys, kind);
        }
    });
    let Some(watched) = made.await else { return };
    let keys = &watched.keys;
    std::fs::write(keys.join("text"), "text").expect("a file");
    for kind in ["rsa", "ecdsa", "ed25519"] {
        tool(keys, &format!("ssh-keygen -q -Y sign -f {kind}.key -n file text"));
        std::fs::remove_file(keys.join("text.sig")).expect("a signature");
    }
    let server = Server::gnutls(keys, "web");
    for _ in 0..3 {
        tool(keys, &format!("curl -sk --no-sessionid https://127.0.0.1:{}/ -o page", server.port));
    }
    watched.settled().await;
    for kind in ["rsa.key", "ecdsa.key"] {
        assert_eq!(watched.uses(kind).await, map([("signing_ops", 1.0)]), "{kind}");
    }
    assert_eq!(watched.uses("ed25519.key").await, map([]), "no zero for what is not seen");
    let gap = until("that it is told", || async { watched.gaps().await.into_iter().find(|gap| gap.contains("ssh-keygen")) }).await;
    assert!(gap.contains("Ed25519"), "{gap}");
    // One more is its own, with which it checks that key and certificate are a pair.
    assert_eq!(watched.uses("web.key").await, map([("signing_ops", 4.0)]));
    watched.stop().await;
}

/// A server of one key, that ends with this value.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn gnutls(keys: &Path, name: &str) -> Self {
        let mut command = Command::new("gnutls-serv");
        command.current_dir(keys).args(["-q", "--http", "--x509keyfile", &format!("{name}.key"), "--x509certfile", &format!("{name}.pem"), "--port"]);
        Self::start(command, "")
    }

    /// OpenSSL with all of its files in a directory of its own, as in a container.
    fn enclosed(root: &Path) -> Self {
        let mut command = Command::new("chroot");
        command.arg(root).args(["/usr/bin/openssl", "s_server", "-www", "-quiet", "-key", "/web.key", "-cert", "/web.pem", "-accept"]);
        Self::start(command, "127.0.0.1:")
    }

    fn start(mut command: Command, before: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        command.arg(format!("{before}{port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self { child: command.spawn().expect("the server starts"), port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(server.child.try_wait().expect("it can be asked").is_none(), "the server has ended");
            std::thread::yield_now();
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies a program with all that it loads below `root`.
fn enclose(root: &Path, program: &str) {
    let libraries = tool(Path::new("/"), &format!("ldd {program}"));
    let loaded = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for path in loaded.chain([program]) {
        let to = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
        std::fs::copy(path, &to).expect("a copy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_in_a_container_is_found_and_what_was_loaded_before_is_unknown_rather_than_guessed() {
    let Some(watched) = Watched::start(|keys| rsa(keys, "web")).await else { return };
    let root = watched.harness.dir("root");
    enclose(&root, "/usr/bin/openssl");
    for name in ["web.key", "web.pem"] {
        std::fs::hard_link(watched.keys.join(name), root.join(name)).expect("a link");
    }
    let program = root.join("usr/bin/openssl");
    let program = program.to_str().expect("text");
    let early = Server::enclosed(&root);
    let unknown = until("its operations are counted", || {
        connect(early.port, "web", &[]);
        async { watched.counts("crypto.key.signing_ops", program, &["key"]).await.get("unknown").copied() }
    })
    .await;
    assert!(unknown >= 1.0);
    until("that its keys are told to be unknown", || async { watched.gaps().await.into_iter().find(|gap| gap.contains(program)) }).await;
    assert_eq!(watched.uses("web.key").await, map([]));

    let late = Server::enclosed(&root);
    for _ in 0..3 {
        connect(late.port, "web", &[]);
    }
    watched.settled().await;
    assert_eq!(watched.uses("web.key").await, map([("signing_ops", 3.0)]));
    drop((early, late));
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_counted_once_a_use_though_openssl_does_its_work() {
    let Some(watched) = Watched::start(|_| {}).await else { return };
    let dir = watched.harness.dir("token");
    std::fs::create_dir(dir.join("tokens")).expect("a directory");
    std::fs::write(dir.join("softhsm2.conf"), format!("directories.tokendir = {}\n", dir.join("tokens").display())).expect("a file");
    std::fs::write(dir.join("hash"), [7; 32]).expect("a file");
    let program = own(&watched, "/usr/bin/pkcs11-tool");
    let run = |program: &Path, words: &str| {
        let mut command = Command::new(program);
        let out = command.args(words.split(' ')).current_dir(&dir).env("SOFTHSM2_CONF", dir.join("softhsm2.conf")).output().expect("it starts");
        assert!(out.status.success(), "{words}: {}", String::from_utf8_lossy(&out.stderr));
    };
    run(Path::new("softhsm2-util"), "--init-token --free --label token --so-pin 12345678 --pin 1234");
    let module = "--module /usr/lib/softhsm/libsofthsm2.so --login --pin 1234";
    run(&program, &format!("{module} --keypairgen --key-type rsa:2048 --id 02 --label key"));
    for _ in 0..3 {
        run(&program, &format!("{module} --sign --mechanism SHA256-RSA-PKCS --id 02 -i hash -o sig"));
    }
    watched.settled().await;
    let uses = watched.counts("crypto.key.signing_ops", program.to_str().expect("text"), &["key"]).await;
    assert_eq!(uses, map([("unknown", 3.0)]), "whose key it is, the token alone knows");
    watched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gnupg_is_counted_with_its_key_and_nss_without() {
    let home = "gpg --homedir gnupg --batch --quiet --pinentry-mode loopback --passphrase=";
    let made = Watched::start(|keys| {
        std::fs::create_dir(keys.join("gnupg")).expect("a directory");
        std::fs::set_permissions(keys.join("gnupg"), Permissions::from_mode(0o700)).expect("the mode");
        tool(keys, &format!("{home} --quick-gen-key a@example.org rsa2048 sign never"));
        std::fs::write(keys.join("text"), "text").expect("a file");
    });
    let Some(watched) = made.await else { return };
    let keys = &watched.keys;
    let secret = std::fs::read_dir(keys.join("gnupg/private-keys-v1.d")).expect("its keys").next().expect("one").expect("an entry").path();
    watched.followed(&secret).await;
    for n in 0..3 {
        tool(keys, &format!("{home} --detach-sign -o text.{n} text"));
    }
    let nss = own(&watched, "/usr/bin/cmsutil");
    std::fs::create_dir(keys.join("nss")).expect("a directory");
    std::fs::write(keys.join("noise"), [7; 64]).expect("a file");
    tool(keys, "certutil -N -d sql:nss --empty-password");
    tool(keys, "certutil -S -x -d sql:nss -z noise -n signer -s CN=signer -t CTu,CTu,CTu");
    for _ in 0..2 {
        tool(keys, &format!("{} -S -d sql:nss -N signer -i text -o cms", nss.display()));
    }
    watched.settled().await;
    tool(keys, "gpgconf --homedir gnupg --kill gpg-agent");
    let of = secret.strip_prefix(keys).expect("it lies there").to_str().expect("text").to_owned();
    assert_eq!(watched.uses(&of).await, map([("signing_ops", 3.0)]));
    let unknown = watched.counts("crypto.key.signing_ops", nss.to_str().expect("text"), &["key"]).await;
    assert_eq!(unknown, map([("unknown", 2.0)]), "whose key it is, NSS alone knows");
    watched.stop().await;
}
