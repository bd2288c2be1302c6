//! Keys of a host that was taken out: they lie there no more, which nobody is left to say. Called by the API.

use std::sync::Arc;

use keyvigil_common::key::Sighting;

use super::{Inventory, sight};
use crate::index::TenantId;
use crate::store::{Store, StoreError, Tx};

/// Places told of in one transaction.
const CHUNK: usize = 500;

/// Has every key leave `host`; how many places that were.
///
/// # Errors
/// The store's.
pub async fn leave(store: &Store, inventory: &Arc<Inventory>, tenant: TenantId, host: &str, now_ms: i64) -> Result<usize, StoreError> {
    let mut left = Vec::new();
    inventory.each(tenant, |key| {
        let places = key.places.on(host).filter(|p| !p.gone).map(|p| p.place.clone());
        left.extend(places.map(|place| Sighting { facts: key.facts.clone(), place, at_ms: now_ms, gone: true, replaces: None }));
    });
    for chunk in left.chunks(CHUNK).map(<[Sighting]>::to_vec) {
        let (inventory, host) = (Arc::clone(inventory), host.to_owned());
        let write = move |tx: &Tx<'_>| {
            let changed = sight(tx, tenant, &host, chunk)?;
            tx.after_commit(move || changed.into_iter().for_each(|changed| inventory.put(tenant, changed)));
            Ok(())
        };
        store.write(write).await?;
    }
    Ok(left.len())
}
