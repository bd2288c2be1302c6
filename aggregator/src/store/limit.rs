//! Limits of series. What is known is always taken; of new series as many as fit, in the order they come; the others are
//! refused one by one, before a number is given: numbers of what was refused would be lost, and places in memory with them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use keyvigil_common::limits::SERIES_MAX;
use keyvigil_common::sample::Series;

use super::head::Samples;
use super::series::FRESH;
use super::{Shared, StoreError};
use crate::index::{SeriesId, TenantId};

/// Tag of an agent's series, and of what foreign senders say about a host.
const HOST: &str = "host";
/// Tag by which Prometheus tells whom it scraped; a source where there is no `host`.
const INSTANCE: &str = "instance";

/// How many series there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one tenant.
    pub per_tenant: usize,
    /// Of one agent: of one value of the tag `host`, or of `instance` where there is no `host`.
    pub per_agent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_tenant: 1_000_000, per_agent: 100_000 }
    }
}

/// The limit that a series met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// [`Limits::per_agent`].
    Agent,
    /// [`Limits::per_tenant`].
    Tenant,
    /// [`SERIES_MAX`], of all tenants together.
    All,
}

impl Limit {
    /// All of them, in the order in which they are looked at: whose fault it is comes before who suffers from it.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Tenant, Self::All];

    /// Name in the aggregator's own metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Tenant => "tenant",
            Self::All => "all",
        }
    }
}

impl Limits {
    /// Series that `limit` allows.
    #[must_use]
    pub fn max(self, limit: Limit) -> usize {
        match limit {
            Limit::Agent => self.per_agent,
            Limit::Tenant => self.per_tenant,
            Limit::All => SERIES_MAX,
        }
    }

    /// Why `series` was not made, and what to do.
    #[must_use]
    pub fn reason(self, limit: Limit, series: &Series) -> String {
        let max = self.max(limit);
        let advice = "remove a tag that has many values, or raise the limit";
        match (limit, source(series)) {
            (Limit::Agent, Some((tag, value))) => format!("{tag}={value:?} has {max} series, its limit (limits.series_per_agent): {advice}"),
            (Limit::Agent, None) => format!("the limit of {max} series (limits.series_per_agent) is reached: {advice}"),
            (Limit::Tenant, _) => format!("the tenant has {max} series, its limit (limits.series_per_tenant): {advice}"),
            (Limit::All, _) => format!("this aggregator has {max} series, as many as it can hold: remove a tag that has many values"),
        }
    }
}

/// Where a series comes from, as tag and value; an empty value is a missing tag.
pub(super) fn source(series: &Series) -> Option<(&'static str, &str)> {
    [HOST, INSTANCE].into_iter().find_map(|tag| series.tags.get(tag).filter(|value| !value.is_empty()).map(|value| (tag, value)))
}

/// What open transactions did that the index and the head do not show yet. Only the writing thread changes it.
#[derive(Debug, Default)]
pub(super) struct Pending {
    ids: HashMap<(TenantId, Series), SeriesId>,
    per_tenant: HashMap<TenantId, usize>,
    per_source: HashMap<(TenantId, &'static str, String), usize>,
    /// Rows of level 0 that the head does not have yet.
    pub(super) rows: Vec<(i64, Arc<Samples>)>,
    /// Series that are being forgotten: nobody may be given their ids again.
    pub(super) leaving: HashSet<SeriesId>,
}

impl Pending {
    pub(super) fn id(&self, tenant: TenantId, series: &Series) -> Option<SeriesId> {
        // Mostly there is nothing, and then no key is made.
        if self.ids.is_empty() { None } else { self.ids.get(&(tenant, series.clone())).copied() }
    }

    pub(super) fn insert(&mut self, tenant: TenantId, series: &Series, id: SeriesId) {
        if self.ids.insert((tenant, series.clone()), id).is_none() {
            *self.per_tenant.entry(tenant).or_default() += 1;
            if let Some((tag, value)) = source(series) {
                *self.per_source.entry((tenant, tag, value.to_owned())).or_default() += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, tenant: TenantId, series: Series) {
        if let Some((tag, value)) = source(&series) {
            less(&mut self.per_source, (tenant, tag, value.to_owned()));
        }
        if self.ids.remove(&(tenant, series)).is_some() {
            less(&mut self.per_tenant, tenant);
        }
    }

    fn of_source(&self, tenant: TenantId, (tag, value): (&'static str, &str)) -> usize {
        if self.per_source.is_empty() { 0 } else { self.per_source.get(&(tenant, tag, value.to_owned())).copied().unwrap_or(0) }
    }
}

fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

/// Places left for the new series of one request. Counted once for each source that it names, not for each series.
pub(super) struct Room<'a> {
    shared: &'a Shared,
    tenant: TenantId,
    all: usize,
    of_tenant: usize,
    of_source: HashMap<(&'static str, &'a str), usize>,
}

impl<'a> Room<'a> {
    pub(super) fn new(shared: &'a Shared, pending: &Pending, tenant: TenantId) -> Self {
        let numbers = FRESH.saturating_sub(*shared.next_series.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let all = SERIES_MAX.saturating_sub(shared.index.len() + pending.ids.len()).min(numbers as usize);
        let there = shared.index.per_tenant_len(tenant) + pending.per_tenant.get(&tenant).copied().unwrap_or(0);
        Self { shared, tenant, all, of_tenant: shared.limits.per_tenant.saturating_sub(there), of_source: HashMap::new() }
    }

    /// Takes a place for a new series.
    ///
    /// # Errors
    /// The limit that leaves none.
    pub(super) fn take(&mut self, pending: &Pending, series: &'a Series) -> Result<(), Limit> {
        let mut nobody = usize::MAX;
        let of_source = match source(series) {
            None => &mut nobody,
            Some(source) => self.of_source.entry(source).or_insert_with(|| {
                let without = (source.0 != HOST).then_some(HOST);
                let there = self.shared.index.tag_len(self.tenant, source, without) + pending.of_source(self.tenant, source);
                self.shared.limits.per_agent.saturating_sub(there)
            }),
        };
        let left = [(of_source, Limit::Agent), (&mut self.of_tenant, Limit::Tenant), (&mut self.all, Limit::All)];
        if let Some((_, limit)) = left.iter().find(|(left, _)| **left == 0) {
            return Err(*limit);
        }
        left.into_iter().for_each(|(left, _)| *left -= 1);
        Ok(())
    }
}

/// Ids that were found under an older generation may be those of series that were forgotten since.
pub(super) fn current(shared: &Shared, generation: u64) -> Result<(), StoreError> {
    if generation == shared.generation() { Ok(()) } else { Err(StoreError::Busy) }
}
