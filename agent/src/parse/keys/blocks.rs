//! PEM files: which of their blocks are keys, and what is wrong with those that cannot be read. Called by `keys`.

use std::path::Path;

use keyvigil_common::key::KeyFacts;

use super::{FaultClass, Parsed, Within, from_der};
use crate::parse::der::{self, Form};
use crate::parse::symmetric::symmetric;
use crate::parse::{ber, openpgp, openssh, pem, private_key};

/// Reads all blocks of a PEM file.
pub(super) fn read(bytes: &[u8], path: &Path, parsed: &mut Parsed) {
    // OpenSSL names a key's curve in a block before it, too.
    let mut curve = None;
    for block in pem::blocks(bytes) {
        if block.label == "EC PARAMETERS" {
            curve = block.body.ok();
            continue;
        }
        let is_ours = is_ours(block.label);
        if !is_ours && !names_a_key(block.label) {
            continue;
        }
        if !parsed.has_room(block.offset) {
            return;
        }
        match &block.body {
            // Its check sum is not base64.
            _ if block.label.starts_with("PGP ") => openpgp::armoured(&block, path, parsed),
            Ok(body) if der::form(body) == Some(Form::EcPrivateKey) => {
                parsed.object(block.offset, Within::own("pem"), private_key::ec_on(body, curve.as_ref().map(|curve| curve.as_slice())));
            }
            Ok(_) if block.label.starts_with("OpenVPN Static key") => parsed.object(block.offset, Within::own("pem"), openvpn(path, block.encoded)),
            Ok(body) if is_ours => from_block(&block, body, parsed),
            Ok(body) => from_strange_block(&block, body, parsed),
            Err(broken) => {
                let (class, what) = match broken {
                    pem::Broken::NoEnd => (FaultClass::Truncated, "has no END line"),
                    pem::Broken::OtherEnd => (FaultClass::Corrupt, "ends with the END line of something else"),
                    pem::Broken::Base64 => (FaultClass::Corrupt, "is not base64"),
                    pem::Broken::Empty => (FaultClass::Corrupt, "is empty"),
                };
                parsed.fault(block.offset, class, format!("the {} block {what}", block.label));
            }
        }
    }
}

/// Whether a block with that label, which is none of ours, is a key or certificate nevertheless.
fn names_a_key(label: &str) -> bool {
    let label = label.to_ascii_uppercase();
    ["KEY", "CERT", "ECHCONFIG"].iter().any(|what| label.contains(what)) && !["MESSAGE", "SIGNATURE", "PARAMETERS"].iter().any(|end| label.ends_with(end))
}

/// A block of someone's own label: many have in it what others have, too.
fn from_strange_block(block: &pem::Block<'_>, body: &[u8], parsed: &mut Parsed) {
    if der::form(body).is_some() {
        from_der("pem", block.offset, body, parsed);
    } else {
        parsed.fault(block.offset, FaultClass::Unsupported, format!("a key or certificate of a kind that is not known here ({})", block.label));
    }
}

/// The secret that both ends of a tunnel hold: 2048 bits in hex, its bytes left alone.
fn openvpn(path: &Path, encoded: &[u8]) -> Result<KeyFacts, String> {
    const DIGITS: usize = 512;
    let digits = encoded.iter().filter(|b| !b.is_ascii_whitespace());
    let is_whole = digits.clone().count() == DIGITS && digits.clone().all(u8::is_ascii_hexdigit);
    is_whole.then(|| symmetric(path, "", "openvpn-static", Some(2_048))).ok_or_else(|| "the static key of OpenVPN is not 2048 bits in hex".into())
}

/// Whether a block with that label is a key or certificate. Parameters and OpenPGP messages are not.
fn is_ours(label: &str) -> bool {
    let signed = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CRL", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
    let messages = ["PKCS7", "PKCS #7 SIGNED DATA", "CMS", "PKCS12"];
    let public = ["PUBLIC KEY", "RSA PUBLIC KEY", "PGP PUBLIC KEY BLOCK", "PGP PRIVATE KEY BLOCK"];
    signed.contains(&label) || messages.contains(&label) || public.contains(&label) || label.ends_with("PRIVATE KEY")
}

fn from_block(block: &pem::Block<'_>, body: &[u8], parsed: &mut Parsed) {
    let definite = if ber::is_indefinite(body) { ber::to_der(body) } else { None };
    let body = definite.as_ref().map_or(body, |der| der.as_slice());
    let form = der::form(body);
    match block.label {
        "OPENSSH PRIVATE KEY" => parsed.object(block.offset, Within::own("openssh"), openssh::private_key(body)),
        label if block.header("Proc-Type").is_some_and(|value| value.contains("ENCRYPTED")) => {
            let cipher = block.header("DEK-Info").unwrap_or_default();
            parsed.object(block.offset, Within::own("pem"), Ok(private_key::legacy_encrypted(label, cipher, body)));
        }
        "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "DSA PRIVATE KEY" | "ANY PRIVATE KEY" => {
            if form.is_some_and(is_private) {
                from_der("pem", block.offset, body, parsed);
            } else {
                parsed.fault(block.offset, FaultClass::Corrupt, format!("the {} block holds no private key", block.label));
            }
        }
        label if label.ends_with("PRIVATE KEY") && !form.is_some_and(is_private) => {
            parsed.fault(block.offset, FaultClass::Unsupported, format!("a private key of a kind that is not known here ({label})"));
        }
        label if !label.ends_with("PRIVATE KEY") && form.is_none_or(is_private) => {
            parsed.fault(block.offset, FaultClass::Corrupt, format!("the {label} block holds something else"));
        }
        _ => from_der("pem", block.offset, body, parsed),
    }
}

fn is_private(form: Form) -> bool {
    matches!(form, Form::Pkcs8 | Form::EncryptedPkcs8 | Form::RsaPrivateKey | Form::EcPrivateKey | Form::DsaPrivateKey)
}
