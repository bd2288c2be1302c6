//! The aggregator's own certificate authority: makes its key at first start, signs what joins and what renews. Takes from a
//! CSR only its public key (after proof of possession): names, usages and times are decided here. Keys are P-256.
//!
//! A CA is replaced in steps, while everything runs: `announce` makes the new one, which agents learn to trust; `issue` lets
//! it sign; `retire` drops the old one; `rollback` goes a step back. Who may take a step when is decided in `rotation`.

mod ca;
mod state;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use keyvigil_common::tls::{self, AGGREGATOR_NAME, Identity};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use ca::Ca;
use state::State;

const DAY_MS: i64 = 86_400_000;
/// Life of an agent's certificate.
pub const LEAF_DAYS: i64 = 7;
/// Life of the aggregator's own certificate; it renews itself at half of it.
pub const SERVER_DAYS: i64 = 30;
/// Clocks may differ by this much.
const BACKDATE_MS: i64 = 3_600_000;

/// How far the replacement of a CA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// There is one CA.
    Stable,
    /// There is a second one that agents learn to trust; the first signs.
    Announce,
    /// The second one signs; both are trusted.
    Issue,
}

/// The authority: one CA, or two while one is replaced.
pub struct Authority {
    dir: PathBuf,
    state: ArcSwap<State>,
    /// Held while a step is taken.
    stepping: Mutex<()>,
    steps: watch::Sender<u64>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({} {:?})", self.issuer(), self.phase())
    }
}

/// A certificate that was made, and until when it is valid.
#[derive(Debug, Clone)]
pub struct Issued {
    /// DER.
    pub certificate: CertificateDer<'static>,
    /// The same as PEM.
    pub pem: String,
    /// Unix ms.
    pub not_after_ms: i64,
    /// Key identifier of the CA that signed it.
    pub issuer: String,
    /// The CA certificates that its owner is to trust, PEM.
    pub ca: String,
    /// Hash of those, hex.
    pub trusts: String,
}

/// Certificate chain and key of a server.
#[derive(Debug)]
pub struct ServerIdentity {
    /// Leaf, then the CAs (so that a joining agent can compare its pin).
    pub chain: Vec<CertificateDer<'static>>,
    /// Key of the leaf.
    pub key: PrivateKeyDer<'static>,
    /// Unix ms.
    pub not_after_ms: i64,
}

/// A CA, for showing.
#[derive(Debug, Clone)]
pub struct CaFacts {
    /// Key identifier, hex.
    pub id: String,
    /// SHA-256 of its key: what join tokens are pinned to.
    pub pin: [u8; 32],
    /// SHA-256 of its certificate.
    pub fingerprint: [u8; 32],
    /// Start and end, Unix ms.
    pub validity_ms: (i64, i64),
    /// Whether it signs now.
    pub issuing: bool,
}

impl Authority {
    /// Reads the CA from `dir` (`authority.json`), or makes one there.
    ///
    /// # Errors
    /// Files that cannot be read or written, or do not fit each other.
    pub fn load_or_create(dir: &Path, now_ms: i64) -> Result<Self, AuthorityError> {
        let at = |source| AuthorityError::At { dir: dir.display().to_string(), source: Box::new(source) };
        let state = ArcSwap::from_pointee(State::load_or_create(dir, now_ms).map_err(at)?);
        Ok(Self { dir: dir.to_owned(), state, stepping: Mutex::new(()), steps: watch::channel(0).0 })
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the CA that signs.
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        self.state.load().issuing.pin
    }

