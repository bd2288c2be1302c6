//! The enrolled agents: who they are, when they were heard of, and whether they may deliver. In memory for reading; every
//! change that must last is a record in the store. Times of "heard of" are by the aggregator's clock.

mod agent;
mod roll;
mod sight;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use keyvigil_common::canary::{Canaries, CanaryPath};
use keyvigil_common::wire::HostFacts;

use crate::index::TenantId;
use crate::keys::{Inventory, Observed, Uses};
use crate::store::ledger::{self, Table};
use crate::store::{Store, StoreError, Tx};
pub use agent::{Agent, Credentials, Enhance, HostState, Joined, Used};
use roll::Roll;
pub use sight::Sight;

/// How stale the stored "heard of" may be, ms: after a restart it is at most this much too old.
const PERSIST_MS: i64 = 30_000;

/// What a push told about its agent.
#[derive(Debug, Default)]
pub struct News {
    /// Newest sample.
    pub last_sample_ms: Option<i64>,
    /// Shortest interval in it: how soon the next is due at the latest.
    pub interval_ms: Option<u32>,
    /// What the host is.
    pub facts: Option<HostFacts>,
    /// How far its clock is behind ours, ms.
    pub clock_offset_ms: Option<i64>,
    /// How much it does not see.
    pub blind: Option<u32>,
    /// Which canaries it promises.
    pub canaries: Option<Canaries>,
    /// Canaries that were seen, and when.
    pub proven: Vec<(CanaryPath, i64)>,
    /// What it tells of the use of keys, batch by batch.
    pub uses: Vec<Uses>,
}

/// All agents.
#[derive(Debug, Default)]
pub struct Fleet(RwLock<Roll>);

/// An agent whose join is decided; until this is dropped it counts for joins that are decided after it.
#[derive(Debug)]
pub struct Expected {
    fleet: Arc<Fleet>,
    tenant: TenantId,
    id: String,
    decision: u64,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.fleet.write().expect_no_more(self.tenant, &self.id, self.decision);
    }
}

