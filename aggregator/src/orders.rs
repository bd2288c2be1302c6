//! What rides on an agent's ack: the order to look closely while it holds, and the order to renew while the agent does not
//! trust what it should, or shows a certificate of a CA that does not sign any more. Asked by `ingest`, for each push.

use std::sync::Arc;

use keyvigil_common::wire::{Directive, Sender};

use crate::authority::Authority;
use crate::fleet::{Agent, Fleet};
use crate::index::TenantId;

/// Renewals a second that a whole fleet is spread to.
const RENEWALS_PER_SECOND: u32 = 50;
/// A renewal is not asked for more often than this, ms: acks that come meanwhile say the same again.
const RENEW_WITHIN_MS_MIN: u32 = 10_000;

/// Finds what there is to order; without an authority nobody is told to renew.
#[derive(Debug, Default)]
pub struct Orders {
    fleet: Arc<Fleet>,
    authority: Option<Arc<Authority>>,
}

impl Orders {
    /// Orders for the agents of `fleet`.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, authority: Arc<Authority>) -> Self {
        Self { fleet, authority: Some(authority) }
    }

    /// What `agent`, which has just pushed, is to be told. Notes what it says it trusts.
    #[must_use]
    pub fn of(&self, tenant: TenantId, agent: &Agent, sender: Option<&Sender>, now_ms: i64) -> Vec<Directive> {
        let mut orders = Vec::new();
        if let Some(enhance) = agent.enhance.as_ref().filter(|enhance| enhance.until_ms > now_ms) {
            orders.push(Directive::Enhance { sensors: enhance.sensors.clone(), until_ms: enhance.until_ms });
        }
        // An agent of version 1 does not say, and would not understand.
        let Some(sender) = sender else { return orders };
        let trusts = keyvigil_common::hex(&sender.trusts);
        if agent.credentials.trusts.as_ref() != Some(&trusts) {
            self.fleet.note(tenant, &agent.id, |credentials| credentials.trusts = Some(trusts));
        }
        let Some(authority) = &self.authority else { return orders };
        let outdated = agent.credentials.used.as_ref().is_some_and(|used| used.issuer != authority.issuer());
        if outdated || sender.trusts != authority.trusts() {
            orders.push(Directive::Renew { within_ms: within_ms(self.fleet.len()) });
        }
        orders
    }
}

fn within_ms(agents: usize) -> u32 {
    let agents = u32::try_from(agents).unwrap_or(u32::MAX);
    (agents.saturating_mul(1_000) / RENEWALS_PER_SECOND).max(RENEW_WITHIN_MS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_renews_in_minutes_and_one_agent_in_seconds() {
        assert_eq!([0, 1, 10_000].map(within_ms), [10_000, 10_000, 200_000]);
        assert!(within_ms(usize::MAX) > 3_600_000);
    }
}
