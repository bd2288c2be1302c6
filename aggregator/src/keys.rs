//! The inventory: one record for each distinct key or certificate of a tenant, with every place it lies. Sightings and
//! events go into the store in the batch's own transaction; reading is from memory. A key's status is worked out when it is
//! asked for, since time alone can change it.

pub mod cbom;
mod current;
mod depart;
pub mod finding;
mod list;
mod name;
pub mod observed;
mod places;
mod record;
pub mod revocation;
mod sight;
#[cfg(test)]
mod tests;
mod trust;
pub mod usage;
mod used;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use keyvigil_common::event::{Actor, Event, EventKind};
use serde::{Deserialize, Serialize};

pub use current::{Counts, Findings};
pub use depart::leave;
pub use list::{Cursor, Filter, Page, Sort, Summary, UsedWhen, page, summary};
pub use name::name;
pub use observed::{Observed, Sensor};
pub use places::{PlaceRecord, Places};
pub use record::{KeyRecord, Status};
pub use sight::{Changed, sight};
pub use used::{Used, UsedBy, Uses};

use crate::index::TenantId;
use crate::store::{Store, StoreError};

/// An event with the host it came from, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// What happened.
    pub kind: EventKind,
    /// Unix ms.
    pub at_ms: i64,
    /// Where.
    pub host: String,
    /// Id of the key.
    pub key: Option<String>,
    /// Path of the file.
    pub path: Option<String>,
    /// Who.
    pub actor: Option<Actor>,
    /// For people.
    pub message: String,
    /// What supports it.
    pub evidence: BTreeMap<String, String>,
}

impl EventRecord {
    /// An event of `host`.
    #[must_use]
    pub fn new(host: &str, event: Event) -> Self {
        let Event { kind, at_ms, key_id, path, actor, message, evidence } = event;
        Self { kind, at_ms, host: host.to_owned(), key: key_id, path, actor, message, evidence: evidence.into_iter().collect() }
    }
}

/// Characters of an id or fingerprint that may stand for all of it.
pub const PREFIX_MIN: usize = 6;

/// Keys by id.
type Keys = BTreeMap<String, Arc<KeyRecord>>;

/// All keys.
#[derive(Debug, Default)]
pub struct Inventory {
    keys: RwLock<HashMap<TenantId, Keys>>,
    /// Counts changes.
    generation: AtomicU64,
    current: current::Current,
    observed: RwLock<HashMap<TenantId, ByHost>>,
}

/// What is observed of the use of keys, by host.
pub type ByHost = Arc<BTreeMap<String, Observed>>;

/// Keys that are named to whoever meant one of them.
const CANDIDATES_MAX: usize = 10;

/// Why no one key is meant.
#[derive(Debug, Clone)]
pub enum NotFound {
    /// There is none.
    None,
    /// Too little was given to stand for a whole id: at least [`PREFIX_MIN`] characters do.
    Short,
    /// So many begin like that; the first of them.
    Ambiguous(usize, Vec<Arc<KeyRecord>>),
}

