//! The host's clock: how long it runs, and how far it is off according to the kernel's own discipline, which NTP daemons
//! steer. Never asks a server.

mod sys;

use super::boot::Boot;
use super::metric::gauge;
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs;
use crate::rootfs::RootFs;

const UPTIME: &str = "system.uptime_seconds";
const BOOT: &str = "system.boot_timestamp_seconds";
const SYNCHRONIZED: &str = "system.clock.synchronized";
const OFFSET: &str = "system.clock.offset_seconds";
const ESTIMATED_ERROR: &str = "system.clock.estimated_error_seconds";
const MAX_ERROR: &str = "system.clock.max_error_seconds";
const FREQUENCY: &str = "system.clock.frequency_ratio";

pub(super) const METRICS: &[MetricDef] = &[
    gauge(UPTIME, Unit::Seconds, "Time since the kernel was started."),
    gauge(BOOT, Unit::UnixSeconds, "When the kernel was started."),
    gauge(SYNCHRONIZED, Unit::Flag, "Whether some daemon keeps the clock in step with a reference."),
    gauge(OFFSET, Unit::Seconds, "How far the clock is from its reference, still to be corrected; absent while nothing keeps it in step."),
    gauge(ESTIMATED_ERROR, Unit::Seconds, "The daemon's estimate of the error; absent while nothing keeps the clock in step."),
    gauge(MAX_ERROR, Unit::Seconds, "Bound of the error; grows while nothing corrects the clock."),
    gauge(FREQUENCY, Unit::Ratio, "By how much the clock is made to run faster (above 1) or slower than its oscillator."),
];

/// What the kernel says of its clock, in SI units.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Discipline {
    synchronized: bool,
    offset_seconds: f64,
    estimated_error_seconds: f64,
    max_error_seconds: f64,
    frequency_ratio: f64,
}

/// Sensor `clock`.
pub(super) struct Clock {
    root: RootFs,
    boot: Boot,
}

impl Clock {
    pub(super) fn new(context: &Context) -> Self {
        Self { root: context.root.clone(), boot: Boot::new(&context.root) }
    }

    /// A system call speaks of the kernel that the agent runs on. That is the kernel of `root` also where the host is mounted
    /// into the agent's container.
    fn is_own_kernel(&self) -> bool {
        let boot_id = |root: &RootFs| root.read("/proc/sys/kernel/random/boot_id").ok().filter(|id| !id.trim().is_empty());
        self.root.is_host() || boot_id(&self.root).is_some_and(|id| boot_id(&RootFs::host()) == Some(id))
    }
}

impl Collector for Clock {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        match sink.read(&self.root, "/proc/uptime", UPTIME).map(|text| procfs::uptime_seconds(&text)) {
            Some(Some(seconds)) => sink.gauge(UPTIME, &[], seconds),
            Some(None) => sink.absent(UPTIME, "/proc/uptime is not understood"),
            None => (),
        }
        match self.boot.ms(at.wall_ms) {
            Some(ms) => sink.gauge(BOOT, &[], ms as f64 / 1000.0),
            None => sink.absent(BOOT, "/proc/stat tells no time of boot that lies before now"),
        }
        if !self.is_own_kernel() {
            return sink.absent("system.clock", "the files read belong to another machine than the system call would speak of");
        }
        match sys::adjtimex() {
            Ok(discipline) => emit(&discipline, sink),
            Err(e) => sink.absent("system.clock", format_args!("adjtimex: {e} (a service manager's ProtectClock forbids even to look)")),
        }
    }
}

fn emit(clock: &Discipline, sink: &mut Sink) {
    sink.gauge(SYNCHRONIZED, &[], f64::from(u8::from(clock.synchronized)));
    sink.gauge(MAX_ERROR, &[], clock.max_error_seconds);
    sink.gauge(FREQUENCY, &[], clock.frequency_ratio);
    // Else nobody knows how far it is off, and the first gauge says so: that is no blindness of the sensor.
    if clock.synchronized {
        sink.gauge(OFFSET, &[], clock.offset_seconds);
        sink.gauge(ESTIMATED_ERROR, &[], clock.estimated_error_seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::at;
    use super::*;

    #[test]
    fn the_offset_of_a_clock_that_nothing_keeps_in_step_is_unknown_not_zero() {
        let free = Discipline { synchronized: false, offset_seconds: 0.0, estimated_error_seconds: 0.0, max_error_seconds: 16.0, frequency_ratio: 1.0 };
        let ids = |discipline: &Discipline| {
            let mut sink = Sink::new("h", at(0));
            emit(discipline, &mut sink);
            (sink.samples.iter().map(|s| s.series.metric_id.clone()).collect::<Vec<_>>(), sink.blind.len())
        };
        assert_eq!(ids(&free), ([SYNCHRONIZED, MAX_ERROR, FREQUENCY].map(str::to_owned).to_vec(), 0));
        let (kept, blind) = ids(&Discipline { synchronized: true, ..free });
        assert!(kept.contains(&OFFSET.to_owned()) && blind == 0);
    }
}
