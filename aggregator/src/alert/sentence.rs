//! An alert in one sentence: "system.cpu.usage_total on web-1 is 97.2 %, above 90 % for 5 min". Units come from the
//! metric's name. Plain text: who shows it escapes it. Called by the state machine, and by
//! what judges keys.

use keyvigil_common::sample::Tags;

use super::choice::State;
use super::rule::Rule;
use super::{Alert, Observation};
use crate::query::Aggregation;

const TAGS_SHOWN: usize = 3;
const TAG_CHARS_SHOWN: usize = 60;
/// Room for eight who did it, each with a program and a user.
const DETAIL_CHARS_SHOWN: usize = 1_800;

/// Characters of a text that somebody else chose: a subject, a path, a title.
const TEXT_CHARS_SHOWN: usize = 200;
/// Of a list, how many are named.
const LISTED: usize = 3;

/// The first few, and how many more there are.
pub(super) fn list(items: &[String]) -> String {
    let shown: Vec<String> = items.iter().take(LISTED).map(|item| short(item)).collect();
    match items.len().saturating_sub(LISTED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Cut, and without control characters: the texts of certificates are chosen by whoever made them.
pub(super) fn short(text: &str) -> String {
    let mut out: String = text.chars().take(TEXT_CHARS_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(TEXT_CHARS_SHOWN).is_some() {
        out.push('…');
    }
    out
}

/// While the condition holds.
pub(super) fn holding(rule: &Rule, alert: &Alert, seen: &Observation) -> String {
    if let Some(judged) = &seen.judged {
        return with_detail(judged.summary.clone(), seen);
    }
    let (value, threshold) = figures(rule, seen, alert.threshold);
    let mut text = format!("{}, {} {threshold}", measured(rule, seen, &value), alert.comparison.in_words());
    if alert.state == State::Pending {
        let of = span(seconds_ms(rule.duration_seconds));
        text.push_str(&format!("; it fires once that has lasted {of} (so far {})", span(alert.memory.held_ms)));
    } else if rule.duration_seconds > 0 {
        text.push_str(&format!(" for {}", span(seconds_ms(rule.duration_seconds))));
    }
    with_detail(text, seen)
}

/// While the condition does not hold, but not yet long enough.
pub(super) fn clearing(rule: &Rule, alert: &Alert, seen: &Observation) -> String {
    let lasting = span(seconds_ms(rule.keep_firing_seconds));
    format!("{}; it is resolved once that has lasted {lasting}", over(rule, alert, seen))
}

/// When it is resolved.
pub(super) fn resolved(rule: &Rule, alert: &Alert, seen: &Observation) -> String {
    let fired_for = alert.resolved_at.unwrap_or(alert.last_evaluated).saturating_sub(alert.fired_at.unwrap_or(alert.since));
    format!("{}; it fired for {}", over(rule, alert, seen), span(fired_for))
}

fn over(rule: &Rule, alert: &Alert, seen: &Observation) -> String {
    if let Some(judged) = &seen.judged {
        return judged.summary.clone();
    }
    let (value, threshold) = figures(rule, seen, alert.threshold);
    format!("{}, no longer {} {threshold}", measured(rule, seen, &value), alert.comparison.in_words())
}

fn with_detail(mut text: String, seen: &Observation) -> String {
    if let Some(detail) = seen.detail.as_deref().filter(|detail| !detail.is_empty()) {
        text.push_str("; ");
        text.extend(detail.chars().take(DETAIL_CHARS_SHOWN));
    }
    text
}

fn measured(rule: &Rule, seen: &Observation, value: &str) -> String {
    let what = subject(&seen.metric_id, &seen.tags);
    let window = span(seconds_ms(rule.window_seconds));
    match rule.aggregation {
        Aggregation::Last | Aggregation::Avg => format!("{what} is {value}"),
        Aggregation::Min => format!("the minimum of {what} in {window} is {value}"),
        Aggregation::Max => format!("the maximum of {what} in {window} is {value}"),
        Aggregation::Sum => format!("the sum of {what} in {window} is {value}"),
        Aggregation::Count => format!("the number of samples of {what} in {window} is {value}"),
        Aggregation::Rate => format!("{what} grows by {value}"),
        Aggregation::Increase => format!("{what} grew by {value} in {window}"),
        Aggregation::Stddev => format!("the standard deviation of {what} in {window} is {value}"),
        Aggregation::P50 | Aggregation::P90 | Aggregation::P95 | Aggregation::P99 => {
            format!("the {} of {what} in {window} is {value}", rule.aggregation)
        }
    }
}

/// Metric, host and the other tags that fit.
fn subject(metric_id: &str, tags: &Tags) -> String {
    let host = tags.get("host").map(|host| format!(" on {}", cut(host))).unwrap_or_default();
    let others: Vec<String> = tags.iter().filter(|(name, _)| *name != "host").map(|(name, value)| format!("{}={}", cut(name), cut(value))).collect();
    match others.len() {
        0 => format!("{metric_id}{host}"),
        n if n > TAGS_SHOWN => format!("{metric_id}{host} ({}, …)", others[..TAGS_SHOWN].join(", ")),
        _ => format!("{metric_id}{host} ({})", others.join(", ")),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TAG_CHARS_SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Value and threshold with their unit; exact where rounding would make them look the same.
fn figures(rule: &Rule, seen: &Observation, threshold: f64) -> (String, String) {
    let value = seen.value.unwrap_or(f64::NAN);
    let unit = Unit::of(&seen.metric_id, rule.aggregation);
    let (shown, against) = (unit.show(value), unit.show(threshold));
    if shown == against && value != threshold {
        return (unit.exact(value), unit.exact(threshold));
    }
    (shown, against)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dimension {
    Plain,
    Percent,
    Bytes,
    Seconds,
    Milliseconds,
    Celsius,
}

struct Unit {
    dimension: Dimension,
    per_second: bool,
}

impl Unit {
    fn of(metric_id: &str, aggregation: Aggregation) -> Self {
        let last = metric_id.rsplit('.').next().unwrap_or_default();
        let ends = |ends: &[&str]| ends.iter().any(|end| last == &end[1..] || last.ends_with(end));
        let dimension = match last {
            _ if aggregation == Aggregation::Count => Dimension::Plain,
            _ if ends(&["_percent"]) || metric_id.starts_with("system.cpu.usage") => Dimension::Percent,
            _ if ends(&["_bytes", "_bytes_total", "_bytes_sent", "_bytes_recv"]) => Dimension::Bytes,
            _ if ends(&["_timestamp_seconds"]) => Dimension::Plain,
            _ if ends(&["_seconds", "_seconds_total"]) => Dimension::Seconds,
            _ if ends(&["_ms", "_milliseconds"]) => Dimension::Milliseconds,
            _ if ends(&["_celsius"]) => Dimension::Celsius,
            _ => Dimension::Plain,
        };
        Self { dimension, per_second: aggregation == Aggregation::Rate }
    }

    fn show(&self, value: f64) -> String {
        if self.dimension == Dimension::Bytes {
            let names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
            let (mut value, mut at) = (value, 0);
            while value.is_finite() && value.abs() >= 1_024.0 && at + 1 < names.len() {
                (value, at) = (value / 1_024.0, at + 1);
            }
            return self.with_unit(&number(value), names[at]);
        }
        self.with_unit(&number(value), self.name())
    }

    fn exact(&self, value: f64) -> String {
        self.with_unit(&value.to_string(), self.name())
    }

    fn name(&self) -> &'static str {
        match self.dimension {
            Dimension::Plain => "",
            Dimension::Percent => "%",
            Dimension::Bytes => "B",
            Dimension::Seconds => "s",
            Dimension::Milliseconds => "ms",
            Dimension::Celsius => "°C",
        }
    }

    fn with_unit(&self, number: &str, name: &str) -> String {
        match (name, self.per_second) {
            ("", false) => number.to_owned(),
            ("", true) => format!("{number}/s"),
            (name, false) => format!("{number} {name}"),
            (name, true) => format!("{number} {name}/s"),
        }
    }
}

/// Three significant digits, all digits of a whole number, thousands apart.
fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size >= 1e15 || (size > 0.0 && size < 0.001) {
        return value.to_string();
    }
    let decimals = match size {
        _ if size >= 100.0 || value.fract() == 0.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    fraction.map_or(out.clone(), |fraction| format!("{out}.{fraction}"))
}

/// A length of time in its two largest units: `45 s`, `5 min`, `2 h 5 min`, `3 d`.
pub(super) fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(at) = units.iter().position(|(size, _)| seconds >= *size) else { return "0 s".to_owned() };
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, name) in units.iter().skip(at).take(2) {
        if rest >= *size {
            parts.push(format!("{} {name}", rest / size));
        }
        rest %= size;
    }
    parts.join(" ")
}

fn seconds_ms(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_digits_and_whole_ones_all() {
        let shown = [97.24, 97.0, 90.0, 0.1234, 1_234_567.0, -12.55, 1.005, 123.4, 0.0].map(number);
        assert_eq!(shown, ["97.2", "97", "90", "0.123", "1,234,567", "-12.6", "1", "123", "0"]);
    }

    #[test]
    fn units_come_from_the_name_of_the_metric() {
        let show = |id: &str, aggregation, value| Unit::of(id, aggregation).show(value);
        assert_eq!(show("system.cpu.usage_total", Aggregation::Avg, 97.2), "97.2 %");
        assert_eq!(show("system.memory.used_bytes", Aggregation::Last, 3_221_225_472.0), "3 GiB");
        assert_eq!(show("system.network.bytes_sent", Aggregation::Rate, 2_048.0), "2 KiB/s");
        assert_eq!(show("agent.lag_seconds", Aggregation::Max, 1.5), "1.5 s");
        assert_eq!(show("security.auth_failures_total", Aggregation::Increase, 12.0), "12");
    }

    #[test]
    fn lengths_of_time_show_their_two_largest_units() {
        let shown = [0, 45_000, 300_000, 7_500_000, 3 * 86_400_000].map(span);
        assert_eq!(shown, ["0 s", "45 s", "5 min", "2 h 5 min", "3 d"]);
    }

    #[test]
    fn a_value_just_above_the_threshold_does_not_look_equal_to_it() {
        let rule = Rule { threshold_value: Some(90.0), ..Rule::default() };
        let seen = Observation::new("system.cpu.usage_total", Tags::default(), Some(90.01));
        assert_eq!(figures(&rule, &seen, 90.0), ("90.01 %".to_owned(), "90 %".to_owned()));
    }
}
