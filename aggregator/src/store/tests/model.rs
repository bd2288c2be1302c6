//! The engine against two plain maps: what lies in blocks and what came since. Any order of appending, late data, flushing,
//! merging, dropping days and starting again must answer every question to the bit as the maps do.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::level0::{Rows, Run};
use crate::store::partition::DAY_MS;
use crate::store::series::FRESH;

const HOUR: i64 = 3_600_000;
const HOSTS: [&str; 2] = ["web-1", "web-2"];
/// Series of each host: two metrics, so that columns of one kin share chunks and others do not.
const SERIES: usize = 4;
/// The first instant that is let in, and one that no clock of ours will reach.
const EDGES: [i64; 2] = [keyvigil_common::limits::TIMESTAMP_MS_MIN, 4_102_444_800_000];

/// A host's place and its series' place.
type Key = (usize, usize);

/// A group of a batch: its instants, and series with the bits of their values.
#[derive(Debug, Clone)]
struct Columns {
    times: Vec<i64>,
    columns: Vec<(usize, Vec<u64>)>,
}

#[derive(Debug, Clone)]
enum Step {
    /// An agent's batch.
    Batch(usize, Vec<Columns>),
    /// Samples of other protocols, in any order.
    Rows(Vec<(Key, Vec<(i64, u64)>)>),
    /// A batch whose transaction fails.
    Refused(usize, Vec<Columns>),
    /// More of one series than a block holds, from an instant on.
    Dense(Key, i64),
    Flush,
    Merge {
        before_ms: i64,
        days_before_ms: i64,
    },
    Compact,
    Retain(i64),
    Restart,
}

/// Few enough that they meet, close to where days and windows end.
fn instant() -> impl Strategy<Value = i64> {
    let within = prop::sample::select(vec![0, HOUR, 2 * HOUR - 1, 2 * HOUR, 13 * HOUR, DAY_MS - 30_000, DAY_MS - 1]);
    let usual = (0..4i64, within, 0..6i64).prop_map(|(day, within, n)| T0.div_euclid(DAY_MS) * DAY_MS + day * DAY_MS + within + n * 10_000);
    let edge = (prop::sample::select(EDGES.to_vec()), 0..4i64).prop_map(|(edge, n)| edge + n);
    prop_oneof![20 => usual, 1 => edge]
}

fn value() -> impl Strategy<Value = u64> {
    let odd = [0x7ff0_0000_0000_0002, f64::NAN.to_bits(), 0xfff8_0000_dead_beef, f64::INFINITY.to_bits(), f64::NEG_INFINITY.to_bits(), (-0.0f64).to_bits(), 1];
    let whole = (-1_000i64..1_000).prop_map(|n| (n as f64).to_bits());
    let decimal = (0i64..100_000).prop_map(|n| (n as f64 / 100.0).to_bits());
    prop_oneof![4 => whole, 3 => decimal, 2 => prop::sample::select(odd.to_vec()), 1 => any::<u64>()]
}

fn group() -> impl Strategy<Value = Columns> {
    let run = (instant(), prop::sample::select(vec![1, 10_000, 15_000, HOUR]), 1..12i64)
        .prop_map(|(from, step, count)| (0..count).map(|n| from + n * step).collect());
    let scattered = prop::collection::btree_set(instant(), 1..8).prop_map(|times| times.into_iter().collect());
    prop_oneof![3 => run, 1 => scattered].prop_flat_map(|times: Vec<i64>| {
        let column = (0..SERIES, prop::collection::vec(value(), times.len()));
        prop::collection::vec(column, 1..SERIES + 2).prop_map(move |columns| Columns { times: times.clone(), columns })
    })
}

fn key() -> impl Strategy<Value = Key> {
    (0..HOSTS.len(), 0..SERIES)
}

fn border() -> impl Strategy<Value = i64> {
    prop_oneof![instant(), Just(0), Just(EDGES[1] + 2 * DAY_MS), (0..5i64).prop_map(|day| (T0.div_euclid(DAY_MS) + day) * DAY_MS)]
}

