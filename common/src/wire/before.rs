//! What version 1 said of keys and losses, so that what waits in an old buffer is still read.

use bincode::Decode;

use super::frame::Rest;
use super::{Class, Gap, Group, HostFacts};
use crate::event::Event;
use crate::key::{KeyFacts, KeyKind, Place, Sighting};
use crate::sequence::Range;

/// What follows the dictionary.
#[derive(Decode)]
pub(super) struct RestBefore {
    groups: Vec<Group>,
    sightings: Vec<SightingBefore>,
    events: Vec<Event>,
    gaps: Vec<GapBefore>,
    host: Option<HostFacts>,
}

#[derive(Decode)]
struct GapBefore {
    range: Range,
    class: Class,
    cause: String,
    items: u64,
    at_ms: i64,
}

#[derive(Decode)]
struct SightingBefore {
    facts: FactsBefore,
    place: PlaceBefore,
    at_ms: i64,
    gone: bool,
    replaces: Option<String>,
}

#[derive(Decode)]
struct FactsBefore {
    id: String,
    fingerprint: String,
    kind: KeyKind,
    algorithm: String,
    bits: Option<u32>,
    curve: Option<String>,
    signature_algorithm: Option<String>,
    not_before_ms: Option<i64>,
    not_after_ms: Option<i64>,
    subject: Option<String>,
    issuer: Option<String>,
    sans: Vec<String>,
    serial: Option<String>,
    is_ca: Option<bool>,
    encrypted: Option<bool>,
    kdf: Option<String>,
}

#[derive(Decode)]
struct PlaceBefore {
    path: String,
    slot: u32,
    owner: Option<String>,
    group: Option<String>,
    mode: Option<u32>,
    modified_ms: Option<i64>,
}

impl From<FactsBefore> for KeyFacts {
    fn from(before: FactsBefore) -> Self {
        let FactsBefore { id, fingerprint, kind, algorithm, bits, curve, signature_algorithm, not_before_ms, not_after_ms, .. } = before;
        let FactsBefore { subject, issuer, sans, serial, is_ca, encrypted, kdf, .. } = before;
        let bare = Self::bare(kind, id, fingerprint, algorithm);
        let times = Self { bits, curve, signature_algorithm, not_before_ms, not_after_ms, ..bare };
        Self { subject, issuer, sans, serial, is_ca, encrypted, kdf, ..times }
    }
}

impl From<SightingBefore> for Sighting {
    fn from(SightingBefore { facts, place, at_ms, gone, replaces }: SightingBefore) -> Self {
        let PlaceBefore { path, slot, owner, group, mode, modified_ms } = place;
        let place = Place { slot, owner, group, mode, modified_ms, ..Place::at(path) };
        Self { facts: facts.into(), place, at_ms, gone, replaces }
    }
}

impl From<RestBefore> for Rest {
    fn from(before: RestBefore) -> Self {
        let gap = |GapBefore { range, class, cause, items, at_ms }| Gap { range, class, cause, items, at_ms, epoch: None };
        let RestBefore { groups, sightings, events, gaps, host } = before;
        let sightings = sightings.into_iter().map(Sighting::from).collect();
        Self { groups, sightings, events, gaps: gaps.into_iter().map(gap).collect(), host, sealed: None }
    }
}
