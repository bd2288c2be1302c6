//! Promise: what an agent that is killed or away could not take of opens is told once, or counted as lost.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use keyvigil_agent::collect::COLLECTORS;
use keyvigil_common::client::{Client, Query};
use keyvigil_tests::harness::events;
use keyvigil_tests::harness::until;
use keyvigil_tests::host::tool;
use keyvigil_tests::probe::Probe;
use keyvigil_tests::process::{Agent, Aggregator, run};
use serde_json::Value;
use tempfile::TempDir;

const SENSORS: [&str; 2] = ["keystore", "access"];
const KEYS: [&str; 3] = ["a.key", "b.key", "c.key"];

/// An aggregator, keys, and the configuration of an agent that has joined.
struct Scene {
    client: Client,
    keys: PathBuf,
    config: PathBuf,
    socket: PathBuf,
    _aggregator: Aggregator,
    dir: TempDir,
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the mode");
}

impl Scene {
    async fn make() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (keys, socket) = (dir.path().join("keys"), dir.path().join("probe.sock"));
        std::fs::create_dir(&keys).expect("a directory");
        [dir.path(), &keys].into_iter().for_each(|dir| set_mode(dir, 0o755));
        KEYS.iter().for_each(|name| drop(tool(&keys, &format!("openssl genpkey -algorithm ED25519 -out {name}"))));
        std::fs::copy("/bin/cat", dir.path().join("reader")).expect("a copy");
        let aggregator = Aggregator::start(&dir.path().join("aggregator"), &[]);
        let client = aggregator.client();
        let others: Vec<&str> = COLLECTORS.iter().map(|row| row.name).filter(|name| !SENSORS.contains(name)).collect();
        let intervals: String = SENSORS.iter().map(|name| format!("{name} = [\"100ms\", \"100ms\"]\n")).collect();
        let config = dir.path().join("agent.toml");
        let text = format!(
            "state_dir = {:?}\n[keystore]\npaths = [{keys:?}]\nnamed_files = false\n[access]\nsocket = {socket:?}\n[sampling]\ndisabled = {others:?}\n[sampling.intervals]\n{intervals}",
            dir.path().join("agent"),
        );
        std::fs::write(&config, text).expect("a file");
        let token = client.create_token(1, "5m").await.expect("a token");
        let joined = run("keyvigil-agent", &["--config", config.to_str().expect("UTF-8"), "join", token["token"].as_str().expect("text")], &[]);
        assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
        Self { client, keys, config, socket, _aggregator: aggregator, dir }
    }

    fn shell(&self, script: &str) {
        let status = Command::new("sh").args(["-ec", script]).current_dir(&self.keys).status().expect("it runs");
        assert!(status.success(), "{script}");
    }

    async fn events(&self, kind: &str) -> Vec<Value> {
        events(&self.client, kind).await
    }

    /// Has each key read until that is told.
    async fn followed(&self) {
        until("that all keys are followed", || async {
            self.shell("tail -qc 1 *.key > /dev/null");
            let told = self.events("accessed").await;
            KEYS.iter().all(|name| told.iter().any(|event| self.is_of(event, name))).then_some(())
        })
        .await;
    }

    fn is_of(&self, event: &Value, name: &str) -> bool {
        event["path"].as_str() == self.keys.join(name).to_str()
    }

    /// Events of opens by this program, and how many processes they name.
    async fn opens_by(&self, exe: &str) -> (usize, usize) {
        let events = self.events("accessed").await;
        let by: Vec<_> = events.iter().filter(|event| event["actor"]["exe"].as_str().is_some_and(|path| path.ends_with(exe))).collect();
        let pids: BTreeSet<u64> = by.iter().filter_map(|event| event["actor"]["pid"].as_u64()).collect();
        (by.len(), pids.len())
    }

    /// The latest of a counter, of series with this tag.
    async fn count(&self, metric: &str, exe: &str) -> f64 {
        let query = Query { metric_pattern: metric.into(), start_time: Some("-1h".into()), limit: Some(10_000), ..Query::default() };
        let answer = self.client.query_metrics(&query).await.expect("an answer");
        let of_exe = answer.series.iter().filter(|series| exe.is_empty() || series.tags.get("exe").is_some_and(|tag| tag.ends_with(exe)));
        of_exe.filter_map(|series| series.points.last()?.1.as_f64()).sum()
    }
}

fn evidence(event: &Value, name: &str) -> Option<String> {
    let rows = event["evidence"].as_array();
    let row = rows.and_then(|rows| rows.iter().find(|row| row[0] == name || row["name"] == name));
    let value = row.map(|row| if row.is_array() { row[1].clone() } else { row["value"].clone() });
    value.or_else(|| event["evidence"].get(name).cloned()).and_then(|value| value.as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_amid_opens_tells_each_once() {
    let scene = Scene::make().await;
    let Some(_probe) = Probe::start(&scene.socket, &[]) else { return };
    let mut agent = Agent::start(&scene.config);
    scene.followed().await;
    for round in 1..=4 {
        let script = "i=0; while [ $i -lt 100 ]; do ../reader a.key > /dev/null; i=$((i+1)); done";
        let mut readers = Command::new("sh").args(["-ec", script]).current_dir(&scene.keys).spawn().expect("it runs");
        until("some are told", || async { (scene.opens_by("/reader").await.0 > 100 * (round - 1)).then_some(()) }).await;
        agent.kill();
        assert!(readers.wait().expect("its end").success());
        agent = Agent::start(&scene.config);
        let told = until("what happened meanwhile", || async { Some(scene.opens_by("/reader").await).filter(|(told, _)| *told >= 100 * round) }).await;
        assert_eq!(told, (100 * round, 100 * round), "each once");
    }
    assert!(scene.events("data_lost").await.is_empty());
    agent.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_helper_cannot_keep_while_the_agent_is_away_is_counted_and_told() {
    let scene = Scene::make().await;
    let Some(_probe) = Probe::start(&scene.socket, &[]) else { return };
    let agent = Agent::start(&scene.config);
    scene.followed().await;
    agent.kill();
    // Two files in turn, so that none stands for another.
    std::fs::copy("/bin/sh", scene.dir.path().join("away")).expect("a copy");
    scene.shell("../away -ec 'i=0; while [ $i -lt 6000 ]; do : < a.key; : < b.key; i=$((i+1)); done'");
    let agent = Agent::start(&scene.config);
    let lost = until("the loss", || async { scene.events("data_lost").await.pop() }).await;
    let lost: f64 = evidence(&lost, "count").and_then(|count| count.parse().ok()).expect("how many");
    assert!(lost >= 12_000.0 - 8_192.0, "{lost}");
    until("all that was kept", || async { (scene.count("crypto.key.access_count", "/away").await + lost >= 12_000.0).then_some(()) }).await;
    // Readings of before that nobody had confirmed yet may be among the lost.
    let all = scene.count("crypto.key.access_count", "/away").await + lost;
    assert!((12_000.0..12_100.0).contains(&all), "each is told or counted as lost: {all}");
    assert_eq!(scene.count("crypto.access.lost_total", "").await, lost);
    agent.stop();
}
