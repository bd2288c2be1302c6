//! The schedule with sensors of our own, driven step by step: no task runs, and the clock stands still in between.

use super::*;
use crate::buffer::{Bounds, Lane, Place, Room};
use crate::collect::{self, AccessRules, COLLECTORS, Collector, KeystoreConfig, KnownKeys, Link, ServedConfig, Sink};
use crate::rootfs::RootFs;
use keyvigil_common::clock::ManualClock;
use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::wire::decode_batch;

/// A multiple of a minute.
const BEGIN_MS: i64 = 1_800_000_000_000;
/// When [`Jumps`] does.
const JUMP_MS: i64 = BEGIN_MS + 900_000;

struct Steady;
struct Jumps;
/// Shows how many things it remembers; asks for one more each time.
#[derive(Default)]
struct Remembers(Option<usize>);

impl Collector for Remembers {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        sink.gauge("test.remembers", &[], self.0.map_or(-1.0, |count| count as f64));
        sink.remember(at.wall_ms.to_string(), Some(vec![1]));
    }

    fn restore(&mut self, remembered: Vec<(String, Vec<u8>)>) {
        self.0 = Some(remembered.len());
    }
}

/// Fails where a file says so, and else remembers.
struct Fails(RootFs, Remembers);

impl Collector for Fails {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        self.1.collect(at, sink);
        assert!(std::fs::remove_file(self.0.path("/fail")).is_err(), "a fault that is expected here");
    }

    fn restore(&mut self, remembered: Vec<(String, Vec<u8>)>) {
        self.1.restore(remembered);
    }

    fn on_change(&mut self, poke: Poke) {
        poke.poke();
    }
}

/// Cannot see one path until it lies there: the directory is given by the context.
struct Blind(RootFs);

