//! How the standing of hosts becomes observations of the rules `blind` and `silent`. One alert a host. Pure: who asks brings the hosts.

use keyvigil_common::sample::Tags;

use super::choice::{Comparison, RuleKind};
use super::rule::Rule;
use super::sentence::short;
use super::{Judged, Observation};

/// Metrics that the alerts name.
pub const BLIND: &str = "keyvigil.agent.blind";
/// Age of what came last.
pub const SILENT: &str = "keyvigil.agent.silent_seconds";

/// How a host stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It delivers, and does not see so many things; of these sights the aggregator misses the proof.
    Delivers(u32, Vec<&'static str>),
    /// Nothing came for so many seconds.
    Silent(i64),
    /// It may not deliver: nobody waits for it.
    Gone,
}

/// One observation for each host that the rule can say something of.
#[must_use]
pub fn observe(rule: &Rule, hosts: &[(String, Standing)]) -> Vec<Observation> {
    hosts.iter().filter_map(|(host, standing)| observe_host(rule, host, standing)).collect()
}

fn observe_host(rule: &Rule, host: &str, standing: &Standing) -> Option<Observation> {
    let is_blind_rule = rule.kind == RuleKind::Blind;
    let name = short(host);
    let (value, summary) = match standing {
        // Who says nothing may be blind or not.
        Standing::Silent(_) if is_blind_rule => return None,
        Standing::Silent(seconds) => (*seconds as f64, format!("{name} delivers nothing, for {} min", seconds / 60)),
        Standing::Delivers(1.., unproven) if is_blind_rule && !unproven.is_empty() => {
            (unproven.len() as f64, format!("{name} is blind: no proof has come that it sees {}", unproven.join(" and ")))
        }
        Standing::Delivers(unseen @ 1.., _) if is_blind_rule => {
            (f64::from(*unseen), format!("{name} is blind: it says that it cannot see {unseen} of what it should; keyvigil-agent status there names it"))
        }
        Standing::Delivers(..) if is_blind_rule => (0.0, format!("{name} sees again what it should")),
        Standing::Delivers(..) => (0.0, format!("{name} delivers again")),
        Standing::Gone => (0.0, format!("{name} was taken out")),
    };
    let mut tags = Tags::default();
    tags.set("host", host);
    let mut seen = Observation::new(if is_blind_rule { BLIND } else { SILENT }, tags, Some(value));
    let hit = match standing {
        Standing::Delivers(unseen, _) => is_blind_rule && *unseen > 0,
        Standing::Silent(_) => true,
        Standing::Gone => false,
    };
    seen.judged = Some(Judged { identity: host.to_owned(), hit, priority: rule.priority, rank: 0, threshold: 0.0, comparison: Comparison::Above, summary });
    Some(seen)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::alert::{Alert, Kind, Tick, evaluate, shipped};

    fn told(rule: &str, course: &[(i64, Standing)]) -> Vec<(Kind, String)> {
        let rule = shipped().into_iter().find(|known| known.rule_id == rule).unwrap();
        let (mut alerts, mut told) = (BTreeMap::<String, Alert>::new(), Vec::new());
        for (second, standing) in course {
            let seen = observe(&rule, &[("web-1".to_owned(), standing.clone())]);
            for step in evaluate(&rule, &alerts, &seen, Tick { now_ms: second * 1_000, interval_ms: 30_000 }) {
                let Some(alert) = step.alert else { continue };
                told.extend(step.transition.map(|transition| (transition.kind, alert.summary.clone())));
                alerts.insert(step.id, alert);
            }
        }
        told
    }

    #[test]
    fn a_blind_host_alerts_until_it_is_seen_to_see_and_silence_is_no_sight() {
        let well = || Standing::Delivers(0, Vec::new());
        let blind = || Standing::Delivers(1, vec!["opens of key files"]);
        assert!(told("agent-blind", &[(0, well()), (30, Standing::Silent(300))]).is_empty());
        let all = told("agent-blind", &[(0, blind()), (30, Standing::Silent(90)), (60, blind()), (90, well()), (120, well()), (150, well()), (180, well())]);
        assert_eq!(all.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [Kind::Fired, Kind::Resolved], "{all:?}");
        assert!(all[0].1.contains("no proof has come that it sees opens of key files"), "{all:?}");
        assert!(told("agent-blind", &[(0, Standing::Delivers(3, Vec::new()))])[0].1.contains("cannot see 3 of what it should"));
    }

    #[test]
    fn a_silent_host_alerts_after_minutes_and_one_that_was_taken_out_does_not() {
        let course: Vec<(i64, Standing)> = (0..12).map(|n| (n * 30, Standing::Silent(60 + n * 30))).collect();
        let all = told("agent-silent", &course);
        assert_eq!(all.last().map(|(kind, _)| *kind), Some(Kind::Fired), "{all:?}");
        assert!(all.last().is_some_and(|(_, summary)| summary.contains("web-1 delivers nothing, for 5 min")), "{all:?}");
        let gone = [course, (12..16).map(|n| (n * 30, Standing::Gone)).collect()].concat();
        assert_eq!(told("agent-silent", &gone).last().map(|(kind, _)| *kind), Some(Kind::Resolved));
        assert!(told("agent-silent", &[(0, Standing::Delivers(4, Vec::new())), (900, Standing::Gone)]).is_empty());
    }
}
