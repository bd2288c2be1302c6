//! The canary: a key of the agent's own that a child of it opens and uses at intervals. What the helper then tells of it must come back
//! from the aggregator; else the agent is blind however well it looks. This is the record that the parts share: `canary/trial.rs` makes
//! the trials, the sensors of access and operations say what they saw, the uplink what came back, the sensor `canary` tells of it.

mod key;
mod trial;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyvigil_common::canary::{Canaries, CanaryPath, EVIDENCE};
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::config::Period;
use keyvigil_common::event::{Event, EventKind};
use serde::{Deserialize, Serialize};

use crate::collect::Poke;
pub use trial::{Trials, child};
use watch::{Delivery, Watch};

/// Between two trials: below, they would weigh; above, blindness would last.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3_600));

/// `[canary]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CanaryConfig {
    /// Between two trials.
    pub interval: Period,
    /// The agent's own program, which makes them; none where the agent is not one, as in tests.
    #[serde(skip)]
    pub program: Option<PathBuf>,
}

impl Default for CanaryConfig {
    fn default() -> Self {
        Self { interval: Period::seconds(120), program: None }
    }
}

impl CanaryConfig {
    /// What is wrong with it.
    pub(crate) fn faults(&self) -> Vec<String> {
        let is_fine = self.interval.0 >= INTERVAL.0 && self.interval.0 <= INTERVAL.1;
        let text = || format!("canary.interval: must be between {} s and {} s", INTERVAL.0.as_secs(), INTERVAL.1.as_secs());
        if is_fine { Vec::new() } else { vec![text()] }
    }
}

/// How a path stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proof {
    /// Its name.
    pub path: String,
    /// Whether proofs are expected.
    pub is_expected: bool,
    /// When it was proven last, Unix ms.
    pub proven_ms: Option<i64>,
    /// Trials that came to nothing since the start.
    pub failures: u64,
    /// Why it cannot be tried.
    pub gap: Option<String>,
    /// Why it is blind.
    pub blind: Option<String>,
}

/// What is kept of a path over a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    proven_ms: Option<i64>,
    blind: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the sensors that are on.
    watches: BTreeMap<CanaryPath, Watch>,
    delivery: Delivery,
    /// The sensors that are to look after a trial, and the one that tells of changes.
    pokes: Vec<Poke>,
    teller: Option<Poke>,
}

/// The shared record; of one whose sensor is off nothing is expected.
#[derive(Debug, Clone)]
pub struct Canary {
    dir: Option<PathBuf>,
    interval: Duration,
    clock: SharedClock,
    state: Arc<Mutex<State>>,
}

impl Canary {
    /// One whose key lies in `dir`, for these paths.
    pub(crate) fn new(config: &CanaryConfig, dir: Option<PathBuf>, paths: impl IntoIterator<Item = CanaryPath>, clock: SharedClock) -> Self {
        let watches = paths.into_iter().filter(|_| dir.is_some()).map(|path| (path, Watch::default())).collect();
        Self { dir, interval: config.interval.0, clock, state: Arc::new(Mutex::new(State { watches, ..State::default() })) }
    }

    /// None: nothing is tried, and nothing expected.
    #[must_use]
    pub fn none() -> Self {
        Self::new(&CanaryConfig::default(), None, [], SystemClock::shared())
    }

    /// Where the key lies, to be followed and told apart.
    pub(crate) fn key(&self) -> Option<PathBuf> {
        self.dir.as_deref().map(key::path)
    }

    /// Whether that is the canary's file.
    pub(crate) fn is_its(&self, path: &str) -> bool {
        self.dir.as_deref().is_some_and(|dir| Path::new(path) == key::path(dir))
    }

    /// What this path needs is there: a proof is expected from now on.
    pub(crate) fn expect(&self, path: CanaryPath) {
        let now = self.clock.monotonic();
        self.with(path, |watch| watch.expect(now));
    }

    /// A sensor saw that process at the canary; the event that tells it, if it is a trial of this start.
    pub(crate) fn saw(&self, path: CanaryPath, pid: u32, at_ms: i64) -> Option<Event> {
        let now = self.clock.monotonic();
        let nonce = self.with(path, |watch| watch.saw(pid, now)).flatten()?;
        let evidence = EVIDENCE.into_iter().zip([path.as_str().to_owned(), format!("{nonce:x}")]).map(|(name, value)| (name.to_owned(), value)).collect();
        let message = format!("the canary was seen: {}", path.sight());
        Some(Event { kind: EventKind::Canary, at_ms, key_id: None, path: None, actor: None, message, evidence })
    }