impl Inventory {
    /// Reads the inventory from the store. Records of before places had rows of their own are brought up to date.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(&self, store: &Store) -> Result<(), StoreError> {
        for (tenant, key) in sight::load(store).await? {
            self.put(tenant, Changed { key, dropped: Vec::new() });
        }
        Ok(())
    }

    /// Takes in what was committed of a key.
    pub fn put(&self, tenant: TenantId, Changed { mut key, dropped }: Changed) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let keys = keys.entry(tenant).or_default();
        if let Some(before) = keys.remove(&key.facts.id) {
            // Whoever looks at the record as it was goes on doing so.
            let mut places = Arc::try_unwrap(before).map_or_else(|shared| shared.places.clone(), |own| own.places);
            places.merge(key.places);
            dropped.iter().for_each(|gone| places.remove(gone));
            key.places = places;
        }
        keys.insert(key.facts.id.clone(), Arc::new(key));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Where a key lies, as far as that is committed.
    #[must_use]
    pub fn places(&self, tenant: TenantId, id: &str) -> Places {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&tenant).and_then(|keys| keys.get(id)).map(|key| key.places.clone()).unwrap_or_default()
    }

    /// Whether a use of a key is worth writing; `None` where there is no such key.
    #[must_use]
    pub fn use_is_news(&self, tenant: TenantId, id: &str, at_ms: i64, by: &UsedBy) -> Option<bool> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.get(&tenant).and_then(|keys| keys.get(id))?;
        Some(by.is_news(at_ms, key.last_used_ms.zip(key.last_used_by.as_ref())))
    }

    /// Takes in what was committed of uses.
    pub fn used(&self, tenant: TenantId, all: Vec<Used>) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let Some(keys) = keys.get_mut(&tenant) else { return };
        for Used { key, at_ms, by } in all {
            if let Some(key) = keys.get_mut(&key) {
                Arc::make_mut(key).use_at(at_ms, &by);
            }
        }
        // No news for findings: they are of what was not used for months, and looked for anew each minute.
    }

    /// What the sensors of a host see of the use of keys now.
    pub fn observe(&self, tenant: TenantId, host: &str, observed: Observed) {
        let mut all = self.observed.write().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = all.entry(tenant).or_default();
        if of_tenant.get(host) != Some(&observed) {
            Arc::make_mut(of_tenant).insert(host.to_owned(), observed);
        }
    }

    /// What is observed of the use of keys, by host; a host that is not there observes nothing.
    #[must_use]
    pub fn observed(&self, tenant: TenantId) -> ByHost {
        self.observed.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).map(Arc::clone).unwrap_or_default()
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The key of that id, or the best one of that fingerprint: certificate, private key, then others. The beginning of an id
    /// or of a fingerprint does where no other begins so.
    ///
    /// # Errors
    /// None, or more than one.
    pub fn find(&self, tenant: TenantId, wanted: &str) -> Result<Arc<KeyRecord>, NotFound> {
        // Fingerprints tell letters apart, ids do not.
        let lower = || Some(wanted.to_ascii_lowercase()).filter(|lower| lower != wanted && wanted.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match self.find_as_is(tenant, wanted) {
            Err(NotFound::None) => lower().map_or(Err(NotFound::None), |lower| self.find_as_is(tenant, &lower)),
            found => found,
        }
    }

    fn find_as_is(&self, tenant: TenantId, wanted: &str) -> Result<Arc<KeyRecord>, NotFound> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let none = Keys::new();
        let keys = keys.get(&tenant).unwrap_or(&none);
        if let Some(record) = keys.get(wanted) {
            return Ok(Arc::clone(record));
        }
        if let Some(record) = keys.values().filter(|k| k.facts.fingerprint == wanted).min_by_key(|k| k.facts.kind) {
            return Ok(Arc::clone(record));
        }
        if wanted.trim_start_matches("SHA256:").len() < PREFIX_MIN {
            return Err(NotFound::Short);
        }
        // A key file's id is its fingerprint: what an id begins with means that key, and not its certificate.
        let named: Vec<&Arc<KeyRecord>> = keys.values().filter(|k| k.facts.id.starts_with(wanted)).collect();
        if let [one] = named.as_slice() {
            return Ok(Arc::clone(one));
        }
        let begins = |k: &&Arc<KeyRecord>| k.facts.fingerprint.trim_start_matches("SHA256:").starts_with(wanted.trim_start_matches("SHA256:"));
        let mut found: Vec<&Arc<KeyRecord>> = keys.values().filter(begins).chain(named).collect();
        found.sort_by(|a, b| (&a.facts.fingerprint, a.facts.kind).cmp(&(&b.facts.fingerprint, b.facts.kind)));
        // All forms of one key are one candidate.
        found.dedup_by(|a, b| a.facts.fingerprint == b.facts.fingerprint);
        match found.as_slice() {
            [] => Err(NotFound::None),
            [one] => Ok(Arc::clone(one)),
            many => Err(NotFound::Ambiguous(many.len(), many.iter().take(CANDIDATES_MAX).map(|key| Arc::clone(key)).collect())),
        }
    }

    /// Calls `look` on each key of a tenant.
    pub fn each(&self, tenant: TenantId, mut look: impl FnMut(&KeyRecord)) {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&tenant).into_iter().flat_map(BTreeMap::values).for_each(|key| look(key));
    }

    /// All keys of a tenant by id, and how many changes there had been: whoever takes long must not hold up who stores.
    #[must_use]
    pub fn all(&self, tenant: TenantId) -> (u64, Vec<Arc<KeyRecord>>) {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), keys.get(&tenant).into_iter().flat_map(BTreeMap::values).cloned().collect())
    }
}
