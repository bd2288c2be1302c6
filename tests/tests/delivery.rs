//! Promise: what was acknowledged is stored exactly once, whoever is killed, and whatever the link does.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyvigil_agent::buffer::{Bounds, Buffer, New, Place};
use keyvigil_agent::enroll;
use keyvigil_agent::http::Dialer;
use keyvigil_agent::identity::Identity;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::uplink::{Metrics, Uplink};
use keyvigil_common::client::{Client, Query};
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::telemetry::Registry;
use keyvigil_common::wire::{Batch, Class, Column, Group, encode_batch};
use keyvigil_tests::harness::until;
use keyvigil_tests::host::small_host;
use keyvigil_tests::link::{Hasty, Link};
use keyvigil_tests::process::{Agent, Aggregator, run};
use keyvigil_tests::up::Up;
use tokio::sync::{Notify, watch};

const BOUNDS: Bounds = Bounds { bytes: 1 << 30, age_ms: 1 << 40, min_free_bytes: 1 };

fn open(path: &std::path::Path, key: MasterKey, origin: &str) -> Buffer {
    let clock = SystemClock::shared();
    let now_ms = clock.now_ms();
    let place = Place { path: path.to_owned(), vfs: None, origin: origin.to_owned(), clock };
    Buffer::open(place, key, BOUNDS, now_ms).expect("a buffer")
}

/// A sender with a real buffer and uplink, whose samples are known: value n at instant n.
struct Sender {
    buffer: Buffer,
    filled: Arc<Notify>,
    tasks: Tasks,
    issued: BTreeMap<i64, f64>,
    base_ms: i64,
}

impl Sender {
    async fn join(aggregator: &Aggregator, dir: &std::path::Path, link: &Link) -> Self {
        let token = aggregator.client().create_token(1, "5m").await.expect("a token");
        let token = token["token"].as_str().expect("text").parse().expect("a token");
        let identity = enroll::join(&token, dir, &RootFs::new(dir), "sender", &Dialer::tcp()).await.expect("it joins");
        let buffer = open(&dir.join("buffer.db"), MasterKey::generate(), "");
        let clock: SharedClock = Arc::new(Hasty(SystemClock::shared()));
        let base_ms = clock.now_ms() - 3_600_000;
        let (filled, tasks, registry) = (Arc::new(Notify::new()), Tasks::new(Stop::new()), Registry::default());
        let (_identity, seen): (watch::Sender<Identity>, _) = watch::channel(identity);
        let uplink = Uplink {
            buffer: buffer.clone(),
            identity: seen,
            dialer: link.dialer(),
            clock,
            filled: Arc::clone(&filled),
            enhanced: watch::channel(0).0,
            tasks: tasks.clone(),
            metrics: Metrics::new(&registry),
            frames_max: keyvigil_common::limits::PUSH_FRAMES_MAX,
        };
        tasks.spawn("uplink", uplink.run());
        Self { buffer, filled, tasks, issued: BTreeMap::new(), base_ms }
    }

    async fn send(&mut self, count: usize) {
        let mut times = Vec::new();
        let mut values = Vec::new();
        for _ in 0..count {
            let n = self.issued.len() as i64;
            let (at, value) = (self.base_ms + n, n as f64);
            self.issued.insert(at, value);
            times.push(at);
            values.push(value);
        }
        let series = Series::new("oracle.value", MetricType::Gauge, Tags::default()).expect("valid");
        let group = Group { sensor: "oracle".into(), interval_ms: 1, times, columns: vec![Column { series: 0, start_ms: 0, values }] };
        let batch = Batch { sealed_ms: self.base_ms, series: vec![series], groups: vec![group], ..Batch::default() };
        let frame = encode_batch(&batch).expect("valid");
        let new = New { class: Class::Sample, items: count as u64, at_ms: self.base_ms, frame, told: Vec::new() };
        self.buffer.append(vec![new], vec![], vec![], self.base_ms).await.expect("stored");
        self.filled.notify_one();
    }
}

