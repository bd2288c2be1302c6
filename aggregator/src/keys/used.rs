//! When a key was used last, and by whom: taken from what agents deliver, written with the rest of a batch, at most once in a
//! while for each key and program. What says so are opens for reading and the growth of counters that have the tag `key`.

use std::collections::{BTreeMap, BTreeSet};

use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::sample::Series;
use keyvigil_common::wire::Group;
use serde::{Deserialize, Serialize};

use super::observed::{Observed, Sensor};
use super::{Inventory, KeyRecord};
use crate::index::{SeriesId, TenantId};
use crate::store::ledger::Table;
use crate::store::{Store, StoreError, Tx};

/// How much later a use by the same program and user must be to be written, ms: a busy key is not written with every batch.
const NEWER_MS: i64 = 60_000;
/// Counters of uses of a key.
const OPERATIONS: [&str; 5] =
    ["crypto.key.signing_ops", "crypto.key.verification_ops", "crypto.key.encryption_ops", "crypto.key.decryption_ops", "crypto.key.derivation_ops"];
const HANDSHAKES: &str = "crypto.tls.handshakes_total";

/// Who used a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedBy {
    /// Where.
    pub host: String,
    /// Program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// User, by name where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// systemd unit or container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl UsedBy {
    /// Whether a use by this one is worth writing, `at_ms` after `known`: where the key lies on many hosts, which of them it was is not.
    pub(super) fn is_news(&self, at_ms: i64, known: Option<(i64, &Self)>) -> bool {
        known.is_none_or(|(known_ms, by)| {
            let is_another = (&self.exe, &self.user) != (&by.exe, &by.user);
            at_ms >= known_ms.saturating_add(NEWER_MS) || is_another && at_ms > known_ms
        })
    }
}

impl std::fmt::Display for UsedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.exe.as_deref().unwrap_or("an unknown program"))?;
        if let Some(user) = &self.user {
            write!(f, " as {user}")?;
        }
        write!(f, " on {}", self.host)
    }
}

/// What a batch tells of use and of its observation.
#[derive(Debug, Default)]
pub struct Uses {
    /// By id of the key: when last, and by whom.
    last: BTreeMap<String, (i64, UsedBy)>,
    /// Which sensors saw from when to when, at which interval.
    seen: BTreeMap<Sensor, ((i64, i64), u32)>,
    /// What they cannot see, or see again.
    told: Vec<(Sensor, String, Option<String>)>,
}

impl Uses {
    /// Looks at the samples of the sensors of use; `ids` are those of the batch's dictionary `series`, which is empty where it was
    /// known already.
    pub fn samples(&mut self, store: &Store, host: &str, groups: &[Group], ids: &[SeriesId], series: &[Series]) {
        for group in groups.iter().filter(|group| Sensor::from_name(&group.sensor).is_some()) {
            let span = group.times.iter().copied().min().zip(group.times.iter().copied().max());
            for column in &group.columns {
                let Some(id) = ids.get(column.series as usize).copied().filter(|id| *id != 0) else { continue };
                let stored = store.index().get(id);
                let Some(of) = stored.as_deref().or_else(|| series.get(column.series as usize)) else { continue };
                if let Some((sensor, span)) = Sensor::proven_by(&of.metric_id).zip(span) {
                    self.saw(sensor, span, group.interval_ms);
                }
                let Some(key) = of.tags.get("key").filter(|_| OPERATIONS.contains(&of.metric_id.as_str()) || of.metric_id == HANDSHAKES) else { continue };
                // What was counted before its first sample was counted since; of what this process has not seen yet it is not known.
                let before = if stored.is_none() { Some(0.0) } else { store.latest(id).map(|point| point.1) };
                if let Some(at_ms) = grew(before, &group.times, &column.values) {
                    let tag = |name: &str| of.tags.get(name).map(str::to_owned);
                    self.used(key, at_ms, UsedBy { host: host.to_owned(), exe: tag("exe"), user: tag("user"), unit: tag("unit") });
                }
            }
        }
    }

    /// Looks at an event.
    pub fn event(&mut self, host: &str, event: &Event) {
        let evidence = |name: &str| event.evidence.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match event.kind {
            EventKind::Accessed if evidence("opened_for") != Some("writing") => {
                let Some(key) = &event.key_id else { return };
                let actor = event.actor.as_ref();
                let user = evidence("user").map(str::to_owned).or_else(|| Some(actor?.uid?.to_string()));
                let by = UsedBy { host: host.to_owned(), exe: actor.and_then(|a| a.exe.clone()), user, unit: actor.and_then(|a| a.unit.clone()) };
                let others = event.evidence.iter().filter(|(name, _)| name == "also_holds").map(|(_, id)| id);
                for key in std::iter::once(key).chain(others) {
                    self.used(key, event.at_ms, by.clone());
                }
            }
            EventKind::CoverageLost | EventKind::CoverageRestored => {
                let Some((sensor, what)) = evidence("sensor").and_then(Sensor::from_name).zip(evidence("what")) else { return };
                let reason = (event.kind == EventKind::CoverageLost).then(|| evidence("reason").unwrap_or("not told").to_owned());
                self.told.push((sensor, what.to_owned(), reason));
            }
            _ => {}
        }
    }

