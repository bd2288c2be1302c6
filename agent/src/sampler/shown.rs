//! How each sensor stands, for whoever asks the running agent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

    /// A sensor has answered.
    pub(super) fn answered(&self, name: &str, interval: Duration, cost: Duration, now_ms: i64, sink: &Sink) {
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
