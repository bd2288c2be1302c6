//! The one entry to all key formats: what a file holds, decided by its content, and by its path only where nothing else can
//! tell: what a key is there for, and what a bare secret is. What can be read is read; the rest is one fault each, so that a
//! broken block hides nothing. Called by the keystore sensor.

mod blocks;
mod formats;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use keyvigil_common::crl::{Crl, Lines};
use keyvigil_common::key::{KeyFacts, KeyKind, Role};
use keyvigil_common::limits::{KEY_SNIFF_BYTES, KEYS_PER_FILE_MAX};

use super::der::{self, CONTEXT_0, CONTEXT_1, Form, Reader, Sniff};
use super::{algorithm, ber, jks, pem, pkcs12, private_key, x509};

/// One object of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which object of the file, from 0; faults count.
    pub slot: u32,
    /// What is known about it.
    pub facts: KeyFacts,
    /// How the file holds it.
    pub within: Within,
    /// Of a revocation list: what it revokes, to look up.
    pub revokes: Option<Arc<Lines>>,
}

/// How a file holds a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Within {
    /// Form of the file, as [`keyvigil_common::key::Place::format`] names it.
    pub format: Option<String>,
    /// What the file calls the key.
    pub entry: Option<String>,
    /// What it is there for.
    pub role: Role,
    /// Until when it counts there, where the file says so and not the key, Unix ms.
    pub not_after_ms: Option<i64>,
    /// What else the file says of it.
    pub options: Vec<String>,
}

impl Within {
    /// Its own, in a file of that form.
    #[must_use]
    pub fn own(format: &str) -> Self {
        Self { format: Some(format.to_owned()), ..Self::default() }
    }

    /// For that, in a file of that form.
    #[must_use]
    pub fn role(format: &str, role: Role) -> Self {
        Self { role, ..Self::own(format) }
    }

    /// With what the file calls it.
    #[must_use]
    pub fn entry(self, entry: impl Into<String>) -> Self {
        Self { entry: Some(entry.into()).filter(|entry| !entry.is_empty()), ..self }
    }
}

/// Class of a fault; the tag `reason` of the sensor's error counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultClass {
    /// Looks like a key and does not parse.
    Corrupt,
    /// Ends too early.
    Truncated,
    /// A kind of key store that is not read here.
    Unsupported,
    /// Encrypted, and no password is configured.
    Locked,
    /// Encrypted, and no password that is configured opens it.
    WrongPassword,
    /// To open it would take more work than is done for one file.
    TooCostly,
    /// A fault of the parser itself.
    Internal,
    /// More objects than are taken from one file.
    TooMany,
}

impl FaultClass {
    /// Name in tags.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Truncated => "truncated",
            Self::Unsupported => "unsupported",
            Self::Locked => "locked",
            Self::WrongPassword => "wrong_password",
            Self::TooCostly => "too_costly",
            Self::Internal => "internal",
            Self::TooMany => "too_many",
        }
    }
}

/// One object that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which object of the file, from 0.
    pub slot: u32,
    /// Where it begins, bytes.
    pub offset: usize,
    /// What kind of fault.
    pub class: FaultClass,
    /// What is wrong, for people.
    pub reason: String,
}

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// What was read.
    pub objects: Vec<Found>,
    /// What was not.
    pub faults: Vec<Fault>,
    /// Neither: the file has nothing to do with keys.
    pub not_a_key: bool,
    /// Where an object is among `objects`, by a hash of it.
    seen: HashMap<u64, usize>,
}

impl Parsed {
    /// Gives what does not say since when it is so (a revoked host key, a list without a date) the time at which the file was
    /// last written, Unix ms: by then it was.
    #[must_use]
    pub fn dated(mut self, modified_ms: Option<i64>) -> Self {
        for facts in self.objects.iter_mut().map(|found| &mut found.facts) {
            if facts.revocation.is_some() {
                facts.revoked_ms = facts.revoked_ms.or(modified_ms);
            }
            if facts.kind == KeyKind::Crl {
                facts.not_before_ms = facts.not_before_ms.or(modified_ms);
            }
        }
        self
    }

    fn slot(&self) -> u32 {
        u32::try_from(self.objects.len() + self.faults.len()).unwrap_or(u32::MAX)
    }

    /// Whether one more is taken; when not, says so once.
    pub(super) fn has_room(&mut self, offset: usize) -> bool {
        if self.objects.len() + self.faults.len() < KEYS_PER_FILE_MAX {
            return true;
        }
        if self.faults.last().is_none_or(|fault| fault.class != FaultClass::TooMany) {
            self.fault(offset, FaultClass::TooMany, format!("more than {KEYS_PER_FILE_MAX} objects; the rest is not looked at"));
        }
        false
    }

