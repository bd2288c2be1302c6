//! What proves that an agent sees: its canaries, and when each came last. Stored with the agent, one row a host, so that years of
//! proofs take no more room than one.

use std::collections::BTreeMap;

use keyvigil_common::canary::{Canaries, CanaryPath};
use serde::{Deserialize, Serialize};

/// Beside two intervals: what a proof may take on its way, and a silence that is none yet, ms.
const SLACK_MS: i64 = 60_000;

/// The proofs of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sight {
    /// What it promises to try, by its newest push.
    pub canaries: Canaries,
    /// When a canary was seen last, by path, Unix ms.
    pub proven: BTreeMap<CanaryPath, i64>,
}

impl Sight {
    /// Takes what a push told; whether that is to be stored: what is confirmed must be.
    pub(super) fn take(&mut self, canaries: Option<Canaries>, proven: &[(CanaryPath, i64)]) -> bool {
        let before = self.clone();
        self.canaries = canaries.unwrap_or(self.canaries);
        for (path, at_ms) in proven {
            let last = self.proven.entry(*path).or_insert(*at_ms);
            *last = (*last).max(*at_ms);
        }
        *self != before
    }

    /// Paths whose proof is missing for two intervals, of an agent that delivers without a silence since `since_ms`.
    #[must_use]
    pub fn overdue(&self, since_ms: i64, now_ms: i64) -> Vec<CanaryPath> {
        let patience = 2 * i64::from(self.canaries.interval_ms) + SLACK_MS;
        self.canaries.paths().filter(|path| now_ms - self.proven.get(path).copied().unwrap_or(since_ms).max(since_ms) > patience).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_missed_after_two_intervals_of_delivery_and_only_where_one_was_promised() {
        let mut sight = Sight::default();
        assert!(sight.overdue(0, i64::MAX / 2).is_empty(), "nothing was promised");
        assert!(sight.take(Some(Canaries::new(120_000, CanaryPath::ALL)), &[(CanaryPath::Access, 100_000)]));
        assert_eq!(sight.overdue(0, 300_001), [CanaryPath::Operations]);
        assert_eq!(sight.overdue(0, 400_001), CanaryPath::ALL);
        assert!(sight.overdue(390_000, 400_001).is_empty(), "it has only just come back");
        assert!(!sight.take(None, &[(CanaryPath::Access, 50_000)]), "an older one that comes late");
        assert!(sight.take(Some(Canaries::default()), &[]));
        assert!(sight.overdue(0, 9_000_000).is_empty(), "it promises nothing any more");
    }
}
