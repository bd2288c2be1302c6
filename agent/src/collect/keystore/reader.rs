//! Reads the files that a walk found, each only when it changed, and keeps what they held: facts, never bytes. Called by the
//! sensor at each scan.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyvigil_common::key::{KeyFacts, Place, Reach, Role, clamp_text};
use keyvigil_common::limits::{KEYSTORE_KEYS_MAX, KEYSTORE_REVOKED_MAX};
use keyvigil_common::revocation::Lists;

use super::budget::Budget;
use super::disk::{Contents, Disk, Stamp};
use super::model::{FilePlace, Object, Observed, Version};
use super::owner::Owners;
use super::parser::{Parser, PasswordFiles};
use super::pattern::is_missing;
use super::ring::Rings;
use super::shown::shown;
use super::trouble::{NOT_A_KEY, Trouble};
use super::walk::Named;
use crate::collect::At;
use crate::parse::acl::Acl;

/// A file that changed this shortly before it was read is read again: a second write may leave the same times.
pub(super) const RACY_NS: i128 = 2_000_000_000;

/// One look at the disk.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) disk: &'a Disk,
    pub(super) at: At,
    pub(super) budget: &'a Budget,
    pub(super) parser: &'a Parser,
}

/// What all files held when they were last read, by file.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Before each path: which host it is on, where it is another one.
    prefix: String,
    /// Where one has several names that are told, by each of these.
    files: HashMap<Which, Box<Held>>,
}

/// Which file, and which of its names.
type Which = ((u64, u64), usize);

/// What is known of a file beside what lies in it.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    pub(super) reach: Option<Reach>,
    pub(super) home: Option<String>,
    pub(super) used_by: Vec<String>,
    /// Authorities in it are there to be trusted.
    pub(super) is_trust: bool,
    /// Who names it as a key.
    pub(super) wants_key: Option<String>,
}

/// A file as it is, and which configured path led to it.
pub(super) struct Seen<'a> {
    pub(super) observed: Observed<'a>,
    pub(super) pattern: usize,
    /// Its last change, Unix ms.
    pub(super) changed_ms: i64,
}

/// What a file held.
#[derive(Debug)]
struct Held {
    /// The name it goes by.
    path: PathBuf,
    stamp: Stamp,
    /// Whom it lets in; `None` where that is not known.
    acl: Option<Acl>,
    pattern: usize,
    /// Its part of the places of its objects.
    place: Place,
    /// Need not be read again while its stamp stays.
    settled: bool,
    /// Password files for it as they were, where another password may mend something.
    keys: Option<PasswordFiles>,
    /// Was read in the latest scan.
    fresh: bool,
    /// Not found in the latest scan, which could not look there.
    hidden: bool,
    objects: Vec<Object>,
    /// What the file itself says, of those of `objects` of which others say more: a list that revokes them, a keyring.
    own: BTreeMap<usize, Arc<KeyFacts>>,
    troubles: Vec<Trouble>,
}

