//! What a key is called: by what it is for, which is its subject or the file it lies in, and by its fingerprint only where
//! neither is known. Pure.

use keyvigil_common::key::{KeyKind, Role};

use super::{KeyRecord, PlaceRecord};

/// Characters of a name.
const NAME_CHARS_MAX: usize = 120;
const FINGERPRINT_CHARS: usize = 12;
/// Forms of files that hold several keys, each under its own name.
const STORES: &[&str] = &["jks", "jceks", "pkcs12", "kubeconfig", "kubernetes-secret"];

/// The name of `key`.
#[must_use]
pub fn name(key: &KeyRecord) -> String {
    name_at(key, |_| true)
}

/// The name of `key` where those of its places are spoken of: elsewhere the same file may have another.
#[must_use]
pub(super) fn name_at(key: &KeyRecord, spoken_of: impl Fn(&PlaceRecord) -> bool) -> String {
    let facts = &key.facts;
    let subject = || facts.subject.as_deref().filter(|text| !text.is_empty());
    let named = || common_name(subject()?).or_else(|| facts.sans.first().map(|san| san.split_once(':').map_or(san.as_str(), |(_, name)| name)));
    let there = || key.live().filter(|p| spoken_of(p));
    let place = || there().find(|p| p.place.role == Role::Held).or_else(|| there().next()).or_else(|| key.live().next()).or(key.places.first());
    let entry = || place().and_then(|p| p.place.entry.as_deref()).filter(|text| !text.is_empty());
    let path = || place().map(|p| p.place.path.as_str());
    let format = || place().and_then(|p| p.place.format.as_deref()).unwrap_or_default();
    let authorized = || key.live().all(|p| p.place.role != Role::Held);
    let found = match facts.kind {
        KeyKind::Certificate | KeyKind::CertificateRequest | KeyKind::Crl => named().or_else(subject).or_else(path),
        KeyKind::SshCertificate | KeyKind::OpenpgpPrivateKey | KeyKind::OpenpgpPublicKey => subject().or_else(path),
        KeyKind::KernelKey | KeyKind::SymmetricKey => entry().or_else(subject).or_else(path),
        _ if authorized() => subject().or_else(entry).or_else(path),
        // By its `kid` a key is asked for; what else holds several keys calls each by a name that only means something there.
        _ if format() == "jwks" => entry().or_else(path),
        _ if STORES.contains(&format())
            && let (Some(path), Some(entry)) = (path(), entry()) =>
        {
            return shown(&format!("{path} [{entry}]"));
        }
        _ => path().or_else(subject),
    };
    match found {
        Some(text) => shown(text),
        None => facts.fingerprint.chars().take(FINGERPRINT_CHARS).collect(),
    }
}

/// Value of CN in a distinguished name written `CN=a, O=b`.
fn common_name(subject: &str) -> Option<&str> {
    let is_type = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    let begins = |at: usize| subject[at..].split_once('=').is_some_and(|(name, _)| is_type(name));
    // A comma may stand in a value: only what looks like the next type ends it.
    let starts: Vec<usize> = [0].into_iter().chain(subject.match_indices(", ").map(|(at, _)| at + 2)).filter(|at| begins(*at)).collect();
    let ends = starts.iter().skip(1).map(|at| at - 2).chain([subject.len()]);
    let mut parts = starts.iter().zip(ends).filter_map(|(start, end)| subject.get(*start..end)?.split_once('='));
    parts.find(|(name, _)| name.eq_ignore_ascii_case("cn")).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

/// Text as it may stand in a sentence: on one line, and not endless. What certificates say is chosen by whoever made them.
#[must_use]
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(NAME_CHARS_MAX).map(|c| if c.is_control() || is_unseen(c) { ' ' } else { c }).collect();
    if text.chars().nth(NAME_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

/// A path as it may stand in a command that somebody copies into a root shell: whoever may name a file chooses it.
#[must_use]
pub(super) fn quoted(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !path.is_empty() && path.chars().all(is_plain) {
        return path.to_owned();
    }
    // What a terminal would not show as it is cannot be copied either.
    let text: String = path.chars().map(|c| if c.is_control() || is_unseen(c) || c == '`' { '?' } else { c }).collect();
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Characters that change how others are shown, or are not shown at all.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A length of time, in words that fit its size: `6 days`, `5 hours`, `1 minute`.
#[must_use]
pub(super) fn length(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let units = [(31_556_952, "year"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let (size, name) = units.into_iter().find(|(size, name)| seconds >= *size * if *name == "year" { 2 } else { 1 }).unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::key::{KeyFacts, Place, Sighting};

    #[test]
    fn a_path_in_a_command_is_one_word_whatever_it_holds() {
        assert_eq!(quoted("/etc/ssl/private/a-b_1.key"), "/etc/ssl/private/a-b_1.key");
        assert_eq!(quoted("/k/x$(touch PWNED);reboot.key"), "'/k/x$(touch PWNED);reboot.key'");
        assert_eq!(quoted("/k/it's `id` a b\n.key"), "'/k/it'\\''s ?id? a b?.key'");
    }

    #[test]
    fn of_a_file_with_many_keys_each_has_its_own_name() {
        let named = |format: &str, entry: Option<&str>| {
            let facts = KeyFacts::bare(KeyKind::PrivateKey, "a".repeat(64), "b".repeat(64), "rsa");
            let place = Place { format: Some(format.into()), entry: entry.map(str::to_owned), ..Place::at("/srv/keys") };
            name(&KeyRecord::sighted(None, "web", Sighting { facts, place, at_ms: 0, gone: false, replaces: None }))
        };
        assert_eq!(named("jwks", Some("sig-2026")), "sig-2026");
        assert_eq!(named("jks", Some("tomcat")), "/srv/keys [tomcat]");
        assert_eq!((named("jwks", None).as_str(), named("pem", Some("x")).as_str()), ("/srv/keys", "/srv/keys"));
    }

    #[test]
    fn a_length_is_told_in_the_unit_that_fits() {
        let day = 86_400_000;
        assert_eq!([length(59_000), length(day), length(700 * day), length(24_433 * day)], ["59 seconds", "1 day", "700 days", "66 years"]);
    }

    #[test]
    fn a_common_name_is_told_whole() {
        for (subject, expected) in [
            ("C=DE, O=Example, CN=example.org", Some("example.org")),
            ("CN=Acme, Inc. Web", Some("Acme, Inc. Web")),
            ("CN=HTTP/web-1.example.org, O=IPA", Some("HTTP/web-1.example.org")),
            ("CN=a+b, 1.2.3.4=x", Some("a+b")),
            ("O=Example", None),
            ("CN=", None),
        ] {
            assert_eq!(common_name(subject), expected, "{subject}");
        }
    }
}
