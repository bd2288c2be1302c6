//! Promise: what a revocation list revokes is known to be revoked wherever it lies, whether the list lies on another host or is
//! fetched; and a list that its issuer did not sign revokes nothing, and is told of.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_common::client::Client;
use keyvigil_common::clock::SystemClock;
use keyvigil_common::config::Period;
use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::host::tool;
use serde_json::Value;

/// An authority that issues, revokes, and writes its list.
struct Authority(PathBuf);

impl Authority {
    fn new(dir: PathBuf) -> Self {
        let key = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 90 -subj /CN=ca";
        tool(&dir, key);
        let config = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=7\n";
        for (name, text) in [("ca.cnf", config), ("index", ""), ("number", "01\n")] {
            std::fs::write(dir.join(name), text).expect("written");
        }
        Self(dir)
    }

    /// A certificate for NAME.example.org, in its own directory.
    fn issue(&self, name: &str, serial: u32) {
        tool(
            &self.0,
            &format!(
                "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}.example.org"
            ),
        );
        tool(&self.0, &format!("openssl x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -set_serial {serial} -days 30 -out {name}.pem"));
    }

    fn revoke(&self, certificate: &str) {
        tool(&self.0, &format!("openssl ca -config ca.cnf -keyfile ca.key -cert ca.pem -revoke {certificate} -crl_reason keyCompromise"));
    }

    /// Writes the list, whole at once.
    fn list(&self, to: &Path) {
        tool(&self.0, "openssl ca -config ca.cnf -keyfile ca.key -cert ca.pem -gencrl -out next.crl");
        std::fs::rename(self.0.join("next.crl"), to).expect("renamed");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Serves the list that lies at `path` at the moment; its address.
fn serve(path: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/ca.crl", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // Who asks may go at any time.
            let mut head = BufReader::new(&stream).lines().map_while(Result::ok);
            while head.next().is_some_and(|line| !line.is_empty()) {}
            let list = std::fs::read(&path).expect("a list");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", list.len());
            let _ = stream.write_all(&[answer.as_bytes(), &list].concat());
        }
    });
    url
}

async fn key(client: &Client, name: &str) -> Option<Value> {
    client.keys(&[("search", name), ("kind", "certificate")]).await.ok()?["keys"].as_array()?.first().cloned()
}

async fn revoked(client: &Client, name: &str) -> Value {
    until("a revoked key", || async { key(client, name).await.filter(|key| key["status"] == "revoked") }).await
}

async fn agent(harness: &Harness, name: &str, keys: &Path) -> keyvigil_agent::run::Running {
    let mut config = harness.agent_config(name, &RootFs::host());
    config.keystore.paths = vec![keys.to_string_lossy().into_owned()];
    harness.agent(&config, Dialer::tcp()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_list_revokes_is_revoked_wherever_it_lies() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).expect("a directory");
        path
    };
    let (ca, other) = (Authority::new(place("ca")), Authority::new(place("other")));
    let (on_web, on_pki, list) = (place("web"), place("pki"), dir.path().join("list.crl"));
    for (name, serial) in [("fetched", 1001), ("found", 1002), ("good", 1003)] {
        ca.issue(name, serial);
        std::fs::copy(ca.path(&format!("{name}.pem")), on_web.join(format!("{name}.pem"))).expect("copied");
    }
    ca.list(&list);
    let url = serve(list.clone());
    let source = serde_json::json!({"url": url, "issuer": ca.path("ca.pem")});
    let harness = Harness::with(SystemClock::shared(), |config| {
        config.revocation.crls = vec![serde_json::from_value(source).expect("a source")];
        config.revocation.interval = Period::seconds(1);
    })
    .await;
    let client = harness.client();
    let web = agent(&harness, "web", &on_web).await;
    let pki = agent(&harness, "pki", &on_pki).await;
    let good = until("the certificate", || key(&client, "good.example.org")).await;
    assert_eq!((good["status"].as_str(), good["revocation"].as_str()), (Some("active"), None));
    until("the list was fetched", || async { client.status().await.ok()?["revocation_lists"][0]["revokes"].as_u64().filter(|revokes| *revokes == 0) }).await;

    // Somebody on the way answers with a list of his own, of the same name.
    other.revoke(&ca.path("good.pem").to_string_lossy());
    other.list(&list);
    let error = until("a list that is refused", || async { client.status().await.ok()?["revocation_lists"][0]["error"].as_str().map(str::to_owned) }).await;
    assert!(error.contains("signature"), "{error}");

    ca.revoke("fetched.pem");
    ca.list(&list);
    let fetched = revoked(&client, "fetched.example.org").await;
    assert_eq!(fetched["revocation"].as_str(), Some(format!("revocation list {url}: keyCompromise").as_str()));

    // Another list lies on another host, and nobody fetches it.
    std::fs::remove_file(ca.path("index")).expect("removed");
    std::fs::write(ca.path("index"), "").expect("written");
    ca.revoke("found.pem");
    ca.list(&on_pki.join("ca.crl"));
    let found = revoked(&client, "found.example.org").await;
    assert!(found["revocation"].as_str().is_some_and(|by| by.contains("/pki/ca.crl of ")), "{found}");

    assert_eq!(key(&client, "good.example.org").await.expect("a key")["status"], "active");
    let events = client.events(&[("kind", "revoked")]).await.expect("events");
    let told: Vec<&str> = events["events"].as_array().expect("a list").iter().filter_map(|event| event["message"].as_str()).collect();
    assert_eq!(told.len(), 2, "each once: {told:?}");
    assert!(told.iter().all(|message| message.contains("lies on 1 host")), "{told:?}");
    for agent in [web, pki] {
        agent.stop().await.expect("a clean end");
    }
}
