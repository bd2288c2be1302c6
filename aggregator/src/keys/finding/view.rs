//! The inventory as detectors look at it: only what lies somewhere, with how it stands beside the others, and the few
//! indexes that more than one of them needs. Made anew for each look.

use std::collections::HashMap;

use keyvigil_common::key::{KeyKind, Role};

use super::super::{KeyRecord, PlaceRecord, Status};
use super::{chain, expiry, lineage};

/// What only the others tell about a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// A newer certificate for the same is in use in each place: nobody waits for this one's end.
    pub superseded_by: Option<String>,
    /// An authority that lies and is served only along with certificates that need it: its end is told as theirs.
    pub companion: bool,
    /// The certificate that it replaced lived as short: this is how long they live here.
    pub renewed_so_soon: bool,
    /// The chain it comes with ends sooner than it: when, and by which link.
    pub chain_end: Option<(i64, String)>,
}

/// The keys of a tenant that lie somewhere.
#[derive(Debug)]
pub struct View<'a> {
    /// The time, Unix ms.
    pub now_ms: i64,
    /// Since when the use of keys is observed; `None` while no sensor does.
    pub observed_since_ms: Option<i64>,
    pub(super) keys: Vec<&'a KeyRecord>,
    /// Of each key, whether it is one of the system's trust store.
    pub(super) shipped: Vec<bool>,
    by_key: HashMap<&'a str, Vec<u32>>,
    pub(super) standing: HashMap<&'a str, Standing>,
}

impl<'a> View<'a> {
    /// A view of `keys` at `now_ms`.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = &'a KeyRecord>, now_ms: i64, observed_since_ms: Option<i64>) -> Self {
        // What was replaced may lie nowhere any more, and its length of life still tells what is usual.
        let mut lives: HashMap<&str, i64> = HashMap::new();
        let mut there: Vec<&KeyRecord> = Vec::new();
        for key in keys {
            if let Some(life) = expiry::life(key).filter(|_| key.replaced_by.is_some()) {
                lives.insert(&key.facts.id, life);
            }
            there.extend(Some(key).filter(|key| key.live().next().is_some()));
        }
        let keys = there;
        let shipped: Vec<bool> = keys.iter().map(|key| key.is_trust_store()).collect();
        let mut by_key: HashMap<&str, Vec<u32>> = HashMap::with_capacity(keys.len());
        for (at, key) in keys.iter().enumerate() {
            by_key.entry(key.facts.key()).or_default().push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        let mut view = Self { now_ms, observed_since_ms, keys, shipped, by_key, standing: HashMap::new() };
        view.standing = lineage::superseded(&view);
        chain::judge(&mut view);
        for key in view.own().collect::<Vec<_>>() {
            let before = key.replaces.as_deref().and_then(|id| lives.get(id));
            if before.zip(expiry::life(key)).is_some_and(|(before, life)| before / 2 <= life) {
                view.standing.entry(&key.facts.id).or_default().renewed_so_soon = true;
            }
        }
        view
    }

    /// How `key` stands beside the others, where that says more than its record.
    #[must_use]
    pub fn standing(&self, key: &KeyRecord) -> Option<&Standing> {
        self.standing.get(key.facts.id.as_str())
    }

    /// What only the others tell about keys, by id.
    #[must_use]
    pub fn standings(&self) -> HashMap<String, Standing> {
        self.standing.iter().map(|(id, standing)| ((*id).to_owned(), standing.clone())).collect()
    }

    /// Keys that the system did not ship to trust others.
    pub(super) fn own(&self) -> impl Iterator<Item = &'a KeyRecord> {
        self.keys.iter().zip(&self.shipped).filter(|(_, shipped)| !**shipped).map(|(key, _)| *key)
    }

    /// All that are the same key as this one, in whatever form.
    pub(super) fn cluster(&self, key: &KeyRecord) -> impl Iterator<Item = &'a KeyRecord> {
        self.by_key.get(key.facts.key()).into_iter().flatten().filter_map(|at| self.keys.get(*at as usize).copied())
    }

    /// Keys by their common fingerprint, in order, each in all its forms.
    pub(super) fn clusters(&self) -> Vec<(&'a str, Vec<&'a KeyRecord>)> {
        let mut all: Vec<(&str, Vec<&KeyRecord>)> =
            self.by_key.iter().map(|(fingerprint, at)| (*fingerprint, at.iter().filter_map(|at| self.keys.get(*at as usize).copied()).collect())).collect();
        all.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        all
    }

    /// Who was revoked, so that `key` is: itself, or the same key in another form. A certificate may be revoked, and the key that it
    /// was made for may not; and the other way round its certificates are their authority's business.
    pub(super) fn revoked(&self, key: &KeyRecord) -> Option<&'a KeyRecord> {
        let is_certificate = |key: &KeyRecord| matches!(key.facts.kind, KeyKind::Certificate | KeyKind::SshCertificate);
        let is_it = |other: &&KeyRecord| other.facts.id == key.facts.id || !is_certificate(key) && !is_certificate(other);
        self.cluster(key).filter(is_it).find(|other| other.status(self.now_ms) == Status::Revoked)
    }
}

/// Whether an object was signed by its own key.
pub(super) fn is_self_signed(key: &KeyRecord) -> bool {
    key.facts.kind == KeyKind::Certificate && key.facts.subject.is_some() && key.facts.subject == key.facts.issuer
}

/// Places where it is somebody's own.
pub(super) fn held(key: &KeyRecord) -> impl Iterator<Item = &PlaceRecord> {
    key.live().filter(|p| p.place.role == Role::Held)
}

/// Places where its secret half is somebody's own.
pub(super) fn secret(key: &KeyRecord) -> impl Iterator<Item = &PlaceRecord> {
    held(key).filter(|p| key.is_secret_at(p))
}

/// Whether a configuration names it, or a port serves it.
pub(super) fn is_used(place: &PlaceRecord) -> bool {
    place.place.served.is_some() || !place.place.used_by.is_empty()
}
