//! Pressure stall: how long tasks stood still for want of processors, memory, disks or because of interrupts, from
//! `/proc/pressure`.

use std::io::ErrorKind;

use super::boot::Boot;
use super::metric::counter;
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs::pressure::totals;
use crate::rootfs::RootFs;

const STALL: &str = "system.pressure.stall_seconds_total";

pub(super) const METRICS: &[MetricDef] =
    &[counter(STALL, Unit::Seconds, "Time in which some tasks, or all at once (kind full), waited for the resource cpu, memory, io or irq.")];

/// Sensor `pressure`.
pub(super) struct Pressure {
    root: RootFs,
    boot: Boot,
}

impl Pressure {
    pub(super) fn new(context: &Context) -> Self {
        Self { root: context.root.clone(), boot: Boot::new(&context.root) }
    }
}

impl Collector for Pressure {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        if !self.root.path("/proc/pressure").exists() {
            return sink.absent("system.pressure", "this kernel does not account pressure stall (/proc/pressure is missing)");
        }
        let start_ms = self.boot.ms(at.wall_ms);
        for resource in ["cpu", "memory", "io", "irq"] {
            let path = format!("/proc/pressure/{resource}");
            let text = match self.root.read(&path) {
                Ok(text) => text,
                // Only newer kernels, and not all builds of them, account interrupts.
                Err(e) if resource == "irq" && e.kind() == ErrorKind::NotFound => continue,
                Err(e) => {
                    sink.absent(format!("system.pressure {resource}"), format_args!("{path}: {e}"));
                    continue;
                }
            };
            // The kernel writes `full` for processors as a zero that means nothing: some task always runs.
            for (kind, micros) in totals(&text).filter(|(kind, _)| (resource, *kind) != ("cpu", "full")) {
                sink.counter(STALL, &[("resource", resource), ("kind", kind)], micros as f64 / 1e6, start_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FakeHost, scrape};
    use super::*;

    #[test]
    fn a_kernel_without_pressure_stall_is_blind_and_not_at_ease() {
        let host = FakeHost::new();
        host.write("proc/stat", "btime 1700000000\n");
        let sink = scrape(&mut Pressure::new(&host.context()), 0);
        assert!(sink.samples.is_empty());
        assert_eq!(sink.blind.len(), 1);
        assert!(sink.blind[0].1.contains("/proc/pressure is missing"));
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_rest_is_kept() {
        let host = FakeHost::new();
        host.write("proc/pressure/cpu", "some avg10=0 total=2500000\nfull avg10=0 total=0\n");
        host.write("proc/pressure/memory", "some avg10=0 total=1\nfull avg10=0 total=1\n");
        let sink = scrape(&mut Pressure::new(&host.context()), 0);
        assert_eq!(sink.samples.iter().map(|s| s.value).collect::<Vec<_>>(), [2.5, 1e-6, 1e-6]);
        assert_eq!(sink.blind.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["system.pressure io"]);
    }
}
