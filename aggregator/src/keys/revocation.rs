//! What is revoked over the whole fleet: a list that lies on one host, or that the aggregator fetched, revokes a certificate
//! wherever it lies. Pure, but for the inventory that it reads. Called by the chore of that name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use keyvigil_common::config::Period;
use keyvigil_common::crl::Lines;
use keyvigil_common::event::EventKind;
use keyvigil_common::key::KeyKind;
use keyvigil_common::revocation::{Lists, Revocation};
use serde::{Deserialize, Serialize};

use super::{EventRecord, Inventory, KeyRecord, Places};
use crate::index::TenantId;

/// Hosts that an event names.
const HOSTS_NAMED: usize = 20;

/// `[revocation]`: lists that the aggregator fetches. Those that lie on hosts are found by their agents.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct RevocationConfig {
    /// Where they are.
    pub crls: Vec<CrlSource>,
    /// How often they are fetched; sooner where one is due to be replaced.
    pub interval: Period,
}

/// One list to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlSource {
    /// `http://` or `https://`.
    pub url: String,
    /// File with the certificate that signed it, PEM or DER. Needed for `http://`, where everyone on the way could write another.
    #[serde(default)]
    pub issuer: Option<PathBuf>,
}

impl Default for RevocationConfig {
    fn default() -> Self {
        Self { crls: Vec::new(), interval: Period::seconds(3_600) }
    }
}

impl RevocationConfig {
    /// What is wrong with it.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for CrlSource { url, issuer } in &self.crls {
            let at = format!("revocation.crls {url:?}");
            match reqwest::Url::parse(url).map(|url| url.scheme().to_owned()).as_deref() {
                Ok("https") => {}
                Ok("http") if issuer.is_some() => {}
                Ok("http") => faults.push(format!("{at}: name in `issuer` the certificate that signs it: over http everyone on the way could write another")),
                _ => faults.push(format!("{at}: is not an address that begins with http:// or https://")),
            }
        }
        if self.interval.0.as_secs() < 1 {
            faults.push("revocation.interval: must be at least 1s".into());
        }
        faults
    }
}

/// The lists that lie on hosts.
#[must_use]
pub fn lists_of(inventory: &Inventory, tenant: TenantId) -> Lists {
    let mut lists = Lists::default();
    inventory.each(tenant, |key| {
        let at = key.places.iter().find(|place| !place.gone);
        if let Some(at) = at.filter(|_| key.facts.kind == KeyKind::Crl && !key.facts.revokes.is_empty()) {
            lists.add(format!("{} of {}", at.place.path, at.host), &key.facts, &Arc::new(Lines::of(&key.facts.revokes)));
        }
    });
    lists
}

/// Ids of the keys of which the lists say something else than is known.
#[must_use]
pub fn changed(inventory: &Inventory, tenant: TenantId, lists: &Lists, now_ms: i64) -> Vec<String> {
    let mut ids = Vec::new();
    inventory.each(tenant, |key| {
        if key.judged(lists, now_ms).is_some() {
            ids.push(key.facts.id.clone());
        }
    });
    ids
}

impl KeyRecord {
    /// This record after the lists were asked; `None` where they say nothing new.
    #[must_use]
    pub fn judged(&self, lists: &Lists, now_ms: i64) -> Option<Self> {
        let by = match (&self.revoked_list, lists.find(&self.facts)) {
            (None, Some(by)) if self.revoked_ms.is_none() => Some(by),
            // A hold that was lifted: the list is there and does not name it any more.
            (Some(list), None) if lists.has(list) => None,
            _ => return None,
        };
        let mut after = self.clone();
        (after.revoked_ms, after.revoked_known_ms) = (by.as_ref().map(|by| by.at_ms), by.is_some().then_some(now_ms));
        (after.facts.revocation, after.revoked_list) = (by.as_ref().map(Revocation::sentence), by.map(|by| by.list));
        Some(after)
    }

    /// Takes in what a place of a host says of the key's revocation: when, and by what. It counts until that place says so no more,
    /// or is gone: a line was taken back, a list lifted, a copy replaced.
    pub(super) fn hear_of_revocation(&mut self, (host, path): (&str, &str), revoked: Option<(i64, Option<String>)>, told_ms: i64) {
        let is_source = self.revoked_at.as_ref().is_some_and(|(of_host, at)| of_host == host && at == path);
        match revoked {
            Some((at_ms, why)) => {
                if self.revoked_ms.is_none() || is_source {
                    (self.facts.revocation, self.revoked_at) = (why, Some((host.to_owned(), path.to_owned())));
                }
                self.revoked_ms = self.revoked_ms.into_iter().chain([at_ms]).min();
                self.revoked_known_ms.get_or_insert(told_ms);
            }
            None if is_source => {
                (self.revoked_ms, self.revoked_at) = (None, None);
                (self.facts.revocation, self.revoked_known_ms) = (None, None);
            }
            None => {}
        }
    }

    /// The news that it was revoked, or that a list took that back, of a key with these places that stood so before; `None` where it
    /// lies nowhere any more.
    #[must_use]
    pub fn revocation_event(&self, before: &Self, places: &Places, now_ms: i64) -> Option<EventRecord> {
        let said = if self.revoked_ms.is_some() { self } else { before };
        let by = said.facts.revocation.clone().unwrap_or_default();
        let at = places.iter().find(|place| !place.gone)?;
        let hosts = places.hosts();
        let name = self.facts.subject.as_deref().unwrap_or(&self.facts.fingerprint);
        let named = hosts.iter().take(HOSTS_NAMED).copied().collect::<Vec<_>>().join(" ");
        let lies = format!("lies on {} {}", hosts.len(), if hosts.len() == 1 { "host" } else { "hosts" });
        let (kind, message) = match (self.revoked_ms, &before.revoked_list) {
            (Some(_), _) => (EventKind::Revoked, format!("{name} was revoked ({by}) and {lies}: replace it")),
            (None, Some(list)) => (EventKind::RevocationLifted, format!("{name} is no longer revoked: the list {list} does not name it any more; it {lies}")),
            (None, None) => return None,
        };
        let evidence = [("revocation", by), ("hosts", named), ("fingerprint", self.facts.fingerprint.clone())];
        Some(EventRecord {
            kind,
            at_ms: now_ms,
            host: at.host.clone(),
            key: Some(self.facts.id.clone()),
            path: Some(at.place.path.clone()),
            actor: None,
            message,
            evidence: evidence.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>(),
        })
    }
}
