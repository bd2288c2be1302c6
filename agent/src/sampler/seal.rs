//! What was seen and is not stored yet, and its sealing into batches. Security events, key events and samples go into batches of their
//! own class, so that what must be given up can be given up by class. When the disk takes nothing, batches wait in memory,
//! bounded; what does not fit there is counted and declared once the disk is back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::sample::{MetricType, Sample, Series, Tags};
use keyvigil_common::telemetry::{Number, Registry, chain};
use keyvigil_common::wire::{self, Batch, Class, Column, Gap, Group, HostFacts};
use tokio::sync::Notify;

use crate::buffer::{Buffer, Lost, New, Remember, Told};
use crate::collect::Sink;

use super::detail::{Details, Seen};

/// Longest time that something seen waits to be sealed.
pub(super) const AGE_MAX: Duration = Duration::from_secs(2);
/// Samples, sightings and events after which a batch is sealed at once.
const ITEMS_MAX: usize = 5_000;
/// Bytes of batches kept in memory while the disk takes nothing.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Seen, not stored.
pub(super) struct Pending {
    groups: Vec<Seen>,
    details: Details,
    sightings: Vec<keyvigil_common::key::Sighting>,
    events: Vec<Event>,
    facts: Option<HostFacts>,
    remember: Vec<Remember>,
    since: Option<Duration>,
    /// Encoded batches that the disk did not take.
    waiting: VecDeque<New>,
    waiting_remember: Vec<Remember>,
    /// The disk took nothing the last time.
    stuck: bool,
    /// Items given up because even memory was full.
    lost: HashMap<Class, u64>,
    buffer: Arc<Buffer>,
    clock: SharedClock,
    filled: Arc<Notify>,
    numbers: Numbers,
}

struct Numbers {
    collected: Number,
    batches: Number,
    failures: Number,
    dropped: Number,
    invalid: Number,
}

