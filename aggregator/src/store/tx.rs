//! One transaction as its users see it: settle a stream, append samples. What it changes in memory (index, head, caches)
//! waits as [`Effects`] until the commit succeeded. Ledger verbs are in `ledger`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use keyvigil_common::limits::SERIES_MAX;
use keyvigil_common::sample::Series;
use keyvigil_common::seal::KeyRing;
use keyvigil_common::sequence::{Range, Ranges, Verdict, judge};
use keyvigil_common::wire::{self, Batch};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Point, Shared, StoreError};
use crate::index::{SeriesId, TenantId};

/// Counters that began at most this long before their first sample get a zero at their start, ms.
const COUNTER_START_MS_MAX: i64 = 3_600_000;
/// Hashes kept of each stream: what an agent may resend after a lost ack.
const SETTLED_KEPT: u64 = 4_096;

/// Series made in transactions that are not committed yet; only the writing thread adds.
pub(crate) type Pending = HashMap<(TenantId, Series), SeriesId>;

/// Samples by series.
type Samples = Vec<(SeriesId, Vec<Point>)>;

/// An open transaction.
pub struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) shared: &'a Arc<Shared>,
    effects: RefCell<Effects>,
}

/// Where a batch comes from.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Tenant.
    pub tenant: TenantId,
    /// Agent.
    pub agent: String,
    /// Identity of the agent's buffer.
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

/// Changes to memory that follow the commit.
pub(super) struct Effects {
    shared: Arc<Shared>,
    series: Vec<(TenantId, Series, SeriesId)>,
    rows: Vec<(i64, Samples)>,
    others: Vec<Box<dyn FnOnce() + Send>>,
}

impl Effects {
    /// Makes what was committed visible.
    pub(super) fn apply(mut self) {
        for of_tenant in self.series.chunk_by(|a, b| a.0 == b.0) {
            let tenant = of_tenant.first().map_or(0, |made| made.0);
            self.shared.index.insert_many(tenant, of_tenant.iter().map(|(_, series, id)| (*id, series)));
        }
        for (row, samples) in self.rows.drain(..) {
            self.shared.head.append(row, samples);
        }
        self.others.drain(..).for_each(|effect| effect());
    }
}

impl Drop for Effects {
    /// Committed or not, nothing of it is pending any more.
    fn drop(&mut self) {
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for (tenant, series, _) in self.series.drain(..) {
            pending.remove(&(tenant, series));
        }
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}

impl<'a> Tx<'a> {
    pub(super) fn new(connection: &'a Connection, shared: &'a Arc<Shared>) -> Self {
        let effects = Effects { shared: Arc::clone(shared), series: Vec::new(), rows: Vec::new(), others: Vec::new() };
        Self { connection, shared, effects: RefCell::new(effects) }
    }

    pub(super) fn into_effects(self) -> Effects {
        self.effects.into_inner()
    }

    /// Runs `effect` once the transaction is committed, in the order of commits.
    pub fn after_commit(&self, effect: impl FnOnce() + Send + 'static) {
        self.effects.borrow_mut().others.push(Box::new(effect));
    }

    /// The tenant's id; made if it is new.
    ///
    /// # Errors
    /// The database's.
    pub fn tenant(&self, name: &str) -> Result<TenantId, StoreError> {
        self.connection.prepare_cached("INSERT OR IGNORE INTO tenant (name) VALUES (?1)")?.execute([name])?;
        Ok(self.connection.prepare_cached("SELECT id FROM tenant WHERE name = ?1")?.query_row([name], |row| row.get(0))?)
    }

