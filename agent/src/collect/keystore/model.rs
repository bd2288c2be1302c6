//! What the parts of the keystore sensor say to each other: files as a scan saw them, keys as they are held, and changes. No
//! I/O, no time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::crl::Lines;
use keyvigil_common::key::{KeyFacts, KeyKind, Place, Role};

use super::trouble::Trouble;
use crate::collect::At;
use crate::parse::{Found, Within};
use crate::probe::layout::generation;

/// A key in a place.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) facts: Arc<KeyFacts>,
    pub(super) place: Place,
    /// Its end has passed, and that was said or was so when it was found.
    pub(super) expired: bool,
    /// Not there since then (monotonic).
    pub(super) missing: Option<Duration>,
    /// Id of the key that it was told to succeed.
    pub(super) succeeds: Option<String>,
}

/// What is known of one file.
#[derive(Debug, Default)]
pub(super) struct FileState {
    pub(super) objects: Vec<Held>,
    /// Signature of the trouble that was reported.
    pub(super) told: Option<String>,
    /// Objects that could not be read when the others were last complete.
    pub(super) broken: usize,
    /// A trouble that may pass, and since when it has been seen.
    pub(super) waiting: Option<(String, Duration)>,
}

/// A key as a file held it.
#[derive(Debug, Clone)]
pub(super) struct Object {
    /// Which of the file's objects.
    pub(super) slot: u32,
    pub(super) facts: Arc<KeyFacts>,
    pub(super) within: Within,
    /// Of a revocation list: what it revokes.
    pub(super) revokes: Option<Arc<Lines>>,
}

/// One file as a scan saw it.
#[derive(Debug)]
pub(super) struct Observed<'a> {
    /// Objects that were read, with their slots.
    pub(super) objects: &'a [Object],
    /// Where it lies, where that is told as other text.
    pub(super) odd: Option<&'a Path>,
    /// What was not.
    pub(super) troubles: &'a [Trouble],
    /// The file's part of the places of its objects.
    pub(super) place: FilePlace<'a>,
    /// Changes whenever the file does.
    pub(super) version: Version,
    /// It may differ from the last scan.
    pub(super) fresh: bool,
    /// Found by looking where nobody looked before: its keys are not new, only new to us.
    pub(super) baseline: bool,
}

/// A file's part of the places of its objects: small, since there is one for each file at each look.
#[derive(Debug)]
pub(super) enum FilePlace<'a> {
    /// As the reader holds it.
    Held(&'a Place),
    /// Made for this look.
    Made(Box<Place>),
}

impl Deref for FilePlace<'_> {
    type Target = Place;

    fn deref(&self) -> &Place {
        match self {
            Self::Held(place) => place,
            Self::Made(place) => place,
        }
    }
}

/// Which file it was, and in which state.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Version {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified_ns: i128,
    pub(super) changed_ns: i128,
}

impl Version {
    /// As the kernel programs number it.
    pub(super) fn generation(&self) -> u64 {
        if self.inode == 0 { 0 } else { generation(self.inode, self.size, self.modified_ns, self.changed_ns) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inode == 0 { Ok(()) } else { write!(f, "{}:{}:{}:{}", self.device, self.inode, self.size, self.changed_ns) }
    }
}

/// What a scan did not see.
#[derive(Debug, Default, Clone)]
pub(super) struct Hidden {
    /// Paths below which nothing could be seen.
    pub(super) blocked: BTreeSet<PathBuf>,
    /// Those of them for which there only was no time.
    pub(super) late: BTreeSet<PathBuf>,
    /// Directories that were seen, if some were not: what lies right in them is not hidden by one above them.
    pub(super) visited: BTreeSet<PathBuf>,
}

impl Hidden {
    pub(super) fn covers(&self, path: &Path) -> bool {
        let nearest = |above: &Path| if self.blocked.contains(above) { Some(true) } else { self.visited.contains(above).then_some(false) };
        !self.blocked.is_empty() && path.ancestors().find_map(nearest).unwrap_or(false)
    }

    /// Adds what was hidden of another host.
    pub(super) fn add(&mut self, other: &Self) {
        self.blocked.extend(other.blocked.iter().cloned());
        self.late.extend(other.late.iter().cloned());
        self.visited.extend(other.visited.iter().cloned());
    }

