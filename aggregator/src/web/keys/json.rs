//! A key as the API shows it.

use serde_json::{Value, json};

use crate::keys::{Findings, KeyRecord, PlaceRecord, name};

/// Places of one key that a list shows: a public CA lies on every host.
const LISTED_MAX: usize = 20;

/// A key of a list: with the first of its places, those on `host` before others and those where it lies before those where it lay.
pub(super) fn listed(of: &KeyRecord, host: Option<&str>, found: &Findings, now_ms: i64) -> Value {
    let is_wanted = |p: &PlaceRecord| host.is_none_or(|host| p.host == host);
    let turns = [(true, false), (false, false), (true, true), (false, true)];
    let places = turns.into_iter().flat_map(|(wanted, gone)| of.places.iter().filter(move |p| is_wanted(p) == wanted && p.gone == gone));
    told(of, places.take(LISTED_MAX), found, now_ms)
}

/// A key with every place.
pub(super) fn key(of: &KeyRecord, found: &Findings, now_ms: i64) -> Value {
    told(of, of.places.iter(), found, now_ms)
}

fn told<'a>(key: &KeyRecord, places: impl Iterator<Item = &'a PlaceRecord>, found: &Findings, now_ms: i64) -> Value {
    let facts = &key.facts;
    let (revoked, revocation) = found.revoked(key).unzip();
    json!({
        "id": facts.id, "name": name(key), "fingerprint": facts.fingerprint, "kind": facts.kind, "algorithm": facts.algorithm, "bits": facts.bits,
        "curve": facts.curve, "exponent": facts.exponent, "signature_algorithm": facts.signature_algorithm,
        "not_before": facts.not_before_ms, "not_after": facts.not_after_ms, "chain_not_after": found.chain_end(key),
        "subject": facts.subject, "issuer": facts.issuer, "sans": facts.sans, "serial": facts.serial, "is_ca": facts.is_ca, "usage": facts.usage,
        "key_id": facts.key_id, "authority_key_id": facts.authority_key_id, "encrypted": facts.encrypted, "kdf": facts.kdf,
        "weaknesses": facts.weaknesses, "revoked": revoked, "revocation": revocation.flatten(), "spki": facts.spki, "revokes": facts.revokes.len(),
        "status": found.status(key, now_ms), "trust_store": key.is_trust_store(), "findings": found.named(key), "severity": found.worst(key),
        "first_seen": key.first_seen_ms, "last_seen": key.last_seen_ms, "last_used": key.last_used_ms, "last_used_by": key.last_used_by,
        "observed_since": found.observed_since(key),
        "replaces": key.replaces, "replaced_by": key.replaced_by.as_deref().or(found.superseded_by(key)),
        "places": places.map(place).collect::<Vec<_>>(), "places_total": key.places.len(), "hosts_total": key.hosts().len(),
    })
}

fn place(at: &PlaceRecord) -> Value {
    let place = &at.place;
    let served = place.served.as_deref().map(|served| {
        json!({"protocol": served.protocol, "cipher": served.cipher, "pid": served.pid, "exe": served.exe, "user": served.user, "unit": served.unit,
               "chain": served.chain, "chain_fault": served.chain_fault, "file": served.file, "file_key": served.file_key,
               "file_fingerprint": served.file_fingerprint,
               "staple": served.staple.as_ref().map(|staple| json!({"status": staple.status, "this_update": staple.this_update_ms, "next_update": staple.next_update_ms}))})
    });
    json!({"host": at.host, "kind": at.kind, "path": place.path, "slot": place.slot, "owner": place.owner, "group": place.group,
           "mode": place.mode.map(|m| format!("{m:04o}")), "modified": place.modified_ms,
           "format": place.format, "entry": place.entry, "role": place.role, "used_by": place.used_by, "not_after": place.not_after_ms, "options": place.options, "reach": place.reach, "home": place.home,
           "served": served, "first_seen": at.first_seen_ms, "last_seen": at.last_seen_ms, "gone": at.gone})
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::key::{KeyFacts, KeyKind, Place, Sighting};

    #[test]
    fn a_list_shows_the_places_that_are_asked_for_first_and_counts_all() {
        let seen = |before, host: &str, gone| {
            let facts = KeyFacts::bare(KeyKind::Certificate, "a".repeat(64), "a".repeat(64), "rsa");
            Some(KeyRecord::sighted(before, host, Sighting { facts, place: Place::at("/ca.pem"), at_ms: 1, gone, replaces: None }))
        };
        let key = (0..40).fold(None, |before, n| seen(before, &format!("web-{n:02}"), n < 30)).unwrap();
        let found = Findings::of([&key], 2);
        let row = listed(&key, Some("web-35"), &found, 2);
        let shown: Vec<&str> = row["places"].as_array().unwrap().iter().filter_map(|place| place["host"].as_str()).collect();
        assert_eq!((shown.len(), &shown[..2], shown[10]), (LISTED_MAX, &["web-35", "web-30"][..], "web-00"));
        assert_eq!((row["places_total"].as_u64(), row["hosts_total"].as_u64()), (Some(40), Some(10)));
        assert_eq!(super::key(&key, &found, 2)["places"].as_array().unwrap().len(), 40);
    }
}
