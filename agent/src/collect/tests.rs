//! What every sensor of the table must keep, and what a user reads off the made-up host. Also the hosts that sensors' own
//! tests bring.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::*;

/// The made-up host of `tests/fixtures/roots/small-host`.
pub(super) fn fixture_root() -> RootFs {
    RootFs::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/roots/small-host"))
}

/// A host that consists of the files written.
pub(super) struct FakeHost(tempfile::TempDir);

impl FakeHost {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn context(&self) -> Context {
        context(RootFs::new(self.0.path()))
    }
}

fn context(root: RootFs) -> Context {
    // No test but those of that sensor knocks at the doors of whoever runs it.
    let served = ServedConfig { exclude: vec!["1-65535".into()], ..ServedConfig::default() };
    let known = KnownKeys::default();
    Context {
        root,
        started_ms: at(0).wall_ms,
        keystore: KeystoreConfig::default(),
        served,
        known,
        access: AccessRules::default(),
        probe: Link::new("/nonexistent"),
        canary: Canary::none(),
        registry: Registry::default(),
        waiting: None,
    }
}

/// The instant of scrape number `n`.
pub(super) fn at(n: u32) -> At {
    At { wall_ms: 1_800_000_000_000 + i64::from(n) * 10_000, monotonic: Duration::from_secs(10) * n }
}

/// What `sensor` sees in scrape number `n`.
pub(super) fn scrape(sensor: &mut dyn Collector, n: u32) -> Sink {
    let mut sink = Sink::new("h1", at(n));
    sensor.collect(at(n), &mut sink);
    sink
}

/// The value of the only series of `metric` in scrape number `n`.
pub(super) fn value(sensor: &mut dyn Collector, n: u32, metric: &str) -> Option<f64> {
    let sink = scrape(sensor, n);
    let mut found = sink.samples.iter().filter(|s| s.series.metric_id == metric);
    let value = found.next().map(|s| s.value);
    assert!(found.next().is_none(), "{metric} has more than one series");
    value
}

/// Counters, as the specification has them.
const FIXED_OF_KEYS: [&str; 4] = ["crypto.key.policy_violations", "crypto.key.security_events", "crypto.key.access_count", "crypto.key.unauthorized_access"];

fn assert_unit_shows_in_name(def: &MetricDef) {
    let id = def.id;
    let named = id.trim_end_matches("_total");
    // Fixed by the specification, without their units.
    let fixed = ["system.cpu.usage_total", "system.network.bytes_sent", "system.network.bytes_recv", "system.network.errors"];
    if fixed.contains(&id) || FIXED_OF_KEYS.contains(&id) || id.ends_with("_ops") {
        return;
    }
    assert_eq!(def.metric_type == MetricType::Counter, id.ends_with("_total"), "{id}: counters, and only they, end in _total");
    let fits = match def.unit {
        Unit::Bytes => named.ends_with("bytes"),
        Unit::BytesPerSecond => named.ends_with("bytes_per_second"),
        Unit::Bits => named.ends_with("bits"),
        Unit::Percent => named.ends_with("percent"),
        Unit::Ratio => named.ends_with("ratio"),
        Unit::UnixSeconds => named.ends_with("timestamp_seconds"),
        Unit::Seconds => named.ends_with("seconds") && !named.ends_with("timestamp_seconds"),
        Unit::Celsius => named.ends_with("celsius"),
        Unit::Count | Unit::Flag => !["bytes", "bits", "percent", "ratio", "seconds", "celsius"].iter().any(|unit| named.ends_with(unit)),
    };
    assert!(fits, "{id} does not name its unit {:?}", def.unit);
}

