//! The inventory in the store: a row a key, and one each place of it. Knows which rows a sighting touches; what it changes in
//! them stands in `record`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use keyvigil_common::key::{KeyKind, Place, Sighting};
use keyvigil_common::seal::KeyRing;
use rusqlite::Connection;
use serde::Deserialize;

use super::places::{PlaceRecord, Places};
use super::record::KeyRecord;
use crate::index::TenantId;
use crate::store::ledger::{self, Table};
use crate::store::places::{self as rows, At};
use crate::store::{Store, StoreError, Tx};

/// Places kept of one key. A public CA lies in four places on each host; beyond this, places where it lies no more are dropped.
const PLACES_MAX: usize = 50_000;

/// What a transaction changed of a key: its record, with those of its places that changed.
#[derive(Debug)]
pub struct Changed {
    /// The record.
    pub key: KeyRecord,
    /// Places that are no longer kept.
    pub dropped: Vec<PlaceRecord>,
}

/// Stores the sightings of one batch of `host` in a transaction and returns what they changed, for [`super::Inventory::put`] after
/// the commit. Each place that is told of is one row, and each key another, however many places it has elsewhere.
///
/// # Errors
/// The store's.
pub fn sight(tx: &Tx<'_>, tenant: TenantId, host: &str, sightings: Vec<Sighting>) -> Result<Vec<Changed>, StoreError> {
    let mut batch = Batch { tx, tenant, host, touched: BTreeMap::new() };
    for sighting in sightings {
        let (id, place) = (sighting.facts.id.clone(), sighting.place.clone());
        if let Some(old) = sighting.replaces.as_ref().filter(|old| **old != id) {
            let replace = |before: Option<KeyRecord>| {
                let mut replaced = before?;
                replaced.replaced_by(host, &sighting);
                Some(replaced)
            };
            batch.change(old, &place, replace)?;
        }
        batch.change(&id, &place, |before| Some(KeyRecord::sighted(before, host, sighting)))?;
    }
    for (id, changed) in &batch.touched {
        tx.put(Table::Key, tenant, id, &changed.key)?;
    }
    Ok(batch.touched.into_values().collect())
}

struct Batch<'a> {
    tx: &'a Tx<'a>,
    tenant: TenantId,
    host: &'a str,
    touched: BTreeMap<String, Changed>,
}

impl Batch<'_> {
    /// Has `change` change a record, given the one place of which something is told and one where the key lies besides.
    fn change(&mut self, id: &str, place: &Place, change: impl FnOnce(Option<KeyRecord>) -> Option<KeyRecord>) -> Result<(), StoreError> {
        let (tx, tenant) = (self.tx, self.tenant);
        let (before, told, mut dropped) = match self.touched.remove(id) {
            Some(Changed { mut key, dropped }) => {
                let told = std::mem::take(&mut key.places);
                (Some(key), told, dropped)
            }
            None => (tx.get::<KeyRecord>(Table::Key, tenant, id)?, Places::default(), Vec::new()),
        };
        let before = match before {
            None => None,
            Some(key) => {
                let own = tx.get_place::<PlaceRecord>(tenant, At { key: id, host: self.host, path: &place.path, slot: place.slot })?;
                let known: Vec<Arc<PlaceRecord>> = tx.live_place(tenant, id, self.host)?.into_iter().chain(own).map(Arc::new).collect();
                Some(KeyRecord { places: known.into(), ..key })
            }
        };
        let Some(mut key) = change(before) else { return Ok(()) };
        let changed = std::mem::replace(&mut key.places, told);
        if let Some(changed) = changed.get(self.host, &place.path, place.slot) {
            put_place(tx, tenant, id, changed)?;
            dropped.retain(|gone: &PlaceRecord| !(gone.host == changed.host && gone.place.path == changed.place.path && gone.place.slot == changed.place.slot));
            key.places.put(changed.clone());
        }
        if key.place_count > PLACES_MAX
            && let Some(gone) = tx.gone_place::<PlaceRecord>(tenant, id)?
        {
            tx.delete_place(tenant, at(id, &gone))?;
            key.place_count -= 1;
            key.places.remove(&gone);
            dropped.push(gone);
        }
        self.touched.insert(id.to_owned(), Changed { key, dropped });
        Ok(())
    }
}

fn at<'a>(key: &'a str, place: &'a PlaceRecord) -> At<'a> {
    At { key, host: &place.host, path: &place.place.path, slot: place.place.slot }
}

fn put_place(tx: &Tx<'_>, tenant: TenantId, key: &str, place: &PlaceRecord) -> Result<(), StoreError> {
    tx.put_place(tenant, at(key, place), place.gone, place)
}

/// A key as it lies in the store.
#[derive(Debug, Deserialize)]
struct Stored {
    #[serde(flatten)]
    key: KeyRecord,
    /// Until version 4 of the store a record held its places.
    #[serde(default)]
    places: Vec<Inline>,
}

/// A place as records held it.
#[derive(Debug, Deserialize)]
struct Inline {
    host: String,
    #[serde(default)]
    kind: Option<KeyKind>,
    #[serde(flatten)]
    place: Place,
    first_seen_ms: i64,
    last_seen_ms: i64,
    gone: bool,
}

impl From<Inline> for PlaceRecord {
    fn from(inline: Inline) -> Self {
        let Inline { host, kind, place, first_seen_ms, last_seen_ms, gone } = inline;
        Self { host, kind, place, first_seen_ms, last_seen_ms, gone, stale_since_ms: None }
    }
}

/// Keys by tenant and id.
type Keys = Vec<(TenantId, String, Stored)>;
/// Places by tenant and key.
type Rows = HashMap<(TenantId, String), Vec<Arc<PlaceRecord>>>;

/// Every key with its places. Records that hold them are first brought up to date.
pub(super) async fn load(store: &Store) -> Result<Vec<(TenantId, KeyRecord)>, StoreError> {
    let (keys, mut places) = store.read(read).await?;
    let mut out = Vec::with_capacity(keys.len());
    for (tenant, id, Stored { mut key, places: inline }) in keys {
        if inline.is_empty() {
            key.places = places.remove(&(tenant, id)).unwrap_or_default().into();
        } else {
            key.places = inline.into_iter().map(|place| Arc::new(place.into())).collect::<Vec<_>>().into();
            key.place_count = key.places.len();
            let moved = key.clone();
            let write = move |tx: &Tx<'_>| {
                moved.places.iter().try_for_each(|place| put_place(tx, tenant, &id, place))?;
                tx.put(Table::Key, tenant, &id, &moved)
            };
            store.write(write).await?;
        }
        out.push((tenant, key));
    }
    Ok(out)
}

fn read(connection: &Connection, ring: &KeyRing) -> Result<(Keys, Rows), StoreError> {
    let mut places = Rows::new();
    rows::each(connection, ring, |tenant, key, place| places.entry((tenant, key.to_owned())).or_default().push(Arc::new(place)))?;
    Ok((ledger::all(connection, ring, Table::Key)?, places))
}
