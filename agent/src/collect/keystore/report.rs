//! Changes of keys as records for the aggregator: sightings, and events that people read. One thing that happened is one
//! event, in however many places it shows. Called by the sensor after each scan.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::key::{KeyFacts, KeyKind, Place, Sighting, clamp_text};
use keyvigil_common::limits::EVIDENCE_MAX;

use super::metrics::Totals;
use super::model::Change;
use super::trouble::Trouble;
use crate::collect::Sink;

/// Writes `changes` into `sink` and counts them.
pub(super) fn report(mut changes: Vec<Change>, sink: &mut Sink, totals: &mut Totals) {
    // A private key and its public half are one key: what is said of both is said of the private one.
    changes.sort_by_key(|change| !is_private(change));
    let mut events = Events { list: Vec::new(), by_key: HashMap::new(), unwatched: BTreeMap::new(), at_ms: sink.at_ms() };
    for change in changes {
        match change {
            Change::Seen(facts, place) => sighting(sink, &facts, place, false, None),
            Change::Left(facts, place) => sighting(sink, &facts, place, true, None),
            Change::Unwatched(facts, place, why) => {
                events.unwatched.entry(why).or_default().push(place.path.clone());
                sighting(sink, &facts, place, true, None);
            }
            Change::Created(facts, place) => {
                let message = format!("{} appeared in {}", describe(&facts), place.path);
                totals.created += events.about(EventKind::Created, &facts, &place, "", message);
                sighting(sink, &facts, place, false, None);
            }
            Change::Rotated { old, old_place, new, place, told } => {
                let is_there = old_place.as_ref().is_some_and(|old| old.path == place.path);
                let message = match is_there {
                    true => format!("{} took the place of another in {}", describe(&new), place.path),
                    false => format!("{} in {} succeeds another", describe(&new), place.path),
                };
                if !told {
                    totals.rotated += events.about(EventKind::Rotated, &new, &place, &old.id, message);
                }
                if let Some(old_place) = old_place {
                    sighting(sink, &old, *old_place, true, None);
                }
                sighting(sink, &new, place, false, Some(old.id.clone()));
            }
            Change::Removed { facts, place, moved_to } => {
                let message = match &moved_to {
                    Some(path) => format!("{} was moved from {} to {path}", describe(&facts), place.path),
                    None => format!("{} is no longer in {}", describe(&facts), place.path),
                };
                if events.about(EventKind::Removed, &facts, &place, "", message) > 0 {
                    events.add(moved_to.map(|path| ("moved_to".to_owned(), path)));
                }
                sighting(sink, &facts, place, true, None);
            }
            Change::Revoked(facts, place) => {
                let revoked = events.revoked(&facts, &place);
                totals.revoked += revoked;
                totals.security += revoked;
            }
            Change::Reinstated(facts, place, by) => events.reinstated(&facts, &place, by),
            Change::Expired(facts, place) => {
                let message = format!("{} in {} has expired", describe(&facts), place.path);
                totals.expired += events.about(EventKind::Expired, &facts, &place, "", message);
            }
            Change::Exposed(facts, place) => {
                let message =
                    format!("{} in {} can be read or changed by others than its owner and group: take those permissions away", describe(&facts), place.path);
                // Each place is a breach of its own.
                let violations = events.about(EventKind::PolicyViolation, &facts, &place, &place.path, message);
                events.add([("policy".to_owned(), "private key not accessible to others".to_owned())]);
                totals.violations += violations;
                totals.security += violations;
            }
            Change::Unreadable(path, troubles) => {
                troubles.iter().for_each(|trouble| totals.error(trouble.reason));
                totals.security += 1;
                events.unreadable(path, &troubles);
            }
        }
    }
    events.tell(sink);
}

/// Tells of a key in a place.
pub(super) fn sighting(sink: &mut Sink, facts: &KeyFacts, place: Place, gone: bool, replaces: Option<String>) {
    sink.sighting(Sighting { facts: facts.clone(), place, at_ms: sink.at_ms(), gone, replaces });
}

fn is_private(change: &Change) -> bool {
    match change {
        Change::Rotated { new: facts, .. } | Change::Removed { facts, .. } => facts.kind.is_private(),
        Change::Seen(facts, _) | Change::Created(facts, _) | Change::Left(facts, _) | Change::Unwatched(facts, ..) => facts.kind.is_private(),
        Change::Revoked(facts, _) | Change::Reinstated(facts, ..) | Change::Expired(facts, _) | Change::Exposed(facts, _) => facts.kind.is_private(),
        Change::Unreadable(..) => false,
    }
}

/// The events of one scan.
struct Events {
    list: Vec<Event>,
    /// Which event speaks of which key.
    by_key: HashMap<(EventKind, String, String), usize>,
    /// Paths of keys at which nobody looks any more, by why.
    unwatched: BTreeMap<String, Vec<String>>,
    at_ms: i64,
}

impl Events {
    fn tell(mut self, sink: &mut Sink) {
        std::mem::take(&mut self.unwatched).into_iter().for_each(|(why, paths)| self.leave(&why, paths));
        self.list.into_iter().for_each(|event| sink.event(event));
    }

