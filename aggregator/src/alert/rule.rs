//! What a rule says, and everything that can be wrong with it, told at once. Never reads a file or a store and never
//! evaluates: `step.rs` does that. Read from the API and from rule files, written as the API shows it.

use std::collections::BTreeMap;

use keyvigil_common::event::EventKind;
use keyvigil_common::finding::FindingKind;
use keyvigil_common::limits::{PATTERN_BYTES_MAX, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX};
use serde::{Deserialize, Serialize};

use super::choice::{Comparison, Origin, Priority, RuleKind};
use crate::query::Aggregation;

const ID_BYTES_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 100;
/// A week: longer windows belong to a forecast.
const SECONDS_MAX: u64 = 7 * 86_400;
const DAYS_MAX: u32 = 3_650;

/// A rule. A field that is not written has the value of [`Rule::default`]; [`Rule::check`] says which may not be missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Its identity: `a-z`, `0-9`, `-`, `_`, `.`.
    pub rule_id: String,
    /// What an alert is called.
    pub name: String,
    /// What it means that this fires, for who is woken by it.
    pub description: String,
    /// What it looks at.
    pub kind: RuleKind,
    /// Metrics, as in the query API: `*`, `**`, `?`, `{a,b}`, or `re:` and a regular expression.
    pub metric_pattern: String,
    /// How the samples of the window become one value.
    pub aggregation: Aggregation,
    /// Width of the window that ends now.
    pub window_seconds: u64,
    /// What the value is compared with. Required for `threshold`, refused for the others.
    pub threshold_value: Option<f64>,
    /// How.
    pub comparison: Comparison,
    /// How long the condition must hold before the alert fires. Time without data does not count.
    pub duration_seconds: u64,
    /// How long the condition must be seen not to hold before the alert is resolved.
    pub keep_firing_seconds: u64,
    /// How much it matters. For `key_expiry` and `finding` the most it may come to matter.
    pub priority: Priority,
    /// Whether it is evaluated.
    pub enabled: bool,
    /// Which series, as in the query API: tag to `value`, `!value` or `~regex`.
    pub tags: BTreeMap<String, String>,
    /// For who receives the alert.
    pub labels: BTreeMap<String, String>,
    /// For who receives the alert.
    pub annotations: BTreeMap<String, String>,
    /// Page that says what to do: `http://`, `https://` or a path of the dashboard.
    pub runbook: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// For `key_expiry`: days before the end at which the alert begins and escalates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<u32>,
    /// For `finding`: the kinds that it tells of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingKind>,
    /// For `event`: the kinds that it tells of; `window_seconds` after the last one it is over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventKind>,
    /// For `event`: what the event's evidence must say, name to value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub evidence: BTreeMap<String, String>,
    /// Reserved for the detector; `true` is refused until there is one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub use_anomaly_detection: bool,
    /// 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ml_sensitivity: Option<f64>,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            rule_id: String::new(),
            name: String::new(),
            description: String::new(),
            kind: RuleKind::Threshold,
            metric_pattern: String::new(),
            aggregation: Aggregation::Last,
            window_seconds: 60,
            threshold_value: None,
            comparison: Comparison::Above,
            duration_seconds: 0,
            keep_firing_seconds: 60,
            priority: Priority::Medium,
            enabled: true,
            tags: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            runbook: None,
            origin: Origin::Api,
            days: Vec::new(),
            findings: Vec::new(),
            events: Vec::new(),
            evidence: BTreeMap::new(),
            use_anomaly_detection: false,
            ml_sensitivity: None,
        }
    }
}

impl Rule {
    /// What an alert of this rule is called: the name, else the id.
    #[must_use]
    pub fn title(&self) -> &str {
        if self.name.is_empty() { &self.rule_id } else { &self.name }
    }

