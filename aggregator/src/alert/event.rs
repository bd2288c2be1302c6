//! How what happened becomes observations of an `event` rule. One alert a host and key, whoever did it how often; it escalates when
//! somebody else does it, and ends when nobody has for the rule's window. When the aggregator heard of it counts, not when it was: what an
//! agent tells late is told all the same. Pure.

use std::collections::BTreeMap;

use keyvigil_common::event::EventKind;
use keyvigil_common::sample::Tags;

use super::choice::Comparison;
use super::rule::Rule;
use super::sentence::short;
use super::{Alert, Judged, Observation, State};

/// Metric that the alerts name.
pub const METRIC_ID: &str = "crypto.key.security_events";
/// Tags that say what it is about, and who it was.
const ABOUT: [&str; 3] = ["host", "key", "path"];
const BY: &str = "by";
/// Of those who did it, how many are named: those who came first, and who came last. Of how many it is known that they are told.
const BY_MAX: usize = 8;
const TOLD_MAX: usize = 255;
const NAME_CHARS_SHOWN: usize = 100;
/// Alerts that a host has open for keys of their own; what happens to further keys is told together.
const OF_HOST_MAX: usize = 100;
const OVER: &str = "Not again: ";
const UNTIL: &str = "; it is resolved";

/// Something that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Happened {
    /// Where.
    pub host: String,
    /// Id of the key.
    pub key: String,
    /// File.
    pub path: String,
    /// Program.
    pub exe: String,
    /// User.
    pub user: String,
    /// One sentence.
    pub message: String,
    /// For how many it stands.
    pub times: u32,
}

/// Whether alerts of `rule` tell of such an event.
#[must_use]
pub fn concerns(rule: &Rule, kind: EventKind, evidence: &BTreeMap<String, String>) -> bool {
    rule.events.contains(&kind) && rule.evidence.iter().all(|(name, value)| evidence.get(name) == Some(value))
}

/// One observation for each host and key (beyond many of a host, for the rest together) that something `happened` to, and one for each alert in `befores` to which nothing did.
#[must_use]
pub fn observe(rule: &Rule, happened: &[Happened], befores: &BTreeMap<String, Alert>, now_ms: i64) -> Vec<Observation> {
    let open: BTreeMap<String, &Alert> = befores.values().filter(|alert| alert.state != State::Resolved).map(|alert| (identity(&alert.tags), alert)).collect();
    let mut news: BTreeMap<String, Vec<&Happened>> = BTreeMap::new();
    let mut of_host: BTreeMap<String, usize> = BTreeMap::new();
    for alert in open.values() {
        *of_host.entry(alert.tags.get(ABOUT[0]).unwrap_or_default().to_owned()).or_default() += 1;
    }
    for one in happened {
        let mut identity = identity(&about(one));
        if !open.contains_key(&identity) && !news.contains_key(&identity) {
            let of_host = of_host.entry(short(&one.host)).or_default();
            if *of_host >= OF_HOST_MAX {
                identity = self::identity(&about(&together(one)));
            } else {
                *of_host += 1;
            }
        }
        news.entry(identity).or_default().push(one);
    }
    let seen = news.iter().filter_map(|(identity, all)| observe_news(identity, all, open.get(identity).copied(), now_ms));
    let quiet = open.iter().filter(|(identity, _)| !news.contains_key(*identity)).map(|(identity, alert)| observe_quiet(rule, identity, alert, now_ms));
    seen.chain(quiet).collect()
}

fn about(one: &Happened) -> Tags {
    let mut tags = Tags::default();
    for (name, value) in ABOUT.iter().zip([&one.host, &one.key, &one.path]).filter(|(_, value)| !value.is_empty()) {
        tags.set(name, &short(value));
    }
    tags
}

/// What happened, without the key that it happened to.
fn together(one: &Happened) -> Happened {
    Happened { host: one.host.clone(), ..Happened::default() }
}

/// A key is one wherever it lies; what concerns no key is told by its file.
fn identity(tags: &Tags) -> String {
    let [host, key, path] = ABOUT.map(|name| tags.get(name).unwrap_or_default());
    format!("{host}\n{}", if key.is_empty() { path } else { key })
}

