//! The keystore sensor: every key and certificate below the configured paths, where it lies, who may read it, and what
//! became of it since the last look. Reads only what changed; never keeps or sends a private byte; says what it could not
//! see. The parts: `walk` finds files, `reader` reads them, `parser` makes keys of them, `tracker` compares, `report` and `metrics` tell, `memory`
//! remembers over a restart, `watcher` and `watches` wake. Called by the sampler, on its timer and when poked.

mod catch_up;
mod debian;
mod disk;
mod memory;
mod metrics;
mod model;
mod owner;
mod pair;
mod parser;
mod pattern;
mod reader;
mod report;
#[cfg(test)]
mod tests;
mod tracker;
mod trouble;
mod walk;
mod watcher;
mod watches;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::key::Place;

use self::catch_up::FirstLook;
use self::disk::Disk;
use self::memory::Memory;
pub(super) use self::metrics::METRICS;
use self::metrics::Totals;
use self::model::{Observed, Scan};
use self::owner::Owners;
use self::parser::Parser;
use self::pattern::Pattern;
use self::reader::{Reader, text};
use self::tracker::{GRACE, Tracker};
use self::walk::{Found, Named, Root};
use self::watcher::{Wanted, Watcher};
use super::{At, Collector, Context, Poke, Sink};
use crate::rootfs::RootFs;

/// How often all keys are told again, so that an aggregator that lost its state heals.
const RESEND: Duration = Duration::from_secs(6 * 3_600);
/// When to look again after new watches were set.
const SOON: Duration = Duration::from_millis(300);

/// Sensor `keystore`. Its timer is for what the kernel does not tell of: network file systems, and too few watches.
#[derive(Debug)]
pub(super) struct Keystore {
    root: RootFs,
    paths: Vec<Pattern>,
    exclude: Vec<Pattern>,
    parser: Parser,
    started_ms: i64,
    tracker: Tracker,
    memory: Memory,
    /// While it is not known what a former process remembered.
    unknown_past: UnknownPast,
    reader: Reader,
    /// Directories of the files behind links, by link and file.
    link_targets: HashMap<(PathBuf, (u64, u64)), PathBuf>,
    watcher: Option<Watcher>,
    totals: Totals,
    /// When all keys were last told (monotonic).
    resent: Option<Duration>,
    /// For how long a scan takes.
    clock: SharedClock,
}

/// How far what a former process remembered is known.
#[derive(Debug)]
enum UnknownPast {
    /// It may be told before the first look.
    Untold,
    /// It was not: what that look found.
    Looked(FirstLook),
    /// It was told after it.
    Told(FirstLook, Vec<(String, Vec<u8>)>),
    /// It is known, or there is none.
    No,
}

impl Collector for Keystore {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        let begun = self.clock.monotonic();
        match Disk::open_root(&self.root) {
            Ok(disk) => self.scan(&disk, at, sink),
            Err(e) => return sink.absent("crypto.keystore", e),
        }
        if self.memory.roots.values().all(|existed| !existed) {
            return sink.absent("crypto.keystore", "none of the configured paths exists: name in [keystore] paths where the keys lie");
        }
        self.totals.write(self.started_ms, sink);
        metrics::write_inventory(&self.tracker, sink);
        metrics::write_scan(self.clock.monotonic().saturating_sub(begun), sink);
    }

    fn restore(&mut self, remembered: Vec<(String, Vec<u8>)>) {
        match std::mem::replace(&mut self.unknown_past, UnknownPast::No) {
            UnknownPast::Looked(first) => self.unknown_past = UnknownPast::Told(first, remembered),
            _ => (self.memory, self.tracker) = self.recall(remembered),
        }
    }

    fn on_change(&mut self, poke: Poke) {
        self.watcher = Some(Watcher::start(poke));
    }
}

