//! JSON Web Keys, alone, in a set, or anywhere inside another JSON file. Of a private key only the public members are read, of a secret
//! only its length. Called by `keys`. Format: RFC 7517, RFC 7518, RFC 8037, RFC 8812; `AKP` of draft-ietf-cose-dilithium.

use std::path::Path;

use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::limits::KEY_USAGES_MAX;
use zeroize::Zeroizing;

use super::document::{Document, Value};
use super::keys::{FaultClass, Parsed, Within};
use super::pem::find;
use super::spki::{self, ED448_OID, ED25519_OID, NIST_SIGNATURES_OID, X448_OID, X25519_OID};
use super::symmetric::symmetric;
use super::{pem, x509};

/// Certificates of one key's `x5c` that are looked at.
const CHAIN_MAX: usize = 10;
/// Name, encoded identifier and bytes of a coordinate.
const CURVES: &[(&str, &[u8], usize)] = &[
    ("P-256", &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], 32),
    ("P-384", &[0x2b, 0x81, 0x04, 0x00, 0x22], 48),
    ("P-521", &[0x2b, 0x81, 0x04, 0x00, 0x23], 66),
    ("secp256k1", &[0x2b, 0x81, 0x04, 0x00, 0x0a], 32),
];
/// Of `OKP`.
const BARE: &[(&str, &[u8])] = &[("Ed25519", ED25519_OID), ("Ed448", ED448_OID), ("X25519", X25519_OID), ("X448", X448_OID)];
/// Of `AKP`: the last byte of the identifier.
const NIST_SIGNATURES: &[(&str, u8)] = &[("ML-DSA-44", 17), ("ML-DSA-65", 18), ("ML-DSA-87", 19)];

/// Whether a file that begins so may be JSON with keys in it.
#[must_use]
pub fn looks(head: &[u8], _path: &Path) -> bool {
    let text = head.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(head).trim_ascii_start();
    matches!(text.first(), Some(b'{' | b'[')) && find(text, b"\"kty\"").is_some()
}

/// Reads all keys of the file.
pub fn read(bytes: &[u8], path: &Path, parsed: &mut Parsed) {
    let document = match std::str::from_utf8(bytes).map_err(|e| e.to_string()).and_then(Document::read) {
        Ok(document) => document,
        Err(e) => return parsed.fault(0, FaultClass::Corrupt, format!("looks like JSON with keys and does not parse: {e}")),
    };
    for key in document.maps() {
        let Some(kind) = key.text_of("kty") else { continue };
        let offset = key.get("kty").map_or(0, Value::offset);
        if !parsed.has_room(offset) {
            return;
        }
        let kid = key.text_of("kid");
        let within = Within::own("jwks").entry(kid.as_deref().unwrap_or_default());
        parsed.object(offset, within.clone(), one(key, &kind, path));
        for certificate in key.get("x5c").into_iter().flat_map(Value::items).take(CHAIN_MAX) {
            if !parsed.has_room(offset) {
                return;
            }
            let der = certificate.text().and_then(|text| pem::decode(text.as_bytes()).ok());
            let facts = der.ok_or_else(|| "a certificate in x5c is not base64".to_owned()).and_then(|der| x509::certificate(&der));
            parsed.object(offset, within.clone(), facts);
        }
    }
    parsed.bounded(&document);
}

