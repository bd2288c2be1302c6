//! What an alert is, and one evaluation of a rule over what was seen. Pure: the time is an argument, storing and sending
//! are the caller's, who keeps the alert and the notifications of [`route`] in one transaction. Never touches a store, a
//! clock or a network. Called by the job that evaluates rules and by the API (acknowledge, close).

use std::collections::{BTreeMap, BTreeSet};

use keyvigil_common::sample::Tags;
use keyvigil_common::{hex, sha256};
use serde::{Deserialize, Serialize};

mod choice;
pub mod event;
pub mod expiry;
pub mod finding;
pub mod host;
pub mod route;
pub mod rule;
mod sentence;
mod shipped;
mod step;

pub use choice::{Comparison, Origin, Priority, RuleKind, State};
pub use rule::Rule;
pub use shipped::shipped;
pub use step::{Refused, acknowledge, close, step};

/// When an evaluation happens.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// Unix ms.
    pub now_ms: i64,
    /// Time between two evaluations as configured, ms. Two of them and a minute are still one unbroken observation.
    pub interval_ms: i64,
}

/// What one evaluation saw of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Tags of the series, or those that the summary names.
    pub tags: Tags,
    /// Metric.
    pub metric_id: String,
    /// Aggregated value of the window; `None` when there was no data. `NaN` counts as none.
    pub value: Option<f64>,
    /// Added to the summary after a semicolon.
    pub detail: Option<String>,
    /// For rules that are more than a comparison: the verdict. Without it the rule's threshold decides.
    pub judged: Option<Judged>,
    /// When something happened, where that is what the rule looks at, Unix ms; and the numbers of all who did it so far.
    pub event: Option<(i64, Vec<u32>)>,
}

/// A verdict that does not come from comparing with the rule's threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What the alert is about, in place of metric and tags, so that it stays one alert when those change.
    pub identity: String,
    /// Whether the condition holds.
    pub hit: bool,
    /// How much it matters now.
    pub priority: Priority,
    /// How bad it is among the levels of this rule; a rise is an escalation.
    pub rank: u8,
    /// The threshold that was passed.
    pub threshold: f64,
    /// How the value stands to it.
    pub comparison: Comparison,
    /// The whole sentence.
    pub summary: String,
}

/// An alert as the API shows it, and what the next evaluation must remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Stable: the same rule and series always have the same, 16 hex digits.
    pub id: String,
    /// Its rule.
    pub rule_id: String,
    /// The rule's name.
    pub name: String,
    /// How much it matters.
    pub priority: Priority,
    /// Where it is in its life.
    pub state: State,
    /// Newest value that was seen; `None` if it was infinite.
    pub value: Option<f64>,
    /// What it was compared with.
    pub threshold: f64,
    /// How.
    pub comparison: Comparison,
    /// Metric.
    pub metric_id: String,
    /// Series.
    pub tags: Tags,
    /// When the condition began to hold, Unix ms.
    pub since: i64,
    /// When it began to fire; while pending, when it last did.
    pub fired_at: Option<i64>,
    /// When it was resolved; while pending, when it last was.
    pub resolved_at: Option<i64>,
    /// When someone said that they are on it.
    pub acknowledged_at: Option<i64>,
    /// Who.
    pub acknowledged_by: Option<String>,
    /// What they said.
    pub note: Option<String>,
    /// When it was last evaluated, with data or without.
    pub last_evaluated: i64,
    /// The data that the rule looks at is missing.
    pub stale: bool,
    /// One sentence.
    pub summary: String,
    /// What to do.
    pub runbook: Option<String>,
    /// Not for readers of the API.
    #[serde(default)]
    pub memory: Memory,
}

/// What the next evaluation and the router must know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Transitions so far, over all episodes: part of a notification's idempotency key.
    pub seq: u64,
    /// Level that was reached.
    pub rank: u8,
    /// For how long the condition was seen to hold while pending, ms.
    pub held_ms: i64,
    /// For how long it was seen not to hold while active, ms.
    pub clear_ms: Option<i64>,
    /// When there was data last, Unix ms.
    pub last_data: i64,
    /// When something happened last, where the rule looks at that, Unix ms.
    pub event_ms: i64,
    /// Numbers of those who did it.
    pub by: Vec<u32>,
    /// Channels that were told of this firing, and must therefore hear of its end.
    pub told: BTreeSet<String>,
}

/// What happened to an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The condition began to hold.
    Pending,
    /// It held for its duration.
    Fired,
    /// It became worse; whoever acknowledged it did so before that.
    Escalated,
    /// Someone is on it.
    Acknowledged,
    /// It is seen not to hold any more, or its rule is gone.
    Resolved,
    /// It did not hold long enough to fire.
    Withdrawn,
    /// Nothing happened: an operator tries a channel.
    Test,
}

/// A change of state, for the history and for the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// What happened.
    pub kind: Kind,
    /// State before; `None` when there was no alert.
    pub from: Option<State>,
    /// State after; `None` when nothing is left of it.
    pub to: Option<State>,
    /// Unix ms.
    pub at_ms: i64,
}

/// The outcome of one evaluation for one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which alert.
    pub id: String,
    /// What to store; `None`: remove what is stored.
    pub alert: Option<Alert>,
    /// What changed, if its state or level did.
    pub transition: Option<Transition>,
}

impl Observation {
    /// A value, or the lack of one, to be compared with the rule's threshold.
    #[must_use]
    pub fn new(metric_id: impl Into<String>, tags: Tags, value: Option<f64>) -> Self {
        Self { tags, metric_id: metric_id.into(), value, detail: None, judged: None, event: None }
    }

    /// Identity of the alert that `rule` has for this.
    #[must_use]
    pub fn alert_id(&self, rule: &Rule) -> String {
        let mut parts = vec![rule.rule_id.as_str()];
        match &self.judged {
            Some(judged) => parts.push(&judged.identity),
            None => {
                parts.push(&self.metric_id);
                parts.extend(self.tags.iter().flat_map(|(name, value)| [name, value]));
            }
        }
        // Lengths in front, so that no two lists of parts read the same.
        let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        hex(&sha256(text.as_bytes())[..8])
    }
}

/// One evaluation of `rule`: a [`Step`] for each observation that concerns an alert or makes one, and for each alert of the
/// rule in `befores` (by id) whose series was not seen at all, which is missing data and never the end of an alert.
#[must_use]
pub fn evaluate(rule: &Rule, befores: &BTreeMap<String, Alert>, observations: &[Observation], tick: Tick) -> Vec<Step> {
    let mut seen = BTreeSet::new();
    let mut steps = Vec::new();
    for observation in observations {
        // The usual case, and the one that must cost nothing: all is well and was.
        if befores.is_empty() && !step::holds(rule, observation) {
            continue;
        }
        let id = observation.alert_id(rule);
        if seen.insert(id.clone()) {
            steps.push(step(rule, befores.get(&id), observation, tick));
        }
    }
    let vanished = befores.values().filter(|alert| alert.rule_id == rule.rule_id && !seen.contains(&alert.id));
    steps.extend(vanished.map(|alert| step(rule, Some(alert), &Observation::new(&alert.metric_id, alert.tags.clone(), None), tick)));
    steps.retain(|step| step.alert.is_some() || step.transition.is_some());
    steps
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod props;
