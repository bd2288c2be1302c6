//! Polled sensors: the trait, what they write into, and the table of all of them. A new sensor is a file in `collect/` and
//! a row in [`COLLECTORS`]. A sensor runs on a blocking thread, may be slow, and must never guess: what it cannot see it
//! reports as [`Sink::absent`].

mod access;
mod births;
mod boot;
mod canary;
mod clock;
mod cpu;
mod disk;
pub mod facts;
mod filesystem;
mod kernel;
mod keyring;
mod keystore;
mod known;
mod load;
mod memory;
mod metric;
mod network;
mod operations;
pub(crate) mod own;
mod pressure;
mod process;
mod served;
mod sockets;
mod temperature;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::event::Event;
use keyvigil_common::key::Sighting;
use keyvigil_common::sample::{MetricType, Sample, Series, Tags};
use keyvigil_common::telemetry::Registry;

pub use self::access::{AccessConfig, AccessPolicy, AccessRules, Link};
pub(crate) use self::access::{KeyUser, Watch, policy_doubts, recall as recall_users};
pub(crate) use self::canary::UNPROVEN;
pub(crate) use self::keystore::{is_pattern as is_key_path, missing as missing_key_paths, remedy as keystore_remedy};
pub use self::known::KnownKeys;
pub use self::metric::{MetricDef, Unit};
pub(crate) use self::own::{CPU, INTERVAL, THROTTLED};
pub(crate) use self::served::DOUBTS as SERVED_DOUBTS;
pub use self::served::ServedConfig;
use crate::canary::Canary;
use crate::rootfs::RootFs;

/// The instant of one scrape, the same for all its samples.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// Unix ms, aligned to the sensor's interval.
    pub wall_ms: i64,
    /// For rates and ages: never jumps.
    pub monotonic: Duration,
}

/// A sensor that is asked.
pub trait Collector: Send {
    /// Looks, and writes what it sees into `sink`. Called with growing `at.monotonic`.
    fn collect(&mut self, at: At, sink: &mut Sink);

    /// Takes back what it asked to be remembered before the agent was restarted. Called once: before the first `collect`, or later
    /// where it could not be read before.
    fn restore(&mut self, _remembered: Vec<(String, Vec<u8>)>) {}

    /// Takes a handle by which it may ask to be called before its interval is over. Called once, before the first `collect`.
    fn on_change(&mut self, _poke: Poke) {}
}

/// Asks the sampler to run the sensor soon. May be called from any thread, as often as wanted.
#[derive(Clone)]
pub struct Poke(Arc<dyn Fn() + Send + Sync>);

impl Poke {
    /// A handle that calls `ask`.
    pub fn new(ask: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    /// Asks.
    pub fn poke(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Poke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poke")
    }
}

/// What a sensor is made from.
#[derive(Debug, Clone)]
pub struct Context {
    /// The host to read.
    pub root: RootFs,
    /// When this agent began to count, Unix ms: start of the counters it keeps itself.
    pub started_ms: i64,
    /// `[keystore]`.
    pub keystore: KeystoreConfig,
    /// `[served]`.
    pub served: ServedConfig,
    /// Which certificates lie here: the keystore sensor tells the one of served certificates.
    pub known: KnownKeys,
    /// `[access]`.
    pub access: AccessRules,
    /// The helper that looks into the kernel.
    pub probe: Link,
    /// What proves that the helper is heard.
    pub canary: Canary,
    /// The agent's own numbers.
    pub registry: Registry,
    /// What waits in the agent's own buffer.
    pub waiting: Option<AskWaiting>,
}

/// What waits to be delivered.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Batches.
    pub batches: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the oldest was sealed, Unix ms.
    pub oldest_ms: Option<i64>,
    /// Why they are in memory only, if they are.
    pub degraded: Option<String>,
}

/// Tells what waits, or why that is not known. A function, so that sensors know nothing of the buffer.
#[derive(Clone)]
pub struct AskWaiting(Arc<dyn Fn() -> Result<Waiting, String> + Send + Sync>);

impl AskWaiting {
    /// Tells what `ask` tells.
    pub fn new(ask: impl Fn() -> Result<Waiting, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for AskWaiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskWaiting")
    }
}

