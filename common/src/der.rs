//! A bounded cursor over DER, and the few values that key formats need from it. Borrows its input, so that private bytes are
//! not copied; never recurses; definite lengths and low tag numbers only, which is all that DER allows here. Called by the parsers
//! of keys, and of revocation lists. Format: ITU-T X.690.

/// `BOOLEAN`.
pub const BOOLEAN: u8 = 0x01;
/// `INTEGER`.
pub const INTEGER: u8 = 0x02;
/// `BIT STRING`.
pub const BIT_STRING: u8 = 0x03;
/// `OCTET STRING`.
pub const OCTET_STRING: u8 = 0x04;
/// `OBJECT IDENTIFIER`.
pub const OID: u8 = 0x06;
/// `ENUMERATED`.
pub const ENUMERATED: u8 = 0x0a;
/// `UTCTime`.
pub const UTC_TIME: u8 = 0x17;
/// `GeneralizedTime`.
pub const GENERALIZED_TIME: u8 = 0x18;
/// `SEQUENCE`.
pub const SEQUENCE: u8 = 0x30;
/// `SET`.
pub const SET: u8 = 0x31;
/// Constructed context tag 0.
pub const CONTEXT_0: u8 = 0xa0;
/// Constructed context tag 1.
pub const CONTEXT_1: u8 = 0xa1;
/// Constructed context tag 3.
pub const CONTEXT_3: u8 = 0xa3;

/// One element.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    /// Identifier octet.
    pub tag: u8,
    /// Contents.
    pub body: &'a [u8],
    /// The whole element with tag and length.
    pub raw: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// At the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next element; `None` at the end and where the bytes are not DER.
    pub fn element(&mut self) -> Option<Element<'a>> {
        let (tag, header, length) = header(self.0)?;
        let end = header.checked_add(length)?;
        let raw = self.0.get(..end)?;
        self.0 = &self.0[end..];
        Some(Element { tag, body: &raw[header..], raw })
    }

    /// Contents of the next element, which must have that tag.
    pub fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let element = ahead.element().filter(|element| element.tag == tag)?;
        *self = ahead;
        Some(element.body)
    }

    /// A reader inside the next element, which must be a `SEQUENCE`.
    pub fn sequence(&mut self) -> Option<Self> {
        self.take(SEQUENCE).map(Self)
    }

    /// The next element, an `INTEGER` that fits.
    pub fn small(&mut self) -> Option<u64> {
        let body = magnitude(self.take(INTEGER)?);
        (body.len() <= 8).then(|| body.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Tag of the next element.
    #[must_use]
    pub fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of the element at the start of `bytes`: tag, bytes of tag and length, length. More bytes may be missing.
#[must_use]
pub fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&tag, &first) = (bytes.first()?, bytes.get(1)?);
    if tag & 0x1f == 0x1f {
        return None;
    }
    match first {
        0..=0x7f => Some((tag, 2, usize::from(first))),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let length = bytes.get(2..2 + count)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            Some((tag, 2 + count, length))
        }
        _ => None,
    }
}

/// An element with `tag` around `parts`.
#[must_use]
pub fn encode(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    let digits = length.to_be_bytes();
    let used = &digits[digits.iter().position(|b| *b != 0).unwrap_or(digits.len() - 1)..];
    if length >= 0x80 {
        out.push(0x80 | used.len() as u8);
    }
    out.extend_from_slice(used);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// A number without its leading zeros.
#[must_use]
pub fn magnitude(number: &[u8]) -> &[u8] {
    &number[number.iter().position(|byte| *byte != 0).unwrap_or(number.len())..]
}

/// Length of an unsigned number in bits.
#[must_use]
pub fn bit_length(number: &[u8]) -> u32 {
    let number = magnitude(number);
    let whole = u32::try_from(number.len()).unwrap_or(u32::MAX).saturating_mul(8);
    number.first().map_or(0, |first| whole - first.leading_zeros())
}

/// An object identifier in dotted form.
#[must_use]
pub fn oid_text(oid: &[u8]) -> String {
    /// Bytes of an identifier that are shown; real ones have fewer than 20.
    const SHOWN: usize = 64;
    let mut arcs: Vec<String> = Vec::new();
    let mut arc: u128 = 0;
    for byte in oid.iter().take(SHOWN) {
        arc = arc.checked_shl(7).unwrap_or(0) | u128::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if arcs.is_empty() {
            let top = (arc / 40).min(2);
            arcs.push(top.to_string());
            arc -= top * 40;
        }
        arcs.push(arc.to_string());
        arc = 0;
    }
    arcs.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identifiers_print_as_everyone_writes_them() {
        assert_eq!(oid_text(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]), "1.2.840.113549.1.1.1");
        assert_eq!(oid_text(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12]), "2.16.840.1.101.3.4.3.18");
        assert_eq!(oid_text(&[]), "");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_again(body in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let raw = encode(OCTET_STRING, &[&body]);
            let mut reader = Reader::new(&raw);
            let element = reader.element().unwrap();
            prop_assert_eq!((element.tag, element.body, element.raw), (OCTET_STRING, &body[..], &raw[..]));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            while reader.element().is_some() {}
            let _ = (oid_text(&bytes), bit_length(&bytes));
        }
    }
}
