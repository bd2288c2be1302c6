//! Files with one SSH public key a line: `.pub`, `authorized_keys`, `known_hosts`, and lists of revoked keys. Which of them a line
//! belongs to is told by what stands before the key; of a line with nothing before it, by the file's name and its other lines.
//! Called by `keys`. Format: sshd(8), ssh-keygen(1).

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use keyvigil_common::hex;
use keyvigil_common::key::{KeyFacts, KeyKind, Revoked, Role};
use keyvigil_common::limits::REVOKED_MAX;

use super::keys::{Parsed, Within};
use super::pem::{decode, find};
use super::{krl, openssh};

/// Bytes of the base64 of one key in a line; RSA with 16384 bits has 2,800, certificates a few more.
const BLOB_TEXT_MAX: usize = 64 << 10;
/// Words of a line before its key; options in quotes are one.
const WORDS_BEFORE_MAX: usize = 4;
/// Options of `authorized_keys` that have no value; those with one have `=`.
const FLAGS: &[&str] = &[
    "cert-authority",
    "restrict",
    "pty",
    "no-pty",
    "port-forwarding",
    "no-port-forwarding",
    "agent-forwarding",
    "no-agent-forwarding",
    "x11-forwarding",
    "no-x11-forwarding",
    "user-rc",
    "no-user-rc",
    "verify-required",
    "no-touch-required",
];

/// Whether a file with these first bytes may have SSH public keys as lines: the blob of each type begins with three zeros.
#[must_use]
pub fn looks(head: &[u8], _path: &Path) -> bool {
    let mut rest = head;
    while let Some(at) = find(rest, b"AAAA") {
        if at > 0 && matches!(rest[at - 1], b' ' | b'\t') {
            return true;
        }
        rest = &rest[at + 4..];
    }
    false
}

/// One line with a key.
struct Line<'a> {
    offset: usize,
    /// `@revoked`, `@cert-authority`.
    marker: Option<&'a str>,
    before: Before<'a>,
    name: &'a str,
    blob: &'a str,
    comment: &'a str,
}

/// What stands before a key.
enum Before<'a> {
    Nothing,
    Hosts(&'a str),
    Options(Vec<&'a str>),
}

/// Reads all keys of the file.
pub fn read(bytes: &[u8], path: &Path, parsed: &mut Parsed) {
    let plain = plain_role(bytes, path);
    let mut offset = 0;
    let mut revoked = Vec::new();
    for raw in bytes.split(|b| *b == b'\n') {
        let text = String::from_utf8_lossy(raw);
        if let Some(line) = line(offset, &text) {
            match plain {
                Plain::Revoked if matches!(line.before, Before::Nothing) => revoked.extend(line.facts().ok().map(|facts| facts.fingerprint)),
                _ if !parsed.has_room(offset) => return,
                _ => line.tell(&plain, parsed),
            }
        }
        offset += raw.len() + 1;
    }
    if !revoked.is_empty() && parsed.has_room(0) {
        krl::tell(revoked_list(bytes, &revoked), revoked.iter().map(String::as_str), 0, parsed);
    }
}

/// What a line is that has a key and nothing before it.
enum Plain {
    Public,
    Authorized,
    Revoked,
}

fn plain_role(bytes: &[u8], path: &Path) -> Plain {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let parent = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if name.contains("revoked") || name.ends_with(".krl") || name == "krl" {
        return Plain::Revoked;
    }
    if name.contains("authorized_keys") || parent.contains("authorized_keys") {
        return Plain::Authorized;
    }
    let mut lines = bytes.split(|b| *b == b'\n').filter(|raw| find(raw, b" AAAA").is_some());
    let is_one = lines.next().is_some() && lines.next().is_none();
    if name.ends_with(".pub") || is_one { Plain::Public } else { Plain::Authorized }
}

/// A list of revoked keys that is text: `sshd` takes it as it takes a binary one.
fn revoked_list(bytes: &[u8], fingerprints: &[String]) -> KeyFacts {
    let id = hex(digest(&SHA256, bytes).as_ref());
    let mut facts = KeyFacts::bare(KeyKind::Crl, id.clone(), id, "ssh");
    let revoked = |what: &String| Revoked { what: what.clone(), at_ms: None, reason: None };
    facts.revokes = fingerprints.iter().take(REVOKED_MAX).map(revoked).collect();
    facts
}

/// The key in a line, with what stands around it; `None` where there is none.
fn line(offset: usize, text: &str) -> Option<Line<'_>> {
    let mut rest = text.trim();
    if rest.is_empty() || rest.starts_with('#') {
        return None;
    }
    let mut before: Vec<&str> = Vec::new();
    loop {
        let (word, behind) = word(rest)?;
        let (next, after) = self::word(behind).unwrap_or(("", ""));
        if next.starts_with("AAAA") && next.len() <= BLOB_TEXT_MAX && is_name(word) {
            let marker = before.first().copied().filter(|word| word.starts_with('@'));
            let before = classify(before.get(usize::from(marker.is_some())).copied());
            return Some(Line { offset, marker, before, name: word, blob: next, comment: after.trim() });
        }
        before.push(word);
        if before.len() > WORDS_BEFORE_MAX {
            return None;
        }
        rest = behind;
    }
}

