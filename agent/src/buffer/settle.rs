//! What the aggregator's answers do to a file: rows are settled, or wait again because they were forgotten; a fork makes them
//! count under a new epoch; one that is refused for good is given up. Acks are stored with the next append: losing one only
//! means that its batches are sent again.

use keyvigil_common::sequence::{Range, Ranges};
use keyvigil_common::wire::{ACK_RANGES_MAX, ACK_STREAMS_MAX, Class, Elsewhere};

use super::BufferError;
use super::file::File;
use super::state::{Work, floor, given_up};

/// Batches whose ack is not stored. An aggregator tells repeats of the last 4,096 from forks.
const UNSAVED_MAX: u64 = 500;
const FORGOTTEN: &str = "acknowledged before, and not known to the aggregator any more";

impl File {
    /// The aggregator has all numbers up to `cursor` and those of `beyond`, and none else. How many batches of them it did
    /// not have before. Only what was sent is settled: on a host that was put back to an earlier state it speaks of batches
    /// that had these numbers then.
    pub(super) fn acked(&mut self, epoch: [u8; 16], cursor: u64, beyond: &[Range], now_ms: i64) -> Result<u64, BufferError> {
        let own = self.state.numbers.ids(epoch, Range { first: 1, last: u64::MAX - 1 });
        if own.is_empty() {
            return Ok(0);
        }
        let known = Range::new(1, cursor).into_iter().chain(beyond.iter().copied());
        let known: Ranges = known.flat_map(|seqs| self.state.numbers.ids(epoch, seqs)).collect();
        let forgotten: Vec<Range> = own.into_iter().flat_map(|own| self.lanes.surely_settled(own)).flat_map(|ids| known.missing(ids)).collect();
        let sent = self.lanes.sent();
        let fresh = self.write(now_ms, |work| {
            work.state.confirm(epoch, cursor);
            let mut fresh = 0;
            for ids in known.as_slice().iter().flat_map(|ids| sent.shared(*ids)) {
                fresh += work.state.settle(work.tx, ids, now_ms)?;
            }
            for ids in &forgotten {
                work.forgotten(*ids)?;
            }
            if !forgotten.is_empty() || work.state.unsaved > UNSAVED_MAX {
                work.trim()?;
                work.save()?;
            }
            Ok(fresh)
        })?;
        self.lanes.answered(&known);
        if !forgotten.is_empty() {
            tracing::error!("the aggregator has forgotten batches that it acknowledged; they are sent again or declared");
            self.lanes.clear();
        }
        Ok(fresh)
    }

    /// What the aggregator has of other epochs than `pushed`. One that was put back may have lost what it acknowledged under
    /// them, and nothing else would tell: nothing new is sent under these.
    pub(super) fn elsewhere(&mut self, pushed: [u8; 16], others: &[Elsewhere], now_ms: i64) -> Result<(), BufferError> {
        let mut held: Vec<[u8; 16]> = self.state.numbers.spans().iter().map(|span| span.epoch).filter(|epoch| *epoch != pushed).collect();
        held.dedup();
        for epoch in held {
            match others.iter().find(|other| other.epoch == epoch) {
                Some(other) => self.holes(other, now_ms)?,
                // There may be more than an ack tells of.
                None if others.len() >= ACK_STREAMS_MAX => {}
                None => self.holes(&Elsewhere { epoch, ..Elsewhere::default() }, now_ms)?,
            }
        }
        let known: Vec<([u8; 16], u64)> = self.state.confirmed.iter().copied().filter(|known| known.0 != pushed).collect();
        for (epoch, confirmed) in known {
            let cursor = others.iter().find(|other| other.epoch == epoch).map(|other| other.cursor);
            // There may be more than an ack tells of.
            let Some(cursor) = cursor.or((others.len() < ACK_STREAMS_MAX).then_some(0)) else { continue };
            self.state.confirm(epoch, cursor);
            let Some(lost) = Range::new(cursor.saturating_add(1), confirmed) else { continue };
            tracing::error!(
                epoch = keyvigil_common::hex(&epoch),
                cursor,
                "the aggregator has lost batches of an earlier epoch; they are sent again or declared"
            );
            let ids = self.state.numbers.ids(epoch, lost);
            self.write(now_ms, |work| {
                if ids.is_empty() {
                    // Nothing of it is held, not even its place.
                    work.lose(Class::Alert, 0, FORGOTTEN)?;
                }
                for ids in ids.into_iter().flat_map(|ids| work.state.settled.shared(ids)).collect::<Vec<_>>() {
                    work.forgotten(ids)?;
                }
                work.save()
            })?;
            self.lanes.clear();
        }
        Ok(())
    }