    pub(super) fn object(&mut self, offset: usize, within: Within, facts: Result<KeyFacts, String>) {
        self.take(offset, within, facts);
    }

    /// Takes in an object; where it lies in the file many times, it is one.
    pub(super) fn take(&mut self, offset: usize, within: Within, facts: Result<KeyFacts, String>) -> Option<&mut Found> {
        let mut facts = match facts {
            Ok(facts) => facts,
            Err(reason) => {
                self.fault(offset, FaultClass::Corrupt, reason);
                return None;
            }
        };
        facts.clamp();
        let slot = self.slot();
        let mut hasher = DefaultHasher::new();
        (&facts.id, facts.kind, &facts.subject, &within).hash(&mut hasher);
        let at = *self.seen.entry(hasher.finish()).or_insert(self.objects.len());
        if self.objects.get(at).is_some_and(|found| found.facts == facts && found.within == within) {
            return self.objects.get_mut(at);
        }
        self.objects.push(Found { slot, facts, within, revokes: None });
        self.objects.last_mut()
    }

    /// An X.509 revocation list.
    pub(super) fn list(&mut self, offset: usize, within: Within, der: &[u8]) {
        let list = Crl::read(der);
        let facts = list.as_ref().map(x509::crl).map_err(|reason| format!("the revocation list cannot be read: {reason}"));
        if let (Some(found), Ok(list)) = (self.take(offset, within, facts), list) {
            found.revokes = Some(Arc::new(list.into_lines()));
        }
    }

    pub(super) fn fault(&mut self, offset: usize, class: FaultClass, reason: String) {
        let slot = self.slot();
        self.faults.push(Fault { slot, offset, class, reason });
    }
}

/// Whether a file of `length` bytes at `path` that begins with `head` (up to [`KEY_SNIFF_BYTES`]) looks like keys.
#[must_use]
pub fn looks_like_keys(head: &[u8], length: u64, path: &Path) -> bool {
    let head = &head[..head.len().min(KEY_SNIFF_BYTES)];
    let other = || formats::before_pem(head, path).or_else(|| formats::after_der(head, path)).is_some();
    let is_text = pem::is_pem(head) || pem::from_utf16(head).is_some_and(|text| pem::is_pem(&text));
    is_text || ber::is_indefinite(head) || der::sniff(head, length) != Sniff::Other || other()
}

/// Whether `bytes`, the whole of a file, are a store that a password may open, or vouch for.
#[must_use]
pub fn takes_password(bytes: &[u8]) -> bool {
    jks::is_store(bytes) || ber::is_indefinite(bytes) || der::form(bytes) == Some(Form::Pkcs12) || pem::find(bytes, b"-----BEGIN PKCS12").is_some()
}

/// Reads all keys in `bytes`, the whole of a file of any name.
#[must_use]
pub fn keys(bytes: &[u8]) -> Parsed {
    keys_at(bytes, Path::new(""))
}

/// The same of the file at `path`.
#[must_use]
pub fn keys_at(bytes: &[u8], path: &Path) -> Parsed {
    let mut parsed = Parsed::default();
    let text = pem::from_utf16(bytes);
    let bytes = text.as_ref().map_or(bytes, |text| text.as_slice());
    let head = &bytes[..bytes.len().min(KEY_SNIFF_BYTES)];
    if let Some(format) = formats::before_pem(head, path) {
        (format.read)(bytes, path, &mut parsed);
    } else if pem::is_pem(head) {
        blocks::read(bytes, path, &mut parsed);
    } else if !from_whole_der(bytes, &mut parsed)
        && let Some(format) = formats::after_der(head, path)
    {
        (format.read)(bytes, path, &mut parsed);
    }
    parsed.not_a_key = parsed.objects.is_empty() && parsed.faults.is_empty();
    parsed
}

/// Reads what another file carries inside itself: PEM or DER. All of it is said to lie `within`.
pub(super) fn embedded(bytes: &[u8], offset: usize, within: &Within, parsed: &mut Parsed) {
    let mut inner = Parsed::default();
    if pem::is_pem(bytes) {
        blocks::read(bytes, Path::new(""), &mut inner);
    } else if !from_whole_der(bytes, &mut inner) {
        inner.fault(0, FaultClass::Corrupt, "neither PEM nor DER".into());
    }
    for found in inner.objects {
        if parsed.has_room(offset) {
            parsed.object(offset, within.clone(), Ok(found.facts));
        }
    }
    for fault in inner.faults {
        if parsed.has_room(offset) {
            let entry = within.entry.as_deref().map(|entry| format!("{entry}: ")).unwrap_or_default();
            parsed.fault(offset, fault.class, format!("{entry}{}", fault.reason));
        }
    }
}

