//! Keys that a large quantum computer would break: nearly all there are today. One finding an algorithm, as an inventory for
//! the migration; it never alerts, and the list of keys can be filtered by it.

use std::collections::{BTreeMap, BTreeSet};

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::{KeyKind, Role};

use super::super::{KeyRecord, PlaceRecord};
use super::view::View;
use super::{Draft, Finding};

/// Public keys whose security is that of factoring or of discrete logarithms.
const BROKEN: &[&str] = &[
    "rsa",
    "rsa-pss",
    "rsa-oaep",
    "dsa",
    "dh",
    "ec",
    "ecdsa",
    "ecdh",
    "ed25519",
    "ed448",
    "x25519",
    "x448",
    "elgamal",
    "ed25519-sk",
    "ecdsa-sk",
    "gost-2001",
    "gost-2012-256",
    "gost-2012-512",
];

/// Whether `key` is one of them, lies somewhere as our own, and is not of the system's trust store.
#[must_use]
pub fn is_concerned(key: &KeyRecord) -> bool {
    let asymmetric = !matches!(key.facts.kind, KeyKind::SymmetricKey | KeyKind::KernelKey | KeyKind::Crl | KeyKind::CertificateRequest);
    asymmetric && BROKEN.contains(&key.facts.algorithm.as_str()) && !key.is_trust_store() && key.own().any(|p| p.place.role != Role::Peer)
}

/// Id of the finding that counts `key`.
#[must_use]
pub fn identity(key: &KeyRecord) -> Option<String> {
    is_concerned(key).then(|| super::id(FindingKind::NotQuantumSafe, &key.facts.algorithm))
}

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    let mut by_algorithm: BTreeMap<&str, Vec<&KeyRecord>> = BTreeMap::new();
    for key in view.own().filter(|key| is_concerned(key)) {
        by_algorithm.entry(&key.facts.algorithm).or_default().push(key);
    }
    for (algorithm, keys) in by_algorithm {
        let places: Vec<&PlaceRecord> = keys.iter().flat_map(|key| key.own()).filter(|p| p.place.role != Role::Peer).collect();
        let draft = Draft { keys, places, ..Draft::new(FindingKind::NotQuantumSafe, Severity::Info, algorithm) };
        // A certificate and its private key are one key.
        let count = draft.keys.iter().map(|key| key.facts.key()).collect::<BTreeSet<_>>().len();
        let hosts = draft.hosts().len().to_string();
        let draft = draft.with("keys", count.to_string()).with("hosts", hosts);
        let title = format!("{count} {algorithm} {} not safe from quantum computers", if count == 1 { "key is" } else { "keys are" });
        let remedy = "Nothing breaks today. Plan the move to ML-KEM and ML-DSA (FIPS 203, 204), what must stay secret for long first.";
        out.push(draft.finish(title, remedy));
    }
}
