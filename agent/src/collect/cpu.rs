//! Processors: usage, time by mode, interrupts and context switches, from `/proc/stat`. Emits counters that never step back,
//! although the kernel's now and then do.

use std::collections::HashMap;
use std::time::Duration;

use super::boot::Boot;
use super::metric::{counter, gauge};
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs::stat::{CpuTicks, MODES, Stat, TICKS_PER_SECOND, stat};
use crate::rootfs::RootFs;

const USAGE: &str = "system.cpu.usage_total";
const SECONDS: &str = "system.cpu.seconds_total";
const ONLINE: &str = "system.cpu.online";
const INTERRUPTS: &str = "system.cpu.interrupts_total";
const SOFT_INTERRUPTS: &str = "system.cpu.soft_interrupts_total";
const CONTEXT_SWITCHES: &str = "system.cpu.context_switches_total";

pub(super) const METRICS: &[MetricDef] = &[
    gauge(USAGE, Unit::Percent, "Time in which the processors ran something since the last scrape; waiting for disks is not counted, stolen time is."),
    counter(SECONDS, Unit::Seconds, "Time each processor (cpu) spent in each mode; modes add up, guests' time is not also in user or nice."),
    gauge(ONLINE, Unit::Count, "Processors that are on line."),
    counter(INTERRUPTS, Unit::Count, "Interrupts served."),
    counter(SOFT_INTERRUPTS, Unit::Count, "Soft interrupts served."),
    counter(CONTEXT_SWITCHES, Unit::Count, "Switches from one task to another."),
];

/// Between the two looks of the first scrape: usage since boot would mislead, and no usage at all would leave a hole.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A mode's time that steps back by less stands still; by more, the processor was taken away and came back.
const WOBBLE_TICKS_MAX: u64 = 3 * TICKS_PER_SECOND as u64;

/// Sensor `cpu`.
pub(super) struct Cpu {
    root: RootFs,
    boot: Boot,
    pause: fn(Duration),
    last: Option<CpuTicks>,
    /// Ticks last emitted, by processor, in the order of [`MODES`].
    emitted: HashMap<String, [u64; MODES.len()]>,
}

impl Cpu {
    pub(super) fn new(context: &Context) -> Self {
        let root = context.root.clone();
        Self { boot: Boot::new(&root), root, pause: std::thread::sleep, last: None, emitted: HashMap::new() }
    }

    fn usage(&mut self, total: Option<CpuTicks>, sink: &mut Sink) {
        let Some(total) = total else { return sink.absent(USAGE, "/proc/stat has no line cpu") };
        if let Some(percent) = self.last.and_then(|last| total.busy_percent_since(&last)) {
            sink.gauge(USAGE, &[], percent);
        } else {
            sink.absent(USAGE, "no time has passed since the last look");
        }
        self.last = Some(total);
    }

    fn time_by_mode(&mut self, cores: &[(String, CpuTicks)], start_ms: Option<i64>, sink: &mut Sink) {
        for (cpu, ticks) in cores {
            let last = match self.emitted.get_mut(cpu) {
                Some(last) => last,
                None => self.emitted.entry(cpu.clone()).or_default(),
            };
            for ((mode, now), last) in ticks.by_mode().zip(last) {
                if now >= *last || *last - now > WOBBLE_TICKS_MAX {
                    *last = now;
                }
                sink.counter(SECONDS, &[("cpu", cpu), ("mode", mode)], *last as f64 / TICKS_PER_SECOND, start_ms);
            }
        }
    }
}

impl Collector for Cpu {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        if self.last.is_none() {
            self.last = self.root.read("/proc/stat").ok().and_then(|text| stat(&text).total);
            if self.last.is_some() {
                (self.pause)(FIRST_PAUSE);
            }
        }
        let Some(text) = sink.read(&self.root, "/proc/stat", "system.cpu") else { return };
        let Stat { total, cores, interrupts, soft_interrupts, context_switches, .. } = stat(&text);
        let start_ms = self.boot.ms(at.wall_ms);
        self.usage(total, sink);
        self.time_by_mode(&cores, start_ms, sink);
        sink.gauge(ONLINE, &[], cores.len() as f64);
        for (metric, value) in [(INTERRUPTS, interrupts), (SOFT_INTERRUPTS, soft_interrupts), (CONTEXT_SWITCHES, context_switches)] {
            if let Some(value) = value {
                sink.counter(metric, &[], value as f64, start_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FakeHost, at, value};
    use super::*;

    fn sensor(host: &FakeHost) -> Cpu {
        Cpu { pause: |_| (), ..Cpu::new(&host.context()) }
    }

    #[test]
    fn usage_is_that_of_the_time_between_two_scrapes() {
        let host = FakeHost::new();
        let mut cpu = sensor(&host);
        host.write("proc/stat", "cpu 1000 0 1000 8000 0 0 0 0 0 0\n");
        assert!(value(&mut cpu, 0, USAGE).is_none(), "no time has passed");
        host.write("proc/stat", "cpu 1200 0 1050 8700 50 0 0 0 0 0\n");
        assert_eq!(value(&mut cpu, 1, USAGE), Some(25.0));
        host.write("proc/stat", "cpu 1200 0 1050 9700 50 0 0 0 0 0\n");
        assert_eq!(value(&mut cpu, 2, USAGE), Some(0.0));
    }

    #[test]
    fn the_first_scrape_already_has_a_usage() {
        let mut cpu = Cpu::new(&Context { root: RootFs::host(), ..FakeHost::new().context() });
        assert!(value(&mut cpu, 0, USAGE).is_some_and(|percent| (0.0..=100.0).contains(&percent)));
    }

    #[test]
    fn a_mode_that_steps_back_a_little_stands_still_and_a_returned_processor_starts_over() {
        let host = FakeHost::new();
        let mut cpu = sensor(&host);
        let mut idle = |ticks: u64| {
            host.write("proc/stat", &format!("cpu 1 1 1 1\ncpu0 10 0 10 {ticks}\n"));
            let mut sink = Sink::new("h", at(1));
            cpu.collect(at(1), &mut sink);
            sink.samples.iter().find(|s| s.series.tags.get("mode") == Some("idle")).unwrap().value
        };
        assert_eq!([idle(100_000), idle(99_990), idle(100_100), idle(40)], [1_000.0, 1_000.0, 1_001.0, 0.4]);
    }
}