impl Fleet {
    fn read(&self) -> RwLockReadGuard<'_, Roll> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Roll> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the agents from the store.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(&self, store: &Store) -> Result<(), StoreError> {
        let agents = store.read(|connection, ring| ledger::all::<Agent>(connection, ring, Table::Agent)).await?;
        for (tenant, _, agent) in agents {
            self.set(tenant, agent, 0);
        }
        Ok(())
    }

    /// How many there are, of all tenants.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The agent of that identity.
    #[must_use]
    pub fn get(&self, tenant: TenantId, id: &str) -> Option<Agent> {
        self.read().get(tenant, id).cloned()
    }

    /// The agent of that identity, also where its join is decided and not committed yet.
    #[must_use]
    pub fn decided(&self, tenant: TenantId, id: &str) -> Option<Agent> {
        self.read().decided(tenant, id).cloned()
    }

    /// All agents of a tenant, by host.
    #[must_use]
    pub fn list(&self, tenant: TenantId) -> Vec<Agent> {
        let mut list: Vec<Agent> = self.read().iter().filter(|(at, _)| *at == tenant).map(|(_, agent)| agent.clone()).collect();
        list.sort_by(|a, b| a.host.cmp(&b.host).then(a.enrolled_ms.cmp(&b.enrolled_ms)));
        list
    }

    /// Puts a committed agent.
    pub fn set(&self, tenant: TenantId, agent: Agent, persisted_ms: i64) {
        self.write().put(tenant, agent, persisted_ms);
    }

    /// Counts an agent that a transaction is about to enter: others that are decided in the same commit must know of it.
    #[must_use]
    pub fn expect(self: &Arc<Self>, tenant: TenantId, agent: &Agent) -> Expected {
        let decision = self.write().expect(tenant, agent.clone());
        Expected { fleet: Arc::clone(self), tenant, id: agent.id.clone(), decision }
    }

    /// The agent after a push at `now_ms`, and whether it should be stored again.
    #[must_use]
    pub fn heard(&self, tenant: TenantId, id: &str, news: &News, cursor: u64, now_ms: i64) -> Option<(Agent, bool)> {
        let mut agents = self.write();
        let (agent, persisted_ms) = agents.get_mut(tenant, id)?;
        agent.heard(now_ms);
        agent.last_sample_ms = agent.last_sample_ms.max(news.last_sample_ms);
        agent.cursor = cursor;
        agent.clock_offset_ms = news.clock_offset_ms.or(agent.clock_offset_ms);
        agent.blind = news.blind.or(agent.blind);
        if let Some(interval_ms) = news.interval_ms {
            agent.paced(interval_ms, now_ms);
        }
        news.uses.iter().for_each(|uses| uses.observe(&mut agent.observed));
        let proven = agent.sight.take(news.canaries, &news.proven);
        let changed = proven || news.facts.as_ref().is_some_and(|facts| *facts != agent.facts);
        if let Some(facts) = &news.facts {
            agent.facts = facts.clone();
        }
        let persist = changed || now_ms - *persisted_ms >= PERSIST_MS;
        if persist {
            *persisted_ms = now_ms;
        }
        Some((agent.clone(), persist))
    }

    /// Notes what an agent showed or told of its certificates; it is stored with the next push.
    pub fn note(&self, tenant: TenantId, id: &str, note: impl FnOnce(&mut Credentials)) {
        let mut agents = self.write();
        let Some((agent, persisted_ms)) = agents.get_mut(tenant, id) else { return };
        let before = agent.credentials.clone();
        note(&mut agent.credentials);
        if agent.credentials != before {
            *persisted_ms = 0;
        }
    }

    /// What is observed of the use of keys on a host: by its agent, and by those that it had before.
    #[must_use]
    pub fn observed(&self, tenant: TenantId, host: &str) -> Observed {
        let roll = self.read();
        let mut agents: Vec<&Agent> = roll.of_host(tenant, host).collect();
        agents.sort_by_key(|agent| std::cmp::Reverse(agent.enrolled_ms));
        let mut observed = agents.first().map(|agent| agent.observed.clone()).unwrap_or_default();
        agents.iter().skip(1).for_each(|earlier| observed.absorb(&earlier.observed));
        observed
    }

    /// Has the inventory know what is observed where.
    pub fn tell(&self, inventory: &Inventory) {
        let hosts: Vec<(TenantId, String)> = self.read().iter().map(|(tenant, agent)| (tenant, agent.host.clone())).collect();
        hosts.into_iter().for_each(|(tenant, host)| inventory.observe(tenant, &host, self.observed(tenant, &host)));
    }

    /// The agents of all tenants.
    #[must_use]
    pub fn all(&self) -> Vec<Agent> {
        self.read().iter().map(|(_, agent)| agent.clone()).collect()
    }

    /// All agents that a machine was or is, the latest first.
    #[must_use]
    pub fn earlier_of_machine(&self, tenant: TenantId, machine: &str) -> Vec<String> {
        let mut all = self.list(tenant);
        all.retain(|agent| !machine.is_empty() && agent.machine == machine);
        all.sort_by_key(|agent| std::cmp::Reverse(agent.enrolled_ms));
        all.into_iter().map(|agent| agent.id).collect()
    }

    /// The agent that a machine has, if it may deliver. One that has copies is nobody's: whoever joins becomes another.
    #[must_use]
    pub fn of_machine(&self, tenant: TenantId, machine: &str) -> Option<Agent> {
        self.read().of_machine(tenant, machine).find(|agent| !agent.revoked && agent.twins.is_empty()).cloned()
    }

    /// The agent that joined with that key and that token after `since_ms`.
    #[must_use]
    pub fn of_join(&self, tenant: TenantId, token: &str, key: &str, since_ms: i64) -> Option<Agent> {
        let roll = self.read();
        let mut joined = roll.of_join(tenant, key);
        joined.find(|agent| agent.joined.as_ref().is_some_and(|joined| joined.token == token && joined.at_ms >= since_ms)).cloned()
    }

    /// Agents of a host name that were not heard of for so long that an agent which claims the name now takes their place.
    #[must_use]
    pub fn abandoned(&self, tenant: TenantId, host: &str, now_ms: i64) -> Vec<Agent> {
        self.read().of_host(tenant, host).filter(|agent| !agent.revoked && agent.is_abandoned(now_ms)).cloned().collect()
    }

    /// A host name that no living agent of the tenant has: the wanted one, or with a piece of `id` behind it.
    #[must_use]
    pub fn claim(&self, tenant: TenantId, wanted: &str, id: &str, now_ms: i64) -> String {
        let agents = self.read();
        let taken = |host: &str| agents.of_host(tenant, host).any(|agent| !agent.revoked && !agent.is_abandoned(now_ms));
        let pieces = [4, 8, id.len()].map(|length| format!("{wanted}-{}", id.get(..length).unwrap_or(id)));
        std::iter::once(wanted.to_owned()).chain(pieces).find(|host| !taken(host)).unwrap_or_else(|| format!("{wanted}-{id}"))
    }
}