fn step() -> impl Strategy<Value = Step> {
    let groups = || (0..HOSTS.len(), prop::collection::vec(group(), 1..3));
    let samples = prop::collection::vec((instant(), value()), 0..8);
    prop_oneof![
        10 => groups().prop_map(|(host, groups)| Step::Batch(host, groups)),
        5 => prop::collection::vec((key(), samples), 1..6).prop_map(Step::Rows),
        1 => groups().prop_map(|(host, groups)| Step::Refused(host, groups)),
        1 => (key(), instant()).prop_map(|(key, from)| Step::Dense(key, from)),
        6 => Just(Step::Flush),
        4 => (border(), border()).prop_map(|(before_ms, days_before_ms)| Step::Merge { before_ms, days_before_ms }),
        1 => Just(Step::Compact),
        1 => border().prop_map(Step::Retain),
        3 => Just(Step::Restart),
    ]
}

/// A series as both protocols name it.
fn series((_, at): Key) -> Series {
    let tags = Tags::new([("item", at.to_string())]).unwrap();
    Series::new(format!("metric_{}", at % 2), MetricType::Gauge, tags).unwrap()
}

fn tagged(key: Key) -> Series {
    let mut series = series(key);
    series.tags.set("host", HOSTS[key.0]);
    series
}

/// What the store should hold, as bits by instant.
#[derive(Default)]
struct Model {
    blocks: BTreeMap<Key, BTreeMap<i64, u64>>,
    head: BTreeMap<Key, BTreeMap<i64, u64>>,
    /// Days were given up: what comes late of them stays in pieces, to be told from what their roll-ups hold.
    gave_up: bool,
}

impl Model {
    fn put(&mut self, key: Key, at_ms: i64, bits: u64) {
        self.head.entry(key).or_default().insert(at_ms, bits);
    }

    fn put_groups(&mut self, host: usize, groups: &[Columns]) {
        for group in groups {
            for (at, values) in &group.columns {
                group.times.iter().zip(values).for_each(|(time, bits)| self.put((host, *at), *time, *bits));
            }
        }
    }

    fn flush(&mut self) {
        for (key, points) in std::mem::take(&mut self.head) {
            self.blocks.entry(key).or_default().extend(points);
        }
    }

    fn retain(&mut self, before_ms: i64) {
        self.blocks.values_mut().for_each(|points| points.retain(|at_ms, _| (at_ms.div_euclid(DAY_MS) + 1) * DAY_MS > before_ms));
    }

    fn read(&self, key: Key, from: i64, to: i64) -> Vec<(i64, u64)> {
        let mut out = BTreeMap::new();
        for points in [&self.blocks, &self.head].into_iter().filter_map(|part| part.get(&key)) {
            // A range that ends before it begins has nothing in it.
            out.extend(points.iter().filter(|point| (from..=to).contains(point.0)).map(|(at_ms, bits)| (*at_ms, *bits)));
        }
        out.into_iter().collect()
    }

    fn known(&self) -> impl Iterator<Item = Key> {
        let keys = self.blocks.keys().chain(self.head.keys());
        keys.copied().collect::<std::collections::BTreeSet<_>>().into_iter()
    }
}

fn native(host: usize, groups: &[Columns]) -> Batch {
    let column =
        |(at, values): &(usize, Vec<u64>)| Column { series: *at as u32, start_ms: 0, values: values.iter().map(|bits| f64::from_bits(*bits)).collect() };
    let group =
        |group: &Columns| Group { sensor: "test".into(), interval_ms: 10_000, times: group.times.clone(), columns: group.columns.iter().map(column).collect() };
    let series = (0..SERIES).map(|at| series((host, at))).collect();
    Batch { sealed_ms: T0, series, groups: groups.iter().map(group).collect(), ..Batch::default() }
}

async fn send(store: &Store, host: usize, mut batch: Batch, refuse: bool) -> Result<(), StoreError> {
    let body = store.seal_batch(1, HOSTS[host], &encode_batch(&batch).unwrap())?;
    let work = move |tx: &Tx<'_>| {
        let tenant = tx.tenant("default")?;
        let ids = tx.resolve(tenant, Some(HOSTS[host]), &batch.series)?;
        tx.append_batch(tenant, &mut batch, &ids, &body)?;
        if refuse { Err(StoreError::Refused("on purpose".into())) } else { Ok(()) }
    };
    store.write(work).await
}

async fn send_rows(store: &Store, runs: &[(Key, Vec<(i64, u64)>)]) {
    let (mut rows, mut fresh) = (Rows::default(), Vec::new());
    for (key, points) in runs {
        let series = tagged(*key);
        let id = store.index().id(1, &series).unwrap_or_else(|| {
            fresh.push(series);
            FRESH | (fresh.len() as u32 - 1)
        });
        rows.times.extend(points.iter().map(|point| point.0));
        rows.values.extend(points.iter().map(|point| f64::from_bits(point.1)));
        rows.runs.push(Run { series: id, start_ms: 0, end: rows.times.len() as u32 });
    }
    store.append(1, rows, fresh, store.generation(), None).await.unwrap();
}

