//! Counts that begin when there is something to count: each row has a start of its own, so that its first deeds are not lost in the
//! difference of two samples of which there is only one.

use std::collections::BTreeMap;

/// Rows and what was counted of each.
#[derive(Debug)]
pub(in crate::collect) struct Counts<K> {
    rows: BTreeMap<K, Row>,
    /// When all of them were told last; before that, when the agent began. Unix ms.
    told_ms: i64,
}

#[derive(Debug)]
struct Row {
    count: u64,
    /// It was zero up to here.
    started_ms: i64,
}

impl<K: Ord> Counts<K> {
    /// None yet; `began_ms` is when the agent did.
    pub(in crate::collect) fn new(began_ms: i64) -> Self {
        Self { rows: BTreeMap::new(), told_ms: began_ms }
    }

    /// Whether there is room for a row, or it is there.
    pub(in crate::collect) fn takes(&self, row: &K, max: usize) -> bool {
        self.rows.len() < max || self.rows.contains_key(row)
    }

    /// So many more.
    pub(in crate::collect) fn add(&mut self, row: K, more: u64) {
        self.rows.entry(row).or_insert(Row { count: 0, started_ms: self.told_ms }).count += more;
    }

    /// Tells each row, its count, and since when.
    pub(in crate::collect) fn tell(&mut self, now_ms: i64, mut tell: impl FnMut(&K, f64, i64)) {
        self.rows.iter().for_each(|(row, Row { count, started_ms })| tell(row, *count as f64, *started_ms));
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
        assert!(counts.takes(&"a", 2) && !counts.takes(&"c", 2));
    }
}
