//! What each agent's streams have declared lost: an agent that was cut off tells a loss again, and may have made it longer by then.
//! Only what is new of it counts.

use keyvigil_common::sequence::{Range, Ranges};
use rusqlite::{Connection, params};

use super::StoreError;
use super::stream::{STREAM_KEPT_MS, Stream};
use super::tx::Tx;
use crate::index::TenantId;

/// Numbers that were declared lost together, and how many items they held; 0 where nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    range: Range,
    items: u64,
}

/// What of it lies in `within`: all, or by the share of its numbers.
fn share(told: Told, within: Range) -> u64 {
    let Some(both) = Range::new(told.range.first.max(within.first), told.range.last.min(within.last)) else { return 0 };
    let share = u128::from(told.items) * u128::from(both.count()) / u128::from(told.range.count());
    u64::try_from(share).unwrap_or(u64::MAX)
}

impl Tx<'_> {
    /// Declares `range` of a stream lost, with `items` in it. Returns the part that was not declared before, from its first to
    /// its last number, and how many items are new; `None` if all of it was.
    ///
    /// # Errors
    /// The database's.
    pub fn declare_lost(&self, stream: &Stream, range: Range, items: u64, now_ms: i64) -> Result<Option<(Range, u64)>, StoreError> {
        let Stream { tenant, agent, epoch } = stream;
        let known = touching(self.connection, stream, range)?;
        let new = known.iter().map(|told| told.range).collect::<Ranges>().missing(range);
        let (Some(first), Some(last)) = (new.first(), new.last()) else { return Ok(None) };
        let before = known.iter().fold(0u64, |sum, told| sum.saturating_add(share(*told, range)));
        let fresh = items.saturating_sub(before);
        for told in &known {
            let key = params![tenant, agent, epoch, told.range.first.cast_signed()];
            self.connection.prepare_cached("DELETE FROM lost WHERE tenant = ?1 AND agent = ?2 AND epoch = ?3 AND first = ?4")?.execute(key)?;
        }
        // One row for all that hangs together, so that rows never overlap.
        let all = known.iter().fold(Told { range, items: fresh }, |all, told| Told {
            range: Range { first: all.range.first.min(told.range.first), last: all.range.last.max(told.range.last) },
            items: all.items.saturating_add(told.items),
        });
        let items = i64::try_from(all.items).unwrap_or(i64::MAX);
        let row = params![tenant, agent, epoch, all.range.first.cast_signed(), all.range.last.cast_signed(), items, now_ms];
        self.connection.prepare_cached("INSERT INTO lost VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(row)?;
        Ok(Some((Range { first: first.first, last: last.last }, fresh)))
    }

    /// Lets an agent go on with what another told, which the same machine was before it joined again.
    pub(super) fn inherit_lost(&self, tenant: TenantId, from: &str, to: &str) -> Result<(), StoreError> {
        let sql = "INSERT OR IGNORE INTO lost SELECT tenant, ?3, epoch, first, last, items, told_ms FROM lost WHERE tenant = ?1 AND agent = ?2";
        self.connection.prepare_cached(sql)?.execute(params![tenant, from, to])?;
        Ok(())
    }

    /// Forgets what was told so long ago that nobody tells it again.
    pub(super) fn forget_lost(&self, now_ms: i64) -> Result<(), StoreError> {
        self.connection.prepare_cached("DELETE FROM lost WHERE told_ms < ?1")?.execute([now_ms - STREAM_KEPT_MS])?;
        Ok(())
    }
}

/// What was declared lost before and has numbers in `range`; ascending.
fn touching(connection: &Connection, stream: &Stream, range: Range) -> Result<Vec<Told>, StoreError> {
    // Rows do not overlap: of those that begin before the range, the last alone may reach into it.
    let sql = "SELECT first, last, items FROM lost WHERE tenant = ?1 AND agent = ?2 AND epoch = ?3 AND last >= ?4 AND first <= ?5
               AND first >= ifnull((SELECT max(first) FROM lost WHERE tenant = ?1 AND agent = ?2 AND epoch = ?3 AND first <= ?4), 0) ORDER BY first";
    let within = params![stream.tenant, stream.agent, stream.epoch, range.first.cast_signed(), range.last.cast_signed()];
    let number = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::cast_unsigned);
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(within, |row| Ok(Told { range: Range { first: number(row, 0)?, last: number(row, 1)? }, items: number(row, 2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
