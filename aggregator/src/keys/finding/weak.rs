//! Keys that can be broken, and signatures that can be forged. One finding a public key, whatever forms of it lie around,
//! and one a certificate for its signature. Peers' keys are the peers' matter.

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::{KeyFacts, KeyKind, Role};

use super::super::record::KeyRecord;
use super::view::{View, is_self_signed};
use super::{Draft, Finding};

/// Whether an RSA key with this public exponent invites attacks: 1 does not encrypt, even ones are no exponents, and 3 makes
/// every slip in padding fatal.
#[must_use]
pub(in crate::keys) fn is_weak_exponent(exponent: u64) -> bool {
    exponent <= 3 || exponent.is_multiple_of(2)
}

/// The broken hash that a signature is made with.
#[must_use]
pub(in crate::keys) fn broken_hash(signature: &str) -> Option<&'static str> {
    let name = signature.to_ascii_lowercase();
    let sha1 = |(at, _): (usize, &str)| !name.as_bytes().get(at + 4).is_some_and(u8::is_ascii_digit);
    match () {
        () if name.contains("md2") => Some("MD2"),
        () if name.contains("md4") => Some("MD4"),
        () if name.contains("md5") => Some("MD5"),
        () if name.match_indices("sha1").any(sha1) || name.contains("sha-1") || name == "ssh-rsa" || name == "ssh-dss" => Some("SHA-1"),
        () => None,
    }
}

/// What can be said against the key itself.
fn faults(facts: &KeyFacts) -> Vec<(Severity, String)> {
    let mut out = Vec::new();
    let bits = facts.bits.or_else(|| curve_bits(facts.curve.as_deref()?)).unwrap_or(u32::MAX);
    match facts.algorithm.as_str() {
        "rsa" | "rsa-pss" | "dh" if bits < 1_024 => out.push((Severity::Critical, format!("{bits} bits, which anyone can break"))),
        "rsa" | "rsa-pss" | "dh" if bits < 2_048 => out.push((Severity::Warning, format!("{bits} bits, where 2048 are the least that is safe"))),
        "dsa" => out.push((Severity::Warning, "DSA, which is no longer accepted".into())),
        "elgamal" if bits < 2_048 => out.push((Severity::Warning, format!("{bits} bits, where 2048 are the least that is safe"))),
        "ec" | "ecdsa" | "ecdh" if bits < 160 => out.push((Severity::Critical, format!("a curve of {bits} bits: can be broken"))),
        "ec" | "ecdsa" | "ecdh" if bits < 224 => out.push((Severity::Warning, format!("a curve of {bits} bits, where 224 are the least that is safe"))),
        _ if facts.kind == KeyKind::SymmetricKey && bits < 112 => out.push((Severity::Warning, format!("{bits} bits, where 112 are the least that is safe"))),
        _ => {}
    }
    if let Some(exponent) = facts.exponent.filter(|e| is_weak_exponent(*e)) {
        out.push((Severity::Warning, format!("public exponent {exponent}, where 65537 is safe")));
    }
    out.extend(facts.weaknesses.iter().map(|weakness| (Severity::Critical, known(weakness))));
    out
}

/// Size of a curve that goes by this name: `secp192r1`, `P-192`, `brainpoolP160r1`, `c2pnb163v1`.
fn curve_bits(name: &str) -> Option<u32> {
    let mut numbers = name.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() == 3);
    numbers.next()?.parse().ok()
}

fn known(weakness: &str) -> String {
    match weakness {
        "roca" => "roca: the private key can be computed from the public one (CVE-2017-15361)".into(),
        "debian-weak" => "debian-weak: one of the 32767 keys that Debian's OpenSSL made until 2008 (CVE-2008-0166)".into(),
        "shared-factor" => "shared-factor: shares a prime with another key, so both can be computed".into(),
        other => other.to_owned(),
    }
}

fn concerns_us(key: &KeyRecord) -> bool {
    !matches!(key.facts.kind, KeyKind::Crl | KeyKind::KernelKey | KeyKind::CertificateRequest) && key.live().any(|p| p.place.role != Role::Peer)
}

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    for key in view.own().filter(|key| concerns_us(key)) {
        let faults = faults(&key.facts);
        // The first of those with this fingerprint tells it for all.
        if !faults.is_empty() && first(view, key).is_some_and(|first| std::ptr::eq(first, key)) {
            out.push(weak_key(view, key, faults));
        }
        // Nobody checks the signature of an authority that is trusted by itself, whoever else signed it.
        let anchored = || key.facts.is_ca == Some(true) && view.cluster(key).any(|other| is_self_signed(other) && view.is_anchor(other));
        let signed = matches!(key.facts.kind, KeyKind::Certificate | KeyKind::SshCertificate) && !is_self_signed(key) && !anchored();
        if let Some(hash) = key.facts.signature_algorithm.as_deref().filter(|_| signed).and_then(broken_hash) {
            let severity = if hash == "SHA-1" { Severity::Warning } else { Severity::Critical };
            let identity = format!("{}:signature", key.facts.id);
            let places = key.own().filter(|p| p.place.role != Role::Peer).collect();
            let draft = Draft { keys: vec![key], places, ..Draft::new(FindingKind::Weak, severity, &identity) };
            let draft = draft.with("signature", key.facts.signature_algorithm.clone().unwrap_or_default());
            let title = format!("{}{} is signed with {hash}, which can be forged", draft.name(), draft.on());
            out.push(draft.finish(title, "Have it issued again with SHA-256 or better; if the authority signs nothing else, use another authority."));
        }
    }
}

fn first<'a>(view: &View<'a>, key: &KeyRecord) -> Option<&'a KeyRecord> {
    let weak = |other: &&KeyRecord| concerns_us(other) && !faults(&other.facts).is_empty();
    view.cluster(key).filter(weak).min_by_key(|other| (other.facts.kind, &other.facts.id))
}

fn weak_key(view: &View<'_>, key: &KeyRecord, faults: Vec<(Severity, String)>) -> Finding {
    let keys: Vec<&KeyRecord> = view.cluster(key).filter(|other| concerns_us(other)).collect();
    let places = keys.iter().flat_map(|key| key.own()).filter(|p| p.place.role != Role::Peer).collect();
    let severity = faults.iter().map(|(severity, _)| *severity).max().unwrap_or(Severity::Warning);
    let mut draft = Draft { keys, places, ..Draft::new(FindingKind::Weak, severity, key.facts.key()) };
    let size = key.facts.bits.map(|bits| format!(" {bits}")).unwrap_or_default();
    draft = draft.with("algorithm", format!("{}{size}", key.facts.algorithm));
    let worst = faults.iter().max_by_key(|(severity, _)| *severity).map(|(_, what)| what.clone()).unwrap_or_default();
    for (_, what) in faults {
        draft = draft.with("weakness", what);
    }
    let title = format!("{}{} has a weak key: {worst}", draft.name_of(key), draft.on());
    draft.finish(title, "Make a new key (RSA of 3072 bits, ECDSA P-256 or Ed25519), replace what carries this one, then remove it.")
}
