//! One transaction as its users see it: settle a stream, append samples. What it changes in memory (index, head, caches)
//! waits as [`Effects`] until the commit succeeded. Ledger verbs are in `ledger`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use keyvigil_common::sample::Series;
use keyvigil_common::wire::Batch;
use rusqlite::{Connection, params};

use super::head::Samples;
use super::level0::{Rows, Run};
use super::limit::{Limit, current};
use super::{Shared, StoreError, series, sqlite};
use crate::index::{SeriesId, TenantId};

/// Ids of the series of a dictionary, in its order; 0 for those that were refused.
pub type Ids = Arc<[SeriesId]>;

/// What a dictionary of series is in the store.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Ids, in its order.
    pub ids: Ids,
    /// Places of the new series that did not fit, ascending, and the limit each met.
    pub refused: Arc<[(u32, Limit)]>,
    /// Generation of the ids: later, one of them may be forgotten.
    pub generation: u64,
}

impl Resolved {
    /// The limit that keeps out the series at `place`, if one does.
    #[must_use]
    pub fn refusal(&self, place: u32) -> Option<Limit> {
        self.refused.binary_search_by_key(&place, |refused| refused.0).ok().map(|at| self.refused[at].1)
    }
}

/// Samples that a limit kept out of rows: one entry for each run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefusedRun {
    /// Its place among the runs.
    pub(crate) run: u32,
    /// Place of its series among those that were new.
    pub(crate) fresh: u32,
    /// Its samples.
    pub(crate) samples: u32,
    /// Why.
    pub(crate) limit: Limit,
}

/// What became of rows.
#[derive(Debug)]
pub(crate) struct Appended {
    /// What became of their new series.
    pub(crate) resolved: Resolved,
    /// Runs that were not stored, ascending.
    pub(crate) refused: Vec<RefusedRun>,
    /// The series that were new to the sender's intake, given back.
    pub(crate) fresh: Vec<Series>,
}

/// An open transaction.
pub struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) effects: RefCell<Effects>,
}

/// Changes to memory that follow the commit.
pub(super) struct Effects {
    shared: Arc<Shared>,
    pub(super) series: Vec<(TenantId, Series, SeriesId)>,
    rows: Vec<(i64, Arc<Samples>)>,
    /// Series that are being forgotten.
    pub(super) leaving: Vec<SeriesId>,
    others: Vec<Box<dyn FnOnce() + Send>>,
}

impl Effects {
    /// Makes what was committed visible.
    pub(super) fn apply(mut self) {
        // In one step: what is known and pending would count twice.
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for of_tenant in self.series.chunk_by(|a, b| a.0 == b.0) {
            let tenant = of_tenant.first().map_or(0, |made| made.0);
            self.shared.index.insert_many(tenant, of_tenant.iter().map(|(_, series, id)| (*id, series)));
        }
        for (tenant, series, _) in self.series.drain(..) {
            pending.remove(tenant, series);
        }
        drop(pending);
        for (row, samples) in &self.rows {
            self.shared.head.append(*row, samples);
        }
        self.shared.index.remove(self.leaving.iter().copied());
        self.others.drain(..).for_each(|effect| effect());
    }
}