    /// Certificates of all CAs whose certificates are accepted.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.state.load().certificates()
    }

    /// What an agent that trusts exactly those sends as `Sender.trusts`.
    #[must_use]
    pub fn trusts(&self) -> [u8; 32] {
        tls::trusts(&self.certificates())
    }

    /// Key identifier of the CA that signs.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.state.load().issuing.id.clone()
    }

    /// Whether certificates of that CA are accepted.
    #[must_use]
    pub fn accepts(&self, issuer: &str) -> bool {
        self.state.load().cas.iter().any(|ca| ca.id == issuer)
    }

    /// How far the replacement is, and since when (Unix ms).
    #[must_use]
    pub fn since(&self) -> (Phase, i64) {
        let state = self.state.load();
        (state.phase, state.since_ms)
    }

    /// How far the replacement is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.since().0
    }

    /// All CAs, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<CaFacts> {
        let state = self.state.load();
        let facts = |ca: &Arc<Ca>| CaFacts {
            id: ca.id.clone(),
            pin: ca.pin,
            fingerprint: keyvigil_common::sha256(&ca.certificate),
            validity_ms: ca.validity_ms,
            issuing: ca.id == state.issuing.id,
        };
        state.cas.iter().map(facts).collect()
    }

    /// Changes with each step: who serves with certificates of this authority makes them anew.
    #[must_use]
    pub fn steps(&self) -> watch::Receiver<u64> {
        self.steps.subscribe()
    }

    /// Makes a second CA, which agents are to trust.
    ///
    /// # Errors
    /// There are two; or the file cannot be written, and all is as before.
    pub fn announce(&self, now_ms: i64) -> Result<(), AuthorityError> {
        self.step(|state| {
            let ([old], Phase::Stable) = (&state.cas[..], state.phase) else { return Err(AuthorityError::Step("a CA is being replaced already".into())) };
            let new = Ca::make(now_ms)?;
            // Each certifies the other: whichever signs, who trusts only one of them can follow.
            let cas = vec![Arc::new(old.certified_by(&new, now_ms)?), Arc::new(new.certified_by(old, now_ms)?)];
            Ok(State { phase: Phase::Announce, since_ms: now_ms, issuing: Arc::clone(&cas[0]), cas })
        })
    }

    /// Lets the second CA sign.
    ///
    /// # Errors
    /// None was announced; or the file cannot be written, and all is as before.
    pub fn issue(&self, now_ms: i64) -> Result<(), AuthorityError> {
        self.step(|state| match (&state.cas[..], state.phase) {
            ([_, new], Phase::Announce) => Ok(State { phase: Phase::Issue, since_ms: now_ms, issuing: Arc::clone(new), cas: state.cas.clone() }),
            (_, Phase::Issue) => Err(AuthorityError::Step("the new CA signs already: `keyvigil ca retire` drops the old one once all have followed".into())),
            _ => Err(AuthorityError::Step("no new CA was announced: `keyvigil ca announce` makes one".into())),
        })
    }

    /// Drops the CA that does not sign any more, key and all.
    ///
    /// # Errors
    /// The new one does not sign yet; or the file cannot be written, and all is as before.
    pub fn retire(&self, now_ms: i64) -> Result<(), AuthorityError> {
        self.step(|state| match state.phase {
            Phase::Issue => Ok(State::alone(state.issuing.alone()?, now_ms)),
            Phase::Announce => Err(AuthorityError::Step("the new CA does not sign yet: `keyvigil ca issue` comes first".into())),
            Phase::Stable => Err(AuthorityError::Step("there is one CA only: `keyvigil ca announce` makes its successor".into())),
        })
    }

    /// A step back: from `issue` the old CA signs again and both stay trusted, from `announce` the new one is dropped.
    ///
    /// # Errors
    /// Nothing is under way; or the file cannot be written, and all is as before.
    pub fn rollback(&self, now_ms: i64) -> Result<(), AuthorityError> {
        self.step(|state| match (&state.cas[..], state.phase) {
            ([old, _], Phase::Issue) => Ok(State { phase: Phase::Announce, since_ms: now_ms, issuing: Arc::clone(old), cas: state.cas.clone() }),
            ([old, _], Phase::Announce) => Ok(State::alone(old.alone()?, now_ms)),
            _ => Err(AuthorityError::Step("no CA is being replaced".into())),
        })
    }

    /// Takes a step: on disk first, then for everyone here.
    fn step(&self, next: impl FnOnce(&State) -> Result<State, AuthorityError>) -> Result<(), AuthorityError> {
        let _one = self.stepping.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next(&self.state.load())?;
        next.save(&self.dir)?;
        if let Err(e) = next.publish(&self.dir) {
            tracing::warn!(error = %e, "ca.pem is not what is trusted now; the next start sets it right");
        }
        self.state.store(Arc::new(next));
        self.steps.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Signs a client certificate for `identity` over the key of `csr_pem`.
    ///
    /// # Errors
    /// A CSR that does not parse or does not prove its key, or a key that is too weak.
    pub fn sign_agent(&self, csr_pem: &str, identity: &Identity, now_ms: i64, life_ms: i64) -> Result<Issued, AuthorityError> {
        let csr = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|e| AuthorityError::Csr(e.to_string()))?;
        let not_after_ms = now_ms + life_ms;
        let mut params = leaf_params(&format!("agent {}", identity.agent), now_ms, not_after_ms)?;
        params.subject_alt_names = vec![SanType::URI(ia5(&identity.uri())?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let state = self.state.load();
        let certificate = state.issuing.sign(&params, &csr.public_key)?;
        let (issuer, ca, trusts) = (state.issuing.id.clone(), state.pem(), keyvigil_common::hex(&tls::trusts(&state.certificates())));
        Ok(Issued { certificate: certificate.der().clone(), pem: certificate.pem(), not_after_ms, issuer, ca, trusts })
    }

    /// Makes key and certificate for the aggregator itself.
    ///
    /// # Errors
    /// Names that are not valid in a certificate.
    pub fn server_identity(&self, names: &[String], now_ms: i64) -> Result<ServerIdentity, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let not_after_ms = now_ms + SERVER_DAYS * DAY_MS;
        let mut params = leaf_params("aggregator", now_ms, not_after_ms)?;
        params.subject_alt_names.push(SanType::DnsName(ia5(AGGREGATOR_NAME)?));
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(ia5(name)?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let state = self.state.load();
        let leaf = state.issuing.sign(&params, &key)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = std::iter::once(leaf.der().clone()).chain(state.chain()).collect();
        Ok(ServerIdentity { chain, key, not_after_ms })
    }
}

fn ia5(text: &str) -> Result<Ia5String, AuthorityError> {
    Ia5String::try_from(text.to_owned()).map_err(|_| AuthorityError::Name(text.to_owned()))
}

fn leaf_params(name: &str, now_ms: i64, not_after_ms: i64) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(SerialNumber::from_slice(&keyvigil_common::random::<16>()));
    params.use_authority_key_identifier_extension = true;
    set_times(&mut params, now_ms, not_after_ms)?;
    Ok(params)
}

