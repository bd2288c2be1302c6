//! What is known of a file without asking it: numbers, what is settled, how much waits. [`Work`] is one transaction: it changes
//! a copy of the state, which counts only once the transaction is committed. Settled rows are kept for a while, to be sent
//! again to an aggregator that has forgotten them.

use std::collections::{HashSet, VecDeque};

use keyvigil_common::seal::KeyRing;
use keyvigil_common::sequence::{Range, Ranges};
use keyvigil_common::wire::ACK_STREAMS_MAX;
use rusqlite::{Connection, OptionalExtension, params};

use super::BufferError;
use super::numbers::{Numbers, Span};

/// How many, and how large.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) items: u64,
    pub(super) bytes: u64,
}

impl Totals {
    pub(super) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.items += other.items;
        self.bytes += other.bytes;
    }

    pub(super) fn take(&mut self, other: Self) {
        self.rows = self.rows.saturating_sub(other.rows);
        self.items = self.items.saturating_sub(other.items);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// Rows that were acknowledged at one time, and are kept for a while.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) acked_ms: i64,
    pub(super) ids: Range,
    pub(super) bytes: u64,
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) numbers: Numbers,
    /// Where epochs begin is stored; else that is done with what is stored next.
    pub(super) epochs_saved: bool,
    /// The cursor that the aggregator told last of each epoch, the newest last: one that tells less of an epoch was put back.
    pub(super) confirmed: Vec<([u8; 16], u64)>,
    /// Ids that the aggregator has, or was told are lost.
    pub(super) settled: Ranges,
    /// Rows before this id have no age: the clock that told their time was set since.
    pub(super) ageless: u64,
    pub(super) waiting: Totals,
    /// Settled rows, the first settled first.
    pub(super) kept: VecDeque<Kept>,
    pub(super) kept_bytes: u64,
    /// Samples below this id were thinned.
    pub(super) thinned: u64,
    /// How many were looked at to thin them: of so many one stays.
    pub(super) thin_seen: u64,
    /// Next id of a gap; in another file they are others.
    pub(super) next_gap: i64,
    /// Batches settled since that was stored.
    pub(super) unsaved: u64,
    pub(super) memory: bool,
}

impl State {
    /// Reads it; what is settled counts as settled at `now_ms`.
    pub(super) fn load(connection: &Connection, memory: bool, now_ms: i64) -> Result<Self, BufferError> {
        let damaged = |what: &str| BufferError::Damaged(format!("the buffer's {what} cannot be read"));
        let spans =
            connection.prepare("SELECT first_id, epoch, first_seq FROM epoch ORDER BY first_id")?.query_map([], span)?.collect::<Result<Vec<_>, _>>()?;
        let last_id = meta(connection, "last_id")?.map_or(Ok(0), |bytes| number(&bytes).ok_or_else(|| damaged("last number")))?;
        let held: i64 = connection.query_row("SELECT ifnull(max(id), 0) FROM batch", [], |row| row.get(0))?;
        let numbers = Numbers::new(spans, last_id.max(held.cast_unsigned()) + 1).ok_or_else(|| damaged("epochs"))?;
        let settled: Ranges = meta(connection, "settled")?.map(|bytes| ranges(&bytes)).unwrap_or_default();
        let thinned = meta(connection, "thinned")?.and_then(|bytes| number(&bytes)).unwrap_or(0);
        let sql = "SELECT max(ifnull((SELECT max(id) FROM gap), 0), ifnull((SELECT max(gap) FROM told), 0))";
        let known_gap: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        let base = if memory { i64::from_le_bytes(keyvigil_common::random::<8>()) >> 2 & (i64::MAX >> 2) | 1 << 40 } else { 0 };
        let waiting = sums(connection, Range { first: 0, last: u64::MAX >> 1 })?;
        let confirmed = meta(connection, "confirmed")?.unwrap_or_default();
        let confirmed = self::confirmed(&confirmed);
        let mut state = Self {
            numbers,
            epochs_saved: true,
            confirmed,
            settled,
            ageless: meta(connection, "ageless")?.and_then(|bytes| number(&bytes)).unwrap_or(0),
            waiting,
            kept: VecDeque::new(),
            kept_bytes: 0,
            thinned,
            thin_seen: 0,
            next_gap: known_gap.max(base) + 1,
            unsaved: 0,
            memory,
        };
        for ids in state.settled.as_slice().to_vec() {
            state.keep(connection, ids, now_ms)?;
        }
        Ok(state)
    }

    /// The aggregator's cursor of an epoch.
    pub(super) fn confirm(&mut self, epoch: [u8; 16], cursor: u64) {
        match self.confirmed.iter_mut().find(|known| known.0 == epoch) {
            Some(known) if known.1 == cursor => return,
            Some(known) => known.1 = cursor,
            None => self.confirmed.push((epoch, cursor)),
        }
        // An ack that is not stored is missed least while nothing is put back; this would be.
        self.unsaved += 1;
        let excess = self.confirmed.len().saturating_sub(ACK_STREAMS_MAX);
        self.confirmed.drain(..excess);
    }