    /// Decides on batch `seq` of a stream, and moves the stream's cursor if it is new. `dropped`: what the sender gave up.
    ///
    /// # Errors
    /// [`StoreError::Gap`] and [`StoreError::Fork`].
    pub fn settle(&self, stream: &Stream, seq: u64, hash: &[u8; 32], dropped: &[Range]) -> Result<Settled, StoreError> {
        let cursor = self.cursor(stream)?;
        let mut declared = Ranges::default();
        dropped.iter().for_each(|range| declared.insert(*range));
        match judge(cursor, seq, &declared) {
            Verdict::Gap(expected) => Err(StoreError::Gap { expected, got: seq }),
            Verdict::Repeat => {
                let known: Option<Vec<u8>> = self
                    .connection
                    .prepare_cached("SELECT hash FROM settled WHERE tenant = ?1 AND agent = ?2 AND epoch = ?3 AND seq = ?4")?
                    .query_row(params![stream.tenant, stream.agent, stream.epoch, signed(seq)], |row| row.get(0))
                    .optional()?;
                match known {
                    Some(known) if known != hash => Err(StoreError::Fork(seq)),
                    _ => Ok(Settled::Repeat),
                }
            }
            Verdict::Apply => {
                let at = params![stream.tenant, stream.agent, stream.epoch, signed(seq), hash];
                self.connection.prepare_cached("INSERT INTO settled VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(at)?;
                let at = params![stream.tenant, stream.agent, stream.epoch, signed(seq)];
                self.connection
                    .prepare_cached(
                        "INSERT INTO stream VALUES (?1, ?2, ?3, ?4, 1)
                         ON CONFLICT DO UPDATE SET cursor = excluded.cursor, batches = batches + 1",
                    )?
                    .execute(at)?;
                let old = params![stream.tenant, stream.agent, stream.epoch, signed(seq.saturating_sub(SETTLED_KEPT))];
                self.connection.prepare_cached("DELETE FROM settled WHERE tenant = ?1 AND agent = ?2 AND epoch = ?3 AND seq <= ?4")?.execute(old)?;
                Ok(Settled::New)
            }
        }
    }

    /// Last sequence number settled of a stream; 0 for none.
    ///
    /// # Errors
    /// The database's.
    pub fn cursor(&self, stream: &Stream) -> Result<u64, StoreError> {
        let found: Option<i64> = self
            .connection
            .prepare_cached("SELECT cursor FROM stream WHERE tenant = ?1 AND agent = ?2 AND epoch = ?3")?
            .query_row(params![stream.tenant, stream.agent, stream.epoch], |row| row.get(0))
            .optional()?;
        Ok(found.map_or(0, i64::cast_unsigned))
    }

    /// Appends the samples of a batch as a level-0 row. Each series gets the tag `host`, where `host` is given.
    ///
    /// # Errors
    /// Too many series, or the database's.
    pub fn append(&self, tenant: TenantId, host: Option<&str>, batch: &Batch, frame: &[u8]) -> Result<(), StoreError> {
        if batch.groups.is_empty() {
            return Ok(());
        }
        let ids = batch.series.iter().map(|series| self.series_id(tenant, &tagged(series, host))).collect::<Result<Vec<_>, _>>()?;
        let row = self.shared.next_row.fetch_add(1, Ordering::Relaxed);
        let host = host.unwrap_or_default();
        let mut plain = Vec::with_capacity(2 + host.len() + frame.len());
        plain.extend_from_slice(&u16::try_from(host.len()).unwrap_or(0).to_le_bytes());
        plain.extend_from_slice(host.as_bytes());
        plain.extend_from_slice(frame);
        let body = self.shared.ring.seal(&plain, format!("level0:{tenant}:{row}").as_bytes())?;
        self.connection.prepare_cached("INSERT INTO level0 VALUES (?1, ?2, ?3)")?.execute(params![row, tenant, body])?;
        let samples = points(self.shared, batch, &ids);
        self.effects.borrow_mut().rows.push((row, samples));
        Ok(())
    }

    fn series_id(&self, tenant: TenantId, series: &Series) -> Result<SeriesId, StoreError> {
        if let Some(id) = self.shared.index.id(tenant, series) {
            return Ok(id);
        }
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant, series.clone());
        if let Some(id) = pending.get(&key) {
            return Ok(*id);
        }
        if self.shared.index.len() + pending.len() >= SERIES_MAX {
            return Err(StoreError::TooManySeries { max: SERIES_MAX, series: series.to_string() });
        }
        let next: SeriesId = self.connection.prepare_cached("SELECT ifnull(max(id), 0) + 1 FROM series")?.query_row([], |row| row.get(0))?;
        let plain = series_json(series)?;
        let body = self.shared.ring.seal(&plain, format!("series:{next}").as_bytes())?;
        self.connection.prepare_cached("INSERT INTO series VALUES (?1, ?2, ?3)")?.execute(params![next, tenant, body])?;
        pending.insert(key, next);
        self.effects.borrow_mut().series.push((tenant, series.clone(), next));
        Ok(next)
    }

    /// Deletes level-0 rows that are blocks now.
    pub(super) fn forget_level0(&self, through: i64) -> Result<(), StoreError> {
        self.connection.prepare_cached("DELETE FROM level0 WHERE id <= ?1")?.execute([through])?;
        Ok(())
    }
}

/// Sequence numbers are stored with their bits as they are.
fn signed(seq: u64) -> i64 {
    seq.cast_signed()
}

fn tagged(series: &Series, host: Option<&str>) -> Series {
    let mut series = series.clone();
    if let Some(host) = host {
        series.tags.set("host", host);
    }
    series
}

/// A series as JSON: stored for years, so not in the wire's form.
fn series_json(series: &Series) -> Result<Vec<u8>, StoreError> {
    Ok(serde_json::to_vec(series)?)
}

pub(super) fn open_series(ring: &KeyRing, id: SeriesId, body: &[u8]) -> Result<Series, StoreError> {
    Ok(serde_json::from_slice(&ring.unseal(body, format!("series:{id}").as_bytes())?)?)
}

/// Samples of a stored level-0 row, by series.
pub(super) fn open_level0(shared: &Shared, tenant: TenantId, row: i64, body: &[u8]) -> Result<Samples, StoreError> {
    let plain = shared.ring.unseal(body, format!("level0:{tenant}:{row}").as_bytes())?;
    let (head, rest) = plain.split_at_checked(2).ok_or(wire::WireError::Truncated)?;
    let length = usize::from(u16::from_le_bytes([head[0], head[1]]));
    let (host, frame) = rest.split_at_checked(length).ok_or(wire::WireError::Truncated)?;
    let host = std::str::from_utf8(host).ok().filter(|h| !h.is_empty());
    let batch = wire::decode_batch(frame)?;
    let ids: Vec<SeriesId> = batch.series.iter().map(|series| shared.index.id(tenant, &tagged(series, host)).unwrap_or(0)).collect();
    Ok(points(shared, &batch, &ids))
}

/// The batch's samples by series id; a counter that just began gets its zero.
fn points(shared: &Shared, batch: &Batch, ids: &[SeriesId]) -> Samples {
    let mut out = Vec::with_capacity(batch.series.len());
    for group in &batch.groups {
        for column in &group.columns {
            let id = ids.get(column.series as usize).copied().unwrap_or(0);
            let Some(first) = group.times.first().copied().filter(|_| id != 0) else { continue };
            let mut points = Vec::with_capacity(group.times.len() + 1);
            let known_until = shared.head.latest(id).map_or(i64::MIN, |p| p.0);
            let began = column.start_ms;
            if began > 0 && began < first && began > known_until && first - began <= COUNTER_START_MS_MAX {
                points.push((began, 0.0));
            }
            points.extend(group.times.iter().copied().zip(column.values.iter().copied()));
            out.push((id, points));
        }
    }
    out
}
