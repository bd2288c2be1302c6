//! Promise: a key that appears, is replaced or goes away is known in the inventory within moments, by the fingerprint that
//! the usual tools print, with one event each.

use std::path::Path;

use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_common::client::Client;
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
