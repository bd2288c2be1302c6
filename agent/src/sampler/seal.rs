//! What was seen and is not stored yet, and its sealing into batches. Security events, key events and samples go into batches of their
//! own class, so that what must be given up can be given up by class.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::sample::{MetricType, Sample, Series, Tags};
use keyvigil_common::telemetry::{Number, Registry};
use keyvigil_common::wire::{Batch, Class, Column, Group, HostFacts};
use tokio::sync::Notify;

use crate::buffer::{Buffer, Remember};
use crate::collect::{Kept, Sink};
use crate::sender::Itself;

use super::coverage::Changes;
use super::detail::{Details, Seen};
use super::step::{self, Steps};
use super::store::{Load, Store};

/// Longest time that something seen waits to be sealed.
pub(super) const AGE_MAX: Duration = Duration::from_secs(2);
/// Samples, sightings and events after which a batch is sealed at once.
const ITEMS_MAX: usize = 5_000;
/// What may be seen while a slow disk stores what was seen before.
const WAITING_ITEMS_MAX: usize = 4 * ITEMS_MAX;

/// Seen, not stored.
pub(super) struct Pending {
    groups: Vec<Seen>,
    details: Details,
    sightings: Vec<keyvigil_common::key::Sighting>,
    events: Vec<Event>,
    facts: Option<HostFacts>,
    remember: Vec<Remember>,
    kept: Vec<Kept>,
    since: Option<Duration>,
    steps: Steps,
    store: Store,
    itself: Itself,
    clock: SharedClock,
    collected: Number,
    invalid: Number,
}

impl Pending {
    pub(super) fn new(buffer: Buffer, itself: Itself, clock: SharedClock, filled: Arc<Notify>, registry: &Registry) -> Self {
        Self {
            groups: Vec::new(),
            details: Details::default(),
            sightings: Vec::new(),
            events: Vec::new(),
            facts: None,
            remember: Vec::new(),
            kept: Vec::new(),
            since: None,
            steps: Steps::default(),
            collected: registry.counter("keyvigil.agent.samples_total", "Samples taken."),
            invalid: registry.counter("keyvigil.agent.invalid_samples_total", "Samples with a name or tag that is not valid: a fault of a sensor."),
            store: Store::new(buffer, filled, registry),
            itself,
            clock,
        }
    }

    /// When the oldest of it was seen, by the monotonic clock.
    pub(super) fn since(&self) -> Option<Duration> {
        self.since
    }

    /// Whether it holds what must leave at once.
    pub(super) fn is_urgent(&self) -> bool {
        self.events.iter().any(|e| is_security(e.kind))
    }

    pub(super) fn is_large(&self) -> bool {
        self.items() >= ITEMS_MAX
    }

    /// Whether it holds so much that sensors must wait until some of it is stored.
    pub(super) fn is_too_large(&self) -> bool {
        self.items() >= WAITING_ITEMS_MAX
    }

    fn items(&self) -> usize {
        self.sightings.len() + self.events.len() + self.groups.iter().map(|g| g.2.len()).sum::<usize>()
    }

    fn events(&mut self, events: Vec<Event>) {
        if !events.is_empty() {
            self.follow_clock();
            self.since.get_or_insert_with(|| self.clock.monotonic());
            self.events.extend(events);
        }
    }

    /// What coverage has to tell, and to remember as told: stored in one transaction.
    pub(super) fn changes(&mut self, (events, remember): Changes) {
        self.events(events);
        self.remember.extend(remember);
    }

    pub(super) fn facts(&mut self, facts: HostFacts) {
        self.facts = Some(facts);
    }

    /// How many things a sensor does not see, as a metric.
    pub(super) fn coverage(&mut self, sensor: &'static str, host: &str, blind: usize, at_ms: i64) {
        self.own(sensor, "keyvigil.agent.blind", &[("host", host), ("sensor", sensor)], blind as f64, at_ms);
    }

    /// What the sampler itself knows, as a metric in the group of `sensor`.
    pub(super) fn own(&mut self, sensor: &'static str, metric: &str, tags: &[(&str, &str)], value: f64, at_ms: i64) {
        let tags = Tags::new(tags.iter().copied());
        if let Ok(series) = tags.and_then(|tags| Series::new(metric, MetricType::Gauge, tags)) {
            self.groups.push((sensor, Duration::ZERO, vec![Sample { series, at_ms, value, start_ms: None }]));
        }
    }

