//! The rules that come with the product and are on from the first start. Data only; a rule of the operator with the same
//! `rule_id` takes the place of one of these.

use keyvigil_common::finding::FindingKind;

use super::choice::{Origin, Priority, RuleKind};
use super::rule::Rule;
use crate::query::Aggregation;

/// The shipped rules.
#[must_use]
pub fn shipped() -> Vec<Rule> {
    vec![high_cpu(), memory_exhaustion(), authentication_failures(), key_expiry(), weak_key(), key_readable(), served_stale(), revoked_in_use()]
}

fn high_cpu() -> Rule {
    Rule {
        rule_id: "high-cpu".into(),
        name: "High CPU".into(),
        description: "The processors of a host are nearly all in use; work on it waits. Look at the processes that use most.".into(),
        metric_pattern: "system.cpu.usage_total".into(),
        aggregation: Aggregation::Avg,
        threshold_value: Some(90.0),
        duration_seconds: 300,
        priority: Priority::High,
        origin: Origin::Shipped,
        ..Rule::default()
    }
}

fn memory_exhaustion() -> Rule {
    Rule {
        rule_id: "memory-exhaustion".into(),
        name: "Memory exhaustion".into(),
        description: "A host is about to run out of memory; the kernel will soon end a process of its choice. Find what grows.".into(),
        metric_pattern: "system.memory.usage_percent".into(),
        aggregation: Aggregation::Avg,
        threshold_value: Some(85.0),
        duration_seconds: 300,
        priority: Priority::Critical,
        origin: Origin::Shipped,
        ..Rule::default()
    }
}

fn authentication_failures() -> Rule {
    Rule {
        rule_id: "authentication-failures".into(),
        name: "Authentication failures".into(),
        description: "Someone fails to log in again and again: a guesser, or a job with an old key. Look at the addresses in the events.".into(),
        metric_pattern: "security.auth_failures_total".into(),
        aggregation: Aggregation::Increase,
        window_seconds: 300,
        threshold_value: Some(10.0),
        priority: Priority::Critical,
        origin: Origin::Shipped,
        ..Rule::default()
    }
}

fn key_expiry() -> Rule {
    Rule {
        rule_id: "certificate-expiry".into(),
        name: "Certificate expiry".into(),
        description: "A certificate or key in use ends soon or has ended; who relies on it will be refused. Renew it and reload its users.".into(),
        kind: RuleKind::KeyExpiry,
        priority: Priority::Critical,
        days: vec![30, 14, 7, 1],
        origin: Origin::Shipped,
        ..Rule::default()
    }
}

fn weak_key() -> Rule {
    of_findings(
        "weak-key",
        "Weak key",
        "A key or a signature in use can be broken. Replace it; the finding says what is wrong with it and where it lies.",
        vec![FindingKind::Weak],
        Priority::High,
    )
}

fn key_readable() -> Rule {
    of_findings(
        "private-key-readable",
        "Private key readable by others",
        "Users other than its owner can read or replace a private key. Close the file, then replace the key: who read it, has it.",
        vec![FindingKind::PrivateKeyReadable, FindingKind::PrivateKeyInOpenDirectory],
        Priority::Critical,
    )
}

fn served_stale() -> Rule {
    of_findings(
        "served-certificate-stale",
        "Served certificate stale",
        "A certificate was renewed on disk, and the old one is still served until its end. Reload the service.",
        vec![FindingKind::ServedStale],
        Priority::High,
    )
}

fn revoked_in_use() -> Rule {
    of_findings(
        "revoked-in-use",
        "Revoked key in use",
        "A revoked certificate is served or named by a configuration, or a revoked key may still log in. Replace it.",
        vec![FindingKind::RevokedInUse, FindingKind::AuthorizedKeyRevoked],
        Priority::Critical,
    )
}

fn of_findings(rule_id: &str, name: &str, description: &str, findings: Vec<FindingKind>, priority: Priority) -> Rule {
    Rule {
        rule_id: rule_id.into(),
        name: name.into(),
        description: description.into(),
        kind: RuleKind::Finding,
        findings,
        priority,
        origin: Origin::Shipped,
        ..Rule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shipped_rule_passes_its_own_check() {
        for rule in shipped() {
            assert_eq!(rule.check(), Ok(()), "{}", rule.rule_id);
        }
    }
}
