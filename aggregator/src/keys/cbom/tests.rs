//! What the document holds, whatever the schema says of its form: that, a validator of CycloneDX checks with real files.

use std::collections::BTreeSet;

use keyvigil_common::key::{KeyFacts, Place, Served, Sighting};

use super::*;

use keyvigil_common::key::KeyKind;

const NOW: i64 = 1_795_000_000_000;

fn key(kind: KeyKind, id: char, host: &str, path: &str) -> KeyRecord {
    let mut facts = KeyFacts::bare(kind, id.to_string().repeat(64), "f".repeat(64), "rsa");
    (facts.bits, facts.not_after_ms, facts.signature_algorithm) = (Some(2_048), Some(NOW + 1), Some("sha256WithRSAEncryption".into()));
    KeyRecord::sighted(None, host, Sighting { facts, place: Place::at(path), at_ms: NOW, gone: false, replaces: None })
}

fn made(keys: Vec<KeyRecord>, host: Option<&str>) -> Value {
    written(keys, host, Version::V1_6)
}

fn written(keys: Vec<KeyRecord>, host: Option<&str>, version: Version) -> Value {
    let found = Arc::new(Findings::of(&keys, NOW));
    let order = Order { version, host: host.map(str::to_owned), trust_store: false, now_ms: NOW, uses_since_ms: NOW, uses: Some(HashMap::new()) };
    let text: String = rows(keys.into_iter().map(Arc::new).collect(), found, order).collect();
    serde_json::from_str(&text).unwrap()
}

fn fleet() -> Vec<KeyRecord> {
    let mut served = key(KeyKind::Certificate, 'a', "web", "/etc/ssl/a.pem");
    let mut place = Place::at("tls://0.0.0.0:443");
    place.served = Some(Box::new(Served { protocol: Some("TLSv1.3".into()), cipher: Some("TLS_AES_256_GCM_SHA384".into()), ..Served::default() }));
    served = KeyRecord::sighted(Some(served.clone()), "web", Sighting { facts: served.facts, place, at_ms: NOW, gone: false, replaces: None });
    let gone = Sighting { facts: key(KeyKind::PrivateKey, 'c', "", "").facts, place: Place::at("/old"), at_ms: NOW, gone: true, replaces: None };
    vec![key(KeyKind::PrivateKey, 'b', "web", "/etc/ssl/a.key"), served, KeyRecord::sighted(None, "web", gone), key(KeyKind::Crl, 'd', "ca", "/crl")]
}

#[test]
fn every_reference_leads_to_a_component_and_each_is_there_once() {
    let bom = made(fleet(), None);
    let refs: Vec<&str> = bom["components"].as_array().unwrap().iter().map(|c| c["bom-ref"].as_str().unwrap()).collect();
    let known: BTreeSet<&str> = refs.iter().copied().collect();
    assert_eq!(known.len(), refs.len(), "{refs:?}");
    for link in bom["dependencies"].as_array().unwrap() {
        let on = link["dependsOn"].as_array().unwrap().iter().map(|r| r.as_str().unwrap());
        on.chain([link["ref"].as_str().unwrap()]).for_each(|r| assert!(known.contains(r), "{r} of {known:?}"));
    }
    let text = bom.to_string();
    for needed in ["crypto/certificate/aaaa", "crypto/protocol/tls/TLSv1.3", "TLS_AES_256_GCM_SHA384", "web:/etc/ssl/a.pem", "\"nistQuantumSecurityLevel\":0"] {
        assert!(text.contains(needed), "{needed} in {text}");
    }
    assert!(!text.contains("/old"), "what lies nowhere is not listed");
}

#[test]
fn the_order_is_that_of_ids_and_one_host_is_only_that() {
    let mut backwards = fleet();
    backwards.reverse();
    assert_eq!(made(fleet(), None), made(backwards, None));
    let only = made(fleet(), Some("ca")).to_string();
    assert!(only.contains("ca:/crl") && !only.contains("web:"), "{only}");
    assert_eq!(made(Vec::new(), None)["components"], json!([]));
}

