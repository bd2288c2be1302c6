//! What becomes of the answers of sensors: the schedule learns from them, what they saw waits to be sealed, and they are counted against
//! the agent's budget. A part of [`Sampler`].

use std::time::Duration;

use keyvigil_common::wire::HostFacts;

use super::coverage::is_told_already;
use super::crew::{self, Answer};
use super::{Sampler, seal, step, stored, until_mark};
use crate::allocator;
use crate::collect;

/// The host is described again after this time.
const FACTS_AGAIN: Duration = Duration::from_secs(3_600);

/// Processor time of a look that leaves much memory free behind it, as the first scan of a key store does.
const LARGE_LOOK: Duration = Duration::from_millis(5);
/// Sensors of which one that moves makes the others look (docs/adr/0006-a-light-agent.md).
const TOGETHER: [&str; 6] = ["cpu", "memory", "load", "pressure", "network", "disk"];

impl Sampler {
    pub(super) fn take_all_back(&mut self) {
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
        let Answer { at, mut collector, mut sink, mut time, booted_ms, cost, is_anew } = answer;
        // The wall clock was set while it looked.
        let by_ms = self.pending.follow_clock() - booted_ms;
        time.wall_ms += by_ms;
        step::shift(by_ms, &mut sink.samples, &mut sink.sightings, &mut sink.events);
        let (now, now_ms) = (self.parts.clock.monotonic(), self.parts.clock.now_ms());
        if is_anew {
            collector.on_change(self.poke(at));
        }
        let Some(slot) = self.slots.get_mut(at) else { return };
        if is_anew {
            (slot.restored, slot.asked, slot.is_anew) = (false, false, true);
        }
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
        let mut changes = self.coverage.update(name, &sink.blind, now_ms);
        changes.0.retain(|change| !is_told_already(change, &sink.events));
        self.pending.changes(changes);
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
    pub(super) async fn seal_if_ready(&mut self) {
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