    /// What was acknowledged beyond the cursor of an epoch, and is lost, shows by no cursor; and once all before it was given up,
    /// nothing more is sent under that epoch by which the aggregator could notice.
    fn holes(&mut self, other: &Elsewhere, now_ms: i64) -> Result<(), BufferError> {
        let ids = |seqs: Option<Range>| seqs.map(|seqs| self.state.numbers.ids(other.epoch, seqs)).unwrap_or_default();
        let told_to = other.beyond.get(ACK_RANGES_MAX - 1).map_or(u64::MAX - 1, |last| last.last);
        let judged = ids(Range::new(other.cursor.saturating_add(1), told_to));
        let known: Ranges = other.beyond.iter().flat_map(|seqs| ids(Some(*seqs))).collect();
        let mut lost: Ranges = judged.into_iter().flat_map(|ids| self.state.settled.shared(ids)).flat_map(|ids| known.missing(ids)).collect();
        if lost.as_slice().is_empty() {
            return Ok(());
        }
        // What was given up was never there, and is told by records of its own. Before the floor these are forgotten.
        lost.remove(Range { first: 0, last: floor(&self.connection, &self.state)?.saturating_sub(1) });
        for ids in lost.as_slice().to_vec() {
            given_up(&self.connection, ids)?.as_slice().iter().for_each(|dropped| lost.remove(*dropped));
        }
        if lost.as_slice().is_empty() {
            return Ok(());
        }
        tracing::error!(epoch = keyvigil_common::hex(&other.epoch), "the aggregator has lost batches of an earlier epoch; they are sent again or declared");
        self.write(now_ms, |work| {
            lost.as_slice().iter().try_for_each(|ids| work.forgotten(*ids))?;
            work.save()
        })?;
        self.lanes.clear();
        Ok(())
    }

    /// The aggregator lacks number `expected`, which was not sent because it was acknowledged once.
    pub(super) fn missing(&mut self, epoch: [u8; 16], expected: u64, now_ms: i64) -> Result<(), BufferError> {
        let Some(ids) = self.state.numbers.ids(epoch, Range { first: expected, last: u64::MAX - 1 }).first().copied() else { return Ok(()) };
        // What it lacks may be more: it says so when the next push arrives. It may lie in a file that is away.
        let run = self.state.settled.shared(ids).first().copied().filter(|run| run.first == ids.first && self.state.numbers.seq(run.first) == expected);
        let Some(run) = run else { return Ok(()) };
        tracing::error!(first = expected, "the aggregator does not know what it acknowledged; it is sent again or declared");
        self.write(now_ms, |work| {
            work.forgotten(run)?;
            work.save()
        })?;
        self.lanes.clear();
        Ok(())
    }

    /// The aggregator has another batch under this number: what comes from there on counts anew.
    pub(super) fn forked(&mut self, epoch: [u8; 16], seq: u64, now_ms: i64) -> Result<(), BufferError> {
        let parts = self.state.numbers.ids(epoch, Range { first: seq, last: u64::MAX - 1 });
        if parts.is_empty() {
            return Ok(());
        }
        tracing::error!(seq, "the aggregator has another batch under this number: another agent counts under the same epoch; a new one begins");
        self.write(now_ms, |work| {
            parts.iter().try_for_each(|ids| work.fork(*ids))?;
            work.save()
        })?;
        self.lanes.clear();
        Ok(())
    }

    /// Gives up one batch that the aggregator will never take; whether it was one that was sent.
    pub(super) fn set_aside(&mut self, epoch: [u8; 16], seq: u64, cause: &str, now_ms: i64) -> Result<bool, BufferError> {
        let Some(ids) = self.state.numbers.ids(epoch, Range { first: seq, last: seq }).first().copied() else { return Ok(false) };
        // Who refuses what it never saw does not know what it says.
        if !self.lanes.handed().contains(&ids.first) {
            return Ok(false);
        }
        self.write(now_ms, |work| work.give_up(ids.first, cause))?;
        Ok(true)
    }

    /// Stores what acks said.
    pub(super) fn save(&mut self, now_ms: i64) -> Result<(), BufferError> {
        if self.state.unsaved == 0 {
            return Ok(());
        }
        self.write(now_ms, |work| {
            work.trim()?;
            work.save()
        })
    }
}

impl Work<'_> {
    /// What is held of `ids` waits again; the rest is declared.
    fn forgotten(&mut self, ids: Range) -> Result<(), BufferError> {
        self.state.unsettle(self.tx, ids)?;
        self.declare(ids, Class::Sample, FORGOTTEN)
    }

    /// From now on `ids`, the end of a span, count under a new epoch.
    fn fork(&mut self, ids: Range) -> Result<(), BufferError> {
        self.begin_epoch(ids.first)?;
        // What the old epoch settled is none of the new one's: it only jumps over it.
        for settled in self.state.settled.shared(ids) {
            self.state.unsettle(self.tx, settled)?;
            let sum = super::state::sums(self.tx, settled)?;
            self.state.waiting.take(sum);
            self.purge(settled, 0)?;
            self.drop_ids(settled)?;
        }
        self.part_gaps(ids.first)
    }

    /// Gaps that an epoch now divides become two; what they held is counted with the first.
    fn part_gaps(&mut self, first_id: u64) -> Result<(), BufferError> {
        let sql = "SELECT id FROM gap WHERE first < ?1 AND last >= ?1";
        let divided: Vec<i64> = self.tx.prepare_cached(sql)?.query_map([first_id.cast_signed()], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for id in divided {
            let sql = "INSERT INTO gap SELECT ?1, ?2, last, class, 0, at_ms, cause FROM gap WHERE id = ?3";
            self.tx.execute(sql, [self.state.next_gap, first_id.cast_signed(), id])?;
            let sql = "INSERT INTO told SELECT ?1, batch FROM told WHERE gap = ?2";
            self.tx.execute(sql, [self.state.next_gap, id])?;
            self.tx.execute("UPDATE gap SET last = ?1 - 1 WHERE id = ?2", [first_id.cast_signed(), id])?;
            self.state.next_gap += 1;
        }
        Ok(())
    }
}
