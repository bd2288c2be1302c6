//! The sensor against a host made by real tools: what it says of keys that come, change and go.

mod changes;
mod containers;
mod formats;
mod hostile;
mod lifecycle;
mod lockstep;
mod names;
mod places;
mod revoked;
mod rotation;
mod stores;
mod watching;

use std::collections::BTreeMap;
use std::time::Duration;

use keyvigil_common::clock::SystemClock;
use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::sample::Sample;

use super::*;
use crate::collect::KeystoreConfig;
use crate::collect::tests::FakeHost;
use crate::testkit::Workshop;

/// A host and the sensor that looks at it.
struct Host {
    shop: Workshop,
    context: Context,
    sensor: Keystore,
    /// What the agent's buffer would hold.
    remembered: BTreeMap<String, Vec<u8>>,
    now: At,
}

impl Host {
    /// A host below a prefix, with these configured paths.
    fn new(paths: &[&str]) -> Self {
        let shop = Workshop::new();
        let root = RootFs::new(shop.root());
        Self::with(shop, root, paths.iter().map(|path| (*path).to_owned()).collect())
    }

    /// The same on the real root.
    fn unprefixed(paths: &[&str]) -> Self {
        let shop = Workshop::new();
        let paths = paths.iter().map(|path| shop.path(path).to_string_lossy().into_owned()).collect();
        Self::with(shop, RootFs::host(), paths)
    }

    fn with(shop: Workshop, root: RootFs, paths: Vec<String>) -> Self {
        let keystore = KeystoreConfig { paths, named_files: !root.is_host(), ..KeystoreConfig::default() };
        let context = Context { root, started_ms: 1_000, keystore, ..FakeHost::new().context() };
        // Others may come as far as here, as on a real host.
        std::fs::set_permissions(shop.root(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let sensor = Keystore::new(&context);
        let wall_ms = SystemClock::shared().now_ms() + 10_000;
        Self { shop, sensor, context, remembered: BTreeMap::new(), now: At { wall_ms, monotonic: Duration::from_secs(100) } }
    }

    /// Looks once.
    fn look(&mut self) -> Sink {
        let mut sink = Sink::new("web-1", self.now);
        self.sensor.collect(self.now, &mut sink);
        assert_eq!(sink.invalid, 0);
        for (key, value) in &sink.remember {
            match value {
                Some(value) => drop(self.remembered.insert(key.clone(), value.clone())),
                None => drop(self.remembered.remove(key)),
            }
        }
        sink
    }

    fn pass(&mut self, time: Duration) {
        self.now.wall_ms += i64::try_from(time.as_millis()).unwrap();
        self.now.monotonic += time;
    }

    /// Looks until nothing waits any more: all events of it.
    fn settle(&mut self) -> Vec<Event> {
        let mut events = self.look().events;
        self.pass(GRACE);
        events.extend(self.look().events);
        events
    }

    fn restart(&mut self) {
        self.sensor = Keystore::new(&self.context);
        self.sensor.restore(self.remembered.clone().into_iter().collect());
    }
}

fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind).collect()
}

fn value(sink: &Sink, metric: &str, tag: Option<(&str, &str)>) -> Option<f64> {
    let is_it = |sample: &&Sample| sample.series.metric_id == metric && tag.is_none_or(|(name, value)| sample.series.tags.get(name) == Some(value));
    sink.samples.iter().find(is_it).map(|sample| sample.value)
}
