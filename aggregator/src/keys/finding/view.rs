//! The inventory as detectors look at it: only what lies somewhere, with how it stands beside the others, and the few
//! indexes that more than one of them needs. Made anew for each look.

use std::collections::HashMap;

use keyvigil_common::key::{KeyFacts, KeyKind, Role};

use super::super::{ByHost, KeyRecord, PlaceRecord};
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
    /// The same key was revoked in another form: when, and what says so.
    pub revoked: Option<(i64, String)>,
}

/// The keys of a tenant that lie somewhere.
#[derive(Debug)]
pub struct View<'a> {
    /// The time, Unix ms.
    pub now_ms: i64,
    /// What is observed of the use of keys, by host; `None` where nothing is.
    pub observed: Option<ByHost>,
    pub(super) keys: Vec<&'a KeyRecord>,
    /// Of each key, whether it is one of the system's trust store.
    pub(super) shipped: Vec<bool>,
    /// Certificates that lie nowhere any more, and of which nobody said what took their place.
    pub(super) gone: Vec<&'a KeyRecord>,
    by_key: HashMap<&'a str, Vec<u32>>,
    by_id: HashMap<&'a str, u32>,
    /// Revocation lists by their issuer.
    lists: HashMap<&'a str, Vec<&'a KeyRecord>>,
    /// What is revoked and no certificate, by the fingerprint that all forms of a key have in common.
    revoked: HashMap<&'a str, &'a KeyRecord>,
    pub(super) standing: HashMap<&'a str, Standing>,
}

impl<'a> View<'a> {
    /// A view of `keys` at `now_ms`.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = &'a KeyRecord>, now_ms: i64, observed: Option<ByHost>) -> Self {
        // What was replaced may lie nowhere any more, and its length of life still tells what is usual.
        let mut lives: HashMap<&str, i64> = HashMap::new();
        let (mut there, mut gone): (Vec<&KeyRecord>, Vec<&KeyRecord>) = (Vec::new(), Vec::new());
        let mut others: Vec<&KeyRecord> = Vec::new();
        let mut revoked: HashMap<&str, &KeyRecord> = HashMap::new();
        for key in keys {
            if !is_certificate(key) {
                if key.revoked_ms.is_some() {
                    let known = revoked.entry(key.facts.key()).or_insert(key);
                    // Always the same one of several.
                    *known = [*known, key].into_iter().min_by_key(|key| (key.revoked_ms, &key.facts.id)).unwrap_or(key);
                }
                others.push(key);
            }
            if let Some(life) = expiry::life(key).filter(|_| key.replaced_by.is_some()) {
                lives.insert(&key.facts.id, life);
            }
            if key.live().next().is_some() {
                there.push(key);
            } else if key.facts.kind == KeyKind::Certificate && key.replaced_by.is_none() {
                gone.push(key);
            }
        }
        let keys = there;
        let shipped: Vec<bool> = keys.iter().map(|key| key.is_trust_store()).collect();
        let mut by_key: HashMap<&str, Vec<u32>> = HashMap::with_capacity(keys.len());
        let mut by_id: HashMap<&str, u32> = HashMap::with_capacity(keys.len());
        let mut lists: HashMap<&str, Vec<&KeyRecord>> = HashMap::new();
        for list in keys.iter().copied().filter(|key| key.facts.kind == KeyKind::Crl) {
            lists.entry(list.facts.issuer.as_deref().unwrap_or_default()).or_default().push(list);
        }
        for (key, at) in keys.iter().zip(0_u32..) {
            by_key.entry(key.facts.key()).or_default().push(at);
            by_id.insert(&key.facts.id, at);
        }
        let mut view = Self { now_ms, observed, keys, shipped, gone, by_key, by_id, lists, revoked, standing: HashMap::new() };
        view.standing = lineage::superseded(&view);
        chain::judge(&mut view);
        for key in others.into_iter().filter(|_| !view.revoked.is_empty()) {
            if let Some(other) = view.revoked(key).filter(|other| other.facts.id != key.facts.id) {
                let word = (other.revoked_ms.unwrap_or(now_ms), revocation(other, key));
                view.standing.entry(&key.facts.id).or_default().revoked = Some(word);
            }
        }
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

    /// Whether something of that kind with the fingerprint of `key` lies on `host`.
    pub(super) fn lies(&self, key: &KeyRecord, host: &str, wanted: impl Fn(KeyKind) -> bool) -> bool {
        let there = |other: &KeyRecord| other.places.on(host).any(|p| !p.gone && wanted(p.kind.unwrap_or(other.facts.kind)));
        self.cluster(key).any(there)
    }

    /// Whether its private half lies on `host`.
    pub(super) fn has_secret(&self, key: &KeyRecord, host: &str) -> bool {
        self.lies(key, host, KeyKind::is_private)
    }

    /// The revocation lists of the issuer of `list`, where it names one.
    pub(super) fn lists(&self, list: &'a KeyRecord) -> impl Iterator<Item = &'a KeyRecord> {
        let facts = &list.facts;
        let of_issuer = facts.issuer.as_deref().and_then(|issuer| self.lists.get(issuer)).into_iter().flatten().copied();
        of_issuer.filter(|other| other.facts.authority_key_id == facts.authority_key_id)
    }

    /// Whether somebody trusts it.
    pub(super) fn is_anchor(&self, key: &KeyRecord) -> bool {
        key.is_trust_store() || key.places.is_bundled() || key.live().any(|p| p.place.role == Role::Trusted)
    }

    /// What lies somewhere and has that id.
    pub(super) fn get(&self, id: &str) -> Option<&'a KeyRecord> {
        self.by_id.get(id).and_then(|at| self.keys.get(*at as usize)).copied()
    }

    /// Who was revoked, so that `key` is: itself, or the same key in another form, wherever that lay. A certificate may be revoked,
    /// and the key that it was made for may not; and the other way round its certificates are their authority's business.
    pub(super) fn revoked(&self, key: &'a KeyRecord) -> Option<&'a KeyRecord> {
        match key.revoked_ms {
            Some(_) => Some(key),
            None if is_certificate(key) => None,
            None => self.revoked.get(key.facts.key()).copied(),
        }
    }
}

fn is_certificate(key: &KeyRecord) -> bool {
    matches!(key.facts.kind, KeyKind::Certificate | KeyKind::SshCertificate)
}

/// What says that `revoked` is, and of which form of `key` it does.
pub(super) fn revocation(revoked: &KeyRecord, key: &KeyRecord) -> String {
    let why = revoked.facts.revocation.clone().unwrap_or_else(|| "its host says so".into());
    if revoked.facts.id == key.facts.id {
        return why;
    }
    let kind = revoked.facts.kind.as_str().replace('_', " ");
    format!("{why} (of the same key as {kind} {:.12})", revoked.facts.id)
}

/// Whether an object was signed by its own key.
pub(super) fn is_self_signed(key: &KeyRecord) -> bool {
    let KeyFacts { subject, issuer, key_id, authority_key_id, .. } = &key.facts;
    // An authority may sign its next key under its own name.
    let own_key = key_id.as_ref().zip(authority_key_id.as_ref()).is_none_or(|(own, signer)| own == signer);
    key.facts.kind == KeyKind::Certificate && subject.is_some() && subject == issuer && own_key
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
