//! Which certificates and private keys lie on this host: written by the keystore sensor after each scan, read by those of served certificates,
//! of access and of operations. The one thing that sensors share; none knows another.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyvigil_common::key::{KeyFacts, KeyKind, Place, Role};

use super::Poke;
use crate::rootfs::RootFs;

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
    /// Files with private keys: path as it is told, and the keys in it.
    pub(crate) private: BTreeMap<String, Vec<Arc<KeyFacts>>>,
    /// Where the root of each container lies that was looked at, by the prefix of its paths.
    pub(crate) roots: BTreeMap<String, PathBuf>,
    /// In which state these files were when they were read, as the kernel programs number it.
    pub(crate) generations: BTreeMap<String, u64>,
    /// Where those of them lie whose paths are told as other text than they are: names of any bytes, paths that are too long.
    pub(crate) odd: BTreeMap<String, PathBuf>,
}

impl Known {
    /// Whether a file lies in a container.
    pub(crate) fn is_inside(&self, path: &str) -> bool {
        self.roots.keys().any(|prefix| path.starts_with(prefix.as_str()))
    }

    /// Where a file lies as this process reaches it: of a container through the container's root.
    pub(crate) fn place(&self, path: &str, root: &RootFs) -> PathBuf {
        let odd = self.odd.get(path);
        let inside = self.roots.iter().find_map(|(prefix, root)| {
            let shown = path.strip_prefix(prefix.as_str())?;
            Some(RootFs::new(root).path(odd.map_or(Path::new(shown), PathBuf::as_path)))
        });
        inside.unwrap_or_else(|| root.path(odd.map_or(Path::new(path), PathBuf::as_path)))
    }
}

/// What the keystore sensor opens of the files that somebody else follows without being told by whom they are opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnReads(Arc<Mutex<HashMap<(u64, u64), u64>>>);

impl OwnReads {
    /// Opens a file (device and inode), and counts it where somebody follows it: nobody looks in between.
    pub(crate) fn opening<T>(&self, file: (u64, u64), open: impl FnOnce() -> T) -> T {
        let mut opens = self.lock();
        opens.get_mut(&file).into_iter().for_each(|count| *count += 1);
        open()
    }

    /// Opens of each file that is followed since whoever follows it looked last.
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<(u64, u64), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle of both.
#[derive(Debug, Clone, Default)]
pub struct KnownKeys(Arc<Mutex<Shared>>, OwnReads);

#[derive(Debug, Default)]
struct Shared {
    /// `None` before the first scan.
    latest: Option<Arc<Known>>,
    /// Another number with each change of the certificates, and of the private keys.
    versions: [u64; 2],
    pokes: [Option<Poke>; 3],
}

/// Who reads what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Certificates.
    Served,
    /// Files with private keys.
    Access,
    /// The same.
    Operations,
}

/// What a scan found beside the keys.
#[derive(Debug, Default)]
pub(crate) struct Around {
    /// As in [`Known`].
    pub(crate) roots: BTreeMap<String, PathBuf>,
    /// As in [`Known`].
    pub(crate) generations: BTreeMap<String, u64>,
    /// As in [`Known`].
    pub(crate) odd: BTreeMap<String, PathBuf>,
}

impl KnownKeys {
    /// Replaces what is known; wakes who reads it where a certificate came, went or moved, or a private key did.
    pub(crate) fn write<'a>(&self, held: impl Iterator<Item = (&'a Arc<KeyFacts>, &'a Place)>, around: Around) {
        let Around { roots, generations, odd } = around;
        let (mut known, mut hasher, mut private) = (Known { roots, generations, odd, ..Known::default() }, DefaultHasher::new(), DefaultHasher::new());
        for (facts, place) in held {
            if facts.kind.is_private() {
                known.keys.insert(facts.fingerprint.clone());
                (&facts.id, &place.path).hash(&mut private);
                known.private.entry(place.path.clone()).or_default().push(Arc::clone(facts));
            } else if facts.kind == KeyKind::Certificate {
                (&facts.id, &place.path, place.role, &place.used_by).hash(&mut hasher);
                let (path, held, used_by) = (place.path.clone(), place.role == Role::Held, place.used_by.clone());
                known.certificates.push(KnownCertificate { facts: Arc::clone(facts), path, held, used_by });
            }
        }
        let versions = [hasher.finish(), private.finish()];
        let mut shared = self.lock();
        let is_first = shared.latest.is_none();
        let [served, watched] = [0, 1].map(|of| is_first || shared.versions[of] != versions[of]);
        (shared.latest, shared.versions) = (Some(Arc::new(known)), versions);
        for (poke, _) in shared.pokes.iter().zip([served, watched, watched]).filter(|(_, is_news)| *is_news) {
            poke.iter().for_each(Poke::poke);
        }
    }

    /// What the latest scan found; `None` where there was none yet.
    pub(crate) fn read(&self) -> Option<Arc<Known>> {
        self.lock().latest.clone()
    }

    /// What is opened to find that out.
    pub(crate) fn own_reads(&self) -> OwnReads {
        self.1.clone()
    }

    /// Whom to wake.
    pub(crate) fn on_change(&self, who: Reads, poke: Poke) {
        self.lock().pokes[who as usize] = Some(poke);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
