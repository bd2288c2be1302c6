//! Asks each sensor when it is due, all that are due at one instant, and seals what they saw into batches: encoded once,
//! stored with its number in one transaction. Sensors run on blocking threads; one that does not answer in time is
//! reported as blind and asked again once it has returned. Cadence is by the monotonic clock, time stamps are aligned.

pub mod adaptive;
mod budget;
mod coverage;
mod crew;
mod detail;
mod pace;
mod seal;
mod shown;
mod step;
mod store;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::stop::Stop;
use keyvigil_common::telemetry::{Number, Registry};
use keyvigil_common::wire::HostFacts;
use tokio::sync::{Notify, mpsc, watch};

use crate::allocator;
use crate::buffer::Buffer;
use crate::collect::{self, At, Collector, Context, Poke, Row};
use crate::enhanced::Enhanced;
use crate::sender::Itself;
use adaptive::Adaptive;
use budget::Budget;
pub use coverage::Coverage;
use crew::{Answer, Crew, Job};
use pace::Pace;
use seal::Pending;
pub use shown::Shown;
pub(crate) use store::DROPPED;

/// How long a poke waits for more of its kind: an editor writes a file in several steps.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How long sensors that are at work when the agent stops may take to answer.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The host is described again after this time.
const FACTS_AGAIN: Duration = Duration::from_secs(3_600);

/// Processor time of a look that leaves much memory free behind it, as the first scan of a key store does.
const LARGE_LOOK: Duration = Duration::from_millis(5);
/// Sensors of which one that moves makes the others look (docs/adr/0006-a-light-agent.md).
const TOGETHER: [&str; 6] = ["cpu", "memory", "load", "pressure", "network", "disk"];

/// A sensor with its place in the schedule.
struct Slot {
    row: Row,
    /// Away while it runs.
    collector: Option<Box<dyn Collector>>,
    interval: Pace,
    due: Duration,
    started: Option<Duration>,
    late: bool,
}

/// What is needed to sample.
#[derive(Debug)]
pub struct Parts {
    /// Sensors, with their shortest and longest interval.
    pub rows: Vec<(Row, Duration, Duration)>,
    /// What sensors are made from.
    pub context: Context,
    /// Whether intervals adapt.
    pub adaptive: bool,
    /// Percent of one core that the agent may take before sensors are asked less often; 0 for no bound.
    pub cpu_budget_percent: f64,
    /// Where batches go.
    pub buffer: Buffer,
    /// This start of the agent.
    pub itself: Itself,
    /// How each sensor stands, for those who ask.
    pub shown: Shown,
    /// Time.
    pub clock: SharedClock,
    /// Value of the `host` tag.
    pub host: String,
    /// Poked when there is something to send.
    pub filled: Arc<Notify>,
    /// Which sensors should sample at their shortest interval, by order of the aggregator.
    pub enhanced: watch::Receiver<Enhanced>,
    /// Own numbers.
    pub registry: Registry,
}

/// The schedule.
pub struct Sampler {
    slots: Vec<Slot>,
    parts: Parts,
    coverage: Coverage,
    pending: Pending,
    /// What is being stored: a slow disk holds up no sensor.
    storing: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    pokes: (mpsc::Sender<usize>, mpsc::Receiver<usize>),
    crew: Crew,
    /// When those who wait for a sensor at work get another thread.
    relief: Option<Duration>,
    budget: Budget,
    /// One of those that look together has moved.
    moved: bool,
    /// One took long, and with it probably much memory.
    large: bool,
    facts_due: Duration,
    scrapes: Number,
    late: Number,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sampler({} sensors)", self.slots.len())
    }
}