fn assert_conforms(row: &Row, sink: &Sink) {
    assert_eq!(sink.invalid, 0, "{}", row.name);
    let defs: HashMap<&str, &MetricDef> = row.metrics.iter().map(|def| (def.id, def)).collect();
    let mut seen = HashSet::new();
    for sample in &sink.samples {
        let series = &sample.series;
        assert!(seen.insert(series), "{series} comes twice");
        let def = defs.get(series.metric_id.as_str()).unwrap_or_else(|| panic!("{series} is not described by sensor {}", row.name));
        assert_eq!(series.metric_type, def.metric_type, "{series}");
        assert_eq!(series.tags.get("host"), Some("h1"), "{series}");
        assert_eq!(sample.at_ms, sink.at_ms(), "{series}");
        assert!(sample.value.is_finite(), "{series}");
        assert!(def.metric_type != MetricType::Counter || sample.value >= 0.0, "{series}");
        assert!(sample.start_ms.is_none_or(|start| start <= sample.at_ms), "{series}");
        match def.unit {
            Unit::Percent => assert!((0.0..=100.0).contains(&sample.value), "{series} is {}", sample.value),
            Unit::Flag => assert!([0.0, 1.0].contains(&sample.value), "{series} is {}", sample.value),
            _ => (),
        }
    }
    assert!(sink.blind.iter().all(|(what, reason)| !what.is_empty() && !reason.is_empty()), "{}: {:?}", row.name, sink.blind);
}

#[test]
fn the_table_is_complete_and_names_are_unique() {
    let (mut rows, mut ids) = (HashSet::new(), HashSet::new());
    for row in COLLECTORS {
        assert!(rows.insert(row.name), "{} comes twice", row.name);
        let (min, max) = row.interval_seconds;
        assert!(min >= 5 && min <= max && row.deadline_seconds > 0 && row.deadline_seconds < min, "{}", row.name);
    }
    for def in metric_defs() {
        assert!(ids.insert(def.id), "{} is described twice", def.id);
        assert!(def.id.matches('.').count() >= 1 && def.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c)), "{}", def.id);
        assert!(def.help.ends_with('.'), "{}", def.id);
        assert_unit_shows_in_name(def);
    }
}

#[test]
fn every_sensor_conforms_on_every_host() {
    let empty = FakeHost::new();
    for root in [fixture_root(), RootFs::host(), empty.context().root] {
        for row in COLLECTORS {
            let mut sensor = (row.make)(&context(root.clone()));
            for n in 0..2 {
                assert_conforms(row, &scrape(&mut *sensor, n));
            }
        }
    }
}

#[test]
fn a_host_that_shows_nothing_is_reported_as_such_and_not_as_idle() {
    let empty = FakeHost::new();
    // The agent's own numbers are not the host's.
    for row in COLLECTORS.iter().filter(|row| !matches!(row.name, "own" | "canary")) {
        let sink = scrape(&mut *(row.make)(&empty.context()), 0);
        assert!(sink.samples.is_empty(), "{}", row.name);
        assert!(!sink.blind.is_empty() || row.name == "temperature", "{}", row.name);
    }
}

/// Series as users write them, without the host, and their values.
fn fixture_values() -> HashMap<String, f64> {
    let context = context(fixture_root());
    let samples = COLLECTORS.iter().flat_map(|row| scrape(&mut *(row.make)(&context), 0).samples);
    samples
        .map(|Sample { series, value, .. }| {
            let tags = Tags::new(series.tags.iter().filter(|(name, _)| *name != "host")).unwrap();
            (Series { tags, ..series }.to_string(), value)
        })
        .collect()
}

