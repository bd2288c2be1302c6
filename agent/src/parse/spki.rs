//! Public keys that come as numbers (OpenPGP, JWK, WireGuard) brought into the form of a SubjectPublicKeyInfo, so that a key has
//! the same fingerprint in whichever file it lies. Called by the parsers of those. Format: RFC 5280, RFC 5480, RFC 8410.

use keyvigil_common::key::{KeyFacts, KeyKind};

use super::algorithm::{DSA_OID, EC_OID, RSA_OID, facts_of_spki};
use super::der::{BIT_STRING, INTEGER, OID, SEQUENCE, encode, magnitude};

/// `1.3.14.7.2.1.1`, encoded.
const ELGAMAL_OID: &[u8] = &[0x2b, 0x0e, 0x07, 0x02, 0x01, 0x01];
/// `1.3.101.110`, encoded.
pub const X25519_OID: &[u8] = &[0x2b, 0x65, 0x6e];
/// `1.3.101.111`, encoded.
pub const X448_OID: &[u8] = &[0x2b, 0x65, 0x6f];
/// `1.3.101.112`, encoded.
pub const ED25519_OID: &[u8] = &[0x2b, 0x65, 0x70];
/// `1.3.101.113`, encoded.
pub const ED448_OID: &[u8] = &[0x2b, 0x65, 0x71];
/// `2.16.840.1.101.3.4.3`, encoded: NIST's signatures, of which the last byte tells.
pub const NIST_SIGNATURES_OID: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03];

/// Facts of an RSA key by modulus and exponent, big-endian.
#[must_use]
pub fn rsa(kind: KeyKind, n: &[u8], e: &[u8]) -> Option<KeyFacts> {
    let key = encode(SEQUENCE, &[&unsigned(n), &unsigned(e)]);
    facts_of_spki(kind, &info(&[&encode(OID, &[RSA_OID]), &[0x05, 0x00]], &key))
}

/// Facts of a DSA key by its domain and public number, big-endian.
#[must_use]
pub fn dsa(kind: KeyKind, [p, q, g, y]: [&[u8]; 4]) -> Option<KeyFacts> {
    let domain = encode(SEQUENCE, &[&unsigned(p), &unsigned(q), &unsigned(g)]);
    facts_of_spki(kind, &info(&[&encode(OID, &[DSA_OID]), &domain], &unsigned(y)))
}

/// Facts of an ElGamal key by its domain and public number, big-endian.
#[must_use]
pub fn elgamal(kind: KeyKind, [p, g, y]: [&[u8]; 3]) -> Option<KeyFacts> {
    let domain = encode(SEQUENCE, &[&unsigned(p), &unsigned(g)]);
    facts_of_spki(kind, &info(&[&encode(OID, &[ELGAMAL_OID]), &domain], &unsigned(y)))
}

/// Facts of a point on the curve of that (encoded) identifier.
#[must_use]
pub fn ec(kind: KeyKind, curve: &[u8], point: &[u8]) -> Option<KeyFacts> {
    facts_of_spki(kind, &info(&[&encode(OID, &[EC_OID]), &encode(OID, &[curve])], point))
}

/// Facts of a key that is bytes only, of the algorithm of that (encoded) identifier.
#[must_use]
pub fn raw(kind: KeyKind, algorithm: &[u8], key: &[u8]) -> Option<KeyFacts> {
    facts_of_spki(kind, &info(&[&encode(OID, &[algorithm])], key))
}

fn info(identifier: &[&[u8]], key: &[u8]) -> Vec<u8> {
    encode(SEQUENCE, &[&encode(SEQUENCE, identifier), &encode(BIT_STRING, &[&[0], key])])
}

fn unsigned(number: &[u8]) -> Vec<u8> {
    let number = magnitude(number);
    let sign: &[u8] = if number.first().is_none_or(|first| first & 0x80 != 0) { &[0] } else { &[] };
    encode(INTEGER, &[sign, number])
}