impl Reader {
    /// Of the host that `prefix` stands for.
    pub(super) fn of(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), files: HashMap::new() }
    }

    /// A path as it is shown.
    pub(super) fn name(&self, path: &Path) -> String {
        let mut name = self.prefix.clone();
        name.push_str(&shown(path));
        clamp_text(&mut name);
        name
    }

    /// Reads what changed among `files` and forgets what is not among them, where the walk looked; the files for which the time
    /// was too short.
    pub(super) fn read(&mut self, of: &Look<'_>, files: Vec<Named>, owners: &mut Owners<'_>, is_hidden: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        let mut before = std::mem::replace(&mut self.files, HashMap::with_capacity(files.len()));
        let (mut left, mut lines_left, mut changed) = (KEYSTORE_KEYS_MAX, KEYSTORE_REVOKED_MAX, false);
        let mut late = Vec::new();
        for file in files {
            let which = (file.stamp.identity(), file.nth);
            let mut held = match before.remove(&which) {
                // Its name may tell what its keys are there for.
                Some(mut held) if held.settled && held.stamp == file.stamp && held.path == file.path && held.has_same_passwords(of.parser) => {
                    (held.fresh, held.hidden, held.pattern) = (false, false, file.pattern);
                    held
                }
                // As it was, until there is time.
                Some(mut held) if of.budget.is_over() => {
                    late.push(file.path);
                    (held.settled, held.fresh, held.hidden) = (false, false, true);
                    held
                }
                None if of.budget.is_over() => {
                    late.push(file.path);
                    continue;
                }
                _ => match self.read_one(of, &file, owners) {
                    Some(held) => Box::new(held),
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
            self.files.insert(which, held);
        }
        changed |= !before.is_empty();
        for (which, mut held) in before.into_iter().filter(|(_, held)| is_hidden(&held.path)) {
            (held.fresh, held.hidden) = (false, true);
            self.files.entry(which).or_insert(held);
        }
        if changed {
            self.compare();
        }
        late
    }

    /// Takes in what lies around each file.
    pub(super) fn describe(&mut self, mut surroundings: impl FnMut(&Path, &Stamp, Option<&Acl>) -> Surroundings) {
        for held in self.files.values_mut().filter(|held| !held.hidden) {
            let Surroundings { reach, home, used_by, is_trust, wants_key } = surroundings(&held.path, &held.stamp, held.acl.as_ref());
            let role = if is_trust { Role::Trusted } else { Role::Held };
            let place = &mut held.place;
            if (&place.reach, &place.home, &place.used_by, place.role) != (&reach, &home, &used_by, role) {
                (place.reach, place.home, place.used_by, place.role) = (reach, home, used_by, role);
                held.fresh = true;
            }
            let is_empty = held.objects.is_empty() && held.troubles.iter().all(|trouble| trouble.reason == NOT_A_KEY);
            let trouble: Vec<Trouble> = wants_key.filter(|_| is_empty).map(|user| Trouble::not_a_key(&user)).into_iter().collect();
            if is_empty && held.troubles != trouble {
                (held.troubles, held.fresh) = (trouble, true);
            }
        }
    }

    /// Marks what the lists among the files revoke, and names private keys of `gpg-agent` by their keyrings. Whether a list was signed
    /// by its issuer is not checked here: who may write into the host's key directories needs no forged list.
    fn compare(&mut self) {
        let (mut lists, mut rings) = (Lists::default(), Rings::default());
        for held in self.files.values() {
            for (n, object) in held.objects.iter().enumerate() {
                object.revokes.iter().for_each(|lines| lists.add(&held.place.path, &object.facts, lines));
                rings.add(&held.path, object, held.own.get(&n).unwrap_or(&object.facts));
            }
        }
        for held in self.files.values_mut() {
            let Held { path, objects, own: before, fresh, .. } = &mut **held;
            if lists.is_empty() && rings.is_empty() && before.is_empty() {
                continue;
            }
            for (n, object) in objects.iter_mut().enumerate() {
                let own = before.remove(&n).unwrap_or_else(|| Arc::clone(&object.facts));
                let mut told = rings.complete(path, object, &own);
                // What says of itself that it is revoked needs no list.
                let known = told.as_ref().unwrap_or(&own);
                if let Some(by) = lists.find(known).filter(|_| known.revoked_ms.is_none()) {
                    told = Some(KeyFacts { revoked_ms: Some(by.at_ms), revocation: Some(by.sentence()), ..known.clone() });
                }
                let facts = match told {
                    Some(told) => {
                        before.insert(n, own);
                        Arc::new(told)
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
    pub(super) fn observe(&self, is_known: impl Fn(&str) -> bool) -> impl Iterator<Item = Seen<'_>> {
        self.files.values().filter(move |held| !held.objects.is_empty() || !held.troubles.is_empty() || is_known(&held.place.path)).map(|held| {
            let Stamp { device, inode, size, modified_ns, changed_ns, .. } = held.stamp;
            let version = Version { device, inode, size, modified_ns, changed_ns };
            let place = FilePlace::Held(&held.place);
            let shown = held.place.path.strip_prefix(&self.prefix).unwrap_or_default();
            let odd = Some(held.path.as_path()).filter(|path| *path != Path::new(shown));
            let observed = Observed { objects: &held.objects, odd, troubles: &held.troubles, place, version, fresh: held.fresh, baseline: false };
            Seen { observed, pattern: held.pattern, changed_ms: i64::try_from(changed_ns / 1_000_000).unwrap_or(0) }
        })
    }

    /// `None` where the file is gone again.
    fn read_one(&self, of: &Look<'_>, file: &Named, owners: &mut Owners<'_>) -> Option<Held> {
        let (mut objects, mut troubles, mut acl) = (Vec::new(), Vec::new(), None);
        let (stamp, settled) = match of.disk.read(&file.path) {
            Ok((stamp, contents)) => {
                match contents {
                    Contents::Other => {}
                    Contents::TooLarge(bytes) => troubles.push(Trouble::too_large(bytes)),
                    Contents::Bytes(bytes, list) => {
                        acl = list;
                        (objects, troubles) = of.parser.parse(&file.path, &bytes, stamp);
                    }
                }
                let age_ns = i128::from(of.at.wall_ms) * 1_000_000 - stamp.changed_ns.max(stamp.modified_ns);
                (stamp, age_ns >= RACY_NS)
            }
            Err(e) if is_missing(&e) => return None,
            // Asked again at each scan: a mount or a capability may help without changing the stamp.
            Err(e) => {
                troubles.push(Trouble::system(&e));
                (file.stamp, false)
            }
        };
        let place = Place {
            path: self.name(&file.path),
            slot: 0,
            owner: Some(owners.user(stamp.uid)),
            group: Some(owners.group(stamp.gid)),
            mode: Some(stamp.mode & 0o7777),
            modified_ms: i64::try_from(stamp.modified_ns / 1_000_000).ok(),
            ..Place::default()
        };
        Some(Held {
            path: file.path.clone(),
            stamp,
            acl,
            pattern: file.pattern,
            place,
            settled,
            keys: troubles.iter().any(Trouble::is_about_passwords).then(|| of.parser.password_files(&file.path)),
            fresh: true,
            hidden: false,
            objects,
            own: BTreeMap::new(),
            troubles,
        })
    }
}

impl Held {
    /// Whether no password has changed that might mend something.
    fn has_same_passwords(&self, parser: &Parser) -> bool {
        self.keys.as_ref().is_none_or(|keys| *keys == parser.password_files(&self.path))
    }

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