#[test]
fn what_the_files_say_is_what_is_measured() {
    let values = fixture_values();
    for (series, expected) in [
        (r#"system.cpu.seconds_total{cpu="0",mode="user"}"#, 100.0),
        (r#"system.cpu.seconds_total{cpu="0",mode="guest"}"#, 20.0),
        (r#"system.cpu.seconds_total{cpu="1",mode="idle"}"#, 800.0),
        ("system.cpu.context_switches_total{}", 15_000_000.0),
        ("system.memory.usage_percent{}", 25.0),
        ("system.memory.total_bytes{}", 4_194_304_000.0),
        ("system.memory.oom_kills_total{}", 1.0),
        ("system.swap.usage_percent{}", 25.0),
        ("system.load.1m{}", 0.75),
        ("system.load.15m{}", 0.25),
        ("system.processes.count{}", 3.0),
        ("system.processes.threads{}", 340.0),
        ("system.processes.blocked{}", 1.0),
        ("system.processes.forks_total{}", 81_000.0),
        (r#"system.pressure.stall_seconds_total{kind="some",resource="cpu"}"#, 12.5),
        (r#"system.pressure.stall_seconds_total{kind="full",resource="io"}"#, 20.0),
        (r#"system.disk.read_bytes_total{device="sda"}"#, 245_760_000.0),
        (r#"system.disk.write_seconds_total{device="sda"}"#, 16.0),
        (r#"system.disk.in_flight{device="sda"}"#, 3.0),
        (r#"system.network.bytes_sent{interface="eth0"}"#, 12_000_000.0),
        (r#"system.network.bytes_recv{interface="eth0"}"#, 98_000_000.0),
        (r#"system.network.errors{direction="recv",interface="eth0"}"#, 3.0),
        (r#"system.network.drops_total{direction="sent",interface="eth0"}"#, 2.0),
        (r#"system.network.up{interface="lo"}"#, 1.0),
        (r#"system.network.speed_bytes_per_second{interface="eth0"}"#, 125_000_000.0),
        ("system.sockets.used{}", 150.0),
        (r#"system.tcp.sockets{family="ipv6"}"#, 8.0),
        ("system.tcp.established{}", 9.0),
        ("system.tcp.segments_retransmitted_total{}", 150.0),
        ("system.file_descriptors.allocated{}", 1_984.0),
        ("system.file_descriptors.max{}", 400_000.0),
        ("system.entropy.available_bits{}", 256.0),
        ("system.conntrack.entries{}", 320.0),
        ("system.uptime_seconds{}", 90_000.5),
        ("system.boot_timestamp_seconds{}", 1_790_000_000.0),
        (r#"system.temperature.celsius{chip="coretemp",device="hwmon0",label="Package id 0",sensor="temp1"}"#, 48.5),
        (r#"system.filesystem.read_only{device="/dev/sdb",fstype="xfs",mount="/srv/cold data"}"#, 1.0),
    ] {
        assert_eq!(values.get(series), Some(&expected), "{series} of {:#?}", values.keys());
    }
    let skipped = [r#"{device="loop0"}"#, r#"{device="sda1"}"#, "/srv/bind", "/mnt/share", "/gone"];
    assert!(values.keys().all(|series| !skipped.iter().any(|part| series.contains(part))), "{:#?}", values.keys());
}

#[test]
fn counters_of_the_kernel_start_at_boot() {
    let context = context(fixture_root());
    for name in ["cpu", "memory", "process", "pressure", "sockets"] {
        let row = COLLECTORS.iter().find(|row| row.name == name).unwrap();
        for sample in scrape(&mut *(row.make)(&context), 0).samples {
            let expected = (sample.series.metric_type == MetricType::Counter).then_some(1_790_000_000_000);
            assert_eq!(sample.start_ms, expected, "{}", sample.series);
        }
    }
}

#[test]
fn this_host_is_measured_as_another_source_does() {
    let context = context(RootFs::host());
    let of = |row: &str, metric: &str| {
        let row = COLLECTORS.iter().find(|r| r.name == row).unwrap();
        value(&mut *(row.make)(&context), 0, metric)
    };
    let mut system = sysinfo::System::new().unwrap();
    system.refresh_memory();
    assert_eq!(of("memory", "system.memory.total_bytes"), Some(system.total_memory() as f64));
    assert_eq!(of("memory", "system.swap.total_bytes"), Some(system.total_swap() as f64));
    let uptime = of("clock", "system.uptime_seconds").unwrap();
    assert!((uptime - sysinfo::System::uptime().unwrap() as f64).abs() < 5.0, "{uptime}");
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    assert!(of("cpu", "system.cpu.online").is_some_and(|online| online >= cpus), "{cpus}");
}
