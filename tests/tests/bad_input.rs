//! Promise: whatever is wrong is named with what to do about it; nothing crashes, and what was acknowledged stays.

use std::path::Path;
use std::sync::Arc;

use keyvigil_agent::enroll;
use keyvigil_agent::http::{Connection, Dialer};
use keyvigil_agent::identity::Identity;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_common::client::Query;
use keyvigil_common::clock::SystemClock;
use keyvigil_common::limits::TAGS_MAX;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::tls;
use keyvigil_common::wire::{self, Push};
use keyvigil_tests::harness::Harness;
use keyvigil_tests::host::small_host;
use keyvigil_tests::process::{Aggregator, run};
use serde_json::json;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_wrong_configuration_key_is_named_with_the_nearest_known_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "[storage]\nretention_day = 3\n[listen]\napi = \"nowhere\"\n").expect("a file");
    let out = run("keyvigil-aggregator", &["--config", file.to_str().expect("UTF-8"), "check-config"], &[]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(78), "{said}");
    assert!(said.contains("storage.retention_day: no such key; the nearest known one is storage.retention_days"), "{said}");
    std::fs::write(&file, "[keystore]\npaths = [\"relative\"]\n[sampling]\ndisabled = [\"cqu\"]\n").expect("a file");
    let out = run("keyvigil-agent", &["--config", file.to_str().expect("UTF-8"), "check-config"], &[]);
    let said = text(&out.stderr);
    assert!(out.status.code() == Some(78) && said.contains("\"relative\" is not an absolute path") && said.contains("there is no sensor \"cqu\""), "{said}");
}

#[test]
fn an_agent_that_has_not_joined_says_how_to_join() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path().to_str().expect("UTF-8");
    let out = run("keyvigil-agent", &["--dir", at, "run"], &[]);
    assert!(out.status.code() == Some(78) && text(&out.stderr).contains("keyvigil-agent join TOKEN"), "{out:?}");
    let out = run("keyvigil-agent", &["--dir", at, "join", "kvj1_nonsense"], &[]);
    assert!(out.status.code() == Some(2) && text(&out.stderr).contains("not a join token"), "{out:?}");
}

