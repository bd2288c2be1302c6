//! What the inventory of keys shows to rules: ends that come near, and findings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyvigil_common::clock::SharedClock;

use crate::alert::expiry::{self, ExpiringKey};
use crate::alert::finding::{self, Fault};
use crate::alert::{Alert, Observation, Rule};
use crate::index::TenantId;
use crate::keys::{Findings, Inventory, KeyRecord, Status};

const DAY_MS: i64 = 86_400_000;

/// The inventory, for one evaluation.
#[derive(Debug)]
pub(super) struct Keys {
    keys: Vec<Arc<KeyRecord>>,
    found: Arc<Findings>,
}

impl Keys {
    /// Looks at the keys of a tenant.
    ///
    /// # Errors
    /// The process is ending.
    pub(super) async fn look(inventory: &Arc<Inventory>, tenant: TenantId, clock: &SharedClock) -> Result<Self, String> {
        let (inventory, clock) = (Arc::clone(inventory), Arc::clone(clock));
        let look = move || Self { found: inventory.findings(tenant, &clock), keys: inventory.all(tenant).1 };
        tokio::task::spawn_blocking(look).await.map_err(|e| e.to_string())
    }

    /// Of a `key_expiry` rule: the keys whose end is near enough for it, and those that it has told of.
    pub(super) fn ends(&self, rule: &Rule, befores: &BTreeMap<String, Alert>, now_ms: i64) -> Vec<Observation> {
        let told: BTreeSet<&str> = befores.values().filter_map(|alert| alert.tags.get("key")).collect();
        let horizon = now_ms + i64::from(rule.days.iter().copied().max().unwrap_or(0)) * DAY_MS;
        let near = |key: &&Arc<KeyRecord>| told.contains(key.facts.id.as_str()) || self.found.end(key, now_ms).is_some_and(|end| end <= horizon);
        let keys: Vec<ExpiringKey> = self.keys.iter().filter(near).map(|key| self.expiring(key, now_ms)).collect();
        expiry::observe(rule, &keys, now_ms)
    }

    fn expiring(&self, key: &KeyRecord, now_ms: i64) -> ExpiringKey {
        let end = self.found.end(key, now_ms);
        let status = match self.found.status(key, now_ms) {
            // Being told that it is revoked hides no end, as long as it lies somewhere.
            Status::Revoked if key.live().next().is_none() => Status::Removed,
            status => status,
        };
        ExpiringKey {
            id: key.facts.id.clone(),
            subject: key.facts.subject.clone().unwrap_or_default(),
            hosts: key.hosts().into_iter().map(str::to_owned).collect(),
            paths: key.live().map(|p| p.place.path.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
            not_after_ms: end.or(key.facts.not_after_ms).unwrap_or(i64::MAX),
            life_ms: self.found.measure(key),
            status: status.as_str().to_owned(),
            unneeded: end.is_none(),
            in_use: key.live().any(|p| p.place.served.is_some() || !p.place.used_by.is_empty()),
        }
    }

    /// Of a `finding` rule.
    pub(super) fn faults(&self, rule: &Rule, befores: &BTreeMap<String, Alert>) -> Vec<Observation> {
        let concerned = self.found.all.iter().filter(|found| finding::concerns(rule, found.kind, found.severity));
        let faults: Vec<Fault> = concerned
            .map(|found| Fault {
                id: found.id.clone(),
                kind: found.kind,
                severity: found.severity,
                title: found.title.clone(),
                remedy: found.remedy.clone(),
                hosts: found.hosts.clone(),
                key: found.keys.first().cloned(),
            })
            .collect();
        finding::observe(rule, &faults, befores)
    }
}
