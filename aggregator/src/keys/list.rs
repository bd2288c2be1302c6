//! Listing of the inventory: filter, sort, pages, and the figures of the summary.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use keyvigil_common::key::{KeyKind, Role};
use serde::Serialize;

use super::{Counts, Findings, Inventory, KeyRecord, PlaceRecord, Status, usage};
use crate::index::TenantId;

const DAY_MS: i64 = 86_400_000;

/// Which keys are wanted; empty fields want all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Lies on this host, or lay there where it lies nowhere any more.
    pub host: Option<String>,
    /// Kinds.
    pub kinds: Vec<KeyKind>,
    /// Algorithms, as the facts name them.
    pub algorithms: Vec<String>,
    /// Statuses.
    pub statuses: Vec<Status>,
    /// Ends before this instant, by itself or with its chain, Unix ms.
    pub expires_before_ms: Option<i64>,
    /// Kinds of findings, as bits.
    pub findings: u32,
    /// What it is there for.
    pub roles: Vec<Role>,
    /// Form of the file.
    pub formats: Vec<String>,
    /// Certificates of the system's trust store: only them, or none of them.
    pub trust_store: Option<bool>,
    /// When it was used.
    pub used: Option<UsedWhen>,
    /// Text in subject, issuer, names, path, fingerprint or id, in any case.
    pub search: Option<String>,
}

/// When a key was used, as far as that is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedWhen {
    /// Not since its use is observed.
    Never,
    /// Nothing observes it.
    Unknown,
    /// Last before this instant, Unix ms.
    Before(i64),
    /// At this instant or later.
    Since(i64),
}

impl UsedWhen {
    fn takes(self, key: &KeyRecord, found: &Findings) -> bool {
        match (self, key.last_used_ms) {
            (Self::Before(end), Some(at)) => at < end,
            (Self::Since(start), Some(at)) => at >= start,
            (Self::Never, None) => found.observed_since(key).is_some(),
            (Self::Unknown, None) => usage::lies(key).next().is_some() && found.observed_since(key).is_none(),
            _ => false,
        }
    }
}

impl Filter {
    fn takes(&self, key: &KeyRecord, found: &Findings, now_ms: i64) -> bool {
        let facts = &key.facts;
        let end = || facts.not_after_ms.into_iter().chain(found.chain_end(key)).min();
        (self.kinds.is_empty() || self.kinds.contains(&facts.kind))
            && (self.algorithms.is_empty() || self.algorithms.contains(&facts.algorithm))
            && (self.statuses.is_empty() || self.statuses.contains(&found.status(key, now_ms)))
            && self.expires_before_ms.is_none_or(|before| end().is_some_and(|end| end < before))
            && self.lies(key)
            && (self.findings == 0 || self.findings & found.kinds(key) != 0)
            && self.trust_store.is_none_or(|wanted| key.is_trust_store() == wanted)
            && self.used.is_none_or(|when| when.takes(key, found))
            && self.search.as_ref().is_none_or(|text| holds(key, &text.to_lowercase()))
    }

    /// Whether one of its places is as wanted in everything.
    fn lies(&self, key: &KeyRecord) -> bool {
        let wanted = |p: &PlaceRecord| {
            let format = || p.place.format.as_ref().is_some_and(|format| self.formats.contains(format));
            (self.roles.is_empty() || self.roles.contains(&p.place.role)) && (self.formats.is_empty() || format())
        };
        if self.host.is_none() && self.roles.is_empty() && self.formats.is_empty() {
            return true;
        }
        let nowhere = key.live().next().is_none();
        let takes = |p: &PlaceRecord| (nowhere || !p.gone) && wanted(p);
        match &self.host {
            Some(host) => key.places.on(host).any(takes),
            None => key.places.iter().any(takes),
        }
    }
}

