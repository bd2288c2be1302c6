//! What everyone may know about certificates, certificate requests and revocation lists. Signatures are not checked: this is
//! an inventory, and a forged certificate on disk is worth knowing, too. Called by `keys`. Format: RFC 5280, RFC 2986.

use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::limits::SANS_MAX;
use keyvigil_common::{hex, sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use super::algorithm::{facts_of_spki, signature_name};
use super::der::magnitude;

/// Facts of a certificate. Bytes behind it, as OpenSSL's trusted certificates have, are not part of it.
///
/// # Errors
/// What is wrong with it.
pub fn certificate(der: &[u8]) -> Result<KeyFacts, String> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| format!("not a certificate: {e}"))?;
    let spki = cert.public_key().raw;
    let mut facts = facts_of_spki(KeyKind::Certificate, spki).ok_or("the certificate's public key does not parse")?;
    facts.id = hex(&sha256(cert.as_raw()));
    facts.signature_algorithm = Some(signature_name(cert.signature_algorithm.algorithm.as_bytes()));
    facts.not_before_ms = Some(ms(cert.validity().not_before));
    facts.not_after_ms = Some(ms(cert.validity().not_after));
    facts.subject = Some(name(cert.subject()));
    facts.issuer = Some(name(cert.issuer()));
    facts.serial = Some(serial(cert.raw_serial()));
    facts.is_ca = Some(cert.is_ca());
    facts.sans = cert.extensions().iter().flat_map(|extension| sans(extension.parsed_extension())).collect();
    Ok(facts)
}

/// Facts of a request: the subject and names that it asks for.
///
/// # Errors
/// What is wrong with it.
pub fn request(der: &[u8]) -> Result<KeyFacts, String> {
    let (_, request) = X509CertificationRequest::from_der(der).map_err(|e| format!("not a certificate request: {e}"))?;
    let info = &request.certification_request_info;
    let mut facts = facts_of_spki(KeyKind::CertificateRequest, info.subject_pki.raw).ok_or("the request's public key does not parse")?;
    facts.id = hex(&sha256(request.as_raw()));
    facts.signature_algorithm = Some(signature_name(request.signature_algorithm.algorithm.as_bytes()));
    facts.subject = Some(name(&info.subject));
    facts.sans = request.requested_extensions().into_iter().flatten().flat_map(sans).collect();
    Ok(facts)
}

/// Facts of a revocation list: valid from its last to its next update, with its number as serial.
///
/// # Errors
/// What is wrong with it.
pub fn crl(der: &[u8]) -> Result<KeyFacts, String> {
    let (_, list) = CertificateRevocationList::from_der(der).map_err(|e| format!("not a revocation list: {e}"))?;
    let id = hex(&sha256(list.as_raw()));
    let signature = signature_name(list.signature_algorithm.algorithm.as_bytes());
    // A list has no key of its own: its fingerprint is its identity.
    let mut facts = KeyFacts::bare(KeyKind::Crl, id.clone(), id, "none");
    facts.signature_algorithm = Some(signature);
    facts.not_before_ms = Some(ms(list.last_update()));
    facts.not_after_ms = list.next_update().map(ms);
    facts.issuer = Some(name(list.issuer()));
    facts.serial = list.crl_number().map(|number| serial(&number.to_bytes_be()));
    Ok(facts)
}

/// A serial number as `openssl` prints it, but in lower case.
fn serial(number: &[u8]) -> String {
    match magnitude(number) {
        [] => "00".to_owned(),
        digits => hex(digits),
    }
}

fn ms(time: ASN1Time) -> i64 {
    time.timestamp().saturating_mul(1_000)
}

/// A distinguished name in the order of the certificate: `C=DE, O=Example, CN=example.org`.
fn name(name: &X509Name<'_>) -> String {
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

fn sans(extension: &ParsedExtension<'_>) -> Vec<String> {
    match extension {
        // Names beyond the bound are only counted, by `KeyFacts::clamp`.
        ParsedExtension::SubjectAlternativeName(names) => {
            let kept = names.general_names.iter().take(SANS_MAX).map(san);
            kept.chain(names.general_names.iter().skip(SANS_MAX).map(|_| String::new())).collect()
        }
        _ => Vec::new(),
    }
}

fn san(general: &GeneralName<'_>) -> String {
    match general {
        GeneralName::DNSName(dns) => format!("DNS:{dns}"),
        GeneralName::RFC822Name(email) => format!("email:{email}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::IPAddress(bytes) => format!("IP:{}", address(bytes)),
        GeneralName::DirectoryName(directory) => format!("DirName:{}", name(directory)),
        GeneralName::RegisteredID(oid) => format!("RID:{oid}"),
        GeneralName::OtherName(oid, _) => format!("othername:{oid}"),
        GeneralName::X400Address(_) => "X400Name".to_owned(),
        GeneralName::EDIPartyName(_) => "EdiPartyName".to_owned(),
        GeneralName::Invalid(_, bytes) => format!("invalid:{}", hex(&bytes[..bytes.len().min(64)])),
    }
}

fn address(bytes: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        std::net::Ipv4Addr::from(v4).to_string()
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        std::net::Ipv6Addr::from(v6).to_string()
    } else {
        hex(&bytes[..bytes.len().min(64)])
    }
}
