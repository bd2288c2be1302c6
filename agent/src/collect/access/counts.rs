//! Counts that begin when there is something to count: each row has a start of its own, so that its first deeds are not lost in the
//! difference of two samples of which there is only one.

use std::collections::BTreeMap;

use crate::collect::Sink;

/// Rows of each metric, and of these for each key; what is beyond them is counted of `others`.
const SERIES_MAX: usize = 2_000;
const SERIES_OF_KEY_MAX: usize = 200;
pub(in crate::collect) const OTHERS: &str = "others";
/// For how long it is told that they did not fit.
const CROWDED_MS: i64 = 3_600_000;
const CROWDED: &str = "each user of a key in the counts";
/// A row that nothing was added to for so long leaves where there is no room for another.
const IDLE_MS: i64 = 3_600_000;

/// Rows and what was counted of each.
#[derive(Debug)]
pub(in crate::collect) struct Counts<K> {
    rows: BTreeMap<K, Row>,
    /// When all of them were told last; before that, when the agent began. Unix ms.
    told_ms: i64,
    /// When there was no room for somebody last.
    crowded_ms: Option<i64>,
}

#[derive(Debug)]
struct Row {
    count: u64,
    /// It was zero up to here.
    started_ms: i64,
    /// When something was added last, as far as it was told.
    added_ms: i64,
}

impl<K: Ord> Counts<K> {
    /// None yet; `began_ms` is when the agent did.
    pub(in crate::collect) fn new(began_ms: i64) -> Self {
        Self { rows: BTreeMap::new(), told_ms: began_ms, crowded_ms: None }
    }

    /// Whether there is room for a row, or it is there: among those of its metric, and among these those of its key. The idle make place.
    pub(in crate::collect) fn takes(&mut self, row: &K, is_of_metric: impl Fn(&K) -> bool, is_of_key: impl Fn(&K) -> bool) -> bool {
        let takes = self.rows.contains_key(row)
            || self.has_room(&is_of_metric, SERIES_MAX) && self.has_room(&|row| is_of_metric(row) && is_of_key(row), SERIES_OF_KEY_MAX);
        if !takes {
            self.crowded_ms = Some(self.told_ms);
        }
        takes
    }

    fn has_room(&mut self, shares: &dyn Fn(&K) -> bool, max: usize) -> bool {
        let count = |rows: &BTreeMap<K, Row>| rows.keys().filter(|row| shares(row)).count();
        if count(&self.rows) < max {
            return true;
        }
        let told_ms = self.told_ms;
        self.rows.retain(|row, Row { added_ms, .. }| !shares(row) || told_ms - *added_ms < IDLE_MS);
        count(&self.rows) < max
    }

    /// Tells that somebody was counted of `others` not long ago.
    pub(in crate::collect) fn tell_crowd(&self, now_ms: i64, sink: &mut Sink) {
        if self.crowded_ms.is_some_and(|crowded_ms| (crowded_ms..crowded_ms + CROWDED_MS).contains(&now_ms)) {
            let why = format_args!("there are more than {SERIES_OF_KEY_MAX} of one key or {SERIES_MAX} of all; the rest is counted as \"{OTHERS}\"");
            sink.absent(CROWDED, why);
        }
    }

    /// So many more.
    pub(in crate::collect) fn add(&mut self, row: K, more: u64) {
        let told_ms = self.told_ms;
        let row = self.rows.entry(row).or_insert(Row { count: 0, started_ms: told_ms, added_ms: told_ms });
        (row.count, row.added_ms) = (row.count + more, told_ms);
    }

    /// Tells each row, its count, and since when.
    pub(in crate::collect) fn tell(&mut self, now_ms: i64, mut tell: impl FnMut(&K, f64, i64)) {
        self.rows.iter().for_each(|(row, Row { count, started_ms, .. })| tell(row, *count as f64, *started_ms));
        self.told_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_begins_when_the_others_were_told_last_and_stays_there() {
        let mut counts = Counts::new(1);
        let told = |counts: &mut Counts<&str>, now_ms| {
            let mut rows = Vec::new();
            counts.tell(now_ms, |row, count, started_ms| rows.push((row.to_string(), count, started_ms)));
            rows
        };
        counts.add("a", 2);
        assert_eq!(told(&mut counts, 10), [("a".to_owned(), 2.0, 1)]);
        counts.add("b", 1);
        counts.add("a", 1);
        assert_eq!(told(&mut counts, 20), [("a".to_owned(), 3.0, 1), ("b".to_owned(), 1.0, 10)]);
    }

    #[test]
    fn who_fills_the_room_of_one_key_takes_none_of_another_and_the_idle_leave() {
        let mut counts = Counts::new(0);
        let takes = |counts: &mut Counts<(u8, usize)>, row: (u8, usize)| counts.takes(&row, |_| true, |other| other.0 == row.0);
        let told = |counts: &Counts<_>, now_ms| {
            let mut sink = Sink::default();
            counts.tell_crowd(now_ms, &mut sink);
            sink.blind
        };
        for n in 0..SERIES_OF_KEY_MAX {
            assert!(takes(&mut counts, (1, n)));
            counts.add((1, n), 1);
        }
        assert_eq!(told(&counts, 0), []);
        assert!(!takes(&mut counts, (1, SERIES_OF_KEY_MAX)) && takes(&mut counts, (1, 2)) && takes(&mut counts, (2, 0)));
        assert_eq!((told(&counts, 1).len(), told(&counts, CROWDED_MS).len()), (1, 0));
        for n in SERIES_OF_KEY_MAX..SERIES_MAX {
            counts.add((u8::try_from(n / SERIES_OF_KEY_MAX + 1).unwrap(), n), 1);
        }
        assert!(!takes(&mut counts, (99, 0)), "there is no room at all");
        counts.tell(IDLE_MS, |_, _, _| {});
        counts.add((1, 0), 1);
        assert!(takes(&mut counts, (1, SERIES_MAX)) && counts.rows.contains_key(&(1, 0)) && !counts.rows.contains_key(&(1, 1)));
    }
}
