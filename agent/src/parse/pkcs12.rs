//! PKCS#12 stores: what is in clear, and with a password that was configured all of it. A store that stays closed is one fault
//! that says how it is protected and how to have it opened. Certificates and keys that belong together (`localKeyId`) lend each
//! other their name, and a key that stays closed its public half. Called by `keys`. Format: RFC 7292.

mod bag;

use std::collections::HashMap;

use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::limits::{KEY_FILE_ITERATIONS_MAX, KEYS_PER_FILE_MAX};
use keyvigil_common::{hex, sha256};
use zeroize::Zeroizing;

use self::bag::{Bag, Content};
use super::ber;
use super::der::{CONTEXT_0, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, oid_text};
use super::encryption::{authentication, encryption};
use super::keys::{FaultClass, Parsed, Within};
use super::pbe::{self, Budget, Closed, Password};
use super::{given, private_key, x509};

const FORMAT: &str = "pkcs12";

/// One of the parts of a store, in clear by now.
struct Safe {
    contents: Zeroizing<Vec<u8>>,
    /// How it was encrypted.
    kdf: Option<String>,
}

/// Reads the store `der`.
pub(super) fn read(offset: usize, der: &[u8], parsed: &mut Parsed) {
    let broken = |parsed: &mut Parsed, reason: &str| {
        if parsed.has_room(offset) {
            parsed.fault(offset, FaultClass::Corrupt, format!("the PKCS#12 store {reason}"));
        }
    };
    let Some(der) = ber::to_der(der) else { return broken(parsed, "does not parse") };
    let Some(Outer { kind, contents, mac }) = outer(&der) else { return broken(parsed, "does not parse") };
    if kind != DATA {
        let reason = format!("a PKCS#12 store that is protected by a signature instead of a password ({kind})");
        return parsed.fault(offset, FaultClass::Unsupported, reason);
    }
    let Some(contents) = Reader::new(contents).take(OCTET_STRING) else { return broken(parsed, "has no contents") };
    let Some(safes) = ber::to_der(contents) else { return broken(parsed, "has contents that do not parse") };
    let passwords = given::passwords();
    let mut opener = Opener {
        passwords: &passwords,
        chosen: None,
        fits: false,
        is_forged: false,
        budget: Budget(KEY_FILE_ITERATIONS_MAX),
        too_costly: false,
        unknown: false,
    };
    opener.choose(mac, contents, &safes);
    let (open, closed) = opener.safes(&safes);
    let mut bags = Vec::new();
    let all_parse = open.iter().all(|safe| bag::bags(&safe.contents, safe.kdf.as_deref(), &mut bags));
    Emitter::new(offset, bags).emit(&mut opener, parsed);
    if !all_parse || Reader::new(&safes).sequence().is_none() {
        broken(parsed, "holds something that does not parse");
    }
    if opener.is_forged && opener.fits {
        broken(parsed, "was changed or damaged since it was written: a password opens it, and its authentication code is of other contents");
    }
    let authentication = mac.and_then(authentication).map(|mac| format!("; {mac}")).unwrap_or_default();
    opener.tell(offset, &closed, &authentication, mac.is_some(), parsed);
}

const DATA: &str = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";

/// Outermost structure.
struct Outer<'a> {
    /// Type of the contents.
    kind: String,
    contents: &'a [u8],
    /// Inside `MacData`.
    mac: Option<Reader<'a>>,
}

fn outer(der: &[u8]) -> Option<Outer<'_>> {
    let mut store = Reader::new(der).sequence()?;
    store.take(INTEGER)?;
    let mut info = store.sequence()?;
    let kind = info.take(OID).map(oid_text)?;
    Some(Outer { kind, contents: info.take(CONTEXT_0)?, mac: store.sequence() })
}

/// What stands in an `EncryptedData`.
struct Encrypted<'a> {
    /// Inside the AlgorithmIdentifier.
    scheme: Reader<'a>,
    contents: std::borrow::Cow<'a, [u8]>,
}

fn encrypted(contents: &[u8]) -> Option<Encrypted<'_>> {
    let mut data = Reader::new(contents).sequence()?;
    data.take(INTEGER)?;
    let mut info = data.sequence()?;
    info.take(OID)?;
    let scheme = info.sequence()?;
    let element = info.element()?;
    let contents = match element.tag {
        0x80 => element.body.into(),
        // In pieces.
        CONTEXT_0 => {
            let mut pieces = Reader::new(element.body);
            std::iter::from_fn(|| pieces.take(OCTET_STRING)).collect::<Vec<_>>().concat().into()
        }
        _ => return None,
    };
    Some(Encrypted { scheme, contents })
}

/// Tries passwords.
struct Opener<'a> {
    passwords: &'a [Password],
    /// The one that fits.
    chosen: Option<&'a Password>,
    /// One opened something.
    fits: bool,
    /// The authentication code is right with none of them.
    is_forged: bool,
    budget: Budget,
    /// Something was left closed for its cost.
    too_costly: bool,
    /// Something was left closed as its scheme is not known.
    unknown: bool,
}

