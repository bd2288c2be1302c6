//! Promise: an aggregator that is killed again and again, at any instant, while agents and a remote writer deliver and it
//! flushes, merges or starts, keeps what it acknowledged, to the bit, and nothing else. `KEYVIGIL_KILL9_CYCLES` says how often,
//! `SEED` begins as a run before; instants are the machine's, so that a seed gives the same work and not the same kills.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use keyvigil_agent::enroll;
use keyvigil_agent::http::{Connection, Dialer};
use keyvigil_agent::identity::Identity;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_aggregator::index::Selector;
use keyvigil_aggregator::store::Store;
use keyvigil_common::client::{Client, Query};
use keyvigil_common::clock::SystemClock;
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::wire::{Batch, Column, Group, Push, decode_ack, encode_batch, encode_push};
use keyvigil_tests::harness::{PATIENCE, memory_dir};
use keyvigil_tests::process::{Aggregator, program};
use keyvigil_tests::protobuf::{bytes, double, number};
use keyvigil_tests::random::Random;
use tokio::sync::watch;

const CYCLES: usize = 200;
const AGENTS: usize = 4;
const STEP_MS: i64 = 20_000;
/// Agents deliver what they have of the last days.
const SPAN_MS: i64 = 6 * 86_400_000;
/// Cycles after which all is compared and not just what is new.
const WHOLE: usize = 25;

/// By which door a writer comes.
enum Door {
    Agent(Box<Identity>),
    RemoteWrite,
}

struct Writer {
    door: Door,
    name: String,
    random: Random,
    base_ms: i64,
    /// Samples of each batch, in the order in which the last one of an instant counts.
    batches: Vec<Vec<(i64, f64)>>,
    acknowledged: usize,
    /// Batches that were sent more than once.
    again: usize,
    samples: i64,
}

impl Writer {
    fn new(door: Door, name: String, random: Random, base_ms: i64) -> Self {
        Self { door, name, random, base_ms, batches: Vec::new(), acknowledged: 0, again: 0, samples: 0 }
    }

    /// The next samples; now and then some that correct earlier ones.
    fn make(&mut self) {
        let count = 1 + self.random.below(8) as i64;
        let first = if self.random.once_in(6) { (self.samples - self.random.below(300) as i64).max(0) } else { self.samples };
        self.samples = self.samples.max(first + count);
        let points = (first..first + count).map(|n| (self.base_ms + n * STEP_MS, self.random.below(100_000) as f64 / 100.0));
        self.batches.push(points.collect());
    }

    /// Delivers till the aggregator is gone; `told` counts what was acknowledged.
    async fn run(&mut self, aggregator: &Aggregator, tasks: &Tasks, told: &watch::Sender<usize>) {
        let mut connection = match &self.door {
            Door::Agent(identity) => {
                let Ok(connection) =
                    Connection::open(&Dialer::tcp(), &aggregator.ingest_address(), identity.tls(&SystemClock::shared()).expect("TLS"), tasks).await
                else {
                    return;
                };
                Some(connection)
            }
            Door::RemoteWrite => None,
        };
        let http = reqwest::Client::new();
        loop {
            let mut last = self.acknowledged + 1 + self.random.below(3);
            if connection.is_none() {
                // It has no numbers: what may be stored already must come again before anything else does.
                last = last.max(self.batches.len());
            }
            self.again += self.batches.len().min(last) - self.acknowledged;
            while self.batches.len() < last {
                self.make();
            }
            let good = match &mut connection {
                Some(connection) => self.push(connection, last).await,
                None => self.write(&http, aggregator, last).await,
            };
            if !good {
                return;
            }
            self.acknowledged = last;
            told.send_modify(|count| *count += 1);
        }
    }

    async fn push(&self, connection: &mut Connection, last: usize) -> bool {
        let Door::Agent(identity) = &self.door else { return false };
        let frames = (self.acknowledged + 1..=last).map(|seq| (seq as u64, self.frame(seq)));
        let push = Push { epoch: [7; 16], frames: frames.collect(), ..Push::default() };
        let body = encode_push(&push).expect("valid");
        let Ok(answer) = connection.post("/v1/push", "application/vnd.keyvigil.push", body).await else { return false };
        assert!(answer.status.is_success(), "{}: {}", identity.agent, answer.detail());
        let cursor = decode_ack(&answer.body).expect("an ack").cursor;
        assert!((last as u64..=self.batches.len() as u64).contains(&cursor), "{}: {cursor} after {last}", self.name);
        true
    }

