//! The keystore sensor: every key and certificate below the configured paths, where it lies, who may read it, and what
//! became of it since the last look. Reads only what changed; never keeps or sends a private byte; says what it could not
//! see. The parts: `site` looks at one host: `walk` finds files, `named` those that configurations name, `reader` reads
//! them, `parser` makes keys of them, `reach` says who else can. `tracker` compares, `report` and `metrics` tell, `memory` remembers over
//! a restart, `watcher` and `watches` wake. Called by the sampler, on its timer and when poked.

mod budget;
mod catch_up;
mod containers;
mod debian;
mod disk;
mod gather;
mod glob;
mod gone;
mod homes;
mod lineage;
mod memory;
mod metrics;
mod model;
mod named;
mod names;
pub(super) mod owner;
mod pair;
mod parser;
mod pattern;
mod places;
mod reach;
mod reader;
mod report;
mod revoked;
mod ring;
mod shown;
mod site;
#[cfg(test)]
mod tests;
mod tracker;
mod trouble;
mod walk;
mod watcher;
mod watches;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::limits::KEYSTORE_SIGHTINGS_MAX;

use self::budget::Budget;
use self::catch_up::FirstLook;
use self::containers::Containers;
use self::disk::Disk;
use self::gather::{Before, Gathered};
use self::glob::escape;
use self::homes::Homes;
use self::memory::Memory;
use self::metrics::Totals;
pub(super) use self::metrics::{METRICS, tag};
use self::model::{Change, Held};
use self::parser::Parser;
use self::pattern::Pattern;
pub(crate) use self::pattern::{covers_path as covers, is_pattern, missing};
use self::places::PLACES;
use self::site::{Looked, Site, Wanted as SiteWanted};
use self::tracker::{GRACE, Tracker};
pub(crate) use self::trouble::remedy;
use self::walk::Root;
use self::watcher::{Wanted, Watcher};
use super::known::Around;
use super::{At, Collector, Context, KnownKeys, Poke, Sink};
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
    /// The first of them that the administrator wrote: what is missing there is missed.
    own: usize,
    exclude: Vec<Pattern>,
    named: bool,
    containers: bool,
    parser: Parser,
    started_ms: i64,
    tracker: Tracker,
    memory: Memory,
    /// What of it was given away to be stored.
    stored: Memory,
    /// While it is not known what a former process remembered.
    unknown_past: UnknownPast,
    /// The host, and then its containers.
    sites: Vec<Site>,
    watcher: Option<Watcher>,
    totals: Totals,
    /// When all keys were last told (monotonic).
    resent: Option<Duration>,
    /// Files whose keys are to be told still.
    untold: BTreeSet<String>,
    /// When the latest scan began, Unix ms by our own clock.
    looked_ms: Option<i64>,
    /// For how long a scan takes.
    clock: SharedClock,
    /// Who else wants to know which certificates lie here.
    known: KnownKeys,
    /// Keys that were remembered, where nobody looks any more: to be told.
    unwatched: Vec<Change>,
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
        let budget = Budget::begin(&self.clock);
        if let Err(e) = self.scan(&budget, at, sink) {
            return sink.absent("crypto.keystore", e);
        }
        if self.memory.roots.values().all(|existed| !existed) && self.tracker.files.is_empty() {
            return sink.absent("crypto.keystore", "none of the configured paths exists: name in [keystore] paths where the keys lie");
        }
        self.totals.write(self.started_ms, sink);
        metrics::write_inventory(&self.tracker, sink);
        metrics::write_scan(budget.spent(), sink);
    }

    fn restore(&mut self, remembered: Vec<(String, Vec<u8>)>) {
        match std::mem::replace(&mut self.unknown_past, UnknownPast::No) {
            UnknownPast::Looked(first) => self.unknown_past = UnknownPast::Told(first, remembered),
            _ => {
                (self.memory, self.tracker) = self.recall(remembered);
                self.stored = self.memory.clone();
            }
        }
    }

    fn on_change(&mut self, poke: Poke) {
        self.watcher = Some(Watcher::start(poke));
    }
}

