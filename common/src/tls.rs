//! TLS 1.3 between agent and aggregator: configurations made from certificates, who a certificate says it is, and the
//! verifier that joins a host by the pin of its join token. Certificates are values that the caller watches and replaces;
//! nothing here reads a file. What time it is, the caller's clock says.

mod grace;
mod shown;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::clock::SharedClock;
use grace::GraceVerifier;
pub use shown::{Shown, Validity};

/// The name by which agents know every aggregator, whatever its address: it stands in the aggregator's certificate, and
/// only the aggregator's own CA can put it there.
pub const AGGREGATOR_NAME: &str = "aggregator.keyvigil.internal";
const SPIFFE_PREFIX: &str = "spiffe://keyvigil/";

/// The provider of all cryptography in TLS.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Makes [`provider`] the process's default, for libraries that ask for it. First thing in each `main`.
pub fn install_provider() {
    // An error means that it was installed before.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The caller's clock, as rustls asks for it.
#[derive(Debug)]
struct Time(SharedClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        // Before 1970 nothing is valid, and at its first instant nothing either.
        Some(UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(self.0.now_ms()).unwrap_or(0))))
    }
}

/// Who an agent is: taken from its certificate, never from what it sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Whose data it delivers.
    pub tenant: String,
    /// Random identity given at enrolment, 32 hex digits.
    pub agent: String,
}

impl Identity {
    /// The identity as a subject alternative name of type URI.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SPIFFE_PREFIX}{}/agent/{}", self.tenant, self.agent)
    }

    /// Reads the identity out of a certificate that was verified.
    ///
    /// # Errors
    /// A certificate that does not parse, or has not exactly one such name.
    pub fn from_certificate(der: &[u8]) -> Result<Self, TlsError> {
        let cert = parse(der)?;
        let mut found = Vec::new();
        for extension in cert.extensions() {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
            found.extend(names.general_names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) => Self::from_uri(uri),
                _ => None,
            }));
        }
        match found.len() {
            1 => found.pop().ok_or(TlsError::NoIdentity),
            _ => Err(TlsError::NoIdentity),
        }
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let (tenant, agent) = uri.strip_prefix(SPIFFE_PREFIX)?.split_once("/agent/")?;
        let plain = |text: &str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (plain(tenant) && plain(agent)).then(|| Self { tenant: tenant.into(), agent: agent.into() })
    }
}

/// SHA-256 of the certificate's SubjectPublicKeyInfo: what a pin is.
///
/// # Errors
/// A certificate that does not parse.
pub fn spki_sha256(der: &[u8]) -> Result<[u8; 32], TlsError> {
    Ok(crate::sha256(parse(der)?.public_key().raw))
}

/// Start and end of the certificate's validity, Unix ms.
///
/// # Errors
/// A certificate that does not parse.
pub fn validity_ms(der: &[u8]) -> Result<(i64, i64), TlsError> {
    let cert = parse(der)?;
    let validity = cert.validity();
    Ok((validity.not_before.timestamp().saturating_mul(1_000), validity.not_after.timestamp().saturating_mul(1_000)))
}

/// The subject key identifier, hex; where a certificate has none, the start of its key's hash.
///
/// # Errors
/// A certificate that does not parse.
pub fn key_id(der: &[u8]) -> Result<String, TlsError> {
    let cert = parse(der)?;
    let stated = cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(crate::hex(id.0)),
        _ => None,
    });
    Ok(stated.unwrap_or_else(|| crate::hex(&crate::sha256(cert.public_key().raw)[..20])))
}

