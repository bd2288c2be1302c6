//! What a key is called: by what it is for, which is its subject or the file it lies in, and by its fingerprint only where
//! neither is known. Pure.

use keyvigil_common::key::{KeyKind, Role};

use super::KeyRecord;

/// Characters of a name.
const NAME_CHARS_MAX: usize = 120;
const FINGERPRINT_CHARS: usize = 12;

/// The name of `key`.
#[must_use]
pub fn name(key: &KeyRecord) -> String {
    let facts = &key.facts;
    let subject = || facts.subject.as_deref().filter(|text| !text.is_empty());
    let named = || common_name(subject()?).or_else(|| facts.sans.first().map(|san| san.split_once(':').map_or(san.as_str(), |(_, name)| name)));
    let place = || key.live().find(|p| p.place.role == Role::Held).or_else(|| key.live().next()).or(key.places.first());
    let entry = || place().and_then(|p| p.place.entry.as_deref()).filter(|text| !text.is_empty());
    let path = || place().map(|p| p.place.path.as_str());
    let authorized = || key.live().all(|p| p.place.role != Role::Held);
    let found = match facts.kind {
        KeyKind::Certificate | KeyKind::CertificateRequest | KeyKind::Crl => named().or_else(subject).or_else(path),
        KeyKind::SshCertificate | KeyKind::OpenpgpPrivateKey | KeyKind::OpenpgpPublicKey => subject().or_else(path),
        KeyKind::KernelKey | KeyKind::SymmetricKey => entry().or_else(subject).or_else(path),
        _ if authorized() => subject().or_else(entry).or_else(path),
        _ => path().or_else(subject),
    };
    match found {
        Some(text) => shown(text),
        None => facts.fingerprint.chars().take(FINGERPRINT_CHARS).collect(),
    }
}

/// Value of CN in a distinguished name written `CN=a, O=b`.
fn common_name(subject: &str) -> Option<&str> {
    let parts = subject.split([',', '/', '+']);
    parts.filter_map(|part| part.trim().split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("cn")).map(|(_, value)| value.trim())
}

/// Text as it may stand in a sentence: on one line, and not endless. What certificates say is chosen by whoever made them.
#[must_use]
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(NAME_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(NAME_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

/// A length of time, in words that fit its size: `6 days`, `5 hours`, `1 minute`.
#[must_use]
pub(super) fn length(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let (size, name) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}
