//! What the sensor remembered, where that could be read only after it had looked already: the disk was away when the agent
//! started. What had changed until that first look is told late; what changed since was told when it did. Called by the sensor.

use std::collections::BTreeMap;
use std::path::Path;

use super::memory::Memory;
use super::model::{Change, FilePlace, Held, Hidden, Object, Observed, Scan, Version, is_below};
use super::tracker::{GRACE, Tracker};
use crate::collect::At;

/// What the first look found, kept until it is known what was remembered.
#[derive(Debug)]
pub(super) struct FirstLook {
    files: BTreeMap<String, Vec<Held>>,
    hidden: Hidden,
}

impl FirstLook {
    pub(super) fn of(tracker: &Tracker, hidden: &Hidden) -> Self {
        let files = tracker.files.iter().map(|(path, state)| (path.clone(), state.objects.clone()));
        Self { files: files.collect(), hidden: hidden.clone() }
    }

    /// What had changed from what was remembered, of files that `is_asked` for; `was_looked_at` says of a file whether a former
    /// process looked where it lies.
    pub(super) fn changes(&self, mut old: Tracker, memory: &Memory, was_looked_at: impl Fn(&Path) -> bool, at: At) -> Vec<Change> {
        let objects: BTreeMap<&String, Vec<Object>> = self.files.iter().map(|(path, held)| (path, held.iter().map(Object::from).collect())).collect();
        let mut scan = Scan { files: BTreeMap::new(), names: self.files.keys().cloned().collect(), hidden: self.hidden.clone() };
        for (path, held) in &self.files {
            let Some(place) = held.first().map(|held| held.place.clone()) else {
                // It could not be read: what lies in it is not known.
                scan.hidden.blocked.insert(path.into());
                continue;
            };
            let was_hidden = is_below(&memory.hidden, Path::new(path));
            let baseline = was_hidden || !was_looked_at(Path::new(path));
            let observed = Observed {
                objects: &objects[path],
                odd: None,
                troubles: &[],
                place: FilePlace::Made(Box::new(place)),
                version: Version::default(),
                fresh: true,
                baseline,
            };
            scan.files.insert(path.clone(), observed);
        }
        let mut changes = old.update(at, &scan);
        // Nothing moves any more in what was: whoever is missing is gone.
        changes.extend(old.update(At { monotonic: at.monotonic + GRACE, ..at }, &scan));
        // What the first look shows by itself was told then.
        changes.retain(|change| !matches!(change, Change::Seen(..) | Change::Exposed(..) | Change::Revoked(..) | Change::Unreadable(..)));
        changes
    }
}
