//! Private keys of PKCS#1, PKCS#8, SEC 1 and OpenSSL's older encrypted form. What leaves this file is the public half, which
//! is read or computed so that a key has the same fingerprint as its certificates. Nothing is ever decrypted, no private
//! byte is copied except into buffers that are wiped. Called by `keys`. Format: RFC 8017, RFC 5958, RFC 5915, RFC 8018.

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521, X25519};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{
    ECDSA_P256K1_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING, ML_DSA_87_SIGNING, PqdsaKeyPair,
};
use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::{hex, sha256};
use zeroize::Zeroizing;

use super::algorithm::{DSA_OID, EC_OID, RSA_OID, describe, facts_of_spki};
use super::der::{BIT_STRING, CONTEXT_0, CONTEXT_1, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, encode, oid_text};
use super::encryption::encryption;

/// Algorithm of a key that is encrypted whole.
pub const ENCRYPTED: &str = "unknown (encrypted)";
const BROKEN: &str = "the private key does not parse";

/// Facts of a PKCS#1 private key.
///
/// # Errors
/// What is wrong with it.
pub fn rsa(der: &[u8]) -> Result<KeyFacts, String> {
    let (n, e) = rsa_public(der).ok_or(BROKEN)?;
    clear(&rsa_spki(n, e))
}

/// Facts of a PKCS#1 public key.
///
/// # Errors
/// What is wrong with it.
pub fn rsa_public_key(der: &[u8]) -> Result<KeyFacts, String> {
    let mut reader = Reader::new(der).sequence().ok_or("the public key does not parse")?;
    let (n, e) = (reader.take(INTEGER), reader.take(INTEGER));
    let spki = n.zip(e).map(|(n, e)| rsa_spki(n, e)).ok_or("the public key does not parse")?;
    facts_of_spki(KeyKind::PublicKey, &spki).ok_or_else(|| "the public key does not parse".into())
}

/// Facts of a SEC 1 private key that names its own curve, or else is on `curve`.
///
/// # Errors
/// What is wrong with it.
pub fn ec_on(der: &[u8], curve: Option<&[u8]>) -> Result<KeyFacts, String> {
    let key = EcKey::read(der).ok_or(BROKEN)?;
    let parameters = key.parameters.or(curve).ok_or("the key does not say which curve it is on")?;
    let identifier = encode(SEQUENCE, &[&encode(OID, &[EC_OID]), parameters]);
    from_parts(&identifier, key.public(parameters), der)
}

/// Facts of OpenSSL's form of a DSA private key.
///
/// # Errors
/// What is wrong with it.
pub fn dsa(der: &[u8]) -> Result<KeyFacts, String> {
    let mut reader = Reader::new(der).sequence().ok_or(BROKEN)?;
    reader.take(INTEGER).ok_or(BROKEN)?;
    let mut number = || reader.element().filter(|element| element.tag == INTEGER).map(|element| element.raw).ok_or(BROKEN);
    let (p, q, g, y) = (number()?, number()?, number()?, number()?);
    let identifier = encode(SEQUENCE, &[&encode(OID, &[DSA_OID]), &encode(SEQUENCE, &[p, q, g])]);
    from_parts(&identifier, Some(y.to_vec()), der)
}

/// Facts of a PKCS#8 private key.
///
/// # Errors
/// What is wrong with it.
pub fn pkcs8(der: &[u8]) -> Result<KeyFacts, String> {
    let mut reader = Reader::new(der).sequence().ok_or(BROKEN)?;
    reader.take(INTEGER).ok_or(BROKEN)?;
    let identifier = reader.element().filter(|element| element.tag == SEQUENCE).ok_or(BROKEN)?;
    let private = reader.take(OCTET_STRING).ok_or(BROKEN)?;
    let mut algorithm = Reader::new(identifier.body);
    let oid = algorithm.take(OID).ok_or(BROKEN)?;
    if oid == RSA_OID {
        return rsa(private);
    }
    // Version 2 may carry the public key itself, behind the attributes.
    let embedded = std::iter::from_fn(|| reader.element()).find(|element| element.tag == 0x81).and_then(|element| element.body.get(1..));
    let public = match embedded {
        Some(public) => Some(public.to_vec()),
        None if oid == EC_OID => {
            let parameters = algorithm.element().ok_or("the key does not say which curve it is on")?.raw;
            EcKey::read(private).ok_or(BROKEN)?.public(parameters)
        }
        None => match oid_text(oid).as_str() {
            "1.2.840.113549.1.1.10" => rsa_public(private).map(|(n, e)| rsa_public_der(n, e)),
            "1.3.101.112" => ed25519_public(Reader::new(private).take(OCTET_STRING).ok_or(BROKEN)?),
            "1.3.101.110" => x25519_public(Reader::new(private).take(OCTET_STRING).ok_or(BROKEN)?),
            name => ml_dsa_public(name, der).or_else(|| contained_public(name, private)),
        },
    };
    from_parts(identifier.raw, public, der)
}

