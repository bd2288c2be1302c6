//! The handshakes by which a server shows its certificate: TLS 1.3 by rustls, whatever is older in clear. Nothing is verified, since
//! what is wrong is to be seen; no certificate of a client is shown; nothing is sent once it stands. Called by the probe.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keyvigil_common::tls::provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::wire::{Hush, Wire};
use crate::parse::tls::{self, Keys};

/// What a server showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) protocol: String,
    pub(super) suite: Option<String>,
    /// DER, the leaf first.
    pub(super) chain: Vec<Vec<u8>>,
    /// A stapled OCSP answer, empty where there was none.
    pub(super) staple: Vec<u8>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Shown(Shown),
    /// TLS is spoken there, and no certificate shown: why.
    Refused(String),
    /// TLS is not spoken there.
    NotTls(String),
    /// Nothing was said that tells what is spoken there: why. It may be TLS, for others or at other times.
    Silent(String),
}

/// TLS 1.3.
pub(super) fn modern(wire: &mut Wire, (name, keys): (Option<&str>, Keys), first: Duration) -> Outcome {
    let recorder = Arc::new(Recorder { keys, seen: Mutex::default() });
    let mut connection = match connection(&recorder, name) {
        Ok(connection) => connection,
        Err(e) => return Outcome::Refused(e.to_string()),
    };
    let fault = converse(&mut connection, wire, first).err();
    let seen = recorder.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (seen, fault) {
        // What goes wrong after the certificate, as where one is asked of the client, is none of our business.
        (Some((chain, staple)), _) => {
            let suite = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1));
            Outcome::Shown(Shown { protocol: tls::version(0x0304), suite, chain, staple })
        }
        (None, Some(outcome)) => outcome,
        (None, None) => Outcome::Refused("shows no certificate".into()),
    }
}

fn connection(recorder: &Arc<Recorder>, name: Option<&str>) -> Result<ClientConnection, Error> {
    let mut crypto = Arc::unwrap_or_clone(provider());
    // The small key shares first: whoever insists on a large one asks for it.
    crypto.kx_groups.sort_by_key(|group| u16::from(group.name()) > 0x0100);
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto)).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::clone(recorder) as Arc<dyn ServerCertVerifier>).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_sni = name.is_some();
    let server = ServerName::try_from(name.unwrap_or("localhost").to_owned()).map_err(|_| Error::General("not a server name".into()))?;
    ClientConnection::new(Arc::new(config), server)
}

/// Talks until the handshake stands or fails.
fn converse(connection: &mut ClientConnection, wire: &mut Wire, first: Duration) -> Result<(), Outcome> {
    let (mut begun, mut patience) = (Vec::new(), first);
    loop {
        let mut out = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut out).map_err(|e| Outcome::Refused(e.to_string()))?;
        }
        let said = if out.is_empty() { Ok(()) } else { wire.say(&out) };
        if !connection.is_handshaking() {
            connection.send_close_notify();
            let mut bye = Vec::new();
            let _ = connection.write_tls(&mut bye);
            let _ = wire.say(&bye);
            return Ok(());
        }
        said.and_then(|()| if wire.inbox.is_empty() { wire.hear(patience) } else { Ok(()) }).map_err(|hush| hushed(hush, &begun))?;
        patience = Duration::MAX;
        let bytes = wire.take();
        begun.extend(bytes.iter().take(16_usize.saturating_sub(begun.len())));
        if !tls::is_record(&begun) {
            return Err(Outcome::NotTls(stranger(&begun)));
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            connection.read_tls(&mut rest).map_err(|e| Outcome::Refused(e.to_string()))?;
            connection.process_new_packets().map_err(|e| Outcome::Refused(refusal(&e)))?;
        }
    }
}

/// TLS 1.2 and older.
pub(super) fn old(wire: &mut Wire, (name, keys): (Option<&str>, Keys), first: Duration) -> Outcome {
    if let Err(hush) = wire.say(&tls::client_hello(name, keys, &random())) {
        return hushed(hush, &[]);
    }
    let mut patience = first;
    loop {
        match tls::read(&wire.inbox) {
            tls::Reading::More => {}
            tls::Reading::Done(hello) if hello.chain.is_empty() => return Outcome::Refused("shows no certificate".into()),
            tls::Reading::Done(tls::Hello { version, suite, chain, staple }) => {
                return Outcome::Shown(Shown { protocol: tls::version(version), suite: Some(tls::suite(suite)), chain, staple });
            }
            tls::Reading::Alert(code) => return Outcome::Refused(tls::alert(code)),
            tls::Reading::NotTls => return Outcome::NotTls(stranger(&wire.inbox)),
            tls::Reading::Broken(why) => return Outcome::Refused(why.into()),
        }
        if let Err(hush) = wire.hear(patience) {
            return hushed(hush, &wire.inbox);
        }
        patience = Duration::MAX;
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    // Of no secret: a server would take zeros as well.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

fn hushed(hush: Hush, begun: &[u8]) -> Outcome {
    match hush {
        Hush::Silence if begun.is_empty() => Outcome::Silent(hush.words().into()),
        _ => Outcome::Refused(hush.words().into()),
    }
}

/// What answers so is not TLS.
fn stranger(bytes: &[u8]) -> String {
    let text: String = bytes.iter().take(16).map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' }).collect();
    format!("answers {text:?}")
}

fn refusal(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => tls::alert(u8::from(*alert)),
        other => other.to_string(),
    }
}

/// Keeps what a server shows, and is content with it.
#[derive(Debug)]
struct Recorder {
    keys: Keys,
    seen: Mutex<Option<Recorded>>,
}

/// A chain, DER, and the stapled answer.
type Recorded = (Vec<Vec<u8>>, Vec<u8>);

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        staple: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(leaf).chain(others).map(|certificate| certificate.to_vec());
        let chain = chain.take(keyvigil_common::limits::SERVED_CHAIN_MAX + 1).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((chain, staple.to_vec()));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme as S;
        let edwards = [S::ED25519, S::ED448];
        let elliptic = [S::ECDSA_NISTP256_SHA256, S::ECDSA_NISTP384_SHA384, S::ECDSA_NISTP521_SHA512];
        let rsa = [S::RSA_PSS_SHA256, S::RSA_PSS_SHA384, S::RSA_PSS_SHA512, S::RSA_PKCS1_SHA256, S::RSA_PKCS1_SHA384, S::RSA_PKCS1_SHA512];
        // RSA-PSS keys, Brainpool curves, ML-DSA.
        let others = [0x0809, 0x080a, 0x080b, 0x081a, 0x081b, 0x081c, 0x0904, 0x0905, 0x0906, 0x0201, 0x0203].map(S::from);
        match self.keys {
            Keys::Any => elliptic.into_iter().chain(edwards).chain(rsa).chain(others).collect(),
            Keys::Rsa => rsa.to_vec(),
        }
    }
}
