//! What of each agent's stream is settled, and by which bytes: a repeat is told from a fork, and what comes ahead is taken only
//! if all before it is stored, declared lost, or declared to come. A push opens its stream once.

use keyvigil_common::limits::STREAM_RANGES_MAX;
use keyvigil_common::sequence::{Range, Ranges, Standing, Verdict};
use keyvigil_common::wire::{ACK_RANGES_MAX, Elsewhere};
use rusqlite::{OptionalExtension, params};

use super::StoreError;
use super::tx::Tx;
use crate::index::TenantId;

/// A number as SQLite keeps it.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

/// Hashes kept of each stream behind its cursor: what an agent may send again.
const SETTLED_KEPT: u64 = 4_096;
/// A stream that was not heard of for so long, ms, is forgotten: the buffer that counted it keeps nothing that long.
pub(super) const STREAM_KEPT_MS: i64 = 90 * 86_400_000;
/// Streams of one agent that are remembered, the last heard of: each start after a kill begins one, and an agent that is killed
/// again and again holds but a few of them still.
const STREAMS_MAX: i64 = 1_024;

/// Where a batch comes from.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Tenant.
    pub tenant: TenantId,
    /// Agent.
    pub agent: String,
    /// Identity of what counts its batches.
    pub epoch: [u8; 16],
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is new and must be stored.
    New,
    /// It was stored before.
    Repeat,
}

/// What a push says of the numbers that it jumps over.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// Given up.
    pub dropped: Ranges,
    /// To come with another push.
    pub waiting: Ranges,
}

/// A stream while a push is being settled.
#[derive(Debug)]
pub struct Settling<'t, 'a> {
    tx: &'t Tx<'a>,
    stream: &'t Stream,
    declared: &'t Declared,
    standing: Standing,
    fresh: i64,
}

impl Settling<'_, '_> {
    /// Decides on batch `seq`, which holds `items`.
    ///
    /// # Errors
    /// [`StoreError::Gap`] and [`StoreError::Fork`].
    pub fn settle(&mut self, seq: u64, hash: &[u8; 32], items: u64) -> Result<Settled, StoreError> {
        let Stream { tenant, agent, epoch } = self.stream;
        match self.standing.judge(seq, &self.declared.dropped, &self.declared.waiting) {
            Verdict::Gap(expected) => Err(StoreError::Gap { expected, got: seq }),
            Verdict::Repeat => {
                let sql = "SELECT hash FROM settled WHERE tenant = ?1 AND agent = ?2 AND epoch = ?3 AND seq = ?4";
                let known: Option<Vec<u8>> =
                    self.tx.connection.prepare_cached(sql)?.query_row(params![tenant, agent, epoch, signed(seq)], |row| row.get(0)).optional()?;
                // One whose bytes are not known any more, or that was declared lost, cannot be told from another: its sender must
                // count anew, and nothing is passed over in silence.
                if known.is_some_and(|known| known == hash) { Ok(Settled::Repeat) } else { Err(StoreError::Fork(seq)) }
            }
            Verdict::Apply => {
                let row = params![tenant, agent, epoch, signed(seq), hash, signed(items)];
                self.tx.connection.prepare_cached("INSERT INTO settled VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(row)?;
                if let Some(before) = Range::new(self.standing.cursor + 1, seq - 1) {
                    self.declared.dropped.shared(before).into_iter().for_each(|range| self.standing.settle(range));
                }
                self.standing.settle(Range { first: seq, last: seq });
                self.fresh += 1;
                Ok(Settled::New)
            }
        }
    }

    /// Stores how the stream stands now.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: its settled numbers lie in too many pieces.
    pub fn close(self, now_ms: i64) -> Result<Standing, StoreError> {
        let Self { tx, stream: Stream { tenant, agent, epoch }, standing, fresh, .. } = self;
        if fresh == 0 {
            return Ok(standing);
        }
        if standing.beyond.as_slice().len() > STREAM_RANGES_MAX {
            return Err(StoreError::Refused(format!("the batches of agent {agent} arrive in more than {STREAM_RANGES_MAX} pieces: send the oldest first")));
        }
        let beyond: Vec<u8> = standing.beyond.as_slice().iter().flat_map(|r| [r.first, r.last]).flat_map(u64::to_le_bytes).collect();
        let row = params![tenant, agent, epoch, signed(standing.cursor), fresh, beyond, now_ms];
        let sql = "INSERT INTO stream (tenant, agent, epoch, cursor, batches, beyond, seen_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT DO UPDATE SET cursor = excluded.cursor, batches = batches + excluded.batches, beyond = excluded.beyond, seen_ms = excluded.seen_ms";
        tx.connection.prepare_cached(sql)?.execute(row)?;
        let old = params![tenant, agent, epoch, signed(standing.cursor.saturating_sub(SETTLED_KEPT))];
        tx.connection.prepare_cached("DELETE FROM settled WHERE tenant = ?1 AND agent = ?2 AND epoch = ?3 AND seq <= ?4")?.execute(old)?;
        Ok(standing)
    }
}

impl<'a> Tx<'a> {
    /// Opens a stream to settle what a push brings, which says `declared` of what it jumps over.
    ///
    /// # Errors
    /// The database's.
    pub fn settling<'t>(&'t self, stream: &'t Stream, declared: &'t Declared) -> Result<Settling<'t, 'a>, StoreError> {
        Ok(Settling { tx: self, stream, declared, standing: self.standing(stream)?, fresh: 0 })
    }