fn holds(key: &KeyRecord, text: &str) -> bool {
    let facts = &key.facts;
    let texts = [&facts.subject, &facts.issuer, &facts.serial].into_iter().flatten().chain(&facts.sans).chain([&facts.fingerprint, &facts.id]);
    let places = key.places.iter().flat_map(|p| [Some(&p.place.path), p.place.entry.as_ref()]).flatten();
    texts.chain(places).any(|candidate| candidate.to_lowercase().contains(text))
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
    LastUsed,
    Subject,
    Severity,
}

/// The words for it.
const SORTS: [(&str, By); 6] = [
    ("not_after", By::NotAfter),
    ("last_seen", By::LastSeen),
    ("first_seen", By::FirstSeen),
    ("last_used", By::LastUsed),
    ("subject", By::Subject),
    ("severity", By::Severity),
];

impl FromStr for Sort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, reversed) = text.strip_prefix('-').map_or((text, false), |rest| (rest, true));
        match SORTS.iter().find(|(word, _)| *word == name) {
            Some((_, by)) => Ok(Self { by: *by, reversed }),
            None => Err(format!("{text:?} is none of: {}, with - in front for the reverse", SORTS.map(|(word, _)| word).join(" "))),
        }
    }
}

impl std::fmt::Display for Sort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = SORTS.iter().find(|(_, by)| *by == self.by).map_or("", |(word, _)| word);
        write!(f, "{}{word}", if self.reversed { "-" } else { "" })
    }
}

/// Where a key stands in an order: its value, and its id, so that no two stand in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position<'a> {
    number: Option<i64>,
    text: Option<&'a str>,
    id: &'a str,
}

impl Sort {
    fn position<'a>(self, key: &'a KeyRecord, found: &Findings) -> Position<'a> {
        let number = match self.by {
            By::NotAfter => key.facts.not_after_ms,
            By::LastSeen => Some(key.last_seen_ms),
            By::FirstSeen => Some(key.first_seen_ms),
            By::LastUsed => key.last_used_ms,
            // The worst first; without a finding last.
            By::Severity => found.worst(key).map(|severity| -(severity as i64)),
            By::Subject => None,
        };
        let text = if self.by == By::Subject { key.facts.subject.as_deref() } else { None };
        Position { number, text, id: &key.facts.id }
    }

    /// What has no value stands last either way.
    fn compare(self, a: &Position<'_>, b: &Position<'_>) -> Ordering {
        let missing = |p: &Position<'_>| p.number.is_none() && p.text.is_none();
        let order = missing(a).cmp(&missing(b));
        let by_value = (a.number, a.text).cmp(&(b.number, b.text));
        order.then(if self.reversed { by_value.reverse() } else { by_value }).then_with(|| a.id.cmp(b.id))
    }
}

/// Where the last page ended. It stays right while keys come and go: it is a place in the order, not a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    number: Option<i64>,
    text: Option<String>,
    id: String,
}

impl Cursor {
    fn after(position: &Position<'_>) -> Self {
        Self { number: position.number, text: position.text.map(str::to_owned), id: position.id.to_owned() }
    }

    fn position(&self) -> Position<'_> {
        Position { number: self.number, text: self.text.as_deref(), id: &self.id }
    }

    /// As the API tells it.
    #[must_use]
    pub fn encode(&self, sort: Sort) -> String {
        let number = self.number.map(|n| n.to_string()).unwrap_or_default();
        let text = self.text.as_ref().map(|text| format!("={text}")).unwrap_or_default();
        format!("{sort}~{number}~{}~{text}", self.id)
    }

    /// What [`Cursor::encode`] made, of a listing in the same order.
    #[must_use]
    pub fn decode(text: &str, sort: Sort) -> Option<Self> {
        let mut parts = text.splitn(4, '~');
        let (order, number, id, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let number = if number.is_empty() { None } else { Some(number.parse().ok()?) };
        let text = if text.is_empty() { None } else { Some(text.strip_prefix('=')?.to_owned()) };
        (order == sort.to_string()).then(|| Self { number, text, id: id.to_owned() })
    }
}