impl<'a> Opener<'a> {
    /// Finds the password that fits.
    fn choose(&mut self, mac: Option<Reader<'_>>, contents: &[u8], safes: &[u8]) {
        if let Some(mac) = mac {
            for password in self.passwords {
                match pbe::verify(mac, password, contents, &mut self.budget) {
                    Ok(()) => {
                        (self.chosen, self.fits, self.is_forged) = (Some(password), true, false);
                        return;
                    }
                    Err(Closed::WrongPassword) => self.is_forged = true,
                    Err(why) => self.note(why),
                }
            }
        }
        // Without a code, or with one that fits none: does any of them open the first part that is encrypted?
        let first = parts(safes).into_iter().find(|(kind, _)| kind == ENCRYPTED_DATA).and_then(|(_, contents)| encrypted(contents));
        let Some(first) = first else { return };
        let passwords = self.passwords;
        self.chosen = passwords.iter().find(|password| self.try_open(first.scheme, password, &first.contents).is_some());
    }

    fn note(&mut self, why: Closed) {
        self.too_costly |= why == Closed::TooCostly;
        self.unknown |= why == Closed::Unknown;
    }

    /// The list of elements that was closed: padding alone fits one wrong password in 256.
    fn try_open(&mut self, scheme: Reader<'_>, password: &str, closed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let opened = pbe::open(scheme, password, closed, &mut self.budget).map_err(|why| self.note(why)).ok().and_then(|opened| list(&opened));
        self.fits |= opened.is_some();
        opened
    }

    /// With the password that fits the store, or else any: some programs give keys another.
    fn open_any(&mut self, scheme: Reader<'_>, closed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let others = self.passwords.iter().filter(|password| Some(*password) != self.chosen);
        let candidates: Vec<&Password> = self.chosen.into_iter().chain(others).collect();
        candidates.into_iter().find_map(|password| self.try_open(scheme, password, closed))
    }

    /// The parts that are open, and how those are encrypted that are not.
    fn safes(&mut self, safes: &[u8]) -> (Vec<Safe>, Vec<String>) {
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for (kind, contents) in parts(safes) {
            match kind.as_str() {
                DATA => {
                    let contents = Reader::new(contents).take(OCTET_STRING).and_then(ber::to_der);
                    open.push(Safe { contents: contents.unwrap_or_default(), kdf: None });
                }
                ENCRYPTED_DATA => {
                    let Some(data) = encrypted(contents) else {
                        closed.push("unknown".to_owned());
                        continue;
                    };
                    let kdf = encryption(data.scheme).unwrap_or_else(|| "unknown".into());
                    let contents = self.chosen.and_then(|password| self.try_open(data.scheme, password, &data.contents));
                    match contents {
                        Some(contents) => open.push(Safe { contents, kdf: Some(kdf) }),
                        None => closed.push(kdf),
                    }
                }
                _ => closed.push(format!("unknown ({kind})")),
            }
        }
        (open, closed)
    }

    /// Says what stays closed, and why.
    fn tell(&self, offset: usize, closed: &[String], authentication: &str, has_mac: bool, parsed: &mut Parsed) {
        let tried = self.passwords.len();
        if closed.is_empty() && !self.too_costly && (self.fits || tried == 0 || !has_mac) {
            return;
        }
        let how = format!("({}{authentication})", if closed.is_empty() { "keys only".to_owned() } else { closed.join(", ") });
        let (class, reason) = if self.too_costly {
            let most = KEY_FILE_ITERATIONS_MAX;
            (FaultClass::TooCostly, format!("a PKCS#12 store {how} whose passwords ask for more than {most} iterations in all: not opened"))
        } else if tried == 0 {
            (FaultClass::Locked, format!("a PKCS#12 store that is encrypted {how}, and no password is configured for it"))
        } else if self.fits || self.unknown {
            (FaultClass::Unsupported, format!("a PKCS#12 store of which a part is encrypted in a way that is not known here {how}"))
        } else {
            (FaultClass::WrongPassword, format!("a PKCS#12 store {how} that none of the {tried} passwords configured for it opens"))
        };
        if parsed.has_room(offset) {
            parsed.fault(offset, class, reason);
        }
    }
}

/// Type and contents of each part.
fn parts(safes: &[u8]) -> Vec<(String, &[u8])> {
    let mut list = Reader::new(Reader::new(safes).take(SEQUENCE).unwrap_or_default());
    let part = || {
        let mut info = list.sequence()?;
        Some((info.take(OID).map(oid_text)?, info.take(CONTEXT_0)?))
    };
    std::iter::from_fn(part).take(KEYS_PER_FILE_MAX).collect()
}

/// What was opened as DER, if it is a list.
fn list(opened: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let der = ber::to_der(opened)?;
    (opened.first() == Some(&SEQUENCE)).then_some(der)
}

/// Bags to objects.
struct Emitter<'a> {
    offset: usize,
    bags: Vec<Bag<'a>>,
    /// Names and certificates by `localKeyId`.
    names: HashMap<Vec<u8>, String>,
    leaves: HashMap<Vec<u8>, KeyFacts>,
}

