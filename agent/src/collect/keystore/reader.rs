//! Reads the files that a walk found, each only when it changed, and keeps what they held: facts, never bytes. Called by the
//! sensor at each scan.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyvigil_common::key::{KeyFacts, Place, clamp_text};
use keyvigil_common::limits::{KEYSTORE_KEYS_MAX, KEYSTORE_REVOKED_MAX};
use keyvigil_common::revocation::Lists;

use super::disk::{Contents, Disk, Stamp};
use super::model::{Object, Observed};
use super::owner::Owners;
use super::pattern::is_missing;
use super::trouble::Trouble;
use super::walk::Named;
use crate::collect::At;
use crate::parse;

/// A file that changed this shortly before it was read is read again: a second write may leave the same times.
const RACY_NS: i128 = 2_000_000_000;

/// What all files held when they were last read, by file.
#[derive(Debug, Default)]
pub(super) struct Reader(HashMap<(u64, u64), Held>);

/// What a file held.
#[derive(Debug)]
struct Held {
    /// The name it goes by.
    path: PathBuf,
    stamp: Stamp,
    /// Its part of the places of its objects.
    place: Place,
    /// Need not be read again while its stamp stays.
    settled: bool,
    /// Was read in the latest scan.
    fresh: bool,
    objects: Vec<Object>,
    /// What the file itself says, of those of `objects` that a list revokes.
    unrevoked: BTreeMap<usize, Arc<KeyFacts>>,
    troubles: Vec<Trouble>,
}

impl Reader {
    /// Reads what changed among `files` and forgets what is not among them.
    pub(super) fn read(&mut self, disk: &Disk, at: At, files: Vec<Named>, owners: &mut Owners<'_>) {
        let mut before = std::mem::take(&mut self.0);
        let (mut left, mut lines_left, mut changed) = (KEYSTORE_KEYS_MAX, KEYSTORE_REVOKED_MAX, false);
        for file in files {
            let mut held = match before.remove(&file.stamp.identity()) {
                // Its name may tell what its keys are there for.
                Some(held) if held.settled && held.stamp == file.stamp && held.path == file.path => Held { fresh: false, ..held },
                _ => match read(disk, at, file.path, file.stamp, owners) {
                    Some(held) => held,
                    None => continue,
                },
            };
            match left.checked_sub(held.objects.len()) {
                Some(rest) => left = rest,
                None => {
                    held.objects = Vec::new();
                    // Looked at again once there is room.
                    held.settled = false;
                    held.troubles =
                        vec![Trouble::limit(format!("more than {KEYSTORE_KEYS_MAX} keys lie below the configured paths; those of this file are left out"))];
                }
            }
            held.bound_lists(&mut lines_left);
            changed |= held.fresh;
            // By the stamp of the walk: the file may be another one by now, and then the next scan reads it.
            self.0.insert(file.stamp.identity(), held);
        }
        if changed || !before.is_empty() {
            self.revoke();
        }
    }

    /// Marks what the lists among the files revoke. Whether a list was signed by its issuer is not checked here: who may write
    /// into the host's key directories needs no forged list.
    fn revoke(&mut self) {
        let mut lists = Lists::default();
        for held in self.0.values() {
            for (object, lines) in held.objects.iter().filter_map(|object| Some((object, object.revokes.as_ref()?))) {
                lists.add(&held.place.path, &object.facts, lines);
            }
        }
        for Held { objects, unrevoked, fresh, .. } in self.0.values_mut() {
            if lists.is_empty() && unrevoked.is_empty() {
                continue;
            }
            for (n, object) in objects.iter_mut().enumerate() {
                let own = unrevoked.remove(&n).unwrap_or_else(|| Arc::clone(&object.facts));
                // What says of itself that it is revoked needs no list.
                let facts = match lists.find(&own).filter(|_| own.revoked_ms.is_none()) {
                    Some(by) => {
                        let revoked = KeyFacts { revoked_ms: Some(by.at_ms), revocation: Some(by.sentence()), ..(*own).clone() };
                        unrevoked.insert(n, own);
                        Arc::new(revoked)
                    }
                    None => own,
                };
                if facts != object.facts {
                    (object.facts, *fresh) = (facts, true);
                }
            }
        }
    }

    /// Each file that matters, with the parts that the tracker compares. Files without keys matter where `is_known` says that
    /// there were some.
    pub(super) fn observe(&self, is_known: impl Fn(&str) -> bool) -> impl Iterator<Item = (String, Observed<'_>)> {
        self.0.values().filter(move |held| !held.objects.is_empty() || !held.troubles.is_empty() || is_known(&held.place.path)).map(|held| {
            let stamp = &held.stamp;
            let version = format!("{}:{}:{}:{}", stamp.device, stamp.inode, stamp.size, stamp.changed_ns);
            let observed =
                Observed { objects: &held.objects, troubles: &held.troubles, place: held.place.clone(), version, fresh: held.fresh, baseline: false };
            (held.place.path.clone(), observed)
        })
    }
}

impl Held {
    /// Takes the lines of its lists from what is left, or leaves a list out and says so.
    fn bound_lists(&mut self, left: &mut usize) {
        for object in &mut self.objects {
            let count = object.revokes.as_ref().map_or(0, |lines| lines.len());
            match left.checked_sub(count) {
                Some(rest) => *left = rest,
                None => {
                    object.revokes = None;
                    self.settled = false;
                    let why = format!("revocation lists with more than {KEYSTORE_REVOKED_MAX} lines in all; the {count} of this one are not looked up");
                    self.troubles.push(Trouble::limit(why));
                }
            }
        }
    }
}

/// A path as it is shown: bytes that are not UTF-8 are replaced, its length is bounded.
pub(super) fn text(path: &Path) -> String {
    let mut text = path.to_string_lossy().into_owned();
    clamp_text(&mut text);
    text
}

/// `None` where the file is gone again.
fn read(disk: &Disk, at: At, path: PathBuf, stamp: Stamp, owners: &mut Owners<'_>) -> Option<Held> {
    let (mut objects, mut troubles) = (Vec::new(), Vec::new());
    let (stamp, settled) = match disk.read(&path) {
        Ok((stamp, contents)) => {
            match contents {
                Contents::Other => {}
                Contents::TooLarge(bytes) => troubles.push(Trouble::too_large(bytes)),
                Contents::Bytes(bytes) => {
                    let parsed = parse::keys(&bytes, &path).dated(i64::try_from(stamp.modified_ns / 1_000_000).ok());
                    objects = parsed.objects.into_iter().map(Object::from).collect();
                    troubles = parsed.faults.iter().map(Trouble::fault).collect();
                }
            }
            let age_ns = i128::from(at.wall_ms) * 1_000_000 - stamp.changed_ns.max(stamp.modified_ns);
            (stamp, age_ns >= RACY_NS)
        }
        Err(e) if is_missing(&e) => return None,
        // Asked again at each scan: a mount or a capability may help without changing the stamp.
        Err(e) => {
            troubles.push(Trouble::system(&e));
            (stamp, false)
        }
    };
    let place = Place {
        path: text(&path),
        slot: 0,
        owner: Some(owners.user(stamp.uid)),
        group: Some(owners.group(stamp.gid)),
        mode: Some(stamp.mode & 0o7777),
        modified_ms: i64::try_from(stamp.modified_ns / 1_000_000).ok(),
        ..Place::default()
    };
    Some(Held { path, stamp, place, settled, fresh: true, objects, unrevoked: BTreeMap::new(), troubles })
}
