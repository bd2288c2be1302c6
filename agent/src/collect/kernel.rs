//! What the kernel has a limited number of and hands out to programs: file descriptors, entropy, tracked connections.

use super::metric::gauge;
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs;
use crate::rootfs::RootFs;

const FILES: &str = "system.file_descriptors.allocated";
const FILES_MAX: &str = "system.file_descriptors.max";
const ENTROPY: &str = "system.entropy.available_bits";
const POOL: &str = "system.entropy.pool_bits";
const CONNTRACK: &str = "system.conntrack.entries";
const CONNTRACK_MAX: &str = "system.conntrack.entries_max";

pub(super) const METRICS: &[MetricDef] = &[
    gauge(FILES, Unit::Count, "Open files of all processes together."),
    gauge(FILES_MAX, Unit::Count, "Files that all processes together may open."),
    gauge(ENTROPY, Unit::Bits, "Entropy that the kernel's random source holds."),
    gauge(POOL, Unit::Bits, "Entropy that it can hold."),
    gauge(CONNTRACK, Unit::Count, "Connections that the firewall tracks, where it does."),
    gauge(CONNTRACK_MAX, Unit::Count, "Connections that it can track; beyond them packets are dropped."),
];

/// Files of one number. The last two are there only when the firewall tracks connections.
const NUMBERS: &[(&str, &str, bool)] = &[
    (ENTROPY, "/proc/sys/kernel/random/entropy_avail", true),
    (POOL, "/proc/sys/kernel/random/poolsize", true),
    (CONNTRACK, "/proc/sys/net/netfilter/nf_conntrack_count", false),
    (CONNTRACK_MAX, "/proc/sys/net/netfilter/nf_conntrack_max", false),
];

/// Sensor `kernel`.
pub(super) struct Kernel(RootFs);

impl Kernel {
    pub(super) fn new(context: &Context) -> Self {
        Self(context.root.clone())
    }
}

impl Collector for Kernel {
    fn collect(&mut self, _at: At, sink: &mut Sink) {
        if let Some(text) = sink.read(&self.0, "/proc/sys/fs/file-nr", FILES) {
            match procfs::file_handles(&text) {
                Some((allocated, max)) => {
                    sink.gauge(FILES, &[], allocated as f64);
                    sink.gauge(FILES_MAX, &[], max as f64);
                }
                None => sink.absent(FILES, "/proc/sys/fs/file-nr is not understood"),
            }
        }
        for (metric, path, always) in NUMBERS {
            if !always && !self.0.path(path).exists() {
                continue;
            }
            if let Some(number) = sink.read(&self.0, path, metric).and_then(|text| procfs::number(&text)) {
                sink.gauge(metric, &[], number as f64);
            }
        }
    }
}
