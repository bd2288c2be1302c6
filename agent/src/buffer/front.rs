//! What is sent next, in two lanes. While all that waits fits one push there is one lane, oldest first. Once more waits, a
//! split lies before the newest part: the live lane gives what lies after it and says that the rest comes with the other lane.

use keyvigil_common::limits::{PUSH_DROPPED_MAX, PUSH_WAITING_MAX};
use keyvigil_common::sequence::{Range, Ranges};
use rusqlite::params;

use super::file::File;
use super::numbers::Span;
use super::state::{pair, range_of};
use super::{BufferError, Front, Lane, Room};

/// What was sealed so long ago at most, ms, is the newest part.
const FRESH_MS: i64 = 30_000;
/// When the live lane falls so far behind, ms, and cannot catch up with one push, the split moves on.
const LATE_MS: i64 = 60_000;

/// What was handed out, and where the lanes part.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes {
    live: Handed,
    backfill: Handed,
    /// First id of the live lane.
    pub(super) split: Option<u64>,
}

/// What one lane was given and has not answered for.
#[derive(Debug, Clone, Default)]
struct Handed {
    ids: Vec<u64>,
    /// Ids that it was told are given up.
    dropped: Vec<Range>,
    /// What was settled when it was given: an answer to it that lacks some of that comes from one who has forgotten.
    settled: Option<Ranges>,
}

impl Lanes {
    /// Ids that were handed out.
    pub(super) fn handed(&self) -> Vec<u64> {
        self.live.ids.iter().chain(&self.backfill.ids).copied().collect()
    }

    /// All that an answer may speak of: who knows more of it than was sent knows it from another, and must be asked by sending.
    pub(super) fn sent(&self) -> Ranges {
        let own = self.handed().into_iter().map(|id| Range { first: id, last: id });
        own.chain(self.live.dropped.iter().chain(&self.backfill.dropped).copied()).collect()
    }

    /// These are answered.
    pub(super) fn answered(&mut self, ids: &Ranges) {
        for lane in [&mut self.live, &mut self.backfill] {
            lane.ids.retain(|id| !ids.contains(*id));
            lane.dropped.retain(|range| !ids.missing(*range).is_empty());
        }
    }

    /// All that was settled before any push that may be on its way was handed out.
    pub(super) fn surely_settled(&self, within: Range) -> Vec<Range> {
        let mut lanes = [&self.live, &self.backfill].into_iter().filter_map(|lane| lane.settled.as_ref());
        match (lanes.next(), lanes.next()) {
            (Some(one), None) => one.shared(within),
            (Some(one), Some(other)) => one.shared(within).into_iter().flat_map(|range| other.shared(range)).collect(),
            _ => Vec::new(),
        }
    }

    fn lane(&mut self, lane: Lane) -> &mut Handed {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backfill => &mut self.backfill,
        }
    }

    /// All is to be looked at anew: numbers have changed.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A row as it is looked at.
struct Row {
    id: u64,
    at_ms: i64,
    body: Vec<u8>,
}

impl File {
    /// What `lane` sends next; `None` if there is nothing.
    pub(super) fn front(&mut self, lane: Lane, room: Room, now_ms: i64) -> Result<Option<Front>, BufferError> {
        // Whoever asks again has the answer to what it was given before, or will never have it.
        *self.lanes.lane(lane) = Handed::default();
        let waiting = self.state.waiting;
        if waiting.rows == 0 {
            self.lanes.split = None;
            return Ok(None);
        }
        let fits = waiting.rows <= room.frames as u64 && waiting.bytes <= room.bytes as u64;
        if self.lanes.split.is_none() && !fits {
            self.lanes.split = self.newest_part(room, now_ms)?;
        }
        let Some(split) = self.lanes.split else {
            return if lane == Lane::Live { self.give(lane, None, u64::MAX, room) } else { Ok(None) };
        };
        if lane == Lane::Backfill {
            let front = self.give(lane, None, split - 1, room)?;
            if front.is_none() {
                self.lanes.split = None;
            }
            return Ok(front);
        }
        let behind = self.oldest_from(split)?.is_some_and(|at_ms| at_ms < now_ms - LATE_MS) && !self.fits_from(split, room)?;
        let split = if behind { self.newest_part(room, now_ms)?.unwrap_or(split) } else { split };
        self.lanes.split = Some(split);
        self.give(lane, Some(split), u64::MAX, room)
    }

    /// First id of the newest part of the newest epoch: at least a row, at most a push.
    fn newest_part(&self, room: Room, now_ms: i64) -> Result<Option<u64>, BufferError> {
        let first_id = self.state.numbers.newest().first_id;
        let mut statement = self.connection.prepare_cached("SELECT id, bytes, at_ms FROM batch WHERE id >= ?1 ORDER BY id DESC")?;
        let mut rows = statement.query([first_id.cast_signed()])?;
        let (mut found, mut frames, mut bytes) = (None, 0, 0);
        while let Some(row) = rows.next()? {
            let (id, size, at_ms) = (row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned(), row.get::<_, i64>(2)?);
            if self.state.settled.contains(id) {
                continue;
            }
            (frames, bytes) = (frames + 1, bytes + size);
            if found.is_some() && (at_ms < now_ms - FRESH_MS || frames > room.frames || bytes > room.bytes as u64) {
                break;
            }
            found = Some(id);
        }
        Ok(found)
    }

