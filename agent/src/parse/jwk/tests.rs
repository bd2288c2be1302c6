//! JSON Web Keys made from keys of `openssl`, whose fingerprints they must have.

use std::path::Path;

use keyvigil_common::key::KeyKind;
use proptest::prelude::*;

use crate::testkit::{Workshop, all, damaged, keys, only};

/// Base64url without padding.
fn url64(shop: &Workshop, bytes: &[u8]) -> String {
    shop.write("raw", bytes);
    String::from_utf8(shop.openssl("base64 -A -in raw")).unwrap().replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}

/// The end of a key's SubjectPublicKeyInfo.
fn public(shop: &Workshop, length: usize) -> Vec<u8> {
    let spki = shop.openssl("pkey -in k.pem -pubout -outform der");
    spki[spki.len() - length..].to_vec()
}

/// Public members of a new key.
fn members(shop: &Workshop, options: &str) -> String {
    shop.openssl(&format!("genpkey -algorithm {options} -out k.pem"));
    let point = |curve: &str, length: usize| {
        let both = public(shop, 2 * length);
        format!(r#""kty":"EC","crv":"{curve}","x":"{}","y":"{}""#, url64(shop, &both[..length]), url64(shop, &both[length..]))
    };
    let bare = |curve: &str, length: usize| format!(r#""kty":"OKP","crv":"{curve}","x":"{}""#, url64(shop, &public(shop, length)));
    match options.rsplit([' ', ':']).next().unwrap() {
        "2048" => format!(r#""kty":"RSA","n":"{}","e":"AQAB""#, url64(shop, &public(shop, 261)[..256])),
        "P-256" => point("P-256", 32),
        "P-384" => point("P-384", 48),
        "P-521" => point("P-521", 66),
        "secp256k1" => point("secp256k1", 32),
        "ED25519" => bare("Ed25519", 32),
        "ED448" => bare("Ed448", 57),
        "X25519" => bare("X25519", 32),
        _ => bare("X448", 56),
    }
}

const ALGORITHMS: [&str; 9] = [
    "RSA -pkeyopt rsa_keygen_bits:2048",
    "EC -pkeyopt ec_paramgen_curve:P-256",
    "EC -pkeyopt ec_paramgen_curve:P-384",
    "EC -pkeyopt ec_paramgen_curve:P-521",
    "EC -pkeyopt ec_paramgen_curve:secp256k1",
    "ED25519",
    "ED448",
    "X25519",
    "X448",
];

#[test]
fn a_jwk_has_the_fingerprint_of_the_same_key_in_pem() {
    let shop = Workshop::new();
    for options in ALGORITHMS {
        let members = members(&shop, options);
        let expected = shop.spki_sha256("-in k.pem");
        let public = only(format!(r#"{{{members}, "kid": "k1","use":"sig","alg":"X","key_ops":["verify"]}}"#).as_bytes(), "/jwk.json");
        assert_eq!((&public.facts.fingerprint, public.facts.kind), (&expected, KeyKind::PublicKey), "{options}");
        assert_eq!(
            (public.facts.key_id.as_deref(), public.facts.usage.join(" "), public.within.entry.as_deref()),
            (Some("k1"), "sig X verify".into(), Some("k1"))
        );
        let private = only(format!(r#"{{"d":"AAECAw",{members}}}"#).as_bytes(), "/jwk.json").facts;
        assert_eq!((private.fingerprint, private.kind, private.encrypted), (expected, KeyKind::PrivateKey, Some(false)));
    }
}

#[test]
fn coordinates_without_their_leading_zeros_are_the_same_key() {
    let id = |x: &str| only(format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{}"}}"#, "A".repeat(43)).as_bytes(), "/k").facts.id;
    // Thirty bytes of zero, and then 1 and 2.
    assert_eq!(id("AQI"), id("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQI"));
}

#[test]
fn a_set_holds_keys_of_all_kinds_and_certificates() {
    let shop = Workshop::new();
    shop.certificate("c.pem", "c.key", "x", 30);
    shop.openssl("x509 -in c.pem -outform der -out c.der");
    let x5c = String::from_utf8(shop.openssl("base64 -A -in c.der")).unwrap().replace('/', "\\/");
    let ec = members(&shop, ALGORITHMS[1]);
    let ml_dsa = url64(&shop, &[7; 1_952]);
    let text = format!(
        r#" {{"issuer":"x","jwks":{{"keys":[{{{ec},"kid":"a","x5c":["{x5c}"],"exp":1800000000}},
        {{"kty":"oct","kid":"hs","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQ","alg":"HS256"}},
        {{"kty":"AKP","alg":"ML-DSA-65","pub":"{ml_dsa}"}}, {{"kty":"AKP","alg":"NEW-1","pub":"AAEC","priv":"AAEC"}},
        {{"kty":"EC","crv":"P-999","x":"AAEC","y":"AAEC"}}, {{"kty":"NEW","x":"AAEC"}}]}}}}"#
    );
    let found = all(text.as_bytes(), "/srv/jwks.json");
    let told: Vec<_> = found.iter().map(|found| (found.facts.kind, found.facts.algorithm.as_str(), found.facts.bits)).collect();
    let expected = [
        (KeyKind::PublicKey, "ec", Some(256)),
        (KeyKind::Certificate, "ec", Some(256)),
        (KeyKind::SymmetricKey, "oct", Some(160)),
        (KeyKind::PublicKey, "ml-dsa-65", None),
        (KeyKind::PrivateKey, "unknown (AKP NEW-1)", None),
        (KeyKind::PublicKey, "unknown (EC P-999)", None),
        (KeyKind::PublicKey, "unknown (NEW)", None),
    ];
    assert_eq!(told, expected);
    assert_eq!((found[0].facts.not_after_ms, found[1].within.entry.as_deref()), (Some(1_800_000_000_000), Some("a")));
}

#[test]
fn the_id_of_a_secret_does_not_depend_on_the_secret() {
    let id = |path: &str, kid: &str, secret: &str| only(format!(r#"[{{"kty":"oct","kid":"{kid}","k":"{secret}"}}]"#).as_bytes(), path).facts.id;
    assert_eq!(id("/a", "1", "cGFzc3dvcmQ"), id("/a", "1", "aHVudGVyMjI"));
    assert_ne!(id("/a", "1", "cGFzc3dvcmQ"), id("/b", "1", "cGFzc3dvcmQ"));
    assert_ne!(id("/a", "1", "cGFzc3dvcmQ"), id("/a", "2", "cGFzc3dvcmQ"));
    assert_ne!(id("/a", "1", "cGFzc3dvcmQ"), id("/a", "1", "cGFzc3dvcmRwYXNzd29yZA"));
}

#[test]
fn a_key_without_its_members_is_a_fault_and_other_json_is_none() {
    let parsed = keys(br#"{"keys":[{"kty":"RSA","n":"AQAB"},{"kty":"EC","crv":"P-256","x":"AAEC"}]}"#, Path::new("/k"));
    assert_eq!((parsed.objects.len(), parsed.faults.len()), (0, 2));
    assert_eq!(keys(br#"{"keys":[{"kty":"RSA","n":"AQ"#, Path::new("/k")).faults.len(), 1);
    assert!(keys(br#"{"name":"kty"}"#, Path::new("/k")).not_a_key);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_damaged_set_panics(cut in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        static SET: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        let set = SET.get_or_init(|| {
            let shop = Workshop::new();
            let keys: Vec<String> = ALGORITHMS[..6].iter().map(|options| format!("{{{}}}", members(&shop, options))).collect();
            format!(r#"{{"keys":[{},{{"kty":"oct","k":"c2VjcmV0"}}]}}"#, keys.join(","))
        });
        let parsed = keys(&damaged(set.as_bytes(), &hits, cut), Path::new("/k"));
        prop_assert!(parsed.objects.len() + parsed.faults.len() <= 8);
    }
}