impl<'a> Emitter<'a> {
    fn new(offset: usize, bags: Vec<Bag<'a>>) -> Self {
        let mut emitter = Self { offset, bags, names: HashMap::new(), leaves: HashMap::new() };
        for bag in &emitter.bags {
            let Some(id) = &bag.local_key_id else { continue };
            if let Some(name) = &bag.name {
                emitter.names.entry(id.clone()).or_insert_with(|| name.clone());
            }
            if let Content::Certificate(der) = bag.content
                && let Ok(facts) = x509::certificate(der)
            {
                emitter.leaves.entry(id.clone()).or_insert(facts);
            }
        }
        emitter
    }

    fn emit(&self, opener: &mut Opener<'_>, parsed: &mut Parsed) {
        for bag in &self.bags {
            if !parsed.has_room(self.offset) {
                return;
            }
            let lent = || bag.local_key_id.as_ref().and_then(|id| self.names.get(id)).cloned();
            let within = Within { format: Some(FORMAT.to_owned()), entry: bag.name.clone().or_else(lent), role: bag.role, ..Within::default() };
            let facts = match bag.content {
                Content::Certificate(der) => x509::certificate(der),
                Content::Crl(der) => {
                    parsed.list(self.offset, within, der);
                    continue;
                }
                Content::Key(der) => private_key::pkcs8(der).map(|facts| protected(facts, bag.kdf)),
                Content::ShroudedKey(der) => self.key(der, bag, opener),
                Content::Secret(der) => secret(der, opener),
                Content::Unknown(kind) => Err(format!("an object of a kind that is not known here ({})", oid_text(kind))),
            };
            parsed.object(self.offset, within, facts);
        }
    }

    /// An encrypted key: opened, else known by its certificate, else by its block.
    fn key(&self, der: &[u8], bag: &Bag<'_>, opener: &mut Opener<'_>) -> Result<KeyFacts, String> {
        let closed = private_key::encrypted_pkcs8(der)?;
        let mut reader = Reader::new(der).sequence().ok_or("the encrypted private key does not parse")?;
        let opened = reader.sequence().zip(reader.take(OCTET_STRING)).and_then(|(scheme, contents)| opener.open_any(scheme, contents));
        if let Some(Ok(facts)) = opened.map(|contents| private_key::pkcs8(&contents)) {
            return Ok(protected(facts, closed.kdf.as_deref()));
        }
        let leaf = bag.local_key_id.as_ref().and_then(|id| self.leaves.get(id));
        Ok(leaf.map_or(closed.clone(), |leaf| protected(private_key::of_certificate(leaf), closed.kdf.as_deref())))
    }
}

fn protected(mut facts: KeyFacts, kdf: Option<&str>) -> KeyFacts {
    if let Some(kdf) = kdf {
        (facts.encrypted, facts.kdf) = (Some(true), Some(kdf.to_owned()));
    }
    facts
}

/// A secret key as Java writes it: an encrypted PKCS#8 whose algorithm is that of the secret. Known by its block as it lies
/// there: the hash of a secret would help to guess it.
fn secret(der: &[u8], opener: &mut Opener<'_>) -> Result<KeyFacts, String> {
    let id = hex(&sha256(der));
    let mut facts = KeyFacts::bare(KeyKind::SymmetricKey, id.clone(), id, private_key::ENCRYPTED);
    let mut reader = Reader::new(der).sequence().ok_or("the secret key does not parse")?;
    let (Some(scheme), Some(closed)) = (reader.sequence(), reader.take(OCTET_STRING)) else {
        return Ok(facts);
    };
    (facts.encrypted, facts.kdf) = (Some(true), encryption(scheme));
    if let Some(opened) = opener.open_any(scheme, closed)
        && let Some((algorithm, bits)) = secret_algorithm(&opened)
    {
        (facts.algorithm, facts.bits) = (algorithm, bits);
    }
    Ok(facts)
}

fn secret_algorithm(opened: &[u8]) -> Option<(String, Option<u32>)> {
    let mut info = Reader::new(opened).sequence()?;
    info.take(INTEGER)?;
    let oid = info.sequence()?.take(OID).map(oid_text)?;
    let bytes = info.take(OCTET_STRING)?.len();
    let name = match oid.as_str() {
        "2.16.840.1.101.3.4.1" => "aes".to_owned(),
        "1.2.840.113549.3.7" => "des-ede3".to_owned(),
        "1.3.14.3.2.7" => "des".to_owned(),
        "1.2.840.113549.2.7" => "hmac-sha1".to_owned(),
        "1.2.840.113549.2.9" => "hmac-sha256".to_owned(),
        "1.2.840.113549.2.10" => "hmac-sha384".to_owned(),
        "1.2.840.113549.2.11" => "hmac-sha512".to_owned(),
        _ => format!("unknown ({oid})"),
    };
    Some((name, u32::try_from(bytes * 8).ok()))
}

#[cfg(test)]
mod tests;