    /// Takes what a sensor saw, with its interval then and its longest.
    pub(super) fn take(&mut self, sensor: &'static str, (interval, longest): (Duration, Duration), sink: Sink, now: Duration) {
        self.since.get_or_insert(now);
        self.collected.add(sink.samples.len() as u64);
        self.invalid.add(sink.invalid);
        self.sightings.extend(sink.sightings);
        self.events.extend(sink.events);
        self.remember.extend(sink.remember.into_iter().map(|(key, value)| (sensor, key, value)));
        self.kept.extend(sink.kept);
        if let Some(first) = sink.samples.first() {
            self.details.note(sensor, interval, longest, first.at_ms);
            self.groups.push((sensor, interval, sink.samples));
        }
    }

    /// Where the wall clock was set, what waits is told by it as it is now. Returns when the host was started, by that clock.
    pub(super) fn follow_clock(&mut self) -> i64 {
        let by_ms = self.steps.since_last(self.clock.now_ms(), self.itself.sealed().boot_ms);
        if by_ms != 0 {
            self.groups.iter_mut().for_each(|(_, _, samples)| step::shift(by_ms, samples, &mut [], &mut []));
            self.details.shift(by_ms);
            step::shift(by_ms, &mut [], &mut self.sightings, &mut self.events);
        }
        self.steps.booted_ms()
    }

    /// Takes what was seen to be stored: that happens while the future is awaited, and more may be seen meanwhile.
    pub(super) fn seal(&mut self) -> impl Future<Output = ()> + Send + use<> {
        self.follow_clock();
        self.since = None;
        let now_ms = self.clock.now_ms();
        let (security, ordinary): (Vec<Event>, Vec<Event>) = std::mem::take(&mut self.events).into_iter().partition(|e| is_security(e.kind));
        let sightings = std::mem::take(&mut self.sightings);
        let sealed = Some(self.itself.sealed());
        let empty = || Batch { sealed_ms: now_ms, sealed, ..Batch::default() };
        let (ordinary_looks, detail) = self.details.part(std::mem::take(&mut self.groups), self.store.buffer.level().bytes);
        let samples = samples_batch(ordinary_looks, self.facts.take(), empty());
        let detail = samples_batch(detail, None, empty());
        let (alerting, security): (Vec<Event>, Vec<Event>) = security.into_iter().partition(|e| is_alerting(e.kind));
        let alerts = Batch { events: alerting, ..empty() };
        let security = Batch { events: security, ..empty() };
        let keys = Batch { sightings, events: ordinary, ..empty() };
        let classes = [(Class::Security, security), (Class::Alert, alerts), (Class::Key, keys), (Class::Sample, samples), (Class::Detail, detail)];
        Load::new(classes.into(), std::mem::take(&mut self.remember), now_ms).then(std::mem::take(&mut self.kept)).put(self.store.clone())
    }
}

/// Events that leave at once and are kept to the last.
fn is_security(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Created | EventKind::Removed | EventKind::AgentStarted | EventKind::Accessed | EventKind::Canary)
}

/// Events of which alerts are made that tell of the agent's own sight, not of what somebody did.
fn is_alerting(kind: EventKind) -> bool {
    matches!(kind, EventKind::CoverageLost | EventKind::CoverageRestored | EventKind::Unreadable | EventKind::DataLost | EventKind::ClockWrong)
}

fn samples_batch(seen: Vec<Seen>, host: Option<HostFacts>, mut batch: Batch) -> Batch {
    batch.host = host;
    let mut places: HashMap<Series, u32> = HashMap::new();
    for (sensor, interval, samples) in seen {
        let mut by_time: Vec<(i64, Vec<Column>)> = Vec::new();
        for Sample { series, at_ms, value, start_ms } in samples {
            let next = u32::try_from(places.len()).unwrap_or(u32::MAX);
            let at = *places.entry(series).or_insert(next);
            let column = Column { series: at, start_ms: start_ms.unwrap_or(0), values: vec![value] };
            match by_time.iter_mut().find(|(t, _)| *t == at_ms) {
                Some((_, columns)) => columns.push(column),
                None => by_time.push((at_ms, vec![column])),
            }
        }
        let interval_ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
        batch.groups.extend(by_time.into_iter().map(|(at, columns)| Group { sensor: sensor.to_owned(), interval_ms, times: vec![at], columns }));
    }
    let mut series: Vec<(u32, Series)> = places.into_iter().map(|(series, at)| (at, series)).collect();
    series.sort_by_key(|(at, _)| *at);
    batch.series = series.into_iter().map(|(_, series)| series).collect();
    batch
}
