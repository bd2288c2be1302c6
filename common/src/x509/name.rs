//! Distinguished names and alternative names as text, whatever encoding they came in.

use x509_parser::asn1_rs::Oid;
use x509_parser::objects::{oid_registry, oid2abbrev};

use crate::der::{OID, Reader, SEQUENCE, SET, oid_text};
use crate::hex;

/// Parts of one name that are shown; real ones have fewer than 20.
const PARTS_MAX: usize = 64;
/// Bytes of what is shown as it is, of a kind that has no text form.
const SHOWN_BYTES: usize = 64;

/// A distinguished name (a whole `Name`) in the order of the certificate: `C=DE, O=Example, CN=example.org`. Empty where it has
/// no parts.
#[must_use]
pub fn name(raw: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut relative = Reader::new(Reader::new(raw).take(SEQUENCE).unwrap_or_default());
    while let Some(set) = relative.take(SET) {
        let mut attributes = Reader::new(set);
        while let Some(mut attribute) = attributes.sequence() {
            let (Some(kind), Some(value)) = (attribute.take(OID), attribute.element()) else { break };
            if parts.len() == PARTS_MAX {
                parts.push("...".to_owned());
                return parts.join(", ");
            }
            let oid = Oid::new(kind.into());
            let kind = oid2abbrev(&oid, oid_registry()).map_or_else(|_| oid_text(kind), str::to_owned);
            parts.push(format!("{kind}={}", text(value.tag, value.body)));
        }
    }
    parts.join(", ")
}

/// A string of ASN.1 by its tag. What is not in the encoding that its tag says is taken for Latin-1.
#[must_use]
pub fn text(tag: u8, bytes: &[u8]) -> String {
    const BMP_STRING: u8 = 0x1e;
    const UNIVERSAL_STRING: u8 = 0x1c;
    const T61_STRING: u8 = 0x14;
    let latin = || bytes.iter().copied().map(char::from).collect();
    match tag {
        BMP_STRING if bytes.len().is_multiple_of(2) => {
            let units = bytes.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        UNIVERSAL_STRING if bytes.len().is_multiple_of(4) => {
            let units = bytes.chunks_exact(4).map(|unit| u32::from_be_bytes([unit[0], unit[1], unit[2], unit[3]]));
            units.map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        // Teletex is written as Latin-1 by everyone.
        T61_STRING => latin(),
        _ => std::str::from_utf8(bytes).map_or_else(|_| latin(), str::to_owned),
    }
}

/// A `GeneralName`, `DNS:example.org`. Internationalised names stay as they are encoded, which is what is compared.
#[must_use]
pub fn general(tag: u8, body: &[u8]) -> String {
    const IA5_STRING: u8 = 0x16;
    match tag {
        0xa0 => format!("othername:{}", Reader::new(body).take(OID).map(oid_text).unwrap_or_default()),
        0x81 => format!("email:{}", text(IA5_STRING, body)),
        0x82 => format!("DNS:{}", text(IA5_STRING, body)),
        0xa3 => "X400Name".to_owned(),
        0xa4 => format!("DirName:{}", name(body)),
        0xa5 => "EdiPartyName".to_owned(),
        0x86 => format!("URI:{}", text(IA5_STRING, body)),
        0x87 => format!("IP:{}", address(body)),
        0x88 => format!("RID:{}", oid_text(body)),
        _ => format!("invalid:{}", shown(body)),
    }
}

fn shown(bytes: &[u8]) -> String {
    hex(&bytes[..bytes.len().min(SHOWN_BYTES)])
}

fn address(bytes: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        std::net::Ipv4Addr::from(v4).to_string()
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        std::net::Ipv6Addr::from(v6).to_string()
    } else {
        shown(bytes)
    }
}
