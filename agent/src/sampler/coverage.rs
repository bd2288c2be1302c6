//! What each sensor cannot see, and the events when that changes. What a host never had (no pressure figures in its kernel)
//! is told by the `blind` metric only; an event says that sight was lost, or that a keystore cannot be looked into.

use std::collections::BTreeMap;

use keyvigil_common::event::{Event, EventKind};

/// Sensors whose blindness is news even if they never saw.
const ALWAYS_NEWS: [&str; 1] = ["keystore"];

/// What a sensor that does not answer cannot see.
const LATE: &str = "anything";

/// What is not seen now.
#[derive(Debug, Default)]
pub struct Coverage {
    blind: BTreeMap<(&'static str, String), String>,
    /// Sensors that have answered before.
    asked: Vec<&'static str>,
}

impl Coverage {
    /// Whether this blindness leaves something unwatched that the agent is there for: keys, or all that a sensor sees.
    #[must_use]
    pub fn matters(sensor: &str, what: &str) -> bool {
        what == LATE || ALWAYS_NEWS.contains(&sensor)
    }

    /// `sensor` does not answer: it sees nothing, whatever it saw before; what else it is blind to is not over by that.
    pub(super) fn late(&mut self, sensor: &'static str, reason: &str, now_ms: i64) -> Option<Event> {
        let known = self.blind.insert((sensor, LATE.to_owned()), reason.to_owned());
        known.is_none().then(|| event(EventKind::CoverageLost, sensor, LATE, reason, now_ms))
    }

    /// Takes what `sensor` could not see this time; the events that follow.
    pub(super) fn update(&mut self, sensor: &'static str, blind: &[(String, String)], now_ms: i64) -> Vec<Event> {
        let first = !self.asked.contains(&sensor);
        if first {
            self.asked.push(sensor);
        }
        let mut events = Vec::new();
        for (what, reason) in blind {
            let known = self.blind.insert((sensor, what.clone()), reason.clone());
            if known.is_none() && (!first || ALWAYS_NEWS.contains(&sensor)) {
                events.push(event(EventKind::CoverageLost, sensor, what, reason, now_ms));
            }
        }
        // That it did not answer is over now that it has.
        let seen: Vec<String> =
            self.blind.keys().filter(|(s, what)| *s == sensor && !blind.iter().any(|(b, _)| b == what)).map(|(_, what)| what.clone()).collect();
        for what in seen {
            let reason = self.blind.remove(&(sensor, what.clone())).unwrap_or_default();
            events.push(event(EventKind::CoverageRestored, sensor, &what, &reason, now_ms));
        }
        events
    }
}

fn event(kind: EventKind, sensor: &str, what: &str, reason: &str, now_ms: i64) -> Event {
    let message = match kind {
        EventKind::CoverageLost => format!("the {sensor} sensor cannot see {what}: {reason}"),
        _ => format!("the {sensor} sensor sees {what} again"),
    };
    let evidence = [("sensor", sensor), ("what", what), ("reason", reason)].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
    let path = what.starts_with('/').then(|| what.to_owned());
    Event { kind, at_ms: now_ms, key_id: None, path, actor: None, message, evidence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losing_and_regaining_sight_is_told_once_each() {
        let mut coverage = Coverage::default();
        let blind = [("pressure".to_owned(), "not in this kernel".to_owned())];
        assert!(coverage.update("pressure", &blind, 1).is_empty(), "what the host never had is no news");
        assert!(coverage.update("disk", &[], 1).is_empty());
        let lost = coverage.update("disk", &[("/data".to_owned(), "hung".to_owned())], 2);
        assert_eq!(lost.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::CoverageLost]);
        assert!(coverage.update("disk", &[("/data".to_owned(), "hung".to_owned())], 3).is_empty());
        assert_eq!(coverage.update("disk", &[], 4)[0].kind, EventKind::CoverageRestored);
        assert_eq!(coverage.late("clock", "no answer", 5).map(|e| e.kind), Some(EventKind::CoverageLost), "also on its first look");
        assert!(coverage.late("clock", "no answer", 6).is_none());
        assert_eq!(coverage.update("clock", &[], 7)[0].kind, EventKind::CoverageRestored);
        assert_eq!(coverage.update("keystore", &[("/etc/ssl".to_owned(), "denied".to_owned())], 5).len(), 1, "a keystore out of sight is news at once");
    }
}