impl Keystore {
    pub(super) fn new(context: &Context) -> Self {
        let patterns = |list: &[String]| list.iter().map(|text| Pattern::new(text)).collect();
        Self {
            root: context.root.clone(),
            paths: patterns(&context.keystore.paths),
            exclude: patterns(&context.keystore.exclude),
            parser: Parser::new(&context.root, &context.keystore.password),
            started_ms: context.started_ms,
            tracker: Tracker::default(),
            memory: Memory::default(),
            unknown_past: UnknownPast::Untold,
            reader: Reader::default(),
            link_targets: HashMap::new(),
            watcher: None,
            totals: Totals::default(),
            resent: None,
            clock: SystemClock::shared(),
        }
    }

    fn scan(&mut self, disk: &Disk, at: At, sink: &mut Sink) {
        let mut found = walk::walk(disk, &self.paths, &self.exclude);
        let names = found.files.iter().map(|file| text(&file.path)).collect();
        let links: Vec<Named> = found.files.iter().filter(|file| file.link).cloned().collect();
        let files = walk::one_name_each(std::mem::take(&mut found.files));
        let patterns: HashMap<String, usize> = files.iter().map(|file| (text(&file.path), file.pattern)).collect();
        self.reader.read(disk, at, &self.parser, files, &mut Owners::new(&self.root));
        self.parser.rest();

        let hides = found.troubles.iter().filter(|(_, trouble)| trouble.hides()).map(|(path, _)| path);
        let hidden: Vec<PathBuf> = hides.chain(&found.unvisited).cloned().collect();
        let mut scan = Scan { files: BTreeMap::new(), names, hidden: hidden.clone() };
        let known = &self.tracker.files;
        for (path, mut observed) in self.reader.observe(|path| known.contains_key(path)) {
            let was_looked_at = patterns.get(&path).is_some_and(|pattern| self.memory.roots.contains_key(&self.paths[*pattern].text));
            let was_hidden = self.memory.hidden.iter().any(|prefix| Path::new(&path).starts_with(prefix));
            observed.baseline = !was_looked_at || was_hidden;
            scan.files.insert(path, observed);
        }
        for (path, trouble) in &found.troubles {
            let path = text(path);
            let place = Place::at(path.clone());
            let troubles = std::slice::from_ref(trouble);
            scan.files.entry(path).or_insert(Observed { objects: &[], troubles, place, version: String::new(), fresh: true, baseline: false });
        }
        for (path, observed) in &scan.files {
            if let Some(trouble) = observed.troubles.iter().find(|trouble| trouble.hides()) {
                sink.absent(path, &trouble.detail);
            }
        }
        let changes = self.tracker.update(at, &scan);
        let before = self.memory.clone();
        self.catch_up(at, sink);
        report::report(changes, sink, &mut self.totals);
        self.resend(at, sink);
        if matches!(self.unknown_past, UnknownPast::Untold) {
            self.unknown_past = UnknownPast::Looked(FirstLook::of(&self.tracker, &hidden));
        }
        self.memory.hidden = hidden;
        self.roots(&found.roots, sink);
        self.memory.remember(&before, &mut self.tracker, sink);
        self.watch(disk, &found, &links, sink);
    }

    /// What a former process remembered.
    fn recall(&self, remembered: Vec<(String, Vec<u8>)>) -> (Memory, Tracker) {
        let mut tracker = Tracker::default();
        let memory = Memory::restore(remembered, &mut tracker);
        // What the configuration no longer names is not gone: nobody looks.
        let is_asked = |path: &Path| self.paths.iter().any(|p| p.covers(path)) && !self.exclude.iter().any(|p| p.covers(path));
        let dirty = &mut tracker.dirty;
        tracker.files.retain(|path, _| is_asked(Path::new(path)) || !dirty.insert(path.clone()));
        (memory, tracker)
    }