/// The agent as the transaction sees it.
///
/// # Errors
/// No such agent; the store's.
pub fn get(tx: &Tx<'_>, tenant: TenantId, id: &str) -> Result<Agent, StoreError> {
    tx.get(Table::Agent, tenant, id)?.ok_or_else(|| StoreError::Missing("this agent".into()))
}

/// Changes what is decided about an agent, in a transaction, and here once that is committed. What is heard of it meanwhile
/// stays.
///
/// # Errors
/// No such agent; the store's.
pub fn change(fleet: &Arc<Fleet>, tx: &Tx<'_>, tenant: TenantId, id: &str, change: impl Fn(&mut Agent) + Send + 'static) -> Result<Agent, StoreError> {
    let stored = tx.get(Table::Agent, tenant, id)?.or_else(|| fleet.get(tenant, id));
    let mut changed: Agent = stored.ok_or_else(|| StoreError::Missing("this agent".into()))?;
    change(&mut changed);
    enter(tx, tenant, &changed)?;
    let (fleet, id) = (Arc::clone(fleet), id.to_owned());
    tx.after_commit(move || {
        if let Some((agent, _)) = fleet.write().get_mut(tenant, &id) {
            change(agent);
        }
    });
    Ok(changed)
}

/// Stores a whole agent in a transaction.
///
/// # Errors
/// The store's.
pub fn enter(tx: &Tx<'_>, tenant: TenantId, agent: &Agent) -> Result<(), StoreError> {
    tx.put(Table::Agent, tenant, &agent.id, agent)
}

/// Stores what was heard of an agent. What was decided about it stays as the transaction sees it: one commit may hold both
/// a push and a revocation, and memory learns of the latter only afterwards.
///
/// # Errors
/// The store's.
pub fn put(tx: &Tx<'_>, tenant: TenantId, agent: &Agent) -> Result<(), StoreError> {
    let Some(stored) = tx.get::<Agent>(Table::Agent, tenant, &agent.id)? else { return enter(tx, tenant, agent) };
    let heard = agent.clone();
    let credentials = Credentials { used: heard.credentials.used, trusts: heard.credentials.trusts, ..stored.credentials };
    let Agent { last_seen_ms, last_sample_ms, interval_ms, paced_ms, facts, cursor, clock_offset_ms, blind, sight, observed, .. } = heard;
    let told = Agent { last_seen_ms, last_sample_ms, interval_ms, paced_ms, facts, cursor, clock_offset_ms, blind, sight, observed, credentials, ..stored };
    enter(tx, tenant, &told)
}

#[cfg(test)]
mod tests;
