//! Dictionaries of agents that came before: an agent sends the same series with batch after batch, and resolving them is most
//! of the work of taking one.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{PoisonError, RwLock};

use super::intake::{Hashed, Names};
use crate::index::TenantId;
use crate::store::Ids;

/// Ids that are kept; past it all are forgotten, and resolved again.
const IDS_MAX: usize = 4 << 20;

/// Ids by the hash of a dictionary's bytes.
#[derive(Debug, Default)]
pub(super) struct Dictionaries(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    by_hash: HashMap<u128, Ids, BuildHasherDefault<Hashed>>,
    ids: usize,
}

impl Dictionaries {
    /// What a dictionary of a host is known by.
    pub(super) fn hash(names: &Names, tenant: TenantId, host: &str, bytes: &[u8]) -> u128 {
        // The host's length keeps one that ends as another's dictionary begins apart from it.
        names.hash(tenant, &[&(host.len() as u64).to_le_bytes(), host.as_bytes(), bytes].concat())
    }

    pub(super) fn get(&self, hash: u128) -> Option<Ids> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_hash.get(&hash).cloned()
    }

    /// Memory that is taken, bytes.
    pub(super) fn bytes(&self) -> usize {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.ids * size_of::<crate::index::SeriesId>() + known.by_hash.capacity() * (size_of::<(u128, Ids)>() + 17)
    }

    pub(super) fn remember(&self, hash: u128, ids: Ids) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.ids + ids.len() > IDS_MAX {
            *known = Known::default();
        }
        known.ids += ids.len();
        known.by_hash.insert(hash, ids);
    }
}
