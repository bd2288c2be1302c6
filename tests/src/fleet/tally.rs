//! What a fleet counts: acks with how long they took, connections and failures, each with its instant. Bounded: what comes
//! after [`ENTRIES_MAX`] is counted and not kept.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyvigil_common::clock::SharedClock;

/// Entries that are kept of each kind.
const ENTRIES_MAX: usize = 4_000_000;

/// One ack.
#[derive(Debug, Clone, Copy)]
struct Acked {
    at: Duration,
    took: Duration,
    batches: u64,
}

#[derive(Debug, Default)]
struct Counted {
    acks: Vec<Acked>,
    /// Handshakes that began, and whether they came to an end.
    connections: Vec<(Duration, bool)>,
    failures: BTreeMap<String, u64>,
    broken: Vec<String>,
}

/// The counts.
#[derive(Debug)]
pub struct Tally {
    clock: SharedClock,
    began: Duration,
    counted: Mutex<Counted>,
}

/// What happened from one instant to another.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Requests that were acknowledged.
    pub requests: usize,
    /// Batches in them.
    pub batches: u64,
    /// How long each request took, ascending.
    pub took: Vec<Duration>,
    /// Connections by second.
    pub connections: Vec<u64>,
    /// Attempts that failed.
    pub refused: u64,
}

impl Part {
    /// The time that `share` of the requests did not exceed, ms.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        quantile_ms(&self.took, share)
    }
}

/// The time that `share` of `sorted` did not exceed (nearest rank), ms.
#[must_use]
pub fn quantile_ms(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
}

impl Tally {
    pub(super) fn starting(clock: &SharedClock) -> Self {
        Self { clock: SharedClock::clone(clock), began: clock.monotonic(), counted: Mutex::default() }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the fleet was started.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began)
    }

    pub(super) fn acked(&self, took: Duration, batches: u64) {
        let acked = Acked { at: self.now(), took, batches };
        let mut counted = self.counted();
        if counted.acks.len() < ENTRIES_MAX {
            counted.acks.push(acked);
        }
    }

    pub(super) fn connected(&self, done: bool) {
        let at = self.now();
        let mut counted = self.counted();
        if counted.connections.len() < ENTRIES_MAX {
            counted.connections.push((at, done));
        }
    }

    pub(super) fn failed(&self, code: &str) {
        let mut counted = self.counted();
        if counted.failures.len() < 100 || counted.failures.contains_key(code) {
            *counted.failures.entry(code.to_owned()).or_default() += 1;
        }
    }

    /// An answer that no agent should get here: the judge tells of it.
    pub(super) fn broken(&self, what: String) {
        let mut counted = self.counted();
        if counted.broken.len() < 10 {
            counted.broken.push(what);
        }
    }

    /// What was answered that should not be.
    #[must_use]
    pub fn odd(&self) -> Vec<String> {
        self.counted().broken.clone()
    }

    /// Requests that failed so far, by what the agent calls it.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<String, u64> {
        self.counted().failures.clone()
    }

    /// What happened between two instants of [`Tally::now`].
    #[must_use]
    pub fn part(&self, from: Duration, to: Duration) -> Part {
        let counted = self.counted();
        let mut part = Part::default();
        for acked in counted.acks.iter().filter(|acked| (from..to).contains(&acked.at)) {
            part.requests += 1;
            part.batches += acked.batches;
            part.took.push(acked.took);
        }
        part.took.sort_unstable();
        part.connections = vec![0; usize::try_from((to.saturating_sub(from)).as_secs()).unwrap_or(0) + 1];
        for (at, done) in counted.connections.iter().filter(|(at, _)| (from..to).contains(at)) {
            let second = usize::try_from((*at - from).as_secs()).unwrap_or(0);
            if *done {
                part.connections[second] += 1;
            } else {
                part.refused += 1;
            }
        }
        part
    }
}
