//! The bags of a PKCS#12 store: what is in them and what they are called. Borrows from the opened part they lie in.

use keyvigil_common::key::Role;
use keyvigil_common::limits::KEYS_PER_FILE_MAX;

use super::super::der::{CONTEXT_0, OCTET_STRING, OID, Reader, SEQUENCE, oid_text};
use keyvigil_common::x509::text;

/// Bags within bags; nobody writes more than one.
const DEPTH_MAX: usize = 8;
/// `SET`.
const SET: u8 = 0x31;

/// One object of a store.
pub(super) struct Bag<'a> {
    pub(super) content: Content<'a>,
    /// `friendlyName`; what Java calls the alias.
    pub(super) name: Option<String>,
    /// By which a key and its certificate find each other.
    pub(super) local_key_id: Option<Vec<u8>>,
    pub(super) role: Role,
    /// How the part of the store was encrypted in which it lies.
    pub(super) kdf: Option<&'a str>,
}

#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    /// PKCS#8.
    Key(&'a [u8]),
    /// PKCS#8, encrypted.
    ShroudedKey(&'a [u8]),
    Certificate(&'a [u8]),
    Crl(&'a [u8]),
    /// The element that holds it.
    Secret(&'a [u8]),
    /// Of a kind with this identifier.
    Unknown(&'a [u8]),
}

/// Adds the bags in `safe` to `bags`; whether all of it parses.
pub(super) fn bags<'a>(safe: &'a [u8], kdf: Option<&'a str>, bags: &mut Vec<Bag<'a>>) -> bool {
    nested(safe, kdf, bags, 0)
}

fn nested<'a>(safe: &'a [u8], kdf: Option<&'a str>, bags: &mut Vec<Bag<'a>>, depth: usize) -> bool {
    let Some(mut list) = Reader::new(safe).sequence() else { return false };
    // One more than is taken, so that it is said that there are more.
    while !list.is_empty() && bags.len() <= KEYS_PER_FILE_MAX {
        let Some(read) = list.sequence().and_then(|bag| one(bag, kdf)) else { return false };
        match read {
            Read::Bag(bag) => bags.push(bag),
            Read::Safe(inner) if depth < DEPTH_MAX => {
                if !nested(inner, kdf, bags, depth + 1) {
                    return false;
                }
            }
            Read::Safe(_) => return false,
        }
    }
    true
}

enum Read<'a> {
    Bag(Bag<'a>),
    /// The contents of a bag of bags.
    Safe(&'a [u8]),
}

fn one<'a>(mut bag: Reader<'a>, kdf: Option<&'a str>) -> Option<Read<'a>> {
    let kind = bag.take(OID)?;
    let value = bag.take(CONTEXT_0)?;
    let name = oid_text(kind);
    let content = match name.strip_prefix("1.2.840.113549.1.12.10.1.") {
        Some("1") => Content::Key(value),
        Some("2") => Content::ShroudedKey(value),
        Some("3") => typed(value, "1.2.840.113549.1.9.22.1").map_or(Content::Unknown(kind), Content::Certificate),
        Some("4") => typed(value, "1.2.840.113549.1.9.23.1").map_or(Content::Unknown(kind), Content::Crl),
        Some("5") => {
            let mut secret = Reader::new(value).sequence()?;
            secret.take(OID)?;
            let held = secret.take(CONTEXT_0)?;
            Content::Secret(Reader::new(held).take(OCTET_STRING).unwrap_or(held))
        }
        Some("6") => return Some(Read::Safe(value)),
        _ => Content::Unknown(kind),
    };
    let mut read = Bag { content, name: None, local_key_id: None, role: Role::Held, kdf };
    let mut attributes = Reader::new(bag.take(SET).unwrap_or_default());
    while let Some(mut attribute) = attributes.sequence() {
        let Some((kind, mut values)) = attribute.take(OID).map(oid_text).zip(attribute.take(SET).map(Reader::new)) else { continue };
        match kind.as_str() {
            "1.2.840.113549.1.9.20" => read.name = values.element().map(|value| text(value.tag, value.body)),
            "1.2.840.113549.1.9.21" => read.local_key_id = values.take(OCTET_STRING).map(<[u8]>::to_vec),
            // Java's mark of a trusted certificate.
            "2.16.840.1.113894.746875.1.1" => read.role = Role::Trusted,
            _ => {}
        }
    }
    Some(Read::Bag(read))
}

/// What a `CertBag` or `CRLBag` holds, if it is of that type.
fn typed<'a>(value: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut bag = Reader::new(value).sequence()?;
    let kind = bag.take(OID).map(oid_text)?;
    let held = bag.take(CONTEXT_0)?;
    let held = Reader::new(held).take(OCTET_STRING).unwrap_or(held);
    (kind == wanted && held.first() == Some(&SEQUENCE)).then_some(held)
}
