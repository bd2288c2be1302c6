//! Who hears of a transition. Everyone who was told that an alert fires is told that it ended, and nobody else is.
//! Pure; called in the transaction that stores the alert, which keeps in its memory who was told.

use super::choice::Priority;
use super::{Alert, Kind, Transition};

/// A channel that is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, as in [`crate::notify::Channel::name`].
    pub channel: String,
    /// It hears of alerts that matter at least this much.
    pub min_priority: Priority,
}

/// Names of the channels that hear of `transition`. Call once for each transition, before `alert` is stored.
pub fn route(targets: &[Target], alert: &mut Alert, transition: &Transition) -> Vec<String> {
    match transition.kind {
        Kind::Fired | Kind::Escalated => {
            let heard: Vec<String> = targets.iter().filter(|t| alert.priority >= t.min_priority).map(|t| t.channel.clone()).collect();
            alert.memory.told.extend(heard.iter().cloned());
            heard
        }
        Kind::Resolved => {
            let told = std::mem::take(&mut alert.memory.told);
            targets.iter().filter(|t| told.contains(&t.channel)).map(|t| t.channel.clone()).collect()
        }
        Kind::Pending | Kind::Acknowledged | Kind::Withdrawn | Kind::Test => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Observation, Rule, State, Tick, step};

    fn transition(kind: Kind) -> Transition {
        Transition { kind, from: None, to: Some(State::Firing), at_ms: 0 }
    }

    #[test]
    fn who_heard_of_the_fire_hears_of_its_end_even_if_the_priority_fell() {
        let rule = Rule { rule_id: "a".into(), threshold_value: Some(1.0), priority: Priority::High, ..Rule::default() };
        let seen = Observation::new("m", keyvigil_common::sample::Tags::default(), Some(2.0));
        let mut alert = step(&rule, None, &seen, Tick { now_ms: 0, interval_ms: 15_000 }).alert.unwrap();
        let target = |channel: &str, min_priority| Target { channel: channel.into(), min_priority };
        let mut targets = vec![target("email:a@b.c", Priority::Info), target("slack", Priority::Critical)];
        assert_eq!(route(&targets, &mut alert, &transition(Kind::Fired)), ["email:a@b.c"]);
        assert!(route(&targets, &mut alert, &transition(Kind::Acknowledged)).is_empty());
        alert.priority = Priority::Critical;
        assert_eq!(route(&targets, &mut alert, &transition(Kind::Escalated)), ["email:a@b.c", "slack"]);
        alert.priority = Priority::Info;
        targets.remove(0);
        targets.push(target("email:new@b.c", Priority::Info));
        assert_eq!(route(&targets, &mut alert, &transition(Kind::Resolved)), ["slack"], "neither the channel that is gone nor the one that is new");
        assert!(route(&targets, &mut alert, &transition(Kind::Resolved)).is_empty(), "once");
    }
}
