//! What the sites of one scan saw, as one: files with what is known of them, and what hides others. Called by the sensor.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use keyvigil_common::key::Place;
use keyvigil_common::limits::{KEYSTORE_NAMED_MAX, KEYSTORE_SCAN_SECONDS_MAX};

use super::memory::Memory;
use super::model::{FilePlace, Observed, Scan, Version, is_below};
use super::pattern::Pattern;
use super::reader::Seen;
use super::site::{Looked, Site};
use super::tracker::Tracker;
use crate::collect::Sink;

/// How coarse the kernel's times of changes are, ms.
const CTIME_MS: i64 = 100;

/// What was known before the scan.
pub(super) struct Before<'a> {
    pub(super) tracker: &'a Tracker,
    pub(super) memory: &'a Memory,
    pub(super) paths: &'a [Pattern],
    /// When the scan before it began, Unix ms.
    pub(super) looked_ms: Option<i64>,
}

/// A scan, and the files in it that only a configuration names.
pub(super) struct Gathered<'a> {
    pub(super) scan: Scan<'a>,
    pub(super) kept: BTreeSet<String>,
}

/// Puts together what each site saw, and says what could not be seen.
pub(super) fn gather<'a>(sites: &'a [Site], looks: &'a [io::Result<Looked>], before: &Before<'_>, sink: &mut Sink) -> Gathered<'a> {
    let mut gathered = Gathered { scan: Scan::default(), kept: BTreeSet::new() };
    for (site, looked) in sites.iter().zip(looks) {
        match looked {
            Ok(looked) => gathered.site(site, looked, before, sink),
            // It ends just now, most often.
            Err(e) => {
                sink.absent(&site.prefix, e);
                gathered.scan.hidden.blocked.insert(PathBuf::from(&site.prefix));
            }
        }
    }
    for (path, observed) in &gathered.scan.files {
        if let Some(trouble) = observed.troubles.iter().find(|trouble| trouble.hides) {
            sink.absent(path, &trouble.detail);
        }
    }
    gathered
}

impl<'a> Gathered<'a> {
    fn site(&mut self, site: &'a Site, looked: &'a Looked, before: &Before<'_>, sink: &mut Sink) {
        let known = &before.tracker.files;
        for mut seen in site.reader.observe(|path| known.contains_key(path)) {
            seen.observed.baseline = is_baseline(site, &seen, before);
            let path = seen.observed.place.path.clone();
            let is_named_only = seen.pattern >= before.paths.len() && site.prefix.is_empty();
            if is_named_only && !seen.observed.objects.is_empty() && self.kept.len() < KEYSTORE_NAMED_MAX {
                self.kept.insert(path.clone());
            }
            self.scan.files.insert(path, seen.observed);
        }
        for (path, trouble) in &looked.found.troubles {
            let path = site.reader.name(path);
            let place = FilePlace::Made(Box::new(Place::at(path.clone())));
            let troubles = std::slice::from_ref(trouble);
            let observed = Observed { objects: &[], odd: None, troubles, place, version: Version::default(), fresh: true, baseline: false };
            self.scan.files.entry(path).or_insert(observed);
        }
        self.scan.names.extend(looked.names.iter().cloned());
        self.scan.hidden.add(&looked.hidden);
        if let Some(late) = looked.late {
            let why = format!("a look may take {KEYSTORE_SCAN_SECONDS_MAX} s and was not done: {late} files and some directories wait for the next one");
            sink.absent(format!("keystore scan {}", site.prefix).trim_end(), why);
        }
    }
}

/// Whether nobody looked there before, so that its keys are only new to us.
fn is_baseline(site: &Site, seen: &Seen<'_>, before: &Before<'_>) -> bool {
    let was_not_asked = || match before.paths.get(seen.pattern) {
        Some(_) if !site.prefix.is_empty() => !site.is_known,
        Some(pattern) => !before.memory.roots.contains_key(&pattern.text),
        // Nobody knows how long a file was there that is named only now.
        None => before.looked_ms.is_none_or(|looked_ms| seen.changed_ms < looked_ms - CTIME_MS),
    };
    is_below(&before.memory.hidden, Path::new(&seen.observed.place.path)) || was_not_asked()
}
