//! Java's own key stores, JKS and JCEKS: certificates are in clear in them, and the public half of a private key is that of its
//! chain's first certificate. Nothing is decrypted; a password that is configured only tells whether the store is as it was
//! written. Called by `keys`. Format: as `sun.security.provider.JavaKeyStore` and `com.sun.crypto.provider.JceKeyStore` write it.

mod serialized;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use keyvigil_common::key::{KeyFacts, KeyKind, Role};
use keyvigil_common::{hex, sha256};
use zeroize::Zeroizing;

use self::serialized::Object;
use super::der::{OCTET_STRING, OID, Reader, oid_text};
use super::encryption::encryption;
use super::keys::{FaultClass, Parsed, Within};
use super::pbe::Password;
use super::{given, private_key, x509};

const JKS: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const JCEKS: [u8; 4] = [0xce, 0xce, 0xce, 0xce];
/// Hash behind the entries.
const TRAILER_BYTES: usize = 20;
/// Goes into that hash behind the password.
const WHITENER: &[u8] = b"Mighty Aphrodite";

/// Whether a file with these first bytes is such a store.
#[must_use]
pub fn is_store(head: &[u8]) -> bool {
    head.split_at_checked(4).is_some_and(|(magic, rest)| (magic == JKS || magic == JCEKS) && matches!(rest, [0, 0, 0, 1 | 2, ..]))
}

/// Whether it is a store of Bouncy Castle, BKS or UBER: a version, a salt of 20 bytes and a count.
#[must_use]
pub fn is_bouncy_castle(head: &[u8]) -> bool {
    matches!(head, [0, 0, 0, 1 | 2, 0, 0, 0, 20, rest @ ..] if rest.get(20..22).is_some_and(|count| count == [0, 0]) && rest.len() > 24)
}

/// Tells of one.
pub fn of_bouncy_castle(parsed: &mut Parsed) {
    parsed.fault(0, FaultClass::Unsupported, "a key store of Bouncy Castle (BKS or UBER): convert it to PKCS#12".into());
}

/// Why reading ends.
enum End {
    Truncated,
    Corrupt(String),
}

/// Reads the numbers and strings of Java's `DataOutputStream`.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], End> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(End::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn u16(&mut self) -> Result<usize, End> {
        Ok(self.bytes(2)?.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    }

    fn u32(&mut self) -> Result<usize, End> {
        Ok(self.bytes(4)?.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    }

    fn block(&mut self) -> Result<&'a [u8], End> {
        let length = self.u32()?;
        self.bytes(length)
    }

    /// Java's UTF-8 differs from everyone's in what no name has.
    fn text(&mut self) -> Result<String, End> {
        let length = self.u16()?;
        self.bytes(length).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Reads the store `bytes`.
pub(super) fn read(bytes: &[u8], parsed: &mut Parsed) {
    let format = if bytes.starts_with(&JKS) { "jks" } else { "jceks" };
    let mut store = Store { bytes, format, parsed, protected: Vec::new() };
    match store.entries() {
        Ok(rest) if rest.len() == TRAILER_BYTES => store.verify(&given::passwords()),
        Ok(rest) if rest.len() < TRAILER_BYTES => store.end(End::Truncated),
        Ok(_) => store.end(End::Corrupt("something lies behind the entries".into())),
        Err(end) => store.end(end),
    }
}

struct Store<'a, 'p> {
    bytes: &'a [u8],
    format: &'static str,
    parsed: &'p mut Parsed,
    /// Encrypted private keys in the form of JKS, which tell whether a password is right.
    protected: Vec<&'a [u8]>,
}

impl<'a> Store<'a, '_> {
    /// Reads all entries; what lies behind them.
    fn entries(&mut self) -> Result<&'a [u8], End> {
        let mut fields = Fields(self.bytes);
        fields.bytes(4)?;
        let version = fields.u32()?;
        let count = fields.u32()?;
        for _ in 0..count {
            let offset = self.bytes.len() - fields.0.len();
            if !self.parsed.has_room(offset) {
                return Ok(&self.bytes[self.bytes.len() - TRAILER_BYTES.min(self.bytes.len())..]);
            }
            let kind = fields.u32()?;
            let alias = fields.text()?;
            // When it was made, which the store's owner may set as he likes.
            fields.bytes(8)?;
            match kind {
                1 => self.private_key(&mut fields, version, offset, &alias)?,
                2 => {
                    let certificate = certificate(&mut fields, version)?;
                    self.object(offset, &alias, Role::Trusted, certificate);
                }
                3 if self.format == "jceks" => self.secret(&mut fields, offset, &alias)?,
                _ => return Err(End::Corrupt(format!("its entry at byte {offset} is of no known kind"))),
            }
        }
        Ok(fields.0)
    }

    fn object(&mut self, offset: usize, alias: &str, role: Role, facts: Result<KeyFacts, String>) {
        let entry = Some(alias.to_owned()).filter(|alias| !alias.is_empty());
        self.parsed.object(offset, Within { format: Some(self.format.to_owned()), entry, role, ..Within::default() }, facts);
    }

    fn private_key(&mut self, fields: &mut Fields<'a>, version: usize, offset: usize, alias: &str) -> Result<(), End> {
        let block = fields.block()?;
        let chain = fields.u32()?;
        let key = self.parsed.objects.len();
        let locked = private_key::encrypted_pkcs8(block).map(|facts| KeyFacts { kdf: Some(protection(block)), ..facts });
        let is_broken = locked.is_err();
        self.object(offset, alias, Role::Held, locked);
        self.protected.push(block);
        for at in 0..chain {
            let offset = self.bytes.len() - fields.0.len();
            let certificate = certificate(fields, version)?;
            if let (0, Ok(leaf), false) = (at, &certificate, is_broken)
                && let Some(found) = self.parsed.objects.get_mut(key)
            {
                let kdf = found.facts.kdf.take();
                found.facts = KeyFacts { encrypted: Some(true), kdf, ..private_key::of_certificate(leaf) };
            }
            if !self.parsed.has_room(offset) {
                return Ok(());
            }
            self.object(offset, alias, Role::Held, certificate);
        }
        Ok(())
    }

    /// A secret key: an object of Java's, which is stepped over and never brought to life.
    fn secret(&mut self, fields: &mut Fields<'a>, offset: usize, alias: &str) -> Result<(), End> {
        let Some((object, length)) = Object::read(fields.0) else {
            return Err(End::Corrupt(format!("its secret key {alias:?} at byte {offset} is not an object that can be stepped over")));
        };
        let raw = fields.bytes(length)?;
        let id = hex(&sha256(raw));
        let mut facts = KeyFacts::bare(KeyKind::SymmetricKey, id.clone(), id, private_key::ENCRYPTED);
        facts.encrypted = Some(true);
        facts.kdf = Some(object.protection());
        self.object(offset, alias, Role::Held, Ok(facts));
        Ok(())
    }

    /// Whether the store is as it was written, where a password is configured that may tell.
    fn verify(&mut self, passwords: &[Password]) {
        let (contents, expected) = self.bytes.split_at(self.bytes.len() - TRAILER_BYTES);
        let fits = |password: &Password| {
            let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            [&wide(password), WHITENER, contents].into_iter().for_each(|part| context.update(part));
            verify_slices_are_equal(context.finish().as_ref(), expected).is_ok()
        };
        if passwords.is_empty() || passwords.iter().any(fits) {
            return;
        }
        let opens = |password: &Password| self.protected.iter().any(|block| opens(block, password));
        let (class, reason) = if passwords.iter().any(opens) {
            (FaultClass::Corrupt, "was changed or damaged since it was written: a password opens a key in it, and its hash is of other contents".to_owned())
        } else {
            let count = passwords.len();
            (FaultClass::WrongPassword, format!("has another password than the {count} configured for it, or was changed since it was written"))
        };
        self.fault(class, &reason);
    }

    fn end(&mut self, end: End) {
        match end {
            End::Truncated => self.fault(FaultClass::Truncated, "ends before what is in it does"),
            End::Corrupt(reason) => self.fault(FaultClass::Corrupt, &format!("cannot be read further: {reason}")),
        }
    }

    fn fault(&mut self, class: FaultClass, reason: &str) {
        let format = self.format.to_ascii_uppercase();
        if self.parsed.has_room(0) {
            self.parsed.fault(0, class, format!("the {format} store {reason}"));
        }
    }
}