    fn frame(&self, seq: usize) -> Vec<u8> {
        let (times, values) = self.batches[seq - 1].iter().copied().unzip();
        let series = Series::new(self.name.as_str(), MetricType::Gauge, Tags::default()).expect("valid");
        let group = Group { sensor: "oracle".into(), interval_ms: 20_000, times, columns: vec![Column { series: 0, start_ms: 0, values }] };
        encode_batch(&Batch { sealed_ms: self.base_ms, series: vec![series], groups: vec![group], ..Batch::default() }).expect("valid")
    }

    /// As an agent's push, by remote write.
    async fn write(&self, http: &reqwest::Client, aggregator: &Aggregator, last: usize) -> bool {
        let points = self.batches[self.acknowledged..last].iter().flatten();
        let samples = points.map(|(at_ms, value)| bytes(2, [double(1, *value), number(2, at_ms.cast_unsigned())].concat())).collect::<Vec<_>>().concat();
        let label = bytes(1, [bytes(1, "__name__"), bytes(2, &self.name)].concat());
        let body = snap::raw::Encoder::new().compress_vec(&bytes(1, [label, samples].concat())).expect("short");
        let text = |name: &str| aggregator.at[name].as_str().unwrap_or_default().to_owned();
        let request = http.post(format!("{}/prometheus/api/v1/write", text("url"))).bearer_auth(text("admin_token")).timeout(PATIENCE);
        let request = request.header("content-type", "application/x-protobuf").header("content-encoding", "snappy").body(body);
        let Ok(answer) = request.send().await else { return false };
        assert_eq!(answer.status().as_u16(), 204, "{}", self.name);
        true
    }

    /// What the first `upto` batches say from an instant on.
    fn expected(&self, upto: usize, from_ms: i64) -> BTreeMap<i64, u64> {
        let points = self.batches[..upto].iter().flatten().filter(|point| point.0 >= from_ms);
        points.map(|(at_ms, value)| (*at_ms, value.to_bits())).collect()
    }

    /// Whether `found` is all that was acknowledged and, of what was sent since, a part from its beginning on.
    fn accept(&self, found: &BTreeMap<i64, u64>, from_ms: i64) {
        let good = (self.acknowledged..=self.batches.len()).any(|upto| self.expected(upto, from_ms) == *found);
        let acknowledged = self.expected(self.acknowledged, from_ms);
        let apart = acknowledged.iter().find(|(at_ms, bits)| found.get(at_ms) != Some(bits));
        assert!(good, "{}: {} samples, {} acknowledged, of these not there or another: {apart:x?}", self.name, found.len(), acknowledged.len());
    }
}

/// By the API, from an instant on.
async fn asked(client: &Client, name: &str, from_ms: i64) -> BTreeMap<i64, u64> {
    let query = Query { metric_pattern: name.into(), start_time: Some(from_ms.to_string()), ..Query::default() };
    let answer = client.query_metrics(&query).await.expect("an answer");
    assert!(answer.series.len() <= 1, "{name}: {} series", answer.series.len());
    let points = answer.series.into_iter().flat_map(|series| series.points);
    points.map(|(at_ms, value)| (at_ms, value.as_f64().expect("a number").to_bits())).collect()
}

/// From the files themselves, when no process has them.
async fn stored(store: &Store, name: &str) -> BTreeMap<i64, u64> {
    let found = store.index().select(1, &Selector::parse(name, []).expect("a pattern"), 2);
    assert_eq!(found.len(), 1, "{name}");
    let points = store.select(&[found[0].0], 0, i64::MAX, 10_000_000).await.expect("points").remove(0);
    points.into_iter().map(|point| (point.0, point.1.to_bits())).collect()
}

/// Starts the program for something and kills it after some time, whatever it is at; it may be through.
async fn begin_and_kill(dir: &Path, command: &str, after: Duration) {
    let mut process = Command::new(program("keyvigil-aggregator"));
    process.arg("--dir").arg(dir).arg(command).env("LOG_LEVEL", "error");
    for name in ["API", "INGEST", "METRICS", "HEALTH"] {
        process.env(format!("KEYVIGIL_LISTEN__{name}"), "127.0.0.1:0");
    }
    let mut child = process.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
    // Not a wait for something: the instant itself is what is tried.
    tokio::time::sleep(after).await;
    let _ = child.kill();
    let _ = child.wait();
}

