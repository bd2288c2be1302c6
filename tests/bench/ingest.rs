//! How fast native batches are taken, every ack after an fsync, and how many bytes a sample takes once compacted. Prints;
//! judges nothing. `tests/bench/ingest` builds and runs it; it is also `bench-storage native`, which shares its numbers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyvigil_agent::enroll;
use keyvigil_agent::http::{Connection, Dialer};
use keyvigil_agent::identity::Identity;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_common::clock::SystemClock;
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::wire::{Batch, Column, Group, Push, encode_batch, encode_push};
use keyvigil_tests::harness::Harness;

const AGENTS: usize = 8;
const SERIES: usize = 200;
const STEPS: usize = 240;
const STEPS_PER_BATCH: usize = 5;
/// An agent that was cut off sends up to 256 at once.
const BATCHES_PER_PUSH: usize = 16;
const STEP_MS: i64 = 15_000;

/// The same numbers for the same seed (xorshift64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// From 0 to below 1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Four shapes that a host sends: a constant, a noisy percentage, a byte counter, a slow counter.
pub(crate) fn step(shape: usize, value: f64, random: &mut Random) -> f64 {
    match shape {
        0 => value,
        1 => ((value + random.next() * 6.0 - 3.0).clamp(0.0, 100.0) * 100.0).round() / 100.0,
        2 => value + (random.next() * 2e6).floor(),
        _ => value + if random.next() < 0.3 { (random.next() * 20.0).floor() } else { 0.0 },
    }
}

/// All pushes of one agent, encoded before anything is timed.
fn pushes(agent: usize, end_ms: i64) -> Vec<Vec<u8>> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (agent as u64 + 1));
    let names = ["system.memory.total_bytes", "system.cpu.usage_total", "system.network.bytes_sent", "crypto.key.access_count"];
    let series: Vec<Series> = (0..SERIES)
        .map(|n| {
            let kind = if n % 4 < 2 { MetricType::Gauge } else { MetricType::Counter };
            Series::new(names[n % 4], kind, Tags::new([("item", format!("item-{:04}", n / 4))]).expect("valid")).expect("valid")
        })
        .collect();
    let mut values: Vec<f64> = (0..SERIES).map(|n| if n % 4 == 0 { (n as f64 + 1.0) * 1_048_576.0 } else { 40.0 }).collect();
    let mut frames = Vec::new();
    let mut out = Vec::new();
    for (seq, from) in (1u64..).zip((0..STEPS).step_by(STEPS_PER_BATCH)) {
        let times: Vec<i64> = (from..from + STEPS_PER_BATCH).map(|at| end_ms - (STEPS - at) as i64 * STEP_MS + (random.next() * 6.0) as i64 - 3).collect();
        let columns = (0..SERIES).map(|n| {
            let column = (0..STEPS_PER_BATCH).map(|_| {
                values[n] = step(n % 4, values[n], &mut random);
                values[n]
            });
            Column { series: n as u32, start_ms: 0, values: column.collect() }
        });
        let group = Group { sensor: "bench".into(), interval_ms: STEP_MS as u32, times, columns: columns.collect() };
        let batch = Batch { sealed_ms: end_ms, series: series.clone(), groups: vec![group], ..Batch::default() };
        frames.push((seq, encode_batch(&batch).expect("valid")));
        if frames.len() == BATCHES_PER_PUSH {
            out.push(encode_push(&Push { epoch: [agent as u8; 16], frames: std::mem::take(&mut frames), ..Push::default() }).expect("valid"));
        }
    }
    out
}

/// As in the aggregator itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
#[expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and measures with the system's clock")]
pub(crate) async fn main() {
    let harness = Harness::start().await;
    let end_ms = harness.running().app.clock.now_ms();
    let rounds: usize = std::env::args().find_map(|n| n.parse().ok()).unwrap_or(12);
    let agents = AGENTS * rounds;
    let mut queues: Vec<(Identity, Vec<Vec<u8>>)> = Vec::new();
    for agent in 0..agents {
        let token = harness.token().await.parse().expect("a token");
        let dir = harness.dir(&format!("agent-{agent}"));
        let identity =
            enroll::join(&token, &dir, &RootFs::new(&dir), &format!("host-{agent:05}"), &Dialer::tcp(), &SystemClock::shared()).await.expect("it joins");
        queues.push((identity, pushes(agent, end_ms)));
    }
    let wire: usize = queues.iter().flat_map(|(_, pushes)| pushes).map(Vec::len).sum();
    let samples = agents * SERIES * STEPS;
    let queues = Arc::new(tokio::sync::Mutex::new(queues));
    let tasks = Tasks::new(Stop::new());
    let address = harness.ingest_address();
    let began = Instant::now();
    for _ in 0..AGENTS {
        let (queues, tasks_of, address) = (Arc::clone(&queues), tasks.clone(), address.clone());
        tasks.spawn_short("sender", async move {
            loop {
                let Some((identity, pushes)) = queues.lock().await.pop() else { return };
                let mut connection =
                    Connection::open(&Dialer::tcp(), &address, identity.tls(&SystemClock::shared()).expect("TLS"), &tasks_of).await.expect("a connection");
                for push in pushes {
                    let answer = connection.post("/v1/push", "application/vnd.keyvigil.push", push).await.expect("an answer");
                    assert!(answer.status.is_success(), "{}", answer.detail());
                }
            }
        });
    }
    while tasks.names().contains(&"sender") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed().as_secs_f64();
    let store = &harness.running().app.store;
    let flush = Instant::now();
    store.compact(&keyvigil_aggregator::store::Progress::silent()).await.expect("compacted");
    let compacted = flush.elapsed().as_secs_f64();
    let size = store.size().await.expect("a size");
    let days: u64 = std::fs::read_dir(store.dir().join("days")).expect("days").filter_map(|e| e.ok()?.metadata().ok()).map(|m| m.len()).sum();
    println!("samples             {samples} of {agents} agents, {SERIES} series each, {STEPS} steps; {AGENTS} connections");
    println!("ingest              {:.0} samples/s, every ack after an fsync ({took:.2} s)", samples as f64 / took);
    println!("on the wire         {:.2} bytes a sample", wire as f64 / samples as f64);
    println!("compaction          {compacted:.2} s");
    println!("on disk, day files  {:.2} bytes a sample ({days} bytes, {} samples)", days as f64 / samples as f64, size.block_samples);
    println!(
        "on disk, all files  {:.2} bytes a sample ({} bytes; the state database keeps free pages for the next batches)",
        size.bytes as f64 / samples as f64,
        size.bytes
    );
}