    fn oldest_from(&self, id: u64) -> Result<Option<i64>, BufferError> {
        let rows = self.rows(Range { first: id, last: u64::MAX }, Room { frames: 1, bytes: 0 })?;
        Ok(rows.first().map(|row| row.at_ms))
    }

    fn fits_from(&self, id: u64, room: Room) -> Result<bool, BufferError> {
        let sql = "SELECT id, bytes FROM batch WHERE id >= ?1 ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([id.cast_signed()])?;
        let (mut frames, mut bytes) = (0, 0);
        while let Some(row) = rows.next()? {
            if !self.state.settled.contains(row.get::<_, i64>(0)?.cast_unsigned()) {
                (frames, bytes) = (frames + 1, bytes + row.get::<_, i64>(1)?.cast_unsigned());
                if frames > room.frames || bytes > room.bytes as u64 {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The oldest rows of `ids` that wait, as many as there is room for; one at least.
    fn rows(&self, ids: Range, room: Room) -> Result<Vec<Row>, BufferError> {
        let mut statement = self.connection.prepare_cached("SELECT id, at_ms, body FROM batch WHERE id BETWEEN ?1 AND ?2 ORDER BY id")?;
        let (mut out, mut bytes) = (Vec::new(), 0);
        for part in Range::new(ids.first, ids.last.min(self.state.numbers.next_id - 1)).map(|ids| self.state.settled.missing(ids)).unwrap_or_default() {
            let mut rows = statement.query(pair(part))?;
            while let Some(row) = rows.next()? {
                let row = Row { id: row.get::<_, i64>(0)?.cast_unsigned(), at_ms: row.get(1)?, body: row.get(2)? };
                bytes += row.body.len();
                if !out.is_empty() && (out.len() >= room.frames || bytes > room.bytes) {
                    return Ok(out);
                }
                out.push(row);
            }
        }
        Ok(out)
    }

    /// Gives the oldest rows up to `last`, of one epoch; from `split` on if there is one.
    fn give(&mut self, lane: Lane, split: Option<u64>, last: u64, room: Room) -> Result<Option<Front>, BufferError> {
        let mut rows = self.rows(Range { first: split.unwrap_or(1), last }, room)?;
        let Some(first) = rows.first().map(|row| row.id) else { return Ok(None) };
        let (span, own) = self.state.numbers.at(first);
        rows.retain(|row| own.contains(row.id));
        let from = own.first.max(split.unwrap_or(0));
        let until = rows.last().map_or(first, |row| row.id);
        let mut dropped = self.dropped(from, until)?;
        if let Some(too_far) = dropped.get(PUSH_DROPPED_MAX).map(|range| range.first) {
            if too_far <= first {
                // Not even the first frame could be given: what lies between is settled, and may be told as one.
                dropped = Range::new(from, first - 1).into_iter().collect();
                rows.truncate(1);
            } else {
                rows.retain(|row| row.id < too_far);
                dropped.truncate(PUSH_DROPPED_MAX);
            }
        }
        let mut frames = Vec::with_capacity(rows.len());
        for row in &rows {
            let frame = self.ring.unseal(&row.body, &self.place(row.id))?;
            frames.push((self.state.numbers.seq(row.id), frame));
        }
        let last = rows.last().map_or(first, |row| row.id);
        dropped.retain(|range| range.first < last);
        // What a span counts on from lies in a file that is away, or comes before.
        let waiting = if split.is_some() { self.to_come(span, first) } else { Range::new(1, span.first_seq - 1).into_iter().collect() };
        let settled = Some(self.state.settled.clone());
        let told = dropped.iter().map(|ids| self.state.numbers.seqs(*ids)).collect();
        *self.lanes.lane(lane) = Handed { ids: rows.iter().map(|row| row.id).collect(), dropped, settled };
        Ok(Some(Front { epoch: span.epoch, dropped: told, waiting, frames }))
    }

    /// Numbers before that of `id` which the other lane sends. What is settled is none of them: an aggregator that has lost it must
    /// be able to say so.
    fn to_come(&self, span: Span, id: u64) -> Vec<Range> {
        let earlier = Range::new(1, span.first_seq - 1);
        let held = Range::new(span.first_id, id - 1).map(|ids| self.state.settled.missing(ids)).unwrap_or_default();
        if held.len() >= PUSH_WAITING_MAX {
            return Range::new(1, self.state.numbers.seq(id) - 1).into_iter().collect();
        }
        earlier.into_iter().chain(held.into_iter().map(|ids| self.state.numbers.seqs(ids))).collect()
    }

    /// What of the ids from `from` to `until` was given up and is not settled.
    fn dropped(&self, from: u64, until: u64) -> Result<Vec<Range>, BufferError> {
        let mut statement = self.connection.prepare_cached("SELECT first, last FROM dropped WHERE last >= ?1 AND first <= ?2 ORDER BY last")?;
        let mut rows = statement.query(params![from.cast_signed(), pair(Range { first: 0, last: until })[1]])?;
        let mut out = Vec::new();
        while let Some(row) = rows.next()? {
            let range = range_of(row)?;
            if let Some(ids) = Range::new(range.first.max(from), range.last.min(until)) {
                out.extend(self.state.settled.missing(ids));
            }
            if out.len() > PUSH_DROPPED_MAX {
                break;
            }
        }
        Ok(out)
    }
}
