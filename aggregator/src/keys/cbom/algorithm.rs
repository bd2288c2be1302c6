//! Algorithms as CycloneDX has them: names, primitives, parameters, strengths, identifiers. Strengths: NIST SP 800-57 part 1
//! (classical, bits) and the five categories of NIST's post-quantum standardisation (0: none).

use serde_json::{Map, Value, json};

use super::super::KeyRecord;

/// How a family is described: our name, CycloneDX primitive, what it does, quantum level, object identifier.
type Row = (&'static str, &'static str, &'static [&'static str], u8, Option<&'static str>);

const SIGN: &[&str] = &["keygen", "sign", "verify"];
const AGREE: &[&str] = &["keygen", "keyderive"];
const ENCAPSULATE: &[&str] = &["keygen", "encapsulate", "decapsulate"];

const KEYS: &[Row] = &[
    ("rsa", "pke", &["keygen", "encrypt", "decrypt", "sign", "verify"], 0, Some("1.2.840.113549.1.1.1")),
    ("rsa-pss", "signature", SIGN, 0, Some("1.2.840.113549.1.1.10")),
    ("ec", "signature", SIGN, 0, Some("1.2.840.10045.2.1")),
    ("dsa", "signature", SIGN, 0, Some("1.2.840.10040.4.1")),
    ("dh", "key-agree", AGREE, 0, Some("1.2.840.10046.2.1")),
    ("x25519", "key-agree", AGREE, 0, Some("1.3.101.110")),
    ("x448", "key-agree", AGREE, 0, Some("1.3.101.111")),
    ("ed25519", "signature", SIGN, 0, Some("1.3.101.112")),
    ("ed448", "signature", SIGN, 0, Some("1.3.101.113")),
    ("ed25519-sk", "signature", SIGN, 0, Some("1.3.101.112")),
    ("ecdsa-sk", "signature", SIGN, 0, Some("1.2.840.10045.2.1")),
    ("elgamal", "pke", &["keygen", "encrypt", "decrypt"], 0, None),
    ("ml-dsa-44", "signature", SIGN, 2, Some("2.16.840.1.101.3.4.3.17")),
    ("ml-dsa-65", "signature", SIGN, 3, Some("2.16.840.1.101.3.4.3.18")),
    ("ml-dsa-87", "signature", SIGN, 5, Some("2.16.840.1.101.3.4.3.19")),
    ("ml-kem-512", "kem", ENCAPSULATE, 1, Some("2.16.840.1.101.3.4.4.1")),
    ("ml-kem-768", "kem", ENCAPSULATE, 3, Some("2.16.840.1.101.3.4.4.2")),
    ("ml-kem-1024", "kem", ENCAPSULATE, 5, Some("2.16.840.1.101.3.4.4.3")),
];

/// Signatures: as certificates name them, identifier.
const SIGNATURES: &[(&str, &str)] = &[
    ("md5WithRSAEncryption", "1.2.840.113549.1.1.4"),
    ("sha1WithRSAEncryption", "1.2.840.113549.1.1.5"),
    ("sha256WithRSAEncryption", "1.2.840.113549.1.1.11"),
    ("sha384WithRSAEncryption", "1.2.840.113549.1.1.12"),
    ("sha512WithRSAEncryption", "1.2.840.113549.1.1.13"),
    ("rsassaPss", "1.2.840.113549.1.1.10"),
    ("ecdsa-with-SHA1", "1.2.840.10045.4.1"),
    ("ecdsa-with-SHA256", "1.2.840.10045.4.3.2"),
    ("ecdsa-with-SHA384", "1.2.840.10045.4.3.3"),
    ("ecdsa-with-SHA512", "1.2.840.10045.4.3.4"),
    ("ed25519", "1.3.101.112"),
    ("ed448", "1.3.101.113"),
];

/// An algorithm of keys, with its parameters: what two keys must share to be of one component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Algorithm {
    Key { name: String, bits: Option<u32>, curve: Option<String> },
    Signature(String),
}