impl Sampler {
    /// Makes the sensors.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let pokes = mpsc::channel(1_024);
        let mut slots = Vec::new();
        for (at, (row, min, max)) in parts.rows.iter().enumerate() {
            let mut collector = (row.make)(&parts.context);
            let sender = pokes.0.clone();
            // A full channel holds a poke of this sensor already, or so many that it will be asked anyway.
            collector.on_change(Poke::new(move || {
                let _ = sender.try_send(at);
            }));
            let max = if parts.adaptive { *max } else { *min };
            slots.push(Slot {
                row: *row,
                collector: Some(collector),
                interval: Pace::new(Adaptive::new(*min, max), is_last(row.name)),
                due: Duration::ZERO,
                started: None,
                late: false,
            });
        }
        let registry = &parts.registry;
        let pending = Pending::new(parts.buffer.clone(), parts.itself.clone(), Arc::clone(&parts.clock), Arc::clone(&parts.filled), registry);
        Self {
            slots,
            coverage: Coverage::default(),
            pending,
            storing: None,
            pokes,
            crew: Crew::default(),
            relief: None,
            budget: Budget::new(parts.cpu_budget_percent),
            moved: false,
            large: false,
            facts_due: Duration::ZERO,
            scrapes: registry.counter("keyvigil.agent.scrapes_total", "Times that a sensor was asked."),
            late: registry.counter("keyvigil.agent.late_total", "Times that a sensor did not answer before its deadline."),
            parts,
        }
    }

    /// Samples until stopped; then waits for sensors that are at work and seals what they saw.
    pub async fn run(mut self, stop: Stop) {
        self.restore().await;
        while !stop.is_stopped() {
            self.start_due();
            let wake = self.next_wake();
            let clock = Arc::clone(&self.parts.clock);
            let sleep = clock.sleep(wake.saturating_sub(clock.monotonic()));
            tokio::select! {
                () = stop.stopped() => {}
                () = sleep => self.notice_late(),
                Some(slot) = self.pokes.1.recv() => self.hurry(slot),
                () = self.crew.done() => self.take_all_back(),
                Ok(()) = self.parts.enhanced.changed() => self.sooner(),
                () = stored(&mut self.storing) => {}
            }
            self.seal_if_ready().await;
        }
        // A sensor that hangs does not keep what the others saw from being stored.
        let answers = async {
            while self.running() > 0 {
                self.crew.done().await;
                self.take_all_back();
            }
        };
        let _ = tokio::time::timeout(LAST_ANSWERS, answers).await;
        if self.storing.is_some() {
            stored(&mut self.storing).await;
        }
        self.pending.seal().await;
    }

    /// Gives the sensors back what they remember.
    async fn restore(&mut self) {
        let now_ms = self.parts.clock.now_ms();
        for slot in &mut self.slots {
            let Some(collector) = &mut slot.collector else { continue };
            match self.parts.buffer.remembered(slot.row.name, now_ms).await {
                Ok(remembered) => collector.restore(remembered),
                Err(e) => tracing::warn!(sensor = slot.row.name, error = %e, "what the sensor remembered cannot be read; it begins anew"),
            }
        }
    }

    fn running(&self) -> usize {
        self.slots.iter().filter(|s| s.started.is_some() && !s.late).count()
    }

    /// Starts every sensor that is due, all with one time stamp of their interval.
    fn start_due(&mut self) {
        let booted_ms = self.pending.follow_clock();
        let (now, now_ms) = (self.parts.clock.monotonic(), self.parts.clock.now_ms());
        let enhanced = self.parts.enhanced.borrow().clone();
        let mut jobs = Vec::new();
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if slot.due > now {
                continue;
            }
            let Some(collector) = slot.collector.take() else { continue };
            let interval = slot.interval.current(enhanced.holds(slot.row.name, now_ms));
            let interval_ms = i64::try_from(interval.as_millis().max(1)).unwrap_or(i64::MAX);
            // A first look, or one after a poke, lies between two marks and keeps its own time.
            let past_mark = now_ms.rem_euclid(interval_ms);
            let on_mark = past_mark < 500.min(interval_ms / 2);
            let time = At { wall_ms: if on_mark { now_ms - past_mark } else { now_ms }, monotonic: now };
            slot.due = now + until_mark(now_ms, interval);
            slot.started = Some(now);
            self.scrapes.inc();
            jobs.push(Job { at, row: slot.row, collector, context: self.parts.context.clone(), host: self.parts.host.clone(), time, booted_ms });
        }
        if !jobs.is_empty() {
            self.crew.start(jobs);
            self.relief = Some(now + crew::RELIEF);
        }
    }

    fn next_wake(&self) -> Duration {
        let due = self.slots.iter().filter(|s| s.collector.is_some()).map(|s| s.due);
        let deadlines = self.slots.iter().filter(|s| !s.late).filter_map(|s| s.started.map(|at| at + s.deadline()));
        let sealing = self.pending.since().map(|since| since + seal::AGE_MAX).filter(|_| self.storing.is_none());
        let relief = self.relief.filter(|_| self.crew.is_waiting());
        due.chain(deadlines).chain(sealing).chain(relief).min().unwrap_or(Duration::MAX)
    }

    fn notice_late(&mut self) {
        let now = self.parts.clock.monotonic();
        if self.relief.is_some_and(|relief| relief <= now) {
            self.take_all_back();
            self.crew.relieve();
            self.relief = Some(now + crew::RELIEF);
        }
        for slot in &mut self.slots {
            if !slot.late && slot.started.is_some_and(|at| now >= at + slot.deadline()) {
                slot.late = true;
                self.late.inc();
                let reason = format!("no answer within {} s", slot.row.deadline_seconds);
                let now_ms = self.parts.clock.now_ms();
                self.parts.shown.late(slot.row.name, &reason);
                let lost = self.coverage.late(slot.row.name, &reason, now_ms);
                self.pending.events(lost.into_iter().collect());
                self.pending.coverage(slot.row.name, &self.parts.host, 1, now_ms);
            }
        }
    }

    /// The aggregator asks for closer looks: those who look seldom do so sooner.
    fn sooner(&mut self) {
        let (now, now_ms) = (self.parts.clock.monotonic(), self.parts.clock.now_ms());
        let enhanced = self.parts.enhanced.borrow_and_update().clone();
        for slot in &mut self.slots {
            let enhanced = enhanced.holds(slot.row.name, now_ms);
            slot.due = slot.due.min(now + until_mark(now_ms, slot.interval.current(enhanced)));
        }
    }

    /// A sensor says that something changed: it is asked soon.
    fn hurry(&mut self, at: usize) {
        let soon = self.parts.clock.monotonic() + DEBOUNCE;
        if let Some(slot) = self.slots.get_mut(at) {
            slot.due = slot.due.min(soon);
        }
    }

    fn take_all_back(&mut self) {
        for answer in self.crew.answers() {
            self.take_back(answer);
        }
        if std::mem::take(&mut self.large) {
            allocator::give_back();
        }
        if std::mem::take(&mut self.moved) {
            self.look_together();
        }
        self.mind_budget();
    }

    /// What moves one part of a host seldom leaves the others alone: they look once at the next mark of their shortest interval.
    fn look_together(&mut self) {
        let (now, now_ms) = (self.parts.clock.monotonic(), self.parts.clock.now_ms());
        for slot in self.slots.iter_mut().filter(|slot| TOGETHER.contains(&slot.row.name)) {
            slot.due = slot.due.min(now + until_mark(now_ms, slot.interval.at_once()));
        }
    }

    fn take_back(&mut self, answer: Answer) {
        let Answer { at, collector, mut sink, mut time, booted_ms, cost } = answer;
        // The wall clock was set while it looked.
        let by_ms = self.pending.follow_clock() - booted_ms;
        time.wall_ms += by_ms;
        step::shift(by_ms, &mut sink.samples, &mut sink.sightings, &mut sink.events);
        let (now, now_ms) = (self.parts.clock.monotonic(), self.parts.clock.now_ms());
        let Some(slot) = self.slots.get_mut(at) else { return };
        let enhanced = self.parts.enhanced.borrow().holds(slot.row.name, now_ms);
        slot.collector = Some(collector);
        slot.started = None;
        slot.late = false;
        let interval = slot.interval.current(enhanced);
        self.large |= cost >= LARGE_LOOK;
        let moved = slot.interval.learn(&sink.samples, cost, enhanced);
        // What was learnt counts from now on, not only after an interval of the old length.
        slot.due = slot.due.min(now + until_mark(now_ms, slot.interval.current(enhanced)));
        let name = slot.row.name;
        self.moved |= moved && TOGETHER.contains(&name);
        let longest = slot.interval.longest();
        if let Some(interval) = slot.interval.telling(enhanced, now) {
            self.pending.own(name, collect::INTERVAL, &[("host", &self.parts.host), ("sensor", name)], interval.as_secs_f64(), time.wall_ms);
        }
        self.parts.shown.answered(name, interval, cost, now_ms, &sink);
        let changes = self.coverage.update(name, &sink.blind, now_ms);
        self.pending.events(changes);
        self.pending.coverage(name, &self.parts.host, sink.blind.len(), time.wall_ms);
        if name == "own" {
            self.tell_budget(time.wall_ms);
        }
        if now >= self.facts_due {
            self.facts_due = now + FACTS_AGAIN;
            self.pending.facts(self.facts());
        }
        self.pending.take(name, (interval, longest), sink, now);
    }

    /// Stretches intervals while the agent takes more than it may.
    fn mind_budget(&mut self) {
        let now = self.parts.clock.monotonic();
        let slots = &self.slots;
        let levels = self.budget.look(now, crew::process_time(), || slots.iter().map(|slot| slot.interval.load()).collect());
        let far_over = self.budget.is_far_over();
        for (slot, level) in self.slots.iter_mut().zip(levels.into_iter().flatten()) {
            slot.interval.stretch(level, far_over);
        }
    }

    fn tell_budget(&mut self, at_ms: i64) {
        let host = [("host", self.parts.host.as_str())];
        if let Some(used) = self.budget.used() {
            self.pending.own("own", collect::CPU, &host, used, at_ms);
        }
        let throttled = self.slots.iter().filter(|slot| slot.interval.load().level > 0).count();
        self.pending.own("own", collect::THROTTLED, &host, throttled as f64, at_ms);
    }

    fn facts(&self) -> HostFacts {
        collect::facts::facts(&self.parts.context.root)
    }

    /// Seals when all that were asked have answered, or when what is urgent waits.
    async fn seal_if_ready(&mut self) {
        let now = self.parts.clock.monotonic();
        let old = self.pending.since().is_some_and(|since| now >= since + seal::AGE_MAX);
        if self.pending.since().is_some() && (self.running() == 0 || old || self.pending.is_urgent() || self.pending.is_large()) {
            if self.storing.is_some() {
                if !self.pending.is_too_large() {
                    return;
                }
                stored(&mut self.storing).await;
            }
            self.storing = Some(Box::pin(self.pending.seal()));
        }
    }
}

/// Ends when what is being stored is; never, where nothing is.
async fn stored(storing: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match storing {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
    *storing = None;
}

/// Sensors that are stretched only when nothing else is left: those of keys, and of what is done with them.
fn is_last(sensor: &str) -> bool {
    !collect::HOST_SENSORS.contains(&sensor)
}

/// Time to the next multiple of `interval` on the wall clock.
fn until_mark(now_ms: i64, interval: Duration) -> Duration {
    let interval_ms = i64::try_from(interval.as_millis().max(1)).unwrap_or(i64::MAX);
    Duration::from_millis((interval_ms - now_ms.rem_euclid(interval_ms)).unsigned_abs())
}

impl Slot {
    fn deadline(&self) -> Duration {
        Duration::from_secs(self.row.deadline_seconds)
    }
}

#[cfg(test)]
mod tests;
