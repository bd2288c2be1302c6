//! Promise: a blind agent is never green. Proofs of the agent's sight come back from the aggregator; a helper that is killed, or alive
//! and stuck, makes the host blind within two intervals, with an alert and without counters, and it recovers by itself; an aggregator
//! that is away makes nobody blind.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use keyvigil_agent::http::{Dialer, Stream};
use keyvigil_agent::rootfs::RootFs;
use keyvigil_aggregator::config::Config;
use keyvigil_common::client::{Client, Method, Query};
use keyvigil_common::clock::SystemClock;
use keyvigil_common::config::Period;
use keyvigil_tests::harness::{Harness, until};
use keyvigil_tests::host::certificate;
use keyvigil_tests::probe::Probe;
use keyvigil_tests::process::program;
use keyvigil_tests::proxy::{Proxy, Weather};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

const INTERVAL: Duration = Duration::from_secs(4);

struct Scene {
    harness: Harness,
    proxy: Proxy,
    socket: PathBuf,
    key: PathBuf,
}

impl Scene {
    async fn new() -> Self {
        let quick = |config: &mut Config| config.alerts.interval = Period(Duration::from_millis(500));
        let harness = Harness::with(SystemClock::shared(), quick).await;
        let keys = harness.dir("keys");
        let key = certificate(&keys, "shop", 90).with_extension("key");
        let proxy = Proxy::to(&harness.ingest_address()).await;
        let socket = harness.dir("helper").join("probe.sock");
        // As it is shipped, but for how long it goes on after it is over.
        let rule = json!({"rule_id": "agent-blind", "name": "Agent blind", "kind": "blind", "priority": "high", "keep_firing_seconds": 0});
        harness.client().call(Method::PUT, "/alerts/rules/agent-blind", &[], Some(&rule)).await.expect("a rule");
        Self { harness, proxy, socket, key }
    }

    async fn agent(&self) -> keyvigil_agent::run::Running {
        let mut config = self.harness.agent_config("agent", &RootFs::host());
        config.keystore.paths = vec![self.key.parent().expect("a directory").to_string_lossy().into_owned()];
        config.access.socket.clone_from(&self.socket);
        config.canary.interval = Period(INTERVAL);
        config.canary.program = Some(program("keyvigil-agent"));
        let address = self.proxy.address.to_string();
        let dialer = Dialer::new(move |_| {
            let address = address.clone();
            async move { Ok(Box::new(TcpStream::connect(address).await?) as Box<dyn Stream>) }
        });
        self.harness.agent(&config, dialer).await
    }

    fn client(&self) -> Client {
        self.harness.client()
    }

    async fn host(&self) -> Value {
        self.client().hosts().await.expect("hosts")["hosts"][0].clone()
    }

    /// When each path was proven last.
    async fn proven(&self) -> Option<[i64; 2]> {
        let host = self.host().await;
        let of = |path: &str| host["canary"].as_array()?.iter().find(|proof| proof["path"] == path)?["proven"].as_i64();
        Some([of("access")?, of("operations")?])
    }

    async fn is_firing(&self) -> bool {
        let alerts = self.client().alerts(&[("state", "firing")]).await.expect("alerts");
        alerts["alerts"].as_array().is_some_and(|all| all.iter().any(|alert| alert["rule_id"] == "agent-blind"))
    }

    /// A user reads the key.
    fn read(&self) {
        let status = Command::new("cat").arg(&self.key).stdout(Stdio::null()).status().expect("cat");
        assert!(status.success());
    }

    /// Newest sample of how often the user's key was opened.
    async fn newest_count(&self) -> i64 {
        let query = Query { metric_pattern: "crypto.key.access_count".into(), start_time: Some("-1h".into()), ..Query::default() };
        let answer = self.client().query_metrics(&query).await.expect("an answer");
        answer.series.iter().filter_map(|series| series.points.last()).map(|(at, _)| *at).max().unwrap_or_default()
    }

    async fn blind(&self) {
        until("the host is blind", || async { (self.host().await["blind"].as_u64() > Some(0)).then_some(()) }).await;
        until("the alert", || async { self.is_firing().await.then_some(()) }).await;
        let told = self.client().events(&[("kind", "coverage_lost")]).await.expect("events").to_string();
        assert!(told.contains("the canary sensor cannot see opens of key files"), "{told}");
        // Counters stand still: the last was counted before the helper was gone.
        let newest = self.newest_count().await;
        let proofs = self.host().await["last_sample"].as_i64().unwrap_or_default();
        until("later samples of others", || async { (self.host().await["last_sample"].as_i64().unwrap_or_default() > proofs + 1_000).then_some(()) }).await;
        assert_eq!(self.newest_count().await, newest, "what nobody counts is unknown");
    }