async fn connect(harness: &Harness, config: Arc<rustls::ClientConfig>, tasks: &Tasks) -> Connection {
    Connection::open(&Dialer::tcp(), &harness.ingest_address(), config, tasks).await.expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_pushes_are_refused_with_words_and_store_nothing() {
    let harness = Harness::start().await;
    let dir = harness.dir("agent");
    let token: keyvigil_common::token::JoinToken = harness.token().await.parse().expect("a token");
    let identity = enroll::join(&token, &dir, &RootFs::new(&dir), "strange", &Dialer::tcp(), &SystemClock::shared()).await.expect("it joins");
    let used = enroll::join(&token, &harness.dir("second"), &RootFs::new(&dir), "second", &Dialer::tcp(), &SystemClock::shared()).await.expect_err("used");
    assert!(used.to_string().contains("was used already") && used.to_string().contains("keyvigil token create"), "{used}");

    let tasks = Tasks::new(Stop::new());
    let push = |frames: Vec<(u64, Vec<u8>)>| wire::encode_push(&Push { epoch: [1; 16], frames, ..Push::default() }).expect("valid");
    let good = wire::encode_batch(&wire::Batch::default()).expect("valid");
    let mut other_version = push(vec![(1, good.clone())]);
    other_version[3] = 9;
    let whole = push(vec![(1, good.clone())]);
    let cases: [(&str, Vec<u8>, u16, &str); 5] = [
        ("not ours", b"GET / HTTP/1.1".to_vec(), 400, "not a Keyvigil frame"),
        ("another version", other_version, 400, "upgrade the older of agent and aggregator"),
        ("cut short", whole[..whole.len() / 2].to_vec(), 400, "cut on its way"),
        ("a batch cut short inside", push(vec![(1, good[..good.len() / 2].to_vec())]), 422, "can never be stored"),
        ("a jump", push(vec![(7, good.clone())]), 409, "neither stored nor declared lost"),
    ];
    let mut connection = connect(&harness, identity.tls(&SystemClock::shared()).expect("TLS"), &tasks).await;
    for (name, body, status, words) in cases {
        let answer = connection.post("/v1/push", "application/octet-stream", body).await.expect(name);
        assert!(answer.status.as_u16() == status && answer.detail().contains(words), "{name}: {}", answer.detail());
    }
    let answer = connection.post("/v1/push", "application/octet-stream", push(vec![(1, good)])).await.expect("a good one");
    assert!(answer.status.is_success(), "the stream goes on after all that: {}", answer.detail());

    let nobody = Arc::new(tls::pinned_client_config(token.pin, &SystemClock::shared()).expect("TLS"));
    let mut stranger = connect(&harness, nobody, &tasks).await;
    let answer = stranger.post("/v1/push", "application/octet-stream", Vec::new()).await.expect("an answer");
    assert!(answer.status.as_u16() == 403 && answer.detail().contains("client certificate"), "{}", answer.detail());
    let wrong_pin = Arc::new(tls::pinned_client_config([7; 32], &SystemClock::shared()).expect("TLS"));
    let refused = Connection::open(&Dialer::tcp(), &harness.ingest_address(), wrong_pin, &tasks).await;
    assert!(refused.is_err(), "an aggregator with another key than the token's gets no secret");

    revoke(&harness, &identity).await;
    let answer = connection.post("/v1/push", "application/octet-stream", push(vec![(2, Vec::new())])).await.expect("an answer");
    assert!(answer.status.as_u16() == 403 && answer.detail().contains("revoked"), "at once, on an open connection: {}", answer.detail());
}

async fn revoke(harness: &Harness, identity: &Identity) {
    let path = format!("/agents/{}/revoke", identity.agent);
    harness.client().call(keyvigil_common::client::Method::POST, &path, &[], None).await.expect("revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_says_what_is_wrong_and_keeps_the_rest() {
    let harness = Harness::start().await;
    let client = harness.client();
    let many: std::collections::BTreeMap<String, String> = (0..=TAGS_MAX).map(|n| (format!("t{n}"), "x".into())).collect();
    let metrics = json!({"metrics": [
        {"metric_id": "ok", "value": 1},
        {"metric_id": "late", "value": 1, "timestamp": 5},
        {"metric_id": "tags", "value": 1, "tags": many},
        {"metric_id": "type", "value": 1, "metric_type": "rainbow"},
        {"metric_id": "text", "value": "seven"},
    ]});
    let answer = client.call(keyvigil_common::client::Method::POST, "/metrics", &[], Some(&metrics)).await.expect("an answer");
    assert_eq!((answer["accepted"].as_u64(), answer["rejected"].as_array().map(Vec::len)), (Some(1), Some(4)), "{answer}");
    let cases = [("[", "metric_pattern"), ("re:(", "unclosed"), ("a{b", "not closed")];
    for (pattern, words) in cases {
        let query = Query { metric_pattern: pattern.into(), aggregation: Some("median".into()), ..Query::default() };
        let refused = client.query_metrics(&query).await.expect_err(pattern).to_string();
        assert!(refused.contains("400") && (refused.contains(words) || refused.contains("median")), "{pattern}: {refused}");
    }
    let rule = json!({"rule_id": "Bad Id", "metric_pattern": "", "comparison": ">"});
    let refused = client.add_rule(&rule).await.expect_err("a bad rule").to_string();
    assert!(refused.contains("rule_id") && refused.contains("metric_pattern") && refused.contains("threshold_value"), "all at once: {refused}");
    let wrong = keyvigil_common::client::Client::new(&harness.running().endpoints.url, Some("kva_wrong")).expect("a client");
    assert!(wrong.status().await.expect_err("a wrong token").to_string().contains("401"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_buffer_is_named_and_loses_nothing_that_memory_holds() {
    if !Path::new("/dev/shm").exists() || tool_status("mount") != Some(true) {
        panic!("this test needs root and mount(8) for a file system of its own size");
    }
    tls::install_provider();
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("small");
    std::fs::create_dir(&state).expect("a directory");
    let _mounted = Mounted::new(&state);
    let aggregator = Aggregator::start(&dir.path().join("aggregator"), &[]);
    let client = aggregator.client();
    let token = client.create_token(1, "5m").await.expect("a token");
    let token: keyvigil_common::token::JoinToken = token["token"].as_str().expect("text").parse().expect("a token");
    let root = small_host(&dir.path().join("host"));
    let mut config = keyvigil_agent::config::Config { state_dir: state.clone(), root: root.path("/"), ..keyvigil_agent::config::Config::default() };
    for row in keyvigil_agent::collect::COLLECTORS {
        let fast = keyvigil_common::config::Period(std::time::Duration::from_millis(100));
        config.sampling.intervals.insert(row.name.to_owned(), (fast, fast));
    }
    enroll::join(&token, &state, &root, "full", &Dialer::tcp(), &SystemClock::shared()).await.expect("it joins");
    let agent = keyvigil_agent::run::start(&config, SystemClock::shared(), Dialer::tcp(), &Stop::new()).expect("it starts");
    let failures = || agent.registry.all().iter().find(|n| n.metric_id == "keyvigil.agent.buffer_failures_total").map_or(0, |n| n.value.get());
    // A neighbour takes every byte there is.
    let filler = state.join("filler");
    fill(&filler);
    keyvigil_tests::harness::until("the buffer cannot be written", || async { (failures() > 2).then_some(()) }).await;
    std::fs::remove_file(&filler).expect("freed");
    let cursor = || async { client.hosts().await.ok()?["hosts"][0]["cursor"].as_u64() };
    let before = cursor().await.unwrap_or(0);
    keyvigil_tests::harness::until("delivery goes on by itself", || async { cursor().await.filter(|now| *now > before + 3) }).await;
    let buffer = agent.buffer.clone();
    agent.stop().await.expect("a clean end");
    assert_eq!(cursor().await, Some(buffer.level().last_seq), "each number was settled");
    assert_eq!(client.gaps(&[]).await.expect("gaps")["gaps"], json!([]), "memory held what the disk did not take");
}

fn tool_status(name: &str) -> Option<bool> {
    std::process::Command::new(name).arg("--version").output().ok().map(|o| o.status.success())
}

/// A file system of 2 MiB.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(at: &Path) -> Self {
        let done = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "keyvigil-test"]).arg(at).status().expect("mount");
        assert!(done.success(), "mounting needs root");
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("a file");
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![0u8; size]).is_ok() {}
    }
}