/// Asks for all series at once, in the order of their keys.
async fn compare(store: &Store, model: &Model, (from, to): (i64, i64)) -> Result<(), TestCaseError> {
    let keys: Vec<Key> = model.known().collect();
    // What nothing is left of has no id any more.
    let ids: Vec<SeriesId> = keys.iter().map(|key| store.index().id(1, &tagged(*key)).unwrap_or(0)).collect();
    let found = store.select(&ids, from, to, usize::MAX).await.map_err(|e| TestCaseError::fail(format!("{from}..={to}: {e}")))?;
    for (key, points) in keys.into_iter().zip(found) {
        let points: Vec<(i64, u64)> = points.into_iter().map(|point| (point.0, point.1.to_bits())).collect();
        let expected = model.read(key, from, to);
        let apart = points.iter().zip(&expected).find(|(a, b)| a != b);
        prop_assert!(points == expected, "{key:?} in {from}..={to}: {} points, {} expected, first apart: {apart:x?}", points.len(), expected.len());
    }
    Ok(())
}

/// A store and what it should answer.
struct Bench {
    fixture: Fixture,
    store: Option<Store>,
    model: Model,
}

impl Bench {
    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let (store, model) = (self.store.as_ref().unwrap(), &mut self.model);
        match step {
            Step::Batch(host, groups) => {
                send(store, *host, native(*host, groups), false).await.unwrap();
                model.put_groups(*host, groups);
            }
            Step::Rows(runs) => {
                send_rows(store, runs).await;
                runs.iter().for_each(|(key, points)| points.iter().for_each(|(at_ms, bits)| model.put(*key, *at_ms, *bits)));
            }
            Step::Refused(host, groups) => assert!(send(store, *host, native(*host, groups), true).await.is_err()),
            Step::Dense(key, from) => {
                let times: Vec<i64> = (0..3_000).map(|n| from + n * 1_000).collect();
                let groups = [Columns { columns: vec![(key.1, times.iter().map(|t| (*t as f64 / 7.0).to_bits()).collect())], times }];
                send(store, key.0, native(key.0, &groups), false).await.unwrap();
                model.put_groups(key.0, &groups);
            }
            Step::Flush => {
                let samples: usize = model.head.values().map(BTreeMap::len).sum();
                assert_eq!(store.flush().await.unwrap().samples, samples);
                assert_eq!(store.head_points(), 0);
                model.flush();
            }
            Step::Merge { before_ms, days_before_ms } => drop(store.merge(*before_ms, *days_before_ms).await.unwrap()),
            Step::Compact => {
                store.compact(&Progress::silent()).await.unwrap();
                model.flush();
                let samples: usize = model.blocks.values().map(BTreeMap::len).sum();
                let stored = store.size().await.unwrap().block_samples;
                assert!(stored == samples as u64 || (model.gave_up && stored > samples as u64), "one sample an instant: {stored} of {samples}");
            }
            Step::Retain(before_ms) => {
                store.retain(*before_ms + DAY_MS, &Policy::days(1)).await.unwrap();
                model.retain(*before_ms);
                model.gave_up = true;
            }
            Step::Restart => {
                self.store = None;
                self.store = Some(self.fixture.open());
            }
        }
        Ok(())
    }
}

/// `PROPTEST_CASES` where it is given; a quarter of a second each.
fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases: 40, ..default } }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_order_of_work_answers_as_a_plain_map_does(steps in prop::collection::vec((step(), instant(), instant()), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new();
            let mut run = Bench { store: Some(fixture.open()), fixture, model: Model::default() };
            for (step, from, to) in &steps {
                run.step(step).await?;
                let store = run.store.as_ref().unwrap();
                compare(store, &run.model, (*from.min(to), *from.max(to))).await?;
                if !matches!(step, Step::Batch(..) | Step::Rows(..)) {
                    compare(store, &run.model, (0, i64::MAX)).await?;
                }
            }
            drop(run.store.take());
            run.store = Some(run.fixture.open());
            compare(run.store.as_ref().unwrap(), &run.model, (i64::MIN, i64::MAX)).await
        })?;
    }
}
