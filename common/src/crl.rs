//! X.509 revocation lists (RFC 5280 section 5): who issued one, until when it is to be believed, and what it revokes, in 16
//! bytes a line, since lists of public authorities have hundreds of thousands. Called by the agent for lists on disk and by the
//! aggregator for those that it fetches.

use x509_parser::asn1_rs::BitString;
use x509_parser::prelude::{AlgorithmIdentifier, FromDer, SubjectPublicKeyInfo};

use crate::der::{BIT_STRING, BOOLEAN, CONTEXT_0, ENUMERATED, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE};
use crate::key::Revoked;
use crate::limits::{CRL_LINES_MAX, REVOKED_MAX};
use crate::{hex, sha256, x509};

/// Extensions, `2.5.29.x`.
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];
const REASON: &[u8] = &[0x55, 0x1d, 21];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];

/// Names of the reasons, by their numbers.
const REASONS: [&str; 11] = [
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "",
    "removeFromCRL",
    "privilegeWithdrawn",
    "aACompromise",
];
/// The reason that takes a line back.
const REMOVED: u8 = 8;
/// Stands for no reason.
const NO_REASON: u8 = u8::MAX;

/// A list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    /// SHA-256 of its bytes, hex.
    pub id: String,
    /// Distinguished name of its issuer.
    pub issuer: String,
    /// Identifier of the key that signed it, hex.
    pub authority_key_id: Option<String>,
    /// Algorithm of its signature, an object identifier in DER without its head.
    pub signature_oid: Vec<u8>,
    /// Its number, hex.
    pub number: Option<String>,
    /// When it was made, Unix ms.
    pub this_update_ms: i64,
    /// When the next one is due, Unix ms.
    pub next_update_ms: Option<i64>,
    /// The first lines as they travel, at most [`REVOKED_MAX`].
    pub first: Vec<Revoked>,
    lines: Lines,
}

/// What a list revokes, to look up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(Vec<Line>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    /// The head of the serial number's SHA-256.
    serial: u64,
    /// Unix seconds.
    at: u32,
    reason: u8,
}

impl Lines {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the certificate of that serial number, in hex, was revoked (Unix ms), and why.
    #[must_use]
    pub fn find(&self, serial: &str) -> Option<(i64, Option<&'static str>)> {
        let wanted = hash(serial);
        let at = self.0.binary_search_by_key(&wanted, |line| line.serial).ok()?;
        Some((i64::from(self.0[at].at) * 1_000, reason_name(self.0[at].reason)))
    }

    /// Those of a list whose first lines travelled.
    #[must_use]
    pub fn of(revoked: &[Revoked]) -> Self {
        let line = |revoked: &Revoked| {
            let at = revoked.at_ms.and_then(|at| u32::try_from(at / 1_000).ok()).unwrap_or(0);
            let reason = REASONS.iter().position(|name| Some(*name) == revoked.reason.as_deref()).and_then(|n| u8::try_from(n).ok());
            Line { serial: hash(&revoked.what), at, reason: reason.unwrap_or(NO_REASON) }
        };
        let mut lines = Self(revoked.iter().take(REVOKED_MAX).map(line).collect());
        lines.sort();
        lines
    }

    /// Those of a list that only has names, revoked at `at_ms` (Unix ms; 0: nobody knows).
    #[must_use]
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>, at_ms: i64) -> Self {
        let at = u32::try_from(at_ms / 1_000).unwrap_or(0);
        let mut lines = Self(names.into_iter().take(CRL_LINES_MAX).map(|name| Line { serial: hash(name), at, reason: NO_REASON }).collect());
        lines.sort();
        lines
    }

    fn sort(&mut self) {
        self.0.sort_unstable();
        self.0.dedup_by_key(|line| line.serial);
        self.0.shrink_to_fit();
    }
}

fn hash(serial: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = sha256(serial.as_bytes());
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn reason_name(reason: u8) -> Option<&'static str> {
    REASONS.get(usize::from(reason)).copied().filter(|name| !name.is_empty())
}