fn certificate(fields: &mut Fields<'_>, version: usize) -> Result<Result<KeyFacts, String>, End> {
    let kind = if version == 1 { "X.509".to_owned() } else { fields.text()? };
    let der = fields.block()?;
    Ok(if kind == "X.509" { x509::certificate(der) } else { Err(format!("a certificate of a kind that is not known here ({kind:?})")) })
}

/// How a private key is encrypted.
fn protection(block: &[u8]) -> String {
    let scheme = Reader::new(block).sequence().and_then(|mut info| info.sequence());
    let oid = scheme.and_then(|mut scheme| scheme.take(OID)).map(oid_text);
    match oid.as_deref() {
        Some(JKS_PROTECTION) => "sha1, 1 iteration, xor".to_owned(),
        _ => scheme.and_then(encryption).unwrap_or_else(|| "unknown".into()),
    }
}

const JKS_PROTECTION: &str = "1.3.6.1.4.1.42.2.17.1.1";

/// Whether a password opens an encrypted private key of a JKS store: behind a salt, the key xor hashes of the password and what
/// came before, and the hash of the password and the key.
fn opens(block: &[u8], password: &str) -> bool {
    let parts = || {
        let mut info = Reader::new(block).sequence()?;
        let mut scheme = info.sequence()?;
        let is_jks = scheme.take(OID).map(oid_text).as_deref() == Some(JKS_PROTECTION);
        let closed = info.take(OCTET_STRING).filter(|_| is_jks)?;
        let (salt, rest) = closed.split_at_checked(20)?;
        let (key, check) = rest.split_at_checked(rest.len().checked_sub(20)?)?;
        Some((salt, key, check))
    };
    let Some((salt, key, check)) = parts() else { return false };
    let password = wide(password);
    let hash = |parts: [&[u8]; 2]| {
        let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        parts.into_iter().for_each(|part| context.update(part));
        context.finish()
    };
    let mut opened = Zeroizing::new(key.to_vec());
    let mut mask = Zeroizing::new(salt.to_vec());
    for chunk in opened.chunks_mut(20) {
        let next = hash([&password, &mask]);
        mask.copy_from_slice(next.as_ref());
        chunk.iter_mut().zip(mask.iter()).for_each(|(byte, mask)| *byte ^= mask);
    }
    verify_slices_are_equal(hash([&password, &opened]).as_ref(), check).is_ok()
}

/// A password as Java hashes it: UTF-16, big-endian.
fn wide(password: &str) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(2 * password.len()));
    password.encode_utf16().for_each(|unit| out.extend_from_slice(&unit.to_be_bytes()));
    out
}

#[cfg(test)]
mod tests;