    /// What nobody has seen yet, where `before` was not seen until now (`None`: nothing was): what lies there is not new when it is
    /// seen first.
    pub(super) fn unseen(&self, before: Option<&BTreeSet<PathBuf>>) -> BTreeSet<PathBuf> {
        let Some(before) = before else { return self.blocked.clone() };
        let is_new = |path: &&PathBuf| !self.late.contains(*path) || is_below(before, path);
        let still = before.iter().filter(|path| self.covers(path) && is_below(&self.late, path));
        self.blocked.iter().filter(is_new).chain(still).cloned().collect()
    }
}

/// Whether `path` is one of `prefixes`, or lies below one.
pub(super) fn is_below(prefixes: &BTreeSet<PathBuf>, path: &Path) -> bool {
    !prefixes.is_empty() && path.ancestors().any(|above| prefixes.contains(above))
}

/// All that a scan saw.
#[derive(Debug, Default)]
pub(super) struct Scan<'a> {
    pub(super) files: BTreeMap<String, Observed<'a>>,
    /// Other names of these files.
    pub(super) names: HashSet<String>,
    pub(super) hidden: Hidden,
}

/// A change of a key.
#[derive(Debug)]
pub(super) enum Change {
    /// Lies there: new to us, or some of its facts changed.
    Seen(Arc<KeyFacts>, Place),
    /// Was not there before.
    Created(Arc<KeyFacts>, Place),
    /// Took the place of another; `old_place` is where that one no longer lies. `told`: under another name of the new
    /// one.
    Rotated { old: Arc<KeyFacts>, old_place: Option<Box<Place>>, new: Arc<KeyFacts>, place: Place, told: bool },
    /// Is gone from there.
    Removed { facts: Arc<KeyFacts>, place: Place, moved_to: Option<String> },
    /// Lies elsewhere now, which other changes say.
    Left(Arc<KeyFacts>, Place),
    /// Nobody looks there any more; why.
    Unwatched(Arc<KeyFacts>, Place, String),
    /// A list says so now, or the key itself.
    Revoked(Arc<KeyFacts>, Place),
    /// Was revoked, and is no longer: what says so now, if anything does.
    Reinstated(Arc<KeyFacts>, Place, Option<String>),
    /// Its end has passed.
    Expired(Arc<KeyFacts>, Place),
    /// A private key that everyone may read.
    Exposed(Arc<KeyFacts>, Place),
    /// A file could not be read, or not all of it.
    Unreadable(String, Vec<Trouble>),
}

impl From<Found> for Object {
    fn from(Found { slot, mut facts, within, revokes }: Found) -> Self {
        // It is held as long as the file lies there.
        facts.sans.shrink_to_fit();
        facts.usage.shrink_to_fit();
        facts.revokes.shrink_to_fit();
        Self { slot, facts: Arc::new(facts), within, revokes }
    }
}

impl From<&Held> for Object {
    fn from(Held { facts, place, .. }: &Held) -> Self {
        let Place { format, entry, role, not_after_ms, options, .. } = place.clone();
        let within = Within { format, entry, role, not_after_ms, options };
        Self { slot: place.slot, facts: Arc::clone(facts), within, revokes: None }
    }
}

impl Object {
    /// Where it lies, of a file that lies at `file`.
    pub(super) fn place(&self, file: &Place) -> Place {
        let Within { format, entry, role, not_after_ms, options } = &self.within;
        // What the file is there for is said of authorities only: a key may lie beside them.
        let is_own = *role != Role::Held || self.facts.is_ca != Some(true);
        let role = if is_own { *role } else { file.role };
        Place { slot: self.slot, format: format.clone(), entry: entry.clone(), role, not_after_ms: *not_after_ms, options: options.clone(), ..file.clone() }
    }
}

impl Held {
    pub(super) fn new(facts: Arc<KeyFacts>, place: Place, at: At) -> Self {
        let expired = is_over(&facts, &place, at);
        Self { facts, place, expired, missing: None, succeeds: None }
    }
}

/// Which key it is.
pub(super) fn identity(facts: &KeyFacts) -> (String, KeyKind) {
    (facts.id.clone(), facts.kind)
}

/// Whether its end has passed, or the time for which it counts in that place.
pub(super) fn is_over(facts: &KeyFacts, place: &Place, at: At) -> bool {
    [facts.not_after_ms, place.not_after_ms].into_iter().flatten().any(|end| end <= at.wall_ms)
}

/// A secret that everyone on the host may read or change. What everyone would be allowed to, in a directory that is closed to
/// them, is no breach yet.
pub(super) fn is_exposed(facts: &KeyFacts, place: &Place) -> bool {
    let can = match place.reach {
        Some(reach) => reach.read || reach.write,
        None => place.mode.is_some_and(|mode| mode & 0o006 != 0),
    };
    facts.kind.is_private() && can
}
