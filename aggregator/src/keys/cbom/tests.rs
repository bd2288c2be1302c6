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
    let found = Arc::new(Findings::of(&keys, NOW));
    let order = Order { version: "1.6", host: host.map(str::to_owned), trust_store: false, now_ms: NOW };
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
    for needed in ["crypto/certificate/aaaa", "crypto/protocol/tls@1.3", "TLS_AES_256_GCM_SHA384", "web:/etc/ssl/a.pem", "\"nistQuantumSecurityLevel\":0"] {
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