/// Facts of an encrypted PKCS#8 private key: only how it is protected.
///
/// # Errors
/// What is wrong with it.
pub fn encrypted_pkcs8(der: &[u8]) -> Result<KeyFacts, String> {
    let mut reader = Reader::new(der).sequence().ok_or(BROKEN)?;
    let scheme = reader.sequence().ok_or(BROKEN)?;
    if reader.take(OCTET_STRING).is_none_or(<[u8]>::is_empty) {
        return Err("the encrypted private key is empty".into());
    }
    let mut facts = locked(der, ENCRYPTED);
    facts.kdf = Some(encryption(scheme).unwrap_or_else(|| "unknown".into()));
    Ok(facts)
}

/// Facts of a key that OpenSSL encrypted in its older way, by its PEM label and `DEK-Info` header.
#[must_use]
pub fn legacy_encrypted(label: &str, dek_info: &str, body: &[u8]) -> KeyFacts {
    let algorithm = match label {
        "RSA PRIVATE KEY" => "rsa",
        "EC PRIVATE KEY" => "ec",
        "DSA PRIVATE KEY" => "dsa",
        _ => ENCRYPTED,
    };
    let mut facts = locked(body, algorithm);
    let cipher = dek_info.split(',').next().unwrap_or_default().to_ascii_lowercase();
    facts.kdf = Some(format!("md5, 1 iteration, {cipher}"));
    facts
}

/// The private key to a certificate, as far as the certificate tells.
#[must_use]
pub fn of_certificate(leaf: &KeyFacts) -> KeyFacts {
    KeyFacts {
        bits: leaf.bits,
        curve: leaf.curve.clone(),
        exponent: leaf.exponent,
        weaknesses: leaf.weaknesses.clone(),
        ..KeyFacts::bare(KeyKind::PrivateKey, leaf.fingerprint.clone(), leaf.fingerprint.clone(), leaf.algorithm.clone())
    }
}

/// A key whose public half cannot be read: known by the hash of its block.
fn locked(block: &[u8], algorithm: &str) -> KeyFacts {
    let id = hex(&sha256(block));
    let mut facts = KeyFacts::bare(KeyKind::PrivateKey, id.clone(), id, algorithm);
    facts.encrypted = Some(true);
    facts
}

fn clear(spki: &[u8]) -> Result<KeyFacts, String> {
    let mut facts = facts_of_spki(KeyKind::PrivateKey, spki).ok_or(BROKEN)?;
    facts.encrypted = Some(false);
    Ok(facts)
}

/// A key of `identifier` (a whole AlgorithmIdentifier). Without a public half its identity is the hash of its block.
fn from_parts(identifier: &[u8], public: Option<Vec<u8>>, block: &[u8]) -> Result<KeyFacts, String> {
    if let Some(public) = public {
        return clear(&encode(SEQUENCE, &[identifier, &encode(BIT_STRING, &[&[0], &public])]));
    }
    let body = Reader::new(identifier).take(SEQUENCE).ok_or(BROKEN)?;
    let description = describe(body, &[]).ok_or(BROKEN)?;
    let mut facts = locked(block, &description.name);
    facts.encrypted = Some(false);
    facts.bits = description.bits;
    facts.curve = description.curve;
    Ok(facts)
}

/// Modulus and exponent of a PKCS#1 private key.
fn rsa_public(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(der).sequence()?;
    reader.take(INTEGER)?;
    let (n, e) = (reader.take(INTEGER)?, reader.take(INTEGER)?);
    // The private exponent must follow, else this is something else.
    reader.take(INTEGER)?;
    Some((n, e))
}

fn rsa_public_der(n: &[u8], e: &[u8]) -> Vec<u8> {
    encode(SEQUENCE, &[&encode(INTEGER, &[n]), &encode(INTEGER, &[e])])
}

fn rsa_spki(n: &[u8], e: &[u8]) -> Vec<u8> {
    let identifier = encode(SEQUENCE, &[&encode(OID, &[RSA_OID]), &[0x05, 0x00]]);
    encode(SEQUENCE, &[&identifier, &encode(BIT_STRING, &[&[0], &rsa_public_der(n, e)])])
}

/// SEC 1 `ECPrivateKey`.
struct EcKey<'a> {
    scalar: &'a [u8],
    /// The curve, as a whole element.
    parameters: Option<&'a [u8]>,
    point: Option<&'a [u8]>,
}

