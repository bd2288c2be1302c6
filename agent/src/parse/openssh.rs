//! OpenSSH's own formats: private keys, whose public half is readable even when they are encrypted, and the blobs of public
//! keys and certificates. Fields are sliced out of the input; private ones are stepped over to reach the comment. Called
//! by `keys`. Format: OpenSSH's PROTOCOL.key, PROTOCOL.certkeys and PROTOCOL.u2f; RFC 4253, 4716 and 5656 for the blobs.

use aws_lc_rs::digest::{SHA256, digest};
use keyvigil_common::hex;
use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::limits::{KEY_USAGES_MAX, SSH_COMMENT_BYTES_MAX};

use super::der::bit_length;
use super::{spki, weak};

const MAGIC: &[u8] = b"openssh-key-v1\0";
const CERTIFICATE: &str = "-cert-v01@openssh.com";
const BROKEN: &str = "the OpenSSH private key does not parse";
/// Principals of a certificate that are looked at.
const PRINCIPALS_MAX: usize = 1_000;

/// Reads the fields of RFC 4251.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_be_bytes)
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.bytes(length)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }
}

/// Shape of a key type: name here, how many strings its public half and its private half in a key file have.
struct Shape {
    algorithm: &'static str,
    public: usize,
    private: Private,
}

enum Private {
    Strings(usize),
    /// A hardware key: application, one byte of flags, handle, reserved.
    Token,
}

fn shape(kind: &str) -> Option<Shape> {
    let (algorithm, public, private) = match kind {
        // In key files RSA has n before e, and then d, iqmp, p, q: the public count differs, the sum does not.
        "ssh-rsa" => ("rsa", 2, Private::Strings(4)),
        "ssh-dss" => ("dsa", 4, Private::Strings(1)),
        "ssh-ed25519" => ("ed25519", 1, Private::Strings(1)),
        "ssh-ed448" => ("ed448", 1, Private::Strings(1)),
        "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => ("ec", 2, Private::Strings(1)),
        "sk-ssh-ed25519@openssh.com" => ("ed25519-sk", 2, Private::Token),
        "sk-ecdsa-sha2-nistp256@openssh.com" => ("ecdsa-sk", 3, Private::Token),
        _ => return None,
    };
    Some(Shape { algorithm, public, private })
}

/// Facts of a private key in OpenSSH's own format (the decoded body of its PEM block).
///
/// # Errors
/// What is wrong with it.
pub fn private_key(body: &[u8]) -> Result<KeyFacts, String> {
    let mut fields = Fields(body.strip_prefix(MAGIC).ok_or(BROKEN)?);
    let (cipher, kdf, options) = (fields.text().ok_or(BROKEN)?, fields.text().ok_or(BROKEN)?, fields.string().ok_or(BROKEN)?);
    if fields.u32() == Some(0) {
        return Err("the OpenSSH private key file holds no key".into());
    }
    let blob = fields.string().ok_or(BROKEN)?;
    let private = fields.string().ok_or("the OpenSSH private key is truncated")?;
    let mut facts = public_blob(KeyKind::SshPrivateKey, blob)?;
    let encrypted = cipher != "none";
    facts.encrypted = Some(encrypted);
    if encrypted {
        let mut options = Fields(options);
        let rounds = options.string().and_then(|_| options.u32());
        facts.kdf = Some(rounds.map_or_else(|| format!("{kdf}, {cipher}"), |rounds| format!("{kdf}, {rounds} rounds, {cipher}")));
    } else {
        if let Some((comment, token)) = behind(private) {
            facts.subject = named(&comment);
            facts.usage.extend(token);
        }
    }
    Ok(facts)
}

/// A comment, cut to what names a key; `None` where there is nothing in it.
pub(super) fn named(comment: &str) -> Option<String> {
    let comment = comment.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    let end = (0..=SSH_COMMENT_BYTES_MAX.min(comment.len())).rev().find(|at| comment.is_char_boundary(*at));
    Some(comment[..end.unwrap_or(0)].to_owned()).filter(|comment| !comment.is_empty())
}

