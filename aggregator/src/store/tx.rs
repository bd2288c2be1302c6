//! One transaction as its users see it: settle a stream, append samples. What it changes in memory (index, head, caches)
//! waits as [`Effects`] until the commit succeeded. Ledger verbs are in `ledger`.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use keyvigil_common::sample::Series;
use keyvigil_common::sequence::{Range, Ranges, Verdict, judge};
use keyvigil_common::wire::Batch;
use rusqlite::{Connection, OptionalExtension, params};

use super::head::Samples;
use super::level0::Rows;
use super::{Shared, StoreError, series, sqlite};
use crate::index::{SeriesId, TenantId};

/// Hashes kept of each stream: what an agent may resend after a lost ack.
const SETTLED_KEPT: u64 = 4_096;

/// Ids of the series of a dictionary, in its order.
pub type Ids = Arc<[SeriesId]>;

/// An open transaction.
pub struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) effects: RefCell<Effects>,
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
    pub(super) series: Vec<(TenantId, Series, SeriesId)>,
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
            self.shared.head.append(row, &samples);
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

    /// Ids of the series of a dictionary, with the tag `host` where it is given; new ones are made.
    ///
    /// # Errors
    /// Too many series, or the database's.
    pub fn resolve(&self, tenant: TenantId, host: Option<&str>, series: &[Series]) -> Result<Ids, StoreError> {
        Ok(self.series_ids(tenant, series, host)?.into())
    }

    /// Appends the samples of an agent's batch, and takes them out of it. `ids`: of its dictionary. `body`: the batch as
    /// [`super::Store::seal_batch`] sealed it.
    ///
    /// # Errors
    /// The database's.
    pub fn append_batch(&self, tenant: TenantId, batch: &mut Batch, ids: Ids, body: &[u8]) -> Result<(), StoreError> {
        if batch.groups.is_empty() {
            return Ok(());
        }
        self.append(tenant, body, Samples::Groups(std::mem::take(&mut batch.groups), ids))
    }

    /// Appends `rows`, in which the series of `fresh` are meant by their place in it and [`series::FRESH`]. `body`: the rows
    /// as they were sealed, if none is fresh. Returns the ids of `fresh`.
    ///
    /// # Errors
    /// Too many series, or the database's.
    pub(super) fn append_rows(&self, tenant: TenantId, mut rows: Rows, fresh: &[Series], body: Option<Vec<u8>>) -> Result<Vec<SeriesId>, StoreError> {
        let ids = self.series_ids(tenant, fresh, None)?;
        for run in &mut rows.runs {
            if run.series & series::FRESH != 0 {
                run.series = ids.get((run.series & !series::FRESH) as usize).copied().unwrap_or(0);
            }
        }
        let body = match body {
            Some(body) => body,
            None => self.shared.seal_level0(tenant, &rows.encode())?,
        };
        self.append(tenant, &body, Samples::Rows(rows))?;
        Ok(ids)
    }

    fn append(&self, tenant: TenantId, body: &[u8], samples: Samples) -> Result<(), StoreError> {
        // Numbered here, on the one writing thread: rows must come into memory in the order of their numbers.
        let row = self.shared.next_row.fetch_add(1, Ordering::Relaxed);
        self.connection.prepare_cached("INSERT INTO level0 VALUES (?1, ?2, ?3)")?.execute(params![row, tenant, body])?;
        self.effects.borrow_mut().rows.push((row, samples));
        Ok(())
    }

    /// Deletes level-0 rows that are blocks now. Returns how many pages of the database are free.
    pub(super) fn forget_level0(&self, through: i64) -> Result<i64, StoreError> {
        self.connection.prepare_cached("DELETE FROM level0 WHERE id <= ?1")?.execute([through])?;
        self.shrink(0)
    }

    /// Gives up to `pages` free pages back. Returns how many are left.
    pub(super) fn shrink(&self, pages: i64) -> Result<i64, StoreError> {
        if pages > 0 {
            sqlite::shrink(self.connection, pages)?;
        }
        Ok(self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?)
    }
}

/// Sequence numbers are stored with their bits as they are.
fn signed(seq: u64) -> i64 {
    seq.cast_signed()
}