/// `[keystore]`: where keys are looked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct KeystoreConfig {
    /// Files and directories, as patterns: `*`, `?`, `[a-z]`, `{a,b}` within one part, `**` for any number of directories, and
    /// `~*/` for the home of each user. Empty: the usual places.
    pub paths: Vec<String>,
    /// More of them.
    pub extra_paths: Vec<String>,
    /// Paths below these are left out; same form.
    pub exclude: Vec<String>,
    /// Whether configurations of programs (nginx, sshd, ...) are read, and the key files that they name looked at, wherever they lie.
    pub named_files: bool,
    /// Whether containers that run here are looked at as well.
    pub containers: bool,
    /// Passwords of key stores, tried in this order.
    pub password: Vec<StorePassword>,
}

/// `[[keystore.password]]`: a password, by the file that holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct StorePassword {
    /// The stores, or directories in which they lie; same form as `paths`, without homes.
    pub path: String,
    /// File whose first line is the password. Not readable by everyone.
    pub file: std::path::PathBuf,
}

impl Default for KeystoreConfig {
    fn default() -> Self {
        Self { paths: Vec::new(), extra_paths: Vec::new(), exclude: Vec::new(), named_files: true, containers: false, password: Vec::new() }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Name in `[sensors.<name>]`, on groups and in `coverage` metrics.
    pub name: &'static str,
    /// Shortest and longest interval by default, seconds.
    pub interval_seconds: (u64, u64),
    /// How long one look may take before the sensor is reported as blind, seconds.
    pub deadline_seconds: u64,
    /// All metrics that it may emit; documentation is made from them.
    pub metrics: &'static [MetricDef],
    /// Makes the sensor.
    pub make: fn(&Context) -> Box<dyn Collector>,
}

/// Something to do once what a sensor saw lies on disk. It may never be done: then the sensor asks again with its next look.
pub(crate) struct Kept(pub(crate) Box<dyn FnOnce() + Send>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

/// What a sensor saw.
#[derive(Debug, Default)]
pub struct Sink {
    /// The instant that samples get.
    at_ms: i64,
    host: String,
    /// Samples, in the order seen.
    pub samples: Vec<Sample>,
    /// Keys.
    pub sightings: Vec<Sighting>,
    /// Events.
    pub events: Vec<Event>,
    /// What could not be looked at, and why. Lasts until the next scrape.
    pub blind: Vec<(String, String)>,
    /// What to remember over a restart: key, and value or forget. Stored in one transaction with the rest.
    pub remember: Vec<(String, Option<Vec<u8>>)>,
    /// Samples whose name or tags were not valid: a fault of the sensor, counted.
    pub invalid: u64,
    /// What to do once all of it lies on disk.
    pub(crate) kept: Vec<Kept>,
}

impl Sink {
    /// Takes what `host` shows at `at`.
    #[must_use]
    pub fn new(host: &str, at: At) -> Self {
        Self { at_ms: at.wall_ms, host: host.to_owned(), ..Self::default() }
    }

    /// The instant of this scrape, Unix ms.
    #[must_use]
    pub fn at_ms(&self) -> i64 {
        self.at_ms
    }

    /// A value that goes up and down.
    pub fn gauge(&mut self, metric_id: &str, tags: &[(&str, &str)], value: f64) {
        self.push(metric_id, MetricType::Gauge, tags, value, None);
    }

    /// A value that only grows, counted since `start_ms` where that is known.
    pub fn counter(&mut self, metric_id: &str, tags: &[(&str, &str)], value: f64, start_ms: Option<i64>) {
        self.push(metric_id, MetricType::Counter, tags, value, start_ms);
    }

    /// `what` could not be looked at. Never report zero instead.
    pub fn absent(&mut self, what: impl Into<String>, reason: impl fmt::Display) {
        self.blind.push((what.into(), reason.to_string()));
    }

    /// Reads the pseudo-file `path`, or says that `what` is absent.
    pub(crate) fn read(&mut self, root: &RootFs, path: &str, what: &str) -> Option<String> {
        match root.read(path) {
            Ok(text) => Some(text),
            Err(e) => {
                self.absent(what, format_args!("{path}: {e}"));
                None
            }
        }
    }

    /// Something happened.
    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// A key was seen, or seen to be gone.
    pub fn sighting(&mut self, sighting: Sighting) {
        self.sightings.push(sighting);
    }

    /// Remembers `value` under `key` over a restart, or forgets it.
    pub fn remember(&mut self, key: impl Into<String>, value: Option<Vec<u8>>) {
        self.remember.push((key.into(), value));
    }

    /// Does this once all of it lies on disk.
    pub(crate) fn when_kept(&mut self, act: impl FnOnce() + Send + 'static) {
        self.kept.push(Kept(Box::new(act)));
    }

    fn push(&mut self, metric_id: &str, metric_type: MetricType, tags: &[(&str, &str)], value: f64, start_ms: Option<i64>) {
        let all = tags.iter().copied().chain([("host", self.host.as_str())]);
        match Tags::new(all).and_then(|tags| Series::new(metric_id, metric_type, tags)) {
            Ok(series) => self.samples.push(Sample { series, at_ms: self.at_ms, value, start_ms }),
            Err(e) => {
                tracing::warn!(metric_id, fault = %e, "a sensor made an invalid sample");
                self.invalid += 1;
            }
        }
    }
}

/// Sensors of the host's health: when the agent takes more than it may, these are asked less often before those of keys.
pub const HOST_SENSORS: &[&str] =
    &["cpu", "memory", "load", "pressure", "process", "network", "sockets", "disk", "filesystem", "kernel", "clock", "own", "temperature"];

/// All polled sensors.
pub const COLLECTORS: &[Row] = &[
    // The shortest of the longest: what it sees wakes the others (docs/adr/0006-a-light-agent.md).
    row("cpu", (10, 20), 5, cpu::METRICS, |c| Box::new(cpu::Cpu::new(c))),
    row("memory", (10, 60), 5, memory::METRICS, |c| Box::new(memory::Memory::new(c))),
    row("load", (10, 60), 5, load::METRICS, |c| Box::new(load::Load::new(c))),
    row("pressure", (10, 60), 5, pressure::METRICS, |c| Box::new(pressure::Pressure::new(c))),
    row("process", (10, 60), 5, process::METRICS, |c| Box::new(process::Process::new(c))),
    row("network", (10, 60), 5, network::METRICS, |c| Box::new(network::Network::new(c))),
    row("sockets", (10, 60), 5, sockets::METRICS, |c| Box::new(sockets::Sockets::new(c))),
    row("disk", (10, 60), 5, disk::METRICS, |c| Box::new(disk::Disks::new(c))),
    row("filesystem", (30, 120), 10, filesystem::METRICS, |c| Box::new(filesystem::Filesystems::new(c))),
    row("kernel", (10, 60), 5, kernel::METRICS, |c| Box::new(kernel::Kernel::new(c))),
    row("clock", (30, 300), 5, clock::METRICS, |c| Box::new(clock::Clock::new(c))),
    row("own", (10, 60), 5, own::METRICS, |c| Box::new(own::Own::new(c))),
    row("keystore", (60, 300), 50, keystore::METRICS, |c| Box::new(keystore::Keystore::new(c))),
    row("keyring", (30, 120), 5, keyring::METRICS, |c| Box::new(keyring::Keyring::new(c))),
    row("access", (10, 60), 5, access::METRICS, |c| Box::new(access::Access::new(c))),
    row("operations", (10, 60), 5, operations::METRICS, |c| Box::new(operations::Operations::new(c))),
    row("canary", (10, 60), 5, canary::METRICS, |c| Box::new(canary::Canary::new(c))),
    // Each look asks servers of this host: seldom, and when a certificate on disk changes.
    row("served", (60, 3_600), 50, served::METRICS, |c| Box::new(served::Served::new(c))),
    row("temperature", (30, 300), 10, temperature::METRICS, |c| Box::new(temperature::Temperature::new(c))),
];

const fn row(
    name: &'static str,
    interval_seconds: (u64, u64),
    deadline_seconds: u64,
    metrics: &'static [MetricDef],
    make: fn(&Context) -> Box<dyn Collector>,
) -> Row {
    Row { name, interval_seconds, deadline_seconds, metrics, make }
}

/// Every metric that a polled sensor may emit.
pub fn metric_defs() -> impl Iterator<Item = &'static MetricDef> {
    COLLECTORS.iter().flat_map(|row| row.metrics)
}

#[cfg(test)]
mod tests;
