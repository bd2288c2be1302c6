//! Who this agent is: key, certificate, the CAs it trusts and address, in one file that only its owner can read, replaced as
//! a whole. Joining and renewing make it; the uplink watches it. Nothing that an aggregator answers removes it, and the
//! identity before the newest one stays in it: should the newest turn out to be of no use, that one renews.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::seal::write_private;
use keyvigil_common::tls::{self, TlsError};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What makes a host an agent.
pub(crate) const JOIN: &str = "make a token with `keyvigil token create`, then run `keyvigil-agent join TOKEN` here";

/// What is stored.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// `host:port` of the aggregator's mTLS listener.
    pub address: String,
    /// Identity given at enrolment.
    pub agent: String,
    /// Value of the `host` tag.
    pub host: String,
    /// Certificate, PEM.
    pub certificate: String,
    /// CAs to trust, PEM, one after the other.
    pub ca: String,
    /// Private key, PEM.
    key: Zeroizing<String>,
    /// What it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Box<Self>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({} at {})", self.agent, self.address)
    }
}

/// A new key and the request for its certificate.
pub struct NewKey {
    key: Zeroizing<String>,
    /// PEM.
    pub csr: String,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewKey(***)")
    }
}

impl NewKey {
    /// Makes a P-256 key. It never leaves this host.
    ///
    /// # Errors
    /// The random source's.
    pub fn generate() -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        // Names in a request are ignored by the CA; a request without any is the smallest.
        let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
        Ok(Self { key: Zeroizing::new(key.serialize_pem()), csr })
    }

    /// The identity that this key has with the certificate it got.
    #[must_use]
    pub fn into_identity(self, address: String, certificate: String, ca: String, agent: String, host: String) -> Identity {
        Identity { address, agent, host, certificate, ca, key: self.key, previous: None }
    }
}

impl Identity {
    /// Where it lies in the state directory.
    #[must_use]
    pub fn path(dir: &Path) -> PathBuf {
        dir.join("identity.json")
    }

    /// Reads the identity; `None` if the host has not joined.
    ///
    /// # Errors
    /// A file that cannot be read or is not one.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = Self::path(dir);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| IdentityError::file(&path, e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(IdentityError::file(&path, e)),
        }
    }

    /// Writes it, replacing what was there at once.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let path = Self::path(dir);
        let bytes = Zeroizing::new(serde_json::to_vec_pretty(self).map_err(|e| IdentityError::file(&path, e))?);
        write_private(&path, &bytes).map_err(|e| IdentityError::file(&path, e))
    }

    /// This identity, which comes after `previous`.
    #[must_use]
    pub fn after(self, previous: &Self) -> Self {
        Self { previous: Some(Box::new(Self { previous: None, ..previous.clone() })), ..self }
    }

    /// What it was before, if that is known.
    #[must_use]
    pub fn previous(&self) -> Option<&Self> {
        self.previous.as_deref()
    }

    /// TLS by which the aggregator knows this agent.
    ///
    /// # Errors
    /// Parts that do not fit each other.
    pub fn tls(&self, clock: &SharedClock) -> Result<Arc<ClientConfig>, IdentityError> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|e| IdentityError::Pem(e.to_string()))?;
        Ok(Arc::new(tls::client_config(&self.trusted()?, vec![self.der()?], key, clock)?))
    }

    /// What tells the CAs that this agent trusts from others: the aggregator learns by it who has followed.
    ///
    /// # Errors
    /// CAs that do not parse.
    pub fn trusts(&self) -> Result<[u8; 32], IdentityError> {
        Ok(tls::trusts(&self.trusted()?))
    }

    fn trusted(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        CertificateDer::pem_slice_iter(self.ca.as_bytes()).collect::<Result<_, _>>().map_err(|e| IdentityError::Pem(e.to_string()))
    }

    /// Start and end of the certificate, Unix ms.
    ///
    /// # Errors
    /// A certificate that does not parse.
    pub fn validity_ms(&self) -> Result<(i64, i64), IdentityError> {
        Ok(tls::validity_ms(&self.der()?)?)
    }

    fn der(&self) -> Result<CertificateDer<'static>, IdentityError> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(|e| IdentityError::Pem(e.to_string()))
    }
}

/// What can be wrong with an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory, or a file in it.
    #[error("cannot use {0}")]
    File(String, #[source] std::io::Error),
    /// Not PEM.
    #[error("the identity holds a certificate or key that does not parse: {0}; join again with a new token")]
    Pem(String),
    /// Certificates.
    #[error("certificate")]
    Rcgen(#[from] rcgen::Error),
    /// TLS.
    #[error("TLS")]
    Tls(#[from] TlsError),
}

impl IdentityError {
    /// What mends it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::File(_, e) if e.kind() == std::io::ErrorKind::PermissionDenied => "run this as root or as the user keyvigil",
            Self::File(_, e) if e.kind() == std::io::ErrorKind::InvalidData => JOIN,
            Self::File(..) => "look at the disk of the state directory",
            Self::Pem(_) | Self::Rcgen(_) | Self::Tls(_) => JOIN,
        }
    }

    pub(crate) fn file(path: &Path, error: impl Into<std::io::Error>) -> Self {
        Self::File(path.display().to_string(), error.into())
    }
}
