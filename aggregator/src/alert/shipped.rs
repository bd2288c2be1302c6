//! The rules that come with the product and are on from the first start. Data only; a rule of the operator with the same
//! `rule_id` takes the place of one of these.

use keyvigil_common::event::EventKind;
use keyvigil_common::finding::FindingKind;

use super::choice::{Origin, Priority, RuleKind};
use super::rule::Rule;
use crate::query::Aggregation;

/// The shipped rules.
#[must_use]
pub fn shipped() -> Vec<Rule> {
    let of_hosts = [high_cpu(), memory_exhaustion(), authentication_failures(), agent_blind(), agent_silent()];
    let of_keys = [key_expiry(), weak_key(), key_readable(), served_stale(), revoked_in_use(), unauthorized_access(), access_denied()];
    of_hosts.into_iter().chain(of_keys).collect()
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

fn unauthorized_access() -> Rule {
    Rule {
        rule_id: "unauthorized-key-access".into(),
        name: "Unauthorized key access".into(),
        description: "A private key was opened by somebody whom no policy of its host allows. If it was not meant, take the key to be known to them and \
                      replace it; if it was, add them to [[access.policy]]."
            .into(),
        kind: RuleKind::Event,
        events: vec![EventKind::PolicyViolation],
        evidence: [("policy".to_owned(), "unauthorized access".to_owned())].into(),
        window_seconds: 3_600,
        priority: Priority::Critical,
        origin: Origin::Shipped,
        ..Rule::default()
    }
}

/// A slip of one command is no attack; who tries again and again looks for a way in, or is a service that lost a right.
fn access_denied() -> Rule {
    Rule {
        rule_id: "key-access-denied".into(),
        name: "Access to a key denied".into(),
        description:
            "A program asks again and again for a private key that it may not read: somebody tries doors, or a service has lost a right that it needs.".into(),
        metric_pattern: "crypto.key.denied_total".into(),
        aggregation: Aggregation::Increase,
        window_seconds: 300,
        threshold_value: Some(10.0),
        priority: Priority::High,
        origin: Origin::Shipped,
        ..Rule::default()
    }
}

fn agent_blind() -> Rule {
    Rule {
        rule_id: "agent-blind".into(),
        name: "Agent blind".into(),
        description: "A host delivers, and does not see what it should, or no proof comes that it does: what happens to its keys may go unnoticed. \
                      `keyvigil-agent status` on the host says what is in its way."
            .into(),
        kind: RuleKind::Blind,
        priority: Priority::High,
        origin: Origin::Shipped,
        ..Rule::default()
    }
}

fn agent_silent() -> Rule {
    Rule {
        rule_id: "agent-silent".into(),
        name: "Agent silent".into(),
        description: "Nothing has come from a host for five minutes: it is down, cut off, or its agent does not run. What its agent sees is kept \
                      there and comes later. A host that is gone for good: `keyvigil hosts remove`."
            .into(),
        kind: RuleKind::Silent,
        duration_seconds: 240,
        priority: Priority::High,
        origin: Origin::Shipped,
        ..Rule::default()
    }
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
