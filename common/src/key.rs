//! Keys and certificates as the agent sees them and the aggregator keeps them. No type here can hold private material:
//! a sighting is a fingerprint and what may be known about the key by everyone.

mod place;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

pub use place::{CONTAINER_PREFIX, Place, Reach, Role, Served, Staple};

use crate::clock::DATES_MS;
use crate::limits::{KEY_USAGES_MAX, REVOKED_MAX, SANS_MAX, TEXT_BYTES_MAX};

/// What kind of object was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// X.509 certificate.
    Certificate,
    /// Private key in PKCS#1, PKCS#8 or SEC1 form.
    PrivateKey,
    /// Bare public key (SubjectPublicKeyInfo or PKCS#1).
    PublicKey,
    /// OpenSSH private key.
    SshPrivateKey,
    /// OpenSSH public key.
    SshPublicKey,
    /// OpenSSH certificate.
    SshCertificate,
    /// Certificate signing request.
    CertificateRequest,
    /// Certificate revocation list, or OpenSSH's list of revoked keys.
    Crl,
    /// OpenPGP secret key, with its subkeys.
    OpenpgpPrivateKey,
    /// OpenPGP public key (what OpenPGP calls a certificate), with its subkeys.
    OpenpgpPublicKey,
    /// Secret that both sides hold: of a JWKS, of a WireGuard peer, of a Java key store.
    SymmetricKey,
    /// Key in the kernel's keyring.
    KernelKey,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Certificate,
        Self::PrivateKey,
        Self::PublicKey,
        Self::SshPrivateKey,
        Self::SshPublicKey,
        Self::SshCertificate,
        Self::CertificateRequest,
        Self::Crl,
        Self::OpenpgpPrivateKey,
        Self::OpenpgpPublicKey,
        Self::SymmetricKey,
        Self::KernelKey,
    ];

    /// Name in the API and in tags.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::PrivateKey => "private_key",
            Self::PublicKey => "public_key",
            Self::SshPrivateKey => "ssh_private_key",
            Self::SshPublicKey => "ssh_public_key",
            Self::SshCertificate => "ssh_certificate",
            Self::CertificateRequest => "certificate_request",
            Self::Crl => "crl",
            Self::OpenpgpPrivateKey => "openpgp_private_key",
            Self::OpenpgpPublicKey => "openpgp_public_key",
            Self::SymmetricKey => "symmetric_key",
            Self::KernelKey => "kernel_key",
        }
    }

    /// Whether it is one of OpenPGP's.
    #[must_use]
    pub fn is_openpgp(self) -> bool {
        matches!(self, Self::OpenpgpPrivateKey | Self::OpenpgpPublicKey)
    }

    /// Whether the object holds a secret in a file.
    #[must_use]
    pub fn is_private(self) -> bool {
        matches!(self, Self::PrivateKey | Self::SshPrivateKey | Self::OpenpgpPrivateKey | Self::SymmetricKey)
    }
}

/// What everyone may know about one key or certificate.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct KeyFacts {
    /// Identity of this object, 64 lower-case hex digits: SHA-256 of what is signed as a whole (certificate, request, list),
    /// else of the public key, so that a key file and its public half are one key. An object whose public half cannot be
    /// read without a password, or computed here, carries the SHA-256 of the file's block instead.
    pub id: String,
    /// SHA-256 of the SubjectPublicKeyInfo as 64 hex digits, or OpenSSH's `SHA256:` form. Binds a certificate to its key.
    /// The id, where there is no public key.
    pub fingerprint: String,
    /// What it is.
    pub kind: KeyKind,
    /// `rsa`, `ec`, `ed25519`, ...; `unknown (<OID>)` where we have no name.
    pub algorithm: String,
    /// Size in bits, where it has one.
    pub bits: Option<u32>,
    /// Named curve.
    pub curve: Option<String>,
    /// Certificates: signature algorithm, `sha256WithRSAEncryption`.
    pub signature_algorithm: Option<String>,
    /// Valid from, Unix ms.
    pub not_before_ms: Option<i64>,
    /// Valid until, Unix ms.
    pub not_after_ms: Option<i64>,
    /// Distinguished name of the subject; for SSH keys the comment, for SSH certificates the key id.
    pub subject: Option<String>,
    /// Distinguished name of the issuer; for SSH certificates the fingerprint of the authority's key.
    pub issuer: Option<String>,
    /// Subject alternative names, `DNS:example.org`; for SSH certificates the principals, `host:web.example`, `user:root`.
    pub sans: Vec<String>,
    /// Serial number, hex.
    pub serial: Option<String>,
    /// Certificates: may it sign others.
    pub is_ca: Option<bool>,
    /// Private keys: is a password needed; with the derivation it uses, where stated.
    pub encrypted: Option<bool>,
    /// Derivation, its cost, and cipher: `pbkdf2-hmac-sha256, 2048 iterations, aes-256-cbc`, `bcrypt, 16 rounds, aes256-ctr`.
    pub kdf: Option<String>,
    /// What it may be used for. X.509: key usage and extended key usage (`digitalSignature`, `serverAuth`, or an OID); SSH
    /// certificates: critical options and extensions; OpenPGP: `certify`, `sign`, `encrypt`, `authenticate`; JWK: `use` and `key_ops`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<String>,
    /// RSA: public exponent, where it fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponent: Option<u64>,
    /// X.509: subject key identifier, hex; OpenPGP: the fingerprint, hex; JWK: `kid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// X.509: authority key identifier, hex: which key signed it, or signed the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_key_id: Option<String>,
    /// SSH: SHA-256 of the same public key as a SubjectPublicKeyInfo, by which it is known in X.509 and its kin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spki: Option<String>,
    /// What only one who sees the key itself can tell against it: `roca`, `debian-weak`, `shared-factor`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weaknesses: Vec<String>,
    /// When it was revoked, as far as its host knows: from the key itself (OpenPGP), a list that lies there, or a stapled answer. Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<i64>,
    /// What says so, and why: `CRL /etc/ssl/crl.pem: keyCompromise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation: Option<String>,
    /// Revocation lists: what they revoke, at most [`REVOKED_MAX`]; longer ones are matched against the keys of their own host only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revokes: Vec<Revoked>,
}

