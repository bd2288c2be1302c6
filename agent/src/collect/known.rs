//! Which certificates lie on this host: written by the keystore sensor after each scan, read by the sensor of served certificates.
//! The one thing that two sensors share; neither knows the other.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyvigil_common::key::{KeyFacts, KeyKind, Place, Role};

use super::Poke;

/// A certificate in a file.
#[derive(Debug, Clone)]
pub(crate) struct KnownCertificate {
    pub(crate) facts: Arc<KeyFacts>,
    pub(crate) path: String,
    /// The file is the host's own; it does not only vouch for others.
    pub(crate) held: bool,
    /// Configurations that name the file.
    pub(crate) used_by: Vec<String>,
}

/// What lies here, as of the latest scan.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) certificates: Vec<KnownCertificate>,
    /// Fingerprints of the private keys.
    pub(crate) keys: HashSet<String>,
}

/// The handle of both.
#[derive(Debug, Clone, Default)]
pub struct KnownKeys(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    /// `None` before the first scan.
    latest: Option<Arc<Known>>,
    version: u64,
    poke: Option<Poke>,
}

impl KnownKeys {
    /// Replaces what is known; wakes who reads it where a certificate came, went or moved.
    pub(crate) fn write<'a>(&self, held: impl Iterator<Item = (&'a Arc<KeyFacts>, &'a Place)>) {
        let (mut known, mut hasher) = (Known::default(), DefaultHasher::new());
        for (facts, place) in held {
            if facts.kind.is_private() {
                known.keys.insert(facts.fingerprint.clone());
            } else if facts.kind == KeyKind::Certificate {
                (&facts.id, &place.path, place.role, &place.used_by).hash(&mut hasher);
                let (path, held, used_by) = (place.path.clone(), place.role == Role::Held, place.used_by.clone());
                known.certificates.push(KnownCertificate { facts: Arc::clone(facts), path, held, used_by });
            }
        }
        let version = hasher.finish();
        let mut shared = self.lock();
        let is_news = shared.latest.is_none() || shared.version != version;
        (shared.latest, shared.version) = (Some(Arc::new(known)), version);
        if is_news && let Some(poke) = &shared.poke {
            poke.poke();
        }
    }

    /// What the latest scan found; `None` where there was none yet.
    pub(crate) fn read(&self) -> Option<Arc<Known>> {
        self.lock().latest.clone()
    }

    /// Whom to wake.
    pub(crate) fn on_change(&self, poke: Poke) {
        self.lock().poke = Some(poke);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
