//! Extensions of certificates and requests that say something of the key: names, uses, identifiers. One that does not parse is
//! left out, the others are read. Format: RFC 5280 4.2.1.

use keyvigil_common::hex;
use keyvigil_common::key::KeyFacts;
use keyvigil_common::limits::{KEY_USAGES_MAX, SANS_MAX};
use keyvigil_common::x509::general;

use super::super::der::{BIT_STRING, BOOLEAN, OCTET_STRING, OID, Reader, SEQUENCE, oid_text};

/// Bits of `KeyUsage`, from the first.
const KEY_USAGES: [&str; 9] =
    ["digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"];

/// Purposes of `ExtendedKeyUsage` that RFC 5280 names.
const PURPOSES: [(&str, &str); 7] = [
    ("2.5.29.37.0", "anyExtendedKeyUsage"),
    ("1.3.6.1.5.5.7.3.1", "serverAuth"),
    ("1.3.6.1.5.5.7.3.2", "clientAuth"),
    ("1.3.6.1.5.5.7.3.3", "codeSigning"),
    ("1.3.6.1.5.5.7.3.4", "emailProtection"),
    ("1.3.6.1.5.5.7.3.8", "timeStamping"),
    ("1.3.6.1.5.5.7.3.9", "OCSPSigning"),
];

/// Bytes of an identifier of a key; hashes have up to 64.
const KEY_ID_BYTES_MAX: usize = 256;

/// Puts what the extensions in `list` say into `facts`.
pub(super) fn read(mut list: Reader<'_>, facts: &mut KeyFacts) {
    while let Some(mut extension) = list.sequence() {
        let Some(oid) = extension.take(OID) else { continue };
        extension.take(BOOLEAN);
        let Some(value) = extension.take(OCTET_STRING) else { continue };
        // All below 2.5.29.
        let [0x55, 0x1d, which] = oid else { continue };
        match which {
            14 => facts.key_id = Reader::new(value).take(OCTET_STRING).and_then(key_id),
            15 => facts.usage.extend(key_usages(value).into_iter().flatten()),
            17 => facts.sans.extend(alternative_names(value)),
            19 => facts.is_ca = Some(Reader::new(value).sequence().and_then(|mut basic| basic.take(BOOLEAN)).is_some_and(|ca| ca != [0])),
            // The first field is the identifier, tag [0].
            35 => facts.authority_key_id = Reader::new(value).sequence().and_then(|mut authority| authority.take(0x80)).and_then(key_id),
            37 => facts.usage.extend(purposes(value)),
            _ => {}
        }
    }
}

fn key_id(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| hex(&bytes[..bytes.len().min(KEY_ID_BYTES_MAX)]))
}

fn key_usages(value: &[u8]) -> Option<impl Iterator<Item = String>> {
    let bits = Reader::new(value).take(BIT_STRING)?.get(1..)?.to_vec();
    let is_set = move |bit: usize| bits.get(bit / 8).is_some_and(|byte| byte << (bit % 8) & 0x80 != 0);
    Some(KEY_USAGES.iter().enumerate().filter(move |(bit, _)| is_set(*bit)).map(|(_, name)| (*name).to_owned()))
}

fn purposes(value: &[u8]) -> Vec<String> {
    let mut list = Reader::new(Reader::new(value).take(SEQUENCE).unwrap_or_default());
    let oids = std::iter::from_fn(|| list.take(OID)).take(KEY_USAGES_MAX).map(oid_text);
    oids.map(|oid| PURPOSES.iter().find(|row| row.0 == oid).map_or(oid, |row| row.1.to_owned())).collect()
}

/// Names beyond the bound are only counted, by `KeyFacts::clamp`.
fn alternative_names(value: &[u8]) -> Vec<String> {
    let mut list = Reader::new(Reader::new(value).take(SEQUENCE).unwrap_or_default());
    let mut names = Vec::new();
    while let Some(name) = list.element() {
        names.push(if names.len() < SANS_MAX { general(name.tag, name.body) } else { String::new() });
    }
    names
}
