//! Which key a new one succeeds that lies under another name: a certificate for the same names and uses, in the same directory
//! or named by the same configuration; a private key that belongs to such a certificate, or that a configuration names in place
//! of another. Pure. Called by the tracker for keys that appear.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use keyvigil_common::key::{KeyFacts, KeyKind, Role};

use super::model::{FileState, Held};

/// Of files: configurations that named them until now.
pub(super) type Lost = HashMap<String, Vec<String>>;

/// What succeeds what.
pub(super) struct Lineage<'a> {
    /// Certificates that are there, or were a moment ago, by what they are for.
    certificates: HashMap<String, Vec<&'a Held>>,
    /// Private keys, by fingerprint.
    keys: HashMap<&'a str, Vec<&'a Held>>,
    /// Private keys that a configuration named until now, by it.
    unnamed: HashMap<&'a str, Vec<&'a Held>>,
    lost: &'a Lost,
}

impl<'a> Lineage<'a> {
    pub(super) fn of(files: &'a BTreeMap<String, FileState>, lost: &'a Lost) -> Self {
        let mut lineage = Self { certificates: HashMap::new(), keys: HashMap::new(), unnamed: HashMap::new(), lost };
        for held in files.values().flat_map(|state| &state.objects) {
            if let Some(purpose) = purpose(held) {
                lineage.certificates.entry(purpose).or_default().push(held);
            }
            if held.facts.kind.is_private() {
                lineage.keys.entry(&held.facts.fingerprint).or_default().push(held);
                for user in lineage.lost_users(held) {
                    lineage.unnamed.entry(user).or_default().push(held);
                }
            }
        }
        lineage
    }

    /// The certificate that `new`, which lies where none lay, succeeds.
    pub(super) fn certificate(&self, new: &Held) -> Option<&'a Held> {
        let alike = self.certificates.get(&purpose(new)?)?;
        // A copy of what is there already succeeds nothing.
        if alike.iter().any(|old| old.facts.id == new.facts.id) {
            return None;
        }
        let succeeds = |old: &&&'a Held| age(&old.facts) <= age(&new.facts) && (self.is_named_instead(old, new) || is_beside(old, new));
        alike.iter().filter(succeeds).max_by_key(|old| age(&old.facts)).copied()
    }

    /// The private key that `new` succeeds; `certificates`: fingerprints of the keys of certificates, old and new.
    pub(super) fn key(&self, new: &Held, certificates: &[(String, String)]) -> Option<&'a Held> {
        if !new.facts.kind.is_private() || self.keys.contains_key(new.facts.fingerprint.as_str()) {
            return None;
        }
        let bound = certificates.iter().find(|(_, key)| *key == new.facts.fingerprint).and_then(|(key, _)| self.keys.get(key.as_str()));
        let named = || new.place.used_by.iter().filter_map(|user| self.unnamed.get(source(user))).find(|olds| olds.len() == 1);
        bound.or_else(named)?.iter().find(|old| old.facts.kind == new.facts.kind).copied()
    }

    /// A configuration that named the old one names the new one.
    fn is_named_instead(&self, old: &'a Held, new: &Held) -> bool {
        self.lost_users(old).any(|user| new.place.used_by.iter().any(|new| source(new) == user))
    }

    fn lost_users(&self, old: &'a Held) -> impl Iterator<Item = &'a str> + use<'a> {
        // Of a file that is gone nobody took the names away.
        let gone = if old.missing.is_some() { &old.place.used_by[..] } else { &[] };
        self.lost.get(&old.place.path).into_iter().flatten().chain(gone).map(|user| source(user))
    }
}

/// Of the same form in the same directory, and nobody asks for it by name: servers hold certificates of several forms side by
/// side for the same names.
fn is_beside(old: &Held, new: &Held) -> bool {
    let is_free = old.missing.is_some() || old.place.used_by.is_empty();
    is_free && old.facts.algorithm == new.facts.algorithm && Path::new(&old.place.path).parent() == Path::new(&new.place.path).parent()
}

/// A configuration, without the line, which moves when another is put before it.
fn source(user: &str) -> &str {
    user.rsplit_once(':').map_or(user, |(source, _)| source)
}

/// For whom and what a certificate is; `None` of others' authorities, and of what names nobody.
fn purpose(held: &Held) -> Option<String> {
    let facts = &held.facts;
    let is_certificate = matches!(facts.kind, KeyKind::Certificate | KeyKind::SshCertificate) && held.place.role == Role::Held;
    let mut names: Vec<&str> = facts.sans.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(facts.subject.as_deref().filter(|subject| !subject.is_empty()));
    }
    let mut usage: Vec<&str> = facts.usage.iter().map(String::as_str).collect();
    names.sort_unstable();
    usage.sort_unstable();
    (is_certificate && !names.is_empty()).then(|| format!("{} {names:?} {usage:?}", facts.kind.as_str()))
}

fn age(facts: &KeyFacts) -> (Option<i64>, Option<i64>) {
    (facts.not_before_ms, facts.not_after_ms)
}
