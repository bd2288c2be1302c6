//! Counts that begin when there is something to count: each row has a start of its own, so that its first deeds are not lost in the
//! difference of two samples of which there is only one.

use std::collections::BTreeMap;

/// A row that nothing was added to for so long leaves where there is no room for another.
const IDLE_MS: i64 = 3_600_000;

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
    /// When something was added last, as far as it was told.
    added_ms: i64,
}

/// How many rows there may be.
pub(in crate::collect) struct Room<'a, K> {
    /// Which share it.
    pub(in crate::collect) all: &'a dyn Fn(&K) -> bool,
    /// How many these are at most.
    pub(in crate::collect) max: usize,
}

impl<K: Ord> Counts<K> {
    /// None yet; `began_ms` is when the agent did.
    pub(in crate::collect) fn new(began_ms: i64) -> Self {
        Self { rows: BTreeMap::new(), told_ms: began_ms }
    }

    /// Whether there is room for a row, or it is there. Of those that share a room, the idle make place for it.
    pub(in crate::collect) fn takes(&mut self, row: &K, rooms: &[Room<'_, K>]) -> bool {
        self.rows.contains_key(row) || rooms.iter().all(|room| self.has(room))
    }

    fn has(&mut self, room: &Room<'_, K>) -> bool {
        let count = |rows: &BTreeMap<K, Row>| rows.keys().filter(|row| (room.all)(row)).count();
        if count(&self.rows) < room.max {
            return true;
        }
        let told_ms = self.told_ms;
        self.rows.retain(|row, Row { added_ms, .. }| !(room.all)(row) || told_ms - *added_ms < IDLE_MS);
        count(&self.rows) < room.max
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
        let takes = |counts: &mut Counts<(u8, u32)>, row: (u8, u32)| {
            let of_key = |other: &(u8, u32)| other.0 == row.0;
            counts.takes(&row, &[Room { all: &|_| true, max: 5 }, Room { all: &of_key, max: 3 }])
        };
        for n in 0..3 {
            assert!(takes(&mut counts, (1, n)));
            counts.add((1, n), 1);
        }
        assert!(!takes(&mut counts, (1, 3)) && takes(&mut counts, (1, 2)) && takes(&mut counts, (2, 0)));
        counts.add((2, 0), 1);
        counts.add((2, 1), 1);
        assert!(!takes(&mut counts, (3, 0)), "there is no room at all");
        counts.tell(IDLE_MS, |_, _, _| {});
        counts.add((1, 0), 1);
        assert!(takes(&mut counts, (1, 3)) && counts.rows.contains_key(&(1, 0)) && !counts.rows.contains_key(&(1, 1)));
    }
}
