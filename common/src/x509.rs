//! Names, numbers and times of X.509 as the whole product writes them, so that what one part says of a certificate is what
//! another looks it up by.

use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::X509Name;
use x509_parser::time::ASN1Time;

use crate::der::magnitude;
use crate::hex;

/// A serial number as `openssl` prints it, but in lower case.
#[must_use]
pub fn serial(number: &[u8]) -> String {
    match magnitude(number) {
        [] => "00".to_owned(),
        digits => hex(digits),
    }
}

/// Unix ms.
#[must_use]
pub fn ms(time: ASN1Time) -> i64 {
    time.timestamp().saturating_mul(1_000)
}

/// A distinguished name in the order of the certificate: `C=DE, O=Example, CN=example.org`.
#[must_use]
pub fn name(name: &X509Name<'_>) -> String {
    let mut parts = Vec::new();
    for attribute in name.iter_attributes() {
        let kind = oid2abbrev(attribute.attr_type(), oid_registry()).map_or_else(|_| attribute.attr_type().to_string(), str::to_owned);
        let value = attribute.as_str().map_or_else(|_| text(attribute.as_slice()), str::to_owned);
        parts.push(format!("{kind}={value}"));
    }
    parts.join(", ")
}

/// Bytes in an encoding that is not UTF-8: BMPString has a zero before each Latin letter.
fn text(bytes: &[u8]) -> String {
    let wide = bytes.len() >= 2 && bytes.len().is_multiple_of(2) && bytes.iter().step_by(2).all(|b| *b == 0);
    let bytes: Vec<u8> = if wide { bytes.iter().skip(1).step_by(2).copied().collect() } else { bytes.to_vec() };
    bytes.into_iter().map(char::from).collect()
}