async fn writers(aggregator: &Aggregator, dir: &Path, random: &mut Random) -> Vec<Writer> {
    let token = aggregator.client().create_token(AGENTS as u32, "5m").await.expect("a token");
    let token = token["token"].as_str().expect("text").parse().expect("a token");
    let base_ms = (SystemClock::shared().now_ms() - SPAN_MS).div_euclid(1_000) * 1_000;
    let mut writers = vec![Writer::new(Door::RemoteWrite, "oracle_remote".into(), random.split(), base_ms)];
    for agent in 0..AGENTS {
        let dir = dir.join(format!("agent-{agent}"));
        let identity =
            enroll::join(&token, &dir, &RootFs::new(&dir), &format!("host-{agent}"), &Dialer::tcp(), &SystemClock::shared()).await.expect("it joins");
        writers.push(Writer::new(Door::Agent(Box::new(identity)), format!("oracle.agent{agent}"), random.split(), base_ms));
    }
    writers
}

/// All writers at work; once so many requests were acknowledged, the end comes, whatever the others are at.
async fn work_and_kill(aggregator: Aggregator, writers: &mut [Writer], tasks: &Tasks, acknowledged: usize) -> usize {
    let (sender, mut count) = watch::channel(0);
    let (running, told) = (&aggregator, &sender);
    let [a, b, c, d, e] = writers else { panic!("five writers") };
    let kill = async {
        let enough = tokio::time::timeout(PATIENCE, count.wait_for(|count| *count >= acknowledged)).await;
        enough.expect("writers are answered").expect("there are writers");
        running.kill_now();
    };
    tokio::join!(
        a.run(running, tasks, told),
        b.run(running, tasks, told),
        c.run(running, tasks, told),
        d.run(running, tasks, told),
        e.run(running, tasks, told),
        kill
    );
    aggregator.kill();
    *sender.borrow()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregator_that_is_killed_at_any_instant_keeps_what_it_acknowledged_and_nothing_else() {
    keyvigil_common::tls::install_provider();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SEED").unwrap_or_else(keyvigil_common::backoff::random_u64);
    let cycles = number("KEYVIGIL_KILL9_CYCLES").map_or(CYCLES, |n| n as usize);
    println!("seed {seed}");
    let (mut random, clock, scratch) = (Random::new(seed), SystemClock::shared(), memory_dir());
    let (began, dir) = (clock.monotonic(), scratch.path().join("aggregator"));
    let env = [("KEYVIGIL_STORAGE__FLUSH_INTERVAL", "30ms")];
    let (tasks, mut acks) = (Tasks::new(Stop::new()), 0);
    let mut aggregator = Aggregator::start(&dir, &env);
    let mut writers = writers(&aggregator, scratch.path(), &mut random).await;
    for cycle in 0..cycles {
        let from: Vec<i64> =
            writers.iter().map(|writer| if cycle % WHOLE == 0 { 0 } else { writer.base_ms + (writer.samples - 300).max(0) * STEP_MS }).collect();
        acks += work_and_kill(aggregator, &mut writers, &tasks, 1 + random.below(60)).await;
        match random.below(4) {
            0 => begin_and_kill(&dir, "compact", Duration::from_millis(random.below(150) as u64)).await,
            1 => begin_and_kill(&dir, "run", Duration::from_millis(random.below(150) as u64)).await,
            _ => {}
        }
        aggregator = Aggregator::start(&dir, &env);
        let client = aggregator.client();
        for (writer, from_ms) in writers.iter().zip(from) {
            writer.accept(&asked(&client, &writer.name, from_ms).await, from_ms);
        }
    }
    aggregator.kill();
    let master = MasterKey::load_or_create(&dir.join("master.key")).expect("the key");
    let store = Store::open(&dir.join("store"), &master, clock.now_ms(), 256 << 20).expect("the store opens");
    for writer in &writers {
        writer.accept(&stored(&store, &writer.name).await, 0);
    }
    assert!(store.size().await.expect("a size").block_samples > 0, "nothing was flushed: the test tests less than it says");
    let (batches, again) = writers.iter().fold((0, 0), |sum, writer| (sum.0 + writer.acknowledged, sum.1 + writer.again));
    let took = (clock.monotonic() - began).as_secs_f64();
    println!("{cycles} kills, {acks} requests with {batches} batches acknowledged, {again} batches sent again, {took:.0} s; seed {seed}");
    assert!(acks > 0, "nothing was delivered: the test tests nothing");
    tasks.drain(Duration::from_secs(20)).await.expect("a clean end");
}