/// A page of a listing.
#[derive(Debug, Clone)]
pub struct Page {
    /// How many keys the filter takes.
    pub total: usize,
    /// This page's keys.
    pub keys: Vec<Arc<KeyRecord>>,
    /// Where it ended, if there are more.
    pub next: Option<Cursor>,
}

/// The keys that `filter` takes, after `cursor`, at most `limit`.
#[must_use]
pub fn page(keys: &[Arc<KeyRecord>], found: &Findings, filter: &Filter, sort: Sort, cursor: Option<&Cursor>, limit: usize, now_ms: i64) -> Page {
    let mut total = 0;
    let mut taken: Vec<(Position<'_>, &Arc<KeyRecord>)> = Vec::new();
    for key in keys.iter().filter(|key| filter.takes(key, found, now_ms)) {
        total += 1;
        let position = sort.position(key, found);
        if cursor.is_none_or(|cursor| sort.compare(&position, &cursor.position()) == Ordering::Greater) {
            taken.push((position, key));
        }
    }
    let order = |a: &(Position<'_>, &Arc<KeyRecord>), b: &(Position<'_>, &Arc<KeyRecord>)| sort.compare(&a.0, &b.0);
    let more = taken.len() > limit;
    if more {
        taken.select_nth_unstable_by(limit, order);
        taken.truncate(limit);
    }
    taken.sort_unstable_by(order);
    let next = taken.last().filter(|_| more).map(|(position, _)| Cursor::after(position));
    Page { total, keys: taken.into_iter().map(|(_, key)| Arc::clone(key)).collect(), next }
}

impl Inventory {
    /// Other keys with the fingerprint of `key`: its certificate, its private half, its copies in other forms.
    #[must_use]
    pub fn related(&self, tenant: TenantId, key: &KeyRecord) -> Vec<KeyRecord> {
        let mut out = Vec::new();
        self.each(tenant, |other| {
            if other.facts.key() == key.facts.key() && other.facts.id != key.facts.id {
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
    /// What is wrong with them.
    pub findings: Counts,
}

/// Counts keys.
#[must_use]
pub fn summary(keys: &[Arc<KeyRecord>], found: &Findings, now_ms: i64) -> Summary {
    let mut out = Summary { findings: found.counts(), ..Summary::default() };
    let mut hosts = BTreeSet::new();
    for name in ["7d", "30d", "90d"] {
        out.expiring.insert(name, 0);
    }
    for key in keys {
        let status = found.status(key, now_ms);
        out.total += 1;
        *out.by_kind.entry(key.facts.kind.as_str()).or_default() += 1;
        *out.by_status.entry(status.as_str()).or_default() += 1;
        if !matches!(key.facts.kind, KeyKind::Crl | KeyKind::KernelKey) {
            let size = key.facts.curve.clone().or_else(|| key.facts.bits.map(|b| b.to_string())).unwrap_or_default();
            *out.by_algorithm.entry(format!("{} {size}", key.facts.algorithm).trim_end().to_owned()).or_default() += 1;
        }
        hosts.extend(key.hosts());
        count_expiry(&mut out, key, found, now_ms);
    }
    out.hosts = hosts.len();
    out
}

fn count_expiry(out: &mut Summary, key: &KeyRecord, found: &Findings, now_ms: i64) {
    if let Some(end) = found.end(key, now_ms) {
        out.expired += usize::from(end <= now_ms);
        for (name, days) in [("7d", 7), ("30d", 30), ("90d", 90)] {
            if end > now_ms && end < now_ms + days * DAY_MS {
                *out.expiring.entry(name).or_default() += 1;
            }
        }
    } else if key.facts.not_after_ms.is_some_and(|end| end > now_ms && end < now_ms + 90 * DAY_MS) && key.is_trust_store() {
        out.expiring_excluded += usize::from(key.status(now_ms) == Status::Active);
    }
}

#[cfg(test)]
mod tests;