/// What stands behind the private fields of a key that is not encrypted: its comment, and what a hardware key asks for.
fn behind(private: &[u8]) -> Option<(String, Vec<String>)> {
    let mut fields = Fields(private);
    let mut asks = Vec::new();
    if fields.u32()? != fields.u32()? {
        return None;
    }
    let shape = shape(fields.text()?)?;
    for _ in 0..shape.public {
        fields.string()?;
    }
    match shape.private {
        Private::Strings(count) => (0..count).try_for_each(|_| fields.string().map(drop))?,
        Private::Token => {
            // Flags of PROTOCOL.u2f.
            let flags = fields.bytes(1)?[0];
            asks.extend((flags & 0x01 != 0).then(|| "touch-required".to_owned()));
            asks.extend((flags & 0x04 != 0).then(|| "verify-required".to_owned()));
            fields.string()?;
            fields.string()?;
        }
    }
    Some((String::from_utf8_lossy(fields.string()?).into_owned(), asks))
}

/// Facts of what stands in base64 in a line or behind a header: a public key or a certificate.
pub(super) fn public(blob: &[u8]) -> Result<KeyFacts, String> {
    if Fields(blob).text().is_some_and(|name| name.ends_with(CERTIFICATE)) { certificate_blob(blob) } else { public_blob(KeyKind::SshPublicKey, blob) }
}

/// Whether keys or certificates of that type are known here.
pub(super) fn is_type(name: &str) -> bool {
    shape(name).is_some() || name.ends_with(CERTIFICATE)
}

/// Facts of a public key's blob.
pub(super) fn public_blob(kind: KeyKind, blob: &[u8]) -> Result<KeyFacts, String> {
    let mut fields = Fields(blob);
    let name = fields.text().ok_or("the SSH public key does not parse")?;
    let mut facts = identified(kind, blob, name);
    let Some(shape) = shape(name) else { return Ok(facts) };
    shape.algorithm.clone_into(&mut facts.algorithm);
    let (first, second) = (fields.string().ok_or("the SSH public key is truncated")?, fields.string());
    if shape.public > 1 && second.is_none() {
        return Err("the SSH public key is truncated".into());
    }
    match name {
        "ssh-rsa" => {
            facts.bits = second.map(bit_length);
            weak::rsa(&mut facts, second.unwrap_or_default(), first);
        }
        "ssh-dss" => {
            facts.bits = Some(bit_length(first));
            weak::ssh_dsa(&mut facts, bit_length(first), blob);
        }
        "ssh-ed25519" | "sk-ssh-ed25519@openssh.com" => facts.bits = Some(256),
        "ssh-ed448" => facts.bits = Some(456),
        _ => {
            let (curve, bits) = match first {
                b"nistp256" => ("secp256r1", 256),
                b"nistp384" => ("secp384r1", 384),
                b"nistp521" => ("secp521r1", 521),
                _ => return Err("the SSH public key names no known curve".into()),
            };
            (facts.curve, facts.bits) = (Some(curve.into()), Some(bits));
        }
    }
    facts.spki = as_spki(name, first, second, fields);
    if matches!(shape.private, Private::Token) {
        let application = if shape.public == 2 { second } else { fields.string() };
        facts.usage.push(format!("application={}", String::from_utf8_lossy(application.ok_or("the SSH public key is truncated")?)));
    }
    Ok(facts)
}

/// Fingerprint of the same key as a SubjectPublicKeyInfo. A token's key is one like any other, but for where its private half is.
fn as_spki(name: &str, first: &[u8], second: Option<&[u8]>, mut rest: Fields<'_>) -> Option<String> {
    const CURVES: [(&[u8], &[u8]); 3] = [
        (b"nistp256", &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]),
        (b"nistp384", &[0x2b, 0x81, 0x04, 0x00, 0x22]),
        (b"nistp521", &[0x2b, 0x81, 0x04, 0x00, 0x23]),
    ];
    let kind = KeyKind::PublicKey;
    let facts = match name {
        "ssh-rsa" => spki::rsa(kind, second?, first),
        "ssh-dss" => spki::dsa(kind, [first, second?, rest.string()?, rest.string()?]),
        "ssh-ed25519" | "sk-ssh-ed25519@openssh.com" => spki::raw(kind, spki::ED25519_OID, first),
        "ssh-ed448" => spki::raw(kind, spki::ED448_OID, first),
        _ => spki::ec(kind, CURVES.iter().find(|(curve, _)| *curve == first)?.1, second?),
    };
    facts.map(|facts| facts.fingerprint)
}

