//! A key as the API shows it.

use serde_json::{Value, json};

use crate::keys::{Findings, KeyRecord, PlaceRecord, name};

pub(super) fn key(key: &KeyRecord, found: &Findings, now_ms: i64) -> Value {
    let facts = &key.facts;
    json!({
        "id": facts.id, "name": name(key), "fingerprint": facts.fingerprint, "kind": facts.kind, "algorithm": facts.algorithm, "bits": facts.bits,
        "curve": facts.curve, "exponent": facts.exponent, "signature_algorithm": facts.signature_algorithm,
        "not_before": facts.not_before_ms, "not_after": facts.not_after_ms, "chain_not_after": found.chain_end(key),
        "subject": facts.subject, "issuer": facts.issuer, "sans": facts.sans, "serial": facts.serial, "is_ca": facts.is_ca, "usage": facts.usage,
        "key_id": facts.key_id, "authority_key_id": facts.authority_key_id, "encrypted": facts.encrypted, "kdf": facts.kdf,
        "weaknesses": facts.weaknesses, "revoked": key.revoked_ms, "revocation": facts.revocation, "spki": facts.spki, "revokes": facts.revokes.len(),
        "status": found.status(key, now_ms), "trust_store": key.is_trust_store(), "findings": found.named(key), "severity": found.worst(key),
        "first_seen": key.first_seen_ms, "last_seen": key.last_seen_ms, "last_used": key.last_used_ms,
        "replaces": key.replaces, "replaced_by": key.replaced_by.as_deref().or(found.superseded_by(key)),
        "places": key.places.iter().map(place).collect::<Vec<_>>(),
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