impl Keystore {
    pub(super) fn new(context: &Context) -> Self {
        let config = &context.keystore;
        let patterns = |list: &[String]| -> Vec<Pattern> { list.iter().map(|text| Pattern::new(text)).collect() };
        let (mut paths, own) = match &config.paths[..] {
            [] => (PLACES.iter().map(|text| Pattern::new(text)).collect(), PLACES.len()),
            paths => (patterns(paths), 0),
        };
        paths.extend(patterns(&config.extra_paths));
        Self {
            root: context.root.clone(),
            paths,
            own,
            exclude: patterns(&config.exclude),
            named: config.named_files,
            containers: config.containers,
            parser: Parser::new(&context.root, &config.password),
            started_ms: context.started_ms,
            tracker: Tracker::default(),
            memory: Memory::default(),
            stored: Memory::default(),
            unknown_past: UnknownPast::Untold,
            sites: vec![Site::new("", context.root.clone(), context.known.own_reads())],
            watcher: None,
            totals: Totals::default(),
            resent: None,
            untold: BTreeSet::new(),
            looked_ms: None,
            clock: SystemClock::shared(),
            known: context.known.clone(),
            unwatched: Vec::new(),
        }
    }

    fn scan(&mut self, budget: &Budget, at: At, sink: &mut Sink) -> io::Result<()> {
        let looked_ms = self.clock.now_ms();
        let ended = self.containers(sink);
        let kept: Vec<Pattern> = self.memory.kept.iter().map(|path| Pattern::new(&escape(path))).collect();
        let mut looks = Vec::new();
        for site in &mut self.sites {
            let kept = if site.prefix.is_empty() { &kept[..] } else { &[] };
            let wanted = SiteWanted { paths: &self.paths, exclude: &self.exclude, kept, named: self.named };
            let looked = site.look(wanted, at, budget, &self.parser);
            match looked {
                Err(e) if site.prefix.is_empty() => return Err(e),
                looked => looks.push(looked),
            }
        }
        self.parser.rest();
        let before = Before { tracker: &self.tracker, memory: &self.memory, paths: &self.paths, looked_ms: self.looked_ms };
        let Gathered { scan, mut kept } = gather::gather(&self.sites, &looks, &before, sink);
        let mut changes = self.tracker.leave_all(|path| ended(path));
        changes.append(&mut self.unwatched);
        changes.extend(self.tracker.update(at, &scan));
        let files = || scan.files.iter().filter(|(_, observed)| observed.objects.iter().any(|object| object.facts.kind.is_private()));
        let generations = files().map(|(path, observed)| (path.clone(), observed.version.generation())).collect();
        let odd = files().filter_map(|(path, observed)| Some((path.clone(), observed.odd?.to_owned()))).collect();
        let hidden = scan.hidden;
        let before = self.memory.clone();
        self.catch_up(at, sink);
        let changes = self.pace(changes);
        self.untold.append(&mut self.tracker.untold);
        report::report(changes, sink, &mut self.totals);
        self.resend(at, sink);
        if matches!(self.unknown_past, UnknownPast::Untold) {
            self.unknown_past = UnknownPast::Looked(FirstLook::of(&self.tracker, &hidden));
        }
        // One that is hidden now, or misses a moment, stays asked for.
        kept.extend(before.kept.iter().filter(|path| self.tracker.files.contains_key(*path)).cloned());
        let unseen = hidden.unseen(self.looked_ms.map(|_| &before.hidden));
        (self.memory.hidden, self.memory.kept) = (unseen, kept);
        let [Ok(host), ..] = &looks[..] else { return Ok(()) };
        self.roots(&host.found.roots, sink);
        self.memory.remember(&mut self.stored, &mut self.tracker, sink);
        let roots = self.sites.iter().skip(1).map(|site| (site.prefix.clone(), site.root.path("/"))).collect();
        self.known.write(self.tracker.held().map(|held| (&held.facts, &held.place)), Around { roots, generations, odd });
        self.watch(host, sink);
        self.sites.iter_mut().zip(&looks).for_each(|(site, looked)| site.is_known |= looked.is_ok());
        self.looked_ms = Some(looked_ms);
        Ok(())
    }

