//! Which CAs there are and how far the replacement of one is: one file, `authority.json`, replaced as a whole, so that
//! whoever dies at any instant leaves the state before a step or the one after it. `ca.pem` is made from it, for people and
//! programs that want to know whom to trust.

use std::path::Path;
use std::sync::Arc;

use keyvigil_common::seal::write_private;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::ca::{Ca, StoredCa};
use super::{AuthorityError, Phase};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    phase: Phase,
    since_ms: i64,
    /// Place in `cas` of the one that signs.
    issuing: usize,
    /// Oldest first; one, or two during a replacement.
    cas: Vec<StoredCa>,
}

/// The state in memory.
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) since_ms: i64,
    pub(super) issuing: Arc<Ca>,
    /// Oldest first.
    pub(super) cas: Vec<Arc<Ca>>,
}

impl State {
    /// Reads the state, takes over that of an older version, or begins with a new CA.
    pub(super) fn load_or_create(dir: &Path, now_ms: i64) -> Result<Self, AuthorityError> {
        std::fs::create_dir_all(dir)?;
        let state = match std::fs::read(dir.join("authority.json")) {
            Ok(bytes) => Self::parse(&Zeroizing::new(bytes))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let state = Self::alone(Self::of_older_version(dir)?.map_or_else(|| Ca::make(now_ms), Ok)?, now_ms);
                state.save(dir)?;
                state
            }
            Err(e) => return Err(e.into()),
        };
        // A death between the two files, or after the first, is made good here; what one left half-written holds keys.
        state.publish(dir)?;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("authority.json.") {
                std::fs::remove_file(entry.path())?;
            }
        }
        match std::fs::remove_file(dir.join("ca.key")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(state),
        }
    }

    /// One CA, nothing under way.
    pub(super) fn alone(ca: Ca, now_ms: i64) -> Self {
        let ca = Arc::new(ca);
        Self { phase: Phase::Stable, since_ms: now_ms, issuing: Arc::clone(&ca), cas: vec![ca] }
    }

    fn of_older_version(dir: &Path) -> Result<Option<Ca>, AuthorityError> {
        let key = match std::fs::read_to_string(dir.join("ca.key")) {
            Ok(text) => Zeroizing::new(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let certificate = std::fs::read_to_string(dir.join("ca.pem"))?;
        Ca::open(StoredCa { key, certificate, cross: None }).map(Some)
    }

    fn parse(bytes: &[u8]) -> Result<Self, AuthorityError> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|e| AuthorityError::State(e.to_string()))?;
        if stored.version != VERSION {
            return Err(AuthorityError::State(format!("version {} is not known to this program", stored.version)));
        }
        let cas = stored.cas.into_iter().map(|ca| Ca::open(ca).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let issuing = cas.get(stored.issuing).cloned().ok_or_else(|| AuthorityError::State("it names no CA that signs".into()))?;
        Ok(Self { phase: stored.phase, since_ms: stored.since_ms, issuing, cas })
    }

    /// Makes this the state that the next start finds.
    pub(super) fn save(&self, dir: &Path) -> Result<(), AuthorityError> {
        let issuing = self.cas.iter().position(|ca| ca.id == self.issuing.id).unwrap_or_default();
        let cas = self.cas.iter().map(|ca| ca.stored.clone()).collect();
        let stored = Stored { version: VERSION, phase: self.phase, since_ms: self.since_ms, issuing, cas };
        let bytes = Zeroizing::new(serde_json::to_vec_pretty(&stored).map_err(|e| AuthorityError::State(e.to_string()))?);
        Ok(write_private(&dir.join("authority.json"), &bytes)?)
    }

    /// Writes `ca.pem`, if it is not so already.
    pub(super) fn publish(&self, dir: &Path) -> Result<(), AuthorityError> {
        let (path, pem) = (dir.join("ca.pem"), self.pem());
        if std::fs::read_to_string(&path).is_ok_and(|text| text == pem) {
            return Ok(());
        }
        Ok(write_private(&path, pem.as_bytes())?)
    }

    /// Certificates of all CAs, PEM.
    pub(super) fn pem(&self) -> String {
        self.cas.iter().map(|ca| ca.stored.certificate.as_str()).collect()
    }

    /// The same as DER.
    pub(super) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.cas.iter().map(|ca| ca.certificate.clone()).collect()
    }

    /// What a server shows after its leaf: the CA that signed it, its key certified by the other one for who does not know
    /// it yet, and the other one for who has its pin in a join token.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let mut chain = vec![self.issuing.certificate.clone()];
        chain.extend(self.issuing.cross.clone());
        chain.extend(self.cas.iter().filter(|ca| ca.id != self.issuing.id).map(|ca| ca.certificate.clone()));
        chain
    }
}
