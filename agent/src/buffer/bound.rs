//! What is given up when there is no room: too old first, then the oldest of the lowest class. Each loss becomes a gap,
//! neighbours of one class and cause one gap together.

use keyvigil_common::sequence::Range;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Bounds, BufferError, Told};

/// Gives up what must go so that `incoming` more bytes fit. Returns how many batches.
pub(super) fn make_room(tx: &Connection, bounds: Bounds, incoming: u64, now_ms: i64) -> Result<u64, BufferError> {
    let mut given_up = 0;
    loop {
        let sql = "SELECT seq FROM batch WHERE at_ms < ?1 ORDER BY seq LIMIT 1";
        let old: Option<i64> = tx.prepare_cached(sql)?.query_row([now_ms - bounds.age_ms], |row| row.get(0)).optional()?;
        let Some(seq) = old else { break };
        give_up(tx, seq, "too old", now_ms)?;
        given_up += 1;
    }
    let held: i64 = tx.prepare_cached("SELECT ifnull(sum(bytes), 0) FROM batch")?.query_row([], |row| row.get(0))?;
    let mut held = held.cast_unsigned();
    while held + incoming > bounds.bytes {
        let sql = "SELECT seq, bytes FROM batch ORDER BY class DESC, seq LIMIT 1";
        let lowest: Option<(i64, i64)> = tx.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((seq, bytes)) = lowest else { break };
        give_up(tx, seq, "buffer full", now_ms)?;
        held = held.saturating_sub(bytes.cast_unsigned());
        given_up += 1;
    }
    Ok(given_up)
}

/// Gives up one batch and records it.
pub(super) fn give_up(tx: &Connection, seq: i64, cause: &str, now_ms: i64) -> Result<(), BufferError> {
    let sql = "DELETE FROM batch WHERE seq = ?1 RETURNING class, items";
    let gone: Option<(i64, i64)> = tx.prepare_cached(sql)?.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((class, items)) = gone else { return Ok(()) };
    record_gap(tx, seq, class, items, cause, now_ms)
}

/// Records that number `seq` will never come.
pub(super) fn record_gap(tx: &Connection, seq: i64, class: i64, items: i64, cause: &str, now_ms: i64) -> Result<(), BufferError> {
    let joined = tx.prepare_cached("UPDATE dropped SET last = ?1 WHERE last = ?1 - 1")?.execute([seq])?;
    if joined == 0 {
        tx.prepare_cached("INSERT INTO dropped VALUES (?1, ?1)")?.execute([seq])?;
    }
    let sql = "UPDATE gap SET last = ?1, items = items + ?2, at_ms = ?3 WHERE last = ?1 - 1 AND class = ?4 AND cause = ?5";
    let joined = tx.prepare_cached(sql)?.execute(params![seq, items, now_ms, class, cause])?;
    if joined == 0 {
        let sql = "INSERT INTO gap (first, last, class, items, at_ms, cause) VALUES (?1, ?1, ?2, ?3, ?4, ?5)";
        tx.prepare_cached(sql)?.execute(params![seq, class, items, now_ms, cause])?;
    }
    Ok(())
}

/// A batch tells of a gap: what it tells goes, what joined the gap since stays to be told.
pub(super) fn forget_told(tx: &Connection, told: &Told) -> Result<(), BufferError> {
    let (last, items) = (told.last.cast_signed(), told.items.cast_signed());
    tx.prepare_cached("DELETE FROM gap WHERE id = ?1 AND last <= ?2")?.execute(params![told.id, last])?;
    tx.prepare_cached("UPDATE gap SET first = ?2 + 1, items = items - ?3 WHERE id = ?1")?.execute(params![told.id, last, items])?;
    Ok(())
}

/// Records numbers that were acknowledged once and are asked for again.
pub(super) fn record_forgotten(tx: &Connection, range: Range, now_ms: i64) -> Result<(), BufferError> {
    let (first, last) = (range.first.cast_signed(), range.last.cast_signed());
    tx.prepare_cached("INSERT OR REPLACE INTO dropped VALUES (?1, ?2)")?.execute(params![first, last])?;
    let cause = "acknowledged before, and not known to the aggregator any more";
    let sql = "INSERT INTO gap (first, last, class, items, at_ms, cause) VALUES (?1, ?2, 2, 0, ?3, ?4)";
    tx.prepare_cached(sql)?.execute(params![first, last, now_ms, cause])?;
    Ok(())
}
