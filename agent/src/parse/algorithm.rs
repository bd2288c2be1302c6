//! Names of public-key and signature algorithms by object identifier, post-quantum ones included, and what a
//! SubjectPublicKeyInfo says about its key. Called by the parsers of certificates and private keys. Sources: RFC 5280, RFC
//! 5480, RFC 8410, FIPS 203, 204 and 205 (NIST's register of algorithm identifiers).

use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::{hex, sha256};

use super::der::{BIT_STRING, CONTEXT_0, INTEGER, OID, Reader, SEQUENCE, bit_length, oid_text};
use super::weak;

/// `1.2.840.113549.1.1.1`, encoded.
pub const RSA_OID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// `1.2.840.10045.2.1`, encoded.
pub const EC_OID: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// `1.2.840.10040.4.1`, encoded.
pub const DSA_OID: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01];

/// Public keys: identifier, name, size in bits where it is fixed.
const PUBLIC_KEYS: &[(&str, &str, Option<u32>)] = &[
    ("1.2.840.113549.1.1.1", "rsa", None),
    // X.500's own name of it.
    ("2.5.8.1.1", "rsa", None),
    ("1.2.840.113549.1.1.7", "rsa-oaep", None),
    ("1.2.840.113549.1.1.10", "rsa-pss", None),
    ("1.2.840.10045.2.1", "ec", None),
    ("1.2.840.10040.4.1", "dsa", None),
    ("1.2.840.10046.2.1", "dh", None),
    ("1.2.840.113549.1.3.1", "dh", None),
    // OIW's, by which Bouncy Castle writes it; OpenPGP's are brought into this form.
    ("1.3.14.7.2.1.1", "elgamal", None),
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
    // Over a hash of the message; the others take the message itself.
    ("2.16.840.1.101.3.4.3.32", "hash-ml-dsa-44", None),
    ("2.16.840.1.101.3.4.3.33", "hash-ml-dsa-65", None),
    ("2.16.840.1.101.3.4.3.34", "hash-ml-dsa-87", None),
    ("2.16.840.1.101.3.4.3.35", "hash-slh-dsa-sha2-128s", None),
    ("2.16.840.1.101.3.4.3.36", "hash-slh-dsa-sha2-128f", None),
    ("2.16.840.1.101.3.4.3.37", "hash-slh-dsa-sha2-192s", None),
    ("2.16.840.1.101.3.4.3.38", "hash-slh-dsa-sha2-192f", None),
    ("2.16.840.1.101.3.4.3.39", "hash-slh-dsa-sha2-256s", None),
    ("2.16.840.1.101.3.4.3.40", "hash-slh-dsa-sha2-256f", None),
    ("2.16.840.1.101.3.4.3.41", "hash-slh-dsa-shake-128s", None),
    ("2.16.840.1.101.3.4.3.42", "hash-slh-dsa-shake-128f", None),
    ("2.16.840.1.101.3.4.3.43", "hash-slh-dsa-shake-192s", None),
    ("2.16.840.1.101.3.4.3.44", "hash-slh-dsa-shake-192f", None),
    ("2.16.840.1.101.3.4.3.45", "hash-slh-dsa-shake-256s", None),
    ("2.16.840.1.101.3.4.3.46", "hash-slh-dsa-shake-256f", None),
    ("2.16.840.1.101.3.4.4.1", "ml-kem-512", None),
    ("2.16.840.1.101.3.4.4.2", "ml-kem-768", None),
    ("2.16.840.1.101.3.4.4.3", "ml-kem-1024", None),
    ("1.2.840.113549.1.9.16.3.17", "hss-lms", None),
    ("1.3.6.1.5.5.7.6.34", "xmss", None),
    ("1.3.6.1.5.5.7.6.35", "xmssmt", None),
    ("1.3.6.1.5.5.7.6.37", "ml-dsa-44-rsa2048-pss", None),
    ("1.3.6.1.5.5.7.6.38", "ml-dsa-44-rsa2048-pkcs15", None),
    ("1.3.6.1.5.5.7.6.39", "ml-dsa-44-ed25519", None),
    ("1.3.6.1.5.5.7.6.40", "ml-dsa-44-ecdsa-p256", None),
    ("1.3.6.1.5.5.7.6.41", "ml-dsa-65-rsa3072-pss", None),
    ("1.3.6.1.5.5.7.6.42", "ml-dsa-65-rsa3072-pkcs15", None),
    ("1.3.6.1.5.5.7.6.43", "ml-dsa-65-rsa4096-pss", None),
    ("1.3.6.1.5.5.7.6.44", "ml-dsa-65-rsa4096-pkcs15", None),
    ("1.3.6.1.5.5.7.6.45", "ml-dsa-65-ecdsa-p256", None),
    ("1.3.6.1.5.5.7.6.46", "ml-dsa-65-ecdsa-p384", None),
    ("1.3.6.1.5.5.7.6.47", "ml-dsa-65-ecdsa-brainpoolp256r1", None),
    ("1.3.6.1.5.5.7.6.48", "ml-dsa-65-ed25519", None),
    ("1.3.6.1.5.5.7.6.49", "ml-dsa-87-ecdsa-p384", None),
    ("1.3.6.1.5.5.7.6.50", "ml-dsa-87-ecdsa-brainpoolp384r1", None),
    ("1.3.6.1.5.5.7.6.51", "ml-dsa-87-ed448", None),
    ("1.3.6.1.5.5.7.6.52", "ml-dsa-87-rsa3072-pss", None),
    ("1.3.6.1.5.5.7.6.53", "ml-dsa-87-rsa4096-pss", None),
    ("1.3.6.1.5.5.7.6.54", "ml-dsa-87-ecdsa-p521", None),
    ("1.2.643.2.2.19", "gost-2001", Some(256)),
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
    ("1.3.36.3.3.2.8.1.1.1", "brainpoolP160r1", 160),
    ("1.3.36.3.3.2.8.1.1.2", "brainpoolP160t1", 160),
    ("1.3.36.3.3.2.8.1.1.3", "brainpoolP192r1", 192),
    ("1.3.36.3.3.2.8.1.1.4", "brainpoolP192t1", 192),
    ("1.3.36.3.3.2.8.1.1.5", "brainpoolP224r1", 224),
    ("1.3.36.3.3.2.8.1.1.6", "brainpoolP224t1", 224),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1", 256),
    ("1.3.36.3.3.2.8.1.1.8", "brainpoolP256t1", 256),
    ("1.3.36.3.3.2.8.1.1.9", "brainpoolP320r1", 320),
    ("1.3.36.3.3.2.8.1.1.10", "brainpoolP320t1", 320),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1", 384),
    ("1.3.36.3.3.2.8.1.1.12", "brainpoolP384t1", 384),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1", 512),
    ("1.3.36.3.3.2.8.1.1.14", "brainpoolP512t1", 512),
    ("1.2.156.10197.1.301", "sm2p256v1", 256),
    ("1.2.250.1.223.101.256.1", "FRP256v1", 256),
    ("1.2.840.10045.3.1.2", "prime192v2", 192),
    ("1.2.840.10045.3.1.3", "prime192v3", 192),
    ("1.2.840.10045.3.1.4", "prime239v1", 239),
    ("1.2.840.10045.3.1.5", "prime239v2", 239),
    ("1.2.840.10045.3.1.6", "prime239v3", 239),
    ("1.3.132.0.6", "secp112r1", 112),
    ("1.3.132.0.7", "secp112r2", 112),
    ("1.3.132.0.28", "secp128r1", 128),
    ("1.3.132.0.29", "secp128r2", 128),
    ("1.3.132.0.9", "secp160k1", 160),
    ("1.3.132.0.8", "secp160r1", 160),
    ("1.3.132.0.30", "secp160r2", 160),
    ("1.3.132.0.31", "secp192k1", 192),
    ("1.3.132.0.32", "secp224k1", 224),
    ("1.3.132.0.4", "sect113r1", 113),
    ("1.3.132.0.5", "sect113r2", 113),
    ("1.3.132.0.22", "sect131r1", 131),
    ("1.3.132.0.23", "sect131r2", 131),
    ("1.3.132.0.1", "sect163k1", 163),
    ("1.3.132.0.2", "sect163r1", 163),
    ("1.3.132.0.15", "sect163r2", 163),
    ("1.3.132.0.24", "sect193r1", 193),
    ("1.3.132.0.25", "sect193r2", 193),
    ("1.3.132.0.26", "sect233k1", 233),
    ("1.3.132.0.27", "sect233r1", 233),
    ("1.3.132.0.3", "sect239k1", 239),
    ("1.3.132.0.16", "sect283k1", 283),
    ("1.3.132.0.17", "sect283r1", 283),
    ("1.3.132.0.36", "sect409k1", 409),
    ("1.3.132.0.37", "sect409r1", 409),
    ("1.3.132.0.38", "sect571k1", 571),
    ("1.3.132.0.39", "sect571r1", 571),
    // Of X9.62, over fields of characteristic two, and of WTLS.
    ("1.2.840.10045.3.0.1", "c2pnb163v1", 163),
    ("1.2.840.10045.3.0.2", "c2pnb163v2", 163),
    ("1.2.840.10045.3.0.3", "c2pnb163v3", 163),
    ("1.2.840.10045.3.0.4", "c2pnb176v1", 176),
    ("1.2.840.10045.3.0.5", "c2tnb191v1", 191),
    ("1.2.840.10045.3.0.6", "c2tnb191v2", 191),
    ("1.2.840.10045.3.0.7", "c2tnb191v3", 191),
    ("1.2.840.10045.3.0.10", "c2pnb208w1", 208),
    ("1.2.840.10045.3.0.11", "c2tnb239v1", 239),
    ("1.2.840.10045.3.0.12", "c2tnb239v2", 239),
    ("1.2.840.10045.3.0.13", "c2tnb239v3", 239),
    ("1.2.840.10045.3.0.16", "c2pnb272w1", 272),
    ("1.2.840.10045.3.0.17", "c2pnb304w1", 304),
    ("1.2.840.10045.3.0.18", "c2tnb359v1", 359),
    ("1.2.840.10045.3.0.19", "c2pnb368w1", 368),
    ("1.2.840.10045.3.0.20", "c2tnb431r1", 431),
    ("2.23.43.1.4.1", "wtls1", 113),
    ("2.23.43.1.4.3", "wtls3", 163),
    ("2.23.43.1.4.4", "wtls4", 113),
    ("2.23.43.1.4.5", "wtls5", 163),
    ("2.23.43.1.4.6", "wtls6", 112),
    ("2.23.43.1.4.7", "wtls7", 160),
    ("2.23.43.1.4.8", "wtls8", 112),
    ("2.23.43.1.4.9", "wtls9", 160),
    ("2.23.43.1.4.10", "wtls10", 233),
    ("2.23.43.1.4.11", "wtls11", 233),
    ("2.23.43.1.4.12", "wtls12", 224),
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
    ("1.2.840.113549.1.1.15", "sha512-224WithRSAEncryption"),
    ("1.2.840.113549.1.1.16", "sha512-256WithRSAEncryption"),
    ("1.2.840.113549.1.1.10", "rsassaPss"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.2.840.10040.4.3", "dsa-with-SHA1"),
    ("2.16.840.1.101.3.4.3.2", "dsa-with-SHA256"),
    ("2.16.840.1.101.3.4.3.1", "dsa-with-SHA224"),
    ("2.16.840.1.101.3.4.3.3", "dsa-with-SHA384"),
    ("2.16.840.1.101.3.4.3.4", "dsa-with-SHA512"),
    ("2.16.840.1.101.3.4.3.5", "dsa-with-SHA3-224"),
    ("2.16.840.1.101.3.4.3.6", "dsa-with-SHA3-256"),
    ("2.16.840.1.101.3.4.3.7", "dsa-with-SHA3-384"),
    ("2.16.840.1.101.3.4.3.8", "dsa-with-SHA3-512"),
    ("2.16.840.1.101.3.4.3.9", "ecdsa-with-SHA3-224"),
    ("2.16.840.1.101.3.4.3.10", "ecdsa-with-SHA3-256"),
    ("2.16.840.1.101.3.4.3.11", "ecdsa-with-SHA3-384"),
    ("2.16.840.1.101.3.4.3.12", "ecdsa-with-SHA3-512"),
    ("2.16.840.1.101.3.4.3.13", "rsa-with-SHA3-224"),
    ("2.16.840.1.101.3.4.3.14", "rsa-with-SHA3-256"),
    ("2.16.840.1.101.3.4.3.15", "rsa-with-SHA3-384"),
    ("2.16.840.1.101.3.4.3.16", "rsa-with-SHA3-512"),
    // Older names of MD5 and SHA-1 with RSA, of OIW and TeleTrusT.
    ("1.3.14.3.2.3", "md5WithRSA"),
    ("1.3.14.3.2.29", "sha1WithRSA"),
    ("1.3.14.3.2.27", "dsaWithSHA1"),
    ("1.2.840.113549.1.1.3", "md4WithRSAEncryption"),
    ("1.3.36.3.3.1.2", "ripemd160WithRSA"),
    ("1.2.643.2.2.3", "gost3411-94-with-gost3410-2001"),
    ("1.2.643.7.1.1.3.2", "gost3411-2012-256-with-gost3410-2012-256"),
    ("1.2.643.7.1.1.3.3", "gost3411-2012-512-with-gost3410-2012-512"),
    ("1.2.156.10197.1.501", "SM2-with-SM3"),
    ("1.2.156.10197.1.504", "RSA-with-SM3"),
];

/// Where drafts of composite keys (post-quantum and traditional in one) had their identifiers.
const COMPOSITE_DRAFTS: [&str; 2] = ["2.16.840.1.114027.80.8.1.", "2.16.840.1.114027.80.9.1."];

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
        let family = if COMPOSITE_DRAFTS.iter().any(|arc| oid.starts_with(arc)) { "composite" } else { "unknown" };
        return Some(Description { name: format!("{family} ({oid})"), bits: None, curve: None });
    };
    let mut description = Description { name: (*name).to_owned(), bits: *bits, curve: None };
    match *name {
        "rsa" | "rsa-pss" | "rsa-oaep" => description.bits = Reader::new(public_key).sequence().and_then(|mut key| Some(bit_length(key.take(INTEGER)?))),
        "dsa" | "dh" | "elgamal" => description.bits = reader.sequence().and_then(|mut domain| Some(bit_length(domain.take(INTEGER)?))),
        "ec" => {
            let curve = reader.take(OID).map(oid_text);
            let known = curve.as_ref().and_then(|oid| CURVES.iter().find(|row| row.0 == oid));
            description.bits = known.map(|row| row.2);
            if curve.is_none() {
                description.bits = explicit_field_bits(reader);
            }
            description.curve = Some(known.map_or_else(|| curve.unwrap_or_else(|| "explicit parameters".into()), |row| row.1.to_owned()));
        }
        // The parameter set says which curve.
        name if name.starts_with("gost") => description.curve = reader.sequence().and_then(|mut set| set.take(OID)).map(oid_text),
        _ => {}
    }
    Some(description)
}