fn set_times(params: &mut CertificateParams, now_ms: i64, not_after_ms: i64) -> Result<(), AuthorityError> {
    let date = |ms: i64| time::OffsetDateTime::from_unix_timestamp(ms.div_euclid(1_000)).map_err(|_| AuthorityError::Clock(ms));
    params.not_before = date(now_ms - BACKDATE_MS)?;
    params.not_after = date(not_after_ms)?;
    Ok(())
}

/// What can go wrong in the CA.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// File system.
    #[error("CA files")]
    Io(#[from] std::io::Error),
    /// From the certificate library.
    #[error("certificate")]
    Rcgen(#[from] rcgen::Error),
    /// A certificate that does not parse.
    #[error("certificate")]
    Tls(#[from] tls::TlsError),
    /// What is not PEM, or no CA.
    #[error("a CA certificate does not parse: {0}")]
    Pem(String),
    /// Key and certificate of different authorities.
    #[error("key and certificate of the CA do not belong together: restore the directory from one backup")]
    Mismatch,
    /// A state file that makes no sense.
    #[error("authority.json is not understood: {0}; restore it from a backup")]
    State(String),
    /// In the directory of the CA.
    #[error("the CA in {dir}")]
    At {
        /// Which.
        dir: String,
        /// What is wrong there.
        source: Box<AuthorityError>,
    },
    /// A step that cannot be taken now.
    #[error("{0}")]
    Step(String),
    /// The agent's request.
    #[error("the certificate request is not valid: {0}")]
    Csr(String),
    /// A name that cannot stand in a certificate.
    #[error("{0:?} cannot stand in a certificate")]
    Name(String),
    /// A clock far off.
    #[error("the clock shows {0} ms: no certificate can be made")]
    Clock(i64),
}

#[cfg(test)]
mod tests;
