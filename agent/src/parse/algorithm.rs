//! Names of public-key and signature algorithms by object identifier, post-quantum ones included, and what a
//! SubjectPublicKeyInfo says about its key. Called by the parsers of certificates and private keys. Sources: RFC 5280, RFC
//! 5480, RFC 8410, FIPS 203, 204 and 205 (NIST's register of algorithm identifiers).

use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::{hex, sha256};

use super::der::{BIT_STRING, OID, Reader, bit_length, oid_text};

/// `1.2.840.113549.1.1.1`, encoded.
pub const RSA_OID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `1.2.840.10045.2.1`, encoded.
pub const EC_OID: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `1.2.840.10040.4.1`, encoded.
pub const DSA_OID: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01];

/// Public keys: identifier, name, size in bits where it is fixed.
const PUBLIC_KEYS: &[(&str, &str, Option<u32>)] = &[
    ("1.2.840.113549.1.1.1", "rsa", None),
    ("1.2.840.113549.1.1.10", "rsa-pss", None),
    ("1.2.840.10045.2.1", "ec", None),
    ("1.2.840.10040.4.1", "dsa", None),
    ("1.2.840.10046.2.1", "dh", None),
    ("1.2.840.113549.1.3.1", "dh", None),
    ("1.3.101.110", "x25519", Some(256)),
    ("1.3.101.111", "x448", Some(448)),
    ("1.3.101.112", "ed25519", Some(256)),
    ("1.3.101.113", "ed448", Some(456)),
    ("2.16.840.1.101.3.4.3.17", "ml-dsa-44", None),
    ("2.16.840.1.101.3.4.3.18", "ml-dsa-65", None),
    ("2.16.840.1.101.3.4.3.19", "ml-dsa-87", None),
    ("2.16.840.1.101.3.4.3.20", "slh-dsa-sha2-128s", None),
    ("2.16.840.1.101.3.4.3.21", "slh-dsa-sha2-128f", None),
    ("2.16.840.1.101.3.4.3.22", "slh-dsa-sha2-192s", None),
    ("2.16.840.1.101.3.4.3.23", "slh-dsa-sha2-192f", None),
    ("2.16.840.1.101.3.4.3.24", "slh-dsa-sha2-256s", None),
    ("2.16.840.1.101.3.4.3.25", "slh-dsa-sha2-256f", None),
    ("2.16.840.1.101.3.4.3.26", "slh-dsa-shake-128s", None),
    ("2.16.840.1.101.3.4.3.27", "slh-dsa-shake-128f", None),
    ("2.16.840.1.101.3.4.3.28", "slh-dsa-shake-192s", None),
    ("2.16.840.1.101.3.4.3.29", "slh-dsa-shake-192f", None),
    ("2.16.840.1.101.3.4.3.30", "slh-dsa-shake-256s", None),
    ("2.16.840.1.101.3.4.3.31", "slh-dsa-shake-256f", None),
    ("2.16.840.1.101.3.4.4.1", "ml-kem-512", None),
    ("2.16.840.1.101.3.4.4.2", "ml-kem-768", None),
    ("2.16.840.1.101.3.4.4.3", "ml-kem-1024", None),
    ("1.2.840.113549.1.9.16.3.17", "hss-lms", None),
    ("1.3.6.1.5.5.7.6.34", "xmss", None),
    ("1.3.6.1.5.5.7.6.35", "xmssmt", None),
    ("1.2.643.7.1.1.1.1", "gost-2012-256", Some(256)),
    ("1.2.643.7.1.1.1.2", "gost-2012-512", Some(512)),
];

/// Named curves: identifier, name, size in bits.
const CURVES: &[(&str, &str, u32)] = &[
    ("1.2.840.10045.3.1.7", "secp256r1", 256),
    ("1.3.132.0.34", "secp384r1", 384),
    ("1.3.132.0.35", "secp521r1", 521),
    ("1.3.132.0.33", "secp224r1", 224),
    ("1.2.840.10045.3.1.1", "secp192r1", 192),
    ("1.3.132.0.10", "secp256k1", 256),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1", 256),
    ("1.3.36.3.3.2.8.1.1.9", "brainpoolP320r1", 320),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1", 384),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1", 512),
    ("1.2.156.10197.1.301", "sm2p256v1", 256),
];