    /// Tells what had changed before the first look, where what was remembered came after it.
    fn catch_up(&mut self, at: At, sink: &mut Sink) {
        let (first, remembered) = match std::mem::replace(&mut self.unknown_past, UnknownPast::No) {
            UnknownPast::Told(first, remembered) => (first, remembered),
            other => return self.unknown_past = other,
        };
        let (memory, old) = self.recall(remembered);
        let gone = old.files.keys().chain(&old.dirty).filter(|path| !self.tracker.files.contains_key(*path));
        self.tracker.dirty.extend(gone.cloned().collect::<Vec<_>>());
        let was_looked_at = |path: &Path| self.paths.iter().any(|p| p.covers(path) && memory.roots.contains_key(&p.text));
        let changes = first.changes(old, &memory, was_looked_at, at);
        report::report(changes, sink, &mut self.totals);
        for (root, existed) in memory.roots {
            *self.memory.roots.entry(root).or_insert(false) |= existed;
        }
        // A key that went and came again since was told to be there before it is told to have gone.
        self.resent = None;
    }

    /// Tells all keys that this scan has not told, when it is time.
    fn resend(&mut self, at: At, sink: &mut Sink) {
        if self.resent.is_some_and(|resent| at.monotonic.saturating_sub(resent) < RESEND) {
            return;
        }
        self.resent = Some(at.monotonic);
        let told: HashSet<(String, u32)> =
            sink.sightings.iter().filter(|sighting| !sighting.gone).map(|sighting| (sighting.place.path.clone(), sighting.place.slot)).collect();
        for held in self.tracker.held().filter(|held| !told.contains(&(held.place.path.clone(), held.place.slot))) {
            report::sighting(sink, &held.facts, held.place.clone(), false, None);
        }
    }

    /// Whether each configured path could be looked at. One that never existed is nobody's loss.
    fn roots(&mut self, roots: &[Root], sink: &mut Sink) {
        for (pattern, root) in self.paths.iter().zip(roots) {
            let existed = self.memory.roots.entry(pattern.text.clone()).or_insert(false);
            *existed |= *root != Root::Missing;
            if !*existed {
                continue;
            }
            if *root == Root::Missing {
                sink.absent(&pattern.text, "there is nothing any more; remove the path from the configuration if that is meant");
            }
            let up = if *root == Root::Seen { 1.0 } else { 0.0 };
            sink.gauge(metrics::UP, &[("path", &metrics::tag(&pattern.text))], up);
        }
    }

    /// Has all directories watched in which something may change.
    fn watch(&mut self, disk: &Disk, found: &Found, links: &[Named], sink: &mut Sink) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut wanted = Wanted::default();
        for (path, which) in &found.directories {
            wanted.directories.insert(disk.real(path), *which);
            wanted.whole.insert(disk.real(path));
        }
        // Where a configured path, or the first missing part of it, would appear.
        for path in &found.asked {
            let is_there = |path: &&Path| path.parent().is_some_and(|above| disk.stat(above).is_ok());
            wanted.names.extend(path.ancestors().find(is_there).map(|path| disk.real(path)));
        }
        // Where links lead.
        let mut targets = HashMap::new();
        for link in links {
            let key = (link.path.clone(), link.stamp.identity());
            let target = self.link_targets.remove(&key).or_else(|| disk.target(&link.path).ok());
            wanted.names.extend(target.clone());
            targets.extend(target.map(|target| (key, target)));
        }
        self.link_targets = targets;
        let listed: HashSet<(u64, u64)> = wanted.directories.values().copied().collect();
        for parent in wanted.names.iter().filter_map(|path| path.parent()).map(Path::to_owned).collect::<HashSet<_>>() {
            // The kernel knows one watch per directory, whatever its names.
            let which = rustix::fs::stat(&parent).map(|stat| (stat.st_dev, stat.st_ino));
            wanted.directories.extend(which.ok().filter(|which| !listed.contains(which)).map(|which| (parent, which)));
        }
        let (fault, is_new) = watcher.watch(wanted);
        if let Some(fault) = fault {
            sink.absent("keystore watch", fault);
        }
        if self.tracker.is_waiting() {
            watcher.wake_in(GRACE);
        } else if is_new {
            watcher.wake_in(SOON);
        }
    }
}
