//! What is given up when there is no room: first what was acknowledged, then the least of what waits, the oldest of it first;
//! before samples go they are thinned, so that the time they tell of is longer. Each loss becomes a gap, neighbours of one
//! class and cause one gap together.

use keyvigil_common::limits::TIMESTAMP_MS_MIN;
use keyvigil_common::sequence::Range;
use keyvigil_common::wire::Class;
use rusqlite::{OptionalExtension, params};

use super::BufferError;
use super::state::{Totals, Work, pair, sums};

/// How long acknowledged rows are kept, ms, and how much of the bound they may take.
const KEPT_MS: i64 = 15 * 60 * 1_000;
const KEPT_SHARE: u64 = 10;
/// Of what is said of a loss: a batch tells of many.
const CAUSE_BYTES_MAX: usize = 256;
/// Of thinned samples every so manieth batch stays.
const THIN: u64 = 10;

impl Work<'_> {
    /// Gives up what must go so that `incoming` more bytes fit into `bound`. Returns how many batches.
    pub(super) fn make_room(&mut self, bound: u64, age_ms: i64, incoming: u64) -> Result<u64, BufferError> {
        let now_ms = self.now_ms;
        while let Some(kept) = self.state.kept.front().copied()
            && (now_ms - kept.acked_ms >= KEPT_MS
                || self.state.kept_bytes > bound / KEPT_SHARE
                || self.state.waiting.bytes + self.state.kept_bytes + incoming > bound)
        {
            self.purge(kept.ids, kept.bytes)?;
            self.state.kept.pop_front();
        }
        let mut given_up = self.give_up_old(now_ms.saturating_sub(age_ms))?;
        let detail = Class::KEPT.iter().rev().take_while(|class| **class == Class::Detail);
        for class in detail {
            given_up += self.give_up_class(*class, bound, incoming)?;
        }
        loop {
            given_up += self.thin(bound, incoming)?;
            // Each oldest that goes moves the middle, up to which is thinned.
            let oldest = if self.fits(bound, incoming) { None } else { self.first_of(Class::Sample, 0)? };
            let Some((id, _)) = oldest else { break };
            self.give_up(id, "buffer full")?;
            given_up += 1;
        }
        for class in Class::KEPT.iter().rev().skip_while(|class| **class != Class::Sample).skip(1) {
            given_up += self.give_up_class(*class, bound, incoming)?;
        }
        Ok(given_up)
    }

    fn fits(&self, bound: u64, incoming: u64) -> bool {
        self.state.waiting.bytes + incoming <= bound
    }

    /// Removes settled rows for good, and the gaps that they told of.
    pub(super) fn purge(&mut self, ids: Range, bytes: u64) -> Result<(), BufferError> {
        if self.state.memory {
            // A gap that lies in another file is removed there once the two are one.
            let sql = "UPDATE told SET batch = 0 WHERE batch BETWEEN ?1 AND ?2 AND gap NOT IN (SELECT id FROM gap)";
            self.tx.prepare_cached(sql)?.execute(pair(ids))?;
        }
        self.tx.prepare_cached("DELETE FROM gap WHERE id IN (SELECT gap FROM told WHERE batch BETWEEN ?1 AND ?2)")?.execute(pair(ids))?;
        self.tx.prepare_cached("DELETE FROM told WHERE batch BETWEEN ?1 AND ?2")?.execute(pair(ids))?;
        self.tx.prepare_cached("DELETE FROM batch WHERE id BETWEEN ?1 AND ?2")?.execute(pair(ids))?;
        self.state.kept_bytes = self.state.kept_bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Gives up what was sealed before `before_ms`. A clock that was not set yet says nothing of age.
    fn give_up_old(&mut self, before_ms: i64) -> Result<u64, BufferError> {
        let mut given_up = 0;
        for ids in self.state.unsettled() {
            let mut from = ids.first.max(self.state.ageless);
            loop {
                let sql = "SELECT id, at_ms FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1";
                let first: Option<(i64, i64)> =
                    self.tx.prepare_cached(sql)?.query_row(pair(Range { first: from, last: ids.last }), |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
                let Some((id, at_ms)) = first else { break };
                if at_ms >= before_ms {
                    return Ok(given_up);
                }
                from = id.cast_unsigned() + 1;
                if at_ms >= TIMESTAMP_MS_MIN && !self.handed.contains(&id.cast_unsigned()) {
                    self.give_up(id.cast_unsigned(), "too old")?;
                    given_up += 1;
                }
            }
        }
        Ok(given_up)
    }

    fn give_up_class(&mut self, class: Class, bound: u64, incoming: u64) -> Result<u64, BufferError> {
        let mut given_up = 0;
        while !self.fits(bound, incoming) {
            let Some((id, _)) = self.first_of(class, 0)? else { break };
            self.give_up(id, "buffer full")?;
            given_up += 1;
        }
        Ok(given_up)
    }

    /// The first row of a class from `from` on that nobody was given, and its place among those that were looked at.
    fn first_of(&self, class: Class, from: u64) -> Result<Option<(u64, u64)>, BufferError> {
        let mut statement = self.tx.prepare_cached("SELECT id FROM batch WHERE class = ?1 AND id >= ?2 ORDER BY id")?;
        let mut rows = statement.query(params![class_number(class), from.cast_signed()])?;
        let mut skipped = 0;
        while let Some(row) = rows.next()? {
            let id = row.get::<_, i64>(0)?.cast_unsigned();
            if !self.handed.contains(&id) {
                return Ok(Some((id, skipped)));
            }
            skipped += 1;
        }
        Ok(None)
    }

    /// Thins the older half of the samples, from where that was left.
    fn thin(&mut self, bound: u64, incoming: u64) -> Result<u64, BufferError> {
        let mut given_up = 0;
        let Some((first, _)) = self.first_of(Class::Sample, 0)? else { return Ok(0) };
        let middle = first + (self.state.numbers.next_id - first) / 2;
        let mut from = self.state.thinned.max(first);
        while !self.fits(bound, incoming) {
            let Some((id, _)) = self.first_of(Class::Sample, from)?.filter(|(id, _)| *id < middle) else { break };
            from = id + 1;
            if !self.state.thin_seen.is_multiple_of(THIN) {
                self.give_up(id, "thinned")?;
                given_up += 1;
            }
            self.state.thin_seen += 1;
            self.state.thinned = from;
        }
        Ok(given_up)
    }

    /// Gives up one batch that waits, and records it. What it told of is to be told again.
    pub(super) fn give_up(&mut self, id: u64, cause: &str) -> Result<(), BufferError> {
        if self.state.settled.contains(id) {
            return Ok(());
        }
        let sql = "DELETE FROM batch WHERE id = ?1 RETURNING class, items, bytes";
        let take = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let Some((class, items, bytes)) = self.tx.prepare_cached(sql)?.query_row([id.cast_signed()], take).optional()? else { return Ok(()) };
        let (items, bytes) = (items.cast_unsigned(), bytes.cast_unsigned());
        self.state.waiting.take(Totals { rows: 1, items, bytes });
        self.tx.prepare_cached("DELETE FROM told WHERE batch = ?1")?.execute([id.cast_signed()])?;
        self.drop_ids(Range { first: id, last: id })?;
        self.record_gap(Range { first: id, last: id }, class_of(class), items, cause)
    }

    /// These ids will never come.
    pub(super) fn drop_ids(&self, ids: Range) -> Result<(), BufferError> {
        let [mut first, mut last] = pair(ids);
        let mut touching = Vec::new();
        {
            let mut statement = self.tx.prepare_cached("SELECT first, last FROM dropped WHERE last >= ?1 - 1 ORDER BY last")?;
            let mut rows = statement.query([first])?;
            // Disjoint and in order: the first that begins too far ends the search.
            while let Some(row) = rows.next()? {
                let (begin, end): (i64, i64) = (row.get(0)?, row.get(1)?);
                if begin > last + 1 {
                    break;
                }
                touching.push((begin, end));
            }
        }
        for (begin, end) in touching {
            self.tx.prepare_cached("DELETE FROM dropped WHERE first = ?1")?.execute([begin])?;
            (first, last) = (first.min(begin), last.max(end));
        }
        self.tx.prepare_cached("INSERT INTO dropped VALUES (?1, ?2)")?.execute([first, last])?;
        Ok(())
    }

    /// Records a loss, to be told. `ids` lie in one epoch.
    pub(super) fn record_gap(&mut self, ids: Range, class: Class, items: u64, cause: &str) -> Result<(), BufferError> {
        let [first, last] = pair(ids);
        let cause = cause.get(..cause.floor_char_boundary(CAUSE_BYTES_MAX)).unwrap_or_default();
        let (class, items) = (class_number(class), i64::try_from(items).unwrap_or(i64::MAX));
        if self.state.numbers.at(ids.first).1.first != ids.first {
            let sql = "SELECT id FROM gap WHERE last = ?1 - 1 AND class = ?2 AND cause = ?3 AND id NOT IN (SELECT gap FROM told)";
            let before: Option<i64> = self.tx.prepare_cached(sql)?.query_row(params![first, class, cause], |row| row.get(0)).optional()?;
            if let Some(id) = before.filter(|id| !self.offered.contains(id)) {
                let sql = "UPDATE gap SET last = ?2, items = items + ?3, at_ms = ?4 WHERE id = ?1";
                self.tx.prepare_cached(sql)?.execute(params![id, last, items, self.now_ms])?;
                return Ok(());
            }
        }
        let sql = "INSERT INTO gap VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.tx.prepare_cached(sql)?.execute(params![self.state.next_gap, first, last, class, items, self.now_ms, cause])?;
        self.state.next_gap += 1;
        Ok(())
    }

    /// Records the loss of things that no row was made of: they get a number, so that the loss has one.
    pub(super) fn lose(&mut self, class: Class, items: u64, cause: &str) -> Result<(), BufferError> {
        let id = self.next_id();
        self.drop_ids(Range { first: id, last: id })?;
        self.record_gap(Range { first: id, last: id }, class, items, cause)
    }

    /// Gives up ids that have no row and were never told to be lost: each part that is not in `dropped` already.
    pub(super) fn declare(&mut self, ids: Range, class: Class, cause: &str) -> Result<(), BufferError> {
        let known = super::state::given_up(self.tx, ids)?;
        for unknown in known.missing(ids) {
            for part in self.without_rows(unknown)? {
                self.drop_ids(part)?;
                for piece in self.state.numbers.split(part) {
                    self.record_gap(piece, class, 0, cause)?;
                }
            }
        }
        Ok(())
    }

    /// The parts of `ids` that have no row.
    fn without_rows(&self, ids: Range) -> Result<Vec<Range>, BufferError> {
        if sums(self.tx, ids)?.rows == 0 {
            return Ok(vec![ids]);
        }
        let mut statement = self.tx.prepare_cached("SELECT id FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id")?;
        let mut rows = statement.query(pair(ids))?;
        let (mut out, mut next) = (Vec::new(), ids.first);
        while let Some(row) = rows.next()? {
            let id = row.get::<_, i64>(0)?.cast_unsigned();
            out.extend(Range::new(next, id - 1));
            next = id + 1;
        }
        out.extend(Range::new(next, ids.last));
        Ok(out)
    }
}

/// As it is stored: the order of [`Class::KEPT`].
pub(super) fn class_number(class: Class) -> i64 {
    Class::KEPT.iter().position(|kept| *kept == class).and_then(|at| i64::try_from(at).ok()).unwrap_or(0)
}

pub(super) fn class_of(number: i64) -> Class {
    usize::try_from(number).ok().and_then(|at| Class::KEPT.get(at)).copied().unwrap_or(Class::Sample)
}
