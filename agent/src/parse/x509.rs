//! What everyone may know about certificates, certificate requests and revocation lists. Signatures are not checked: this is
//! an inventory, and a forged certificate on disk is worth knowing, too. Called by `keys`. Format: RFC 5280, RFC 2986.

use keyvigil_common::crl::Crl;
use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::limits::SANS_MAX;
use keyvigil_common::x509::{ms, name, serial};
use keyvigil_common::{hex, sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::algorithm::{facts_of_spki, signature_name};

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
    for extension in cert.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(key) => facts.key_id = Some(hex(key.0)),
            ParsedExtension::AuthorityKeyIdentifier(key) => facts.authority_key_id = key.key_identifier.as_ref().map(|id| hex(id.0)),
            _ => {}
        }
    }
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
