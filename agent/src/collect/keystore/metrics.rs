//! The numbers of the keystore sensor: totals since the agent started, and gauges of what lies there. Called by the sensor
//! and its reports.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use keyvigil_common::key::{KeyKind, Role, clamp_text};
use keyvigil_common::limits::{KEY_EXPIRY_SERIES_MAX, TAG_VALUE_BYTES_MAX};

use super::model::Held;
use super::tracker::Tracker;
use super::trouble::REASONS;
use crate::collect::metric::{counter, gauge};
use crate::collect::{MetricDef, Sink, Unit};

pub(super) const UP: &str = "crypto.keystore.up";
const CREATED: &str = "crypto.key.created_total";
const ROTATED: &str = "crypto.key.rotated_total";
const EXPIRED: &str = "crypto.key.expired_total";
const REVOKED: &str = "crypto.key.revoked_total";
const VIOLATIONS: &str = "crypto.key.policy_violations";
const SECURITY: &str = "crypto.key.security_events";
const NOT_AFTER: &str = "crypto.key.not_after_timestamp_seconds";
const ERRORS: &str = "crypto.keystore.errors_total";
const KEYS: &str = "crypto.keystore.keys";
const UNREADABLE: &str = "crypto.keystore.unreadable";
const SCAN: &str = "crypto.keystore.scan_seconds";

pub(in crate::collect) const METRICS: &[MetricDef] = &[
    gauge(UP, Unit::Flag, "Whether a configured path could be looked at; absent for one that never existed."),
    gauge(KEYS, Unit::Count, "Different keys, certificates and lists that lie below the configured paths, by kind."),
    gauge(UNREADABLE, Unit::Count, "Files and directories of which something cannot be read now."),
    gauge(SCAN, Unit::Seconds, "How long the latest look at all files took."),
    gauge(NOT_AFTER, Unit::UnixSeconds, "When a certificate ends; without the authorities in the system's trust stores."),
    counter(ERRORS, Unit::Count, "Files, directories and objects that were found unreadable, each counted once until it changes, by reason."),
    counter(CREATED, Unit::Count, "Keys that appeared."),
    counter(ROTATED, Unit::Count, "Keys that took another's place."),
    counter(EXPIRED, Unit::Count, "Keys whose end passed."),
    counter(REVOKED, Unit::Count, "Keys that were revoked."),
    counter(VIOLATIONS, Unit::Count, "Rules about keys that were found broken, by the sensor that found it."),
    counter(SECURITY, Unit::Count, "Events that concern security, by the sensor that saw them: broken rules, revoked keys and unreadable key files."),
];

/// What was counted since the agent started.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) created: u64,
    pub(super) rotated: u64,
    pub(super) expired: u64,
    pub(super) revoked: u64,
    pub(super) violations: u64,
    /// Violations, revoked keys, and files that could not be read.
    pub(super) security: u64,
    errors: BTreeMap<&'static str, u64>,
}

impl Totals {
    pub(super) fn error(&mut self, reason: &'static str) {
        *self.errors.entry(reason).or_default() += 1;
    }

    /// All totals, also those at zero, so that the first increment shows.
    pub(super) fn write(&self, started_ms: i64, sink: &mut Sink) {
        let start = Some(started_ms);
        sink.counter(CREATED, &[], self.created as f64, start);
        sink.counter(ROTATED, &[], self.rotated as f64, start);
        sink.counter(EXPIRED, &[], self.expired as f64, start);
        sink.counter(REVOKED, &[], self.revoked as f64, start);
        // Other sensors count these, too: each under its own name.
        sink.counter(VIOLATIONS, &[("sensor", "keystore")], self.violations as f64, start);
        sink.counter(SECURITY, &[("sensor", "keystore")], self.security as f64, start);
        for reason in REASONS {
            let count = self.errors.get(reason).copied().unwrap_or(0);
            sink.counter(ERRORS, &[("reason", reason)], count as f64, start);
        }
    }
}

/// What lies there now.
pub(super) fn write_inventory(tracker: &Tracker, sink: &mut Sink) {
    let mut keys: HashSet<(KeyKind, &str)> = HashSet::new();
    let mut ending: Vec<&Held> = Vec::new();
    for held in tracker.held() {
        keys.insert((held.facts.kind, &held.facts.id));
        if held.facts.not_after_ms.is_some() && !is_trust_anchor(held) && held.facts.kind != KeyKind::Crl {
            ending.push(held);
        }
    }
    for kind in KeyKind::ALL {
        let count = keys.iter().filter(|key| key.0 == kind).count();
        sink.gauge(KEYS, &[("kind", kind.as_str())], count as f64);
    }
    let unreadable = tracker.files.values().filter(|state| state.told.is_some()).count();
    sink.gauge(UNREADABLE, &[], unreadable as f64);
    // One in several entries of a store has one end.
    let mut seen = HashSet::new();
    ending.retain(|held| seen.insert((&held.facts.id, &held.place.path)));
    ending.sort_by_key(|held| held.facts.not_after_ms);
    if ending.len() > KEY_EXPIRY_SERIES_MAX {
        let why = format!("{} certificates; only the {KEY_EXPIRY_SERIES_MAX} that end soonest have a series", ending.len());
        sink.absent(NOT_AFTER, why);
    }
    for held in ending.into_iter().take(KEY_EXPIRY_SERIES_MAX) {
        let (Some(end), Some(key)) = (held.facts.not_after_ms, held.facts.id.get(..16)) else { continue };
        let (subject, path) = (tag(held.facts.subject.as_deref().unwrap_or_default()), tag(&held.place.path));
        sink.gauge(NOT_AFTER, &[("key", key), ("path", &path), ("subject", &subject)], end as f64 / 1_000.0);
    }
}

/// How long the look took.
pub(super) fn write_scan(took: Duration, sink: &mut Sink) {
    sink.gauge(SCAN, &[], took.as_secs_f64());
}

/// Hundreds of certificates that nobody here renews.
fn is_trust_anchor(held: &Held) -> bool {
    held.facts.is_ca == Some(true) && held.place.role == Role::Trusted
}

/// Text that fits into a tag.
pub(in crate::collect) fn tag(text: &str) -> String {
    let mut text = text.to_owned();
    clamp_text(&mut text);
    let mut end = text.len().min(TAG_VALUE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
