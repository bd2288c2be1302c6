//! What was found about the keys of a tenant, kept until a key changes or an end comes nearer. Looking anew costs time in
//! proportion to the inventory, so it is done at most for a twentieth of the time: of a fleet whose keys change all the
//! while, the answer is as old as that takes, and says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use keyvigil_common::finding::{FindingKind, Severity};
use serde::Serialize;

use super::finding::{self, Finding, Standing, View, quantum};
use super::{ByHost, Inventory, KeyRecord, Status, usage};
use crate::index::TenantId;
use keyvigil_common::clock::SharedClock;

/// Ends come nearer without any key changing.
const AGE_MAX_MS: i64 = 60_000;
/// Between two looks lies this many times what one takes.
const REST: i64 = 20;

/// What was found, and when.
#[derive(Debug, Default)]
pub struct Findings {
    /// When the keys were looked at, Unix ms.
    pub at_ms: i64,
    generation: u64,
    /// What the look took, ms.
    took_ms: i64,
    /// The worst first.
    pub all: Vec<Finding>,
    /// Positions in `all` of the findings of each key.
    by_key: HashMap<String, Vec<u32>>,
    /// Positions of the summaries of algorithms, by id.
    summaries: HashMap<String, u32>,
    standing: HashMap<String, Standing>,
    observed: ByHost,
}

/// How many findings there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All.
    pub total: usize,
    /// By kind, those that there are.
    pub by_kind: BTreeMap<&'static str, usize>,
    /// By severity.
    pub by_severity: BTreeMap<&'static str, usize>,
}

