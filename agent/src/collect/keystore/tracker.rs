//! What lay where, and what changed since: turns the files of a scan into changes of keys. Pure: no I/O, time is an
//! argument. Says that a key is gone only where it looked, and only after a moment in which its successor may come. Called by
//! the sensor once a scan.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::key::{KeyFacts, KeyKind};

use super::gone::Gone;
use super::lineage::{Lineage, Lost};
use super::model::{Change, FileState, Held, Observed, Scan, identity, is_exposed, is_over};
use super::pair::pair;
use super::revoked::{Marks, is_orphaned};
use super::trouble::Trouble;
use crate::collect::At;
use crate::parse::private_key::ENCRYPTED;

/// How long a place may be empty, or a file broken, before that is said: programs write files in several steps.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// The sensor's knowledge.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    pub(super) files: BTreeMap<String, FileState>,
    /// Files whose state changed since it was last remembered.
    pub(super) dirty: BTreeSet<String>,
    /// Those whose keys only were there when somebody looked first: they may be remembered later.
    pub(super) quiet: BTreeSet<String>,
    /// The same until they are told, which may be later too.
    pub(super) untold: BTreeSet<String>,
    /// Keys that were told to be gone.
    gone: Gone,
}

/// A key that was not in its file before.
struct Arrival {
    path: String,
    held: Held,
    baseline: bool,
}

impl Tracker {
    /// Takes in a scan; what changed.
    pub(super) fn update(&mut self, at: At, scan: &Scan<'_>) -> Vec<Change> {
        self.gone.forget(at.monotonic);
        let mut changes = Vec::new();
        let mut arrivals = Vec::new();
        let mut lost = Lost::new();
        // Then nothing can have come from elsewhere.
        let is_first = self.files.is_empty();
        let marks = Marks::of(scan);
        for (path, observed) in &scan.files {
            let is_same = |state: &FileState| state.waiting.is_none() && state.objects.iter().all(|held| held.missing.is_none() && !is_orphaned(held));
            if !observed.fresh && self.files.get(path).is_none_or(is_same) {
                continue;
            }
            let state = self.files.entry(path.clone()).or_default();
            let named = state.objects.iter().flat_map(|held| &held.place.used_by).filter(|user| !observed.place.used_by.contains(user));
            let named: Vec<String> = named.cloned().collect();
            if !named.is_empty() {
                lost.insert(path.clone(), named);
            }
            let before = changes.len();
            let told = state.told.clone();
            Self::file(state, at, (path, observed, &marks), &mut changes, &mut arrivals);
            if changes.len() != before || told != state.told {
                self.dirty.insert(path.clone());
            }
            if is_first {
                let found: Vec<Arrival> = arrivals.extract_if(.., |arrival| arrival.baseline).collect();
                found.into_iter().for_each(|arrival| self.find(arrival, &mut changes));
            }
        }
        self.absent_files(at, scan);
        self.settle(arrivals, scan, &lost, &mut changes);
        self.forget(at, &mut changes);
        self.expire(at, &mut changes);
        changes
    }

    /// Forgets all that lies on a host that is no longer there.
    pub(super) fn leave_all(&mut self, is_gone: impl Fn(&str) -> bool) -> Vec<Change> {
        let gone: Vec<String> = self.files.keys().filter(|path| is_gone(path)).cloned().collect();
        let mut changes = Vec::new();
        for path in gone {
            let objects = self.files.remove(&path).unwrap_or_default().objects;
            changes.extend(objects.into_iter().map(|held| Change::Left(held.facts, held.place)));
            self.dirty.insert(path);
        }
        changes
    }

    /// Whether something waits for its moment to pass.
    pub(super) fn is_waiting(&self) -> bool {
        self.files.values().any(|state| state.waiting.is_some() || state.objects.iter().any(|held| held.missing.is_some()))
    }

