//! How the remaining days of keys and certificates become observations of a `key_expiry` rule. One alert a key, wherever it
//! lies and however often it moves; it escalates as the end comes nearer. Quiet are those that nobody waits for: replaced,
//! removed, a CA of a public bundle, or ended for so long that whoever needed it has noticed. Pure.

use jiff::Timestamp;
use keyvigil_common::sample::Tags;

use super::choice::{Comparison, Priority};
use super::rule::Rule;
use super::sentence::{list, short, span};
use super::{Judged, Observation};

/// Metric that the alerts name.
pub const METRIC_ID: &str = "crypto.key.not_after_timestamp_seconds";
const DAY_MS: i64 = 86_400_000;
/// Red is for now: an end that is older is history, and the inventory shows it; unless something still uses the key.
const EXPIRED_LOUD_MS: i64 = 7 * DAY_MS;
const FULL_LIFE_MS: i64 = 90 * DAY_MS;

/// A key or certificate with an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiringKey {
    /// Identity in the inventory.
    pub id: String,
    /// Who or what it is for; may be empty.
    pub subject: String,
    /// Hosts that have it.
    pub hosts: Vec<String>,
    /// Where it lies.
    pub paths: Vec<String>,
    /// When it ends, Unix ms.
    pub not_after_ms: i64,
    /// How long it lives in all, ms, where it is usual that it lives shortly: the days of the rule are too many for it.
    pub life_ms: Option<i64>,
    /// As in the API: `active`, `superseded`, `expired`, `revoked`, `removed`.
    pub status: String,
    /// Nothing depends on its end: a CA certificate that comes with the system, an authority that lies along with others.
    pub unneeded: bool,
    /// A port serves it, or a configuration names it.
    pub in_use: bool,
}

/// One observation for each of `keys`. A key that is not among them any more counts as missing data, so list those that
/// were removed with their status.
#[must_use]
pub fn observe(rule: &Rule, keys: &[ExpiringKey], now_ms: i64) -> Vec<Observation> {
    let mut days = rule.days.clone();
    days.sort_unstable_by(|a, b| b.cmp(a));
    days.dedup();
    keys.iter().map(|key| observe_key(key, &days, now_ms)).collect()
}

fn observe_key(key: &ExpiringKey, days: &[u32], now_ms: i64) -> Observation {
    let left_ms = key.not_after_ms.saturating_sub(now_ms);
    // The last of the thresholds that have been passed, the widest being 1; beyond them all lies the end itself.
    let passed = days.iter().filter(|d| left_ms <= before_end(**d, key.life_ms)).count();
    let over = left_ms <= 0;
    let loud = quiet(key).is_none() && (left_ms > -EXPIRED_LOUD_MS || key.in_use) && passed > 0;
    let limit = passed.checked_sub(1).and_then(|at| days.get(at)).copied().unwrap_or(0);
    let judged = Judged {
        identity: key.id.clone(),
        hit: loud,
        priority: if over { Priority::Critical } else { priority(limit) },
        rank: u8::try_from(passed + usize::from(over)).unwrap_or(u8::MAX),
        threshold: if over { 0.0 } else { f64::from(limit) },
        comparison: Comparison::AtMost,
        summary: summary(key, left_ms, loud),
    };
    let mut observation = Observation::new(METRIC_ID, tags(key), Some(left_ms as f64 / DAY_MS as f64));
    observation.detail = (!key.paths.is_empty()).then(|| list(&key.paths));
    observation.judged = Some(judged);
    observation
}

/// How long before the end a threshold lies: of a life of less than 90 days, the same part of it as of 90.
fn before_end(days: u32, life_ms: Option<i64>) -> i64 {
    let full = i64::from(days) * DAY_MS;
    match life_ms.filter(|life| (1..FULL_LIFE_MS).contains(life)) {
        Some(life) => full / (FULL_LIFE_MS / 1_000) * (life / 1_000),
        None => full,
    }
}

fn priority(days: u32) -> Priority {
    match days {
        0..=1 => Priority::Critical,
        2..=7 => Priority::High,
        8..=14 => Priority::Medium,
        _ => Priority::Low,
    }
}

/// Why nobody waits for this key, if so. A status that is not known is not quiet.
fn quiet(key: &ExpiringKey) -> Option<&'static str> {
    match key.status.as_str() {
        "superseded" => Some("was replaced"),
        "removed" => Some("was removed"),
        _ if key.unneeded => Some("is not needed here: it belongs to the system's CA bundle, or to a chain"),
        _ => None,
    }
}

