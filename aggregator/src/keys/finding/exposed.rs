//! Private keys that lie where others reach them: readable, replaceable, or without a password in a home directory. Reach
//! is what the agent worked out from the file and every directory above it; where it could not, the file's own mode is all
//! there is, and the finding says so.

use std::collections::BTreeMap;

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::KeyKind;

use super::super::name::{quoted, shown};
use super::super::{KeyRecord, PlaceRecord};
use super::view::{View, secret};
use super::{Draft, Finding};

const OTHERS_READ: u32 = 0o004;

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    let mut open = Vec::new();
    for key in view.own().filter(|key| key.facts.kind.is_private() && !key.facts.algorithm.ends_with("-sk")) {
        let files: Vec<&PlaceRecord> = secret(key).filter(|p| p.place.path_inside().starts_with('/')).collect();
        out.extend(readable(key, &files));
        out.extend(open_directory(key, &files));
        out.extend(unencrypted(key, &files));
        // sshd's directory is open to all by design; what a name there tells, everybody knows. Of a key that everybody reads or
        // replaces, worse is told.
        let is_listed = |p: &&PlaceRecord| p.place.reach.is_some_and(|r| r.list && !r.read && !r.write) && !p.place.path_inside().starts_with("/etc/ssh/");
        open.extend(files.into_iter().filter(is_listed).map(|place| (key, place)));
    }
    listed(&open, out);
}

/// Which key of which file, and what it is: a file may hold several, and not each secret is half of a pair.
fn called(key: &KeyRecord, at: &PlaceRecord) -> String {
    let what = if at.kind.unwrap_or(key.facts.kind) == KeyKind::SymmetricKey { "secret" } else { "private key" };
    let place = &at.place;
    match place.entry.as_deref().filter(|entry| !entry.is_empty()) {
        Some(entry) => format!("the {what} {} [{}]", place.path, shown(entry)),
        None if place.format.as_deref() == Some("jwks") => format!("the {what} {} [key {}]", place.path, place.slot + 1),
        None => format!("the {what} {}", place.path),
    }
}

fn readable(key: &KeyRecord, files: &[&PlaceRecord]) -> Option<Finding> {
    let known = |p: &PlaceRecord| p.place.reach.is_some();
    let by_mode = |p: &PlaceRecord| !known(p) && p.place.mode.is_some_and(|mode| mode & OTHERS_READ != 0);
    let mut places: Vec<&PlaceRecord> = files.iter().copied().filter(|p| p.place.reach.is_some_and(|r| r.read) || by_mode(p)).collect();
    // What is open to everybody is told of first, of that what is certain; whom a list of the file lets in was chosen.
    let by_list = |p: &PlaceRecord| known(p) && p.place.mode.is_some_and(|mode| mode & OTHERS_READ == 0);
    places.sort_by_key(|p| (by_list(p), !known(p)));
    let first = places.first()?;
    let (it, inside, sure, is_list) = (called(key, first), first.place.path_inside().to_owned(), known(first), by_list(first));
    let modes = first.place.mode.map(|mode| format!("{mode:04o}"));
    let severity = if sure && !is_list && key.facts.encrypted != Some(true) { Severity::Critical } else { Severity::Warning };
    let mut draft = Draft::about(FindingKind::PrivateKeyReadable, severity, key, places);
    draft =
        draft.with("judged by", if sure { "the file and every directory above it" } else { "the file's mode alone: a directory above may keep others out" });
    if let Some(mode) = modes {
        draft = draft.with("mode", mode);
    }
    if is_list {
        let title = format!("An access control list lets others read {it}{}", draft.on());
        return Some(draft.finish(title, format!("`getfacl {0}` tells whom; `setfacl -b {0}` takes the list away.", quoted(&inside))));
    }
    let title = format!("Every user can read {it}{}", draft.on());
    let after = if severity == Severity::Critical { " Then replace the key: who read it, has it." } else { "" };
    Some(draft.finish(title, format!("`chmod o-rwx {}`.{after}", quoted(&inside))))
}

