//! What a certificate that was verified says: whose it is, who made it, and when it is good.

use x509_parser::prelude::ParsedExtension;

use super::{Identity, TlsError, parse};

/// The certificate that a peer showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Whose it is.
    pub identity: Identity,
    /// Serial number, hex.
    pub serial: String,
    /// Key identifier of the CA that signed it, hex; empty where it does not say.
    pub issuer: String,
    /// Unix ms.
    pub not_before_ms: i64,
    /// Unix ms.
    pub not_after_ms: i64,
}

/// Where an instant lies with respect to a certificate's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Within.
    Current,
    /// After its end.
    Ended,
    /// Before its beginning: one of the clocks was wrong when it was made, or is now.
    Early,
}

impl Shown {
    /// Reads a certificate that was verified.
    ///
    /// # Errors
    /// As [`Identity::from_certificate`].
    pub fn of(der: &[u8]) -> Result<Self, TlsError> {
        let identity = Identity::from_certificate(der)?;
        let cert = parse(der)?;
        let issuer = cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(aki) => aki.key_identifier.as_ref().map(|id| crate::hex(id.0)),
            _ => None,
        });
        let validity = cert.validity();
        Ok(Self {
            identity,
            serial: crate::hex(cert.raw_serial()),
            issuer: issuer.unwrap_or_default(),
            not_before_ms: validity.not_before.timestamp().saturating_mul(1_000),
            not_after_ms: validity.not_after.timestamp().saturating_mul(1_000),
        })
    }

    /// How it stands at `now_ms`.
    #[must_use]
    pub fn validity(&self, now_ms: i64) -> Validity {
        if now_ms < self.not_before_ms {
            Validity::Early
        } else if now_ms > self.not_after_ms {
            Validity::Ended
        } else {
            Validity::Current
        }
    }
}