impl Findings {
    /// Looks at `keys`.
    #[must_use]
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a KeyRecord>, now_ms: i64) -> Self {
        Self::with(keys, ByHost::default(), now_ms)
    }

    /// Looks at `keys`, of whose use this is observed.
    #[must_use]
    pub fn with<'a>(keys: impl IntoIterator<Item = &'a KeyRecord>, observed: ByHost, now_ms: i64) -> Self {
        let view = View::new(keys, now_ms, Some(Arc::clone(&observed)));
        let all = finding::all(&view);
        let mut by_key: HashMap<String, Vec<u32>> = HashMap::new();
        let mut summaries = HashMap::new();
        for (at, found) in all.iter().enumerate() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            if found.kind == FindingKind::NotQuantumSafe {
                summaries.insert(found.id.clone(), at);
                continue;
            }
            for id in &found.keys {
                by_key.entry(id.clone()).or_default().push(at);
            }
        }
        Self { at_ms: now_ms, generation: 0, took_ms: 0, all, by_key, summaries, standing: view.standings(), observed }
    }

    /// Findings about one key, the worst first; the summaries of algorithms that it is counted in come last.
    pub fn about(&self, key: &KeyRecord) -> impl Iterator<Item = &Finding> {
        let summary = quantum::identity(key).and_then(|id| self.summaries.get(&id));
        self.own(key).chain(summary.and_then(|at| self.all.get(*at as usize)))
    }

    fn own(&self, key: &KeyRecord) -> impl Iterator<Item = &Finding> {
        self.by_key.get(&key.facts.id).into_iter().flatten().filter_map(|at| self.all.get(*at as usize))
    }

    /// Kinds of the findings about one key, as bits.
    #[must_use]
    pub fn kinds(&self, key: &KeyRecord) -> u32 {
        let summary = if quantum::is_concerned(key) { FindingKind::NotQuantumSafe.bit() } else { 0 };
        self.own(key).fold(summary, |bits, found| bits | found.kind.bit())
    }

    /// Kinds of the findings about one key, the worst first.
    #[must_use]
    pub fn named(&self, key: &KeyRecord) -> Vec<&'static str> {
        let mut named: Vec<&str> = Vec::new();
        let summary = quantum::is_concerned(key).then_some(FindingKind::NotQuantumSafe);
        for kind in self.own(key).map(|found| found.kind).chain(summary) {
            if !named.contains(&kind.as_str()) {
                named.push(kind.as_str());
            }
        }
        named
    }

    /// How much the worst of them matters.
    #[must_use]
    pub fn worst(&self, key: &KeyRecord) -> Option<Severity> {
        let own = self.own(key).map(|found| found.severity).max();
        own.or_else(|| quantum::is_concerned(key).then_some(Severity::Info))
    }

    /// How `key` stands, what the others tell about it included.
    #[must_use]
    pub fn status(&self, key: &KeyRecord, now_ms: i64) -> Status {
        match key.status(now_ms) {
            _ if self.revoked(key).is_some() => Status::Revoked,
            Status::Active | Status::Expired | Status::Removed if self.superseded_by(key).is_some() => Status::Superseded,
            status => status,
        }
    }

    /// When it was revoked, in whatever form, and what says so.
    #[must_use]
    pub fn revoked<'a>(&'a self, key: &'a KeyRecord) -> Option<(i64, Option<&'a str>)> {
        let own = key.revoked_ms.map(|at_ms| (at_ms, key.facts.revocation.as_deref()));
        let other = || self.standing.get(&key.facts.id)?.revoked.as_ref().map(|(at_ms, why)| (*at_ms, Some(why.as_str())));
        own.or_else(other)
    }

    /// The newer certificate that is in use in its stead.
    #[must_use]
    pub fn superseded_by(&self, key: &KeyRecord) -> Option<&str> {
        self.standing.get(&key.facts.id)?.superseded_by.as_deref()
    }

    /// When it ends with the chain that it needs, Unix ms; `None` where nobody waits for its end.
    #[must_use]
    pub fn end(&self, key: &KeyRecord, now_ms: i64) -> Option<i64> {
        let standing = self.standing.get(&key.facts.id);
        if !key.expiry_matters(now_ms) || standing.is_some_and(|s| s.superseded_by.is_some() || s.companion) {
            return None;
        }
        let chain = standing.and_then(|s| s.chain_end.as_ref()).map(|(end, _)| *end);
        key.facts.not_after_ms.into_iter().chain(chain).min()
    }

    /// The length of life by which nearness to its end is measured; `None` where it is measured in days.
    #[must_use]
    pub fn measure(&self, key: &KeyRecord) -> Option<i64> {
        finding::expiry::measure(key, self.standing.get(&key.facts.id).is_some_and(|s| s.renewed_so_soon))
    }

    /// When its chain ends, where that is before its own end.
    #[must_use]
    pub fn chain_end(&self, key: &KeyRecord) -> Option<i64> {
        self.standing.get(&key.facts.id)?.chain_end.as_ref().map(|(end, _)| *end)
    }

    /// Since when its use is observed on every host where its private half lies, Unix ms; `None`: it is not, or not any more, or there is
    /// none.
    #[must_use]
    pub fn observed_since(&self, key: &KeyRecord) -> Option<i64> {
        let since = |(host, lies): (&str, i64)| Some(self.observed.get(host).filter(|of| of.sees(self.at_ms))?.began_ms()?.max(lies));
        usage::lies(key).map(since).collect::<Option<Vec<i64>>>()?.into_iter().max()
    }

    /// Figures.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut out = Counts { total: self.all.len(), ..Counts::default() };
        out.by_severity.extend(Severity::ALL.map(|severity| (severity.as_str(), 0)));
        for found in &self.all {
            *out.by_kind.entry(found.kind.as_str()).or_default() += 1;
            *out.by_severity.entry(found.severity.as_str()).or_default() += 1;
        }
        out
    }

    fn is_fresh(&self, generation: u64, now_ms: i64) -> bool {
        let age = now_ms - self.at_ms;
        let changed = self.generation != generation;
        (0..AGE_MAX_MS.max(self.took_ms * REST)).contains(&age) && (!changed || age < self.took_ms * REST)
    }
}

/// What was found last, of each tenant.
#[derive(Debug, Default)]
pub(super) struct Current {
    kept: Mutex<HashMap<TenantId, Arc<Findings>>>,
    /// One look at a time: whoever comes meanwhile gets what it finds.
    looking: Mutex<()>,
}

impl Inventory {
    /// The findings of a tenant. Takes as long as it takes to look at every key where they are not kept: call it where
    /// waiting is allowed.
    #[must_use]
    pub fn findings(&self, tenant: TenantId, clock: &SharedClock) -> Arc<Findings> {
        if let Some(kept) = self.kept_findings(tenant, clock.now_ms()) {
            return kept;
        }
        let _one = self.current.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = clock.now_ms();
        if let Some(kept) = self.kept_findings(tenant, now_ms) {
            return kept;
        }
        let began = clock.monotonic();
        let (generation, keys) = self.all(tenant);
        let mut found = Findings::with(keys.iter().map(AsRef::as_ref), self.observed(tenant), now_ms);
        found.generation = generation;
        found.took_ms = i64::try_from(clock.monotonic().saturating_sub(began).as_millis()).unwrap_or(i64::MAX / REST);
        let found = Arc::new(found);
        self.current.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant, Arc::clone(&found));
        found
    }

    fn kept_findings(&self, tenant: TenantId, now_ms: i64) -> Option<Arc<Findings>> {
        let kept = self.current.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned()?;
        kept.is_fresh(self.generation(), now_ms).then_some(kept)
    }
}
