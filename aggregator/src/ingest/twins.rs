//! Two machines with one identity: a host that was cloned with its agent's state. Each start of an agent has a random name;
//! one that delivers again after another has is a second living agent. Seen twice, so that a request which was long on its way
//! through a restart accuses nobody.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keyvigil_common::wire::Sender;
use serde::{Deserialize, Serialize};

use crate::fleet::Agent;
use crate::index::TenantId;

/// Starts of one agent that are remembered.
const STARTS_MAX: usize = 16;
/// A request that took so much longer than the quickest of its sender is late, ms, and says nothing of who lives now.
const LATE_MS: i64 = 5_000;
/// Returns that prove a second agent.
const RETURNS: u32 = 2;

/// A copy that is kept out, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// Its start, hex.
    pub instance: String,
    /// Its installation, hex.
    pub machine: String,
    /// The installation that it is a copy of, hex.
    pub original: String,
    /// When it was noticed, Unix ms.
    pub at_ms: i64,
}

impl Twin {
    fn is(&self, sender: &Sender) -> bool {
        let machine = keyvigil_common::hex(&sender.machine);
        self.instance == keyvigil_common::hex(&sender.instance) || (self.machine == machine && self.original != machine)
    }
}

/// Whether what `sender` delivers as `agent` is kept out.
pub(super) fn is_kept_out(agent: &Agent, sender: Option<&Sender>) -> bool {
    sender.is_some_and(|sender| agent.twins.iter().any(|twin| twin.is(sender)))
}

/// The starts of each agent that delivered lately, the newest last.
#[derive(Debug, Default)]
pub(super) struct Twins(Mutex<HashMap<(TenantId, String), Starts>>);

#[derive(Debug, Default)]
struct Starts {
    known: Vec<Start>,
    current: [u8; 16],
}

#[derive(Debug)]
struct Start {
    instance: [u8; 16],
    machine: [u8; 32],
    returns: u32,
    /// What our clock showed when its host was started, as far as its quickest request tells.
    started_ms: i64,
}

impl Twins {
    /// Learns that `sender` delivered something new, or something that another had delivered in its name. Returns the copy, if
    /// that proves one: of the two that live, the one that was heard of later.
    pub(super) fn delivered(&self, tenant: TenantId, agent: &str, sender: &Sender, now_ms: i64) -> Option<Twin> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let starts = all.entry((tenant, agent.to_owned())).or_default();
        let started_ms = now_ms.saturating_sub(sender.boot_ms);
        if let Some(known) = starts.known.iter_mut().find(|start| start.instance == sender.instance) {
            if started_ms.saturating_sub(known.started_ms) > LATE_MS {
                return None;
            }
            known.started_ms = known.started_ms.min(started_ms);
        }
        let before = std::mem::replace(&mut starts.current, sender.instance);
        if before == sender.instance {
            return None;
        }
        let place = |starts: &Starts, instance| starts.known.iter().position(|start| start.instance == instance);
        let Some(at) = place(starts, sender.instance) else {
            if starts.known.len() >= STARTS_MAX {
                starts.known.remove(0);
            }
            starts.known.push(Start { instance: sender.instance, machine: sender.machine, returns: 0, started_ms });
            return None;
        };
        starts.known[at].returns += 1;
        let other = place(starts, before)?;
        if starts.known[at].returns < RETURNS {
            return None;
        }
        let (elder, newer) = (at.min(other), at.max(other));
        let original = keyvigil_common::hex(&starts.known[elder].machine);
        let copy = starts.known.remove(newer);
        starts.known[elder].returns = 0;
        starts.current = starts.known[elder].instance;
        Some(Twin { instance: keyvigil_common::hex(&copy.instance), machine: keyvigil_common::hex(&copy.machine), original, at_ms: now_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(instance: u8, machine: u8) -> Sender {
        Sender {
            instance: [instance; 16],
            machine: [machine; 32],
            boot: [0; 16],
            boot_ms: 0,
            wall_ms: 0,
            trusts: [0; 32],
            blind: None,
            canaries: keyvigil_common::canary::Canaries::default(),
        }
    }

    fn found(order: &[(u8, u8)]) -> Vec<Option<Twin>> {
        let twins = Twins::default();
        order.iter().map(|(instance, machine)| twins.delivered(1, "a", &sender(*instance, *machine), 5)).collect()
    }

    #[test]
    fn a_restart_is_no_twin_nor_is_a_request_that_was_long_on_its_way() {
        assert!(found(&[(1, 1), (1, 1), (2, 1), (2, 1), (3, 1)]).iter().all(Option::is_none));
        assert!(found(&[(1, 1), (2, 1), (1, 1), (2, 1), (2, 1)]).iter().all(Option::is_none), "one late request of the first start");
    }

    #[test]
    fn requests_of_a_start_that_is_over_accuse_nobody_however_many_come_late() {
        let twins = Twins::default();
        // The first start sent five requests a second apart; four of them are ten seconds late, and arrive between those of the second.
        assert_eq!(twins.delivered(1, "a", &Sender { boot_ms: 1_000, ..sender(1, 1) }, 1_000), None);
        for n in 1..5 {
            assert_eq!(twins.delivered(1, "a", &Sender { boot_ms: 10_000 + n * 1_000, ..sender(2, 1) }, 10_000 + n * 1_000), None);
            assert_eq!(twins.delivered(1, "a", &Sender { boot_ms: 1_000 + n * 1_000, ..sender(1, 1) }, 11_000 + n * 1_000), None);
        }
    }

    #[test]
    fn two_that_take_turns_are_told_apart_and_the_newer_one_is_the_copy() {
        let found = found(&[(1, 1), (2, 9), (1, 1), (2, 9), (1, 1)]);
        let twin = found[4].clone().unwrap();
        assert!(twin.is(&sender(2, 9)) && !twin.is(&sender(1, 1)));
        assert!(twin.is(&sender(7, 9)), "it is known again after its restart");
        assert!(!twin.is(&sender(7, 1)), "and the original is not taken for it after one of its own");
        assert!(found[..4].iter().all(Option::is_none));
    }

    #[test]
    fn of_three_each_copy_is_found_in_turn() {
        let order: Vec<(u8, u8)> = (0..12).map(|n| (1 + n % 3, 1 + n % 3)).collect();
        assert!(found(&order).into_iter().flatten().all(|twin| twin.instance != keyvigil_common::hex(&[1; 16])));
        assert!(found(&order).into_iter().flatten().count() >= 1);
    }

    #[test]
    fn a_perfect_copy_is_kept_out_by_its_start_alone() {
        let twin = found(&[(1, 1), (2, 1), (1, 1), (2, 1), (1, 1)]).into_iter().flatten().next().unwrap();
        assert!(twin.is(&sender(2, 1)) && !twin.is(&sender(1, 1)) && !twin.is(&sender(3, 1)));
    }
}
