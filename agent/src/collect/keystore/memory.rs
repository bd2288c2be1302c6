//! What the keystore sensor remembers over a restart, so that a rotation while the agent was down is still one: for each file
//! its keys, for each configured path that it was looked at. No secret can be in it. Called by the sensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use keyvigil_common::key::{KeyFacts, Place};
use keyvigil_common::limits::KEYSTORE_SIGHTINGS_MAX;
use serde::{Deserialize, Serialize};

use super::model::{FileState, Held};
use super::tracker::Tracker;
use crate::collect::Sink;

const FILE: &str = "file:";
const ROOT: &str = "root:";
const HIDDEN: &str = "hidden";
const KEPT: &str = "named";

/// One file.
#[derive(Serialize, Deserialize)]
struct File {
    keys: Vec<Key>,
    told: Option<String>,
    broken: usize,
}

/// One key in it.
#[derive(Serialize, Deserialize)]
struct Key {
    facts: KeyFacts,
    place: Place,
    expired: bool,
}

/// What is remembered beside the files.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    /// Configured paths that were looked at, and whether something was there.
    pub(super) roots: BTreeMap<String, bool>,
    /// Paths below which nobody has seen anything yet.
    pub(super) hidden: BTreeSet<PathBuf>,
    /// Key files outside of the configured paths that configurations have named, and that are still there.
    pub(super) kept: BTreeSet<String>,
}

impl Memory {
    /// Reads what a former process remembered. A part that cannot be read is as if it had not been: the next scan heals it.
    pub(super) fn restore(remembered: Vec<(String, Vec<u8>)>, tracker: &mut Tracker) -> Self {
        let mut memory = Self::default();
        for (key, value) in remembered {
            if let Some(path) = key.strip_prefix(FILE) {
                match serde_json::from_slice::<File>(&value) {
                    Ok(file) => drop(tracker.files.insert(path.to_owned(), file.into())),
                    Err(e) => tracing::warn!(path, fault = %e, "what was remembered of a key file does not parse"),
                }
            } else if let Some(root) = key.strip_prefix(ROOT) {
                memory.roots.insert(root.to_owned(), value == b"1");
            } else if key == HIDDEN {
                memory.hidden = serde_json::from_slice(&value).unwrap_or_default();
            } else if key == KEPT {
                memory.kept = serde_json::from_slice(&value).unwrap_or_default();
            }
        }
        memory
    }

    /// Remembers what is not yet `stored`. Of files that only were there, some at each look; until all of them are, it is not
    /// remembered that anybody looked there, so that after a restart they are not new.
    pub(super) fn remember(&self, stored: &mut Self, tracker: &mut Tracker, sink: &mut Sink) {
        let mut paths = std::mem::take(&mut tracker.dirty);
        let room = KEYSTORE_SIGHTINGS_MAX.saturating_sub(paths.len());
        paths.extend((0..room).map_while(|_| tracker.quiet.pop_first()));
        for path in paths {
            let value = tracker.files.get(&path).filter(|state| !state.objects.is_empty() || state.told.is_some());
            let bytes = value.and_then(|state| serde_json::to_vec(&File::from(state)).ok());
            // All of them are held until they are on disk.
            sink.remember(format!("{FILE}{path}"), bytes.map(|bytes| bytes.into_boxed_slice().into_vec()));
        }
        if !tracker.quiet.is_empty() {
            return;
        }
        let before = std::mem::replace(stored, self.clone());
        for (root, existed) in &self.roots {
            if before.roots.get(root) != Some(existed) {
                sink.remember(format!("{ROOT}{root}"), Some(if *existed { b"1".to_vec() } else { b"0".to_vec() }));
            }
        }
        if self.hidden != before.hidden {
            sink.remember(HIDDEN, serde_json::to_vec(&self.hidden).ok());
        }
        if self.kept != before.kept {
            sink.remember(KEPT, serde_json::to_vec(&self.kept).ok());
        }
    }
}

impl From<File> for FileState {
    fn from(file: File) -> Self {
        let held = |key: Key| Held { facts: Arc::new(key.facts), place: key.place, expired: key.expired, missing: None, succeeds: None };
        Self { objects: file.keys.into_iter().map(held).collect(), told: file.told, broken: file.broken, ..Self::default() }
    }
}

impl From<&FileState> for File {
    fn from(state: &FileState) -> Self {
        let key = |held: &Held| Key { facts: (*held.facts).clone(), place: held.place.clone(), expired: held.expired };
        Self { keys: state.objects.iter().map(key).collect(), told: state.told.clone(), broken: state.broken }
    }
}
