//! The places of one key, in the order of host, path and slot. A public CA has as many as the fleet has hosts: a copy of the
//! list shares the records, and one place is put in without looking at the others.

use std::sync::Arc;

use keyvigil_common::key::{KeyKind, Place};
use serde::{Deserialize, Serialize};

/// A place, with when it was seen there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaceRecord {
    /// Host.
    pub host: String,
    /// What lies there, where that is told: a key file and its public half are one key, and only one of them is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<KeyKind>,
    /// Path, owner, mode.
    #[serde(flatten)]
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
pub struct Places(Vec<Arc<PlaceRecord>>);

impl Places {
    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &PlaceRecord> + ExactSizeIterator + Clone {
        self.0.iter().map(AsRef::as_ref)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
        let from = self.0.partition_point(|p| p.host.as_str() < host);
        let to = from + self.0[from..].partition_point(|p| p.host == host);
        self.0[from..to].iter().map(AsRef::as_ref)
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, host: &str, path: &str, slot: u32) -> Option<&PlaceRecord> {
        self.find((host, path, slot)).ok().map(|at| self.0[at].as_ref())
    }

    /// One of them, to be changed.
    pub(super) fn get_mut(&mut self, host: &str, path: &str, slot: u32) -> Option<&mut PlaceRecord> {
        self.find((host, path, slot)).ok().map(|at| Arc::make_mut(&mut self.0[at]))
    }

    /// Puts a place in, instead of what is known of it.
    pub(super) fn put(&mut self, record: PlaceRecord) {
        match self.find(record.position()) {
            Ok(at) => self.0[at] = Arc::new(record),
            Err(at) => self.0.insert(at, Arc::new(record)),
        }
    }

    /// Puts all of `others` in.
    pub(super) fn merge(&mut self, others: Self) {
        for place in others.0 {
            match self.find(place.position()) {
                Ok(at) => self.0[at] = place,
                Err(at) => self.0.insert(at, place),
            }
        }
    }

    pub(super) fn remove(&mut self, gone: &PlaceRecord) {
        if let Ok(at) = self.find(gone.position()) {
            self.0.remove(at);
        }
    }

    pub(super) fn first(&self) -> Option<&PlaceRecord> {
        self.0.first().map(AsRef::as_ref)
    }

    fn find(&self, wanted: (&str, &str, u32)) -> Result<usize, usize> {
        self.0.binary_search_by(|known| known.position().cmp(&wanted))
    }
}

impl From<Vec<Arc<PlaceRecord>>> for Places {
    /// Of places in any order.
    fn from(mut all: Vec<Arc<PlaceRecord>>) -> Self {
        all.sort_by(|a, b| a.position().cmp(&b.position()));
        all.dedup_by(|later, first| later.position() == first.position());
        Self(all)
    }
}