impl Drop for Effects {
    /// Committed or not, nothing of it is pending any more.
    fn drop(&mut self) {
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for (tenant, series, _) in self.series.drain(..) {
            pending.remove(tenant, series);
        }
        if let [first, ..] = self.rows.as_slice() {
            let own = first.0..=self.rows.last().map_or(first.0, |last| last.0);
            pending.rows.retain(|row| !own.contains(&row.0));
        }
        for id in &self.leaving {
            pending.leaving.remove(id);
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
        let effects = Effects { shared: Arc::clone(shared), series: Vec::new(), rows: Vec::new(), leaving: Vec::new(), others: Vec::new() };
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

    /// Ids of the series of a dictionary, with the tag `host` where it is given; new ones are made as far as the limits allow.
    ///
    /// # Errors
    /// The database's.
    pub fn resolve(&self, tenant: TenantId, host: Option<&str>, series: &[Series]) -> Result<Resolved, StoreError> {
        self.series_ids(tenant, series, host)
    }

    /// Appends the samples of an agent's batch, and takes them out of it. `resolved`: its dictionary. `body`: the batch as
    /// [`super::Store::seal_batch`] sealed it. Samples of refused series are left out. Returns how many that were, by limit.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where the ids are of an older generation; the database's.
    pub fn append_batch(&self, tenant: TenantId, batch: &mut Batch, resolved: &Resolved, body: &[u8]) -> Result<BTreeMap<Limit, u64>, StoreError> {
        current(self.shared, resolved.generation)?;
        let mut refused = BTreeMap::new();
        if batch.groups.is_empty() {
            return Ok(refused);
        }
        if !resolved.refused.is_empty() {
            for (group, column) in batch.groups.iter().flat_map(|group| group.columns.iter().map(move |column| (group, column))) {
                if let Some(limit) = resolved.refusal(column.series) {
                    *refused.entry(limit).or_default() += group.times.len() as u64;
                }
            }
        }
        let samples = Samples::Groups(std::mem::take(&mut batch.groups), Arc::clone(&resolved.ids));
        if refused.is_empty() {
            self.append(tenant, body, samples)?;
            return Ok(refused);
        }
        // Not the frame: what was refused would take room on disk, and come back after a start if its series has an id by then.
        if let Samples::Rows(rows) = samples.only(|_| true)
            && !rows.is_empty()
        {
            self.append(tenant, &self.shared.seal_level0(tenant, &rows.encode())?, Samples::Rows(rows))?;
        }
        Ok(refused)
    }

    /// Appends `rows`, in which the series of `fresh` are meant by their place in it and [`series::FRESH`]; the other ids are
    /// of `generation`. `body`: the rows as they were sealed, if none is fresh. Runs of series that do not fit are left out.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where the ids are of an older generation; the database's.
    pub(super) fn append_rows(&self, tenant: TenantId, rows: Rows, fresh: Vec<Series>, generation: u64, body: Option<Vec<u8>>) -> Result<Appended, StoreError> {
        current(self.shared, generation)?;
        let resolved = self.series_ids(tenant, &fresh, None)?;
        let (rows, refused) = settled(rows, &resolved);
        if !rows.is_empty() {
            let body = match body {
                Some(body) => body,
                None => self.shared.seal_level0(tenant, &rows.encode())?,
            };
            self.append(tenant, &body, Samples::Rows(rows))?;
        }
        Ok(Appended { resolved, refused, fresh })
    }

    fn append(&self, tenant: TenantId, body: &[u8], samples: Samples) -> Result<(), StoreError> {
        // Numbered here, on the one writing thread: rows must come into memory in the order of their numbers.
        let row = self.shared.next_row.fetch_add(1, Ordering::Relaxed);
        self.connection.prepare_cached("INSERT INTO level0 VALUES (?1, ?2, ?3)")?.execute(params![row, tenant, body])?;
        let samples = Arc::new(samples);
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).rows.push((row, Arc::clone(&samples)));
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

/// Puts ids where places among the new series were, and takes out the runs of those that have none.
fn settled(mut rows: Rows, resolved: &Resolved) -> (Rows, Vec<RefusedRun>) {
    let mut refused = Vec::new();
    let mut from = 0;
    for (run, at) in (0..).zip(&mut rows.runs) {
        if at.series & series::FRESH != 0 {
            let fresh = at.series & !series::FRESH;
            at.series = resolved.ids.get(fresh as usize).copied().unwrap_or(0);
            if let Some(limit) = resolved.refusal(fresh) {
                refused.push(RefusedRun { run, fresh, samples: at.end - from, limit });
            }
        }
        from = at.end;
    }
    if refused.is_empty() {
        return (rows, refused);
    }
    let mut kept = Rows::default();
    for (run, times, values) in rows.runs().filter(|(run, ..)| run.series != 0) {
        kept.times.extend_from_slice(times);
        kept.values.extend_from_slice(values);
        kept.runs.push(Run { end: u32::try_from(kept.times.len()).unwrap_or(u32::MAX), ..*run });
    }
    (kept, refused)
}