impl<'a> EcKey<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(der).sequence()?;
        reader.take(INTEGER)?;
        let mut key = Self { scalar: reader.take(OCTET_STRING)?, parameters: None, point: None };
        while let Some(element) = reader.element() {
            match element.tag {
                CONTEXT_0 => key.parameters = Some(element.body),
                CONTEXT_1 => key.point = Reader::new(element.body).take(BIT_STRING).and_then(|bits| bits.get(1..)),
                _ => {}
            }
        }
        Some(key)
    }

    /// The public point: as it stands in the key, else computed where the curve is one that our library knows.
    fn public(&self, parameters: &[u8]) -> Option<Vec<u8>> {
        if let Some(point) = self.point {
            return Some(point.to_vec());
        }
        let curve = oid_text(Reader::new(parameters).take(OID)?);
        let (algorithm, length) = match curve.as_str() {
            "1.2.840.10045.3.1.7" => (&ECDH_P256, 32),
            "1.3.132.0.34" => (&ECDH_P384, 48),
            "1.3.132.0.35" => (&ECDH_P521, 66),
            "1.3.132.0.10" => return self.secp256k1(parameters),
            _ => return None,
        };
        let scalar = super::der::magnitude(self.scalar);
        let mut padded = Zeroizing::new(vec![0u8; length]);
        padded.get_mut(length.checked_sub(scalar.len())?..)?.copy_from_slice(scalar);
        let key = agreement::PrivateKey::from_private_key(algorithm, &padded).ok()?;
        Some(key.compute_public_key().ok()?.as_ref().to_vec())
    }

    fn secp256k1(&self, parameters: &[u8]) -> Option<Vec<u8>> {
        let parts = [encode(INTEGER, &[&[1]]), encode(OCTET_STRING, &[self.scalar]), encode(CONTEXT_0, &[parameters])].map(Zeroizing::new);
        let der = Zeroizing::new(encode(SEQUENCE, &[&parts[0], &parts[1], &parts[2]]));
        let key = EcdsaKeyPair::from_private_key_der(&ECDSA_P256K1_SHA256_ASN1_SIGNING, &der).ok()?;
        Some(key.public_key().as_ref().to_vec())
    }
}

fn ed25519_public(seed: &[u8]) -> Option<Vec<u8>> {
    Some(Ed25519KeyPair::from_seed_unchecked(seed).ok()?.public_key().as_ref().to_vec())
}

pub(super) fn x25519_public(scalar: &[u8]) -> Option<Vec<u8>> {
    let key = agreement::PrivateKey::from_private_key(&X25519, scalar).ok()?;
    Some(key.compute_public_key().ok()?.as_ref().to_vec())
}

/// The public half where the private one contains it: of SLH-DSA (FIPS 205, figure 15) it is the second half, in the long form
/// of ML-KEM (FIPS 203, algorithm 16) it stands between the two secrets.
fn contained_public(oid: &str, private: &[u8]) -> Option<Vec<u8>> {
    let last: usize = oid.rsplit_once('.')?.1.parse().ok()?;
    if oid.starts_with("2.16.840.1.101.3.4.3.") && (20..=31).contains(&last) {
        let private = Reader::new(private).take(OCTET_STRING).unwrap_or(private);
        return matches!(private.len(), 64 | 96 | 128).then(|| private[private.len() / 2..].to_vec());
    }
    let rank = oid.strip_prefix("2.16.840.1.101.3.4.4.").and(Some(last + 1)).filter(|rank| (2..=4).contains(rank))?;
    let mut reader = Reader::new(private);
    let long = match reader.tag()? {
        OCTET_STRING => reader.take(OCTET_STRING)?,
        // With the seed before it.
        SEQUENCE => {
            let mut both = reader.sequence()?;
            both.take(OCTET_STRING)?;
            both.take(OCTET_STRING)?
        }
        _ => return None,
    };
    let secret = 384 * rank;
    (long.len() == 2 * secret + 96).then(|| long[secret..2 * secret + 32].to_vec())
}

fn ml_dsa_public(oid: &str, der: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match oid {
        "2.16.840.1.101.3.4.3.17" => &ML_DSA_44_SIGNING,
        "2.16.840.1.101.3.4.3.18" => &ML_DSA_65_SIGNING,
        "2.16.840.1.101.3.4.3.19" => &ML_DSA_87_SIGNING,
        _ => return None,
    };
    let key = PqdsaKeyPair::from_pkcs8(algorithm, der).ok()?;
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().ok()?;
    let mut reader = Reader::new(spki.as_ref()).sequence()?;
    reader.take(SEQUENCE)?;
    Some(reader.take(BIT_STRING)?.get(1..)?.to_vec())
}