fn summary(key: &ExpiringKey, left_ms: i64, loud: bool) -> String {
    let what = name(key);
    let place = if key.hosts.is_empty() { String::new() } else { format!(" on {}", list(&key.hosts)) };
    if let Some(why) = quiet(key) {
        return format!("{what}{place} {why}");
    }
    let end = Timestamp::from_millisecond(key.not_after_ms).map_or_else(|_| "unknown date".into(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string());
    match left_ms {
        ..=0 if loud => format!("{what}{place} expired {} ago ({end})", whole(-left_ms)),
        ..=0 => format!("{what}{place} expired {} ago ({end}), too long for an alert", whole(-left_ms)),
        _ if loud => format!("{what}{place} expires in {} ({end})", whole(left_ms)),
        _ => format!("{what}{place} is valid for {} ({end})", whole(left_ms)),
    }
}

/// Whole days from two days on.
fn whole(ms: i64) -> String {
    if ms >= 2 * DAY_MS { format!("{} days", ms / DAY_MS) } else { span(ms) }
}

fn name(key: &ExpiringKey) -> String {
    let name = [key.subject.as_str(), key.paths.first().map_or("", String::as_str)].into_iter().find(|text| !text.is_empty());
    let name = name.map_or_else(|| format!("key {}", key.id.chars().take(12).collect::<String>()), ToOwned::to_owned);
    short(&name)
}

fn tags(key: &ExpiringKey) -> Tags {
    let mut tags = Tags::default();
    for (tag, value) in [("key", key.id.clone()), ("subject", short(&key.subject))] {
        if !value.is_empty() {
            tags.set(tag, &value);
        }
    }
    match key.hosts.as_slice() {
        [] => {}
        [host] => tags.set("host", &short(host)),
        hosts => tags.set("hosts", &list(hosts)),
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Kind, State, Tick, evaluate, shipped};
    use std::collections::BTreeMap;

    const NOW: i64 = 1_763_834_400_000;

    fn rule() -> Rule {
        shipped().into_iter().find(|rule| rule.rule_id == "certificate-expiry").unwrap()
    }

    fn key(days: f64, status: &str) -> ExpiringKey {
        ExpiringKey {
            id: "ab".repeat(32),
            subject: "CN=example.org".into(),
            hosts: vec!["web-1".into()],
            paths: vec!["/etc/ssl/a.pem".into()],
            not_after_ms: NOW + (days * DAY_MS as f64) as i64,
            life_ms: None,
            status: status.into(),
            unneeded: false,
            in_use: false,
        }
    }

    fn judged(key: ExpiringKey) -> Judged {
        observe(&rule(), &[key], NOW).remove(0).judged.unwrap()
    }

    #[test]
    fn the_nearer_the_end_the_more_it_matters() {
        let at = |days| {
            let j = judged(key(days, "active"));
            (j.hit, j.priority, j.threshold)
        };
        assert!(!at(31.0).0);
        assert_eq!(at(30.0), (true, Priority::Low, 30.0));
        assert_eq!(at(14.0), (true, Priority::Medium, 14.0));
        assert_eq!(at(6.5), (true, Priority::High, 7.0));
        assert_eq!(at(0.5), (true, Priority::Critical, 1.0));
        assert_eq!(at(-1.0), (true, Priority::Critical, 0.0));
        assert!(!at(-7.5).0, "an old end is not red");
        assert_eq!(judged(key(6.5, "active")).summary, "CN=example.org on web-1 expires in 6 days (2025-11-29 06:00 UTC)");
    }

    #[test]
    fn a_certificate_of_a_week_is_not_expiring_from_its_first_day() {
        let at = |days| judged(ExpiringKey { life_ms: Some(7 * DAY_MS), ..key(days, "active") });
        assert!(!at(6.9).hit && !at(2.4).hit);
        assert_eq!((at(2.3).hit, at(2.3).threshold, at(0.05).priority), (true, 30.0, Priority::Critical));
    }

    #[test]
    fn what_nobody_waits_for_is_quiet() {
        for status in ["superseded", "removed"] {
            assert!(!judged(key(1.0, status)).hit, "{status}");
        }
        assert!(!judged(ExpiringKey { unneeded: true, ..key(1.0, "active") }).hit);
        assert!(judged(ExpiringKey { in_use: true, ..key(-600.0, "expired") }).hit, "what is still served is no history");
        assert!(judged(key(1.0, "revoked")).hit, "who says that it is revoked does not hide its end");
        assert!(judged(key(1.0, "something new")).hit, "an unknown status is not a reason to be quiet");
    }

    #[test]
    fn one_alert_follows_a_key_through_its_levels_across_hosts_until_it_is_replaced() {
        let mut alerts = BTreeMap::new();
        let mut told = Vec::new();
        let mut run = |key: ExpiringKey, now_ms: i64| {
            for step in evaluate(&rule(), &alerts, &observe(&rule(), &[key], now_ms), Tick { now_ms, interval_ms: 15_000 }) {
                told.extend(step.transition.map(|t| (t.kind, step.alert.as_ref().map(|a| (a.priority, a.state)))));
                alerts.insert(step.id, step.alert.unwrap());
            }
        };
        let key = key(20.0, "active");
        run(key.clone(), NOW);
        run(ExpiringKey { hosts: vec!["web-1".into(), "web-2".into()], ..key.clone() }, NOW + 7 * DAY_MS);
        run(key.clone(), NOW + 19 * DAY_MS + 1);
        run(key.clone(), NOW + 20 * DAY_MS);
        for second in [0, 30, 60] {
            run(ExpiringKey { status: "superseded".into(), ..key.clone() }, NOW + 20 * DAY_MS + 15_000 + second * 1_000);
        }
        let active = |priority| Some((priority, State::Firing));
        let expected = vec![
            (Kind::Fired, active(Priority::Low)),
            (Kind::Escalated, active(Priority::Medium)),
            (Kind::Escalated, active(Priority::Critical)),
            (Kind::Escalated, active(Priority::Critical)),
            (Kind::Resolved, Some((Priority::Critical, State::Resolved))),
        ];
        assert_eq!(told, expected);
        assert_eq!(alerts.len(), 1);
    }

    #[test]
    fn control_characters_of_a_certificate_reach_nobody() {
        let hostile = ExpiringKey { subject: "CN=a\r\nBcc: x\u{1b}[31m".into(), ..key(1.0, "active") };
        let seen = observe(&rule(), &[hostile], NOW).remove(0);
        assert!(seen.tags.check().is_ok());
        assert!(!seen.judged.unwrap().summary.chars().any(char::is_control));
    }
}
