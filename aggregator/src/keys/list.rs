//! Listing of the inventory: filter, sort, pages, and the figures of the summary.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use keyvigil_common::key::KeyKind;
use serde::Serialize;

use super::{Inventory, KeyRecord, Status};
use crate::index::TenantId;

const DAY_MS: i64 = 86_400_000;

/// Which keys are wanted; empty fields want all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Lies on this host.
    pub host: Option<String>,
    /// Kinds.
    pub kinds: Vec<String>,
    /// Algorithm, as the facts name it.
    pub algorithm: Option<String>,
    /// Statuses.
    pub statuses: Vec<String>,
    /// Ends before this instant, Unix ms.
    pub expires_before_ms: Option<i64>,
    /// Certificates of the system's trust store: only them, or none of them.
    pub trust_store: Option<bool>,
    /// Text in subject, issuer, names, path, fingerprint or id, in any case.
    pub search: Option<String>,
}

impl Filter {
    fn takes(&self, key: &KeyRecord, now_ms: i64) -> bool {
        let facts = &key.facts;
        self.host.as_ref().is_none_or(|host| key.places.iter().any(|p| p.host == *host))
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == facts.kind.as_str()))
            && self.algorithm.as_ref().is_none_or(|algorithm| *algorithm == facts.algorithm)
            && (self.statuses.is_empty() || self.statuses.iter().any(|status| status == key.status(now_ms).as_str()))
            && self.expires_before_ms.is_none_or(|before| facts.not_after_ms.is_some_and(|end| end < before))
            && self.trust_store.is_none_or(|wanted| key.is_trust_store() == wanted)
            && self.search.as_ref().is_none_or(|text| found(key, &text.to_lowercase()))
    }
}

fn found(key: &KeyRecord, text: &str) -> bool {
    let facts = &key.facts;
    let texts = [&facts.subject, &facts.issuer, &facts.serial].into_iter().flatten().chain(&facts.sans).chain([&facts.fingerprint, &facts.id]);
    texts.chain(key.places.iter().map(|p| &p.place.path)).any(|candidate| candidate.to_lowercase().contains(text))
}

/// Order of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    by: By,
    reversed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    NotAfter,
    LastSeen,
    FirstSeen,
    Subject,
}

impl FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, reversed) = text.strip_prefix('-').map_or((text, false), |rest| (rest, true));
        let by = match name {
            "not_after" => By::NotAfter,
            "last_seen" => By::LastSeen,
            "first_seen" => By::FirstSeen,
            "subject" => By::Subject,
            _ => return Err(format!("sort {text:?} is none of: not_after last_seen first_seen subject, with - in front for the reverse")),
        };
        Ok(Self { by, reversed })
    }
}

impl Sort {
    /// Ends within the id, so that pages do not overlap. What has no end sorts last either way.
    fn compare(self, a: &KeyRecord, b: &KeyRecord) -> Ordering {
        let order = match self.by {
            By::NotAfter => match (a.facts.not_after_ms, b.facts.not_after_ms) {
                (Some(x), Some(y)) if self.reversed => y.cmp(&x),
                (Some(x), Some(y)) => x.cmp(&y),
                (x, y) => y.is_some().cmp(&x.is_some()),
            },
            By::LastSeen => a.last_seen_ms.cmp(&b.last_seen_ms),
            By::FirstSeen => a.first_seen_ms.cmp(&b.first_seen_ms),
            By::Subject => a.facts.subject.cmp(&b.facts.subject),
        };
        let order = if self.reversed && self.by != By::NotAfter { order.reverse() } else { order };
        order.then_with(|| a.facts.id.cmp(&b.facts.id))
    }
}

/// A page of a listing.
#[derive(Debug, Clone)]
pub struct Page {
    /// How many keys the filter takes.
    pub total: usize,
    /// This page's keys.
    pub keys: Vec<KeyRecord>,
    /// Where the next page begins.
    pub next: Option<usize>,
}

impl Inventory {
    /// The keys that `filter` takes, from position `from`.
    #[must_use]
    pub fn page(&self, tenant: TenantId, filter: &Filter, sort: Sort, from: usize, limit: usize, now_ms: i64) -> Page {
        let mut taken = Vec::new();
        self.each(tenant, |key| {
            if filter.takes(key, now_ms) {
                taken.push(key.clone());
            }
        });
        taken.sort_by(|a, b| sort.compare(a, b));
        let total = taken.len();
        let keys: Vec<KeyRecord> = taken.into_iter().skip(from).take(limit).collect();
        let next = Some(from + keys.len()).filter(|next| *next < total && !keys.is_empty());
        Page { total, keys, next }
    }

    /// Other keys with the fingerprint of `key`: its certificate, its private half, its copies in other forms.
    #[must_use]
    pub fn related(&self, tenant: TenantId, key: &KeyRecord) -> Vec<KeyRecord> {
        let mut out = Vec::new();
        self.each(tenant, |other| {
            if other.facts.fingerprint == key.facts.fingerprint && other.facts.id != key.facts.id {
                out.push(other.clone());
            }
        });
        out
    }
}

/// Figures over the whole inventory.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// All keys known.
    pub total: usize,
    /// By kind.
    pub by_kind: BTreeMap<&'static str, usize>,
    /// By status.
    pub by_status: BTreeMap<&'static str, usize>,
    /// By algorithm and size.
    pub by_algorithm: BTreeMap<String, usize>,
    /// Credentials that end within so many days: `7d`, `30d`, `90d`, each containing the one before.
    pub expiring: BTreeMap<&'static str, usize>,
    /// Certificates of the system's trust store that end within 90 days; they are left out of `expiring`.
    pub expiring_excluded: usize,
    /// Credentials that ended.
    pub expired: usize,
    /// Hosts that hold keys.
    pub hosts: usize,
}

/// Counts the inventory of a tenant.
#[must_use]
pub fn summary(inventory: &Inventory, tenant: TenantId, now_ms: i64) -> Summary {
    let mut out = Summary::default();
    let mut hosts = BTreeSet::new();
    for name in ["7d", "30d", "90d"] {
        out.expiring.insert(name, 0);
    }
    inventory.each(tenant, |key| {
        let status = key.status(now_ms);
        out.total += 1;
        *out.by_kind.entry(key.facts.kind.as_str()).or_default() += 1;
        *out.by_status.entry(status.as_str()).or_default() += 1;
        if key.facts.kind != KeyKind::Crl {
            let size = key.facts.curve.clone().or_else(|| key.facts.bits.map(|b| b.to_string())).unwrap_or_default();
            *out.by_algorithm.entry(format!("{} {size}", key.facts.algorithm).trim_end().to_owned()).or_default() += 1;
        }
        hosts.extend(key.hosts().into_iter().map(str::to_owned));
        count_expiry(&mut out, key, status, now_ms);
    });
    out.hosts = hosts.len();
    out
}

fn count_expiry(out: &mut Summary, key: &KeyRecord, status: Status, now_ms: i64) {
    let Some(end) = key.facts.not_after_ms else { return };
    if key.is_trust_store() {
        out.expiring_excluded += usize::from(status == Status::Active && end < now_ms + 90 * DAY_MS);
    } else if key.expiry_matters(now_ms) {
        out.expired += usize::from(status == Status::Expired);
        for (name, days) in [("7d", 7), ("30d", 30), ("90d", 90)] {
            if status == Status::Active && end < now_ms + days * DAY_MS {
                *out.expiring.entry(name).or_default() += 1;
            }
        }
    }
}
