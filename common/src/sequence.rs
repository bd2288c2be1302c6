//! Arithmetic over sequence numbers: which of them are settled, and what is missing. Pure; the model test is in `tests`.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A run of sequence numbers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Range {
    /// First number.
    pub first: u64,
    /// Last number, not below `first`.
    pub last: u64,
}

impl Range {
    /// `first..=last`, or `None` where that is empty.
    #[must_use]
    pub fn new(first: u64, last: u64) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// Whether numbers of batches lie in it and nothing else: they begin at 1, and no store counts beyond 2^63. For what was decoded.
    #[must_use]
    pub fn is_of_numbers(self) -> bool {
        (1..=self.last).contains(&self.first) && self.last <= i64::MAX.cast_unsigned()
    }

    /// How many numbers.
    #[must_use]
    pub fn count(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether `seq` lies in it.
    #[must_use]
    pub fn contains(self, seq: u64) -> bool {
        (self.first..=self.last).contains(&seq)
    }
}

impl FromIterator<Range> for Ranges {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

/// A set of sequence numbers as sorted, disjoint, non-adjacent ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// Adds `range`; what it overlaps or touches becomes one range with it.
    pub fn insert(&mut self, range: Range) {
        let from = self.0.partition_point(|r| r.last.saturating_add(1) < range.first);
        let to = self.0.partition_point(|r| r.first <= range.last.saturating_add(1));
        let mut merged = range;
        for old in &self.0[from..to] {
            merged.first = merged.first.min(old.first);
            merged.last = merged.last.max(old.last);
        }
        self.0.splice(from..to, [merged]);
    }

    /// Takes `range` out.
    pub fn remove(&mut self, range: Range) {
        let from = self.0.partition_point(|r| r.last < range.first);
        let to = self.0.partition_point(|r| r.first <= range.last);
        let touched = self.0[from..to].iter().copied();
        let before = touched.clone().next().and_then(|r| Range::new(r.first, range.first.checked_sub(1)?));
        let after = touched.last().and_then(|r| Range::new(range.last.checked_add(1)?, r.last));
        self.0.splice(from..to, before.into_iter().chain(after));
    }

    /// Whether `seq` is in the set.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        let at = self.0.partition_point(|r| r.last < seq);
        self.0.get(at).is_some_and(|r| r.contains(seq))
    }

    /// The ranges of `within` that are not in the set.
    #[must_use]
    pub fn missing(&self, within: Range) -> Vec<Range> {
        let mut out = Vec::new();
        let mut next = within.first;
        for r in self.0.iter().filter(|r| r.last >= within.first && r.first <= within.last) {
            if r.first > next {
                out.push(Range { first: next, last: r.first - 1 });
            }
            match r.last.checked_add(1) {
                Some(after) => next = after,
                None => return out,
            }
        }
        out.extend(Range::new(next, within.last));
        out
    }

    /// How many numbers are in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|r| r.count()).sum()
    }

    /// Takes out the range that begins at `first`, if there is one; its last number.
    fn take_from(&mut self, first: u64) -> Option<u64> {
        let at = self.0.iter().position(|range| range.first == first)?;
        Some(self.0.remove(at).last)
    }

    /// The parts of `within` that are in the set.
    #[must_use]
    pub fn shared(&self, within: Range) -> Vec<Range> {
        let touching = self.0.iter().filter(|r| r.last >= within.first && r.first <= within.last);
        touching.map(|r| Range { first: r.first.max(within.first), last: r.last.min(within.last) }).collect()
    }

    /// The ranges, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Range] {
        &self.0
    }
}

/// What of a stream is settled: stored, or declared lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// All numbers up to this one, which begin at 1; 0 for none.
    pub cursor: u64,
    /// Those after it: what came fresh while a backlog drains.
    pub beyond: Ranges,
}

/// What to do with a batch that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new.
    Apply,
    /// It was settled before: repeat the ack if it is the same batch.
    Repeat,
    /// Something before it is missing and was not declared: the first number expected.
    Gap(u64),
}

