//! What the lock guards: records, the two ways to one record (by what it is, by id), and the postings of each tenant.

use std::collections::HashMap;
use std::hash::BuildHasher;

use keyvigil_common::sample::Series;
use roaring::RoaringBitmap;

use super::hashed::Hashed;
use super::record::Record;
use super::select::View;
use super::slab::Slab;
use super::symbols::Symbols;
use super::tenant::Tenant;
use super::{HashState, SeriesId, TenantId};

#[derive(Debug, Default)]
pub(super) struct Inner {
    symbols: Symbols,
    records: Slab<Record>,
    by_series: Hashed,
    /// The id itself is the hash.
    by_id: Hashed,
    tenants: HashMap<TenantId, Tenant>,
    hasher: HashState,
    /// What the records take outside the slab.
    record_bytes: usize,
}

impl Inner {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn id(&self, tenant: TenantId, series: &Series) -> Option<SeriesId> {
        let at = self.find(self.hash(tenant, series), tenant, series)?;
        self.records.get(at).map(Record::id)
    }

    pub(super) fn series(&self, id: SeriesId) -> Option<Series> {
        Some(self.records.get(self.place(id)?)?.series(&self.symbols))
    }

    /// The metric's name, as a symbol.
    pub(super) fn name(&self, id: SeriesId) -> Option<u32> {
        Some(self.records.get(self.place(id)?)?.name())
    }

    /// Whether it only grows, resets apart.
    pub(super) fn is_counter(&self, id: SeriesId) -> bool {
        self.place(id).and_then(|at| self.records.get(at)).is_some_and(Record::is_counter)
    }

    pub(super) fn all_ids(&self) -> RoaringBitmap {
        self.tenants.values().flat_map(|tenant| &tenant.all).filter_map(|at| self.records.get(at)).map(Record::id).collect()
    }

    pub(super) fn view(&self, tenant: TenantId) -> Option<View<'_>> {
        Some(View { tenant: self.tenants.get(&tenant)?, symbols: &self.symbols, records: &self.records })
    }

    pub(super) fn insert(&mut self, tenant: TenantId, id: SeriesId, series: &Series) {
        let hash = self.hash(tenant, series);
        if self.place(id).is_some() || self.find(hash, tenant, series).is_some() {
            return;
        }
        let record = Record::new(id, tenant, series, &mut self.symbols);
        self.record_bytes += record.bytes();
        let at = self.records.insert(record);
        self.by_series.insert(hash, at);
        self.by_id.insert(id, at);
        if let Some(record) = self.records.get(at) {
            self.tenants.entry(tenant).or_default().insert(at, record, &self.symbols);
        }
    }

    /// Whether there was one with this id.
    pub(super) fn remove(&mut self, id: SeriesId) -> bool {
        let Some((at, record)) = self.place(id).and_then(|at| Some((at, self.records.take(at)?))) else { return false };
        self.record_bytes -= record.bytes();
        let hash = self.hash(record.tenant(), &record.series(&self.symbols));
        self.by_series.remove(hash, at);
        self.by_id.remove(id, at);
        if let Some(tenant) = self.tenants.get_mut(&record.tenant()) {
            tenant.remove(at, &record, &self.symbols);
            if tenant.all.is_empty() {
                self.tenants.remove(&record.tenant());
            }
        }
        record.release(&mut self.symbols);
        true
    }

    /// Gives back memory that has become too much.
    pub(super) fn trim(&mut self) {
        self.symbols.trim();
        self.records.trim();
        self.by_series.trim();
        self.by_id.trim();
        self.tenants.values_mut().for_each(Tenant::trim);
    }

    pub(super) fn bytes(&self) -> usize {
        let own = size_of::<Self>() + self.symbols.bytes() + self.records.bytes() + self.by_series.bytes() + self.by_id.bytes();
        own + self.record_bytes + self.tenants.values().map(Tenant::bytes).sum::<usize>()
    }

    fn place(&self, id: SeriesId) -> Option<u32> {
        self.by_id.find(id, |_| true)
    }

    fn find(&self, hash: u32, tenant: TenantId, series: &Series) -> Option<u32> {
        self.by_series.find(hash, |at| self.records.get(at).is_some_and(|record| record.is(tenant, series, &self.symbols)))
    }

    fn hash(&self, tenant: TenantId, series: &Series) -> u32 {
        self.hasher.hash_one((tenant, series)) as u32
    }
}