impl Crl {
    /// Reads a list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let parts = Parts::split(der).ok_or("not a revocation list")?;
        let mut reader = Reader::new(parts.signed_body);
        reader.take(INTEGER);
        reader.take(SEQUENCE);
        let issuer = reader.element().ok_or("it has no issuer")?;
        let mut crl = Self {
            id: hex(&sha256(parts.whole)),
            issuer: x509::name(issuer.raw),
            authority_key_id: None,
            signature_oid: Reader::new(parts.algorithm).sequence().and_then(|mut oid| oid.take(OID)).ok_or("its algorithm does not parse")?.to_vec(),
            number: None,
            this_update_ms: time(&mut reader).ok_or("its time does not parse")?,
            next_update_ms: time(&mut reader),
            first: Vec::new(),
            lines: Lines::default(),
        };
        if let Some(lines) = reader.sequence() {
            crl.take_lines(lines)?;
        }
        if let Some(extensions) = reader.take(CONTEXT_0).and_then(|list| Reader::new(list).sequence()) {
            crl.extensions(extensions);
        }
        Ok(crl)
    }

    /// What it revokes, to look up.
    #[must_use]
    pub fn into_lines(self) -> Lines {
        self.lines
    }

    fn take_lines(&mut self, mut list: Reader<'_>) -> Result<(), String> {
        // Of an indirect list: the lines from there on are of another issuer's certificates.
        let mut foreign = false;
        while !list.is_empty() {
            let line = list.sequence().and_then(read_line).ok_or("a line of it does not parse")?;
            foreign |= line.names_issuer;
            if foreign || line.reason == REMOVED {
                continue;
            }
            if self.lines.len() >= CRL_LINES_MAX {
                return Err(format!("it revokes more than {CRL_LINES_MAX} certificates"));
            }
            let seconds = u32::try_from(line.at_ms / 1_000).unwrap_or(0);
            self.lines.0.push(Line { serial: hash(&line.serial), at: seconds, reason: line.reason });
            if self.first.len() < REVOKED_MAX {
                let reason = reason_name(line.reason).map(str::to_owned);
                self.first.push(Revoked { what: line.serial, at_ms: Some(line.at_ms), reason });
            }
        }
        self.lines.sort();
        Ok(())
    }

    fn extensions(&mut self, mut list: Reader<'_>) {
        while let Some((oid, value)) = list.sequence().and_then(extension) {
            let mut value = Reader::new(value);
            match oid {
                AUTHORITY_KEY_ID => self.authority_key_id = value.sequence().and_then(|mut key| key.take(0x80)).map(hex),
                CRL_NUMBER => self.number = value.take(INTEGER).map(x509::serial),
                _ => {}
            }
        }
    }
}

/// Whether the list `der` was signed by the key `spki`, a SubjectPublicKeyInfo.
///
/// # Errors
/// It was not, or it cannot be told; in words.
pub fn check_signature(der: &[u8], spki: &[u8]) -> Result<(), String> {
    let parts = Parts::split(der).ok_or("not a revocation list")?;
    let (_, key) = SubjectPublicKeyInfo::from_der(spki).map_err(|e| format!("the issuer's key does not parse: {e}"))?;
    let (_, algorithm) = AlgorithmIdentifier::from_der(parts.algorithm).map_err(|e| format!("its algorithm does not parse: {e}"))?;
    let (_, signature) = BitString::from_der(parts.signature).map_err(|e| format!("its signature does not parse: {e}"))?;
    x509_parser::verify::verify_signature(&key, &algorithm, &signature, parts.signed).map_err(|e| e.to_string())
}

/// A list, taken apart.
struct Parts<'a> {
    whole: &'a [u8],
    signed: &'a [u8],
    signed_body: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(der: &'a [u8]) -> Option<Self> {
        let whole = Reader::new(der).element().filter(|whole| whole.tag == SEQUENCE)?;
        let mut reader = Reader::new(whole.body);
        let signed = reader.element().filter(|signed| signed.tag == SEQUENCE)?;
        let algorithm = reader.element()?;
        let signature = reader.element().filter(|signature| signature.tag == BIT_STRING)?;
        Some(Self { whole: whole.raw, signed: signed.raw, signed_body: signed.body, algorithm: algorithm.raw, signature: signature.raw })
    }
}