    /// Begins an epoch with the next id, which counts once something is stored.
    pub(super) fn count_anew(&mut self) {
        self.numbers.begin(Span { first_id: self.numbers.next_id, epoch: keyvigil_common::random(), first_seq: 1 });
        self.epochs_saved = false;
    }

    /// From the first id that is not settled on.
    pub(super) fn unsettled(&self) -> Vec<Range> {
        Range::new(1, self.numbers.next_id - 1).map(|all| self.settled.missing(all)).unwrap_or_default()
    }

    /// The first id that is not settled.
    pub(super) fn first_unsettled(&self) -> u64 {
        self.settled.as_slice().first().filter(|range| range.first <= 1).map_or(1, |range| range.last + 1)
    }

    /// When the oldest that waits was sealed.
    pub(super) fn oldest_ms(&self, connection: &Connection) -> Result<Option<i64>, BufferError> {
        if self.waiting.rows == 0 {
            return Ok(None);
        }
        let mut statement = connection.prepare_cached("SELECT at_ms FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 1")?;
        for ids in self.unsettled() {
            if let Some(at) = statement.query_row(pair(ids), |row| row.get(0)).optional()? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Takes the rows of `ids`, which are settled now, from what waits to what is kept.
    fn keep(&mut self, connection: &Connection, ids: Range, now_ms: i64) -> Result<u64, BufferError> {
        let sum = sums(connection, ids)?;
        self.waiting.take(sum);
        if sum.rows > 0 {
            self.kept.push_back(Kept { acked_ms: now_ms, ids, bytes: sum.bytes });
            self.kept_bytes += sum.bytes;
        }
        Ok(sum.rows)
    }

    /// Settles `ids`. How many rows of them were not before.
    pub(super) fn settle(&mut self, connection: &Connection, ids: Range, now_ms: i64) -> Result<u64, BufferError> {
        let mut rows = 0;
        for fresh in self.settled.missing(ids) {
            rows += self.keep(connection, fresh, now_ms)?;
        }
        self.settled.insert(ids);
        self.unsaved += rows;
        Ok(rows)
    }

    /// Takes back that `ids` are settled: their rows wait again.
    pub(super) fn unsettle(&mut self, connection: &Connection, ids: Range) -> Result<(), BufferError> {
        for again in self.settled.shared(ids) {
            self.waiting.add(sums(connection, again)?);
            self.settled.remove(again);
        }
        let mut kept = VecDeque::with_capacity(self.kept.len());
        for old in self.kept.drain(..) {
            let mut left = Ranges::default();
            left.insert(old.ids);
            left.remove(ids);
            for part in left.as_slice() {
                let bytes = if *part == old.ids { old.bytes } else { sums(connection, *part)?.bytes };
                kept.push_back(Kept { ids: *part, bytes, ..old });
            }
        }
        self.kept_bytes = kept.iter().map(|kept| kept.bytes).sum();
        self.kept = kept;
        Ok(())
    }
}

/// One transaction on a file.
pub(super) struct Work<'a> {
    pub(super) tx: &'a Connection,
    pub(super) ring: &'a KeyRing,
    /// Identity of the file.
    pub(super) file: [u8; 16],
    pub(super) state: &'a mut State,
    /// Gaps that somebody may be about to tell of: they must not grow.
    pub(super) offered: &'a HashSet<i64>,
    /// Ids that were handed out and not answered: they must not go.
    pub(super) handed: &'a [u64],
    pub(super) now_ms: i64,
}

impl Work<'_> {
    pub(super) fn next_id(&mut self) -> u64 {
        self.state.numbers.next_id += 1;
        self.state.numbers.next_id - 1
    }

    /// Stores what of the state is stored.
    pub(super) fn save(&mut self) -> Result<(), BufferError> {
        if !self.state.epochs_saved {
            self.save_epochs()?;
        }
        self.set("last_id", &(self.state.numbers.next_id - 1).to_le_bytes())?;
        self.set("thinned", &self.state.thinned.to_le_bytes())?;
        self.set("ageless", &self.state.ageless.to_le_bytes())?;
        let confirmed: Vec<u8> = self.state.confirmed.iter().flat_map(|(epoch, cursor)| epoch.iter().copied().chain(cursor.to_le_bytes())).collect();
        self.set("confirmed", &confirmed)?;
        self.set("settled", &self.state.settled.as_slice().iter().flat_map(|r| [r.first, r.last]).flat_map(u64::to_le_bytes).collect::<Vec<u8>>())?;
        self.state.unsaved = 0;
        Ok(())
    }

    pub(super) fn set(&self, name: &str, value: &[u8]) -> Result<(), BufferError> {
        self.tx.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?.execute(params![name, value])?;
        Ok(())
    }

