//! How what is wrong with keys becomes observations of a `finding` rule. One alert a finding, on however many hosts it is;
//! it escalates when it becomes more severe, and ends when the finding does. What is good to know alerts nobody. Pure.

use std::collections::{BTreeMap, BTreeSet};

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::sample::Tags;

use super::choice::{Comparison, Priority};
use super::rule::Rule;
use super::sentence::{list, short};
use super::{Alert, Judged, Observation, State};

/// Metric that the alerts name.
pub const METRIC_ID: &str = "crypto.key.policy_violations";
/// Tag with the finding's id.
const ID_TAG: &str = "finding";
const OVER: &str = "No longer so: ";

/// Something wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Identity of the finding.
    pub id: String,
    /// What is wrong.
    pub kind: FindingKind,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence.
    pub title: String,
    /// What to do.
    pub remedy: String,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Id of the first key.
    pub key: Option<String>,
}

/// Whether alerts of `rule` tell of such a finding.
#[must_use]
pub fn concerns(rule: &Rule, kind: FindingKind, severity: Severity) -> bool {
    severity > Severity::Info && rule.findings.contains(&kind)
}

/// One observation for each of `faults`, and one for each alert in `befores` whose finding is there no more: the whole
/// inventory was looked at, so what is not found is not so.
#[must_use]
pub fn observe(rule: &Rule, faults: &[Fault], befores: &BTreeMap<String, Alert>) -> Vec<Observation> {
    let mut seen: Vec<Observation> = faults.iter().filter(|fault| concerns(rule, fault.kind, fault.severity)).map(observe_fault).collect();
    let there: BTreeSet<&str> = seen.iter().filter_map(|seen| seen.tags.get(ID_TAG)).collect();
    let over = befores.values().filter(|alert| alert.state != State::Resolved);
    let over: Vec<Observation> = over.filter(|alert| alert.tags.get(ID_TAG).is_some_and(|id| !there.contains(id))).map(observe_end).collect();
    seen.extend(over);
    seen
}

fn observe_fault(fault: &Fault) -> Observation {
    let mut tags = Tags::default();
    let hosts = match fault.hosts.as_slice() {
        [host] => ("host", short(host)),
        hosts => ("hosts", list(hosts)),
    };
    let all = [(ID_TAG, fault.id.clone()), ("kind", fault.kind.as_str().to_owned()), ("key", fault.key.clone().unwrap_or_default()), hosts];
    for (name, value) in all.iter().filter(|(_, value)| !value.is_empty()) {
        tags.set(name, value);
    }
    let priority = if fault.severity == Severity::Critical { Priority::Critical } else { Priority::Medium };
    let mut seen = Observation::new(METRIC_ID, tags, Some(fault.hosts.len() as f64));
    seen.detail = Some(short(&fault.remedy)).filter(|text| !text.is_empty());
    seen.judged = Some(judged(&fault.id, true, priority, fault.severity as u8, short(&fault.title)));
    seen
}

fn observe_end(alert: &Alert) -> Observation {
    let said = alert.summary.strip_prefix(OVER).unwrap_or(&alert.summary);
    let said = said.split_once("; ").map_or(said, |(said, _)| said);
    let id = alert.tags.get(ID_TAG).unwrap_or_default();
    let mut seen = Observation::new(METRIC_ID, alert.tags.clone(), Some(0.0));
    seen.judged = Some(judged(id, false, alert.priority, alert.memory.rank, format!("{OVER}{said}")));
    seen
}

fn judged(id: &str, hit: bool, priority: Priority, rank: u8, summary: String) -> Judged {
    Judged { identity: id.to_owned(), hit, priority, rank, threshold: 1.0, comparison: Comparison::AtLeast, summary }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Kind, Tick, evaluate, shipped};

    fn rule(id: &str) -> Rule {
        shipped().into_iter().find(|rule| rule.rule_id == id).unwrap()
    }

    fn fault(severity: Severity, hosts: usize) -> Fault {
        Fault {
            id: "00ff".into(),
            kind: FindingKind::Weak,
            severity,
            title: "shop.example has a weak key".into(),
            remedy: "Make a new key.".into(),
            hosts: (0..hosts).map(|n| format!("web-{n}")).collect(),
            key: Some("ab".repeat(32)),
        }
    }

    #[test]
    fn one_alert_follows_a_finding_over_hosts_and_severities_until_it_is_gone() {
        let rule = rule("weak-key");
        let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
        let mut told = Vec::new();
        let mut run = |faults: &[Fault], now_ms: i64| {
            for step in evaluate(&rule, &alerts, &observe(&rule, faults, &alerts), Tick { now_ms, interval_ms: 15_000 }) {
                told.extend(step.transition.map(|t| (t.kind, step.alert.as_ref().map(|a| a.priority))));
                alerts.insert(step.id, step.alert.unwrap());
            }
            alerts.values().map(|alert| alert.summary.clone()).collect::<Vec<_>>()
        };
        assert_eq!(run(&[fault(Severity::Warning, 50)], 0), ["shop.example has a weak key; Make a new key."]);
        run(&[fault(Severity::Warning, 51)], 15_000);
        // What a restart leaves is the alerts; nothing is told anew.
        run(&[fault(Severity::Critical, 51)], 30_000);
        for second in [45, 75, 105] {
            run(&[], second * 1_000);
        }
        let summary = run(&[], 120_000);
        assert_eq!(summary, ["No longer so: shop.example has a weak key; it fired for 1 min 45 s"]);
        assert_eq!(told, [(Kind::Fired, Some(Priority::Medium)), (Kind::Escalated, Some(Priority::High)), (Kind::Resolved, Some(Priority::High))]);
    }

    #[test]
    fn what_is_good_to_know_and_other_kinds_alert_nobody() {
        let weak = rule("weak-key");
        assert!(observe(&weak, &[fault(Severity::Info, 1)], &BTreeMap::new()).is_empty());
        assert!(observe(&rule("served-certificate-stale"), &[fault(Severity::Critical, 1)], &BTreeMap::new()).is_empty());
        let hosts = observe(&weak, &[fault(Severity::Warning, 5)], &BTreeMap::new()).remove(0).tags;
        assert_eq!(hosts.get("hosts"), Some("web-0, web-1, web-2 and 2 more"));
    }
}
