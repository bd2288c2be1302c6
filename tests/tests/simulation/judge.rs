//! What a world is judged by at its end, and what all worlds did together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What was issued in a world, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Numbers that may have been committed.
    pub(crate) attempted: BTreeSet<u64>,
    /// Numbers that were.
    pub(crate) committed: BTreeSet<u64>,
    /// How often each number is stored, by its sample and by its event.
    pub(crate) samples: BTreeMap<u64, u32>,
    pub(crate) events: BTreeMap<u64, u32>,
    /// Items that are declared lost, and declarations that do not know how many.
    pub(crate) declared: u64,
    pub(crate) unknown: u64,
}

/// Samples and events of one batch.
pub(crate) const ITEMS: u64 = 2;

impl Account {
    /// I1 to I3: committed = stored once + declared, and nothing else is stored.
    pub(crate) fn judge(&self) -> Result<(), String> {
        if let Some((n, count)) = self.events.iter().find(|(_, count)| **count > 1) {
            return Err(format!("batch {n} is stored {count} times"));
        }
        if self.events.keys().ne(self.samples.keys()) {
            let odd: Vec<_> =
                self.events.keys().filter(|n| !self.samples.contains_key(n)).chain(self.samples.keys().filter(|n| !self.events.contains_key(n))).collect();
            return Err(format!("batches of which a part is stored: {odd:?}"));
        }
        if let Some(n) = self.events.keys().find(|n| !self.attempted.contains(n)) {
            return Err(format!("batch {n} was never sent"));
        }
        let missing: Vec<u64> = self.committed.iter().filter(|n| !self.events.contains_key(n)).copied().collect();
        let unsure = self.attempted.difference(&self.committed).filter(|n| !self.events.contains_key(n)).count() as u64;
        let (lost, declared) = (missing.len() as u64, self.declared / ITEMS);
        if !self.declared.is_multiple_of(ITEMS) || (self.unknown == 0 && !(lost..=lost + unsure).contains(&declared)) {
            return Err(format!("{lost} are missing ({missing:?}), {declared} are declared, {unsure} may have been committed"));
        }
        Ok(())
    }
}

/// What happened in worlds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) worlds: u64,
    pub(crate) committed: u64,
    pub(crate) lost: u64,
    pub(crate) crashes: u64,
    pub(crate) doubts: u64,
    pub(crate) server_crashes: u64,
    pub(crate) restores: u64,
    pub(crate) refused: u64,
    pub(crate) unheard: u64,
    pub(crate) replayed: u64,
    pub(crate) away: u64,
    pub(crate) clocks: u64,
    pub(crate) differences: u64,
    pub(crate) forgotten: u64,
    pub(crate) whole: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.worlds += 1;
        self.committed += other.committed;
        self.lost += other.lost;
        self.crashes += other.crashes;
        self.doubts += other.doubts;
        self.server_crashes += other.server_crashes;
        self.restores += other.restores;
        self.refused += other.refused;
        self.unheard += other.unheard;
        self.replayed += other.replayed;
        self.away += other.away;
        self.clocks += other.clocks;
        self.differences += other.differences;
        self.forgotten += other.forgotten;
        self.whole += other.whole;
    }

    /// Whether each kind of thing happened.
    pub(crate) fn is_telling(&self) -> bool {
        let faults = [self.crashes, self.server_crashes, self.restores, self.refused, self.unheard, self.replayed, self.away, self.clocks, self.forgotten];
        faults.into_iter().chain([self.doubts, self.lost, self.differences, self.whole]).all(|n| n > 0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            worlds,
            committed,
            lost,
            crashes,
            doubts,
            server_crashes,
            restores,
            refused,
            unheard,
            replayed,
            away,
            clocks,
            differences,
            forgotten,
            whole,
        } = self;
        write!(
            f,
            "{worlds} worlds: {committed} batches committed, {lost} declared lost; the agent died {crashes} times, and {doubts} with a commit in doubt, the aggregator {server_crashes}, and was put back \
             {restores} times; {refused} refusals, {unheard} answers lost, {replayed} requests late or twice; {away} times a disk failed, {clocks} clocks were set; \
             {differences} pushes were told as differences, {forgotten} times the aggregator forgot to what, and {whole} were asked for whole"
        )
    }
}
