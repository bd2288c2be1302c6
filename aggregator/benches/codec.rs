//! What it costs to write samples as blocks and to read them back, and to decode what senders send.
//! `cargo bench -p keyvigil-aggregator --bench codec`. Shapes are those of tests/bench/storage: an hour of one host, 200 series,
//! 240 samples 15 s apart with a few ms of jitter. Items are samples.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use keyvigil_aggregator::ingest::Ingest;
use keyvigil_aggregator::ingest::remote::Version;
use keyvigil_aggregator::measured::{self, Packed};
use keyvigil_aggregator::store::Store;
use keyvigil_common::clock::ManualClock;
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::telemetry::Registry;
use keyvigil_common::wire::{Batch, Column, Group, decode_batch, encode_batch};

const SERIES: usize = 200;
const STEPS: usize = 240;
const T0: i64 = 1_763_836_800_000;

/// What one shape of series does, by its step.
const SHAPES: [&str; 4] = ["constant", "decimals", "bytes", "floats"];

/// Numbers that look random, and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn times(random: &mut Random) -> Vec<i64> {
    (0..STEPS).map(|n| T0 + n as i64 * 15_000 + random.below(6) as i64 - 3).collect()
}

fn column(shape: &str, random: &mut Random) -> Vec<f64> {
    let mut counter = 0;
    let mut next = || match shape {
        "constant" => 8.0,
        "decimals" => 40.0 + random.below(2_000) as f64 / 100.0,
        "bytes" => {
            counter += random.below(100_000);
            counter as f64
        }
        _ => 1.0 / (1 + random.below(1_000_000)) as f64,
    };
    (0..STEPS).map(|_| next()).collect()
}

fn columns(shape: &str) -> (Vec<i64>, Vec<Vec<f64>>) {
    let mut random = Random(7);
    (times(&mut random), (0..SERIES).map(|_| column(shape, &mut random)).collect())
}

#[divan::bench(args = SHAPES)]
fn block_written(bencher: Bencher<'_, '_>, shape: &str) {
    let (times, columns) = columns(shape);
    let packed = measured::pack(&times, &columns);
    println!("{shape}: {:.3} bytes a sample", packed.bytes() as f64 / (SERIES * STEPS) as f64);
    bencher.counter(ItemsCount::new(SERIES * STEPS)).bench_local(|| measured::pack(black_box(&times), black_box(&columns)));
}

#[divan::bench(args = SHAPES)]
fn block_read(bencher: Bencher<'_, '_>, shape: &str) {
    let (times, columns) = columns(shape);
    let packed = measured::pack(&times, &columns);
    bencher.counter(ItemsCount::new(SERIES * STEPS)).bench_local(|| measured::unpack(black_box(&packed), |_| true));
}

/// One series of the block: what a page with one line costs.
#[divan::bench(args = SHAPES)]
fn one_series_read(bencher: Bencher<'_, '_>, shape: &str) {
    let (times, columns) = columns(shape);
    let packed: Packed = measured::pack(&times, &columns);
    bencher.counter(ItemsCount::new(STEPS)).bench_local(|| measured::unpack(black_box(&packed), |series| series == 77));
}

fn frame() -> Vec<u8> {
    let mut random = Random(7);
    let series = (0..SERIES).map(|n| Series::new(format!("system.metric{n}"), MetricType::Gauge, Tags::default()).expect("a series")).collect();
    let times: Vec<i64> = times(&mut random).into_iter().take(5).collect();
    let column = |n: usize| Column { series: n as u32, start_ms: 0, values: column(SHAPES[n % 4], &mut Random(n as u64)).into_iter().take(5).collect() };
    let group = Group { sensor: "bench".into(), interval_ms: 15_000, times, columns: (0..SERIES).map(column).collect() };
    encode_batch(&Batch { sealed_ms: T0, series, groups: vec![group], ..Batch::default() }).expect("a batch")
}

/// A batch of an agent: 1,000 samples, as B2 sends them.
#[divan::bench]
fn agents_batch_decoded(bencher: Bencher<'_, '_>) {
    let frame = frame();
    bencher.counter(ItemsCount::new(SERIES * 5)).bench_local(|| decode_batch(black_box(&frame)).expect("a batch"));
}

/// A request of remote write as Prometheus sends it: 1,000 samples of 1,000 series, of which each is known already.
fn remote_write() -> Vec<u8> {
    let field = |out: &mut Vec<u8>, number: u8, bytes: &[u8]| {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 128 {
            out.push(length as u8 | 128);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
    };
    let (mut random, mut body) = (Random(7), Vec::new());
    for n in 0..1_000 {
        let mut series = Vec::new();
        let item = format!("dev{n}");
        for (name, value) in [("__name__", "node_disk_io_time_seconds_total"), ("device", item.as_str()), ("instance", "web-1:9100"), ("job", "node")] {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut series, 1, &label);
        }
        let mut sample = vec![0x09];
        sample.extend_from_slice(&(random.below(100_000) as f64 / 100.0).to_le_bytes());
        sample.push(0x10);
        let mut at_ms = T0.cast_unsigned();
        while at_ms >= 128 {
            sample.push(at_ms as u8 | 128);
            at_ms >>= 7;
        }
        sample.push(at_ms as u8);
        field(&mut series, 2, &sample);
        field(&mut body, 1, &series);
    }
    snap::raw::Encoder::new().compress_vec(&body).expect("compressed")
}

#[divan::bench]
fn remote_write_decoded(bencher: Bencher<'_, '_>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path(), &MasterKey::generate(), T0, 512 << 20).expect("a store");
    let ingest = Ingest::new(store, Arc::default(), Arc::default(), Arc::default(), ManualClock::at(T0), &Registry::default());
    let body = remote_write();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(ingest.remote_write(1, Version::V1, &body.clone().into())).expect("stored");
    bencher.counter(ItemsCount::new(1_000usize)).bench_local(|| measured::decode_remote_write(&ingest, black_box(&body)));
}

fn main() {
    divan::main();
}
