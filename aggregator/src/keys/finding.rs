//! What is wrong with the keys of a tenant. Pure functions over the inventory with the time as an argument: one detector a
//! file, one row each in [`DETECTORS`]. A finding is about a key wherever it lies, so fifty hosts make one. Never: stores,
//! sends, or knows who asks; `current.rs` keeps what was found until something changes.

mod chain;
mod early;
pub(super) mod expiry;
mod exposed;
mod lineage;
mod login;
mod pair;
pub mod quantum;
mod revoked;
mod served;
mod shared;
#[cfg(test)]
mod tests;
mod unused;
mod view;
pub(super) mod weak;

use std::collections::HashSet;

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::{hex, sha256};
use serde::Serialize;

pub use view::{Standing, View};

use super::name::{name, name_at, shown};
use super::{KeyRecord, PlaceRecord};

/// Places and keys that are told with a finding; the hosts are all told.
pub const SHOWN_MAX: usize = 100;

/// Something that is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable: the same fault of the same key always has the same, 16 hex digits.
    pub id: String,
    /// What is wrong.
    pub kind: FindingKind,
    /// How much it matters.
    pub severity: Severity,
    /// Ids of the keys it is about, at most [`SHOWN_MAX`].
    pub keys: Vec<String>,
    /// How many keys it is about.
    pub keys_total: usize,
    /// Hosts, in order.
    pub hosts: Vec<String>,
    /// Places, at most [`SHOWN_MAX`].
    pub places: Vec<FoundAt>,
    /// How many places.
    pub places_total: usize,
    /// One sentence.
    pub title: String,
    /// What supports it: names and values.
    pub evidence: Vec<(String, String)>,
    /// What to do.
    pub remedy: String,
    /// Since when, as far as is known, Unix ms.
    #[serde(rename = "since")]
    pub since_ms: i64,
}

/// A place of a finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FoundAt {
    /// Host.
    pub host: String,
    /// Path.
    pub path: String,
}

/// Looks for one kind of fault, or a few that are decided alike.
type Detector = fn(&View<'_>, &mut Vec<Finding>);

/// Every detector.
const DETECTORS: &[Detector] = &[
    shared::detect,
    pair::detect,
    expiry::detect,
    expiry::stale_lists,
    early::detect,
    weak::detect,
    quantum::detect,
    exposed::detect,
    login::detect,
    revoked::detect,
    served::detect,
    unused::detect,
];

/// All findings, the worst first.
#[must_use]
pub fn all(view: &View<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for detect in DETECTORS {
        detect(view, &mut found);
    }
    found.sort_by(|a, b| a.position().cmp(&b.position()));
    found
}

/// What a finding is made of, before its hosts and places are put in order.
#[derive(Debug)]
struct Draft<'a> {
    kind: FindingKind,
    severity: Severity,
    /// Besides the kind, what the finding is about.
    identity: &'a str,
    keys: Vec<&'a KeyRecord>,
    places: Vec<&'a PlaceRecord>,
    evidence: Vec<(&'static str, String)>,
    since_ms: Option<i64>,
}

impl<'a> Draft<'a> {
    fn new(kind: FindingKind, severity: Severity, identity: &'a str) -> Self {
        Self { kind, severity, identity, keys: Vec::new(), places: Vec::new(), evidence: Vec::new(), since_ms: None }
    }

    /// About one key, in those of its places.
    fn about(kind: FindingKind, severity: Severity, key: &'a KeyRecord, places: Vec<&'a PlaceRecord>) -> Self {
        Self { keys: vec![key], places, ..Self::new(kind, severity, &key.facts.id) }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.evidence.push((name, value.into()));
        self
    }

    fn since(mut self, at_ms: i64) -> Self {
        self.since_ms = Some(at_ms);
        self
    }

    fn hosts(&self) -> Vec<&'a str> {
        let mut hosts: Vec<&str> = self.places.iter().map(|p| p.host.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }

    /// `on web-1`, `on 3 hosts`.
    fn on(&self) -> String {
        match self.hosts().as_slice() {
            [] => String::new(),
            [host] => format!(" on {}", shown(host)),
            hosts => format!(" on {} hosts", hosts.len()),
        }
    }

    /// What the first of its keys is called.
    fn name(&self) -> String {
        self.keys.first().map(|key| self.name_of(key)).unwrap_or_default()
    }

    /// What one of its keys is called in the places that it is about.
    fn name_of(&self, key: &KeyRecord) -> String {
        let spoken_of: HashSet<*const PlaceRecord> = self.places.iter().map(|p| std::ptr::from_ref(*p)).collect();
        name_at(key, |p| spoken_of.contains(&std::ptr::from_ref(p)))
    }

    fn finish(self, title: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let hosts = self.hosts().into_iter().map(str::to_owned).collect();
        let mut places: Vec<(&str, &str)> = self.places.iter().map(|p| (p.host.as_str(), p.place.path.as_str())).collect();
        places.sort_unstable();
        places.dedup();
        let (keys_total, places_total) = (self.keys.len(), places.len());
        let places = places.into_iter().take(SHOWN_MAX).map(|(host, path)| FoundAt { host: host.to_owned(), path: path.to_owned() }).collect();
        let mut remedy: String = remedy.into();
        if remedy.contains('`') && self.places.first().is_some_and(|p| p.place.path_inside() != p.place.path) {
            remedy.push_str(" All of it inside the container, and in the image that it was made from.");
        }
        let since_ms = self.since_ms.or_else(|| self.places.iter().map(|p| p.first_seen_ms).min()).unwrap_or_default();
        Finding {
            id: id(self.kind, self.identity),
            kind: self.kind,
            severity: self.severity,
            keys: self.keys.iter().take(SHOWN_MAX).map(|key| key.facts.id.clone()).collect(),
            keys_total,
            hosts,
            places,
            places_total,
            title: shown_whole(title.into()),
            evidence: self.evidence.into_iter().map(|(name, value)| (name.to_owned(), shown_whole(value))).collect(),
            remedy: shown_whole(remedy),
            since_ms,
        }
    }
}

fn id(kind: FindingKind, identity: &str) -> String {
    hex(&sha256(format!("{}:{identity}", kind.as_str()).as_bytes())[..8])
}

fn shown_whole(mut text: String) -> String {
    keyvigil_common::key::clamp_text(&mut text);
    text
}

impl Finding {
    /// Where it stands in a list: the worst first, what is alike together.
    #[must_use]
    pub fn position(&self) -> (std::cmp::Reverse<Severity>, FindingKind, &str) {
        (std::cmp::Reverse(self.severity), self.kind, &self.id)
    }

    /// Whether it is about something on `host`.
    #[must_use]
    pub fn is_on(&self, host: &str) -> bool {
        self.hosts.binary_search_by(|known| known.as_str().cmp(host)).is_ok()
    }
}
