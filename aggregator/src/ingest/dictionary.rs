//! Dictionaries of agents that came before: an agent sends the same series with batch after batch, and resolving them is most
//! of the work of taking one.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, PoisonError, RwLock};

use super::intake::{Hashed, Names};
use crate::index::TenantId;
use crate::store::Resolved;

/// Ids that are kept; past it all are forgotten, and resolved again.
const IDS_MAX: usize = 4 << 20;

/// What a dictionary is in the store.
#[derive(Debug, Clone)]
pub(super) struct Dictionary {
    pub(super) resolved: Resolved,
    /// Why the first of the series that did not fit did not, and which it is.
    pub(super) refusal: Option<Arc<str>>,
}

/// Dictionaries by the hash of their bytes.
#[derive(Debug, Default)]
pub(super) struct Dictionaries(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    by_hash: HashMap<u128, Dictionary, BuildHasherDefault<Hashed>>,
    /// Of all ids.
    generation: u64,
    ids: usize,
}

impl Dictionaries {
    /// What a dictionary of a host is known by.
    pub(super) fn hash(names: &Names, tenant: TenantId, host: &str, bytes: &[u8]) -> u128 {
        // The host's length keeps one that ends as another's dictionary begins apart from it.
        names.hash(tenant, &[&(host.len() as u64).to_le_bytes(), host.as_bytes(), bytes].concat())
    }

    /// A dictionary that was resolved in this `generation` of ids.
    pub(super) fn get(&self, hash: u128, generation: u64) -> Option<Dictionary> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.generation == generation { known.by_hash.get(&hash).cloned() } else { None }
    }

    /// Memory that is taken, bytes.
    pub(super) fn bytes(&self) -> usize {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.ids * size_of::<crate::index::SeriesId>() + known.by_hash.capacity() * (size_of::<(u128, Dictionary)>() + 17)
    }

    pub(super) fn remember(&self, hash: u128, dictionary: Dictionary) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Resolved { ids, refused, generation } = &dictionary.resolved;
        // A refused series takes a place in both.
        let ids = ids.len() + 4 * refused.len();
        if *generation < known.generation {
            return;
        }
        if *generation > known.generation || known.ids + ids > IDS_MAX {
            *known = Known { generation: *generation, ..Known::default() };
        }
        known.ids += ids;
        known.by_hash.insert(hash, dictionary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dictionary(generation: u64, id: u32) -> Dictionary {
        Dictionary { resolved: Resolved { ids: vec![id].into(), refused: Vec::new().into(), generation }, refusal: None }
    }

    #[test]
    fn what_was_found_in_another_generation_is_not_used() {
        let known = Dictionaries::default();
        let id = |hash, generation| known.get(hash, generation).map(|found| found.resolved.ids[0]);
        known.remember(1, dictionary(0, 7));
        assert_eq!((id(1, 0), id(1, 1)), (Some(7), None));
        known.remember(2, dictionary(1, 8));
        assert_eq!((id(1, 1), id(2, 1)), (None, Some(8)));
        known.remember(1, dictionary(0, 7));
        assert_eq!((id(1, 0), id(1, 1), id(2, 1)), (None, None, Some(8)), "told too late");
    }
}
