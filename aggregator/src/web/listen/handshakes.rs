//! TLS handshakes that failed: counted by reason, and those that tell of a certificate logged in words. Of each reason one line
//! a minute, so that an agent which tries again for days, or a stranger, fills no disk.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::telemetry::{Number, Registry};
use keyvigil_common::tls::TlsError;
use rustls::CertificateError;

/// Least time between two lines of the log of one reason.
const LOG: Duration = Duration::from_secs(60);

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    UnknownCa,
    Expired,
    NotYetValid,
    WrongPurpose,
    BadCertificate,
    NoIdentity,
    WeAreNotTrusted,
    NotTls,
    HungUp,
    TooSlow,
}

/// All of them, with the label in `/metrics` and the words of the log; none for what tells of no certificate: probes of ports and
/// broken links are not worth a line.
const REASONS: [(Reason, &str, Option<&str>); 10] = [
    (Reason::UnknownCa, "unknown_ca", Some("its certificate is of a CA that is not trusted here: join the host to this aggregator")),
    (Reason::Expired, "expired", Some("its certificate ended longer ago than the grace for renewal: join the host again, or set its clock")),
    (Reason::NotYetValid, "not_yet_valid", Some("its certificate is not valid yet: compare the clocks")),
    (Reason::WrongPurpose, "wrong_purpose", Some("its certificate is not made for a client: it is no agent's")),
    (Reason::BadCertificate, "bad_certificate", Some("its certificate, or its proof that it has the key, is not valid")),
    (Reason::NoIdentity, "no_identity", Some("its certificate names no agent")),
    (
        Reason::WeAreNotTrusted,
        "not_trusted_by_peer",
        Some("it does not accept the certificate of the aggregator: it has joined another one, or its clock is wrong"),
    ),
    (Reason::NotTls, "not_tls", None),
    (Reason::HungUp, "hung_up", None),
    (Reason::TooSlow, "too_slow", None),
];

/// One reason.
#[derive(Debug)]
struct Kind {
    reason: Reason,
    words: Option<&'static str>,
    count: Number,
    /// When a line of it was logged, and how many came since.
    logged: Mutex<(Option<Duration>, u64)>,
}

/// The failed handshakes of all listeners.
#[derive(Debug)]
pub(super) struct Handshakes {
    clock: SharedClock,
    kinds: [Kind; REASONS.len()],
}

impl Handshakes {
    pub(super) fn new(clock: SharedClock, registry: &Registry) -> Self {
        let help = "TLS handshakes that failed, by reason.";
        let kinds = REASONS.map(|(reason, label, words)| {
            let count = registry.counter_by("keyvigil.tls.refused_total", help, ("reason", label));
            Kind { reason, words, count, logged: Mutex::default() }
        });
        Self { clock, kinds }
    }

    /// Counts one that failed, and logs it if it is due.
    pub(super) fn failed(&self, listener: &str, peer: SocketAddr, error: &(dyn Error + 'static)) {
        let reason = reason(error);
        let Some(kind) = self.kinds.iter().find(|kind| kind.reason == reason) else { return };
        kind.count.inc();
        let Some(words) = kind.words else { return };
        if let Some(unlogged) = kind.due(self.clock.monotonic()) {
            tracing::warn!(listener, peer = %peer, reason = words, unlogged, error = %error, "TLS handshake refused");
        }
    }
}

impl Kind {
    /// Whether a line may be logged: then how many were not since the last one.
    fn due(&self, now: Duration) -> Option<u64> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.0.is_some_and(|before| now.saturating_sub(before) < LOG) {
            logged.1 += 1;
            return None;
        }
        Some(std::mem::replace(&mut *logged, (Some(now), 0)).1)
    }
}

fn reason(error: &(dyn Error + 'static)) -> Reason {
    if error.is::<tokio::time::error::Elapsed>() {
        return Reason::TooSlow;
    }
    if let Some(TlsError::NoIdentity) = error.downcast_ref() {
        return Reason::NoIdentity;
    }
    if error.is::<TlsError>() {
        return Reason::BadCertificate;
    }
    // rustls's own error lies within one of the stream's.
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(fault)) => match fault {
            CertificateError::UnknownIssuer => Reason::UnknownCa,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Reason::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Reason::NotYetValid,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Reason::WrongPurpose,
            _ => Reason::BadCertificate,
        },
        Some(rustls::Error::AlertReceived(_)) => Reason::WeAreNotTrusted,
        Some(_) => Reason::NotTls,
        None => Reason::HungUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::clock::{Clock, ManualClock};

    fn wrapped(error: rustls::Error) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn each_reason_is_counted_and_told_once_a_minute_with_how_many_were_not() {
        let (clock, registry) = (ManualClock::at(1_763_836_800_000), Registry::default());
        let handshakes = Handshakes::new(clock.clone(), &registry);
        let peer = SocketAddr::from(([10, 0, 0, 7], 4_000));
        let expired = wrapped(CertificateError::Expired.into());
        for _ in 0..3 {
            handshakes.failed("ingest", peer, &expired);
        }
        handshakes.failed("ingest", peer, &wrapped(CertificateError::UnknownIssuer.into()));
        handshakes.failed("ingest", peer, &TlsError::NoIdentity);
        handshakes.failed("ingest", peer, &std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        let counts: Vec<_> = registry.all().iter().filter(|n| n.value.get() > 0).map(|n| (n.tag.unwrap().1, n.value.get())).collect();
        assert_eq!(counts, [("unknown_ca", 1), ("expired", 3), ("no_identity", 1), ("hung_up", 1)]);
        let kind = handshakes.kinds.iter().find(|kind| kind.reason == Reason::Expired).unwrap();
        assert_eq!(kind.due(clock.monotonic()), None, "a minute is not over");
        clock.advance(LOG);
        assert_eq!((kind.due(clock.monotonic()), kind.due(clock.monotonic())), (Some(3), None), "three were not told");
    }
}