/// Whether the bytes are DER, or BER of indefinite length, and then what they hold.
fn from_whole_der(bytes: &[u8], parsed: &mut Parsed) -> bool {
    if ber::is_indefinite(bytes) {
        match ber::to_der(bytes) {
            Some(der) if der::form(&der).is_some() => from_der("der", 0, &der, parsed),
            Some(_) => {}
            None => parsed.fault(0, FaultClass::Truncated, "the file ends before the object in it does".into()),
        }
        return true;
    }
    match der::sniff(bytes, bytes.len() as u64) {
        // Other things than keys are DER, too.
        Sniff::Whole if der::form(bytes).is_none() => {}
        Sniff::Whole => from_ders(bytes, parsed),
        Sniff::Truncated => parsed.fault(0, FaultClass::Truncated, "the file ends before the object in it does".into()),
        Sniff::Other => return false,
    }
    true
}

/// One object behind the other. What stands behind a certificate that OpenSSL trusts is stepped over.
fn from_ders(bytes: &[u8], parsed: &mut Parsed) {
    let mut reader = Reader::new(bytes);
    let mut offset = 0;
    while let Some(element) = reader.element() {
        if der::form(element.raw).is_some() {
            if !parsed.has_room(offset) {
                return;
            }
            from_der("der", offset, element.raw, parsed);
        }
        offset += element.raw.len();
    }
    let rest = &bytes[offset..];
    if rest.iter().any(|byte| *byte != 0 && !byte.is_ascii_whitespace()) && parsed.has_room(offset) {
        parsed.fault(offset, FaultClass::Corrupt, format!("the last {} bytes of the file are nothing that is known here", rest.len()));
    }
}

fn from_der(format: &str, offset: usize, der: &[u8], parsed: &mut Parsed) {
    let facts = match der::form(der) {
        Some(Form::Certificate) => x509::certificate(der),
        Some(Form::Request) => x509::request(der),
        Some(Form::Crl) => return parsed.list(offset, Within::own(format), der),
        Some(Form::PublicKey) => public_key(der),
        Some(Form::RsaPublicKey) => private_key::rsa_public_key(der),
        Some(Form::Pkcs8) => private_key::pkcs8(der),
        Some(Form::EncryptedPkcs8) => private_key::encrypted_pkcs8(der),
        Some(Form::RsaPrivateKey) => private_key::rsa(der),
        Some(Form::EcPrivateKey) => private_key::ec_on(der, None),
        Some(Form::DsaPrivateKey) => private_key::dsa(der),
        Some(Form::Pkcs7) => return from_pkcs7(format, offset, der, parsed),
        Some(Form::Pkcs12) => return pkcs12::read(offset, der, parsed),
        Some(Form::Bcfks) => {
            return parsed.fault(offset, FaultClass::Unsupported, "a key store of Bouncy Castle (BCFKS): convert it to PKCS#12".into());
        }
        None => Err("not a key or certificate".into()),
    };
    parsed.object(offset, Within::own(format), facts);
}

fn public_key(der: &[u8]) -> Result<KeyFacts, String> {
    algorithm::facts_of_spki(KeyKind::PublicKey, der).ok_or_else(|| "the public key does not parse".into())
}

/// The certificates and revocation lists that a PKCS#7 message carries (RFC 2315, SignedData).
fn from_pkcs7(format: &str, offset: usize, der: &[u8], parsed: &mut Parsed) {
    let carried = || {
        let mut info = Reader::new(der).sequence()?;
        info.element()?;
        let mut signed = Reader::new(info.take(CONTEXT_0)?).sequence()?;
        (0..3).try_for_each(|_| signed.element().map(drop))?;
        Some((signed.take(CONTEXT_0).unwrap_or_default(), signed.take(CONTEXT_1).unwrap_or_default()))
    };
    let Some((certificates, lists)) = carried() else { return };
    for (body, is_lists) in [(certificates, false), (lists, true)] {
        let mut body = Reader::new(body);
        while let Some(element) = body.element() {
            if !parsed.has_room(offset) {
                return;
            }
            if is_lists {
                parsed.list(offset, Within::own(format), element.raw);
            } else {
                parsed.object(offset, Within::own(format), x509::certificate(element.raw));
            }
        }
    }
}

#[cfg(test)]
mod tests;