/// Facts that say which key this is.
fn identified(kind: KeyKind, blob: &[u8], name: &str) -> KeyFacts {
    let hash = digest(&SHA256, blob);
    KeyFacts::bare(kind, hex(hash.as_ref()), fingerprint(hash.as_ref()), format!("unknown ({name})"))
}

/// `SHA256:` and base64 without padding, as `ssh-keygen -l` prints it.
pub(super) fn fingerprint(hash: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("SHA256:");
    for group in hash.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

/// Facts of a certificate's blob. Its identity is its own hash, its fingerprint that of the key it certifies.
fn certificate_blob(blob: &[u8]) -> Result<KeyFacts, String> {
    const TRUNCATED: &str = "the SSH certificate is truncated";
    let mut fields = Fields(blob);
    let name = fields.text().ok_or("the SSH certificate does not parse")?;
    let base = name.replace(CERTIFICATE, if name.starts_with("sk-") { "@openssh.com" } else { "" });
    let shape = shape(&base).ok_or_else(|| format!("SSH certificate of unknown type {name:?}"))?;
    fields.string().ok_or(TRUNCATED)?;
    let key = fields.0;
    (0..shape.public).try_for_each(|_| fields.string().map(drop)).ok_or(TRUNCATED)?;
    let key = &key[..key.len() - fields.0.len()];
    let length = u32::try_from(base.len()).map_err(|_| TRUNCATED)?.to_be_bytes();
    let mut facts = public_blob(KeyKind::SshCertificate, &[&length, base.as_bytes(), key].concat())?;
    facts.id = hex(digest(&SHA256, blob).as_ref());
    let (serial, holder) = (fields.u64().ok_or(TRUNCATED)?, fields.u32().ok_or(TRUNCATED)?);
    facts.serial = Some(format!("{serial:02x}"));
    facts.subject = Some(String::from_utf8_lossy(fields.string().ok_or(TRUNCATED)?).into_owned());
    let mut principals = Fields(fields.string().ok_or(TRUNCATED)?);
    let role = if holder == 2 { "host" } else { "user" };
    while let Some(principal) = principals.string().filter(|_| facts.sans.len() < PRINCIPALS_MAX) {
        facts.sans.push(format!("{role}:{}", String::from_utf8_lossy(principal)));
    }
    facts.not_before_ms = fields.u64().ok_or(TRUNCATED)?.checked_mul(1_000).and_then(|ms| i64::try_from(ms).ok()).filter(|ms| *ms > 0);
    // The largest number means "for ever".
    facts.not_after_ms = fields.u64().ok_or(TRUNCATED)?.checked_mul(1_000).and_then(|ms| i64::try_from(ms).ok());
    for _ in 0..2 {
        options(fields.string().ok_or(TRUNCATED)?, &mut facts.usage);
    }
    fields.string().ok_or(TRUNCATED)?;
    facts.issuer = Some(fingerprint(digest(&SHA256, fields.string().ok_or(TRUNCATED)?).as_ref()));
    facts.signature_algorithm = fields.string().and_then(|signature| Fields(signature).text().map(str::to_owned));
    Ok(facts)
}

/// Critical options or extensions of a certificate, `permit-pty`, `source-address=10.0.0.0/8`.
fn options(list: &[u8], into: &mut Vec<String>) {
    let mut fields = Fields(list);
    while let (Some(name), Some(data)) = (fields.string(), fields.string()) {
        if into.len() >= KEY_USAGES_MAX {
            return;
        }
        let value = Fields(data).string().map(|value| format!("={}", String::from_utf8_lossy(value))).unwrap_or_default();
        into.push(format!("{}{value}", String::from_utf8_lossy(name)));
    }
}