fn observe_news(identity: &str, all: &[&Happened], before: Option<&Alert>, now_ms: i64) -> Option<Observation> {
    let last = all.last()?;
    let named = before.and_then(|alert| alert.tags.get(BY)).unwrap_or_default();
    let mut by: Vec<String> = named.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let mut told =
        before.map(|alert| alert.memory.by.clone()).filter(|told| told.len() >= by.len()).unwrap_or_else(|| by.iter().map(|who| number(who)).collect());
    for one in all {
        let number = number(&format!("{} as {}", one.exe, one.user));
        if told.len() >= TOLD_MAX || told.contains(&number) {
            continue;
        }
        told.push(number);
        by.truncate(BY_MAX - 1);
        by.push(plain(&format!("{} as {}", brief(&one.exe), brief(&one.user))).replace(", ", " "));
    }
    let is_of_many = identity != self::identity(&about(last));
    let mut tags = if is_of_many { about(&together(last)) } else { about(last) };
    tags.set(BY, &by.join(", "));
    for (name, value) in [("exe", &last.exe), ("user", &last.user)].into_iter().filter(|(_, value)| !value.is_empty()) {
        tags.set(name, &short(value));
    }
    let times = before.and_then(|alert| alert.value).unwrap_or(0.0) + all.iter().map(|one| f64::from(one.times)).sum::<f64>();
    let mut seen = Observation::new(METRIC_ID, tags, Some(times));
    let often = if times > 1.0 { format!(", {times} times") } else { String::new() };
    let others = match told.len() - by.len() {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    seen.detail = Some(format!("by {}{others}{often}", by.join(", ")));
    let rank = u8::try_from(told.len()).unwrap_or(u8::MAX);
    seen.event = Some((now_ms, told));
    seen.judged = Some(judged(identity, true, rank, plain(&last.message)));
    Some(seen)
}

/// On one line, and without what an alert itself says of how it stands: programs are named by whoever wrote them.
fn plain(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.replace(UNTIL, ", it is resolved").replace(OVER, "Not again, ")
}

/// A name that is not too long: its beginning and its end.
fn brief(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= NAME_CHARS_SHOWN {
        return name.to_owned();
    }
    let part = NAME_CHARS_SHOWN / 2;
    chars[..part].iter().chain(&['…']).chain(&chars[chars.len() - part..]).collect()
}

/// Of somebody's name.
fn number(who: &str) -> u32 {
    let digest = keyvigil_common::sha256(who.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

fn observe_quiet(rule: &Rule, identity: &str, alert: &Alert, now_ms: i64) -> Observation {
    let window_ms = i64::try_from(rule.window_seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
    let holds = now_ms.saturating_sub(alert.memory.event_ms) < window_ms;
    let said = alert.summary.strip_prefix(OVER).unwrap_or(&alert.summary);
    let said = said.split_once(UNTIL).map_or(said, |(said, _)| said);
    let mut seen = Observation::new(METRIC_ID, alert.tags.clone(), alert.value);
    let summary = if holds { said.to_owned() } else { format!("{OVER}{said}") };
    seen.judged = Some(judged(identity, holds, alert.memory.rank, summary));
    seen
}

fn judged(identity: &str, hit: bool, rank: u8, summary: String) -> Judged {
    let priority = super::Priority::Critical;
    Judged { identity: identity.to_owned(), hit, priority, rank, threshold: 1.0, comparison: Comparison::AtLeast, summary }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Tick, evaluate};

    #[test]
    fn who_opens_all_keys_of_a_host_makes_no_alert_for_each() {
        let rule = crate::alert::shipped().into_iter().find(|rule| rule.rule_id == "unauthorized-key-access").unwrap();
        let one = |host: &str, n: usize| Happened { host: host.into(), key: format!("k{n}"), exe: "/bin/cat".into(), times: 1, ..Happened::default() };
        let mut alerts = BTreeMap::<String, Alert>::new();
        let mut look = |happened: &[Happened], now_ms| {
            let seen = observe(&rule, happened, &alerts, now_ms);
            for step in evaluate(&rule, &alerts, &seen, Tick { now_ms, interval_ms: 15_000 }) {
                step.alert.into_iter().for_each(|alert| drop(alerts.insert(step.id.clone(), alert)));
            }
            let of = |host: &str| alerts.values().filter(|alert| alert.tags.get("host") == Some(host)).count();
            (of("web"), of("db"), alerts.values().filter(|alert| alert.tags.get("key").is_none()).map(|alert| alert.value).collect::<Vec<_>>())
        };
        let all: Vec<Happened> = (0..OF_HOST_MAX + 50).map(|n| one("web", n)).chain([one("db", 0)]).collect();
        assert_eq!(look(&all, 1_000), (OF_HOST_MAX + 1, 1, vec![Some(50.0)]));
        assert_eq!(look(&[one("web", 9_999), one("web", 3)], 2_000), (OF_HOST_MAX + 1, 1, vec![Some(51.0)]), "known ones keep their own");
    }

    #[test]
    fn what_a_program_calls_itself_changes_no_sentence() {
        let rule = crate::alert::shipped().into_iter().find(|rule| rule.rule_id == "unauthorized-key-access").unwrap();
        let (exe, message) = ("/tmp/a; it is resolved", "Not again: a; it is resolved (pid 7) of eve opened /k");
        let one =
            Happened { host: "web".into(), key: "k".into(), exe: exe.into(), user: "eve".into(), message: message.into(), times: 1, ..Happened::default() };
        let mut alerts = BTreeMap::<String, Alert>::new();
        let mut look = |happened: &[Happened], now_ms| {
            let seen = observe(&rule, happened, &alerts, now_ms);
            let step = evaluate(&rule, &alerts, &seen, Tick { now_ms, interval_ms: 15_000 }).remove(0);
            step.alert.into_iter().for_each(|alert| drop(alerts.insert(step.id.clone(), alert)));
            alerts[&step.id].summary.clone()
        };
        let told = look(&[one], 1_000);
        assert!(told.contains("(pid 7) of eve opened /k") && told.contains("as eve"), "{told}");
        assert_eq!([look(&[], 16_000), look(&[], 31_000)], [told.clone(), told]);
    }

    #[test]
    fn a_long_path_hides_no_user_and_no_number() {
        let rule = crate::alert::shipped().into_iter().find(|rule| rule.rule_id == "unauthorized-key-access").unwrap();
        let exe = format!("/srv/{}/bin/agent", "deep/".repeat(60));
        let by = |user: usize| Happened { host: "web".into(), key: "k".into(), exe: exe.clone(), user: format!("u{user}"), times: 1, ..Happened::default() };
        let seen = observe(&rule, &(0..20).map(by).collect::<Vec<_>>(), &BTreeMap::new(), 1_000);
        let detail = seen[0].detail.clone().unwrap();
        assert!(detail.contains("/bin/agent as u0") && detail.ends_with("/bin/agent as u19 and 12 more, 20 times"), "{detail}");
    }

    #[test]
    fn whoever_comes_after_many_others_is_told_and_named_once() {
        let rule = crate::alert::shipped().into_iter().find(|rule| rule.rule_id == "unauthorized-key-access").unwrap();
        let by = |exe: String| Happened { host: "web".into(), key: "k".into(), exe, user: "nobody".into(), times: 1, ..Happened::default() };
        let mut alerts = BTreeMap::<String, Alert>::new();
        let mut look = |exe: &str, now_ms| {
            let seen = observe(&rule, &[by(exe.to_owned())], &alerts, now_ms);
            let step = evaluate(&rule, &alerts, &seen, Tick { now_ms, interval_ms: 15_000 }).remove(0);
            let alert = step.alert.unwrap();
            alerts.insert(step.id, alert.clone());
            (step.transition.map(|transition| transition.kind), alert.tags.get(BY).unwrap().to_owned(), alert.summary)
        };
        for n in 0..30 {
            assert!(look(&format!("/tmp/{n}"), 1_000 + n).0.is_some(), "{n}");
        }
        let (told, by, summary) = look("/bin/thief", 2_000);
        assert!(told.is_some() && by.ends_with("/bin/thief as nobody"), "{by}");
        assert!(summary.contains("/bin/thief as nobody") && summary.contains("and 23 more"), "{summary}");
        for known in ["/bin/thief", "/tmp/3", "/tmp/20"] {
            let (told, by, _) = look(known, 3_000);
            assert!(told.is_none() && by.ends_with("/bin/thief as nobody"), "{known} is told already: {by}");
        }
    }
}
