//! What the index costs at a million series: 1,000 hosts with 1,000 series each, six tags a series.
//! `cargo bench -p keyvigil-aggregator --bench index`

use std::sync::LazyLock;

use divan::{Bencher, black_box};
use keyvigil_aggregator::index::{Index, Selector, SeriesId};
use keyvigil_common::sample::{MetricType, Series, Tags};

const HOSTS: u32 = 1_000;
const PER_HOST: u32 = 1_000;

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let index = Index::default();
    index.insert_many(1, (0..HOSTS * PER_HOST).map(|n| (n + 1, series(n))));
    index
});

/// Half of a host's series have a name of their own, half are 25 names of 20 devices.
fn series(n: u32) -> Series {
    let (host, of_host) = (n / PER_HOST, n % PER_HOST);
    let (name, part) = if of_host < 500 { (of_host, "total".to_owned()) } else { (of_host / 20 + 500, format!("dev{}", of_host % 20)) };
    let tags = Tags::new([
        ("host", format!("web-{host:04}.example.org")),
        ("env", ["production", "staging"][(host % 2) as usize].to_owned()),
        ("region", format!("region-{}", host % 7)),
        ("rack", format!("r{:03}", host % 100)),
        ("job", "node".to_owned()),
        ("device", part),
    ]);
    Series::new(format!("system.metric_{name:03}.total"), MetricType::Counter, tags.expect("valid tags")).expect("a valid series")
}

fn selector(pattern: &str, tags: &[&str]) -> Selector {
    Selector::parse(pattern, tags.iter().copied()).expect("a valid selector")
}

/// Pages of this process in memory, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}

#[expect(clippy::print_stdout, reason = "figures are the output of a bench")]
fn main() {
    let before = resident();
    let count = INDEX.len();
    let grown = resident() - before;
    println!("{count} series: {} bytes each by memory_bytes, {} by growth of the process", INDEX.memory_bytes() / count, grown / count);
    divan::main();
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn insert_a_million(bencher: Bencher<'_, '_>) {
    let all: Vec<(SeriesId, Series)> = (0..HOSTS * PER_HOST).map(|n| (n + 1, series(n))).collect();
    bencher.with_inputs(Index::default).bench_local_refs(|index| index.insert_many(1, all.iter().map(|(id, series)| (*id, series))));
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn remove_a_hundred_thousand(bencher: Bencher<'_, '_>) {
    let fill = || {
        let index = Index::default();
        index.insert_many(1, (0..200_000).map(|n| (n + 1, series(n))));
        index
    };
    bencher.with_inputs(fill).bench_local_refs(|index| index.remove((0..100_000).map(|n| n * 2 + 1)));
}

#[divan::bench]
fn id(bencher: Bencher<'_, '_>) {
    let all: Vec<Series> = (0..HOSTS * PER_HOST).step_by(997).map(series).collect();
    let mut at = 0;
    bencher.bench_local(|| {
        at = (at + 1) % all.len();
        INDEX.id(1, black_box(&all[at]))
    });
}

#[divan::bench]
fn get(bencher: Bencher<'_, '_>) {
    let mut id = 0;
    bencher.bench_local(|| {
        id = (id + 7_919) % (HOSTS * PER_HOST) + 1;
        INDEX.get(id)
    });
}

/// Pattern, tags, limit.
type Question = (&'static str, &'static [&'static str], usize);

const QUESTIONS: &[Question] = &[
    ("system.metric_007.total", &[], 10_000),
    ("system.metric_007.total", &["host:~web-0[0-4].*"], 10_000),
    ("system.metric_530.total", &["device:dev7", "env:!staging"], 10_000),
    ("system.metric_530.total", &[], 200_000),
    ("system.metric_530.total", &[], 1_000),
    ("system.metric_00*.total", &["host:web-0042.example.org"], 10_000),
    ("re:.*_5[0-9]+.*", &["host:~web-00.*", "rack:~r00.*"], 10_000),
    ("**", &["host:web-0042.example.org"], 10_000),
    ("**", &["device:!~dev.*"], 1_000),
    ("**", &[], 1_000),
];

#[divan::bench(args = QUESTIONS, max_time = 3)]
fn select(bencher: Bencher<'_, '_>, question: &Question) {
    let (pattern, tags, limit) = *question;
    let selector = selector(pattern, tags);
    bencher.bench(|| INDEX.select(1, &selector, limit));
}

#[divan::bench(args = QUESTIONS, max_time = 3)]
fn count(bencher: Bencher<'_, '_>, question: &Question) {
    let (pattern, tags, _) = *question;
    let selector = selector(pattern, tags);
    bencher.bench(|| INDEX.count(1, &selector));
}

#[divan::bench(args = ["host", "env", "device"])]
fn label_values(bencher: Bencher<'_, '_>, name: &str) {
    let selector = selector("system.metric_007.total", &[]);
    bencher.bench(|| INDEX.label_values(1, name, &selector));
}

#[divan::bench(max_time = 3)]
fn memory_bytes() -> usize {
    INDEX.memory_bytes()
}
