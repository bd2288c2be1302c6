//! The verifier of agents' certificates: as usual, but that a certificate whose only fault is its time is let in. Whoever
//! serves the connection looks at [`super::Shown::validity`] and allows such an agent nothing but a renewal. So an agent that
//! was off while its certificate ended comes back by itself.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};

use super::validity_ms;

/// Verifies as `inner` does, and certificates that are out of their time as of the nearest instant at which they were valid.
#[derive(Debug)]
pub(super) struct GraceVerifier {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    /// How long after its end a certificate is let in.
    pub(super) grace: Duration,
}

impl ClientCertVerifier for GraceVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>], now: UnixTime) -> Result<ClientCertVerified, rustls::Error> {
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        let refused = match self.inner.verify_client_cert(leaf, intermediates, now) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        let Ok((from_ms, to_ms)) = validity_ms(leaf) else { return Err(refused) };
        let seconds = |ms: i64| u64::try_from(ms / 1_000).unwrap_or(0);
        let as_of = match &refused {
            rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) if now.as_secs() <= seconds(to_ms).saturating_add(self.grace.as_secs()) => {
                seconds(to_ms)
            }
            rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => seconds(from_ms),
            _ => return Err(refused),
        };
        // All other faults are found here: a wrong use, a foreign CA.
        self.inner.verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(Duration::from_secs(as_of)))
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