    /// The aggregator has taken a push, and confirms these trials.
    pub(crate) fn acked(&self, nonces: &[u64]) {
        let (now, now_ms) = (self.clock.monotonic(), self.clock.now_ms());
        let mut state = self.lock();
        state.delivery = Delivery { since: state.delivery.since.or(Some(now)), last: now };
        let was_blind = state.watches.values().any(|watch| watch.blind().is_some());
        for nonce in nonces {
            for watch in state.watches.values_mut() {
                watch.confirmed(*nonce, now, now_ms);
            }
        }
        let teller = state.teller.clone().filter(|_| was_blind && !nonces.is_empty());
        drop(state);
        teller.iter().for_each(Poke::poke);
    }

    /// A push failed: that nothing is confirmed says nothing until one succeeds.
    pub(crate) fn undelivered(&self) {
        self.lock().delivery.since = None;
    }

    /// Looks at what is missing; wakes the sensor that tells it where that is news.
    pub(crate) fn look(&self) {
        let now = self.clock.monotonic();
        let mut state = self.lock();
        let (delivery, interval) = (state.delivery, self.interval);
        let mut is_news = false;
        for watch in state.watches.values_mut() {
            let before = watch.blind().is_some();
            watch.look(interval, delivery, now);
            is_news |= before != watch.blind().is_some();
        }
        let teller = state.teller.clone().filter(|_| is_news);
        drop(state);
        teller.iter().for_each(Poke::poke);
    }

    /// Why what this path tells is not to be believed now.
    pub(crate) fn blind(&self, path: CanaryPath) -> Option<String> {
        self.with(path, |watch| watch.blind().map(str::to_owned)).flatten()
    }

    /// How each path stands.
    #[must_use]
    pub fn proofs(&self) -> Vec<Proof> {
        let proof = |(path, watch): (&CanaryPath, &Watch)| Proof {
            path: path.as_str().to_owned(),
            is_expected: watch.is_expected(),
            proven_ms: watch.proven_ms,
            failures: watch.failures,
            gap: watch.gap.clone(),
            blind: watch.blind().map(str::to_owned),
        };
        self.lock().watches.iter().map(proof).collect()
    }

    /// What the aggregator is to expect.
    #[must_use]
    pub fn canaries(&self) -> Canaries {
        let interval_ms = u32::try_from(self.interval.as_millis()).unwrap_or(u32::MAX);
        Canaries::new(interval_ms, self.expected())
    }

    /// A sensor that sees trials asks to be woken after each; the one of the canary itself, when there is something to tell.
    pub(crate) fn on_change(&self, poke: Poke, is_teller: bool) {
        let mut state = self.lock();
        if is_teller { state.teller = Some(poke) } else { state.pokes.push(poke) }
    }

    /// What to remember over a restart, by path.
    pub(crate) fn kept(&self) -> Vec<(&'static str, Vec<u8>)> {
        let state = self.lock();
        let known = state.watches.iter().filter(|(_, watch)| watch.proven_ms.is_some() || watch.blind().is_some());
        let kept = |watch: &Watch| Kept { proven_ms: watch.proven_ms, blind: watch.blind().map(str::to_owned) };
        known.filter_map(|(path, watch)| Some((path.as_str(), serde_json::to_vec(&kept(watch)).ok()?))).collect()
    }

    /// Takes it back.
    pub(crate) fn restore(&self, remembered: Vec<(String, Vec<u8>)>) {
        let now = self.clock.monotonic();
        for (name, value) in remembered {
            let kept = CanaryPath::from_name(&name).zip(serde_json::from_slice::<Kept>(&value).ok());
            if let Some((path, kept)) = kept {
                self.with(path, |watch| watch.restore(kept.proven_ms, kept.blind, now));
            }
        }
    }

    fn expected(&self) -> Vec<CanaryPath> {
        self.lock().watches.iter().filter(|(_, watch)| watch.is_expected()).map(|(path, _)| *path).collect()
    }

    fn awaited(&self) -> Vec<CanaryPath> {
        self.lock().watches.iter().filter(|(_, watch)| watch.is_awaited()).map(|(path, _)| *path).collect()
    }

    fn with<T>(&self, path: CanaryPath, change: impl FnOnce(&mut Watch) -> T) -> Option<T> {
        self.lock().watches.get_mut(&path).map(change)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