/// Names of types have no other letters (RFC 4250); one that is not known here may come with the next release.
fn is_name(word: &str) -> bool {
    word.len() <= 64 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-@.".contains(&b)) && (openssh::is_type(word) || word.contains('-'))
}

/// The next word, in which spaces in quotes do not count, and what follows it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = unquoted(text, char::is_whitespace).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Where the first character stands that `is` takes, outside of quotes.
fn unquoted(text: &str, is: impl Fn(char) -> bool) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().find_map(|(at, c)| {
        if !quoted && is(c) {
            return Some(at);
        }
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        None
    })
}

fn classify(word: Option<&str>) -> Before<'_> {
    let Some(word) = word else { return Before::Nothing };
    let mut options = Vec::new();
    let mut rest = word;
    loop {
        let end = unquoted(rest, |c| c == ',').unwrap_or(rest.len());
        options.push(&rest[..end]);
        match rest.get(end + 1..) {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    let is_option = |option: &str| FLAGS.contains(&option.to_ascii_lowercase().as_str()) || option.contains("=\"");
    if options.iter().any(|option| is_option(option)) { Before::Options(options) } else { Before::Hosts(word) }
}

impl Line<'_> {
    fn facts(&self) -> Result<KeyFacts, String> {
        let blob = decode(self.blob.as_bytes()).map_err(|_| "the SSH public key is not base64".to_owned())?;
        if openssh::Fields(&blob).text() != Some(self.name) {
            return Err(format!("the SSH public key is not of the type {:?} that its line says", self.name));
        }
        let mut facts = openssh::public(&blob)?;
        // A certificate's subject is its own.
        if facts.kind == KeyKind::SshPublicKey {
            facts.subject = openssh::named(self.comment);
        }
        Ok(facts)
    }

    fn tell(&self, plain: &Plain, parsed: &mut Parsed) {
        let mut facts = self.facts();
        // Text of any kind has words before "AAAA".
        if facts.is_err() && !openssh::is_type(self.name) {
            return;
        }
        let mut within = match (&self.before, plain) {
            (Before::Hosts(hosts), _) => {
                let hosts = if hosts.starts_with("|1|") { "hashed" } else { hosts };
                Within::role("known_hosts", Role::Peer).entry(hosts)
            }
            (Before::Options(_), _) | (Before::Nothing, Plain::Authorized) => Within::role("authorized_keys", Role::Authorized),
            (Before::Nothing, _) => Within::own("openssh"),
        };
        if let (Ok(facts), Before::Options(options)) = (&mut facts, &self.before) {
            options.iter().for_each(|option| authorize(option, facts, &mut within));
        }
        match (self.marker, &mut facts) {
            (Some("@cert-authority"), Ok(facts)) => {
                (facts.is_ca, within.role) = (Some(true), Role::Trusted);
            }
            (Some("@revoked"), Ok(facts)) => facts.revocation = Some("known_hosts: @revoked".into()),
            _ => {}
        }
        parsed.object(self.offset, within, facts);
    }
}

/// What an option of `authorized_keys` says of the key in this place: another line may say otherwise. Commands and variables may hold secrets: only their names are told.
fn authorize(option: &str, facts: &mut KeyFacts, within: &mut Within) {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let (name, value) = (name.to_ascii_lowercase(), value.trim_matches('"'));
    match name.as_str() {
        "cert-authority" => facts.is_ca = Some(true),
        "expiry-time" => within.not_after_ms = expiry(value).or(within.not_after_ms),
        "command" | "environment" => within.options.push(name),
        _ if value.is_empty() => within.options.push(name),
        _ => within.options.push(format!("{name}={value}")),
    }
}

/// `YYYYMMDD[Z]` or `YYYYMMDDHHMM[SS][Z]`, Unix ms. Without a Z it is local time, which is not known here: taken as UTC.
fn expiry(text: &str) -> Option<i64> {
    let digits = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| digits.get(range).map_or(Some(0), |part| part.parse::<i8>().ok());
    let date = jiff::civil::Date::new(digits[..4].parse().ok()?, number(4..6)?, number(6..8)?).ok()?;
    let time = jiff::civil::Time::new(number(8..10)?, number(10..12)?, number(12..14)?, 0).ok()?;
    Some(date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests;
