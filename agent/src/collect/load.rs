//! Load averages and the number of threads, from `/proc/loadavg`.

use super::metric::gauge;
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs;
use crate::rootfs::RootFs;

const AVERAGES: [&str; 3] = ["system.load.1m", "system.load.5m", "system.load.15m"];

pub(super) const METRICS: &[MetricDef] = &[
    gauge(AVERAGES[0], Unit::Count, "Tasks that ran, could have run or waited for a disk, averaged over 1 minute."),
    gauge(AVERAGES[1], Unit::Count, "The same over 5 minutes."),
    gauge(AVERAGES[2], Unit::Count, "The same over 15 minutes."),
];

/// Sensor `load`.
pub(super) struct Load(RootFs);

impl Load {
    pub(super) fn new(context: &Context) -> Self {
        Self(context.root.clone())
    }
}

impl Collector for Load {
    fn collect(&mut self, _at: At, sink: &mut Sink) {
        let Some(text) = sink.read(&self.0, "/proc/loadavg", "system.load") else { return };
        let Some(load) = procfs::load(&text) else { return sink.absent("system.load", "/proc/loadavg is not understood") };
        for (metric, value) in AVERAGES.into_iter().zip(load.averages) {
            sink.gauge(metric, &[], value);
        }
    }
}