/// What tells one list of trusted CA certificates from another: SHA-256 over all of them, in their order.
#[must_use]
pub fn trusts(list: &[CertificateDer<'_>]) -> [u8; 32] {
    let all: Vec<u8> = list.iter().flat_map(|der| der.iter().copied()).collect();
    crate::sha256(&all)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, TlsError> {
    X509Certificate::from_der(der).map(|(_, cert)| cert).map_err(|e| TlsError::Parse(e.to_string()))
}

/// For the ingest listener: TLS 1.3, a client certificate from `client_roots` if one is shown (enrolment has none yet). One
/// that ended no longer than `grace` ago is let in too: the caller looks at [`Shown::validity`] for each request.
/// Sessions are not resumed, so that each connection verifies its client again.
///
/// # Errors
/// A key that does not fit the certificate, or no usable root.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_roots: &[CertificateDer<'static>],
    grace: Duration,
    clock: &SharedClock,
) -> Result<ServerConfig, TlsError> {
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_roots)?), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| TlsError::Config(e.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(Time(Arc::clone(clock))))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(GraceVerifier { inner, grace }))
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// For listeners without client certificates (the API on a public address): TLS 1.3.
///
/// # Errors
/// A key that does not fit the certificate.
pub fn web_config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// For the agent: TLS 1.3 to an aggregator whose certificate leads to one of `server_roots`.
///
/// # Errors
/// A key that does not fit the certificate, or no usable root.
pub fn client_config(
    server_roots: &[CertificateDer<'static>],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clock: &SharedClock,
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(Time(Arc::clone(clock))))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(server_roots)?)
        .with_client_auth_cert(chain, key)?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// For joining: the aggregator must show a chain whose CA key has the pinned SHA-256. Nothing secret is sent before that.
///
/// # Errors
/// Never in practice.
pub fn pinned_client_config(pin: [u8; 32], clock: &SharedClock) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(Time(Arc::clone(clock))))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinVerifier { pin, provider: provider() }))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The name to ask for in the handshake.
#[must_use]
pub fn aggregator_name() -> ServerName<'static> {
    #[expect(clippy::expect_used, reason = "a constant that the tests use")]
    ServerName::try_from(AGGREGATOR_NAME).expect("a valid DNS name")
}

fn roots(list: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in list {
        store.add(root.clone())?;
    }
    if store.is_empty() { Err(TlsError::Config("no CA certificate to trust".into())) } else { Ok(store) }
}

/// Finds the pinned CA among what the server shows, then verifies the rest against it as usual.
struct PinVerifier {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for PinVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinVerifier({})", crate::hex(&self.pin))
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|cert| spki_sha256(cert).is_ok_and(|hash| hash == self.pin));
        let Some(root) = pinned else { return Err(CertificateError::UnknownIssuer.into()) };
        let mut store = RootCertStore::empty();
        store.add(root.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&self.provider))
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        verifier.verify_server_cert(leaf, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What can be wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Does not parse.
    #[error("certificate does not parse: {0}")]
    Parse(String),
    /// Not an agent's.
    #[error("the certificate names no Keyvigil agent (subject alternative name {SPIFFE_PREFIX}<tenant>/agent/<id>)")]
    NoIdentity,
    /// Parts that do not fit.
    #[error("TLS configuration: {0}")]
    Config(String),
    /// From rustls.
    #[error("TLS")]
    Rustls(#[from] rustls::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = uris.iter().map(|u| SanType::URI((*u).try_into().unwrap())).collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn identity_is_read_from_the_certificate_and_nothing_vague_is_accepted() {
        let identity = Identity { tenant: "default".into(), agent: "0123abcd".into() };
        assert_eq!(Identity::from_certificate(&certificate(&[&identity.uri()])).unwrap(), identity);
        let vague = [
            vec!["spiffe://keyvigil/a/agent/1", "spiffe://keyvigil/b/agent/2"],
            vec!["spiffe://keyvigil/../agent/1"],
            vec!["spiffe://keyvigil//agent/1"],
            vec!["spiffe://other/a/agent/1"],
            vec![],
        ];
        for uris in vague {
            assert!(matches!(Identity::from_certificate(&certificate(&uris)), Err(TlsError::NoIdentity)), "{uris:?}");
        }
    }
}
