//! The aggregator's own certificate authority: makes its key at first start, signs what joins and what renews. Takes from a
//! CSR only its public key (after proof of possession): names, usages and times are decided here. Keys are P-256.

use std::path::Path;

use keyvigil_common::seal::write_private;
use keyvigil_common::tls::{AGGREGATOR_NAME, Identity, spki_sha256};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

const DAY_MS: i64 = 86_400_000;
/// Life of an agent's certificate.
pub const LEAF_DAYS: i64 = 7;
/// Life of the aggregator's own certificate; it renews itself at half of it.
pub const SERVER_DAYS: i64 = 30;
const CA_DAYS: i64 = 3_650;
/// Clocks may differ by this much.
const BACKDATE_MS: i64 = 3_600_000;

/// The CA.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    pin: [u8; 32],
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", keyvigil_common::hex(&self.pin))
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
}

/// Certificate chain and key of a server.
#[derive(Debug)]
pub struct ServerIdentity {
    /// Leaf, then CA (so that a joining agent can compare its pin).
    pub chain: Vec<CertificateDer<'static>>,
    /// Key of the leaf.
    pub key: PrivateKeyDer<'static>,
    /// Unix ms.
    pub not_after_ms: i64,
}

impl Authority {
    /// Reads CA key and certificate from `dir` (`ca.key`, `ca.pem`), or makes them there.
    ///
    /// # Errors
    /// Files that cannot be read or written, or do not fit each other.
    pub fn load_or_create(dir: &Path, now_ms: i64) -> Result<Self, AuthorityError> {
        let (key_path, cert_path) = (dir.join("ca.key"), dir.join("ca.pem"));
        std::fs::create_dir_all(dir)?;
        if !key_path.exists() {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            write_private(&key_path, Zeroizing::new(key.serialize_pem()).as_bytes())?;
        }
        let key_pem = Zeroizing::new(std::fs::read_to_string(&key_path)?);
        let key = KeyPair::from_pem(&key_pem)?;
        // The file keeps the certificate that agents trust; the key is what binds, so the issuer may be made anew.
        let issuer = CertifiedIssuer::self_signed(ca_params(now_ms)?, key)?;
        let pem = match std::fs::read_to_string(&cert_path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                write_private(&cert_path, issuer.pem().as_bytes())?;
                issuer.pem()
            }
            Err(e) => return Err(e.into()),
        };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| AuthorityError::Pem(cert_path.display().to_string(), e.to_string()))?;
        let pin = spki_sha256(&certificate)?;
        if pin != spki_sha256(issuer.der())? {
            return Err(AuthorityError::Mismatch(dir.display().to_string()));
        }
        Ok(Self { issuer, certificate, pem, pin })
    }

    /// SHA-256 of the CA key's SubjectPublicKeyInfo.
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        self.pin
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
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
        let certificate = params.signed_by(&csr.public_key, &self.issuer)?;
        Ok(Issued { certificate: certificate.der().clone(), pem: certificate.pem(), not_after_ms })
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
        let leaf = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(ServerIdentity { chain: vec![leaf.der().clone(), self.certificate.clone()], key, not_after_ms })
    }
}

fn ia5(text: &str) -> Result<Ia5String, AuthorityError> {
    Ia5String::try_from(text.to_owned()).map_err(|_| AuthorityError::Name(text.to_owned()))
}

fn ca_params(now_ms: i64) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Keyvigil CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_times(&mut params, now_ms, now_ms + CA_DAYS * DAY_MS)?;
    Ok(params)
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
    Tls(#[from] keyvigil_common::tls::TlsError),
    /// A file that is not PEM.
    #[error("{0} is not a PEM certificate: {1}")]
    Pem(String, String),
    /// Key and certificate of different authorities.
    #[error("ca.key and ca.pem in {0} do not belong together: restore both from one backup")]
    Mismatch(String),
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
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509Certificate};

    const NOW: i64 = 1_763_836_800_000;

    #[test]
    fn the_ca_is_made_once_and_a_foreign_key_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path(), NOW).unwrap();
        let again = Authority::load_or_create(dir.path(), NOW + 86_400_000).unwrap();
        assert_eq!((first.pin(), first.certificate()), (again.pin(), again.certificate()));
        std::fs::write(dir.path().join("ca.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(matches!(Authority::load_or_create(dir.path(), NOW), Err(AuthorityError::Mismatch(_))));
    }

    #[test]
    fn what_a_request_asks_for_beside_its_key_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::load_or_create(dir.path(), NOW).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut greedy = CertificateParams::new(vec![AGGREGATOR_NAME.to_owned()]).unwrap();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let csr = greedy.serialize_request(&key).unwrap().pem().unwrap();
        let identity = Identity { tenant: "default".into(), agent: "ab".repeat(16) };
        let issued = ca.sign_agent(&csr, &identity, NOW, LEAF_DAYS * DAY_MS).unwrap();
        let (_, cert) = X509Certificate::from_der(&issued.certificate).unwrap();
        assert!(!cert.is_ca());
        assert!(!cert.extended_key_usage().unwrap().unwrap().value.server_auth);
        assert_eq!(Identity::from_certificate(&issued.certificate).unwrap(), identity);
        assert!(!format!("{:?}", cert.subject_alternative_name()).contains(AGGREGATOR_NAME));
        assert_eq!(cert.validity().not_after.timestamp() * 1_000, NOW + LEAF_DAYS * DAY_MS);
    }

    #[test]
    fn a_request_that_does_not_prove_its_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::load_or_create(dir.path(), NOW).unwrap();
        let csr = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
        let mut forged = csr.pem().unwrap().into_bytes();
        // A character in the last line of the signature.
        let at = forged.len() - 40;
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let pem = String::from_utf8(forged).unwrap();
        let identity = Identity { tenant: "default".into(), agent: "a".into() };
        assert!(ca.sign_agent(&pem, &identity, NOW, DAY_MS).is_err());
        assert!(ca.sign_agent("not pem", &identity, NOW, DAY_MS).is_err());
    }
}
