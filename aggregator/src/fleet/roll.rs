//! The roll of agents in memory: by identity, and found by host name, by machine and by the key they joined with, without
//! looking at all of them. Those whose join is decided and not committed yet stand on it too, so that two joins of one commit
//! do not get the same name; they leave it when the commit fails. Knows no store and no clock.

use std::collections::HashMap;

use super::Agent;
use crate::index::TenantId;

type Key = (TenantId, String);

/// The roll.
#[derive(Debug, Default)]
pub(super) struct Roll {
    /// Who is enrolled, and when that was stored last, Unix ms.
    agents: HashMap<Key, (Agent, i64)>,
    /// Who will be, and the number of the decision.
    expected: HashMap<Key, (Agent, u64)>,
    decisions: u64,
    by_host: HashMap<Key, Vec<String>>,
    by_machine: HashMap<Key, Vec<String>>,
    by_join: HashMap<Key, Vec<String>>,
}

impl Roll {
    pub(super) fn len(&self) -> usize {
        self.agents.len()
    }

    pub(super) fn get(&self, tenant: TenantId, id: &str) -> Option<&Agent> {
        self.agents.get(&(tenant, id.to_owned())).map(|(agent, _)| agent)
    }

    pub(super) fn get_mut(&mut self, tenant: TenantId, id: &str) -> Option<&mut (Agent, i64)> {
        self.agents.get_mut(&(tenant, id.to_owned()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TenantId, &Agent)> {
        self.agents.iter().map(|((tenant, _), (agent, _))| (*tenant, agent))
    }

    /// Enrolled, or about to be: what was decided last counts.
    pub(super) fn decided(&self, tenant: TenantId, id: &str) -> Option<&Agent> {
        let key = (tenant, id.to_owned());
        self.expected.get(&key).map(|(agent, _)| agent).or_else(|| self.agents.get(&key).map(|(agent, _)| agent))
    }

    /// Enters an agent, or what has become of it.
    pub(super) fn put(&mut self, tenant: TenantId, agent: Agent, persisted_ms: i64) {
        let id = agent.id.clone();
        self.unlist(tenant, &id);
        self.agents.insert((tenant, id.clone()), (agent, persisted_ms));
        self.list(tenant, &id);
    }

    /// Notes an agent that will be entered; returns the number of the decision.
    pub(super) fn expect(&mut self, tenant: TenantId, agent: Agent) -> u64 {
        let id = agent.id.clone();
        self.decisions += 1;
        self.unlist(tenant, &id);
        self.expected.insert((tenant, id.clone()), (agent, self.decisions));
        self.list(tenant, &id);
        self.decisions
    }

    /// Ends what [`Roll::expect`] noted under that number, unless another decision came after it.
    pub(super) fn expect_no_more(&mut self, tenant: TenantId, id: &str, decision: u64) {
        if self.expected.get(&(tenant, id.to_owned())).is_some_and(|(_, number)| *number == decision) {
            self.unlist(tenant, id);
            self.expected.remove(&(tenant, id.to_owned()));
            self.list(tenant, id);
        }
    }

    /// Those of a host name.
    pub(super) fn of_host(&self, tenant: TenantId, host: &str) -> impl Iterator<Item = &Agent> {
        self.found(&self.by_host, tenant, host).filter(move |agent| agent.host == host)
    }

    /// Those of a machine.
    pub(super) fn of_machine(&self, tenant: TenantId, machine: &str) -> impl Iterator<Item = &Agent> {
        self.found(&self.by_machine, tenant, machine).filter(move |agent| agent.machine == machine)
    }

    /// Those that joined with that key.
    pub(super) fn of_join(&self, tenant: TenantId, key: &str) -> impl Iterator<Item = &Agent> {
        self.found(&self.by_join, tenant, key).filter(move |agent| agent.joined.as_ref().is_some_and(|joined| joined.key == key))
    }

    fn found<'a>(&'a self, index: &'a HashMap<Key, Vec<String>>, tenant: TenantId, name: &str) -> impl Iterator<Item = &'a Agent> {
        index.get(&(tenant, name.to_owned())).into_iter().flatten().filter_map(move |id| self.decided(tenant, id))
    }

    /// Enters what stands under `id` into the indexes.
    fn list(&mut self, tenant: TenantId, id: &str) {
        self.each_entry(tenant, id, |ids, id| ids.push(id.to_owned()));
    }

    /// Takes what stands under `id` out of them.
    fn unlist(&mut self, tenant: TenantId, id: &str) {
        self.each_entry(tenant, id, |ids, id| ids.retain(|known| known != id));
    }

    fn each_entry(&mut self, tenant: TenantId, id: &str, change: impl Fn(&mut Vec<String>, &str)) {
        let Some(agent) = self.decided(tenant, id) else { return };
        let joined = agent.joined.as_ref().map(|joined| joined.key.clone());
        let (host, machine) = (agent.host.clone(), Some(agent.machine.clone()).filter(|machine| !machine.is_empty()));
        let places = [(&mut self.by_host, Some(host)), (&mut self.by_machine, machine), (&mut self.by_join, joined)];
        for (index, name) in places.into_iter().filter_map(|(index, name)| Some((index, (tenant, name?)))) {
            let ids = index.entry(name.clone()).or_default();
            change(ids, id);
            if ids.is_empty() {
                index.remove(&name);
            }
        }
    }
}