fn open_directory(key: &KeyRecord, files: &[&PlaceRecord]) -> Option<Finding> {
    let written: Vec<&PlaceRecord> = files.iter().copied().filter(|p| p.place.reach.is_some_and(|r| r.write)).collect();
    if let Some(first) = written.first() {
        let (it, inside) = (called(key, first), first.place.path_inside().to_owned());
        let draft = Draft::about(FindingKind::PrivateKeyInOpenDirectory, Severity::Critical, key, written);
        let title = format!("Every user can replace {it}{}", draft.on());
        return Some(draft.finish(
            title,
            format!("Take the right to write from others, of the file and of each directory above it: `namei -l {}` shows them.", quoted(&inside)),
        ));
    }
    None
}

/// Directories of private keys that everybody may list, each once: what is closed in them stays closed, but its name is told.
fn listed(keys: &[(&KeyRecord, &PlaceRecord)], out: &mut Vec<Finding>) {
    let mut directories: BTreeMap<&str, Vec<(&KeyRecord, &PlaceRecord)>> = BTreeMap::new();
    for (key, place) in keys {
        let directory = place.place.path.rsplit_once('/').map_or("/", |(directory, _)| if directory.is_empty() { "/" } else { directory });
        directories.entry(directory).or_default().push((key, place));
    }
    for (directory, held) in directories {
        let mut keys: Vec<&KeyRecord> = held.iter().map(|(key, _)| *key).collect();
        keys.dedup_by_key(|key| &key.facts.id);
        let what = match keys[..] {
            [_] => format!("the private key {} lies", shown(held[0].1.place.path.rsplit('/').next().unwrap_or_default())),
            ref keys => format!("{} private keys lie", keys.len()),
        };
        let places = held.iter().map(|(_, place)| *place).collect();
        let draft = Draft { keys, places, ..Draft::new(FindingKind::PrivateKeyInOpenDirectory, Severity::Info, directory) };
        let title = format!("Every user can list {}, where {what}{}", shown(directory), draft.on());
        let inside = draft.places.first().map_or(directory, |p| p.place.path_inside().rsplit_once('/').map_or("/", |(inside, _)| inside)).to_owned();
        let inside = if inside.is_empty() { "/".to_owned() } else { inside };
        out.push(draft.finish(title, format!("`chmod o-rx {}`, if nothing else in it is for everybody.", quoted(&inside))));
    }
}

fn unencrypted(key: &KeyRecord, files: &[&PlaceRecord]) -> Option<Finding> {
    let concerned = matches!(key.facts.kind, KeyKind::PrivateKey | KeyKind::SshPrivateKey) && key.facts.encrypted == Some(false);
    let places: Vec<&PlaceRecord> = files.iter().copied().filter(|p| concerned && p.place.home.is_some()).collect();
    let first = places.first()?;
    let (path, inside, user) = (first.place.path.clone(), first.place.path_inside().to_owned(), first.place.home.clone().unwrap_or_default());
    // Services have homes too, and nobody there who could type a password.
    let person = places.iter().any(|p| ["/home/", "/root/"].iter().any(|home| p.place.path_inside().starts_with(home)));
    let severity = if person { Severity::Warning } else { Severity::Info };
    let draft = Draft::about(FindingKind::UnencryptedKeyInHome, severity, key, places).with("user", user.clone());
    let title = format!("The private key {path}{} of {user} needs no password", draft.on());
    let remedy = match key.facts.kind {
        KeyKind::SshPrivateKey => format!("`ssh-keygen -p -f {}` sets one; `ssh-agent` saves typing it.", quoted(&inside)),
        _ => format!("`openssl pkey -aes256 -in {} -out NEW` sets one.", quoted(&inside)),
    };
    Some(draft.finish(title, remedy))
}