/// Size of the field of a curve that is given by its numbers (`SpecifiedECDomain` of SEC 1): its prime, or its degree.
fn explicit_field_bits(mut parameters: Reader<'_>) -> Option<u32> {
    let mut domain = parameters.sequence()?;
    domain.take(INTEGER)?;
    let mut field = domain.sequence()?;
    let kind = oid_text(field.take(OID)?);
    match kind.as_str() {
        "1.2.840.10045.1.1" => field.take(INTEGER).map(bit_length),
        _ => field.sequence()?.small().and_then(|degree| u32::try_from(degree).ok()),
    }
}

/// Facts of a public key in the form of a SubjectPublicKeyInfo.
#[must_use]
pub fn facts_of_spki(kind: KeyKind, spki: &[u8]) -> Option<KeyFacts> {
    let mut reader = Reader::new(spki).sequence()?;
    let identifier = reader.take(SEQUENCE)?;
    // The first byte of a BIT STRING counts unused bits.
    let key = reader.take(BIT_STRING)?.split_first()?.1;
    let description = describe(identifier, key)?;
    let id = hex(&sha256(spki));
    let mut facts = KeyFacts::bare(kind, id.clone(), id, description.name);
    facts.bits = description.bits;
    facts.curve = description.curve;
    if facts.algorithm.starts_with("rsa")
        && let Some(mut numbers) = Reader::new(key).sequence()
        && let Some((modulus, exponent)) = numbers.take(INTEGER).zip(numbers.take(INTEGER))
    {
        weak::rsa(&mut facts, modulus, exponent);
    }
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

/// The same by the contents of its AlgorithmIdentifier: PSS says its hash in the parameters, and without any means SHA-1.
#[must_use]
pub fn signature_in(mut identifier: Reader<'_>) -> Option<String> {
    let name = signature_name(identifier.take(OID)?);
    if name != "rsassaPss" {
        return Some(name);
    }
    let hash = identifier.sequence().and_then(|mut parameters| Reader::new(parameters.take(CONTEXT_0)?).sequence()?.take(OID).map(oid_text));
    let suffix = match hash.as_deref() {
        None | Some("1.3.14.3.2.26") => "-SHA1",
        Some("1.2.840.113549.2.5") => "-MD5",
        Some(_) => "",
    };
    Some(name + suffix)
}

#[cfg(test)]
mod tests {
    use super::super::der::encode;
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
    fn of_pss_a_broken_hash_is_told_also_where_it_is_only_meant() {
        let pss = encode(OID, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a]]);
        let named = |parameters: &[u8]| signature_in(Reader::new(&[&pss, parameters].concat())).unwrap();
        let with = |hash: &[u8]| named(&encode(SEQUENCE, &[&encode(CONTEXT_0, &[&encode(SEQUENCE, &[&encode(OID, &[hash])])])]));
        assert_eq!(
            (named(&[0x30, 0]), named(&[]), with(&[0x2b, 0x0e, 0x03, 0x02, 0x1a])),
            ("rsassaPss-SHA1".into(), "rsassaPss-SHA1".into(), "rsassaPss-SHA1".into())
        );
        assert_eq!(with(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01]), "rsassaPss");
    }

    #[test]
    fn a_curve_with_explicit_parameters_is_said_to_be_one() {
        let identifier = [encode(OID, &[EC_OID]), encode(SEQUENCE, &[&[0x02, 0x01, 0x01]])].concat();
        let description = describe(&identifier, &[]).unwrap();
        assert_eq!((description.bits, description.curve.as_deref()), (None, Some("explicit parameters")));
    }
}