    /// Whether the rule can be used.
    ///
    /// # Errors
    /// All that is wrong with it, a line each: the field, what is wrong, what to write.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        self.check_words(&mut faults);
        match self.kind {
            RuleKind::Threshold => self.check_threshold(&mut faults),
            RuleKind::KeyExpiry => self.check_expiry(&mut faults),
            RuleKind::Finding => self.check_findings(&mut faults),
            RuleKind::Event => self.check_events(&mut faults),
            RuleKind::Blind | RuleKind::Silent => self.check_own_source(&mut faults, "looks at hosts instead"),
        }
        if self.kind != RuleKind::Event && !(self.events.is_empty() && self.evidence.is_empty()) {
            faults.push("events: belongs to kind event, and so does evidence: remove it".into());
        }
        if self.kind != RuleKind::KeyExpiry && !self.days.is_empty() {
            faults.push("days: belongs to kind key_expiry: remove it".into());
        }
        if self.kind != RuleKind::Finding && !self.findings.is_empty() {
            faults.push("findings: belongs to kind finding: remove it".into());
        }
        for (field, seconds, least) in
            [("window_seconds", self.window_seconds, 1), ("duration_seconds", self.duration_seconds, 0), ("keep_firing_seconds", self.keep_firing_seconds, 0)]
        {
            if !(least..=SECONDS_MAX).contains(&seconds) {
                faults.push(format!("{field}: {seconds} is out of range: write {least} to {SECONDS_MAX}"));
            }
        }
        if self.use_anomaly_detection {
            faults.push("use_anomaly_detection: this version has no detector yet: write false and set threshold_value".into());
        }
        if self.ml_sensitivity.is_some_and(|s| !(0.0..=1.0).contains(&s)) {
            faults.push("ml_sensitivity: write a number from 0 to 1".into());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn check_words(&self, faults: &mut Vec<String>) {
        let id = &self.rule_id;
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c);
        if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(allowed) {
            let shown: String = id.chars().take(ID_BYTES_MAX).collect();
            faults.push(format!("rule_id: {shown:?} must be 1 to {ID_BYTES_MAX} of a-z 0-9 - _ ."));
        }
        if self.name.chars().count() > NAME_CHARS_MAX || self.name.chars().any(char::is_control) {
            faults.push(format!("name: write at most {NAME_CHARS_MAX} characters on one line"));
        }
        if self.description.len() > TEXT_BYTES_MAX {
            faults.push(format!("description: write at most {TEXT_BYTES_MAX} bytes"));
        }
        if let Some(runbook) = &self.runbook {
            let known = ["https://", "http://", "/"].iter().any(|start| runbook.starts_with(start));
            if !known || runbook.len() > 2_048 || runbook.chars().any(|c| c.is_control() || c.is_whitespace()) {
                faults.push("runbook: write an address that begins with https://, http:// or /, without spaces".into());
            }
        }
        for (field, map) in [("tags", &self.tags), ("labels", &self.labels), ("annotations", &self.annotations)] {
            check_map(field, map, faults);
        }
    }

    fn check_threshold(&self, faults: &mut Vec<String>) {
        let pattern = &self.metric_pattern;
        if pattern.is_empty() {
            faults.push("metric_pattern: is missing: write the metric's name, such as system.cpu.usage_total, or a pattern".into());
        } else if pattern.len() > PATTERN_BYTES_MAX || pattern.chars().any(char::is_control) {
            faults.push(format!("metric_pattern: write at most {PATTERN_BYTES_MAX} bytes on one line"));
        } else if let Some(Err(e)) = pattern.strip_prefix("re:").map(compile) {
            faults.push(format!("metric_pattern: {e}"));
        }
        match self.threshold_value {
            None => faults.push("threshold_value: is missing: write the number to compare with".into()),
            Some(value) if !value.is_finite() => faults.push(format!("threshold_value: {value} is not a number to compare with")),
            Some(_) => {}
        }
    }

    fn check_expiry(&self, faults: &mut Vec<String>) {
        if self.days.is_empty() || self.days.len() > 16 || self.days.iter().any(|d| !(1..=DAYS_MAX).contains(d)) {
            faults.push(format!("days: write 1 to 16 numbers of days from 1 to {DAYS_MAX}, such as [30, 14, 7, 1]"));
        }
        self.check_own_source(faults, "has days instead");
    }

    fn check_findings(&self, faults: &mut Vec<String>) {
        if self.findings.is_empty() {
            faults.push("findings: is missing: write which kinds, such as [\"weak\"]".into());
        }
        if self.findings.contains(&FindingKind::NotQuantumSafe) {
            faults.push("findings: not_quantum_safe is an inventory and alerts nobody: remove it".into());
        }
        self.check_own_source(faults, "has findings instead");
    }