impl Pending {
    pub(super) fn new(buffer: Arc<Buffer>, clock: SharedClock, filled: Arc<Notify>, registry: &Registry) -> Self {
        let numbers = Numbers {
            collected: registry.counter("keyvigil.agent.samples_total", "Samples taken."),
            batches: registry.counter("keyvigil.agent.batches_total", "Batches sealed."),
            failures: registry.counter("keyvigil.agent.buffer_failures_total", "Times that the buffer could not be written."),
            dropped: registry.counter("keyvigil.agent.dropped_batches_total", "Batches given up for want of room; each is declared."),
            invalid: registry.counter("keyvigil.agent.invalid_samples_total", "Samples with a name or tag that is not valid: a fault of a sensor."),
        };
        Self {
            groups: Vec::new(),
            details: Details::default(),
            sightings: Vec::new(),
            events: Vec::new(),
            facts: None,
            remember: Vec::new(),
            since: None,
            waiting: VecDeque::new(),
            waiting_remember: Vec::new(),
            stuck: false,
            lost: HashMap::new(),
            buffer,
            clock,
            filled,
            numbers,
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
        self.sightings.len() + self.events.len() + self.groups.iter().map(|g| g.2.len()).sum::<usize>() >= ITEMS_MAX
    }

    pub(super) fn events(&mut self, events: Vec<Event>) {
        if !events.is_empty() {
            self.since.get_or_insert_with(|| self.clock.monotonic());
            self.events.extend(events);
        }
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
        self.numbers.collected.add(sink.samples.len() as u64);
        self.numbers.invalid.add(sink.invalid);
        self.sightings.extend(sink.sightings);
        self.events.extend(sink.events);
        self.remember.extend(sink.remember.into_iter().map(|(key, value)| (sensor, key, value)));
        if let Some(first) = sink.samples.first() {
            self.details.note(sensor, interval, longest, first.at_ms);
            self.groups.push((sensor, interval, sink.samples));
        }
    }

    /// Encodes what was seen and stores it.
    pub(super) async fn seal(&mut self) {
        self.since = None;
        let now_ms = self.clock.now_ms();
        let (told, gaps) = self.untold();
        let (security, ordinary): (Vec<Event>, Vec<Event>) = std::mem::take(&mut self.events).into_iter().partition(|e| is_security(e.kind));
        let sightings = std::mem::take(&mut self.sightings);
        let empty = || Batch { sealed_ms: now_ms, ..Batch::default() };
        let (ordinary_looks, detail) = self.details.part(std::mem::take(&mut self.groups), &self.buffer, self.clock.monotonic()).await;
        let samples = samples_batch(ordinary_looks, self.facts.take(), empty());
        let detail = samples_batch(detail, None, empty());
        let urgent = Batch { events: security, gaps, ..empty() };
        let keys = Batch { sightings, events: ordinary, ..empty() };
        let classes =
            [(Class::Security, urgent, told), (Class::Key, keys, Vec::new()), (Class::Sample, samples, Vec::new()), (Class::Detail, detail, Vec::new())];
        for (class, batch, told) in classes {
            if batch.items() > 0 || !batch.gaps.is_empty() || batch.host.is_some() {
                self.enqueue(class, batch, told, now_ms);
            }
        }
        for (sensor, key, value) in std::mem::take(&mut self.remember) {
            // Only while the disk takes nothing is there an older one.
            if !self.waiting_remember.is_empty() && self.stuck {
                self.waiting_remember.retain(|(s, k, _)| *s != sensor || *k != key);
            }
            self.waiting_remember.push((sensor, key, value));
        }
        self.store(now_ms).await;
    }

    /// Losses that no batch tells of yet, stored or waiting.
    fn untold(&self) -> (Vec<Told>, Vec<Gap>) {
        let waiting: Vec<i64> = self.waiting.iter().flat_map(|batch| &batch.told).map(|told| told.id).collect();
        let gaps = self.buffer.gaps().unwrap_or_default().into_iter().filter(|(id, _)| !waiting.contains(id));
        gaps.map(|(id, gap)| (Told { id, last: gap.range.last, items: gap.items }, gap)).unzip()
    }

    /// Encodes a batch; one that is too large is split in halves.
    fn enqueue(&mut self, class: Class, mut batch: Batch, told: Vec<Told>, at_ms: i64) {
        batch.clamp();
        let items = batch.items();
        match wire::encode_batch(&batch) {
            Ok(frame) => self.waiting.push_back(New { class, items, at_ms, frame, told }),
            Err(e) if items > 1 => {
                tracing::debug!(error = %e, items, "a batch is too large; splitting");
                let second = split(&mut batch);
                self.enqueue(class, batch, told, at_ms);
                self.enqueue(class, second, Vec::new(), at_ms);
            }
            Err(e) => {
                tracing::error!(error = %e, "one item that cannot be encoded was given up");
                *self.lost.entry(class).or_default() += items;
            }
        }
    }

    /// Hands everything to the buffer; what it does not take waits in memory, bounded.
    async fn store(&mut self, now_ms: i64) {
        let (batches, remember): (Vec<New>, Vec<Remember>) = (self.waiting.iter().cloned().collect(), self.waiting_remember.clone());
        if batches.is_empty() && remember.is_empty() {
            return;
        }
        let buffer = Arc::clone(&self.buffer);
        let lost: Vec<Lost> = self.lost.iter().map(|(class, items)| (*class, *items, "the disk took nothing and memory was full")).collect();
        let stored = tokio::task::spawn_blocking(move || buffer.append(&batches, &remember, &lost, now_ms));
        match stored.await {
            Ok(Ok(given_up)) => {
                self.numbers.batches.add(self.waiting.len() as u64);
                self.numbers.dropped.add(given_up);
                self.waiting.clear();
                self.waiting_remember.clear();
                self.lost.clear();
                self.stuck = false;
                self.filled.notify_one();
            }
            Ok(Err(e)) => {
                self.numbers.failures.inc();
                self.stuck = true;
                let advice = if e.is_full() { "free some space on the disk of the state directory" } else { "look at the disk of the state directory" };
                tracing::error!(buffer = %self.buffer.path().display(), error = chain(&e), waiting = self.waiting.len(), "cannot store; keeping it in memory: {advice}");
                self.keep_within_memory();
            }
            Err(e) => tracing::error!(error = %e, "the buffer's thread died"),
        }
    }

    fn keep_within_memory(&mut self) {
        let mut bytes: usize = self.waiting.iter().map(|b| b.frame.len()).sum();
        while bytes > WAITING_BYTES_MAX {
            let lowest = self.waiting.iter().map(|b| b.class).max();
            let Some(at) = self.waiting.iter().position(|b| Some(b.class) == lowest) else { return };
            if let Some(gone) = self.waiting.remove(at) {
                bytes -= gone.frame.len();
                *self.lost.entry(gone.class).or_default() += gone.items;
                self.numbers.dropped.inc();
            }
        }
    }
}

/// Events that leave at once and are kept to the last.
fn is_security(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Created | EventKind::Removed | EventKind::AgentStarted | EventKind::Accessed)
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

/// Moves half of a batch into another one.
fn split(batch: &mut Batch) -> Batch {
    let half = |n: usize| n - n / 2;
    let mut second = Batch { sealed_ms: batch.sealed_ms, series: batch.series.clone(), ..Batch::default() };
    second.sightings = batch.sightings.split_off(half(batch.sightings.len()).min(batch.sightings.len()));
    second.events = batch.events.split_off(half(batch.events.len()));
    second.groups = batch.groups.split_off(half(batch.groups.len()));
    if second.items() == 0
        && let Some(group) = batch.groups.first_mut()
    {
        let columns = group.columns.split_off(half(group.columns.len()));
        second.groups.push(Group { columns, ..group.clone() });
    }
    second
}