    /// Which containers there are now; of which paths it is known that theirs has ended.
    fn containers(&mut self, sink: &mut Sink) -> impl Fn(&str) -> bool + use<> {
        let found = if self.containers { containers::find(&self.root) } else { Ok(Containers::default()) };
        let Containers { running, blind } = match found {
            Ok(found) => found,
            Err(e) => Containers { blind: Some(e.to_string()), ..Containers::default() },
        };
        // Who cannot be seen may run still; but not whoever was seen by this process before.
        let is_sure = blind.is_none();
        if let Some(blind) = blind {
            sink.absent("containers", blind);
        }
        let gone = self.sites.extract_if(1.., |site| !running.contains_key(&site.prefix));
        let gone: Vec<String> = gone.map(|site| site.prefix).collect();
        let known: HashSet<String> = self.sites.iter().map(|site| site.prefix.clone()).collect();
        let new =
            running.iter().filter(|(prefix, _)| !known.contains(*prefix)).map(|(prefix, root)| Site::new(prefix, RootFs::new(root), self.known.own_reads()));
        self.sites.extend(new.collect::<Vec<_>>());
        // The process by which it is entered may be another one now.
        for site in &mut self.sites {
            site.enter(running.get(&site.prefix));
        }
        let lies_in = |prefixes: &[String], path: &str| prefixes.iter().any(|prefix| path.starts_with(prefix.as_str()));
        let running: Vec<String> = running.into_keys().collect();
        move |path| containers::is_inside(path) && !lies_in(&running, path) && (is_sure || lies_in(&gone, path))
    }

    /// What a former process remembered. Keys that lie where the configuration no longer looks leave the inventory: nobody removed
    /// them, and nobody would see it.
    fn recall(&mut self, remembered: Vec<(String, Vec<u8>)>) -> (Memory, Tracker) {
        let mut tracker = Tracker::default();
        let memory = Memory::restore(remembered, &mut tracker);
        let mut homes = Homes::default();
        drop(Disk::open_root(&self.root).map(|disk| homes.refresh(&disk)));
        let covering = |list: &[Pattern], path: &str| list.iter().find(|pattern| pattern.covers(Path::new(path), &homes)).map(|pattern| pattern.text.clone());
        let left_out = |path: &str| {
            let inner = containers::inner(path);
            let excluded = covering(&self.exclude, inner.unwrap_or(path)).map(|text| format!("the configuration excludes {text}"));
            let is_asked = inner.is_some() || memory.kept.contains(path) || covering(&self.paths, path).is_some();
            excluded.or_else(|| (!is_asked).then(|| "no path of the configuration leads there any more".to_owned()))
        };
        // What was told of a file without keys is forgotten by the next scan if it is not so any more.
        let why: Vec<(String, String)> =
            tracker.files.iter().filter(|(_, state)| !state.objects.is_empty()).filter_map(|(path, _)| Some((path.clone(), left_out(path)?))).collect();
        for (path, why) in why {
            let Some(state) = tracker.files.remove(&path) else { continue };
            self.unwatched.extend(state.objects.into_iter().map(|held| Change::Unwatched(held.facts, held.place, why.clone())));
            tracker.dirty.insert(path);
        }
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
        let homes = &self.sites[0].homes;
        let was_looked_at = |path: &Path| self.paths.iter().any(|p| memory.roots.contains_key(&p.text) && p.covers(path, homes));
        let mut changes = first.changes(old, &memory, was_looked_at, at);
        changes.append(&mut self.unwatched);
        report::report(changes, sink, &mut self.totals);
        for (root, existed) in memory.roots {
            *self.memory.roots.entry(root).or_insert(false) |= existed;
        }
        // A key that went and came again since was told to be there before it is told to have gone.
        self.resent = None;
    }

