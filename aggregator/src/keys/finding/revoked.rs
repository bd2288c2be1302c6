//! Revoked keys and certificates that are still in use: served, named by a configuration, or relied on to check others.

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::{KeyKind, Role};

use super::super::{KeyRecord, PlaceRecord};
use super::expiry::date;
use super::view::{View, is_used, revocation};
use super::{Draft, Finding};

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    for key in view.own().filter(|key| key.facts.kind != KeyKind::Crl) {
        let Some(revoked) = view.revoked(key) else { continue };
        let in_use = |p: &&PlaceRecord| is_used(p) || p.place.role == Role::Trusted;
        // A file that lists revoked keys is named by sshd, and lets nobody in.
        let is_ssh = matches!(key.facts.kind, KeyKind::SshPublicKey | KeyKind::SshPrivateKey);
        let is_list = |p: &PlaceRecord| is_ssh && revoked.revoked_at.as_ref().is_some_and(|(host, path)| *host == p.host && *path == p.place.path);
        let ours = |p: &&PlaceRecord| !matches!(p.place.role, Role::Authorized | Role::Peer) && !is_list(p);
        let places: Vec<&PlaceRecord> = key.own().filter(in_use).filter(ours).collect();
        if places.is_empty() {
            continue;
        }
        let mut draft = Draft::about(FindingKind::RevokedInUse, Severity::Critical, key, places);
        draft.since_ms = Some(known_since(revoked, &draft.places));
        draft = draft.with("revoked by", revocation(revoked, key)).with("revoked at", date(revoked.revoked_ms.unwrap_or_default()));
        let title = format!("{}{} is revoked and still in use", draft.name(), draft.on());
        out.push(draft.finish(title, "Who checks for revocation refuses it: issue a new one with a new key, install it, and reload whoever uses it."));
    }
}

/// Since when it is known that what is revoked lies in one of `places`.
pub(super) fn known_since(revoked: &KeyRecord, places: &[&PlaceRecord]) -> i64 {
    let told = [revoked.revoked_ms, revoked.revoked_known_ms, places.iter().map(|p| p.first_seen_ms).min()];
    told.into_iter().flatten().max().unwrap_or_default()
}