    fn saw(&mut self, sensor: Sensor, (first, last): (i64, i64), interval_ms: u32) {
        let seen = self.seen.entry(sensor).or_insert(((first, last), interval_ms));
        seen.0 = (seen.0.0.min(first), seen.0.1.max(last));
    }

    fn used(&mut self, key: &str, at_ms: i64, by: UsedBy) {
        let known = self.last.entry(key.to_owned()).or_insert((i64::MIN, UsedBy::default()));
        if at_ms > known.0 {
            *known = (at_ms, by);
        }
    }

    /// Whether what is observed of its host changes.
    #[must_use]
    pub fn tells_of_sight(&self) -> bool {
        !self.seen.is_empty() || !self.told.is_empty()
    }

    /// Adds what the batch proves of what its host's sensors see.
    pub fn observe(&self, observed: &mut Observed) {
        for (sensor, (span, interval_ms)) in &self.seen {
            observed.saw(*sensor, *span, *interval_ms);
        }
        for (sensor, what, reason) in &self.told {
            observed.told(*sensor, what, reason.as_deref());
        }
    }

    /// Writes what is newer than what is known, in the batch's transaction; `told` are keys that it tells of besides. Returns the
    /// uses, for [`Inventory::used`] after the commit.
    ///
    /// # Errors
    /// The store's.
    pub fn write(&mut self, tx: &Tx<'_>, inventory: &Inventory, tenant: TenantId, told: &BTreeSet<String>) -> Result<Vec<Used>, StoreError> {
        let mut used = Vec::new();
        for (key, (at_ms, by)) in std::mem::take(&mut self.last) {
            if !inventory.use_is_news(tenant, &key, at_ms, &by).unwrap_or_else(|| told.contains(&key)) {
                continue;
            }
            let Some(mut record) = tx.get::<KeyRecord>(Table::Key, tenant, &key)? else { continue };
            if record.use_at(at_ms, &by) {
                tx.put(Table::Key, tenant, &key, &record)?;
                used.push(Used { key, at_ms, by });
            }
        }
        Ok(used)
    }
}

/// A use that was written.
#[derive(Debug, Clone)]
pub struct Used {
    /// Id of the key.
    pub key: String,
    /// Unix ms.
    pub at_ms: i64,
    /// Who.
    pub by: UsedBy,
}

/// When a counter grew last.
fn grew(mut before: Option<f64>, times: &[i64], values: &[f64]) -> Option<i64> {
    let mut last = None;
    for (at_ms, value) in times.iter().zip(values).filter(|(_, value)| !value.is_nan()) {
        // Less than before is a counter that began anew, and has counted since.
        if before.is_some_and(|before| *value > before || *value < before && *value > 0.0) {
            last = Some(*at_ms);
        }
        before = Some(*value);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_uses_a_key_right_after_another_is_the_last_and_a_busy_one_is_not_written_each_time() {
        let by = |host: &str, exe: &str| UsedBy { host: host.into(), exe: Some(exe.into()), ..UsedBy::default() };
        let (nginx, cat) = (by("web-1", "/usr/sbin/nginx"), by("web-1", "/usr/bin/cat"));
        assert!(cat.is_news(1_001, Some((1_000, &nginx))));
        assert!(!cat.is_news(999, Some((1_000, &nginx))), "it was before");
        assert!(!nginx.is_news(60_999, Some((1_000, &nginx))));
        assert!(!by("web-2", "/usr/sbin/nginx").is_news(60_999, Some((1_000, &nginx))));
        assert!(nginx.is_news(61_000, Some((1_000, &nginx))) && nginx.is_news(5, None));
    }

    #[test]
    fn a_counter_tells_when_it_grew_last_and_nothing_where_it_stood_still() {
        let times = [1, 2, 3, 4];
        assert_eq!(grew(Some(0.0), &times, &[7.0, 7.0, 7.0, 7.0]), Some(1), "its first sample is of uses");
        assert_eq!(grew(None, &times, &[7.0, 7.0, 7.0, 7.0]), None, "after a start of the aggregator a key that rests is not used");
        assert_eq!(grew(None, &times, &[7.0, 8.0, 8.0, 8.0]), Some(2));
        assert_eq!(grew(Some(9.0), &times, &[9.0, 9.0, 2.0, 2.0]), Some(3), "the agent began anew");
    }
}