    /// What of a stream is settled.
    ///
    /// # Errors
    /// The database's.
    pub fn standing(&self, stream: &Stream) -> Result<Standing, StoreError> {
        let sql = "SELECT cursor, beyond FROM stream WHERE tenant = ?1 AND agent = ?2 AND epoch = ?3";
        let found = self.connection.prepare_cached(sql)?.query_row(params![stream.tenant, stream.agent, stream.epoch], standing_of).optional()?;
        Ok(found.unwrap_or_default())
    }

    /// How the agent's other streams stand, the one that was heard of last first, at most `max`.
    ///
    /// # Errors
    /// The database's.
    pub fn other_streams(&self, stream: &Stream, max: usize) -> Result<Vec<Elsewhere>, StoreError> {
        let sql = "SELECT cursor, beyond, epoch FROM stream WHERE tenant = ?1 AND agent = ?2 AND epoch <> ?3 ORDER BY seen_ms DESC LIMIT ?4";
        let mut statement = self.connection.prepare_cached(sql)?;
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![stream.tenant, stream.agent, stream.epoch, max], |row| {
            let Standing { cursor, beyond } = standing_of(row)?;
            Ok(Elsewhere { epoch: row.get(2)?, cursor, beyond: beyond.as_slice().iter().take(ACK_RANGES_MAX).copied().collect() })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many of these numbers are stored, and what they held: an agent that was cut off may give up what had arrived.
    ///
    /// # Errors
    /// The database's.
    pub fn stored_of(&self, stream: &Stream, range: Range) -> Result<(u64, u64), StoreError> {
        let sql = "SELECT count(*), ifnull(sum(items), 0) FROM settled WHERE tenant = ?1 AND agent = ?2 AND epoch = ?3 AND seq BETWEEN ?4 AND ?5";
        let within = params![stream.tenant, stream.agent, stream.epoch, signed(range.first), signed(range.last)];
        let (count, items): (i64, i64) = self.connection.prepare_cached(sql)?.query_row(within, |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((count.cast_unsigned(), items.cast_unsigned()))
    }

    /// Lets an agent go on with the streams of another, which the same machine was before it joined again.
    ///
    /// # Errors
    /// The database's.
    pub fn inherit_streams(&self, tenant: TenantId, from: &str, to: &str) -> Result<(), StoreError> {
        let sql = "INSERT OR IGNORE INTO stream (tenant, agent, epoch, cursor, batches, beyond, seen_ms)
                   SELECT tenant, ?3, epoch, cursor, batches, beyond, seen_ms FROM stream WHERE tenant = ?1 AND agent = ?2";
        self.connection.prepare_cached(sql)?.execute(params![tenant, from, to])?;
        let sql = "INSERT OR IGNORE INTO settled (tenant, agent, epoch, seq, hash, items)
                   SELECT tenant, ?3, epoch, seq, hash, items FROM settled WHERE tenant = ?1 AND agent = ?2";
        self.connection.prepare_cached(sql)?.execute(params![tenant, from, to])?;
        self.inherit_lost(tenant, from, to)
    }

    /// Forgets streams that nobody goes on with: how many.
    ///
    /// # Errors
    /// The database's.
    pub fn forget_streams(&self, now_ms: i64) -> Result<usize, StoreError> {
        self.forget_lost(now_ms)?;
        let connection = self.connection;
        connection.prepare_cached("UPDATE stream SET seen_ms = ?1 WHERE seen_ms = 0")?.execute([now_ms])?;
        let place = "ROW_NUMBER() OVER (PARTITION BY tenant, agent ORDER BY seen_ms DESC)";
        let placed = format!("SELECT tenant, agent, epoch, seen_ms, {place} AS place FROM stream");
        let old = format!("SELECT tenant, agent, epoch FROM ({placed}) WHERE seen_ms < ?1 OR place > ?2");
        let bounds = [now_ms - STREAM_KEPT_MS, STREAMS_MAX];
        connection.prepare_cached("DROP TABLE IF EXISTS temp.forgotten")?.execute([])?;
        connection.prepare(&format!("CREATE TEMP TABLE forgotten AS {old}"))?.execute(bounds)?;
        connection.execute("DELETE FROM settled WHERE (tenant, agent, epoch) IN (SELECT * FROM temp.forgotten)", [])?;
        let forgotten = connection.execute("DELETE FROM stream WHERE (tenant, agent, epoch) IN (SELECT * FROM temp.forgotten)", [])?;
        connection.execute("DROP TABLE temp.forgotten", [])?;
        Ok(forgotten)
    }
}

/// Cursor and ranges of a row that begins with them.
fn standing_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Standing> {
    let (cursor, beyond): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let beyond = beyond.chunks_exact(16).map(|pair| Range { first: number(&pair[..8]), last: number(&pair[8..]) }).collect();
    Ok(Standing { cursor: cursor.cast_unsigned(), beyond })
}
