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

    /// The ranges, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Range] {
        &self.0
    }
}

/// What to do with a batch that arrives, given the last sequence number settled (stored or declared dropped).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one.
    Apply,
    /// It was settled before: repeat the ack if it is the same batch.
    Repeat,
    /// Something before it is missing and was not declared: the first number expected.
    Gap(u64),
}

/// Numbers begin at 1; `cursor` is the last one settled, 0 for none. `dropped` are ranges the sender gave up.
#[must_use]
pub fn judge(cursor: u64, seq: u64, dropped: &Ranges) -> Verdict {
    if seq <= cursor {
        return Verdict::Repeat;
    }
    match Range::new(cursor + 1, seq - 1).map(|between| dropped.missing(between)) {
        None => Verdict::Apply,
        Some(missing) => missing.first().map_or(Verdict::Apply, |gap| Verdict::Gap(gap.first)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_behave_as_a_set_of_numbers(parts in prop::collection::vec((0u64..60, 0u64..8), 0..20), probe in (0u64..60, 0u64..20)) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (first, extra) in parts {
                ranges.insert(Range { first, last: first + extra });
                model.extend(first..=first + extra);
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

    #[test]
    fn a_batch_ahead_is_taken_only_when_what_lies_between_was_declared() {
        let mut dropped = Ranges::default();
        assert_eq!(judge(0, 1, &dropped), Verdict::Apply);
        assert_eq!(judge(4, 4, &dropped), Verdict::Repeat);
        assert_eq!(judge(4, 9, &dropped), Verdict::Gap(5));
        dropped.insert(Range { first: 5, last: 7 });
        assert_eq!(judge(4, 9, &dropped), Verdict::Gap(8));
        dropped.insert(Range { first: 8, last: 8 });
        assert_eq!(judge(4, 9, &dropped), Verdict::Apply);
    }

    #[test]
    fn the_ends_of_the_number_line_do_not_overflow() {
        let mut ranges = Ranges::default();
        ranges.insert(Range { first: u64::MAX - 1, last: u64::MAX });
        ranges.insert(Range { first: 0, last: 0 });
        assert_eq!(ranges.missing(Range { first: 0, last: u64::MAX }), [Range { first: 1, last: u64::MAX - 2 }]);
    }
}
