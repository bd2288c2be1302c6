//! Keys that were told to be gone, for a while: a key that then appears in their place succeeds them, however slowly whoever
//! replaced it did so. Pure. Called by the tracker.

use std::collections::VecDeque;
use std::time::Duration;

use keyvigil_common::key::KeyFacts;

use super::model::Held;
use super::pair::pair;

/// How long they are known.
const KNOWN: Duration = Duration::from_secs(3_600);
/// How many at most: those that went last.
const KNOWN_MAX: usize = 1_000;

/// They, those that went first before the others.
#[derive(Debug, Default)]
pub(super) struct Gone(VecDeque<(Duration, Held)>);

impl Gone {
    /// One that is told to be gone at `now`.
    pub(super) fn add(&mut self, held: &Held, now: Duration) {
        if self.0.len() >= KNOWN_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, Held { missing: None, ..held.clone() }));
    }

    /// Forgets those that went long ago.
    pub(super) fn forget(&mut self, now: Duration) {
        while self.0.front().is_some_and(|(since, _)| now.saturating_sub(*since) >= KNOWN) {
            self.0.pop_front();
        }
    }

    /// Takes out the one that `new` succeeds where it lay.
    pub(super) fn succeeded_by(&mut self, new: &Held) -> Option<Held> {
        let here: Vec<usize> = (0..self.0.len()).filter(|at| self.0[*at].1.place.path == new.place.path).rev().collect();
        let old: Vec<(u32, &KeyFacts)> = here.iter().map(|at| &self.0[*at].1).map(|held| (held.place.slot, held.facts.as_ref())).collect();
        let pairs = pair(&old, &[(new.place.slot, new.facts.as_ref())]);
        let at = here[pairs.replaced.first()?.0];
        self.0.remove(at).map(|(_, held)| held)
    }
}
