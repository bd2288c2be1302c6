//! Algorithms as CycloneDX has them: names, primitives, parameters, identifiers; how strong they are stands in `strength.rs`.

use keyvigil_common::key::KeyKind;
use serde_json::{Map, Value, json};

use super::super::KeyRecord;
use super::{Version, escaped, strength};

/// What names that begin so are: primitive, what it does, family (CycloneDX 1.7). The first that fits counts.
type Row = (&'static str, &'static str, &'static [&'static str], Option<&'static str>);

const SIGN: &[&str] = &["keygen", "sign", "verify"];
const AGREE: &[&str] = &["keygen", "keyderive"];
const ENCRYPT: &[&str] = &["keygen", "encrypt", "decrypt"];
const ENCAPSULATE: &[&str] = &["keygen", "encapsulate", "decapsulate"];

const KEYS: &[Row] = &[
    ("rsa-pss", "signature", SIGN, Some("RSASSA-PSS")),
    ("rsa-oaep", "pke", ENCRYPT, Some("RSAES-OAEP")),
    // Both families of PKCS#1, and nobody says which it is for.
    ("rsa", "pke", &["keygen", "encrypt", "decrypt", "sign", "verify"], None),
    ("ecdsa", "signature", SIGN, Some("ECDSA")),
    ("ed25519", "signature", SIGN, Some("EdDSA")),
    ("ed448", "signature", SIGN, Some("EdDSA")),
    ("elgamal", "pke", ENCRYPT, Some("ElGamal")),
    ("ec", "signature", SIGN, None),
    ("dsa", "signature", SIGN, Some("DSA")),
    ("dh", "key-agree", AGREE, Some("FFDH")),
    ("x25519", "key-agree", AGREE, Some("ECDH")),
    ("x448", "key-agree", AGREE, Some("ECDH")),
    ("ml-dsa-", "signature", SIGN, Some("ML-DSA")),
    ("slh-dsa-", "signature", SIGN, Some("SLH-DSA")),
    ("ml-kem-", "kem", ENCAPSULATE, Some("ML-KEM")),
    ("kyber", "kem", ENCAPSULATE, None),
    ("hss-lms", "signature", SIGN, Some("LMS")),
    ("xmss", "signature", SIGN, Some("XMSS")),
    ("gost-", "signature", SIGN, Some("GOST")),
    ("aes", "block-cipher", ENCRYPT, Some("AES")),
    ("hmac", "mac", &["keygen", "tag"], Some("HMAC")),
];

/// Names with the identifier that is theirs whatever the parameters are.
const IDENTIFIERS: &[(&str, &str)] = &[
    ("rsa", "1.2.840.113549.1.1.1"),
    ("rsa-oaep", "1.2.840.113549.1.1.7"),
    ("rsa-pss", "1.2.840.113549.1.1.10"),
    ("ec", "1.2.840.10045.2.1"),
    ("ecdsa-sk", "1.2.840.10045.2.1"),
    ("dsa", "1.2.840.10040.4.1"),
    ("dh", "1.2.840.10046.2.1"),
    ("x25519", "1.3.101.110"),
    ("x448", "1.3.101.111"),
    ("ed25519", "1.3.101.112"),
    ("ed25519-sk", "1.3.101.112"),
    ("ed448", "1.3.101.113"),
    ("ml-dsa-44", "2.16.840.1.101.3.4.3.17"),
    ("ml-dsa-65", "2.16.840.1.101.3.4.3.18"),
    ("ml-dsa-87", "2.16.840.1.101.3.4.3.19"),
    ("slh-dsa-sha2-128s", "2.16.840.1.101.3.4.3.20"),
    ("slh-dsa-sha2-128f", "2.16.840.1.101.3.4.3.21"),
    ("slh-dsa-sha2-192s", "2.16.840.1.101.3.4.3.22"),
    ("slh-dsa-sha2-192f", "2.16.840.1.101.3.4.3.23"),
    ("slh-dsa-sha2-256s", "2.16.840.1.101.3.4.3.24"),
    ("slh-dsa-sha2-256f", "2.16.840.1.101.3.4.3.25"),
    ("slh-dsa-shake-128s", "2.16.840.1.101.3.4.3.26"),
    ("slh-dsa-shake-128f", "2.16.840.1.101.3.4.3.27"),
    ("slh-dsa-shake-192s", "2.16.840.1.101.3.4.3.28"),
    ("slh-dsa-shake-192f", "2.16.840.1.101.3.4.3.29"),
    ("slh-dsa-shake-256s", "2.16.840.1.101.3.4.3.30"),
    ("slh-dsa-shake-256f", "2.16.840.1.101.3.4.3.31"),
    ("ml-kem-512", "2.16.840.1.101.3.4.4.1"),
    ("ml-kem-768", "2.16.840.1.101.3.4.4.2"),
    ("ml-kem-1024", "2.16.840.1.101.3.4.4.3"),
    ("hss-lms", "1.2.840.113549.1.9.16.3.17"),
    ("gost-2012-256", "1.2.643.7.1.1.1.1"),
    ("gost-2012-512", "1.2.643.7.1.1.1.2"),
    ("md5WithRSAEncryption", "1.2.840.113549.1.1.4"),
    ("sha1WithRSAEncryption", "1.2.840.113549.1.1.5"),
    ("sha224WithRSAEncryption", "1.2.840.113549.1.1.14"),
    ("sha256WithRSAEncryption", "1.2.840.113549.1.1.11"),
    ("sha384WithRSAEncryption", "1.2.840.113549.1.1.12"),
    ("sha512WithRSAEncryption", "1.2.840.113549.1.1.13"),
    ("rsassaPss", "1.2.840.113549.1.1.10"),
    ("ecdsa-with-SHA1", "1.2.840.10045.4.1"),
    ("ecdsa-with-SHA224", "1.2.840.10045.4.3.1"),
    ("ecdsa-with-SHA256", "1.2.840.10045.4.3.2"),
    ("ecdsa-with-SHA384", "1.2.840.10045.4.3.3"),
    ("ecdsa-with-SHA512", "1.2.840.10045.4.3.4"),
    ("dsa-with-SHA1", "1.2.840.10040.4.3"),
    ("dsa-with-SHA256", "2.16.840.1.101.3.4.3.2"),
];

