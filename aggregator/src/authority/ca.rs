//! One CA: its key, its own certificate, and while it is replaced or replaces, its key certified by the other one, so that
//! who trusts only that other one can follow.

use keyvigil_common::tls::{key_id, spki_sha256, validity_ms};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::{AuthorityError, DAY_MS, set_times};

const CA_DAYS: i64 = 3_650;

/// A CA as it is stored: PEM.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredCa {
    pub(super) key: Zeroizing<String>,
    pub(super) certificate: String,
    /// Its key, certified by the other CA.
    pub(super) cross: Option<String>,
}

/// A CA that can sign.
pub(super) struct Ca {
    /// Key identifier, hex: what stands as the issuer in the certificates that it signs.
    pub(super) id: String,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub(super) pin: [u8; 32],
    pub(super) certificate: CertificateDer<'static>,
    pub(super) cross: Option<CertificateDer<'static>>,
    pub(super) validity_ms: (i64, i64),
    pub(super) stored: StoredCa,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A new key and its certificate.
    pub(super) fn make(now_ms: i64) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        // Two that live side by side are told apart by name.
        let name = format!("Keyvigil CA {}", keyvigil_common::hex(&keyvigil_common::sha256(&key.subject_public_key_info())[..4]));
        let certificate = ca_params(&name, now_ms, now_ms + CA_DAYS * DAY_MS)?.self_signed(&key)?;
        Self::open(StoredCa { key: Zeroizing::new(key.serialize_pem()), certificate: certificate.pem(), cross: None })
    }

    /// Reads what was stored; that key and certificate belong together is checked.
    pub(super) fn open(stored: StoredCa) -> Result<Self, AuthorityError> {
        let der = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| AuthorityError::Pem(e.to_string()));
        let certificate = der(&stored.certificate)?;
        let cross = stored.cross.as_deref().map(der).transpose()?;
        let key = KeyPair::from_pem(&stored.key)?;
        let pin = spki_sha256(&certificate)?;
        if pin != keyvigil_common::sha256(&key.subject_public_key_info()) {
            return Err(AuthorityError::Mismatch);
        }
        let (id, validity_ms) = (key_id(&certificate)?, validity_ms(&certificate)?);
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { id, pin, certificate, cross, validity_ms, stored, issuer })
    }

    /// Signs a certificate over `key`.
    pub(super) fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<Certificate, AuthorityError> {
        Ok(params.signed_by(key, &self.issuer)?)
    }

    /// This CA with its key certified by `other` too.
    pub(super) fn certified_by(&self, other: &Self, now_ms: i64) -> Result<Self, AuthorityError> {
        let until_ms = self.validity_ms.1.min(other.validity_ms.1);
        let mut params = ca_params(&common_name(&self.certificate)?, now_ms, until_ms)?;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&keyvigil_common::random::<16>()));
        let cross = other.sign(&params, self.issuer.key())?;
        Self::open(StoredCa { cross: Some(cross.pem()), ..self.stored.clone() })
    }

    /// This CA, alone again.
    pub(super) fn alone(&self) -> Result<Self, AuthorityError> {
        Self::open(StoredCa { cross: None, ..self.stored.clone() })
    }
}

fn common_name(der: &[u8]) -> Result<String, AuthorityError> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| AuthorityError::Pem(e.to_string()))?;
    let name = cert.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.map(str::to_owned).ok_or_else(|| AuthorityError::Pem("the CA has no common name".into()))
}

fn ca_params(name: &str, now_ms: i64, until_ms: i64) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    // One below it: the CA that replaces it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_times(&mut params, now_ms, until_ms)?;
    Ok(params)
}