/// Signatures.
const SIGNATURES: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.2", "md2WithRSAEncryption"),
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
    ("1.2.840.113549.1.1.14", "sha224WithRSAEncryption"),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption"),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption"),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption"),
    ("1.2.840.113549.1.1.10", "rsassaPss"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.2.840.10040.4.3", "dsa-with-SHA1"),
    ("2.16.840.1.101.3.4.3.2", "dsa-with-SHA256"),
    ("1.2.156.10197.1.501", "SM2-with-SM3"),
];

/// What a public key's parameters say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Name, or `unknown (<OID>)`.
    pub name: String,
    /// Size in bits.
    pub bits: Option<u32>,
    /// Named curve.
    pub curve: Option<String>,
}

/// Describes a key by the contents of its AlgorithmIdentifier and, for RSA, the contents of its PKCS#1 public key.
#[must_use]
pub fn describe(identifier: &[u8], public_key: &[u8]) -> Option<Description> {
    let mut reader = Reader::new(identifier);
    let oid = oid_text(reader.take(OID)?);
    let Some((_, name, bits)) = PUBLIC_KEYS.iter().find(|row| row.0 == oid) else {
        return Some(Description { name: format!("unknown ({oid})"), bits: None, curve: None });
    };
    let mut description = Description { name: (*name).to_owned(), bits: *bits, curve: None };
    match *name {
        "rsa" | "rsa-pss" => description.bits = Reader::new(public_key).sequence().and_then(|mut key| Some(bit_length(key.take(super::der::INTEGER)?))),
        "dsa" | "dh" => description.bits = reader.sequence().and_then(|mut domain| Some(bit_length(domain.take(super::der::INTEGER)?))),
        "ec" => {
            let curve = reader.take(OID).map(oid_text);
            let known = curve.as_ref().and_then(|oid| CURVES.iter().find(|row| row.0 == oid));
            description.bits = known.map(|row| row.2);
            description.curve = Some(known.map_or_else(|| curve.unwrap_or_else(|| "explicit parameters".into()), |row| row.1.to_owned()));
        }
        _ => {}
    }
    Some(description)
}

/// Facts of a public key in the form of a SubjectPublicKeyInfo.
#[must_use]
pub fn facts_of_spki(kind: KeyKind, spki: &[u8]) -> Option<KeyFacts> {
    let mut reader = Reader::new(spki).sequence()?;
    let identifier = reader.take(super::der::SEQUENCE)?;
    // The first byte of a BIT STRING counts unused bits.
    let key = reader.take(BIT_STRING)?.split_first()?.1;
    let description = describe(identifier, key)?;
    let id = hex(&sha256(spki));
    let mut facts = KeyFacts::bare(kind, id.clone(), id, description.name);
    facts.bits = description.bits;
    facts.curve = description.curve;
    Some(facts)
}

/// Name of a signature algorithm; its identifier where it has none here.
#[must_use]
pub fn signature_name(oid: &[u8]) -> String {
    let oid = oid_text(oid);
    let signature = SIGNATURES.iter().find(|row| row.0 == oid).map(|row| row.1);
    let same_as_key = || PUBLIC_KEYS.iter().find(|row| row.0 == oid).map(|row| row.1);
    signature.or_else(same_as_key).map_or(oid.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::der::{SEQUENCE, encode};
    use super::*;

    #[test]
    fn post_quantum_keys_have_names_and_strangers_keep_their_identifier() {
        let described = |oid: &[u8]| describe(&encode(OID, &[oid]), &[]).unwrap().name;
        assert_eq!(described(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12]), "ml-dsa-65");
        assert_eq!(described(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 0x02]), "ml-kem-768");
        assert_eq!(described(&[0x2a, 0x03, 0x04]), "unknown (1.2.3.4)");
        assert_eq!(signature_name(&[0x2b, 0x65, 0x70]), "ed25519");
    }

    #[test]
    fn a_curve_with_explicit_parameters_is_said_to_be_one() {
        let identifier = [encode(OID, &[EC_OID]), encode(SEQUENCE, &[&[0x02, 0x01, 0x01]])].concat();
        let description = describe(&identifier, &[]).unwrap();
        assert_eq!((description.bits, description.curve.as_deref()), (None, Some("explicit parameters")));
    }
}
