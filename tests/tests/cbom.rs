//! Promise: whatever lies on hosts, the bill of materials is valid against CycloneDX's own schema, every reference in it leads
//! somewhere, and a large fleet's is made piece by piece.

use std::collections::BTreeSet;
use std::sync::Arc;

use keyvigil_aggregator::keys::cbom::{self, Order, Version};
use keyvigil_aggregator::keys::{Findings, KeyRecord};
use keyvigil_common::key::{KeyFacts, KeyKind, Place, Served, Sighting};
use keyvigil_tests::host::validate_cbom;
use serde_json::Value;

const NOW: i64 = 1_795_000_000_000;
const HOSTS: [&str; 3] = ["web-1", "büro-2", "db-3"];
/// Names, those that no parser of ours gives included: an aggregator takes what an agent says.
const ALGORITHMS: &[&str] = &[
    "rsa",
    "ec",
    "ed25519",
    "x448",
    "dh",
    "ml-dsa-44",
    "ml-dsa-65-ecdsa-brainpoolp256r1",
    "ml-kem-1024+x448",
    "slh-dsa-sha2-256s",
    "hss-lms",
    "xmssmt",
    "gost-2012-512",
    "aes",
    "hmac-sha256",
    "oct",
    "wireguard-psk",
    "unknown (1.2.3.4.5)",
    "unknown (encrypted)",
    "none",
    "",
    "slh-dsa-",
    "ml-dsa-",
    "aes-",
    "signature/sha256WithRSAEncryption",
    "rsa-2048",
    "rsa@2048",
    "a b\u{202e}\"\\<ü漢>",
    "unknown (..)",
];
const CURVES: &[Option<&str>] = &[None, Some("secp256r1"), Some("brainpoolP512t1"), Some("sm2p256v1"), Some("explicit"), Some("brainpoolPöäü"), Some("")];
const SIGNATURES: &[Option<&str>] =
    &[None, Some("sha256WithRSAEncryption"), Some("ecdsa-with-SHA3-512"), Some("ssh-ed25519"), Some("ml-dsa-87"), Some("unknown (1.2)"), Some("")];
const TIMES: &[Option<i64>] =
    &[None, Some(0), Some(-631_152_000_000), Some(253_402_300_799_000), Some(253_402_300_800_000), Some(-62_167_219_200_001), Some(NOW + 1)];

/// Keys of all kinds with everything that is odd about keys, in one of the many ways in which that can be mixed.
fn odd(at: usize) -> KeyRecord {
    let pick = |list: usize, by: usize| (at / by + at) % list;
    let id = format!("{at:064x}");
    let fingerprint = if at.is_multiple_of(3) { format!("SHA256:{at}+/") } else { id.clone() };
    let mut facts = KeyFacts::bare(KeyKind::ALL[at % KeyKind::ALL.len()], id, fingerprint, ALGORITHMS[at % ALGORITHMS.len()]);
    facts.curve = CURVES[pick(CURVES.len(), 3)].map(str::to_owned);
    facts.bits = [None, Some(0), Some(2_048), Some(u32::MAX)][pick(4, 5)];
    facts.signature_algorithm = SIGNATURES[pick(SIGNATURES.len(), 7)].map(str::to_owned);
    (facts.not_before_ms, facts.not_after_ms) = (TIMES[pick(TIMES.len(), 11)], TIMES[pick(TIMES.len(), 13)]);
    facts.subject = [None, Some("CN=a\u{0}\u{1b}[2J\u{feff}\u{10ffff}"), Some("CN=漢字"), Some("")][pick(4, 17)].map(str::to_owned);
    facts.issuer.clone_from(&facts.subject);
    facts.serial = [None, Some("00"), Some("-1")][pick(3, 2)].map(str::to_owned);
    facts.encrypted = [None, Some(true), Some(false)][pick(3, 4)];
    facts.revoked_ms = [None, Some(NOW), Some(-1)][pick(3, 6)];
    let place = |host: &str| {
        let mut place =
            Place { slot: u32::try_from(at % 3).expect("small"), entry: Some("alias ü\n".into()), ..Place::at(format!("/etc/{host}/ssh_host_{at}")) };
        if at.is_multiple_of(4) {
            let protocol = [None, Some("TLSv1.3"), Some("SSLv3"), Some("unknown"), Some("TLSv1.3 über\u{7f}")][pick(5, 8)].map(str::to_owned);
            let cipher = [None, Some("TLS_AES_128_GCM_SHA256")][at % 2].map(str::to_owned);
            place.served = Some(Box::new(Served { protocol, cipher, ..Served::default() }));
        }
        place
    };
    let hosts = HOSTS.iter().take(1 + at % 3);
    let seen = hosts.fold(None, |known, host| {
        Some(KeyRecord::sighted(known, host, Sighting { facts: facts.clone(), place: place(host), at_ms: NOW, gone: false, replaces: None }))
    });
    seen.expect("one host at least")
}

/// The document, and its longest piece.
fn made(keys: &[Arc<KeyRecord>], version: Version) -> (String, usize) {
    let found = Arc::new(Findings::of(keys.iter().map(AsRef::as_ref), NOW));
    let order = Order { version, host: None, trust_store: true, now_ms: NOW, uses_since_ms: NOW, uses: None };
    let mut longest = 0;
    let text = cbom::rows(keys.to_vec(), found, order).inspect(|piece| longest = longest.max(piece.len())).collect();
    (text, longest)
}

/// References there are, and those that are used.
fn references(value: &Value, there: &mut Vec<String>, used: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("bom-ref", Value::String(text)) => there.push(text.clone()),
                    ("ref", Value::String(text)) => drop(used.insert(text.clone())),
                    (name, Value::String(text)) if name.ends_with("Ref") => drop(used.insert(text.clone())),
                    ("dependsOn" | "cryptoRefArray", Value::Array(list)) => used.extend(list.iter().filter_map(|text| text.as_str().map(str::to_owned))),
                    _ => references(member, there, used),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|item| references(item, there, used)),
        _ => {}
    }
}

#[test]
fn what_no_one_has_seen_is_valid_too_and_every_reference_leads_somewhere() {
    let keys: Vec<Arc<KeyRecord>> = (0..2_000).map(|at| Arc::new(odd(at))).collect();
    for version in Version::ALL {
        let (text, _) = made(&keys, version);
        let bom: Value = serde_json::from_str(&text).expect("JSON");
        let (mut there, mut used) = (Vec::new(), BTreeSet::new());
        references(&bom, &mut there, &mut used);
        let known: BTreeSet<String> = there.iter().cloned().collect();
        assert_eq!(known.len(), there.len(), "{version:?}: each is there once");
        let lost: Vec<&String> = used.difference(&known).take(5).collect();
        assert!(lost.is_empty(), "{version:?}: {lost:?}");
        assert_eq!(validate_cbom(version.as_str(), text.as_bytes()), bom["components"].as_array().map_or(0, Vec::len));
    }
}

#[test]
fn the_document_of_a_large_fleet_is_made_piece_by_piece() {
    let keys: Vec<Arc<KeyRecord>> = (0..20_000).map(|at| Arc::new(odd(at))).collect();
    let (text, longest) = made(&keys, Version::V1_6);
    // The longest names the keys of SSH, 15,000 of them here.
    assert!(text.len() > 20 << 20 && longest < text.len() / 20, "{} bytes, {longest} of them at once", text.len());
}
