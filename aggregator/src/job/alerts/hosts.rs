//! What the fleet shows to rules: which hosts see nothing, and which say nothing.

use std::collections::BTreeMap;

use keyvigil_common::canary::CanaryPath;

use crate::alert::host::Standing;
use crate::fleet::{Agent, Fleet, HostState};
use crate::index::TenantId;

/// How each host of a tenant stands, by the agent that speaks for it: one that may deliver before one that may not, the latest first.
pub(super) fn standings(fleet: &Fleet, tenant: TenantId, now_ms: i64) -> Vec<(String, Standing)> {
    let mut hosts: BTreeMap<String, Agent> = BTreeMap::new();
    for agent in fleet.list(tenant) {
        let speaks = |agent: &Agent| (!agent.revoked, agent.last_seen_ms, agent.enrolled_ms);
        match hosts.get_mut(&agent.host) {
            Some(before) if speaks(before) >= speaks(&agent) => {}
            Some(before) => *before = agent,
            None => drop(hosts.insert(agent.host.clone(), agent)),
        }
    }
    hosts.into_iter().map(|(host, agent)| (host, standing(&agent, now_ms))).collect()
}

fn standing(agent: &Agent, now_ms: i64) -> Standing {
    match agent.state(now_ms) {
        HostState::Revoked => Standing::Gone,
        HostState::Up => Standing::Delivers(agent.unseen(now_ms).unwrap_or(0), agent.unproven(now_ms).into_iter().map(CanaryPath::sight).collect()),
        HostState::Silent | HostState::Unknown => Standing::Silent((now_ms - agent.last_seen_ms.unwrap_or(agent.enrolled_ms)).max(0) / 1_000),
    }
}
