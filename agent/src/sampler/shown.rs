//! How each sensor stands, for whoever asks the running agent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Coverage;
use crate::collect::Sink;
use crate::control::Sensor;

/// Shared with who reports.
#[derive(Debug, Clone, Default)]
pub struct Shown(Arc<Mutex<Vec<Sensor>>>);

impl Shown {
    /// All sensors that were asked, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Sensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much of what this agent is there for it does not see; `None` before any sensor has answered.
    #[must_use]
    pub fn blind(&self) -> Option<u32> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unseen = |sensor: &Sensor| sensor.blind.iter().filter(|(what, _)| Coverage::matters(&sensor.name, what)).count();
        (!all.is_empty()).then(|| u32::try_from(all.iter().map(unseen).sum::<usize>()).unwrap_or(u32::MAX))
    }

    /// A sensor has answered.
    pub(crate) fn answered(&self, name: &str, interval: Duration, cost: Duration, now_ms: i64, sink: &Sink) {
        self.change(name, |sensor| {
            sensor.interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
            sensor.answered_ms = Some(now_ms);
            sensor.took_ms = cost.as_secs_f64() * 1_000.0;
            sensor.samples = sink.samples.len() as u64;
            sensor.blind.clone_from(&sink.blind);
        });
    }

    /// A sensor does not answer.
    pub(super) fn late(&self, name: &str, reason: &str) {
        self.change(name, |sensor| sensor.blind = vec![("anything".to_owned(), reason.to_owned())]);
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Sensor)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.binary_search_by(|sensor| sensor.name.as_str().cmp(name)) {
            Ok(at) => change(&mut all[at]),
            Err(at) => {
                let mut sensor = Sensor { name: name.to_owned(), ..Sensor::default() };
                change(&mut sensor);
                all.insert(at, sensor);
            }
        }
    }
}