async fn stored(client: &Client) -> Option<BTreeMap<i64, f64>> {
    let query = Query { metric_pattern: "oracle.value".into(), start_time: Some("-2h".into()), ..Query::default() };
    let answer = client.query_metrics(&query).await.ok()?;
    Some(answer.series.first()?.points.iter().map(|(at, v)| (*at, v.as_f64().unwrap_or(f64::NAN))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_fails_and_an_aggregator_that_is_killed_lose_and_double_nothing() {
    keyvigil_common::tls::install_provider();
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(keyvigil_common::backoff::random_u64);
    println!("seed {seed}");
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("aggregator");
    let mut aggregator = Aggregator::start(&store, &[]);
    let link = Link::new(seed, &aggregator.ingest_address());
    let mut sender = Sender::join(&aggregator, &dir.path().join("agent"), &link).await;
    for round in 0..6 {
        for _ in 0..30 {
            sender.send(1 + usize::try_from(link.random() % 40).expect("small")).await;
            tokio::task::yield_now().await;
        }
        // Some of it has arrived, some is on its way: then the aggregator dies.
        let seen = sender.buffer.level().batches;
        until("something is acknowledged", || async { (sender.buffer.level().batches < seen.max(1)).then_some(()) }).await;
        aggregator.kill();
        aggregator = Aggregator::start(&store, &[]);
        link.lead_to(&aggregator.ingest_address());
        println!("round {round}: {} faults", link.faults.load(std::sync::atomic::Ordering::Relaxed));
    }
    link.heal();
    until("everything is acknowledged", || async { (sender.buffer.level().batches == 0).then_some(()) }).await;
    let client = aggregator.client();
    assert_eq!(stored(&client).await.expect("an answer"), sender.issued, "seed {seed}");
    // Time stamps alone would hide a batch that was stored twice: level 0 counts rows.
    let status = client.status().await.expect("a status");
    assert_eq!(status["samples_in_level0"].as_u64(), Some(own_samples(&client).await + sender.issued.len() as u64), "seed {seed}");
    assert!(link.faults.load(std::sync::atomic::Ordering::Relaxed) > 0, "the link never failed: the test tests nothing");
    sender.tasks.drain(std::time::Duration::from_secs(20)).await.expect("a clean end");
}

/// Samples that the aggregator has of itself.
async fn own_samples(client: &Client) -> u64 {
    let query = Query { metric_pattern: "**".into(), tag: vec!["component:aggregator".into()], start_time: Some("-2h".into()), ..Query::default() };
    client.query_metrics(&query).await.map_or(0, |answer| answer.series.iter().map(|s| s.points.len() as u64).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_again_and_again_delivers_every_number_once() {
    keyvigil_common::tls::install_provider();
    let dir = tempfile::tempdir().expect("a directory");
    let aggregator = Aggregator::start(&dir.path().join("aggregator"), &[]);
    let client = aggregator.client();
    let _host = small_host(&dir.path().join("host"));
    let config = dir.path().join("agent.toml");
    let intervals: String = keyvigil_agent::collect::COLLECTORS.iter().map(|row| format!("{} = [\"100ms\", \"100ms\"]\n", row.name)).collect();
    let text = format!("state_dir = {:?}\nroot = {:?}\n[sampling.intervals]\n{intervals}", dir.path().join("agent"), dir.path().join("host"));
    std::fs::write(&config, text).expect("a file");
    let token = client.create_token(1, "5m").await.expect("a token");
    let joined = run("keyvigil-agent", &["--config", config.to_str().expect("UTF-8"), "join", token["token"].as_str().expect("text")], &[]);
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
    let cursor = || async { client.hosts().await.ok()?["hosts"][0]["cursor"].as_u64() };
    let mut last = 0;
    for round in 0..8 {
        let agent = Agent::start(&config);
        last = until("the cursor moves on", || async { cursor().await.filter(|now| *now > last + round % 3) }).await;
        agent.kill();
    }
    let agent = Agent::start(&config);
    until("the last agent delivers", || async { cursor().await.filter(|now| *now > last) }).await;
    agent.stop();
    let key = MasterKey::load_or_create(&dir.path().join("agent/buffer.key")).expect("a key");
    let machine = RootFs::new(dir.path().join("host")).read("/etc/machine-id").unwrap_or_default();
    let buffer = open(&dir.path().join("agent/buffer.db"), key, machine.trim());
    let level = buffer.level();
    assert_eq!(level.batches, 0, "a clean end delivers what is left");
    assert_eq!(cursor().await, Some(level.last_seq), "each number was settled");
    assert_eq!(client.gaps().await.expect("gaps")["gaps"], serde_json::json!([]), "nothing was given up");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_joins_again_goes_on_and_one_that_meets_another_aggregator_sends_it_again_what_it_still_holds() {
    keyvigil_common::tls::install_provider();
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("up");
    let cursor = async |client: &Client| client.hosts().await.ok()?["hosts"][0]["cursor"].as_u64();
    // Other ports each time, so the agent joins again; its buffer stays.
    for _ in 0..2 {
        let up = Up::start(&state, &[("KEYVIGIL_KEYSTORE__PATHS", "/nonexistent")]);
        let client = up.client();
        until("it delivers", || async { cursor(&client).await.filter(|now| *now > 0) }).await;
        let hosts = client.hosts().await.expect("hosts");
        assert_eq!(hosts["hosts"].as_array().map(Vec::len), Some(1), "the same host, once: {hosts}");
        assert_eq!(client.gaps().await.expect("gaps")["gaps"], serde_json::json!([]));
        assert!(up.interrupt(), "a clean end");
    }
    std::fs::remove_dir_all(state.join("aggregator")).expect("the aggregator's state is gone");
    let up = Up::start(&state, &[("KEYVIGIL_KEYSTORE__PATHS", "/nonexistent")]);
    let client = up.client();
    until("it delivers to the new one", || async { cursor(&client).await.filter(|now| *now > 0) }).await;
    // The agent still holds what the old one acknowledged a moment ago: it begins with number 1 again.
    assert_eq!(client.gaps().await.expect("gaps")["gaps"], serde_json::json!([]), "nothing is lost");
    let second = Up::try_start(&state);
    assert!(second.contains("is in use by another aggregator"), "two in one directory: {second}");
}
