//! The places of one key, in the order of host, path and slot. A public CA has as many as the fleet has hosts: a copy of the
//! list shares the records, and one place is put in without looking at the others.

use std::sync::Arc;

use keyvigil_common::key::{KeyKind, Place};
use serde::{Deserialize, Serialize};

use super::trust;

/// A place, with when it was seen there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// Host.
    pub host: String,
    /// What lies there, where that is told: a key file and its public half are one key, and only one of them is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<KeyKind>,
    /// Path, owner, mode.
    pub place: Place,
    /// Unix ms.
    pub first_seen_ms: i64,
    /// Unix ms.
    pub last_seen_ms: i64,
    /// It no longer lies there.
    pub gone: bool,
    /// Of what a port serves: since when it is known not to be what the file holds, Unix ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since_ms: Option<i64>,
}

impl PlaceRecord {
    fn position(&self) -> (&str, &str, u32) {
        (&self.host, &self.place.path, self.place.slot)
    }
}

/// Every place that is known of a key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Places {
    all: Vec<Arc<PlaceRecord>>,
    live: Tally,
}

/// Places where it lies now, so that nobody needs to walk along all of them to know what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Tally {
    all: usize,
    /// Not those of the system's trust store.
    elsewhere: usize,
    /// Where only the system puts anything.
    bundled: usize,
    /// Named by a configuration.
    named: usize,
}

impl Tally {
    fn of(p: &PlaceRecord) -> Self {
        if p.gone {
            return Self::default();
        }
        let (shipped, bundled) = (trust::is_shipped(&p.place), trust::is_bundled(&p.place));
        Self { all: 1, elsewhere: usize::from(!shipped), bundled: usize::from(bundled), named: usize::from(!p.place.used_by.is_empty()) }
    }

    fn add(&mut self, p: &PlaceRecord) {
        let one = Self::of(p);
        let sums = [(&mut self.all, one.all), (&mut self.elsewhere, one.elsewhere), (&mut self.bundled, one.bundled), (&mut self.named, one.named)];
        sums.into_iter().for_each(|(sum, one)| *sum += one);
    }

    fn take(&mut self, p: &PlaceRecord) {
        let one = Self::of(p);
        let sums = [(&mut self.all, one.all), (&mut self.elsewhere, one.elsewhere), (&mut self.bundled, one.bundled), (&mut self.named, one.named)];
        sums.into_iter().for_each(|(sum, one)| *sum = sum.saturating_sub(one));
    }
}

impl Places {
    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &PlaceRecord> + ExactSizeIterator + Clone {
        self.all.iter().map(AsRef::as_ref)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Hosts where it lies now, in order.
    #[must_use]
    pub fn hosts(&self) -> Vec<&str> {
        let mut hosts: Vec<&str> = self.iter().filter(|p| !p.gone).map(|p| p.host.as_str()).collect();
        hosts.dedup();
        hosts
    }

    /// Those on one host.
    pub fn on(&self, host: &str) -> impl Iterator<Item = &PlaceRecord> {
        let from = self.all.partition_point(|p| p.host.as_str() < host);
        let to = from + self.all[from..].partition_point(|p| p.host == host);
        self.all[from..to].iter().map(AsRef::as_ref)
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, host: &str, path: &str, slot: u32) -> Option<&PlaceRecord> {
        self.find((host, path, slot)).ok().map(|at| self.all[at].as_ref())
    }

    /// Whether it lies anywhere now.
    #[must_use]
    pub fn are_live(&self) -> bool {
        self.live.all > 0
    }

    /// Whether it lies now where only the system puts anything.
    pub(super) fn is_bundled(&self) -> bool {
        self.live.bundled > 0
    }

    /// Whether the system put it wherever it lies; where it lies nowhere any more, wherever it lay. `unless_named`: what a
    /// configuration names is somebody's own.
    pub(super) fn are_shipped(&self, unless_named: bool) -> bool {
        let mut tally = self.live;
        if tally.all == 0 {
            self.iter().for_each(|p| tally.add(&PlaceRecord { gone: false, ..p.clone() }));
        }
        tally.elsewhere == 0 && tally.bundled > 0 && !(unless_named && tally.named > 0)
    }

    /// Puts a place in, instead of what is known of it.
    pub(super) fn put(&mut self, record: PlaceRecord) {
        self.put_shared(Arc::new(record));
    }

    /// Puts all of `others` in.
    pub(super) fn merge(&mut self, others: Self) {
        others.all.into_iter().for_each(|place| self.put_shared(place));
    }

    fn put_shared(&mut self, record: Arc<PlaceRecord>) {
        self.live.add(&record);
        match self.find(record.position()) {
            Ok(at) => {
                let before = std::mem::replace(&mut self.all[at], record);
                self.live.take(&before);
            }
            Err(at) => self.all.insert(at, record),
        }
    }

    pub(super) fn remove(&mut self, gone: &PlaceRecord) {
        if let Ok(at) = self.find(gone.position()) {
            let gone = self.all.remove(at);
            self.live.take(&gone);
        }
    }

    pub(super) fn first(&self) -> Option<&PlaceRecord> {
        self.all.first().map(AsRef::as_ref)
    }

    fn find(&self, wanted: (&str, &str, u32)) -> Result<usize, usize> {
        self.all.binary_search_by(|known| known.position().cmp(&wanted))
    }
}

impl From<Vec<Arc<PlaceRecord>>> for Places {
    /// Of places in any order.
    fn from(mut all: Vec<Arc<PlaceRecord>>) -> Self {
        all.sort_by(|a, b| a.position().cmp(&b.position()));
        all.dedup_by(|later, first| later.position() == first.position());
        let mut live = Tally::default();
        all.iter().for_each(|p| live.add(p));
        Self { all, live }
    }
}