    /// An event about a key, or one more place of it for an event that there is; how many were added. `other` tells events
    /// about one key apart.
    fn about(&mut self, kind: EventKind, facts: &KeyFacts, place: &Place, other: &str, mut message: String) -> u64 {
        match self.by_key.entry((kind, facts.id.clone(), other.to_owned())) {
            Entry::Occupied(entry) => {
                let event = &mut self.list[*entry.get()];
                if event.path.as_ref() != Some(&place.path) && event.evidence.len() < EVIDENCE_MAX {
                    event.evidence.push(("also_at".into(), place.path.clone()));
                }
                0
            }
            Entry::Vacant(entry) => {
                entry.insert(self.list.len());
                clamp_text(&mut message);
                let mut evidence = evidence(facts, place);
                if kind == EventKind::Rotated {
                    evidence.push(("replaced_key".into(), other.to_owned()));
                }
                let path = Some(place.path.clone());
                self.list.push(Event { kind, at_ms: self.at_ms, key_id: Some(facts.id.clone()), path, actor: None, message, evidence });
                1
            }
        }
    }

    /// Adds evidence to the latest event.
    fn add(&mut self, evidence: impl IntoIterator<Item = (String, String)>) {
        if let Some(event) = self.list.last_mut() {
            event.evidence.extend(evidence);
        }
    }

    /// What the administrator left out is one event for each reason: nobody removed these keys, and nobody sees any more whether they
    /// are there.
    fn leave(&mut self, why: &str, mut paths: Vec<String>) {
        let keys = paths.len();
        paths.sort();
        paths.dedup();
        let mut message = match (keys, &paths[..]) {
            (1, [path]) => format!("the key in {path} is no longer looked at: {why}"),
            _ => format!("{keys} keys in {} files are no longer looked at: {why}", paths.len()),
        };
        clamp_text(&mut message);
        let told = paths.iter().take(EVIDENCE_MAX - 2).map(|path| ("what".to_owned(), path.clone()));
        let evidence = [("sensor", "keystore"), ("reason", why)].map(|(n, v)| (n.to_owned(), v.to_owned())).into_iter().chain(told).collect();
        let path = (paths.len() == 1).then(|| paths[0].clone());
        self.list.push(Event { kind: EventKind::CoverageLost, at_ms: self.at_ms, key_id: None, path, actor: None, message, evidence });
    }

    fn revoked(&mut self, facts: &KeyFacts, place: &Place) -> u64 {
        let by = facts.revocation.as_deref().unwrap_or("the key itself says so");
        let message = format!("{} in {} was revoked ({by}): replace it, and whatever relied on it", describe(facts), place.path);
        self.about(EventKind::Revoked, facts, place, "", message)
    }

    fn reinstated(&mut self, facts: &KeyFacts, place: &Place, by: Option<String>) {
        let why = by.as_ref().map_or_else(|| "nothing says so any more".to_owned(), |list| format!("{list} does not name it any more"));
        let message = format!("{} in {} is no longer revoked: {why}", describe(facts), place.path);
        if self.about(EventKind::RevocationLifted, facts, place, "", message) > 0 {
            self.add(by.map(|list| ("lifted_by".to_owned(), list)));
        }
    }

    fn unreadable(&mut self, path: String, troubles: &[Trouble]) {
        let Some(first) = troubles.first() else { return };
        let more = match troubles.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let mut message = format!("{path} cannot be read: {}{more}. What to do: {}", first.detail, first.advice());
        clamp_text(&mut message);
        let lines = troubles.iter().take(EVIDENCE_MAX).map(|trouble| (trouble.reason.to_owned(), trouble.detail.clone()));
        let evidence = lines.collect();
        self.list.push(Event { kind: EventKind::Unreadable, at_ms: self.at_ms, key_id: None, path: Some(path), actor: None, message, evidence });
    }
}

/// `certificate CN=www.example.org (ec secp256r1)`.
fn describe(facts: &KeyFacts) -> String {
    let kind = facts.kind.as_str().replace('_', " ").replace("ssh", "SSH").replace("crl", "revocation list");
    let name = facts.subject.as_ref().or(facts.issuer.as_ref()).map(|subject| format!(" {subject}")).unwrap_or_default();
    let size = match (&facts.curve, facts.bits) {
        (Some(curve), _) => format!(" {curve}"),
        (None, Some(bits)) => format!(" {bits} bits"),
        (None, None) => String::new(),
    };
    if facts.kind == KeyKind::Crl {
        // It has no key.
        return format!("{kind}{name}");
    }
    format!("{kind}{name} ({}{size})", facts.algorithm)
}

fn evidence(facts: &KeyFacts, place: &Place) -> Vec<(String, String)> {
    let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string());
    let known = [
        ("kind", Some(facts.kind.as_str().to_owned())),
        ("fingerprint", Some(facts.fingerprint.clone())),
        ("not_before", facts.not_before_ms.map(time)),
        ("not_after", facts.not_after_ms.map(time)),
        ("revoked", facts.revoked_ms.map(time)),
        ("revocation", facts.revocation.clone()),
        ("issuer", facts.issuer.clone()),
        ("serial", facts.serial.clone()),
        ("owner", place.owner.clone()),
        ("group", place.group.clone()),
        ("mode", place.mode.map(|mode| format!("0{mode:o}"))),
        ("encrypted", facts.encrypted.map(|encrypted| encrypted.to_string())),
    ];
    known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
