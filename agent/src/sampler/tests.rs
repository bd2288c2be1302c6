//! The schedule with sensors of our own, driven step by step: no task runs, and the clock stands still in between.

use super::*;
use crate::buffer::{Bounds, Lane, Place, Room};
use crate::collect::{self, COLLECTORS, Collector, KeystoreConfig, Sink};
use crate::rootfs::RootFs;
use keyvigil_common::clock::ManualClock;
use keyvigil_common::seal::MasterKey;
use keyvigil_common::wire::decode_batch;

/// A multiple of a minute.
const BEGIN_MS: i64 = 1_800_000_000_000;
/// When [`Jumps`] does.
const JUMP_MS: i64 = BEGIN_MS + 900_000;

struct Steady;
struct Jumps;

impl Collector for Steady {
    fn collect(&mut self, _at: At, sink: &mut Sink) {
        sink.gauge("test.steady", &[], 40.0);
    }
}

impl Collector for Jumps {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        sink.gauge("test.jumps", &[], if at.wall_ms < JUMP_MS { 40.0 } else { 80.0 });
    }
}

fn row(name: &str, make: fn(&Context) -> Box<dyn Collector>) -> (Row, Duration, Duration) {
    let row = COLLECTORS.iter().find(|row| row.name == name).unwrap();
    (Row { make, ..*row }, Duration::from_secs(10), Duration::from_secs(60))
}

struct Bench {
    sampler: Sampler,
    clock: Arc<ManualClock>,
    buffer: Buffer,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(rows: Vec<(Row, Duration, Duration)>, adaptive: bool, cpu_budget_percent: f64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let master = MasterKey::load_or_create(&dir.path().join("key")).unwrap();
        let clock = ManualClock::at(BEGIN_MS);
        let place = Place { path: dir.path().join("buffer.db"), vfs: None, origin: String::new(), clock: clock.clone() };
        let bounds = Bounds { bytes: 64 << 20, age_ms: i64::MAX, min_free_bytes: 1 };
        let buffer = Buffer::open(place, master, bounds, BEGIN_MS).unwrap();
        let registry = Registry::default();
        let root = RootFs::new(dir.path());
        let sampler = Sampler::new(Parts {
            rows,
            context: Context { root, started_ms: BEGIN_MS, keystore: KeystoreConfig::default(), registry: registry.clone(), waiting: None },
            adaptive,
            cpu_budget_percent,
            buffer: buffer.clone(),
            itself: Itself::starting(&RootFs::new(dir.path()), dir.path(), clock.clone()),
            shown: Shown::default(),
            clock: clock.clone(),
            host: "h".into(),
            filled: Arc::new(Notify::new()),
            enhanced: watch::channel(Enhanced::default()).1,
            registry,
        });
        Self { sampler, clock, buffer, _dir: dir }
    }

    /// Who looks now; ten seconds pass then.
    async fn looks(&mut self) -> Vec<&'static str> {
        self.sampler.start_due();
        let names: Vec<_> = self.sampler.slots.iter().filter(|slot| slot.started.is_some()).map(|slot| slot.row.name).collect();
        while self.sampler.running() > 0 {
            self.sampler.crew.done().await;
            self.sampler.take_all_back();
        }
        self.clock.advance(Duration::from_secs(10));
        names
    }

    /// Values told of a metric so far, by its sensor.
    async fn told(&mut self, metric: &str) -> Vec<(String, f64)> {
        self.sampler.pending.seal().await;
        let room = Room { frames: 1_000, bytes: usize::MAX };
        let front = self.buffer.front(Lane::Live, room, BEGIN_MS).await.unwrap().unwrap_or_default();
        let batches = front.frames.iter().map(|(_, frame)| decode_batch(frame).unwrap());
        let mut told = Vec::new();
        for batch in batches {
            for column in batch.groups.iter().flat_map(|group| &group.columns) {
                let series = &batch.series[column.series as usize];
                if series.metric_id == metric {
                    told.extend(column.values.iter().map(|value| (series.tags.get("sensor").unwrap_or_default().to_owned(), *value)));
                }
            }
        }
        told
    }
}

#[tokio::test]
async fn when_one_part_of_a_host_moves_the_others_look_once() {
    let mut bench = Bench::new(vec![row("cpu", |_| Box::new(Jumps)), row("load", |_| Box::new(Steady)), row("keystore", |_| Box::new(Steady))], true, 0.0);
    for _ in 0..90 {
        bench.looks().await;
    }
    let mut after = Vec::new();
    for _ in 0..4 {
        after.push(bench.looks().await);
    }
    assert_eq!(after, [vec!["cpu", "load", "keystore"], vec!["cpu", "load"], vec!["cpu"], vec!["cpu"]]);
    let told = bench.told(collect::INTERVAL).await;
    let of_cpu: Vec<f64> = told.iter().filter(|(sensor, _)| sensor == "cpu").map(|(_, seconds)| *seconds).collect();
    assert!(of_cpu.starts_with(&[10.0, 20.0, 40.0, 60.0, 60.0]), "each change, and what stays every five minutes: {of_cpu:?}");
    assert!(of_cpu.ends_with(&[60.0, 10.0, 20.0]), "{of_cpu:?}");
}

#[tokio::test]
async fn an_agent_over_its_budget_looks_less_often_but_not_at_keys() {
    // Any processor time is too much.
    let mut bench = Bench::new(vec![row("cpu", |_| Box::new(Steady)), row("keystore", |_| Box::new(Steady)), row("own", |_| Box::new(Steady))], false, 1e-12);
    let mut counts = [0; 2];
    for _ in 0..12 {
        let looks = bench.looks().await;
        counts[0] += usize::from(looks.contains(&"cpu"));
        counts[1] += usize::from(looks.contains(&"keystore"));
    }
    assert_eq!(counts[1], 12);
    assert!((8..12).contains(&counts[0]), "{counts:?}");
    assert!(bench.told(collect::THROTTLED).await.iter().any(|(_, sensors)| *sensors == 2.0));
    assert!(bench.told(collect::CPU).await.iter().all(|(_, percent)| *percent > 0.0));
}
