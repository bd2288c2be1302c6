//! OpenSSH's list of revoked keys, in its binary form. What it revokes is told as `SHA256:...` (a key, by its fingerprint),
//! `SHA1:<hex>` (a key of which the list has only that hash), `<CA> <serial>`, `<CA> <serial>-<serial>` and `<CA> id:<key id>`
//! (certificates), where the CA is its key's fingerprint, or `any`, and serials are hex. Called by `keys`. Format: OpenSSH's PROTOCOL.krl.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use keyvigil_common::crl::Lines;
use keyvigil_common::hex;
use keyvigil_common::key::{KeyFacts, KeyKind, Revoked};
use keyvigil_common::limits::REVOKED_MAX;

use super::keys::{FaultClass, Parsed, Within};
use super::openssh::{Fields, fingerprint, named};

const MAGIC: &[u8] = b"SSHKRL\n\0";
/// Names of one list that are looked up; a range of serials, which takes a few bytes of the file, has one for each.
const NAMES_MAX: usize = 50_000;

#[must_use]
pub fn looks(head: &[u8], _path: &Path) -> bool {
    head.starts_with(MAGIC)
}

/// Reads the list.
pub fn read(bytes: &[u8], _path: &Path, parsed: &mut Parsed) {
    match list(bytes) {
        Some((facts, revokes)) => {
            let at_ms = facts.not_before_ms.unwrap_or(0);
            tell(facts, revokes.names.iter().map(String::as_str), at_ms, parsed);
            if revokes.left_out > 0 {
                let why = format!("{} of what the list of revoked SSH keys revokes is too much to be looked up", revokes.left_out);
                parsed.fault(0, FaultClass::TooMany, why);
            }
        }
        None => parsed.fault(0, FaultClass::Truncated, "the list of revoked SSH keys ends too early".into()),
    }
}

/// Tells a list, with all its names to look up.
pub(super) fn tell<'a>(facts: KeyFacts, names: impl Iterator<Item = &'a str>, at_ms: i64, parsed: &mut Parsed) {
    if let Some(found) = parsed.take(0, Within::own("krl"), Ok(facts)) {
        found.revokes = Some(Arc::new(Lines::named(names, at_ms)));
    }
}

fn list(bytes: &[u8]) -> Option<(KeyFacts, Revokes)> {
    let mut fields = Fields(bytes.strip_prefix(MAGIC)?);
    let _format = fields.u32()?;
    let (version, generated, _flags) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (_reserved, comment) = (fields.string()?, fields.string()?);
    let id = hex(digest(&SHA256, bytes).as_ref());
    let mut facts = KeyFacts::bare(KeyKind::Crl, id.clone(), id, "ssh");
    facts.serial = Some(format!("{version:02x}"));
    facts.not_before_ms = generated.checked_mul(1_000).and_then(|ms| i64::try_from(ms).ok()).filter(|ms| *ms > 0);
    facts.subject = named(&String::from_utf8_lossy(comment));
    let mut revokes = Revokes::default();
    while !fields.0.is_empty() {
        let kind = fields.bytes(1)?[0];
        let section = fields.string()?;
        match kind {
            1 => certificates(section, &mut revokes)?,
            2 => each(section, |key| revokes.add(fingerprint(digest(&SHA256, key).as_ref())))?,
            3 => each(section, |hash| revokes.add(format!("SHA1:{}", hex(hash))))?,
            5 => each(section, |hash| revokes.add(fingerprint(hash)))?,
            // A signature: its key, and then what follows the list.
            4 => {
                facts.signature_algorithm = Fields(fields.string()?).text().map(str::to_owned);
            }
            _ => {}
        }
    }
    let line = |what: &String| Revoked { what: what.clone(), at_ms: facts.not_before_ms, reason: None };
    facts.revokes = revokes.told.iter().take(REVOKED_MAX).map(line).collect();
    Some((facts, revokes))
}

/// What is revoked, up to the bounds.
#[derive(Default)]
struct Revokes {
    /// As it is told: a range is one.
    told: Vec<String>,
    /// To be looked up: each for itself.
    names: Vec<String>,
    left_out: u64,
}

impl Revokes {
    fn add(&mut self, what: String) {
        self.tell(&what);
        self.name(what);
    }

    fn tell(&mut self, what: &str) {
        if self.told.len() < REVOKED_MAX {
            self.told.push(what.to_owned());
        }
    }

    fn name(&mut self, what: String) {
        if self.names.len() < NAMES_MAX {
            self.names.push(what);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    fn range(&mut self, authority: &str, first: u64, last: u64) {
        self.tell(&format!("{authority} {first:02x}-{last:02x}"));
        let room = (NAMES_MAX - self.names.len()) as u64;
        let count = last.saturating_sub(first).saturating_add(1);
        (0..count.min(room)).for_each(|n| self.name(format!("{authority} {:02x}", first + n)));
        self.left_out = self.left_out.saturating_add(count.saturating_sub(room));
    }
}

fn each(section: &[u8], mut take: impl FnMut(&[u8])) -> Option<()> {
    let mut fields = Fields(section);
    while !fields.0.is_empty() {
        take(fields.string()?);
    }
    Some(())
}

fn certificates(section: &[u8], revokes: &mut Revokes) -> Option<()> {
    let mut fields = Fields(section);
    let authority = fields.string()?;
    let authority = if authority.is_empty() { "any".to_owned() } else { fingerprint(digest(&SHA256, authority).as_ref()) };
    fields.string()?;
    while !fields.0.is_empty() {
        let kind = fields.bytes(1)?[0];
        let mut list = Fields(fields.string()?);
        match kind {
            0x20 => {
                while !list.0.is_empty() {
                    revokes.add(format!("{authority} {:02x}", list.u64()?));
                }
            }
            0x21 => revokes.range(&authority, list.u64()?, list.u64()?),
            0x22 => bitmap(list.u64()?, list.string()?, &authority, revokes),
            0x23 => each(list.0, |id| revokes.add(format!("{authority} id:{}", String::from_utf8_lossy(id))))?,
            _ => {}
        }
    }
    Some(())
}

/// Serials from `first` on, one for each bit of a number that is set.
fn bitmap(first: u64, number: &[u8], authority: &str, revokes: &mut Revokes) {
    for (byte, bits) in number.iter().rev().enumerate() {
        for bit in (0..8).filter(|bit| bits >> bit & 1 == 1) {
            let Some(serial) = first.checked_add(byte as u64 * 8 + bit) else { return };
            revokes.add(format!("{authority} {serial:02x}"));
        }
    }
}

#[cfg(test)]
mod tests;