    /// Tells, when it is time, all keys that this scan has not told: some at each scan, until all are.
    fn resend(&mut self, at: At, sink: &mut Sink) {
        let told: HashSet<(String, u32)> =
            sink.sightings.iter().filter(|sighting| !sighting.gone).map(|sighting| (sighting.place.path.clone(), sighting.place.slot)).collect();
        let is_untold = |held: &&Held| held.missing.is_none() && !told.contains(&(held.place.path.clone(), held.place.slot));
        if self.resent.is_none_or(|resent| at.monotonic.saturating_sub(resent) >= RESEND) {
            self.resent = Some(at.monotonic);
            let untold = self.tracker.files.iter().filter(|(_, state)| state.objects.iter().any(|held| is_untold(&held)));
            self.untold.extend(untold.map(|(path, _)| path.clone()));
        }
        while sink.sightings.len() < KEYSTORE_SIGHTINGS_MAX {
            let Some(path) = self.untold.pop_first() else { return };
            let held = self.tracker.files.get(&path).into_iter().flat_map(|state| &state.objects);
            held.filter(is_untold).for_each(|held| report::sighting(sink, &held.facts, held.place.clone(), false, None));
        }
    }

    /// Of keys that are only told to be there, as many as fit; the others come later. What happened is told at once.
    fn pace(&mut self, changes: Vec<Change>) -> Vec<Change> {
        let mut left = KEYSTORE_SIGHTINGS_MAX;
        let mut now = |change: &Change| {
            let Change::Seen(_, place) = change else { return true };
            let fits = left.checked_sub(1);
            match fits {
                Some(rest) => left = rest,
                None => drop(self.untold.insert(place.path.clone())),
            }
            fits.is_some()
        };
        changes.into_iter().filter(|change| now(change)).collect()
    }

    /// Whether each configured path could be looked at. One that the administrator wrote in full is missed even if it never existed; one
    /// that is only usual, or a glob, once it did.
    fn roots(&mut self, roots: &[Root], sink: &mut Sink) {
        let homes = &self.sites[0].homes;
        for (at, (pattern, root)) in self.paths.iter().zip(roots).enumerate() {
            let existed = self.memory.roots.entry(pattern.text.clone()).or_insert(false);
            let is_excluded = || self.exclude.iter().any(|exclude| exclude.covers(Path::new(&pattern.text), homes));
            if *root == Root::Missing && (at < self.own || is_excluded()) {
                *existed = false;
                continue;
            }
            *existed |= *root != Root::Missing;
            if !*existed && !pattern.is_literal() {
                continue;
            }
            if *root == Root::Missing {
                let what = if *existed { "there is nothing any more" } else { "nothing is there, and nothing was" };
                sink.absent(&pattern.text, format!("{what}; mend the path in [keystore], or take it out if that is meant"));
            }
            let up = if *root == Root::Seen { 1.0 } else { 0.0 };
            sink.gauge(metrics::UP, &[("path", &tag(&pattern.text))], up);
        }
    }

    /// Has all directories of the host watched in which something may change.
    fn watch(&mut self, looked: &Looked, sink: &mut Sink) {
        let Some(watcher) = &mut self.watcher else { return };
        let Looked { disk, found, late, .. } = looked;
        let mut wanted = Wanted::default();
        for (path, which) in &found.directories {
            wanted.directories.insert(disk.real(path), *which);
            wanted.whole.insert(disk.real(path));
        }
        // Where a configured path, or the first missing part of it, would appear.
        let mut is_there: HashMap<&Path, bool> = HashMap::new();
        for path in &found.asked {
            let mut exists = |above| *is_there.entry(above).or_insert_with(|| disk.stat(above).is_ok());
            let first = path.ancestors().find(|path| path.parent().is_some_and(&mut exists));
            wanted.names.extend(first.map(|path| disk.real(path)));
        }
        // Where links lead.
        wanted.names.extend(self.sites[0].targets().map(|path| disk.real(path)));
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
        } else if is_new || late.is_some() || !self.untold.is_empty() || !self.tracker.quiet.is_empty() {
            watcher.wake_in(SOON);
        }
    }
}