impl Algorithm {
    pub(super) fn of_key(key: &KeyRecord) -> Self {
        let facts = &key.facts;
        // Where the name says it all, the size is not a parameter.
        let bits = facts.bits.filter(|_| matches!(facts.algorithm.as_str(), "rsa" | "rsa-pss" | "dsa" | "dh" | "elgamal"));
        Self::Key { name: facts.algorithm.clone(), bits, curve: facts.curve.clone() }
    }

    pub(super) fn of_signature(key: &KeyRecord) -> Option<Self> {
        key.facts.signature_algorithm.clone().map(Self::Signature)
    }

    pub(super) fn reference(&self) -> String {
        match self {
            Self::Key { .. } => format!("crypto/algorithm/{}", self.name()),
            Self::Signature(name) => format!("crypto/algorithm/signature/{name}"),
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

    pub(super) fn component(&self) -> Value {
        let mut of = Map::new();
        let oid = match self {
            Self::Key { name, bits, curve } => {
                let row = KEYS.iter().find(|row| row.0 == name);
                of.insert("primitive".into(), primitive(name, row).into());
                let parameter =
                    bits.map(|bits| bits.to_string()).or_else(|| name.rsplit_once('-').filter(|_| name.starts_with("ml-")).map(|(_, n)| n.to_owned()));
                of.extend(parameter.map(|parameter| ("parameterSetIdentifier".to_owned(), parameter.into())));
                of.extend(curve.clone().map(|curve| ("curve".to_owned(), curve.into())));
                of.extend(row.map(|row| ("cryptoFunctions".to_owned(), json!(row.2))));
                of.extend(classical(name, *bits, curve.as_deref()).map(|bits| ("classicalSecurityLevel".to_owned(), bits.into())));
                of.extend(quantum(name, row).map(|level| ("nistQuantumSecurityLevel".to_owned(), level.into())));
                row.and_then(|row| row.4)
            }
            Self::Signature(name) => {
                of.insert("primitive".into(), "signature".into());
                of.insert("cryptoFunctions".into(), json!(["sign", "verify"]));
                let classic = SIGNATURES.iter().find(|row| row.0 == name);
                let level = if classic.is_some() { Some(0) } else { quantum(name, KEYS.iter().find(|row| row.0 == name)) };
                of.extend(level.map(|level| ("nistQuantumSecurityLevel".to_owned(), level.into())));
                classic.map(|row| row.1)
            }
        };
        let mut crypto = json!({"assetType": "algorithm", "algorithmProperties": of});
        if let Some(oid) = oid {
            crypto["oid"] = oid.into();
        }
        json!({"type": "cryptographic-asset", "bom-ref": self.reference(), "name": self.name(), "cryptoProperties": crypto})
    }
}

fn primitive(name: &str, row: Option<&Row>) -> &'static str {
    match row {
        Some(row) => row.1,
        None if name.starts_with("slh-dsa") || ["hss-lms", "xmss", "xmssmt"].contains(&name) || name.starts_with("gost") => "signature",
        None if name.starts_with("aes") => "block-cipher",
        None if name.starts_with("hmac") => "mac",
        None => "unknown",
    }
}

fn quantum(name: &str, row: Option<&Row>) -> Option<u8> {
    let by_size = |sizes: [(&str, u8); 3]| sizes.into_iter().find(|(size, _)| name.contains(size)).map(|(_, level)| level);
    match row {
        Some(row) => Some(row.3),
        None if name.starts_with("slh-dsa") || name.starts_with("aes") => by_size([("128", 1), ("192", 3), ("256", 5)]),
        None if name.starts_with("gost") => Some(0),
        None => None,
    }
}

fn classical(name: &str, bits: Option<u32>, curve: Option<&str>) -> Option<u32> {
    let of_factoring = |bits: u32| {
        [(15_360, 256), (7_680, 192), (3_072, 128), (2_048, 112), (1_024, 80)].into_iter().find(|(least, _)| bits >= *least).map(|(_, level)| level)
    };
    match name {
        "rsa" | "rsa-pss" | "dsa" | "dh" | "elgamal" => of_factoring(bits?),
        "ed25519" | "x25519" | "ed25519-sk" | "ecdsa-sk" => Some(128),
        "ed448" | "x448" => Some(224),
        "ec" => {
            let digits: String = curve?.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            Some(digits.parse::<u32>().ok()? / 2)
        }
        _ => None,
    }
}
