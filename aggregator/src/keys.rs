//! The inventory: one record for each distinct key or certificate of a tenant, with every place it lies. Sightings and
//! events go into the store in the batch's own transaction; reading is from memory. A key's status is worked out when it is
//! asked for, since time alone can change it.

mod list;
mod record;
pub mod revocation;

use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

use keyvigil_common::event::{Actor, Event, EventKind};
use keyvigil_common::key::Sighting;
use serde::{Deserialize, Serialize};

pub use list::{Filter, Page, Sort, Summary, summary};
pub use record::{KeyRecord, PlaceRecord, Status};

use crate::index::TenantId;
use crate::store::ledger::{self, Table};
use crate::store::{Store, StoreError, Tx};

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

/// All keys.
#[derive(Debug, Default)]
pub struct Inventory(RwLock<HashMap<TenantId, BTreeMap<String, KeyRecord>>>);

impl Inventory {
    /// Reads the inventory from the store.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(&self, store: &Store) -> Result<(), StoreError> {
        let keys = store.read(|connection, ring| ledger::all::<KeyRecord>(connection, ring, Table::Key)).await?;
        for (tenant, _, record) in keys {
            self.put(tenant, record);
        }
        Ok(())
    }

    /// Puts a committed record.
    pub fn put(&self, tenant: TenantId, record: KeyRecord) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.entry(tenant).or_default().insert(record.facts.id.clone(), record);
    }

    /// The key of that id, or the best one of that fingerprint: certificate, private key, then others.
    #[must_use]
    pub fn find(&self, tenant: TenantId, id_or_fingerprint: &str) -> Option<KeyRecord> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let keys = keys.get(&tenant)?;
        if let Some(record) = keys.get(id_or_fingerprint) {
            return Some(record.clone());
        }
        keys.values().filter(|k| k.facts.fingerprint == id_or_fingerprint).min_by_key(|k| k.facts.kind).cloned()
    }

    /// Calls `look` on each key of a tenant.
    pub fn each(&self, tenant: TenantId, mut look: impl FnMut(&KeyRecord)) {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(&tenant).into_iter().flat_map(BTreeMap::values).for_each(&mut look);
    }
}

/// Stores a sighting of `host` in a transaction and returns the records it changed, for [`Inventory::put`] after the commit.
///
/// # Errors
/// The store's.
pub fn sight(tx: &Tx<'_>, tenant: TenantId, host: &str, sighting: Sighting) -> Result<Vec<KeyRecord>, StoreError> {
    let id = sighting.facts.id.clone();
    let before: Option<KeyRecord> = tx.get(Table::Key, tenant, &id)?;
    let mut changed = Vec::new();
    if let Some(old) = sighting.replaces.as_ref().filter(|old| **old != id)
        && let Some(mut replaced) = tx.get::<KeyRecord>(Table::Key, tenant, old)?
    {
        replaced.replaced_by(host, &sighting);
        tx.put(Table::Key, tenant, old, &replaced)?;
        changed.push(replaced);
    }
    let record = KeyRecord::sighted(before, host, sighting);
    tx.put(Table::Key, tenant, &id, &record)?;
    changed.push(record);
    Ok(changed)
}