/// Curves of SEC 2 that CycloneDX registers.
const SECG: &str = "secp112r1 secp112r2 secp128r1 secp128r2 secp160k1 secp160r1 secp160r2 secp192k1 secp192r1 secp224k1 secp224r1 secp256k1 secp256r1 \
    secp384r1 secp521r1 sect113r1 sect113r2 sect131r1 sect131r2 sect163k1 sect163r1 sect163r2 sect193r1 sect193r2 sect233k1 sect233r1 sect239k1 \
    sect283k1 sect283r1 sect409k1 sect409r1 sect571k1 sect571r1";

/// An algorithm of keys, with its parameters: what two keys must share to be of one component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    Key { name: String, bits: Option<u32>, curve: Option<String> },
    Signature(String),
}

impl Algorithm {
    /// Lists have no key of their own, and of the kernel's keys nothing is known but their description.
    pub(super) fn of_key(key: &KeyRecord) -> Option<Self> {
        let facts = &key.facts;
        if matches!(facts.kind, KeyKind::Crl | KeyKind::KernelKey) || facts.algorithm.is_empty() {
            return None;
        }
        // Where the name says it all, the size is not a parameter.
        let bits = facts.bits.filter(|_| matches!(facts.algorithm.as_str(), "rsa" | "rsa-pss" | "rsa-oaep" | "dsa" | "dh" | "elgamal" | "aes"));
        Some(Self::Key { name: facts.algorithm.clone(), bits, curve: facts.curve.clone() })
    }

    pub(super) fn of_signature(key: &KeyRecord) -> Option<Self> {
        key.facts.signature_algorithm.clone().filter(|name| !name.is_empty()).map(Self::Signature)
    }

    /// Different for any two that differ, whatever a host calls its algorithms.
    pub(super) fn reference(&self) -> String {
        match self {
            Self::Key { name, bits, curve } => {
                let bits = bits.map(|bits| format!("@{bits}")).unwrap_or_default();
                let curve = curve.as_ref().map(|curve| format!("/{}", escaped(curve))).unwrap_or_default();
                format!("crypto/algorithm/{}{bits}{curve}", escaped(name))
            }
            Self::Signature(name) => format!("crypto/signature/{}", escaped(name)),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Key { name, bits, curve } => {
                let parameter = curve.clone().or_else(|| bits.map(|bits| bits.to_string()));
                parameter.map_or_else(|| name.clone(), |parameter| format!("{name}-{parameter}"))
            }
            Self::Signature(name) => name.clone(),
        }
    }

    pub(super) fn component(&self, version: Version) -> Value {
        let (name, mut of) = match self {
            Self::Key { name, bits, curve } => (name, key(name, *bits, curve.as_deref(), version)),
            Self::Signature(name) => (name, signature(name, version)),
        };
        let size = if let Self::Key { bits, .. } = self { *bits } else { None };
        of.extend(strength::quantum(name, size).map(|level| ("nistQuantumSecurityLevel".to_owned(), level.into())));
        let mut crypto = json!({"assetType": "algorithm", "algorithmProperties": of});
        if let Some(oid) = identifier(name) {
            crypto["oid"] = oid.into();
        }
        json!({"type": "cryptographic-asset", "bom-ref": self.reference(), "name": self.name(), "cryptoProperties": crypto})
    }
}

