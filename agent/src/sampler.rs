//! Asks each sensor when it is due, all that are due at one instant, and seals what they saw into batches: encoded once,
//! stored with its number in one transaction. Sensors run on blocking threads; one that does not answer in time is
//! reported as blind and asked again once it has returned. Cadence is by the monotonic clock, time stamps are aligned.

pub mod adaptive;
mod answers;
mod budget;
mod coverage;
mod crew;
mod detail;
mod pace;
mod seal;
mod shown;
mod slot;
mod step;
mod store;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::stop::Stop;
use keyvigil_common::telemetry::{Number, Registry};
use tokio::sync::{Notify, mpsc, watch};

use crate::buffer::Buffer;
use crate::collect::{At, Context, Poke, Row};
use crate::enhanced::Enhanced;
use crate::sender::Itself;
use adaptive::Adaptive;
use budget::Budget;
pub use coverage::Coverage;
use crew::{Crew, Job};
use pace::Pace;
use seal::Pending;
pub use shown::Shown;
use slot::Slot;
pub(crate) use store::DROPPED;

/// How long a poke waits for more of its kind: an editor writes a file in several steps.
const DEBOUNCE: Duration = Duration::from_millis(300);
/// How long sensors that are at work when the agent stops may take to answer.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
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
            collector.on_change(poke(&pokes.0, at));
            let max = if parts.adaptive { *max } else { *min };
            slots.push(Slot::new(*row, collector, Pace::new(Adaptive::new(*min, max), slot::is_last(row.name))));
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
        self.recall().await;
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
            self.recall().await;
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

    /// Gives the sensors back what they remember; those that cannot have it yet are asked to look again when they can.
    async fn recall(&mut self) {
        self.recall_coverage().await;
        if self.slots.iter().all(|slot| slot.restored) {
            return;
        }
        let (now, now_ms) = (self.parts.clock.monotonic(), self.parts.clock.now_ms());
        for slot in self.slots.iter_mut().filter(|slot| !slot.restored) {
            let Some(collector) = &mut slot.collector else { continue };
            if slot.is_anew && (self.storing.is_some() || self.pending.since().is_some()) {
                continue;
            }
            if self.parts.buffer.level().degraded.is_some() && slot.asked {
                continue;
            }
            slot.asked = true;
            slot.is_anew = false;
            match self.parts.buffer.remembered(slot.row.name, now_ms).await {
                Ok(None) => continue,
                Ok(Some(remembered)) => collector.restore(remembered),
                Err(e) => tracing::warn!(sensor = slot.row.name, error = %e, "what the sensor remembered cannot be read; it begins anew"),
            }
            slot.restored = true;
            slot.due = slot.due.min(now);
        }
    }

    /// What was told of what is not seen, as soon as that can be read.
    async fn recall_coverage(&mut self) {
        if self.coverage.recalled || self.parts.buffer.level().degraded.is_some() && self.coverage.recalling {
            return;
        }
        self.coverage.recalling = true;
        let remembered = match self.parts.buffer.remembered(coverage::MEMORY, self.parts.clock.now_ms()).await {
            Ok(None) => return,
            Ok(Some(remembered)) => remembered,
            Err(e) => {
                tracing::warn!(error = %e, "what was told of what is not seen cannot be read; it is told anew");
                Vec::new()
            }
        };
        self.coverage.restore(remembered, self.slots.iter().map(|slot| slot.row.name));
    }

    fn poke(&self, at: usize) -> Poke {
        poke(&self.pokes.0, at)
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
            if slot.waits_until().is_none_or(|due| due > now) {
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
        let due = self.slots.iter().filter_map(Slot::waits_until);
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
                self.pending.changes(lost);
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
}

/// By which the sensor at that place asks to be run.
fn poke(pokes: &mpsc::Sender<usize>, at: usize) -> Poke {
    let sender = pokes.clone();
    // A full channel holds a poke of this sensor already, or so many that it will be asked anyway.
    Poke::new(move || {
        let _ = sender.try_send(at);
    })
}

/// Ends when what is being stored is; never, where nothing is.
async fn stored(storing: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match storing {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
    *storing = None;
}

/// Time to the next multiple of `interval` on the wall clock.
fn until_mark(now_ms: i64, interval: Duration) -> Duration {
    let interval_ms = i64::try_from(interval.as_millis().max(1)).unwrap_or(i64::MAX);
    Duration::from_millis((interval_ms - now_ms.rem_euclid(interval_ms)).unsigned_abs())
}

#[cfg(test)]
mod tests;