/// The component of a key whose only certificate or key is of this algorithm.
fn properties(algorithm: &str, bits: Option<u32>, curve: Option<&str>, version: Version) -> Value {
    let mut one = key(KeyKind::PrivateKey, 'a', "web", "/k");
    (one.facts.algorithm, one.facts.bits, one.facts.curve) = (algorithm.into(), bits, curve.map(str::to_owned));
    one.facts.signature_algorithm = None;
    written(vec![one], None, version)["components"][0]["cryptoProperties"].clone()
}

#[test]
fn an_algorithm_has_the_primitive_parameters_strength_and_identifier_that_are_its_own() {
    let of = |algorithm, bits, curve| properties(algorithm, bits, curve, Version::V1_6);
    for (algorithm, bits, curve, primitive, set, quantum, oid) in [
        ("rsa", Some(3_072), None, "pke", json!("3072"), json!(0), json!("1.2.840.113549.1.1.1")),
        ("ec", Some(384), Some("secp384r1"), "signature", json!(null), json!(0), json!("1.2.840.10045.2.1")),
        ("ed25519", Some(256), None, "signature", json!(null), json!(0), json!("1.3.101.112")),
        ("x25519", Some(256), None, "key-agree", json!(null), json!(0), json!("1.3.101.110")),
        ("ml-dsa-65", None, None, "signature", json!("65"), json!(3), json!("2.16.840.1.101.3.4.3.18")),
        ("ml-dsa-87-ecdsa-p384", None, None, "signature", json!("87"), json!(5), json!(null)),
        ("ml-kem-768+x25519", None, None, "kem", json!("768"), json!(3), json!(null)),
        ("slh-dsa-shake-192f", None, None, "signature", json!("SHAKE-192f"), json!(3), json!("2.16.840.1.101.3.4.3.29")),
        ("aes", Some(256), None, "block-cipher", json!("256"), json!(5), json!(null)),
        ("oct", Some(512), None, "unknown", json!(null), json!(null), json!(null)),
        ("unknown (1.3.9999.6.4.13)", None, None, "unknown", json!(null), json!(null), json!("1.3.9999.6.4.13")),
        ("unknown (encrypted)", None, None, "unknown", json!(null), json!(null), json!(null)),
    ] {
        let found = of(algorithm, bits, curve);
        let is = &found["algorithmProperties"];
        assert_eq!((&is["primitive"], &is["parameterSetIdentifier"]), (&json!(primitive), &set), "{algorithm}: {found}");
        assert_eq!((&is["nistQuantumSecurityLevel"], &found["oid"]), (&quantum, &oid), "{algorithm}: {found}");
    }
    let newer = properties("ec", Some(256), Some("secp256r1"), Version::V1_7)["algorithmProperties"].clone();
    assert_eq!((&newer["ellipticCurve"], &newer["curve"]), (&json!("secg/secp256r1"), &json!(null)));
    assert_eq!(properties("ml-dsa-44", None, None, Version::V1_7)["algorithmProperties"]["algorithmFamily"], "ML-DSA");
}

#[test]
fn a_date_that_no_calendar_has_is_left_out_and_the_last_one_is_told() {
    let dated = |start: i64, end: i64| {
        let mut one = key(KeyKind::Certificate, 'a', "web", "/c");
        (one.facts.not_before_ms, one.facts.not_after_ms) = (Some(start), Some(end));
        let bom = made(vec![one], None);
        let all = bom["components"].as_array().unwrap().iter();
        let of = all.map(|c| c["cryptoProperties"]["certificateProperties"].clone()).find(Value::is_object).unwrap();
        (of["notValidBefore"].clone(), of["notValidAfter"].clone())
    };
    assert_eq!(dated(-631_152_000_000, 253_402_300_799_000), (json!("1950-01-01T00:00:00Z"), json!("9999-12-31T23:59:59Z")));
    assert_eq!(dated(-62_167_219_200_001, 253_402_300_800_000), (json!(null), json!(null)));
}
