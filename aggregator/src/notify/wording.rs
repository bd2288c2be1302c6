//! The words of a notification, the same in every channel: a title, the sentence, and rows of facts. Plain text on one line
//! each, without control characters; each channel escapes for itself. Pure.

use jiff::Timestamp;

use super::Notification;
use crate::alert::{Alert, Kind};

const TITLE_CHARS_MAX: usize = 140;

/// What a notification says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wording {
    /// `FIRING high`.
    pub(super) label: String,
    /// `High CPU on web-1`.
    pub(super) title: String,
    /// One sentence.
    pub(super) sentence: String,
    /// Name and value.
    pub(super) facts: Vec<(&'static str, String)>,
    /// What it says and where it leads.
    pub(super) links: Vec<(&'static str, String)>,
}

impl Wording {
    /// The words for `notification`; `dashboard_url` may be empty.
    pub(super) fn of(notification: &Notification, dashboard_url: &str) -> Self {
        let alert = &notification.alert;
        let word = match notification.transition.kind {
            Kind::Fired => "FIRING",
            Kind::Escalated => "ESCALATED",
            Kind::Resolved => "RESOLVED",
            Kind::Test => "TEST",
            Kind::Pending => "PENDING",
            Kind::Acknowledged => "ACKNOWLEDGED",
            Kind::Withdrawn => "WITHDRAWN",
        };
        Self {
            label: format!("{word} {}", alert.priority),
            title: title(alert),
            sentence: one_line(&alert.summary),
            facts: facts(notification),
            links: links(notification, dashboard_url.trim_end_matches('/')),
        }
    }
}

fn title(alert: &Alert) -> String {
    let mut out = one_line(&alert.name);
    for (tag, between) in [("subject", ": "), ("host", " on "), ("hosts", " on ")] {
        if let Some(value) = alert.tags.get(tag) {
            out.push_str(between);
            out.push_str(&one_line(value));
        }
    }
    shorten(&out, TITLE_CHARS_MAX)
}

fn facts(notification: &Notification) -> Vec<(&'static str, String)> {
    let alert = &notification.alert;
    if notification.transition.kind == Kind::Test {
        return vec![("Sent", time(notification.transition.at_ms))];
    }
    let mut rows = vec![("Priority", alert.priority.to_string()), ("Began", time(alert.since))];
    rows.extend(alert.fired_at.map(|at| ("Fired", time(at))));
    rows.extend(alert.resolved_at.map(|at| ("Resolved", time(at))));
    rows.extend(alert.acknowledged_by.as_ref().map(|who| ("Taken by", one_line(who))));
    rows.push(("Rule", one_line(&alert.rule_id)));
    rows.push(("Metric", one_line(&alert.metric_id)));
    let tags: Vec<String> = alert.tags.iter().map(|(name, value)| format!("{}={}", one_line(name), one_line(value))).collect();
    if !tags.is_empty() {
        rows.push(("Tags", tags.join(", ")));
    }
    rows
}

fn links(notification: &Notification, dashboard: &str) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if !dashboard.is_empty() && notification.transition.kind != Kind::Test {
        out.push(("Dashboard", format!("{dashboard}/alerts/{}", notification.alert.id)));
    }
    match notification.alert.runbook.as_deref() {
        Some(page) if page.starts_with("http://") || page.starts_with("https://") => out.push(("Runbook", page.to_owned())),
        Some(page) if page.starts_with('/') && !dashboard.is_empty() => out.push(("Runbook", format!("{dashboard}{page}"))),
        _ => {}
    }
    out
}

/// UTC to the second.
fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// At most `chars` characters, the last one `…` if some were cut.
pub(super) fn shorten(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some(_) => text.chars().take(chars.saturating_sub(1)).chain(['…']).collect(),
        None => text.to_owned(),
    }
}
