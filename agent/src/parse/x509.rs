//! What everyone may know about certificates, certificate requests and revocation lists. Signatures are not checked: this is
//! an inventory, and a forged certificate on disk is worth knowing, too; nor is it asked whether anyone could verify them, so
//! that one of an unknown algorithm is read as well. Called by `keys`. Format: RFC 5280, RFC 2986.

mod extension;

use keyvigil_common::crl::Crl;
use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::x509::{name, serial, unix_ms};
use keyvigil_common::{hex, sha256};

use super::algorithm::{facts_of_spki, signature_in, signature_name};
use super::der::{CONTEXT_0, CONTEXT_3, Element, INTEGER, OID, Reader, SEQUENCE, SET, oid_text};

/// Attributes of a request that hold the extensions it asks for: PKCS#9's and Microsoft's older one.
const REQUESTED_EXTENSIONS: [&str; 2] = ["1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"];

/// Facts of a certificate. Bytes behind it, as OpenSSL's trusted certificates have, are not part of it.
///
/// # Errors
/// What is wrong with it.
pub fn certificate(der: &[u8]) -> Result<KeyFacts, String> {
    let whole = Reader::new(der).element().filter(|whole| whole.tag == SEQUENCE).ok_or("not a certificate")?;
    let mut parts = Reader::new(whole.body);
    let mut signed = parts.sequence().ok_or("not a certificate")?;
    signed.take(CONTEXT_0);
    let serial_number = signed.take(INTEGER).ok_or("the certificate has no serial number")?;
    signed.sequence().ok_or("the certificate does not say how it is signed")?;
    let issuer = sequence(&mut signed).ok_or("the certificate's issuer does not parse")?;
    let mut validity = signed.sequence().ok_or("the certificate has no validity")?;
    let subject = sequence(&mut signed).ok_or("the certificate's subject does not parse")?;
    let mut facts =
        sequence(&mut signed).and_then(|spki| facts_of_spki(KeyKind::Certificate, spki.raw)).ok_or("the certificate's public key does not parse")?;
    facts.id = hex(&sha256(whole.raw));
    facts.signature_algorithm = signature(&mut parts);
    let mut time = || validity.element().as_ref().and_then(unix_ms).ok_or("the certificate's validity does not parse");
    facts.not_before_ms = Some(time()?);
    facts.not_after_ms = Some(time()?);
    facts.subject = Some(name(subject.raw));
    facts.issuer = Some(name(issuer.raw));
    facts.serial = Some(serial(serial_number));
    facts.is_ca = Some(false);
    // Between them may stand unique identifiers of issuer and subject, which nobody uses.
    let extensions = std::iter::from_fn(|| signed.element()).find(|element| element.tag == CONTEXT_3);
    if let Some(list) = extensions.and_then(|extensions| Reader::new(extensions.body).sequence()) {
        extension::read(list, &mut facts);
    }
    Ok(facts)
}

/// Facts of a request: the subject and names that it asks for.
///
/// # Errors
/// What is wrong with it.
pub fn request(der: &[u8]) -> Result<KeyFacts, String> {
    let whole = Reader::new(der).element().filter(|whole| whole.tag == SEQUENCE).ok_or("not a certificate request")?;
    let mut parts = Reader::new(whole.body);
    let mut info = parts.sequence().ok_or("not a certificate request")?;
    info.take(INTEGER).ok_or("not a certificate request")?;
    let subject = sequence(&mut info).ok_or("the request's subject does not parse")?;
    let mut facts =
        sequence(&mut info).and_then(|spki| facts_of_spki(KeyKind::CertificateRequest, spki.raw)).ok_or("the request's public key does not parse")?;
    facts.id = hex(&sha256(whole.raw));
    facts.signature_algorithm = signature(&mut parts);
    facts.subject = Some(name(subject.raw));
    let mut attributes = Reader::new(info.take(CONTEXT_0).unwrap_or_default());
    while let Some(mut attribute) = attributes.sequence() {
        let is_asked = attribute.take(OID).map(oid_text).is_some_and(|oid| REQUESTED_EXTENSIONS.contains(&oid.as_str()));
        if let Some(list) = attribute.take(SET).filter(|_| is_asked).and_then(|values| Reader::new(values).sequence()) {
            extension::read(list, &mut facts);
        }
    }
    // Only what is said: a request that does not ask to be an authority asks for nothing.
    facts.is_ca = facts.is_ca.filter(|is_ca| *is_ca);
    Ok(facts)
}

/// Facts of a revocation list: valid from its last to its next update, with its number as serial.
#[must_use]
pub fn crl(list: &Crl) -> KeyFacts {
    // A list has no key of its own: its fingerprint is its identity.
    let mut facts = KeyFacts::bare(KeyKind::Crl, list.id.clone(), list.id.clone(), "none");
    facts.signature_algorithm = Some(signature_name(&list.signature_oid));
    facts.not_before_ms = Some(list.this_update_ms);
    facts.not_after_ms = list.next_update_ms;
    facts.issuer = Some(list.issuer.clone());
    facts.serial.clone_from(&list.number);
    facts.authority_key_id.clone_from(&list.authority_key_id);
    facts.revokes.clone_from(&list.first);
    facts
}

fn sequence<'a>(reader: &mut Reader<'a>) -> Option<Element<'a>> {
    reader.element().filter(|element| element.tag == SEQUENCE)
}

/// Name of the algorithm in the next element, an AlgorithmIdentifier.
fn signature(parts: &mut Reader<'_>) -> Option<String> {
    parts.sequence().and_then(signature_in)
}

#[cfg(test)]
mod tests;