fn key(name: &str, bits: Option<u32>, curve: Option<&str>, version: Version) -> Map<String, Value> {
    let mut of = Map::new();
    let row = KEYS.iter().find(|row| name.starts_with(row.0));
    of.insert("primitive".into(), row.map_or("unknown", |row| row.1).into());
    of.extend(row.map(|row| ("cryptoFunctions".to_owned(), json!(row.2))));
    let set = parameter_set(name).or_else(|| bits.map(|bits| bits.to_string()));
    of.extend(set.map(|set| ("parameterSetIdentifier".to_owned(), set.into())));
    match registered_curve(name, curve).filter(|_| version == Version::V1_7) {
        Some(curve) => of.extend([("ellipticCurve".to_owned(), curve.into())]),
        None => of.extend(curve.map(|curve| ("curve".to_owned(), curve.into()))),
    }
    of.extend(row.and_then(|row| row.3).filter(|_| version == Version::V1_7).map(|family| ("algorithmFamily".to_owned(), family.into())));
    of.extend(strength::classical(name, bits, curve).map(|bits| ("classicalSecurityLevel".to_owned(), bits.into())));
    of
}

fn signature(name: &str, version: Version) -> Map<String, Value> {
    let lower = name.to_ascii_lowercase();
    let mut of = Map::from_iter([("primitive".to_owned(), json!("signature")), ("cryptoFunctions".to_owned(), json!(["sign", "verify"]))]);
    let digest = ["512", "384", "256", "224"].into_iter().find(|bits| lower.contains("sha") && !lower.starts_with("slh") && lower.contains(bits));
    of.extend(digest.map(str::to_owned).or_else(|| parameter_set(name)).map(|set| ("parameterSetIdentifier".to_owned(), set.into())));
    let is_pkcs1 = lower.ends_with("withrsaencryption") || lower.ends_with("withrsa") || lower.starts_with("rsa-with-");
    of.extend(is_pkcs1.then(|| ("padding".to_owned(), json!("pkcs1v15"))));
    let families = [("rsassapss", "RSASSA-PSS"), ("ecdsa-with", "ECDSA"), ("dsa", "DSA"), ("gost", "GOST"), ("sm2", "SM2")];
    let family = if is_pkcs1 { Some("RSASSA-PKCS1") } else { families.into_iter().find(|(start, _)| lower.starts_with(start)).map(|(_, family)| family) };
    let family = family.or_else(|| KEYS.iter().find(|row| lower.starts_with(row.0)).and_then(|row| row.3));
    of.extend(family.filter(|_| version == Version::V1_7).map(|family| ("algorithmFamily".to_owned(), family.into())));
    of
}

/// `44` of ML-DSA-44 also where it stands beside a classical algorithm, `SHA2-128s` of SLH-DSA.
fn parameter_set(name: &str) -> Option<String> {
    if let Some(set) = name.strip_prefix("slh-dsa-") {
        let (hash, size) = set.split_once('-')?;
        return Some(format!("{}-{size}", hash.to_ascii_uppercase()));
    }
    let set = name.strip_prefix("ml-dsa-").or_else(|| name.strip_prefix("ml-kem-"))?;
    Some(set.chars().take_while(char::is_ascii_digit).collect())
}

/// The curve as CycloneDX registers it.
fn registered_curve(name: &str, curve: Option<&str>) -> Option<String> {
    let brainpool = |curve: &str| {
        let size = curve.strip_prefix("brainpoolP")?;
        let sizes = ["160", "192", "224", "256", "320", "384", "512"];
        (size.len() == 5 && sizes.contains(&size.get(..3)?) && ["r1", "t1"].contains(&size.get(3..)?)).then(|| format!("brainpool/{curve}"))
    };
    match (name, curve) {
        ("ed25519" | "ed25519-sk", _) => Some("other/Ed25519".into()),
        ("ed448", _) => Some("other/Ed448".into()),
        ("x25519", _) => Some("other/Curve25519".into()),
        ("x448", _) => Some("other/Curve448".into()),
        (_, Some("sm2p256v1")) => Some("oscaa/SM2".into()),
        (_, Some("FRP256v1")) => Some("anssi/FRP256v1".into()),
        (_, Some(curve)) if SECG.split(' ').any(|known| known == curve) => Some(format!("secg/{curve}")),
        (_, Some(curve)) => brainpool(curve),
        (_, None) => None,
    }
}

/// The identifier; of what has no name here it is what it is called by.
fn identifier(name: &str) -> Option<&str> {
    let given = || name.strip_prefix("unknown (")?.strip_suffix(')').filter(|text| is_identifier(text));
    // With its digest behind it, where that is a weak one; the identifier is the same.
    let name = if name.starts_with("rsassaPss-") { "rsassaPss" } else { name };
    IDENTIFIERS.iter().find(|row| row.0 == name).map(|row| row.1).or_else(given)
}

fn is_identifier(text: &str) -> bool {
    text.contains('.') && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}