    fn check_events(&self, faults: &mut Vec<String>) {
        if self.events.is_empty() {
            faults.push("events: is missing: write which kinds, such as [\"policy_violation\"]".into());
        }
        check_map("evidence", &self.evidence, faults);
        self.check_own_source(faults, "has events instead");
    }

    /// Of kinds that look at keys, hosts or events and not at samples.
    fn check_own_source(&self, faults: &mut Vec<String>, instead: &str) {
        let kind = self.kind;
        if self.threshold_value.is_some() {
            faults.push(format!("threshold_value: a rule of kind {kind} {instead}: remove it"));
        }
        if !self.metric_pattern.is_empty() {
            faults.push(format!("metric_pattern: a rule of kind {kind} looks at no metric: remove it"));
        }
    }
}

fn compile(expression: &str) -> Result<(), String> {
    match regex::RegexBuilder::new(expression).size_limit(1 << 20).build() {
        Ok(_) => Ok(()),
        Err(e) => Err(format!("the regular expression does not compile: {}", e.to_string().lines().last().unwrap_or_default().trim())),
    }
}

fn check_map(field: &str, map: &BTreeMap<String, String>, faults: &mut Vec<String>) {
    if map.len() > TAGS_MAX {
        faults.push(format!("{field}: {} entries; write at most {TAGS_MAX}", map.len()));
    }
    for (name, value) in map {
        let shown: String = name.chars().take(32).collect();
        if name.is_empty() || name.len() > TAG_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            faults.push(format!("{field}: the name {shown:?} must have 1 to {TAG_NAME_BYTES_MAX} bytes and no control characters"));
        }
        if value.len() > TAG_VALUE_BYTES_MAX || (field != "annotations" && value.chars().any(char::is_control)) {
            faults.push(format!("{field}: the value of {shown:?} must have at most {TAG_VALUE_BYTES_MAX} bytes on one line"));
        }
        if field == "tags"
            && let Some(Err(e)) = value.strip_prefix('~').map(compile)
        {
            faults.push(format!("{field}: {shown:?}: {e}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_names_its_field() {
        let rule = Rule {
            rule_id: "High CPU".into(),
            name: "a\r\nBcc: x".into(),
            metric_pattern: "re:(".into(),
            threshold_value: Some(f64::NAN),
            window_seconds: 0,
            runbook: Some("javascript:alert(1)".into()),
            tags: [("host".to_owned(), "~(".to_owned())].into(),
            use_anomaly_detection: true,
            ml_sensitivity: Some(2.0),
            ..Rule::default()
        };
        let faults = rule.check().unwrap_err();
        for field in ["rule_id", "name", "metric_pattern", "threshold_value", "window_seconds", "runbook", "tags", "use_anomaly_detection", "ml_sensitivity"] {
            assert!(faults.iter().any(|fault| fault.starts_with(&format!("{field}: "))), "{field} is missing in {faults:#?}");
        }
        assert_eq!(faults.len(), 9, "{faults:#?}");
    }

    #[test]
    fn an_empty_rule_says_what_is_missing_and_a_misspelt_field_is_refused() {
        let empty: Rule = serde_json::from_str("{}").unwrap();
        let faults = empty.check().unwrap_err();
        assert!(["rule_id", "metric_pattern", "threshold_value"].iter().all(|f| faults.iter().any(|fault| fault.starts_with(f))), "{faults:?}");
        let fault = serde_json::from_str::<Rule>("{\"treshold_value\":3}").unwrap_err().to_string();
        assert!(fault.contains("treshold_value") && fault.contains("threshold_value"), "{fault}");
    }

    #[test]
    fn a_rule_as_the_reference_shows_it_is_read_and_written_the_same() {
        let text = r#"{"rule_id":"high-cpu","name":"High CPU","description":"...","metric_pattern":"system.cpu.usage_total","aggregation":"avg",
            "window_seconds":60,"threshold_value":90,"comparison":">","duration_seconds":300,"priority":"HIGH","enabled":true,"tags":{},"labels":{},
            "annotations":{},"runbook":null,"origin":"shipped"}"#;
        let rule: Rule = serde_json::from_str(text).unwrap();
        rule.check().unwrap();
        let again: Rule = serde_json::from_value(serde_json::to_value(&rule).unwrap()).unwrap();
        assert_eq!(again, rule);
        assert_eq!(serde_json::to_value(&rule).unwrap()["priority"], "high");
    }
}
