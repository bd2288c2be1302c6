//! One key or certificate as a component, and what it depends on.

use std::collections::HashMap;
use std::sync::Arc;

use keyvigil_common::key::KeyKind;
use serde_json::{Map, Value, json};

use super::super::{Findings, KeyRecord, PlaceRecord, Status, name};
use super::algorithm::Algorithm;
use super::{Order, Version, escaped, instant, public_reference, relate};

pub(super) fn is_certificate(key: &KeyRecord) -> bool {
    matches!(key.facts.kind, KeyKind::Certificate | KeyKind::SshCertificate)
}

pub(super) fn reference(key: &KeyRecord) -> String {
    format!("crypto/{}/{}", key.facts.kind.as_str(), escaped(&key.facts.id))
}

pub(super) fn of(key: &KeyRecord, found: &Findings, order: &Order) -> Value {
    let crypto = if is_certificate(key) {
        json!({"assetType": "certificate", "certificateProperties": certificate(key, found, order)})
    } else {
        json!({"assetType": "related-crypto-material", "relatedCryptoMaterialProperties": material(key, found, order)})
    };
    json!({
        "type": "cryptographic-asset", "bom-ref": reference(key), "name": name(key), "cryptoProperties": crypto,
        "evidence": {"occurrences": order.places(key).map(occurrence).collect::<Vec<_>>()}, "properties": properties(key, found, order),
    })
}

fn certificate(key: &KeyRecord, found: &Findings, order: &Order) -> Map<String, Value> {
    let facts = &key.facts;
    let format = if facts.kind == KeyKind::Certificate { "X.509" } else { "OpenSSH" };
    let mut of = Map::from_iter([("certificateFormat".to_owned(), json!(format))]);
    let texts = [
        ("subjectName", facts.subject.clone()),
        ("issuerName", facts.issuer.clone()),
        ("notValidBefore", facts.not_before_ms.and_then(instant)),
        ("notValidAfter", facts.not_after_ms.and_then(instant)),
    ];
    of.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
    let signature = Algorithm::of_signature(key).map(|algorithm| ("signatureAlgorithmRef", "algorithm", algorithm.reference()));
    relate(&mut of, order.version, [("subjectPublicKeyRef", "publicKey", public_reference(&facts.fingerprint))].into_iter().chain(signature));
    if order.version == Version::V1_7 {
        of.extend(facts.serial.clone().map(|serial| ("serialNumber".to_owned(), serial.into())));
        of.extend(is_sha256(&facts.id).then(|| ("fingerprint".to_owned(), json!({"alg": "SHA-256", "content": facts.id}))));
        let state = match found.status(key, order.now_ms) {
            Status::Revoked => "revoked",
            _ => state(key, found, order),
        };
        of.insert("certificateState".into(), json!([{"state": state}]));
        of.extend(found.revoked(key).and_then(|(at, _)| instant(at)).map(|at| ("revocationDate".to_owned(), at.into())));
    }
    of
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn material(key: &KeyRecord, found: &Findings, order: &Order) -> Map<String, Value> {
    let facts = &key.facts;
    let kind = match facts.kind {
        KeyKind::PrivateKey | KeyKind::SshPrivateKey | KeyKind::OpenpgpPrivateKey => "private-key",
        KeyKind::PublicKey | KeyKind::SshPublicKey | KeyKind::OpenpgpPublicKey => "public-key",
        KeyKind::SymmetricKey => "secret-key",
        KeyKind::KernelKey => "key",
        KeyKind::Certificate | KeyKind::SshCertificate | KeyKind::CertificateRequest | KeyKind::Crl => "other",
    };
    let mut of = Map::from_iter([("type".to_owned(), json!(kind)), ("id".into(), json!(facts.fingerprint)), ("state".into(), json!(state(key, found, order)))]);
    relate(&mut of, order.version, Algorithm::of_key(key).map(|algorithm| ("algorithmRef", "algorithm", algorithm.reference())));
    of.extend(facts.bits.map(|bits| ("size".to_owned(), bits.into())));
    of.extend(facts.not_before_ms.and_then(instant).map(|at| ("activationDate".to_owned(), at.into())));
    of.extend(facts.not_after_ms.and_then(instant).map(|at| ("expirationDate".to_owned(), at.into())));
    let format = order.places(key).find_map(|p| p.place.format.clone());
    of.extend(format.map(|format| ("format".to_owned(), format.into())));
    if facts.encrypted == Some(true) {
        of.insert("securedBy".into(), json!({"mechanism": facts.kdf.as_deref().unwrap_or("password")}));
    }
    of
}

fn state(key: &KeyRecord, found: &Findings, order: &Order) -> &'static str {
    let compromised = || found.revoked(key).and_then(|(_, why)| why).is_some_and(|why| why.contains("ompromise"));
    match found.status(key, order.now_ms) {
        Status::Active if key.facts.not_before_ms.is_some_and(|start| start > order.now_ms) => "pre-activation",
        Status::Active => "active",
        Status::Revoked if compromised() => "compromised",
        Status::Superseded | Status::Expired | Status::Revoked | Status::Removed => "deactivated",
    }
}

