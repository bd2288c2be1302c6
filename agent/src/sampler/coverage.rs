//! What each sensor cannot see, and the events when that changes. What a host never had (no pressure figures in its kernel)
//! is told by the `blind` metric only; an event says that sight was lost, or that a keystore cannot be looked into. What was told
//! is remembered over restarts: it is told once, and that it is over is told as well where the agent was away meanwhile.

use std::collections::BTreeMap;

use keyvigil_common::event::{Event, EventKind};

use crate::buffer::{Remember, Remembered};
use crate::collect::{SERVED_DOUBTS, UNPROVEN};

/// Sensors whose blindness is news even if they never saw: who watches over keys must say what of them is not watched.
const ALWAYS_NEWS: [&str; 3] = ["keystore", "access", "operations"];

/// What a sensor that does not answer cannot see.
const LATE: &str = "anything";

/// Under which name what was told is remembered: that of no sensor.
pub(super) const MEMORY: &str = "coverage";

/// What is to be told, and what to remember of it.
pub(super) type Changes = (Vec<Event>, Vec<Remember>);

/// What is not seen now.
#[derive(Debug, Default)]
pub struct Coverage {
    blind: BTreeMap<(&'static str, String), String>,
    /// Sensors that have answered before.
    asked: Vec<&'static str>,
    /// Whether what was told before this start is known.
    pub(super) recalled: bool,
    /// Whether that was asked for.
    pub(super) recalling: bool,
}

impl Coverage {
    /// Whether this blindness leaves something unwatched that the agent is there for: keys, certificates that are served, or all
    /// that a sensor sees, and that it was proven to see. Only that is called blind, here and by the aggregator.
    #[must_use]
    pub fn matters(sensor: &str, what: &str) -> bool {
        let doubts = match sensor {
            "served" => SERVED_DOUBTS.contains(&what),
            "canary" => what.starts_with(UNPROVEN),
            sensor => sensor != "keystore",
        };
        what == LATE || !doubts
    }

    /// Takes back what was told of `sensors` before this start.
    pub(super) fn restore(&mut self, remembered: Vec<Remembered>, sensors: impl Iterator<Item = &'static str> + Clone) {
        self.recalled = true;
        for (key, reason) in remembered {
            let Some((name, what)) = key.split_once(' ') else { continue };
            let Some(sensor) = sensors.clone().find(|sensor| *sensor == name) else { continue };
            self.blind.entry((sensor, what.to_owned())).or_insert_with(|| String::from_utf8_lossy(&reason).into_owned());
        }
    }

    /// `sensor` does not answer: it sees nothing, whatever it saw before; what else it is blind to is not over by that.
    pub(super) fn late(&mut self, sensor: &'static str, reason: &str, now_ms: i64) -> Changes {
        let known = self.blind.insert((sensor, LATE.to_owned()), reason.to_owned());
        let mut changes = Changes::default();
        if known.is_none() {
            lost(sensor, LATE, reason, now_ms, &mut changes);
        }
        changes
    }

    /// Takes what `sensor` could not see this time; the events that follow.
    pub(super) fn update(&mut self, sensor: &'static str, blind: &[(String, String)], now_ms: i64) -> Changes {
        let first = !self.asked.contains(&sensor);
        if first {
            self.asked.push(sensor);
        }
        let mut changes = Changes::default();
        for (what, reason) in blind {
            let known = self.blind.insert((sensor, what.clone()), reason.clone());
            if known.is_none() && (!first || ALWAYS_NEWS.contains(&sensor)) {
                lost(sensor, what, reason, now_ms, &mut changes);
            }
        }
        // That it did not answer is over now that it has.
        let seen: Vec<String> =
            self.blind.keys().filter(|(s, what)| *s == sensor && !blind.iter().any(|(b, _)| b == what)).map(|(_, what)| what.clone()).collect();
        for what in seen {
            let reason = self.blind.remove(&(sensor, what.clone())).unwrap_or_default();
            changes.0.push(event(EventKind::CoverageRestored, sensor, &what, &reason, now_ms));
            changes.1.push((MEMORY, key(sensor, &what), None));
        }
        changes
    }
}

/// Whether `lost` says of a path what the sensor itself told just now, and better: that it cannot be read, why, and what to do.
pub(super) fn is_told_already(lost: &Event, told: &[Event]) -> bool {
    let is_of = |path: &String| lost.evidence.iter().any(|(name, what)| name == "what" && what == path);
    lost.kind == EventKind::CoverageLost && told.iter().any(|event| event.kind == EventKind::Unreadable && event.path.as_ref().is_some_and(is_of))
}

fn lost(sensor: &str, what: &str, reason: &str, now_ms: i64, changes: &mut Changes) {
    changes.0.push(event(EventKind::CoverageLost, sensor, what, reason, now_ms));
    changes.1.push((MEMORY, key(sensor, what), Some(reason.as_bytes().to_vec())));
}

/// Names of sensors have no space.
fn key(sensor: &str, what: &str) -> String {
    format!("{sensor} {what}")
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
    fn what_the_sensor_tells_by_itself_is_not_told_twice() {
        let blind = ["/etc/ssl/private", "container:x:/etc/ssl", "/srv"].map(|what| (what.to_owned(), "denied".to_owned()));
        let (lost, _) = Coverage::default().update("keystore", &blind, 1);
        let told = |path: &str, kind| Event { path: Some(path.to_owned()), kind, ..lost[2].clone() };
        let told = [told("/etc/ssl/private", EventKind::Unreadable), told("container:x:/etc/ssl", EventKind::Unreadable), told("/srv", EventKind::Created)];
        assert_eq!(lost.iter().map(|event| is_told_already(event, &told)).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn losing_and_regaining_sight_is_told_once_each() {
        let mut coverage = Coverage::default();
        let blind = [("pressure".to_owned(), "not in this kernel".to_owned())];
        assert!(coverage.update("pressure", &blind, 1).0.is_empty(), "what the host never had is no news");
        assert!(coverage.update("disk", &[], 1).0.is_empty());
        let (lost, _) = coverage.update("disk", &[("/data".to_owned(), "hung".to_owned())], 2);
        assert_eq!(lost.iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::CoverageLost]);
        assert!(coverage.update("disk", &[("/data".to_owned(), "hung".to_owned())], 3).0.is_empty());
        assert_eq!(coverage.update("disk", &[], 4).0[0].kind, EventKind::CoverageRestored);
        assert_eq!(coverage.late("clock", "no answer", 5).0[0].kind, EventKind::CoverageLost, "also on its first look");
        assert!(coverage.late("clock", "no answer", 6).0.is_empty());
        assert_eq!(coverage.update("clock", &[], 7).0[0].kind, EventKind::CoverageRestored);
        assert_eq!(coverage.update("keystore", &[("/etc/ssl".to_owned(), "denied".to_owned())], 5).0.len(), 1, "a keystore out of sight is news at once");
    }
}