    /// Stores which epochs there are.
    pub(super) fn save_epochs(&mut self) -> Result<(), BufferError> {
        self.tx.execute("DELETE FROM epoch", [])?;
        for span in self.state.numbers.spans() {
            let row = params![span.first_id.cast_signed(), span.epoch, span.first_seq.cast_signed()];
            self.tx.execute("INSERT INTO epoch VALUES (?1, ?2, ?3)", row)?;
        }
        self.state.epochs_saved = true;
        Ok(())
    }

    /// Begins a new epoch at `first_id`.
    pub(super) fn begin_epoch(&mut self, first_id: u64) -> Result<(), BufferError> {
        self.state.numbers.begin(Span { first_id, epoch: keyvigil_common::random(), first_seq: 1 });
        self.save_epochs()
    }

    /// Forgets what lies before all that is kept: numbers given up, epochs.
    pub(super) fn trim(&mut self) -> Result<(), BufferError> {
        let spans = self.state.numbers.spans().to_vec();
        for old in spans.windows(2).filter_map(|w| Range::new(w[0].first_id, w[1].first_id - 1)) {
            // Nothing that comes later can tell of numbers given up at the end of an old epoch: their gaps do.
            for rest in self.state.settled.missing(old).into_iter().rev() {
                if sums(self.tx, rest)?.rows > 0 {
                    break;
                }
                self.state.settled.insert(rest);
            }
        }
        let floor = floor(self.tx, self.state)?;
        self.tx.prepare_cached("DELETE FROM dropped WHERE last < ?1")?.execute([floor.cast_signed()])?;
        if spans.len() > 1 {
            let gap: Option<i64> = self.tx.query_row("SELECT min(first) FROM gap", [], |row| row.get(0))?;
            if self.state.numbers.forget_below(floor.min(gap.map_or(u64::MAX, i64::cast_unsigned))) {
                self.save_epochs()?;
            }
        }
        Ok(())
    }
}

/// Before this id lies nothing that waits or is kept.
pub(super) fn floor(connection: &Connection, state: &State) -> Result<u64, BufferError> {
    let held: Option<i64> = connection.prepare_cached("SELECT min(id) FROM batch")?.query_row([], |row| row.get(0))?;
    Ok(held.map_or(u64::MAX, i64::cast_unsigned).min(state.first_unsettled()))
}

/// What of `within`, or beside it in one piece with it, was given up.
pub(super) fn given_up(connection: &Connection, within: Range) -> Result<Ranges, BufferError> {
    let mut statement = connection.prepare_cached("SELECT first, last FROM dropped WHERE last >= ?1 ORDER BY last")?;
    let mut rows = statement.query([pair(within)[0]])?;
    let mut out = Ranges::default();
    while let Some(row) = rows.next()? {
        let range = range_of(row)?;
        if range.first > within.last {
            break;
        }
        out.insert(range);
    }
    Ok(out)
}

pub(super) fn pair(ids: Range) -> [i64; 2] {
    [ids.first, ids.last].map(|id| i64::try_from(id).unwrap_or(i64::MAX))
}

/// A pair of integers as a range; one that is none was not written by us.
pub(super) fn range_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Range> {
    let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
    let range = Range::new(first.cast_unsigned(), last.cast_unsigned()).filter(|_| first > 0);
    range.ok_or(rusqlite::Error::IntegralValueOutOfRange(0, first))
}

pub(super) fn sums(connection: &Connection, ids: Range) -> Result<Totals, BufferError> {
    let sql = "SELECT count(*), ifnull(sum(items), 0), ifnull(sum(bytes), 0) FROM batch WHERE id BETWEEN ?1 AND ?2";
    let number = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(|sum| sum.max(0).cast_unsigned());
    Ok(connection.prepare_cached(sql)?.query_row(pair(ids), |row| Ok(Totals { rows: number(row, 0)?, items: number(row, 1)?, bytes: number(row, 2)? }))?)
}

pub(super) fn meta(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, BufferError> {
    Ok(connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn confirmed(bytes: &[u8]) -> Vec<([u8; 16], u64)> {
    bytes.chunks_exact(24).filter_map(|pair| Some((pair[..16].try_into().ok()?, number(&pair[16..])?))).collect()
}

pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes).filter(|n| *n < u64::MAX >> 1)
}

/// What [`Work::save`] made.
pub(super) fn ranges(bytes: &[u8]) -> Ranges {
    bytes.chunks_exact(16).filter_map(|two| Range::new(number(&two[..8])?, number(&two[8..])?)).collect()
}

pub(super) fn span(row: &rusqlite::Row<'_>) -> rusqlite::Result<Span> {
    let (first_id, first_seq): (i64, i64) = (row.get(0)?, row.get(2)?);
    let number = |column, n: i64| u64::try_from(n).ok().filter(|n| *n > 0).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, n));
    Ok(Span { first_id: number(0, first_id)?, epoch: row.get(1)?, first_seq: number(2, first_seq)? })
}
