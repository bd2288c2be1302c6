//! What it means that certificates were refused in a handshake: whose, why, and what there is to do.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// Why a certificate was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// By the clock of this host the aggregator's certificate has ended or has not begun.
    Clock,
    /// By the clock of the aggregator, this agent's certificate has ended, too long ago to be renewed.
    Expired,
    /// The aggregator does not accept this agent's certificate.
    Refused,
    /// The aggregator's certificate is of no CA that this agent trusts.
    Stranger,
}

impl Fault {
    /// Finds it among the causes of an error.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        match find(error)? {
            rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }) => Some(Self::Clock),
            rustls::Error::InvalidCertificate(_) => Some(Self::Stranger),
            rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => Some(Self::Expired),
            rustls::Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError,
            ) => Some(Self::Refused),
            _ => None,
        }
    }

    /// As problem documents call it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Stranger => "stranger",
        }
    }

    /// What to do.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Clock => {
                "by this host's clock the aggregator's certificate is not valid now: compare the clocks of both; the agent goes on by itself once they agree"
            }
            Self::Expired => "this agent's certificate ended too long ago to be renewed: join it again with a new token; its data is kept",
            Self::Refused => {
                "the aggregator does not accept this agent's certificate: if its CA was replaced while this host was off, join it again with a new token; its data is kept"
            }
            Self::Stranger => {
                "this is not the aggregator that this agent joined, or its CA was replaced while this host was off: then join again with a new token; its data is kept"
            }
        }
    }
}

/// An I/O error hides what it holds from `source`.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpError;

    #[test]
    fn whose_certificate_it_was_and_why_is_told_apart() {
        let of = |error: rustls::Error| {
            let source = io::Error::new(io::ErrorKind::InvalidData, error);
            Fault::of(&HttpError::Handshake { address: "a:1".into(), source })
        };
        assert_eq!(of(rustls::Error::InvalidCertificate(CertificateError::NotValidYet)), Some(Fault::Clock));
        assert_eq!(of(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)), Some(Fault::Stranger));
        assert_eq!(of(rustls::Error::AlertReceived(AlertDescription::CertificateExpired)), Some(Fault::Expired));
        assert_eq!(of(rustls::Error::AlertReceived(AlertDescription::UnknownCA)), Some(Fault::Refused));
        assert_eq!(of(rustls::Error::HandshakeNotComplete), None);
        assert_eq!(Fault::of(&HttpError::Timeout), None);
    }
}
