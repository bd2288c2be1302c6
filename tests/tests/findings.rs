//! Promise: what is wrong with keys on hosts is found from their files alone, with what to do about it; it alerts once, ends
//! when it is mended, and survives a restart without being told again.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::run::Running;
use keyvigil_common::client::{Client, ClientError};
use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::host::{certificate, tool, validate_cbom};
use serde_json::Value;

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
}

async fn host(harness: &Harness, name: &str, keys: &Path) -> Running {
    let mut config = harness.agent_config(name, &RootFs::host());
    config.keystore.paths = vec![keys.to_string_lossy().into_owned()];
    harness.agent_on(name, &config, Dialer::tcp()).await
}

async fn finding(client: &Client, kind: &str) -> Option<Value> {
    client.findings(&[("kind", kind)]).await.ok()?["findings"].as_array()?.first().cloned()
}

async fn firing(client: &Client, rule: &str) -> Option<Value> {
    let alerts = client.alerts(&[("state", "firing")]).await.ok()?;
    alerts["alerts"].as_array()?.iter().find(|alert| alert["rule_id"] == rule).cloned()
}

/// Two hosts: a weak certificate whose key everybody may read, and a copy of a key.
async fn fleet(harness: &Harness) -> [Running; 2] {
    let (web, db) = (harness.dir("web-keys"), harness.dir("db-keys"));
    let request = "openssl req -x509 -newkey rsa:1024 -nodes -keyout weak.key -out weak.pem -days 5 -subj /CN=weak.example.org";
    tool(&web, &format!("{request} -addext basicConstraints=critical,CA:FALSE"));
    let _path = certificate(&web, "good", 300);
    std::fs::copy(web.join("good.key"), db.join("copy.key")).expect("copied");
    for path in [web.join("good.key"), db.join("copy.key")] {
        set_mode(&path, 0o600);
    }
    set_mode(&web.join("weak.key"), 0o644);
    tool(&web, "ssh-keygen -q -t ed25519 -N secret -C test@host -f id_ed25519");
    [host(harness, "web", &web).await, host(harness, "db", &db).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_real_files_are_found_told_once_and_end_when_they_are_mended() {
    let mut harness = Harness::with(keyvigil_common::clock::SystemClock::shared(), |config| {
        config.alerts.interval = keyvigil_common::config::Period(std::time::Duration::from_millis(200));
    })
    .await;
    let agents = fleet(&harness).await;
    let client = harness.client();

    let shared = until("the shared key", || finding(&client, "private_key_shared")).await;
    assert_eq!((&shared["hosts"], shared["severity"].as_str()), (&serde_json::json!(["db", "web"]), Some("warning")));
    assert_eq!(shared["title"], "The private key of good.example.org lies on 2 hosts");
    let weak = until("the weak key", || finding(&client, "weak")).await;
    assert_eq!(weak["keys_total"], 2, "certificate and key are told together: {weak}");
    let readable = until("the readable key", || finding(&client, "private_key_readable")).await;
    assert!(readable["remedy"].as_str().is_some_and(|text| text.contains("chmod o-rwx")), "{readable}");
    assert!(finding(&client, "expiring").await.is_some_and(|f| f["severity"] == "warning"));
    assert_eq!(finding(&client, "certificate_without_key").await, None, "both have theirs");
    let exposed = client.findings(&[("kind", "private_key_readable")]).await.expect("findings");
    assert_eq!(exposed["total"], 1, "the public half of a key is for everybody: {exposed}");

    let page = client.keys(&[("finding", "private_key_readable")]).await.expect("keys");
    assert_eq!(page["total"], 1, "{page}");
    let key = client.key(page["keys"][0]["id"].as_str().expect("an id").get(..12).expect("long")).await.expect("by its beginning");
    let kinds: Vec<&str> = key["findings"].as_array().into_iter().flatten().filter_map(|f| f["kind"].as_str()).collect();
    assert_eq!(kinds, ["private_key_readable", "weak", "not_quantum_safe"], "{key}");
    let summary = client.call(keyvigil_common::client::Method::GET, "/keys/summary", &[], None).await.expect("a summary");
    assert_eq!(summary["findings"]["by_kind"]["private_key_shared"], 1, "{summary}");

    let alert = until("an alert", || firing(&client, "private-key-readable")).await;
    until("the other", || firing(&client, "weak-key")).await;
    assert!(firing(&client, "served-certificate-stale").await.is_none());
    harness.restart().await;
    let client = harness.client();
    let again = until("the alert after a restart", || firing(&client, "private-key-readable")).await;
    assert_eq!((&again["id"], &again["fired_at"]), (&alert["id"], &alert["fired_at"]), "the same episode");
    let path = format!("/alerts/{}", again["id"].as_str().expect("an id"));
    let history = client.call(keyvigil_common::client::Method::GET, &path, &[], None).await.expect("its history");
    assert_eq!(history["history"].as_array().map(|lines| lines.iter().filter(|line| line["kind"] == "fired").count()), Some(1), "{history}");
    for agent in agents {
        agent.stop().await.expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mended_is_found_no_more() {
    let harness = Harness::start().await;
    let keys = harness.dir("keys");
    let _path = certificate(&keys, "shop", 300);
    set_mode(&keys.join("shop.key"), 0o644);
    let agent = host(&harness, "web", &keys).await;
    let client = harness.client();
    until("the readable key", || finding(&client, "private_key_readable")).await;
    set_mode(&keys.join("shop.key"), 0o600);
    until("that it is closed", || async { finding(&client, "private_key_readable").await.is_none().then_some(()) }).await;
    let _path = certificate(&keys, "other", 300);
    std::fs::rename(keys.join("other.key"), keys.join("shop.key")).expect("the wrong key");
    let mismatch = until("the mismatch", || finding(&client, "certificate_without_key")).await;
    assert_eq!(mismatch["title"], "The key file beside shop.example.org on web is not its key");
    agent.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_are_not_known_are_refused_and_pages_stand_still_while_keys_come() {
    let harness = Harness::start().await;
    let keys = harness.dir("keys");
    for n in 0..5 {
        let _path = certificate(&keys, &format!("site-{n}"), 100 + n * 10);
    }
    let agent = host(&harness, "web", &keys).await;
    let client = harness.client();
    until("all of them", || async { client.keys(&[("kind", "certificate")]).await.ok().filter(|page| page["total"] == 5) }).await;
    for (name, word) in
        [("kind", "certifcate"), ("status", "alive"), ("finding", "weka"), ("role", "owner"), ("algorithm", "rot13"), ("file_format", "doc"), ("sort", "size")]
    {
        let refused = client.keys(&[(name, word)]).await.expect_err("refused").to_string();
        assert!(refused.contains("is none of:") && refused.contains(word), "{name}: {refused}");
    }
    let unknown = client.keys(&[("host", "wbe")]).await.expect_err("refused").to_string();
    assert!(unknown.contains("a host \"wbe\" does not exist"), "{unknown}");

    let first = client.keys(&[("kind", "certificate"), ("limit", "2")]).await.expect("a page");
    let cursor = first["next_cursor"].as_str().expect("more");
    let names = |page: &Value| page["keys"].as_array().expect("keys").iter().map(|key| key["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&first), ["site-0.example.org", "site-1.example.org"]);
    let _path = certificate(&keys, "sooner", 50);
    until("one that ends before them", || async { client.keys(&[("kind", "certificate")]).await.ok().filter(|page| page["total"] == 6) }).await;
    let second = client.keys(&[("kind", "certificate"), ("limit", "2"), ("cursor", cursor)]).await.expect("the next page");
    assert_eq!(names(&second), ["site-2.example.org", "site-3.example.org"], "nothing twice, nothing missed");
    let other_order = client.keys(&[("sort", "subject"), ("cursor", cursor)]).await;
    assert!(matches!(other_order, Err(ClientError::Refused { status, .. }) if status.as_u16() == 400));
    agent.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_and_cbom_hold_all_of_real_keys() {
    let harness = Harness::start().await;
    let keys = harness.dir("keys");
    let _path = certificate(&keys, "shop", 300);
    let subject = "openssl req -x509 -newkey rsa:2048 -nodes -keyout f.key -out f.pem -days 40 -subj /CN==cmd()";
    tool(&keys, subject);
    tool(&keys, "ssh-keygen -q -t ed25519 -N secret -C test@host -f ssh_host_ed25519_key");
    let agent = host(&harness, "web", &keys).await;
    let client = harness.client();
    until("all of them", || async { client.keys(&[]).await.ok().filter(|page| page["total"] == 5) }).await;

    let mut csv = Vec::new();
    client.keys_csv(&[], |piece| std::io::Write::write_all(&mut csv, piece)).await.expect("CSV");
    let csv = String::from_utf8(csv).expect("text");
    assert_eq!(csv.matches("\r\n").count(), 6, "a head and five rows: {csv}");
    assert!(csv.contains(",'=cmd(),"), "no spreadsheet takes it for a formula: {csv}");
    let with_limit = client.keys_csv(&[("limit", "1")], |_| Ok(())).await.expect_err("refused").to_string();
    assert!(with_limit.contains("limit has no place here"), "{with_limit}");

    for version in ["1.6", "1.7"] {
        let mut bom = Vec::new();
        client.cbom(&[("version", version)], |piece| std::io::Write::write_all(&mut bom, piece)).await.expect("a CBOM");
        let parsed: Value = serde_json::from_slice(&bom).expect("JSON");
        assert_eq!(parsed["specVersion"], version);
        assert!(validate_cbom(version, &bom) >= 5 + 3, "five keys and what they are made of");
    }
    let refused = client.cbom(&[("version", "1.5")], |_| Ok(())).await.expect_err("refused").to_string();
    assert!(refused.contains("is none of: 1.6 1.7"), "{refused}");

    let usage = client.key_usage("nothing-like-it", &[]).await;
    assert!(usage.is_err());
    let id = client.keys(&[("kind", "ssh_private_key")]).await.expect("keys")["keys"][0]["id"].as_str().expect("an id").to_owned();
    let usage = client.key_usage(&id, &[]).await.expect("what is known");
    assert!(usage["observed_since"].is_null() && usage["count"].is_null() && usage["observed"] == "unknown", "{usage}");
    agent.stop().await.expect("a clean end");
}
