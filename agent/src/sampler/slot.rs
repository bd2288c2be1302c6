//! A sensor with its place in the schedule. Called by [`super::Sampler`].

use std::time::Duration;

use super::pace::Pace;
use crate::collect::{self, Collector, Row};

/// A sensor with its place in the schedule.
pub(super) struct Slot {
    pub(super) row: Row,
    /// Away while it runs.
    pub(super) collector: Option<Box<dyn Collector>>,
    pub(super) interval: Pace,
    pub(super) due: Duration,
    pub(super) started: Option<Duration>,
    pub(super) late: bool,
    /// It has what it remembered before this start.
    pub(super) restored: bool,
    /// It was asked for, and is not known yet: the disk is away.
    pub(super) asked: bool,
    /// Another one stands here since it failed: it looks once what was seen before lies on disk, and it was asked for what it remembered.
    pub(super) is_anew: bool,
}

impl Slot {
    /// One that is due at once.
    pub(super) fn new(row: Row, collector: Box<dyn Collector>, interval: Pace) -> Self {
        Self { row, collector: Some(collector), interval, due: Duration::ZERO, started: None, late: false, restored: false, asked: false, is_anew: false }
    }

    /// When it is due, where it can be asked.
    pub(super) fn waits_until(&self) -> Option<Duration> {
        (self.collector.is_some() && !self.is_anew).then_some(self.due)
    }

    /// How long it may take.
    pub(super) fn deadline(&self) -> Duration {
        Duration::from_secs(self.row.deadline_seconds)
    }
}

/// Sensors that are stretched only when nothing else is left: those of keys, and of what is done with them.
pub(super) fn is_last(sensor: &str) -> bool {
    !collect::HOST_SENSORS.contains(&sensor)
}
