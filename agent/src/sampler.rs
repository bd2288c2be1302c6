//! Asks each sensor when it is due, all that are due at one instant, and seals what they saw into batches: encoded once,
//! stored with its number in one transaction. A sensor runs on a blocking thread; one that does not answer in time is
//! reported as blind and asked again once it has returned. Cadence is by the monotonic clock, time stamps are aligned.

mod adaptive;
mod coverage;
mod seal;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::stop::Stop;
use keyvigil_common::telemetry::{Number, Registry};
use keyvigil_common::wire::HostFacts;
use tokio::sync::{Notify, mpsc, watch};

use crate::buffer::Buffer;
use crate::collect::{At, Collector, Context, Poke, Row, Sink};
use crate::enhanced::Enhanced;
use adaptive::Adaptive;
use coverage::Coverage;
use seal::Pending;

/// How long a poke waits for more of its kind: an editor writes a file in several steps.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How long sensors that are at work when the agent stops may take to answer.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// The host is described again after this time.
const FACTS_AGAIN: Duration = Duration::from_secs(3_600);

/// A sensor with its place in the schedule.
struct Slot {
    row: Row,
    /// Away while it runs.
    collector: Option<Box<dyn Collector>>,
    interval: Adaptive,
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
    /// Where batches go.
    pub buffer: Buffer,
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

type Returned = (usize, Box<dyn Collector>, Sink, At);

/// The schedule.
pub struct Sampler {
    slots: Vec<Slot>,
    parts: Parts,
    coverage: Coverage,
    pending: Pending,
    pokes: (mpsc::Sender<usize>, mpsc::Receiver<usize>),
    returns: (mpsc::Sender<Returned>, mpsc::Receiver<Returned>),
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
            slots.push(Slot { row: *row, collector: Some(collector), interval: Adaptive::new(*min, max), due: Duration::ZERO, started: None, late: false });
        }
        let registry = &parts.registry;
        let pending = Pending::new(parts.buffer.clone(), Arc::clone(&parts.clock), Arc::clone(&parts.filled), registry);
        Self {
            slots,
            coverage: Coverage::default(),
            pending,
            pokes,
            returns: mpsc::channel(64),
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
                Some(returned) = self.returns.1.recv() => self.take_back(returned),
                Ok(()) = self.parts.enhanced.changed() => self.sooner(),
            }
            self.seal_if_ready().await;
        }
        // A sensor that hangs does not keep what the others saw from being stored.
        let answers = async {
            while self.running() > 0 {
                let Some(returned) = self.returns.1.recv().await else { break };
                self.take_back(returned);
            }
        };
        let _ = tokio::time::timeout(LAST_ANSWERS, answers).await;
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
        let (now, now_ms) = (self.parts.clock.monotonic(), self.parts.clock.now_ms());
        let enhanced = self.parts.enhanced.borrow().clone();
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if slot.due > now {
                continue;
            }
            let Some(mut collector) = slot.collector.take() else { continue };
            let enhanced = enhanced.holds(slot.row.name, now_ms);
            let interval_ms = slot.interval.current(enhanced).as_millis().max(1);
            let interval_ms = i64::try_from(interval_ms).unwrap_or(i64::MAX);
            // A first look, or one after a poke, lies between two marks and keeps its own time.
            let past_mark = now_ms.rem_euclid(interval_ms);
            let on_mark = past_mark < 500.min(interval_ms / 2);
            let at_time = At { wall_ms: if on_mark { now_ms - past_mark } else { now_ms }, monotonic: now };
            slot.due = now + until_mark(now_ms, slot.interval.current(enhanced));
            slot.started = Some(now);
            self.scrapes.inc();
            let (answer, host) = (self.returns.0.clone(), self.parts.host.clone());
            let (make, context) = (slot.row.make, self.parts.context.clone());
            tokio::task::spawn_blocking(move || {
                let mut sink = Sink::new(&host, at_time);
                if catch_unwind(AssertUnwindSafe(|| collector.collect(at_time, &mut sink))).is_err() {
                    // A fault of ours: the sensor begins anew, and says that it saw nothing.
                    (collector, sink) = (make(&context), Sink::new(&host, at_time));
                    sink.absent("everything", "the sensor failed, and begins anew; the log says how");
                }
                let _ = answer.blocking_send((at, collector, sink, at_time));
            });
        }
    }

    fn next_wake(&self) -> Duration {
        let due = self.slots.iter().filter(|s| s.collector.is_some()).map(|s| s.due);
        let deadlines = self.slots.iter().filter(|s| !s.late).filter_map(|s| s.started.map(|at| at + s.deadline()));
        let sealing = self.pending.since().map(|since| since + seal::AGE_MAX);
        due.chain(deadlines).chain(sealing).min().unwrap_or(Duration::MAX)
    }

    fn notice_late(&mut self) {
        let now = self.parts.clock.monotonic();
        for slot in &mut self.slots {
            if !slot.late && slot.started.is_some_and(|at| now >= at + slot.deadline()) {
                slot.late = true;
                self.late.inc();
                let reason = format!("no answer within {} s", slot.row.deadline_seconds);
                let now_ms = self.parts.clock.now_ms();
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

    fn take_back(&mut self, (at, collector, sink, time): Returned) {
        let (now, now_ms) = (self.parts.clock.monotonic(), self.parts.clock.now_ms());
        let Some(slot) = self.slots.get_mut(at) else { return };
        let enhanced = self.parts.enhanced.borrow().holds(slot.row.name, now_ms);
        slot.collector = Some(collector);
        slot.started = None;
        slot.late = false;
        let interval = slot.interval.current(enhanced);
        slot.interval.learn(&sink.samples);
        // What was learnt counts from now on, not only after an interval of the old length.
        slot.due = slot.due.min(now + until_mark(now_ms, slot.interval.current(enhanced)));
        let name = slot.row.name;
        let changes = self.coverage.update(name, &sink.blind, now_ms);
        self.pending.events(changes);
        self.pending.coverage(name, &self.parts.host, sink.blind.len(), time.wall_ms);
        if now >= self.facts_due {
            self.facts_due = now + FACTS_AGAIN;
            self.pending.facts(self.facts());
        }
        self.pending.take(name, interval, sink, now);
    }

    fn facts(&self) -> HostFacts {
        crate::collect::facts::facts(&self.parts.context.root)
    }

    /// Seals when all that were asked have answered, or when what is urgent waits.
    async fn seal_if_ready(&mut self) {
        let now = self.parts.clock.monotonic();
        let old = self.pending.since().is_some_and(|since| now >= since + seal::AGE_MAX);
        if self.pending.since().is_some() && (self.running() == 0 || old || self.pending.is_urgent() || self.pending.is_large()) {
            self.pending.seal().await;
        }
    }
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