impl Collector for Blind {
    fn collect(&mut self, _at: At, sink: &mut Sink) {
        if !self.0.path("/seen").exists() {
            sink.absent("/etc/ssl/private", "Permission denied");
        }
    }
}

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
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(rows: Vec<(Row, Duration, Duration)>, adaptive: bool, cpu_budget_percent: f64) -> Self {
        Self::within(tempfile::tempdir().unwrap(), "buffer.db", rows, adaptive, cpu_budget_percent)
    }

    fn within(dir: tempfile::TempDir, buffer: &str, rows: Vec<(Row, Duration, Duration)>, adaptive: bool, cpu_budget_percent: f64) -> Self {
        let master = MasterKey::load_or_create(&dir.path().join("key")).unwrap();
        let clock = ManualClock::at(BEGIN_MS);
        let place = Place { path: dir.path().join(buffer), vfs: None, origin: String::new(), clock: clock.clone() };
        let bounds = Bounds { bytes: 64 << 20, age_ms: i64::MAX, min_free_bytes: 1 };
        let buffer = Buffer::open(place, master, bounds, BEGIN_MS).unwrap();
        let registry = Registry::default();
        let root = RootFs::new(dir.path());
        let sampler = Sampler::new(Parts {
            rows,
            context: Context {
                root,
                started_ms: BEGIN_MS,
                keystore: KeystoreConfig::default(),
                served: ServedConfig::default(),
                known: KnownKeys::default(),
                registry: registry.clone(),
                access: AccessRules::default(),
                probe: Link::new("/nonexistent"),
                canary: crate::canary::Canary::none(),
                waiting: None,
            },
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
        Self { sampler, clock, buffer, dir }
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

#[tokio::test]
async fn a_sensor_gets_what_it_remembered_when_the_disk_that_knows_it_is_back() {
    let rows = || vec![row("keystore", |_| Box::<Remembers>::default())];
    let mut bench = Bench::within(tempfile::tempdir().unwrap(), "buffer.db", rows(), false, 0.0);
    bench.sampler.recall().await;
    bench.looks().await;
    assert_eq!(bench.told("test.remembers").await.len(), 1);
    bench.buffer.close(BEGIN_MS).await.unwrap();
    let Bench { dir, sampler, .. } = bench;
    drop(sampler);
    std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
    for name in ["buffer.db", "buffer.id"] {
        std::fs::rename(dir.path().join(name), dir.path().join("elsewhere").join(name)).unwrap();
    }
    let mut bench = Bench::within(dir, "state/buffer.db", rows(), false, 0.0);
    bench.sampler.recall().await;
    bench.looks().await;
    assert_eq!(bench.told("test.remembers").await, [(String::new(), -1.0)], "it is not known");
    std::fs::rename(bench.dir.path().join("elsewhere"), bench.dir.path().join("state")).unwrap();
    bench.clock.advance(Duration::from_secs(20));
    bench.looks().await;
    bench.told("test.remembers").await;
    bench.sampler.recall().await;
    bench.looks().await;
    let mut all = Vec::new();
    loop {
        let told = bench.told("test.remembers").await;
        all.extend(told.into_iter().map(|(_, value)| value));
        let Some(front) = bench.buffer.front(Lane::Live, Room { frames: 1_000, bytes: usize::MAX }, BEGIN_MS).await.unwrap() else { break };
        bench.buffer.acked(front.epoch, front.frames.last().unwrap().0, Vec::new(), BEGIN_MS).await.unwrap();
    }
    assert_eq!(all, [0.0, -1.0, -1.0, 1.0], "what it remembered before this start, and no more");
}

#[tokio::test]
async fn a_sensor_that_failed_begins_anew_with_what_it_had_once_that_is_stored() {
    let mut bench = Bench::new(vec![row("keystore", |context| Box::new(Fails(context.root.clone(), Remembers::default())))], false, 0.0);
    bench.sampler.recall().await;
    bench.looks().await;
    bench.sampler.pending.seal().await;
    assert_eq!(bench.sampler.pokes.1.try_recv(), Ok(0));
    std::fs::write(bench.dir.path().join("fail"), "").unwrap();
    bench.looks().await;
    bench.sampler.recall().await;
    assert!(bench.looks().await.is_empty(), "what was seen before it failed is not stored yet");
    assert_eq!(bench.sampler.pokes.1.try_recv(), Ok(0), "it can be woken as the one before it");
    bench.sampler.pending.seal().await;
    bench.sampler.recall().await;
    assert_eq!(bench.looks().await, ["keystore"]);
    let told: Vec<f64> = bench.told("test.remembers").await.into_iter().map(|(_, count)| count).collect();
    assert_eq!(told, [0.0, 1.0], "the look that failed tells nothing, and the next knows what the one before it stored");
}

/// Events about what is not seen, of all that waits in the buffer; it waits no longer then.
async fn sights(bench: &mut Bench) -> Vec<(EventKind, Option<String>)> {
    bench.sampler.pending.seal().await;
    let mut events = Vec::new();
    while let Some(front) = bench.buffer.front(Lane::Live, Room { frames: 1_000, bytes: usize::MAX }, BEGIN_MS).await.unwrap() {
        events.extend(front.frames.iter().flat_map(|(_, frame)| decode_batch(frame).unwrap().events));
        bench.buffer.acked(front.epoch, front.frames.last().unwrap().0, Vec::new(), BEGIN_MS).await.unwrap();
    }
    events.into_iter().map(|event| (event.kind, event.path)).collect()
}

#[tokio::test]
async fn what_is_not_seen_is_told_once_over_restarts_and_so_is_that_it_is_seen_again() {
    let mut dir = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for start in 0..4 {
        if start == 2 {
            std::fs::write(dir.path().join("seen"), "").unwrap();
        }
        let rows = vec![row("keystore", |context| Box::new(Blind(context.root.clone())))];
        let mut bench = Bench::within(dir, "buffer.db", rows, false, 0.0);
        bench.sampler.recall().await;
        bench.looks().await;
        told.push(sights(&mut bench).await);
        bench.buffer.close(BEGIN_MS).await.unwrap();
        dir = bench.dir;
    }
    let about = |kind| vec![(kind, Some("/etc/ssl/private".to_owned()))];
    assert_eq!(told, [about(EventKind::CoverageLost), vec![], about(EventKind::CoverageRestored), vec![]]);
}

/// Cannot see a path, and says so itself.
struct Tells;

impl Collector for Tells {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        let told = Event {
            kind: EventKind::Unreadable,
            at_ms: at.wall_ms,
            key_id: None,
            path: Some("/etc/ssl/private".into()),
            actor: None,
            message: "Permission denied: let the agent in".into(),
            evidence: Vec::new(),
        };
        sink.event(told);
        sink.absent("/etc/ssl/private", "Permission denied");
    }
}

#[tokio::test]
async fn one_cause_of_not_seeing_is_one_event() {
    let mut bench = Bench::new(vec![row("keystore", |_| Box::new(Tells))], false, 0.0);
    bench.sampler.recall().await;
    bench.looks().await;
    assert_eq!(sights(&mut bench).await, [(EventKind::Unreadable, Some("/etc/ssl/private".to_owned()))]);
}
