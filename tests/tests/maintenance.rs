//! Promise: `verify`, `compact`, `reindex` and `cleanup` work beside an aggregator that serves, and without one: what was
//! acknowledged stays and is answered right, and what cannot be done is said with its exit code.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keyvigil_aggregator::upkeep::Task;
use keyvigil_common::client::{Client, Method, Query};
use keyvigil_common::clock::SystemClock;
use keyvigil_tests::harness::Harness;
use keyvigil_tests::process::{Aggregator, run};
use keyvigil_tests::up::Up;
use serde_json::{Value, json};

const DAY: i64 = 86_400_000;

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Runs a maintenance command on `dir` to its end, off the threads that serve and write.
async fn maintain(dir: &Path, args: &[&str]) -> Output {
    let mut all = vec!["--dir".to_owned(), dir.to_str().expect("UTF-8").to_owned()];
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    let work = move || run("keyvigil-aggregator", &all.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    tokio::task::spawn_blocking(work).await.expect("it runs")
}

/// The same, where it must succeed: what it says as JSON.
async fn done(dir: &Path, args: &[&str]) -> Value {
    let out = maintain(dir, &[args, &["--output", "json"]].concat()).await;
    assert!(out.status.success(), "{args:?}: {:?} {}", out.status, said(&out));
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", said(&out)))
}

/// A writer whose samples are known: value n at the nth second after `from_ms`.
struct Writer {
    client: Client,
    name: String,
    from_ms: i64,
    acknowledged: i64,
}

impl Writer {
    fn new(client: Client, name: &str, from_ms: i64) -> Self {
        Self { client, name: name.to_owned(), from_ms, acknowledged: 0 }
    }

    /// Pushes the next fifty samples.
    async fn push(&mut self) {
        let next = self.acknowledged..self.acknowledged + 50;
        let sample = |n| json!({"metric_id": self.name, "timestamp": self.from_ms + n * 1_000, "value": n});
        let metrics: Vec<Value> = next.clone().map(sample).collect();
        let answer = self.client.call(Method::POST, "/metrics", &[], Some(&json!({"metrics": metrics}))).await.expect("an ack");
        assert_eq!(answer["accepted"], 50, "{answer}");
        self.acknowledged = next.end;
    }

    /// Pushes until told to stop.
    async fn push_until(mut self, stop: &AtomicBool) -> Self {
        while !stop.load(Ordering::Relaxed) {
            self.push().await;
        }
        self
    }

    /// Whether the answer to a query is what was acknowledged, no more and no less.
    async fn check(&self, client: &Client) {
        let expected: BTreeMap<i64, f64> = (0..self.acknowledged).map(|n| (self.from_ms + n * 1_000, n as f64)).collect();
        assert_eq!(stored(client, &self.name, self.from_ms, self.from_ms + self.acknowledged * 1_000).await, expected, "{}", self.name);
    }
}

async fn stored(client: &Client, name: &str, from_ms: i64, to_ms: i64) -> BTreeMap<i64, f64> {
    let query = Query { metric_pattern: name.to_owned(), start_time: Some(from_ms.to_string()), end_time: Some(to_ms.to_string()), ..Query::default() };
    let answer = client.query_metrics(&query).await.expect("an answer");
    let points = answer.series.into_iter().flat_map(|series| series.points);
    points.map(|(at, value)| (at, value.as_f64().expect("a number"))).collect()
}

fn unmended(report: &Value) -> (i64, i64) {
    (report["mended"].as_i64().expect("a number"), report["damaged"].as_i64().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_writers_push_every_command_works_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let start = || Aggregator::start(dir.path(), &[("KEYVIGIL_STORAGE__FLUSH_INTERVAL", "200ms")]);
    let aggregator = start();
    let (client, now_ms) = (aggregator.client(), SystemClock::shared().now_ms());
    let mut old = Writer::new(client.clone(), "old", (now_ms / DAY - 5) * DAY + 3_600_000);
    old.push().await;
    let stop = Arc::new(AtomicBool::new(false));
    // Those of the day before may be merged whole, those of today not: both ways of compaction are at work.
    let writers = [("today", now_ms - 20_000_000), ("before", now_ms - 2 * DAY)].map(|(name, from_ms)| Writer::new(client.clone(), name, from_ms));
    let [today, before] = writers.map(|writer| {
        let stop = Arc::clone(&stop);
        async move { writer.push_until(&stop).await }
    });
    let commands = async {
        for round in 0..3 {
            let found = done(dir.path(), &["verify"]).await;
            assert_eq!(found["faults"], 0, "round {round}: {found}");
            assert!(done(dir.path(), &["compact"]).await["samples"].as_i64() > Some(0));
            assert_eq!(unmended(&done(dir.path(), &["reindex"]).await), (0, 0));
            old.check(&client).await;
        }
        let day = utc_day(old.from_ms);
        let dry = done(dir.path(), &["cleanup", "--older-than", "4d", "--dry-run"]).await;
        assert_eq!((&dry["days"], &dry["dry_run"]), (&json!([day]), &json!(true)));
        old.check(&client).await;
        let gone = done(dir.path(), &["cleanup", "--older-than", "4d"]).await;
        assert!(gone["days"] == json!([day]) && gone["bytes"].as_i64() > Some(0), "{gone}");
        assert_eq!(done(dir.path(), &["verify"]).await["faults"], 0);
        stop.store(true, Ordering::Relaxed);
    };
    let (today, before, ()) = tokio::join!(today, before, commands);
    println!("{} and {} samples acknowledged meanwhile", today.acknowledged, before.acknowledged);
    today.check(&client).await;
    before.check(&client).await;
    assert_eq!(stored(&client, "old", 0, now_ms).await, BTreeMap::new(), "it was given up");

    // A process that was killed leaves its endpoints behind: they mean nothing without the lock.
    aggregator.kill();
    assert!(dir.path().join("endpoints.json").exists());
    assert_eq!(done(dir.path(), &["verify"]).await["faults"], 0);
    assert!(!dir.path().join("endpoints.json").exists());
    let config = dir.path().join("aggregator.toml");
    std::fs::write(&config, format!("[storage]\npath = {:?}\n", dir.path())).expect("written");
    let out = run("keyvigil-aggregator", &["verify", "--config", config.to_str().expect("UTF-8")], &[]);
    assert!(out.status.success() && said(&out).contains("no fault"), "{}", said(&out));
    assert_eq!(unmended(&done(dir.path(), &["reindex"]).await), (0, 0));
    let compacted = done(dir.path(), &["compact"]).await;
    assert!(compacted["samples"].as_i64() >= Some(today.acknowledged + before.acknowledged), "{compacted}");
    let gone = done(dir.path(), &["cleanup", "--older-than", &utc_day(now_ms)]).await;
    assert!(gone["days"].as_array().is_some_and(|days| days.contains(&json!(utc_day(before.from_ms)))), "{gone}");
    let found = done(dir.path(), &["verify"]).await;
    assert!(found["faults"] == 0 && found["level0_rows"] == 0, "{found}");
    let aggregator = start();
    let kept = stored(&aggregator.client(), "today", 0, now_ms + DAY).await;
    let expected: BTreeMap<i64, f64> =
        (0..today.acknowledged).map(|n| (today.from_ms + n * 1_000, n as f64)).filter(|point| point.0 >= now_ms / DAY * DAY).collect();
    assert_eq!(kept, expected, "what is of today stays");
}

fn utc_day(at_ms: i64) -> String {
    let out = std::process::Command::new("date").args(["-u", "-d", &format!("@{}", at_ms / 1_000), "+%Y-%m-%d"]).output().expect("date");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_with_its_exit_code() {
    let harness = Harness::start().await;
    let (app, at) = (&harness.running().app, &harness.running().endpoints);
    let dir = at.dir.clone();
    let fails = async |args: &[&str], code: i32, words: &str| {
        let out = maintain(&dir, args).await;
        assert!(out.status.code() == Some(code) && out.stdout.is_empty() && said(&out).contains(words), "{args:?}: {:?} {}", out.status, said(&out));
    };
    // Another such task has its turn.
    let turn = app.upkeep.take(Task::Verify).expect("a turn");
    fails(&["compact"], 75, "verify is at work: one such task at a time").await;
    drop(turn);
    assert!(maintain(&dir, &["compact"]).await.status.success(), "now it can");
    fails(&["cleanup", "--older-than", "30"], 2, "neither an age nor a date").await;
    fails(&["cleanup", "--older-than", "10m"], 2, "add --yes").await;
    fails(&["cleanup", "--older-than", "2999-01-01"], 2, "future").await;
    fails(&["cleanup"], 2, "--older-than").await;

    let file = std::fs::metadata(dir.join("endpoints.json")).expect("the file that leads here");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(dir.join("endpoints.json")).expect("text");
    assert!(text.contains(&at.url) && !text.contains(&at.admin_token), "where, but not the key to it: {text}");
    let token = dir.join("admin.token");
    std::fs::write(&token, "not the token of this one, which is long enough").expect("written");
    fails(&["verify"], 77, "does not take the admin token").await;
    std::fs::remove_file(&token).expect("removed");
    fails(&["verify"], 78, "the admin token to ask it is missing").await;
    std::fs::remove_file(dir.join("endpoints.json")).expect("removed");
    fails(&["verify"], 75, "try again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_a_store_or_its_master_key_is_told_so_and_nothing_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = maintain(dir.path(), &["verify"]).await;
    assert!(out.status.code() == Some(1) && said(&out).contains("no aggregator has stored anything there"), "{}", said(&out));
    assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
    Aggregator::start(dir.path(), &[]).kill();
    std::fs::remove_file(dir.path().join("master.key")).expect("removed");
    for command in ["verify", "compact", "reindex"] {
        let out = maintain(dir.path(), &[command]).await;
        assert!(out.status.code() == Some(78) && said(&out).contains("the master key is missing"), "{command}: {:?} {}", out.status, said(&out));
    }
    std::fs::write(dir.path().join("master.key"), "00".repeat(32)).expect("written");
    let out = maintain(dir.path(), &["verify"]).await;
    assert_eq!(out.status.code(), Some(78), "another key: {}", said(&out));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_with_exit_code_1() {
    let dir = tempfile::tempdir().expect("a directory");
    let aggregator = Aggregator::start(dir.path(), &[]);
    let now_ms = SystemClock::shared().now_ms();
    let mut writer = Writer::new(aggregator.client(), "m", now_ms - 60_000);
    writer.push().await;
    done(dir.path(), &["compact"]).await;
    let day = utc_day(writer.from_ms);
    let path = dir.path().join(format!("store/days/{day}.db"));
    aggregator.kill();
    std::fs::write(&path, "no database").expect("written");
    let _ = std::fs::remove_file(path.with_extension("db-wal"));
    let _ = std::fs::remove_file(path.with_extension("db-shm"));
    let out = maintain(dir.path(), &["verify", "--output", "json"]).await;
    let found: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert!(out.status.code() == Some(1) && found["first_faults"][0]["file"] == json!(format!("days/{day}.db")), "{found}");
    let out = maintain(dir.path(), &["verify"]).await;
    assert!(out.status.code() == Some(1) && said(&out).contains("restore the file from a backup"), "{:?} {}", out.status, said(&out));
    let out = maintain(dir.path(), &["reindex"]).await;
    println!("{}", said(&out));
    assert_eq!(out.status.code(), Some(1), "{}", said(&out));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_finds_what_up_made_and_trusts_its_own_ca() {
    let dir = tempfile::tempdir().expect("a directory");
    let up = Up::start_at(dir.path(), "0.0.0.0:0", &[]);
    assert!(up.text("url").starts_with("https://"));
    let found = done(dir.path(), &["verify"]).await;
    assert!(found["faults"] == 0 && found["files"].as_i64() >= Some(1), "{found}");
    assert!(up.interrupt(), "a clean end");
    assert!(!dir.path().join("aggregator/endpoints.json").exists(), "who ended cleanly leads nobody astray");
    let found = done(dir.path(), &["verify"]).await;
    assert!(found["faults"] == 0 && found["records"].as_i64() > Some(0), "the agent's record, for one: {found}");
}