fn occurrence(p: &PlaceRecord) -> Value {
    let place = &p.place;
    let mut context = vec![format!("role: {}", place.role.as_str())];
    // A file may hold the same key twice.
    context.extend((place.slot > 0).then(|| format!("object: {}", place.slot + 1)));
    context.extend(place.owner.as_ref().map(|owner| format!("owner: {owner}")));
    context.extend(place.mode.map(|mode| format!("mode: {mode:04o}")));
    context.extend(place.used_by.iter().map(|user| format!("used by: {user}")));
    context.extend(place.served.as_deref().and_then(|served| served.exe.as_ref()).map(|exe| format!("served by: {exe}")));
    let mut out = json!({"location": format!("{}:{}", p.host, place.path), "additionalContext": context.join("; ")});
    if let Some(entry) = &place.entry {
        out["symbol"] = entry.as_str().into();
    }
    out
}

fn properties(key: &KeyRecord, found: &Findings, order: &Order) -> Vec<Value> {
    let findings = found.named(key);
    let uses = order.uses.as_ref().and_then(|uses| uses.get(&key.facts.id).copied().or_else(|| found.observed_since(key).map(|_| 0)));
    let own = [
        ("kind", Some(key.facts.kind.as_str().to_owned())),
        ("status", Some(found.status(key, order.now_ms).as_str().to_owned())),
        ("findings", Some(findings.join(" ")).filter(|text| !text.is_empty())),
        ("first_seen", instant(key.first_seen_ms)),
        ("last_seen", instant(key.last_seen_ms)),
        // What is not observed is not unused.
        ("usage:observed", Some(found.observed_since(key).is_some().to_string())),
        ("usage:observed_since", found.observed_since(key).and_then(instant)),
        ("usage:last_used", key.last_used_ms.and_then(instant)),
        ("usage:last_used_by", key.last_used_by.as_ref().map(ToString::to_string)),
        // What is counted is at least that; 0 only where somebody looked.
        ("usage:uses", uses.map(|count| count.to_string())),
        ("usage:uses_since", uses.and_then(|_| instant(order.uses_since_ms.max(found.observed_since(key).unwrap_or(order.uses_since_ms))))),
    ];
    own.into_iter().filter_map(|(name, value)| Some(json!({"name": format!("keyvigil:{name}"), "value": value?}))).collect()
}

/// Authorities in `keys`: reference by key identifier, and by subject where they have none.
pub(super) fn issuers(keys: &[Arc<KeyRecord>]) -> HashMap<String, String> {
    let authorities = keys.iter().filter(|key| key.facts.kind == KeyKind::Certificate && key.facts.is_ca == Some(true));
    authorities.filter_map(|key| Some((key.facts.key_id.clone().or_else(|| key.facts.subject.clone())?, reference(key)))).collect()
}

pub(super) fn links(key: &KeyRecord, issuers: &HashMap<String, String>) -> Value {
    let mut on = Vec::new();
    if is_certificate(key) {
        on.push(public_reference(&key.facts.fingerprint));
        on.extend(Algorithm::of_signature(key).map(|algorithm| algorithm.reference()));
        let issuer = key.facts.authority_key_id.as_ref().and_then(|id| issuers.get(id)).or_else(|| issuers.get(key.facts.issuer.as_deref()?));
        on.extend(issuer.filter(|issuer| **issuer != reference(key)).cloned());
    } else {
        on.extend(Algorithm::of_key(key).map(|algorithm| algorithm.reference()));
    }
    on.sort_unstable();
    on.dedup();
    json!({"ref": reference(key), "dependsOn": on})
}