/// One line, as it is written.
struct Written {
    serial: String,
    at_ms: i64,
    reason: u8,
    names_issuer: bool,
}

fn read_line(mut line: Reader<'_>) -> Option<Written> {
    let serial = x509::serial(line.take(INTEGER)?);
    let mut written = Written { serial, at_ms: time(&mut line)?, reason: NO_REASON, names_issuer: false };
    let mut extensions = line.sequence().unwrap_or(Reader::new(&[]));
    while let Some((oid, value)) = extensions.sequence().and_then(extension) {
        match oid {
            REASON => written.reason = Reader::new(value).take(ENUMERATED).and_then(|reason| reason.first().copied()).unwrap_or(NO_REASON),
            CERTIFICATE_ISSUER => written.names_issuer = true,
            _ => {}
        }
    }
    Some(written)
}

/// Identifier and value.
fn extension(mut extension: Reader<'_>) -> Option<(&[u8], &[u8])> {
    let oid = extension.take(OID)?;
    extension.take(BOOLEAN);
    Some((oid, extension.take(OCTET_STRING)?))
}

/// The next element, if it is a time, Unix ms.
fn time(reader: &mut Reader<'_>) -> Option<i64> {
    let mut ahead = *reader;
    let time = x509::unix_ms(&ahead.element()?)?;
    *reader = ahead;
    Some(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevocationReason, RevokedCertParams, SerialNumber};

    use super::*;

    /// A list of so many lines, with the key that signed it.
    fn list(lines: u64) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.distinguished_name.push(rcgen::DnType::CommonName, "ca");
        let line = |serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: rcgen::date_time_ymd(2026, 1, 2),
            reason_code: (serial == 1).then_some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 3),
            next_update: rcgen::date_time_ymd(2026, 1, 10),
            crl_number: SerialNumber::from(513),
            issuing_distribution_point: None,
            revoked_certs: (1..=lines).map(line).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&Issuer::from_params(&ca, &key)).unwrap();
        (list.der().to_vec(), key)
    }

    fn spki(key: &KeyPair) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(key)
    }

    #[test]
    fn a_list_says_who_issued_it_until_when_it_holds_and_what_it_revokes() {
        let (der, _) = list(3_000);
        let crl = Crl::read(&der).unwrap();
        assert_eq!((crl.issuer.as_str(), crl.number.as_deref()), ("CN=ca", Some("0201")));
        assert_eq!(crl.next_update_ms.unwrap() - crl.this_update_ms, 7 * 86_400_000);
        assert_eq!((crl.lines.len(), crl.first.len()), (3_000, REVOKED_MAX));
        assert_eq!(crl.lines.find("01"), Some((1_767_312_000_000, Some("keyCompromise"))));
        assert_eq!(crl.lines.find("0bb8"), Some((1_767_312_000_000, None)), "beyond those that travel, too");
        assert_eq!(crl.lines.find("0bb9"), None);
        assert!(crl.authority_key_id.is_some());
        assert_eq!(Crl::read(&list(0).0).unwrap().lines.len(), 0, "none is revoked");
    }

    #[test]
    fn a_list_is_its_issuers_or_it_is_not() {
        let (mut der, key) = list(2);
        check_signature(&der, &spki(&key)).unwrap();
        assert!(check_signature(&der, &spki(&KeyPair::generate().unwrap())).is_err(), "another's key");
        let at = der.windows(2).position(|bytes| bytes == [2, 1]).unwrap();
        der[at + 2] ^= 2;
        assert!(check_signature(&der, &spki(&key)).is_err(), "a line was changed");
    }

    proptest! {
        #[test]
        fn no_list_panics(cut in 0usize..400, at in 0usize..400, flip in 1u8..) {
            let (mut der, _) = list(3);
            let at = at % der.len();
            der[at] ^= flip;
            let _ = Crl::read(&der);
            let _ = Crl::read(&der[..cut.min(der.len())]);
            let _ = check_signature(&der, &[]);
        }
    }
}
