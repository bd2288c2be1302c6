//! What was last acknowledged of each agent, so that its next push may be told as a difference to it. Compressed, bounded in
//! bytes, in memory only: an agent whose base is gone sends its push whole. Found by tenant and agent, both from the certificate, and
//! by a name that is a hash of what it holds: nobody reaches another's.

use std::sync::Arc;

use keyvigil_common::limits::BASES_BYTES_MAX;
use keyvigil_common::wire::Base;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Weighter};

use super::Refusal;
use crate::index::TenantId;

/// What an entry takes beside its bytes.
const ENTRY_BYTES: usize = 192;
/// Bytes of an entry, about: only how many there will be follows from it.
const ENTRY_BYTES_USUAL: usize = 4 << 10;
const LEVEL: i32 = 1;

type Key = (TenantId, String);

#[derive(Debug)]
pub(super) struct Packed {
    name: u64,
    length: usize,
    compressed: Box<[u8]>,
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Packed>> for ByBytes {
    fn weight(&self, (_, agent): &Key, packed: &Arc<Packed>) -> u64 {
        (packed.compressed.len() + agent.len() + ENTRY_BYTES) as u64
    }
}

/// The bases of all agents.
#[derive(Debug)]
pub(super) struct Bases(Cache<Key, Arc<Packed>, ByBytes>);

impl Default for Bases {
    fn default() -> Self {
        Self::of(BASES_BYTES_MAX)
    }
}

impl Packed {
    /// Bytes of the base, unpacked.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn unpack(&self) -> Result<Base, Refusal> {
        // Of our own making, and no longer than a base may be.
        let mut bytes = Vec::with_capacity(self.length);
        let mut inflater = zstd::bulk::Decompressor::new().map_err(|_| Refusal::Base)?;
        inflater.decompress_to_buffer(&self.compressed, &mut bytes).map_err(|_| Refusal::Base)?;
        Ok(Base { name: self.name, bytes })
    }
}

impl Bases {
    fn of(bytes: usize) -> Self {
        let usual = bytes / ENTRY_BYTES_USUAL;
        Self(Cache::with(usual, bytes as u64, ByBytes, DefaultHashBuilder::default(), quick_cache::sync::DefaultLifecycle::default()))
    }

    /// The base of an agent, if it is the one of that name.
    pub(super) fn get(&self, tenant: TenantId, agent: &str, name: u64) -> Option<Arc<Packed>> {
        self.0.get(&(tenant, agent.to_owned())).filter(|packed| packed.name == name)
    }

    /// Keeps the base of an agent instead of the one before; its name, if it is kept.
    pub(super) fn keep(&self, tenant: TenantId, agent: &str, base: Option<&Base>) -> Option<u64> {
        let key = (tenant, agent.to_owned());
        let compressed = base.and_then(|base| zstd::bulk::compress(&base.bytes, LEVEL).ok().map(|compressed| (base, compressed)));
        let Some((base, compressed)) = compressed else {
            self.0.remove(&key);
            return None;
        };
        self.0.insert(key, Arc::new(Packed { name: base.name, length: base.bytes.len(), compressed: compressed.into() }));
        Some(base.name)
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.0.clear();
    }

    /// Memory that is taken, bytes.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.0.weight()).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: u64) -> Base {
        let mut bytes = vec![0; 3_000];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        Base { name, bytes }
    }

    #[test]
    fn only_its_own_agent_finds_a_base_and_only_the_last_one() {
        let bases = Bases::default();
        let (one, two) = (base(1), base(2));
        assert_eq!(bases.keep(1, "a", Some(&one)), Some(1));
        assert_eq!(bases.get(1, "a", 1).map(|packed| packed.unpack().unwrap()), Some(one));
        assert!(bases.get(1, "b", 1).is_none() && bases.get(2, "a", 1).is_none() && bases.get(1, "a", 2).is_none());
        bases.keep(1, "a", Some(&two));
        assert!(bases.get(1, "a", 1).is_none() && bases.get(1, "a", 2).is_some());
        assert_eq!(bases.keep(1, "a", None), None);
        assert!(bases.get(1, "a", 2).is_none());
    }

    #[test]
    fn many_agents_stay_within_the_bound_and_those_of_a_large_fleet_all_fit() {
        let bases = Bases::of(1 << 20);
        for agent in 0..2_000 {
            bases.keep(1, &agent.to_string(), Some(&base(agent)));
            assert!(bases.bytes() <= 1 << 20);
        }
        let bases = Bases::default();
        for agent in 0..10_000 {
            bases.keep(1, &agent.to_string(), Some(&base(agent)));
        }
        let held = (0..10_000).filter(|agent| bases.get(1, &agent.to_string(), *agent).is_some()).count();
        assert_eq!(held, 10_000, "{} bytes", bases.bytes());
    }
}