fn one(key: Value<'_, '_>, kind: &str, path: &Path) -> Result<KeyFacts, String> {
    let kid = key.text_of("kid");
    let name = kid.as_deref().unwrap_or_default();
    let is_private = ["d", "priv"].iter().any(|member| key.get(member).is_some());
    let what = if is_private { KeyKind::PrivateKey } else { KeyKind::PublicKey };
    let facts = match kind {
        "RSA" => member(key, "n").zip(member(key, "e")).and_then(|(n, e)| spki::rsa(what, &n, &e)),
        "EC" => ec(key, what),
        "OKP" => bare(key, what),
        "AKP" => post_quantum(key, what),
        "oct" => key.text_of("k").map(|secret| {
            let bits = u32::try_from(secret.trim_end_matches('=').len() * 6 / 8 * 8).ok();
            symmetric(path, name, "oct", bits)
        }),
        _ => None,
    };
    let known = matches!(kind, "RSA" | "EC" | "OKP" | "AKP" | "oct");
    let mut facts = match facts {
        Some(facts) => facts,
        None if kind == "AKP" || !known || is_of_strange_curve(key, kind) => stranger(key, kind, what, path),
        None => return Err(format!("the {kind} key has not all its members, or they do not parse")),
    };
    facts.encrypted = facts.kind.is_private().then_some(false);
    facts.key_id = kid.map(|kid| kid.to_string());
    facts.usage.extend(["use", "alg"].iter().filter_map(|member| Some(key.text_of(member)?.to_string())));
    facts.usage.extend(key.get("key_ops").into_iter().flat_map(Value::items).take(KEY_USAGES_MAX).filter_map(|item| Some(item.text()?.to_string())));
    let instant = |member: &str| key.text_of(member)?.parse::<i64>().ok()?.checked_mul(1_000);
    // Of OpenID Federation, where keys have them.
    (facts.not_before_ms, facts.not_after_ms) = (instant("nbf"), instant("exp"));
    Ok(facts)
}

fn ec(key: Value<'_, '_>, what: KeyKind) -> Option<KeyFacts> {
    let name = key.text_of("crv")?;
    let (_, oid, length) = CURVES.iter().find(|row| *row.0 == *name)?;
    let mut point = vec![4];
    for coordinate in [member(key, "x")?, member(key, "y")?] {
        // Some writers leave leading zeros out.
        point.resize(point.len() + length.checked_sub(coordinate.len())?, 0);
        point.extend_from_slice(&coordinate);
    }
    spki::ec(what, oid, &point)
}

fn bare(key: Value<'_, '_>, what: KeyKind) -> Option<KeyFacts> {
    let name = key.text_of("crv")?;
    let (_, oid) = BARE.iter().find(|row| *row.0 == *name)?;
    spki::raw(what, oid, &member(key, "x")?)
}

fn post_quantum(key: Value<'_, '_>, what: KeyKind) -> Option<KeyFacts> {
    let name = key.text_of("alg")?;
    let (_, last) = NIST_SIGNATURES.iter().find(|row| *row.0 == *name)?;
    spki::raw(what, &[NIST_SIGNATURES_OID, &[*last]].concat(), &member(key, "pub")?)
}

/// Whether it is on a curve that has no name here.
fn is_of_strange_curve(key: Value<'_, '_>, kind: &str) -> bool {
    let known = |name: &str| CURVES.iter().any(|row| row.0 == name) || BARE.iter().any(|row| row.0 == name);
    matches!(kind, "EC" | "OKP") && key.text_of("crv").is_some_and(|name| !known(&name))
}

/// A key whose public members are not known here: any of them might be the private one, so it is known by where it lies.
fn stranger(key: Value<'_, '_>, kind: &str, what: KeyKind, path: &Path) -> KeyFacts {
    let (kid, name) = (key.text_of("kid"), key.text_of("crv").or_else(|| key.text_of("alg")));
    let name = name.map(|name| format!(" {}", &*name)).unwrap_or_default();
    let facts = symmetric(path, kid.as_deref().unwrap_or_default(), format!("unknown ({kind}{name})"), None);
    KeyFacts { kind: what, ..facts }
}

/// A member in base64url. Only public ones are asked for.
fn member(key: Value<'_, '_>, name: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text = key.text_of(name)?;
    let standard: Zeroizing<Vec<u8>> = Zeroizing::new(
        text.bytes()
            .map(|b| {
                if b == b'-' {
                    b'+'
                } else if b == b'_' {
                    b'/'
                } else {
                    b
                }
            })
            .collect(),
    );
    pem::decode(&standard).ok()
}

#[cfg(test)]
mod tests;