impl Standing {
    /// What to do with `seq`. `dropped` are ranges the sender gave up; `waiting`, those it will send in another push.
    #[must_use]
    pub fn judge(&self, seq: u64, dropped: &Ranges, waiting: &Ranges) -> Verdict {
        if seq <= self.cursor || self.beyond.contains(seq) {
            return Verdict::Repeat;
        }
        let Some(between) = Range::new(self.cursor + 1, seq - 1) else { return Verdict::Apply };
        let unsettled = self.beyond.missing(between).into_iter();
        let undeclared = unsettled.flat_map(|range| dropped.missing(range)).flat_map(|range| waiting.missing(range));
        undeclared.map(|range| range.first).min().map_or(Verdict::Apply, Verdict::Gap)
    }

    /// Takes `range` as settled.
    pub fn settle(&mut self, range: Range) {
        if range.last <= self.cursor {
            return;
        }
        self.beyond.insert(Range { first: range.first.max(self.cursor + 1), last: range.last });
        if let Some(last) = self.beyond.take_from(self.cursor + 1) {
            self.cursor = last;
        }
    }

    /// Whether `seq` is settled.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        seq <= self.cursor || self.beyond.contains(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_behave_as_a_set_of_numbers(
            parts in prop::collection::vec((0u64..60, 0u64..8), 0..20),
            taken in prop::collection::vec((0u64..60, 0u64..12), 0..4),
            probe in (0u64..60, 0u64..20),
        ) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (first, extra) in parts {
                ranges.insert(Range { first, last: first + extra });
                model.extend(first..=first + extra);
            }
            for (first, extra) in taken {
                ranges.remove(Range { first, last: first + extra });
                model.retain(|n| !(first..=first + extra).contains(n));
            }
            prop_assert_eq!(ranges.count(), model.len() as u64);
            prop_assert!(ranges.as_slice().windows(2).all(|w| w[0].last + 1 < w[1].first));
            for n in 0..80 {
                prop_assert_eq!(ranges.contains(n), model.contains(&n));
            }
            let within = Range { first: probe.0, last: probe.0 + probe.1 };
            let missing: Vec<u64> = ranges.missing(within).iter().flat_map(|r| r.first..=r.last).collect();
            let expected: Vec<u64> = (within.first..=within.last).filter(|n| !model.contains(n)).collect();
            prop_assert_eq!(missing, expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_settled_behaves_as_a_set_and_a_batch_is_taken_if_all_before_it_is_accounted_for(
            settled in prop::collection::vec((1u64..40, 0u64..5), 0..12),
            dropped in prop::collection::vec((1u64..40, 0u64..9), 0..3),
            waiting in prop::collection::vec((1u64..40, 0u64..9), 0..3),
            seq in 1u64..50,
        ) {
            let range = |(first, extra): (u64, u64)| Range { first, last: first + extra };
            let numbers = |parts: &[(u64, u64)]| parts.iter().flat_map(|p| p.0..=p.0 + p.1).collect::<BTreeSet<u64>>();
            let mut state = Standing::default();
            settled.iter().for_each(|part| state.settle(range(*part)));
            let model = numbers(&settled);
            let cursor = (1..).find(|n| !model.contains(n)).unwrap() - 1;
            prop_assert_eq!(state.cursor, cursor);
            prop_assert!((1..60).all(|n| state.contains(n) == model.contains(&n)));
            prop_assert!(state.beyond.as_slice().first().is_none_or(|r| r.first > cursor + 1));
            let (gone, later) = (numbers(&dropped), numbers(&waiting));
            let missing = (1..seq).find(|n| !model.contains(n) && !gone.contains(n) && !later.contains(n));
            let expected = if model.contains(&seq) { Verdict::Repeat } else { missing.map_or(Verdict::Apply, Verdict::Gap) };
            prop_assert_eq!(state.judge(seq, &dropped.iter().copied().map(range).collect(), &waiting.iter().copied().map(range).collect()), expected);
            let within = Range { first: seq, last: seq + 7 };
            let shared: Vec<u64> = state.beyond.shared(within).iter().flat_map(|r| r.first..=r.last).collect();
            let expected: Vec<u64> = (seq..=seq + 7).filter(|n| *n > cursor && model.contains(n)).collect();
            prop_assert_eq!(shared, expected);
        }
    }

    #[test]
    fn the_ends_of_the_number_line_do_not_overflow() {
        let mut ranges = Ranges::default();
        ranges.insert(Range { first: u64::MAX - 1, last: u64::MAX });
        ranges.insert(Range { first: 0, last: 0 });
        assert_eq!(ranges.missing(Range { first: 0, last: u64::MAX }), [Range { first: 1, last: u64::MAX - 2 }]);
    }
}
