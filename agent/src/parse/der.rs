//! What kind of object some DER is, by its structure. Called by the parsers of keys beside it.

use keyvigil_common::limits::KEY_FILE_BYTES_MAX;

pub use keyvigil_common::der::*;

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
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (form(&bytes), sniff(&bytes, bytes.len() as u64));
        }
    }
}