    /// All keys that lie where they were last seen.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        self.files.values().flat_map(|state| &state.objects).filter(|held| held.missing.is_none())
    }

    fn file(state: &mut FileState, at: At, (path, observed, marks): (&str, &Observed<'_>, &Marks<'_>), changes: &mut Vec<Change>, arrivals: &mut Vec<Arrival>) {
        let was_closed = state.told.as_deref().is_some_and(Trouble::was_about_passwords);
        let is_closed = observed.troubles.iter().any(Trouble::is_about_passwords);
        let was_hidden = state.told.as_deref().is_some_and(Trouble::hid);
        Self::troubles(state, at, path, observed, changes);
        let old: Vec<(u32, &KeyFacts)> = state.objects.iter().map(|held| (held.place.slot, held.facts.as_ref())).collect();
        let new: Vec<(u32, &KeyFacts)> = observed.objects.iter().map(|object| (object.slot, object.facts.as_ref())).collect();
        let pairs = pair(&old, &new);
        let place = |n: usize| observed.objects[n].place(&observed.place);
        let facts = |n: usize| Arc::clone(&observed.objects[n].facts);
        // First, so that of two equal objects that both moved up none is lost.
        for (o, n) in &pairs.same {
            let held = &state.objects[*o];
            if held.place.slot != observed.objects[*n].slot {
                changes.push(Change::Left(Arc::clone(&held.facts), held.place.clone()));
            }
        }
        for (o, n) in pairs.same {
            let held = &mut state.objects[o];
            let (facts, place) = (marks.kept(&held.facts, facts(n)), place(n));
            if held.place != place || *held.facts != *facts {
                if held.facts.revoked_ms.is_none() && facts.revoked_ms.is_some() {
                    changes.push(Change::Revoked(Arc::clone(&facts), place.clone()));
                }
                changes.extend(marks.lifted(&held.facts, &facts, &place));
                if is_exposed(&held.facts, &place) && !is_exposed(&held.facts, &held.place) {
                    changes.push(Change::Exposed(Arc::clone(&facts), place.clone()));
                }
                changes.push(Change::Seen(Arc::clone(&facts), place.clone()));
            }
            (held.facts, held.place, held.missing) = (facts, place, None);
            held.expired &= is_over(&held.facts, &held.place, at);
        }
        for (o, n) in pairs.replaced {
            let held = Held::new(facts(n), place(n), at);
            if is_closed && held.facts.algorithm == ENCRYPTED {
                // The store does not open any more: the key is taken for what it was.
                continue;
            }
            let old = std::mem::replace(&mut state.objects[o], held);
            let new = &state.objects[o];
            if was_closed && old.facts.algorithm == ENCRYPTED || is_named_anew(&old.facts, &new.facts) {
                // Known by its block before, and now that its store opens by itself; or by a keyring that was not there yet.
                changes.extend([Change::Left(old.facts, old.place), Change::Seen(Arc::clone(&new.facts), new.place.clone())]);
                continue;
            }
            if is_exposed(&new.facts, &new.place) {
                changes.push(Change::Exposed(Arc::clone(&new.facts), new.place.clone()));
            }
            if new.facts.revoked_ms.is_some() {
                changes.push(Change::Revoked(Arc::clone(&new.facts), new.place.clone()));
            }
            changes.push(Change::Rotated {
                old: old.facts,
                old_place: Some(Box::new(old.place)),
                new: Arc::clone(&new.facts),
                place: new.place.clone(),
                told: false,
            });
        }
        Self::miss(state, at, observed.troubles, &pairs.gone);
        let baseline = observed.baseline || was_hidden;
        arrivals.extend(pairs.new.into_iter().map(|n| Arrival { path: path.to_owned(), held: Held::new(facts(n), place(n), at), baseline }));
    }

    /// Marks keys that are no longer in their file: what is missed may lie behind an object that cannot be read any more.
    fn miss(state: &mut FileState, at: At, troubles: &[Trouble], gone: &[usize]) {
        let broken = troubles.iter().filter(|trouble| !trouble.is_no_file()).count();
        if gone.is_empty() {
            state.broken = broken;
            return;
        }
        for o in gone {
            let missing = &mut state.objects[*o].missing;
            *missing = if broken <= state.broken { missing.or(Some(at.monotonic)) } else { None };
        }
    }

    /// Reports a file's troubles once for each of its versions, and those that may pass only when they have not.
    fn troubles(state: &mut FileState, at: At, path: &str, observed: &Observed<'_>, changes: &mut Vec<Change>) {
        let Some(first) = observed.troubles.first() else {
            (state.told, state.waiting) = (None, None);
            return;
        };
        let signature = format!("{} {} {}", first.reason, observed.troubles.len(), observed.version);
        if state.told.as_ref() == Some(&signature) {
            return;
        }
        let grace_ms = i64::try_from(GRACE.as_millis()).unwrap_or(i64::MAX);
        let is_settled = observed.place.modified_ms.is_some_and(|modified| at.wall_ms.saturating_sub(modified) >= grace_ms);
        if observed.troubles.iter().all(Trouble::may_pass) && !is_settled {
            match &state.waiting {
                Some((waiting, since)) if *waiting == signature && at.monotonic.saturating_sub(*since) >= GRACE => {}
                Some((waiting, _)) if *waiting == signature => return,
                _ => {
                    state.waiting = Some((signature, at.monotonic));
                    return;
                }
            }
        }
        (state.told, state.waiting) = (Some(signature), None);
        changes.push(Change::Unreadable(path.to_owned(), observed.troubles.to_vec()));
    }

    /// Marks the keys of files that were not seen, where they would have been.
    fn absent_files(&mut self, at: At, scan: &Scan<'_>) {
        for (path, state) in &mut self.files {
            if scan.files.contains_key(path) || scan.hidden.covers(Path::new(path)) {
                continue;
            }
            if state.told.take().is_some() {
                self.dirty.insert(path.clone());
            }
            state.waiting = None;
            for held in &mut state.objects {
                held.missing.get_or_insert(at.monotonic);
            }
        }
    }

    /// Tells keys that are new from those that came from another place, and from those that succeed others.
    fn settle(&mut self, arrivals: Vec<Arrival>, scan: &Scan<'_>, lost: &Lost, changes: &mut Vec<Change>) {
        if arrivals.is_empty() && changes.is_empty() {
            return;
        }
        let mut missing = self.missing();
        let mut replaced = HashSet::new();
        let mut left = Vec::new();
        for change in changes.iter_mut() {
            let Change::Rotated { old, new, told, .. } = change else { continue };
            replaced.insert(identity(old));
            // A file written under another name and then renamed over this one.
            if let Some(held) = self.leave(&mut missing, new) {
                *told = held.succeeds.as_ref() == Some(&old.id);
                left.push(Change::Left(held.facts, held.place));
            }
        }
        changes.append(&mut left);
        let mut new = Vec::new();
        for mut arrival in arrivals {
            let from = self.leave(&mut missing, &arrival.held.facts);
            if let Some(held) = from.as_ref().filter(|held| held.facts.revoked_ms.is_some()) {
                arrival.held.facts = Marks::of(scan).kept(&held.facts, arrival.held.facts);
            }
            if arrival.baseline && from.is_none() {
                self.find(arrival, changes);
                continue;
            }
            let (facts, place) = (Arc::clone(&arrival.held.facts), arrival.held.place.clone());
            let is_known = arrival.baseline || from.is_some() || replaced.contains(&identity(&facts));
            let was_exposed = from.as_ref().is_some_and(|held| is_exposed(&held.facts, &held.place));
            if let Some(Held { facts, place, .. }) = from {
                let moved_to = Some(arrival.path.clone());
                let is_still_a_name = scan.names.contains(&place.path) || scan.files.contains_key(&place.path);
                changes.push(if is_still_a_name { Change::Left(facts, place) } else { Change::Removed { facts, place, moved_to } });
            }
            if is_exposed(&facts, &place) && !was_exposed {
                changes.push(Change::Exposed(Arc::clone(&facts), place.clone()));
            }
            if facts.revoked_ms.is_some() && !is_known {
                changes.push(Change::Revoked(Arc::clone(&facts), place.clone()));
            }
            if is_known {
                changes.push(Change::Seen(facts, place));
                self.arrive(arrival);
            } else {
                new.push(arrival);
            }
        }
        self.succeed(new, lost, changes);
    }

    /// Tells of new keys which ones they succeed.
    fn succeed(&mut self, new: Vec<Arrival>, lost: &Lost, changes: &mut Vec<Change>) {
        if new.is_empty() {
            return;
        }
        let lineage = Lineage::of(&self.files, lost);
        let mut old: Vec<Option<Held>> = new.iter().map(|arrival| lineage.certificate(&arrival.held).cloned()).collect();
        let fingerprint = |held: &Held| held.facts.fingerprint.clone();
        let bound: Vec<(String, String)> = old.iter().zip(&new).filter_map(|(old, new)| Some((fingerprint(old.as_ref()?), fingerprint(&new.held)))).collect();
        for (old, new) in old.iter_mut().zip(&new) {
            if old.is_none() {
                *old = lineage.key(&new.held, &bound).cloned();
            }
            if old.is_none() {
                *old = self.gone.succeeded_by(&new.held);
            }
        }
        let mut told = HashSet::new();
        for (old, mut arrival) in old.into_iter().zip(new) {
            let (facts, place) = (Arc::clone(&arrival.held.facts), arrival.held.place.clone());
            changes.push(match old {
                // A key that appears in several places at once succeeds in one of them.
                Some(_) if !told.insert(identity(&facts)) => Change::Seen(facts, place),
                Some(old) => {
                    let gone = old.missing.and_then(|_| self.leave(&mut self.missing(), &old.facts));
                    arrival.held.succeeds = Some(old.facts.id.clone());
                    Change::Rotated { old: old.facts, old_place: gone.map(|held| Box::new(held.place)), new: facts, place, told: false }
                }
                None => Change::Created(facts, place),
            });
            self.arrive(arrival);
        }
    }

    /// Takes in a key that was there before anybody looked.
    fn find(&mut self, arrival: Arrival, changes: &mut Vec<Change>) {
        let Held { facts, place, .. } = &arrival.held;
        if is_exposed(facts, place) {
            changes.push(Change::Exposed(Arc::clone(facts), place.clone()));
            self.dirty.insert(arrival.path.clone());
        }
        self.untold.insert(arrival.path.clone());
        self.arrive(arrival);
    }

    fn arrive(&mut self, arrival: Arrival) {
        let remembered = if arrival.baseline { &mut self.quiet } else { &mut self.dirty };
        remembered.insert(arrival.path.clone());
        let objects = &mut self.files.entry(arrival.path).or_default().objects;
        if objects.is_empty() {
            // Most files hold one key, for which a vector makes room for four.
            objects.reserve_exact(1);
        }
        objects.push(arrival.held);
    }

    /// Files from which a key is missing, by the key.
    fn missing(&self) -> HashMap<(String, KeyKind), Vec<String>> {
        let mut missing: HashMap<_, Vec<String>> = HashMap::new();
        for (path, state) in &self.files {
            for held in state.objects.iter().filter(|held| held.missing.is_some()) {
                missing.entry(identity(&held.facts)).or_default().push(path.clone());
            }
        }
        missing
    }

    /// Takes one missing key like `facts` out of its file.
    fn leave(&mut self, missing: &mut HashMap<(String, KeyKind), Vec<String>>, facts: &KeyFacts) -> Option<Held> {
        let wanted = identity(facts);
        let path = missing.get_mut(&wanted)?.pop()?;
        let objects = &mut self.files.get_mut(&path)?.objects;
        let at = objects.iter().position(|held| held.missing.is_some() && identity(&held.facts) == wanted)?;
        self.dirty.insert(path);
        Some(objects.remove(at))
    }

    /// Gives up keys that did not come back.
    fn forget(&mut self, at: At, changes: &mut Vec<Change>) {
        for (path, state) in &mut self.files {
            let before = state.objects.len();
            state.objects.retain(|held| {
                let stays = held.missing.is_none_or(|since| at.monotonic.saturating_sub(since) < GRACE);
                if !stays {
                    self.gone.add(held, at.monotonic);
                    changes.push(Change::Removed { facts: Arc::clone(&held.facts), place: held.place.clone(), moved_to: None });
                }
                stays
            });
            if state.objects.len() != before {
                self.dirty.insert(path.clone());
            }
        }
        self.files.retain(|_, state| !state.objects.is_empty() || state.told.is_some() || state.waiting.is_some());
    }

    /// Says once of each key that its end has passed.
    fn expire(&mut self, at: At, changes: &mut Vec<Change>) {
        for (path, state) in &mut self.files {
            for held in &mut state.objects {
                if !held.expired && held.missing.is_none() && is_over(&held.facts, &held.place, at) {
                    held.expired = true;
                    self.dirty.insert(path.clone());
                    changes.push(Change::Expired(Arc::clone(&held.facts), held.place.clone()));
                }
            }
        }
    }
}

/// Whether it is one key of OpenPGP's that has another id than before.
fn is_named_anew(old: &KeyFacts, new: &KeyFacts) -> bool {
    old.kind.is_openpgp() && old.key() == new.key()
}
