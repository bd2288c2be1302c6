//! Series by name and tag, in memory; rebuilt from the store at start. Knows definitions, never values. Who asks gives a
//! [`Selector`]. Made for a million series: texts lie here once (`symbols`), a series is a row of numbers (`record`), and
//! who has which name or value is a bitmap (`postings`). Ids are never used again; the places that bitmaps hold are.

mod hashed;
mod inner;
mod order;
mod postings;
mod record;
mod select;
mod selector;
mod slab;
mod symbols;
mod tenant;

use std::borrow::Borrow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use keyvigil_common::sample::Series;
use roaring::RoaringBitmap;

use inner::Inner;
pub use selector::Selector;

/// Id of a series; 0 is none.
pub type SeriesId = u32;
/// Id of a tenant.
pub type TenantId = u32;

/// Keyed at random: names and values come from outside.
type HashState = std::hash::RandomState;

/// Series that are added, removed or written out under one lock, so that nobody waits for a million.
const CHUNK: usize = 4_096;

/// The series of all tenants.
#[derive(Default)]
pub struct Index(RwLock<Inner>);

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({} series)", self.len())
    }
}

impl Index {
    /// The id of a series, if it has one.
    #[must_use]
    pub fn id(&self, tenant: TenantId, series: &Series) -> Option<SeriesId> {
        self.read().id(tenant, series)
    }

    /// The series with an id.
    #[must_use]
    pub fn get(&self, id: SeriesId) -> Option<Arc<Series>> {
        self.read().series(id).map(Arc::new)
    }

    /// Sets for each series a number that those of its metric share.
    pub fn kins<'a>(&self, series: impl Iterator<Item = (SeriesId, &'a mut u32)>) {
        let inner = self.read();
        series.for_each(|(id, kin)| *kin = inner.name(id).unwrap_or(0));
    }

    /// Says of each id whether it is a counter's series.
    pub fn counters(&self, ids: impl Iterator<Item = SeriesId>, mut each: impl FnMut(bool)) {
        let inner = self.read();
        ids.for_each(|id| each(inner.is_counter(id)));
    }

    /// Adds what was committed to the store. A series or an id that is there already stays as it is.
    pub fn insert(&self, tenant: TenantId, id: SeriesId, series: impl Borrow<Series>) {
        self.write().insert(tenant, id, series.borrow());
    }

    /// Adds many. Readers see them come in steps, each in the order given.
    pub fn insert_many<S: Borrow<Series>>(&self, tenant: TenantId, all: impl IntoIterator<Item = (SeriesId, S)>) {
        let mut all = all.into_iter();
        loop {
            // Whatever makes the series runs without the lock.
            let chunk: Vec<_> = all.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                return;
            }
            let mut inner = self.write();
            chunk.iter().for_each(|(id, series)| inner.insert(tenant, *id, series.borrow()));
        }
    }

    /// Forgets series whose samples are gone; returns how many there were. Their ids must not be given to others.
    pub fn remove(&self, ids: impl IntoIterator<Item = SeriesId>) -> usize {
        let mut ids = ids.into_iter();
        let mut removed = 0;
        loop {
            let chunk: Vec<_> = ids.by_ref().take(CHUNK).collect();
            if chunk.is_empty() {
                break;
            }
            let mut inner = self.write();
            removed += chunk.iter().filter(|id| inner.remove(**id)).count();
        }
        if removed > 0 {
            self.write().trim();
        }
        removed
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of series of one tenant.
    #[must_use]
    pub fn per_tenant_len(&self, tenant: TenantId) -> usize {
        self.read().view(tenant).map_or(0, |view| view.tenant.all.len() as usize)
    }

    /// Bytes that the index takes, within a few percent. Looks at every posting: milliseconds for a million series.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.read().bytes()
    }

    /// The series that `selector` means, ordered by name, type and tags. More than `limit` are an error of the asker to
    /// handle: the first `limit + 1` in that order are returned then, always the same ones while nothing changes. A series
    /// that is added or removed meanwhile may be missing.
    #[must_use]
    pub fn select(&self, tenant: TenantId, selector: &Selector, limit: usize) -> Vec<(SeriesId, Arc<Series>)> {
        let ids = self.read().view(tenant).map_or_else(Vec::new, |view| view.first(selector, limit.saturating_add(1)));
        let mut out = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            let inner = self.read();
            out.extend(chunk.iter().filter_map(|id| Some((*id, Arc::new(inner.series(*id)?)))));
        }
        out
    }

    /// The ids of all series that `selector` means.
    #[must_use]
    pub fn ids(&self, tenant: TenantId, selector: &Selector) -> RoaringBitmap {
        self.read().view(tenant).map_or_else(RoaringBitmap::new, |view| view.ids(selector))
    }

    /// The ids of all series of all tenants.
    #[must_use]
    pub fn all_ids(&self) -> RoaringBitmap {
        self.read().all_ids()
    }

    /// How many series `selector` means.
    #[must_use]
    pub fn count(&self, tenant: TenantId, selector: &Selector) -> u64 {
        self.read().view(tenant).map_or(0, |view| view.count(selector))
    }

    /// Names of the series that `selector` means, each once, sorted.
    #[must_use]
    pub fn metric_names(&self, tenant: TenantId, selector: &Selector) -> Vec<Arc<str>> {
        self.read().view(tenant).map_or_else(Vec::new, |view| view.metric_names(selector))
    }

    /// Names of the tags of the series that `selector` means, each once, sorted.
    #[must_use]
    pub fn label_names(&self, tenant: TenantId, selector: &Selector) -> Vec<Arc<str>> {
        self.read().view(tenant).map_or_else(Vec::new, |view| view.label_names(selector))
    }

    /// Values of the tag `name` of the series that `selector` means, each once, sorted. A missing tag adds none.
    #[must_use]
    pub fn label_values(&self, tenant: TenantId, name: &str, selector: &Selector) -> Vec<Arc<str>> {
        self.read().view(tenant).map_or_else(Vec::new, |view| view.label_values(name, selector))
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
