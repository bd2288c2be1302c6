//! Reads the files that a walk found, each only when it changed, and keeps what they held: facts, never bytes. Called by the
//! sensor at each scan.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use keyvigil_common::key::{Place, clamp_text};
use keyvigil_common::limits::KEYSTORE_KEYS_MAX;

use super::disk::{Contents, Disk, Stamp};
use super::model::{Object, Observed};
use super::owner::Owners;
use super::parser::{Parser, PasswordFiles};
use super::pattern::is_missing;
use super::trouble::Trouble;
use super::walk::Named;
use crate::collect::At;

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
    /// Password files for it as they were, where another password may mend something.
    keys: Option<PasswordFiles>,
    /// Was read in the latest scan, or got another name.
    fresh: bool,
    objects: Vec<Object>,
    troubles: Vec<Trouble>,
}

impl Reader {
    /// Reads what changed among `files` and forgets what is not among them.
    pub(super) fn read(&mut self, disk: &Disk, at: At, parser: &Parser, files: Vec<Named>, owners: &mut Owners<'_>) {
        let mut before = std::mem::take(&mut self.0);
        let mut left = KEYSTORE_KEYS_MAX;
        for file in files {
            let mut held = match before.remove(&file.stamp.identity()) {
                Some(mut held)
                    if held.settled && held.stamp == file.stamp && held.keys.as_ref().is_none_or(|keys| *keys == parser.password_files(&held.path)) =>
                {
                    held.fresh = held.path != file.path;
                    if held.fresh {
                        (held.place.path, held.path) = (text(&file.path), file.path);
                    }
                    held
                }
                _ => match read(disk, at, parser, file.path, file.stamp, owners) {
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
            // By the stamp of the walk: the file may be another one by now, and then the next scan reads it.
            self.0.insert(file.stamp.identity(), held);
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

/// A path as it is shown: bytes that are not UTF-8 are replaced, its length is bounded.
pub(super) fn text(path: &Path) -> String {
    let mut text = path.to_string_lossy().into_owned();
    clamp_text(&mut text);
    text
}

/// `None` where the file is gone again.
fn read(disk: &Disk, at: At, parser: &Parser, path: PathBuf, stamp: Stamp, owners: &mut Owners<'_>) -> Option<Held> {
    let (mut objects, mut troubles) = (Vec::new(), Vec::new());
    let (stamp, settled) = match disk.read(&path) {
        Ok((stamp, contents)) => {
            match contents {
                Contents::Other => {}
                Contents::TooLarge(bytes) => troubles.push(Trouble::too_large(bytes)),
                Contents::Bytes(bytes) => (objects, troubles) = parser.parse(&path, &bytes),
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
    let keys = troubles.iter().any(Trouble::is_about_passwords).then(|| parser.password_files(&path));
    Some(Held { path, stamp, place, settled, keys, fresh: true, objects, troubles })
}
