//! A bounded cursor over DER, the few values that key formats need from it, and what kind of object some DER is. Borrows
//! its input, so that private bytes are not copied; never recurses; definite lengths and low tag numbers only, which is all
//! that DER allows here. Called by the parsers of keys beside it. Format: ITU-T X.690.

use keyvigil_common::limits::KEY_FILE_BYTES_MAX;

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
/// `UTCTime`.
pub const UTC_TIME: u8 = 0x17;
/// `GeneralizedTime`.
pub const GENERALIZED_TIME: u8 = 0x18;
/// `SEQUENCE`.
pub const SEQUENCE: u8 = 0x30;
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

/// Tag, bytes of tag and length, length.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
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

/// What an object is, by its structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// X.509 certificate.
    Certificate,
    /// PKCS#10.
    Request,
    /// X.509 revocation list.
    Crl,
    /// SubjectPublicKeyInfo.
    PublicKey,
    /// PKCS#1 public key.
    RsaPublicKey,
    /// PKCS#8.
    Pkcs8,
    /// PKCS#8, encrypted.
    EncryptedPkcs8,
    /// PKCS#1 private key.
    RsaPrivateKey,
    /// SEC 1 private key.
    EcPrivateKey,
    /// OpenSSL's form of a DSA private key.
    DsaPrivateKey,
    /// PKCS#7 / CMS.
    Pkcs7,
    /// PKCS#12.
    Pkcs12,
    /// Bouncy Castle's key store for FIPS.
    Bcfks,
}

/// Form of the DER object at the start of `bytes`.
#[must_use]
pub fn form(bytes: &[u8]) -> Option<Form> {
    let mut reader = Reader::new(bytes).sequence()?;
    let first = reader.element()?;
    match (first.tag, reader.tag()) {
        (OID, Some(CONTEXT_0)) => Some(Form::Pkcs7),
        (SEQUENCE, Some(BIT_STRING)) => Some(Form::PublicKey),
        (SEQUENCE, Some(OCTET_STRING)) => Some(Form::EncryptedPkcs8),
        (SEQUENCE, Some(SEQUENCE)) => signed_form(first.body),
        (INTEGER, Some(OCTET_STRING)) => Some(Form::EcPrivateKey),
        (INTEGER, Some(SEQUENCE)) => {
            // PKCS#12 says version 3 and then a ContentInfo, which has no OCTET STRING behind it.
            reader.element()?;
            Some(if reader.tag() == Some(OCTET_STRING) { Form::Pkcs8 } else { Form::Pkcs12 })
        }
        (INTEGER, Some(INTEGER)) => {
            let rest: Vec<&[u8]> = std::iter::from_fn(|| reader.take(INTEGER)).take(8).collect();
            match rest.as_slice() {
                // Signatures and Diffie-Hellman parameters are two numbers, too.
                [exponent] => (bit_length(first.body) >= 512 && is_exponent(exponent)).then_some(Form::RsaPublicKey),
                [_, _, _, _, _] => Some(Form::DsaPrivateKey),
                [_, _, _, _, _, _, _, _] => Some(Form::RsaPrivateKey),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a number may be RSA's public exponent: odd, more than 1 and short.
fn is_exponent(number: &[u8]) -> bool {
    (2..=256).contains(&bit_length(number)) && number.last().is_some_and(|last| last & 1 == 1)
}

/// Certificate, request and list differ in what they sign.
fn signed_form(tbs: &[u8]) -> Option<Form> {
    let mut reader = Reader::new(tbs);
    let tags: Vec<u8> = std::iter::from_fn(|| reader.element()).take(4).map(|element| element.tag).collect();
    let is_time = |tag: &u8| matches!(*tag, UTC_TIME | GENERALIZED_TIME);
    match tags.as_slice() {
        [CONTEXT_0, ..] => Some(Form::Certificate),
        [INTEGER, SEQUENCE, SEQUENCE, time] if is_time(time) => Some(Form::Crl),
        [SEQUENCE, SEQUENCE, time, ..] if is_time(time) => Some(Form::Crl),
        [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE] => Some(Form::Certificate),
        [INTEGER, SEQUENCE, SEQUENCE, ..] => Some(Form::Request),
        // What is encrypted, and with a sequence behind it, how it is authenticated.
        [SEQUENCE, OCTET_STRING] => Some(Form::Bcfks),
        _ => None,
    }
}

/// How a file that may be raw DER looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniff {
    /// One object that fills the file.
    Whole,
    /// Begins like one, but its length points past the end.
    Truncated,
    /// Something else.
    Other,
}

/// Whether `bytes`, the first of a file of `file_length` bytes, are a DER object, behind which others may follow. A short
/// length must fit exactly: `0` in a text file has the same code as `SEQUENCE`.
#[must_use]
pub fn sniff(bytes: &[u8], file_length: u64) -> Sniff {
    let Some((SEQUENCE, head, length)) = header(bytes) else { return Sniff::Other };
    let total = head as u64 + length as u64;
    // A long length and a constructed or number element next: no text looks like that.
    let certain = head >= 3 && matches!(bytes.get(head), Some(&SEQUENCE | &INTEGER | &OID));
    match total.cmp(&file_length) {
        std::cmp::Ordering::Equal => Sniff::Whole,
        std::cmp::Ordering::Less if certain && file_length <= KEY_FILE_BYTES_MAX => Sniff::Whole,
        std::cmp::Ordering::Greater if certain => Sniff::Truncated,
        _ => Sniff::Other,
    }
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

    #[test]
    fn a_text_file_that_begins_with_a_zero_is_not_der() {
        for text in [&b"0 5 * * * root /bin/true\n"[..], b"01\n", b"0"] {
            assert_eq!(sniff(text, text.len() as u64), Sniff::Other);
        }
        let long = encode(SEQUENCE, &[&encode(INTEGER, &[&[0; 300]])]);
        assert_eq!(sniff(&long, long.len() as u64), Sniff::Whole);
        assert_eq!(sniff(&long[..100], 100), Sniff::Truncated);
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
            let _ = (form(&bytes), sniff(&bytes, bytes.len() as u64), oid_text(&bytes), bit_length(&bytes));
        }
    }
}
