//! Promise: a key that appears, is replaced or goes away is known in the inventory within moments, by the fingerprint that
//! the usual tools print, with one event each.

use std::path::Path;

use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_common::client::{Client, Method};
use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::host::{certificate, spki_fingerprint, tool};
use serde_json::Value;

async fn events(client: &Client, kind: &str) -> Vec<Value> {
    client.events(&[("kind", kind)]).await.expect("events")["events"].as_array().cloned().unwrap_or_default()
}

async fn find(client: &Client, search: &str, status: &str) -> Option<Value> {
    client.keys(&[("search", search), ("status", status)]).await.ok()?["keys"].as_array()?.first().cloned()
}

fn make_keys(dir: &Path) {
    let _path = certificate(dir, "first", 90);
    tool(dir, "ssh-keygen -q -t ed25519 -N secret -C test@host -f id_ed25519");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_appear_rotate_and_go_and_each_is_told_once() {
    let harness = Harness::start().await;
    let keys = harness.dir("keys");
    make_keys(&keys);
    let mut config = harness.agent_config("agent", &RootFs::host());
    config.keystore.paths = vec![keys.to_string_lossy().into_owned()];
    let agent = harness.agent(&config, Dialer::tcp()).await;
    let client = harness.client();

    let first = until("the first certificate", || async { find(&client, "first.example.org", "active").await }).await;
    assert_eq!(first["fingerprint"].as_str(), Some(spki_fingerprint(&keys.join("first.pem")).as_str()));
    assert_eq!((first["kind"].as_str(), first["algorithm"].as_str()), (Some("certificate"), Some("ec")));
    let ssh = until("the SSH key", || async { find(&client, "id_ed25519", "active").await }).await;
    let listed = tool(&keys, "ssh-keygen -lf id_ed25519.pub");
    assert!(listed.contains(ssh["fingerprint"].as_str().expect("text")), "{listed} against {ssh}");
    let detail = client.key(first["id"].as_str().expect("an id")).await.expect("the key");
    assert_eq!(detail["related"][0]["kind"].as_str(), Some("private_key"), "the certificate's key is found by its fingerprint: {detail}");
    assert!(events(&client, "created").await.is_empty(), "what was there before the agent is not news");

    let _path = certificate(&keys, "later", 60);
    until("a new certificate", || async { find(&client, "later.example.org", "active").await }).await;
    until("its event", || async { events(&client, "created").await.into_iter().find(|e| e["path"].as_str().is_some_and(|p| p.ends_with("later.pem"))) }).await;

    // Renewed as certbot does it: a new file takes the name of the old one.
    let renewed = harness.dir("renewed");
    let _path = certificate(&renewed, "first", 365);
    std::fs::rename(renewed.join("first.pem"), keys.join("first.pem")).expect("renamed");
    let rotated =
        until("the rotation", || async { events(&client, "rotated").await.into_iter().find(|e| e["path"].as_str().is_some_and(|p| p.ends_with("first.pem"))) })
            .await;
    let new = until("the new certificate", || async { find(&client, "first.example.org", "active").await.filter(|k| k["id"] != first["id"]) }).await;
    assert_eq!((rotated["key"].as_str(), new["replaces"].as_str()), (new["id"].as_str(), first["id"].as_str()));
    let old = client.key(first["id"].as_str().expect("an id")).await.expect("the old one is remembered");
    assert_eq!((old["key"]["status"].as_str(), old["key"]["replaced_by"].as_str()), (Some("superseded"), new["id"].as_str()));

    std::fs::remove_file(keys.join("later.pem")).expect("removed");
    until("its end", || async { events(&client, "removed").await.into_iter().find(|e| e["path"].as_str().is_some_and(|p| p.ends_with("later.pem"))) }).await;
    until("its status", || async { find(&client, "later.example.org", "removed").await }).await;
    assert_eq!(events(&client, "rotated").await.iter().filter(|e| e["path"].as_str().is_some_and(|p| p.ends_with("first.pem"))).count(), 1, "once");

    let host = || async { client.hosts().await.ok()?["hosts"][0].as_object().cloned() };
    assert_eq!(host().await.and_then(|host| host["blind"].as_u64()), Some(0), "all is seen");
    std::fs::rename(&keys, harness.dir("elsewhere").join("keys")).expect("moved away");
    until("a host that does not see its keys, and says so", || async { host().await.filter(|host| host["blind"] == 1 && host["state"] == "up") }).await;
    agent.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_refused_with_what_would_be_right() {
    let harness = Harness::start().await;
    let client = harness.client();
    let ask = async |path: &str, name: &str, value: &str| client.call(Method::GET, path, &[(name, value)], None).await.expect_err(path).to_string();
    let id = "0".repeat(64);
    for path in ["/keys", "/keys/cbom", "/findings", "/events", "/gaps"] {
        assert_eq!(ask(path, "host", "nobody").await, "404 Not Found: a host \"nobody\" does not exist", "{path}");
    }
    for path in ["/keys", "/keys/summary", "/keys/cbom", &format!("/keys/{id}"), &format!("/keys/{id}/usage"), "/findings", "/events", "/gaps", "/hosts"] {
        let refused = ask(path, "hots", "web").await;
        assert!(refused.starts_with("400 Bad Request: parameter \"hots\" is not known here"), "{path}: {refused}");
        let long = ask(path, &"x".repeat(4_000), "web").await;
        assert!(long.len() < 400, "{path}: an answer is not as long as the question: {long}");
    }
    assert!(ask("/keys", "hots", "web").await.contains("known are: host kind algorithm status expires_before finding"));
    for path in ["/keys", "/findings", "/events"] {
        let twice = client.call(Method::GET, path, &[("host", "a"), ("host", "b")], None).await.expect_err(path).to_string();
        assert!(twice.contains("host stands here more than once"), "{path}: {twice}");
    }
    for path in ["/findings", "/events"] {
        assert!(ask(path, "key", &id).await.contains("no key has the id or fingerprint"), "{path}");
        assert!(ask(path, "key", "abc").await.contains("write at least 6 characters"), "{path}");
    }
    let backwards = client.call(Method::GET, "/events", &[("start_time", "now"), ("end_time", "-1h")], None).await.expect_err("refused").to_string();
    assert!(backwards.contains("start_time lies after end_time"), "{backwards}");
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let refused = client.call(method, "/keys", &[], None).await.expect_err("refused").to_string();
        assert!(refused.contains("does not take this method"), "{refused}");
    }
}