    async fn well(&self, before: [i64; 2]) {
        until("new proofs", || async { self.proven().await.filter(|now| now[0] > before[0] && now[1] > before[1]) }).await;
        until("the host sees", || async { (self.host().await["blind"].as_u64() == Some(0)).then_some(()) }).await;
        until("the alert is over", || async { (!self.is_firing().await).then_some(()) }).await;
        let newest = self.newest_count().await;
        self.read();
        until("counters go on", || async { (self.newest_count().await > newest).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_is_killed_or_stuck_makes_the_host_blind_and_it_recovers_by_itself() {
    let scene = Scene::new().await;
    let Some(helper) = Probe::start(&scene.socket, &[]) else { return };
    let agent = scene.agent().await;
    let first = until("proofs", || scene.proven()).await;
    scene.read();
    until("the user's key is counted", || async { (scene.newest_count().await > 0).then_some(()) }).await;
    assert!(!scene.is_firing().await);
    scene.well(first).await;

    helper.kill();
    scene.blind().await;
    let helper = Probe::start(&scene.socket, &[]).expect("as before");
    let before = scene.proven().await.expect("known");
    scene.well(before).await;

    helper.signal(Signal::STOP);
    scene.blind().await;
    helper.signal(Signal::CONT);
    let before = scene.proven().await.expect("known");
    scene.well(before).await;

    // Nothing of the canary is shown among users' things.
    for shown in [scene.client().events(&[("limit", "1000")]).await.expect("events"), scene.client().keys(&[]).await.expect("keys")] {
        assert!(!shown.to_string().contains("canary.key") && !shown.to_string().contains("\"kind\":\"canary\""), "{shown}");
    }
    assert!(scene.client().events(&[("kind", "canary")]).await.expect("events")["events"].as_array().is_some_and(Vec::is_empty));
    agent.stop().await.expect("a clean end");
}

#[test]
fn what_signs_with_the_canary_has_no_privileges() {
    let dir = tempfile::tempdir().expect("a directory");
    let (key, signer, told) = (dir.path().join("canary.key"), dir.path().join("openssl"), dir.path().join("told"));
    std::fs::write(&key, "a key").expect("written");
    std::fs::write(&signer, format!("#!/bin/sh\nfor last; do :; done\ncat \"$last\" /proc/self/status > {}\n", told.display())).expect("written");
    std::fs::set_permissions(&signer, std::fs::Permissions::from_mode(0o755)).expect("set");
    let mut child = Command::new(program("keyvigil-agent")).arg("canary").arg(&key).arg(&signer).stdin(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("asked for").write_all(b"\n").expect("it listens");
    assert!(child.wait().expect("a child").success());
    let told = std::fs::read_to_string(told).expect("it ran");
    assert!(told.starts_with("a key"), "it can read the key: {told}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(told.contains(&format!("{set}:\t0000000000000000\n")), "{set}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregator_that_is_away_makes_nobody_blind_and_there_is_no_alert_after_it_is_back() {
    let mut scene = Scene::new().await;
    let Some(_probe) = Probe::start(&scene.socket, &[]) else { return };
    let agent = scene.agent().await;
    let before = until("proofs", || scene.proven()).await;
    scene.proxy.turn(Weather { refuse: true, reset_after: 1, ..Weather::default() });
    // More than two intervals without an ack, by what the agent itself seals.
    let waits = agent.buffer.level().batches;
    until("three intervals", || async { (agent.buffer.level().batches > waits + 100).then_some(()) }).await;
    scene.harness.restart().await;
    scene.proxy.lead_to(&scene.harness.ingest_address());
    scene.proxy.turn(Weather::default());
    until("new proofs", || async { scene.proven().await.filter(|now| now[0] > before[0] && now[1] > before[1]) }).await;
    let told = scene.client().events(&[("kind", "coverage_lost")]).await.expect("events").to_string();
    assert!(!told.contains("the canary sensor"), "{told}");
    let alerts = scene.client().alerts(&[("state", "pending,firing,acknowledged,resolved")]).await.expect("alerts").to_string();
    assert!(!alerts.contains("agent-blind"), "{alerts}");
    agent.stop().await.expect("a clean end");
}