/// One line of a revocation list.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Revoked {
    /// Serial number in hex as [`KeyFacts::serial`] has it, or an SSH key's `SHA256:` fingerprint.
    pub what: String,
    /// When, Unix ms.
    pub at_ms: Option<i64>,
    /// `keyCompromise`, ...
    pub reason: Option<String>,
}

impl KeyFacts {
    /// Facts that only say what was found and which key it is.
    #[must_use]
    pub fn bare(kind: KeyKind, id: String, fingerprint: String, algorithm: impl Into<String>) -> Self {
        Self {
            id,
            fingerprint,
            kind,
            algorithm: algorithm.into(),
            bits: None,
            curve: None,
            signature_algorithm: None,
            not_before_ms: None,
            not_after_ms: None,
            subject: None,
            issuer: None,
            sans: Vec::new(),
            serial: None,
            is_ca: None,
            encrypted: None,
            kdf: None,
            usage: Vec::new(),
            exponent: None,
            key_id: None,
            authority_key_id: None,
            spki: None,
            weaknesses: Vec::new(),
            revoked_ms: None,
            revocation: None,
            revokes: Vec::new(),
        }
    }

    /// What all forms of one key have in common: its fingerprint as a SubjectPublicKeyInfo, where it has one.
    #[must_use]
    pub fn key(&self) -> &str {
        self.spki.as_deref().unwrap_or(&self.fingerprint)
    }

    /// Whether every text and time is within its bound, as [`KeyFacts::clamp`] leaves it.
    #[must_use]
    pub fn is_clamped(&self) -> bool {
        let one = [&self.signature_algorithm, &self.subject, &self.issuer, &self.serial, &self.kdf, &self.curve];
        let texts = one.into_iter().chain([&self.key_id, &self.authority_key_id, &self.revocation, &self.spki]).flatten();
        let lists = self.sans.iter().chain(&self.usage).chain(&self.weaknesses).chain([&self.algorithm]);
        let revoked = self.revokes.iter().flat_map(|revoked| [Some(&revoked.what), revoked.reason.as_ref()]).flatten();
        // The last of the names may say how many more there were.
        let counts = self.sans.len() <= SANS_MAX + 1 && self.usage.len() <= KEY_USAGES_MAX && self.weaknesses.len() <= KEY_USAGES_MAX;
        let times = [self.not_before_ms, self.not_after_ms, self.revoked_ms].into_iter().chain(self.revokes.iter().map(|revoked| revoked.at_ms)).flatten();
        let dates = times.into_iter().all(|ms| DATES_MS.contains(&ms));
        counts && dates && self.revokes.len() <= REVOKED_MAX && texts.chain(lists).chain(revoked).all(|text| text.len() <= TEXT_BYTES_MAX)
    }

    /// Cuts every text to its bound, so that a hostile certificate cannot fill the inventory, and every time to a date there is.
    pub fn clamp(&mut self) {
        let times = [&mut self.not_before_ms, &mut self.not_after_ms, &mut self.revoked_ms];
        let times = times.into_iter().chain(self.revokes.iter_mut().map(|revoked| &mut revoked.at_ms)).flatten();
        times.for_each(|ms| *ms = (*ms).clamp(*DATES_MS.start(), *DATES_MS.end()));
        let one = [&mut self.signature_algorithm, &mut self.subject, &mut self.issuer, &mut self.serial, &mut self.kdf, &mut self.curve];
        one.into_iter().chain([&mut self.key_id, &mut self.authority_key_id, &mut self.revocation, &mut self.spki]).flatten().for_each(clamp_text);
        clamp_text(&mut self.algorithm);
        if self.sans.len() > SANS_MAX {
            let dropped = self.sans.len() - SANS_MAX;
            self.sans.truncate(SANS_MAX);
            self.sans.push(format!("(and {dropped} more)"));
        }
        self.sans.shrink_to_fit();
        self.usage.truncate(KEY_USAGES_MAX);
        self.usage.shrink_to_fit();
        self.weaknesses.truncate(KEY_USAGES_MAX);
        self.revokes.truncate(REVOKED_MAX);
        self.sans.iter_mut().chain(&mut self.usage).chain(&mut self.weaknesses).for_each(clamp_text);
        for revoked in &mut self.revokes {
            clamp_text(&mut revoked.what);
            revoked.reason.iter_mut().for_each(clamp_text);
        }
    }
}

/// Cuts a text to [`TEXT_BYTES_MAX`] and turns control characters into spaces.
pub fn clamp_text(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        let mut end = TEXT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.shrink_to_fit();
    }
    if text.chars().any(char::is_control) {
        *text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    }
}

/// A key as it lies in one place of one host, or the news that it no longer does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Sighting {
    /// The key.
    pub facts: KeyFacts,
    /// Where.
    pub place: Place,
    /// When it was seen (or seen to be gone), Unix ms.
    pub at_ms: i64,
    /// It is no longer there.
    pub gone: bool,
    /// Id of the key that lay in this place before and was replaced by this one.
    pub replaces: Option<String>,
}
