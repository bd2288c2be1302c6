//! Brings BER to DER as far as key stores need it: lengths that are not told beforehand, and strings in pieces, which Windows,
//! NSS and Bouncy Castle write. What is DER already is passed through as it is, byte for byte, so that the hash of a
//! certificate stays its own. Never nests deeper than a fixed bound. Called by `keys` and the parser of PKCS#12. Format:
//! ITU-T X.690 8.1.3.6 and 8.7.

use zeroize::Zeroizing;

use super::der::{OCTET_STRING, encode};

/// How deep elements lie within each other; in real stores 12.
const DEPTH_MAX: usize = 40;
/// Elements within one; the largest stores have some thousand pieces.
const PARTS_MAX: usize = 20_000;
/// An OCTET STRING in pieces.
const PIECES: u8 = OCTET_STRING | 0x20;

/// Whether the element at the start of `bytes` has a length that is not told beforehand, and may be of a key store.
#[must_use]
pub fn is_indefinite(bytes: &[u8]) -> bool {
    // The version of PKCS#12, or the type of PKCS#7.
    bytes.starts_with(&[0x30, 0x80, 0x02, 0x01]) || bytes.starts_with(&[0x30, 0x80, 0x06, 0x09])
}

/// The element at the start of `bytes` as DER; `None` where it does not end, or nests too deep.
#[must_use]
pub fn to_der(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let element = element(bytes, 0)?;
    Some(match element.der {
        Some(der) => der,
        None => Zeroizing::new(bytes[..element.length].to_vec()),
    })
}

struct Element {
    /// Bytes that it takes in the input.
    length: usize,
    /// As DER, where that is something else.
    der: Option<Zeroizing<Vec<u8>>>,
}

fn element(bytes: &[u8], depth: usize) -> Option<Element> {
    let (&tag, &first) = (bytes.first()?, bytes.get(1)?);
    if depth > DEPTH_MAX || tag & 0x1f == 0x1f {
        return None;
    }
    let constructed = tag & 0x20 != 0;
    if first == 0x80 {
        return constructed.then(|| indefinite(tag, bytes, depth))?;
    }
    let (header, length) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x81..=0x84 => {
            let digits = bytes.get(2..2 + usize::from(first & 0x7f))?;
            (2 + digits.len(), digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
        _ => return None,
    };
    let body = bytes.get(header..header.checked_add(length)?)?;
    let der = if constructed { inner(tag, body, depth) } else { None };
    Some(Element { length: header + length, der })
}

/// An element that ends with two zeros.
fn indefinite(tag: u8, bytes: &[u8], depth: usize) -> Option<Element> {
    let mut parts = Parts::default();
    let mut at = 2;
    while bytes.get(at..at + 2)? != [0, 0] {
        let part = element(&bytes[at..], depth + 1)?;
        parts.add(&bytes[at..at + part.length], part.der)?;
        at += part.length;
    }
    Some(Element { length: at + 2, der: Some(parts.join(tag)) })
}

/// The contents of an element of known length, where they have to be changed. What does not parse is left as it is.
fn inner(tag: u8, body: &[u8], depth: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut parts = Parts::default();
    let mut changed = tag == PIECES;
    let mut at = 0;
    while at < body.len() {
        let part = element(&body[at..], depth + 1)?;
        changed |= part.der.is_some();
        parts.add(&body[at..at + part.length], part.der)?;
        at += part.length;
    }
    changed.then(|| parts.join(tag))
}

/// One element as it lies there, and as DER where that is something else.
type Part<'a> = (&'a [u8], Option<Zeroizing<Vec<u8>>>);

/// What lies within an element.
#[derive(Default)]
struct Parts<'a>(Vec<Part<'a>>);

impl<'a> Parts<'a> {
    fn add(&mut self, raw: &'a [u8], der: Option<Zeroizing<Vec<u8>>>) -> Option<()> {
        (self.0.len() < PARTS_MAX).then(|| self.0.push((raw, der)))
    }

    fn join(&self, tag: u8) -> Zeroizing<Vec<u8>> {
        let parts: Vec<&[u8]> = self.0.iter().map(|(raw, der)| der.as_ref().map_or(*raw, |der| der.as_slice())).collect();
        if tag != PIECES {
            return Zeroizing::new(encode(tag, &parts));
        }
        let pieces: Vec<&[u8]> = parts.iter().filter_map(|part| super::der::Reader::new(part).take(OCTET_STRING)).collect();
        Zeroizing::new(encode(OCTET_STRING, &pieces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_der_stays_as_it_is_and_pieces_are_put_together() {
        let der = encode(0x30, &[&[2, 1, 3], &encode(OCTET_STRING, &[&[7; 300]])]);
        assert_eq!(to_der(&der).unwrap().as_slice(), der);
        let long_form = [0x30, 0x81, 0x03, 2, 1, 3];
        assert_eq!(to_der(&long_form).unwrap().as_slice(), long_form, "a length in a longer form than needed is part of what is hashed");
        let ber = [0x30, 0x80, 2, 1, 3, 0xa0, 0x80, 0x24, 0x80, 4, 1, 1, 0x24, 3, 4, 1, 2, 4, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(to_der(&ber).unwrap().as_slice(), [0x30, 9, 2, 1, 3, 0xa0, 4, 4, 2, 1, 2]);
    }

    #[test]
    fn what_nests_without_end_is_refused() {
        assert!(to_der(&[0x30, 0x80].repeat(100_000)).is_none());
        let mut nested = vec![2, 1, 3];
        (0..60).for_each(|_| nested = encode(0x30, &[&nested]));
        assert_eq!(to_der(&nested).unwrap().as_slice(), nested, "nothing to change is seen that deep");
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(prop_oneof![Just(0x30u8), Just(0x80), Just(0x24), Just(4), Just(0), Just(1), any::<u8>()], 0..300)) {
            if let Some(der) = to_der(&bytes) {
                prop_assert!(der.len() <= bytes.len() + 4 * bytes.len());
            }
        }
    }
}
