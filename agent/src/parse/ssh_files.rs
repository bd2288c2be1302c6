//! SSH keys in the forms of other programs: public keys as RFC 4716 has them, and PuTTY's key files, whose public half is in
//! clear. Of the private half only the head lines are read. Called by `keys`. Format: RFC 4716; PuTTY's manual, appendix C.

use std::path::Path;

use keyvigil_common::key::{KeyFacts, KeyKind};

use super::keys::{FaultClass, Parsed, Within};
use super::openssh::{Fields, named, public, public_blob};
use super::pem::{decode, find};

const BEGIN: &[u8] = b"---- BEGIN SSH2 PUBLIC KEY ----";
const END: &[u8] = b"---- END SSH2 PUBLIC KEY ----";
const PUTTY: &[u8] = b"PuTTY-User-Key-File-";
/// Keys of SSH's first protocol, which nothing speaks any more.
const PROTOCOL_1: &[u8] = b"SSH PRIVATE KEY FILE FORMAT 1.1\n";
/// Lines of the public half of a PuTTY key; RSA with 16384 bits has 45.
const LINES_MAX: usize = 1_024;

#[must_use]
pub fn looks(head: &[u8], _path: &Path) -> bool {
    // Five dashes are PEM's.
    let is_ssh2 = || find(head, BEGIN).is_some_and(|at| at == 0 || head[at - 1] == b'\n');
    head.starts_with(PUTTY) || head.starts_with(PROTOCOL_1) || is_ssh2()
}

/// Reads all keys of the file.
pub fn read(bytes: &[u8], _path: &Path, parsed: &mut Parsed) {
    if bytes.starts_with(PUTTY) {
        return parsed.object(0, Within::own("ppk"), putty(bytes));
    }
    if bytes.starts_with(PROTOCOL_1) {
        return parsed.fault(0, FaultClass::Unsupported, "a private key of SSH's first protocol".into());
    }
    let mut at = 0;
    while let Some(begin) = find(&bytes[at..], BEGIN).map(|length| at + length) {
        if !parsed.has_room(begin) {
            return;
        }
        let start = begin + BEGIN.len();
        let limit = find(&bytes[start..], BEGIN).map_or(bytes.len(), |length| start + length);
        match find(&bytes[start..limit], END) {
            Some(length) => parsed.object(begin, Within::own("ssh2"), ssh2(&bytes[start..start + length])),
            None => parsed.fault(begin, FaultClass::Truncated, "the SSH2 public key has no END line".into()),
        }
        at = limit;
    }
}

/// What stands between the marker lines.
fn ssh2(body: &[u8]) -> Result<KeyFacts, String> {
    let (mut comment, mut encoded, mut continues) = (None, Vec::new(), false);
    for raw in body.split(|b| *b == b'\n') {
        let line = raw.trim_ascii();
        let header = line.iter().position(|b| *b == b':');
        let goes_on = continues;
        continues = (goes_on || header.is_some()) && line.ends_with(b"\\");
        match header {
            _ if goes_on => {}
            Some(colon) if line[..colon].eq_ignore_ascii_case(b"comment") => {
                comment = named(String::from_utf8_lossy(&line[colon + 1..]).trim().trim_matches(['"', '\\']));
            }
            Some(_) => {}
            None => encoded.extend_from_slice(line),
        }
    }
    let blob = decode(&encoded).map_err(|_| "the SSH2 public key is not base64")?;
    let mut facts = public(&blob)?;
    facts.subject = comment.or(facts.subject);
    Ok(facts)
}

fn putty(bytes: &[u8]) -> Result<KeyFacts, String> {
    const BROKEN: &str = "the PuTTY key does not parse";
    let end = find(bytes, b"Private-Lines:").ok_or("the PuTTY key is truncated")?;
    let text = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = text.lines();
    let (version, kind) = lines.next().and_then(|line| line.strip_prefix("PuTTY-User-Key-File-")?.split_once(':')).ok_or(BROKEN)?;
    let (mut cipher, mut comment, mut derivation, mut costs, mut encoded) = ("none", "", "", [""; 3], String::new());
    while let Some(line) = lines.next() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name {
            "Encryption" => cipher = value,
            "Comment" => comment = value,
            "Public-Lines" => {
                let count = value.parse::<usize>().ok().filter(|count| *count <= LINES_MAX).ok_or(BROKEN)?;
                encoded = lines.by_ref().take(count).collect();
            }
            "Key-Derivation" => derivation = value,
            "Argon2-Memory" => costs[0] = value,
            "Argon2-Passes" => costs[1] = value,
            "Argon2-Parallelism" => costs[2] = value,
            _ => {}
        }
    }
    let blob = decode(encoded.as_bytes()).map_err(|_| "the public half of the PuTTY key is not base64")?;
    if Fields(&blob).text() != Some(kind.trim()) {
        return Err("the PuTTY key is not of the type that it says".into());
    }
    // What hangs on the key's head lines; those of an encrypted one stand behind its public half.
    if version == "3" && cipher != "none" && derivation.is_empty() {
        derivation = "unknown";
    }
    let mut facts = public_blob(KeyKind::SshPrivateKey, &blob)?;
    facts.subject = named(comment);
    facts.encrypted = Some(cipher != "none");
    facts.kdf = (cipher != "none").then(|| match derivation {
        // Up to version 2 a password goes through one round of a hash.
        "" => format!("sha1, 1 iteration, {cipher}"),
        argon => format!("{}, {} KiB, {} passes, parallelism {}, {cipher}", argon.to_ascii_lowercase(), costs[0], costs[1], costs[2]),
    });
    Ok(facts)
}

#[cfg(test)]
mod tests;
