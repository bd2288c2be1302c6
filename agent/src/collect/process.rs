//! How many processes and threads there are, run, wait and were made. Knows nothing about any one of them.

use super::boot::Boot;
use super::metric::{counter, gauge};
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs::{self, stat};
use crate::rootfs::RootFs;

const COUNT: &str = "system.processes.count";
const THREADS: &str = "system.processes.threads";
const THREADS_MAX: &str = "system.processes.threads_max";
const PIDS_MAX: &str = "system.processes.pids_max";
const RUNNING: &str = "system.processes.running";
const BLOCKED: &str = "system.processes.blocked";
const FORKS: &str = "system.processes.forks_total";

pub(super) const METRICS: &[MetricDef] = &[
    gauge(COUNT, Unit::Count, "Processes that exist."),
    gauge(THREADS, Unit::Count, "Threads that exist."),
    gauge(THREADS_MAX, Unit::Count, "Threads that may exist."),
    gauge(PIDS_MAX, Unit::Count, "Process and thread numbers that may be in use."),
    gauge(RUNNING, Unit::Count, "Threads that run or could."),
    gauge(BLOCKED, Unit::Count, "Threads that wait for a disk."),
    counter(FORKS, Unit::Count, "Processes and threads created."),
];

/// Sensor `process`.
pub(super) struct Process {
    root: RootFs,
    boot: Boot,
}

impl Process {
    pub(super) fn new(context: &Context) -> Self {
        Self { root: context.root.clone(), boot: Boot::new(&context.root) }
    }

    fn count(&self, sink: &mut Sink) {
        let entries = match std::fs::read_dir(self.root.path("/proc")) {
            Ok(entries) => entries,
            Err(e) => return sink.absent(COUNT, format_args!("/proc: {e}")),
        };
        let (mut count, mut first_seen) = (0_u64, false);
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
                count += 1;
                first_seen |= name == "1";
            }
        }
        if first_seen {
            sink.gauge(COUNT, &[], count as f64);
        } else {
            sink.absent(COUNT, "process 1 is not seen in /proc: others' processes are hidden from the agent (hidepid)");
        }
    }

    fn limits(&self, sink: &mut Sink) {
        for (metric, path) in [(THREADS_MAX, "/proc/sys/kernel/threads-max"), (PIDS_MAX, "/proc/sys/kernel/pid_max")] {
            let Some(text) = sink.read(&self.root, path, metric) else { continue };
            if let Some(number) = procfs::number(&text) {
                sink.gauge(metric, &[], number as f64);
            }
        }
        if let Some(threads) = sink.read(&self.root, "/proc/loadavg", THREADS).and_then(|text| procfs::load(&text)?.threads) {
            sink.gauge(THREADS, &[], threads as f64);
        }
    }
}

impl Collector for Process {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        self.count(sink);
        self.limits(sink);
        let Some(text) = sink.read(&self.root, "/proc/stat", "system.processes.running") else { return };
        let stat = stat::stat(&text);
        for (metric, value) in [(RUNNING, stat.running), (BLOCKED, stat.blocked)] {
            if let Some(value) = value {
                sink.gauge(metric, &[], value as f64);
            }
        }
        if let Some(forks) = stat.forks {
            sink.counter(FORKS, &[], forks as f64, self.boot.ms(at.wall_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FakeHost, scrape, value};
    use super::*;

    #[test]
    fn hidden_processes_are_not_taken_for_few_processes() {
        let host = FakeHost::new();
        host.write("proc/812/comm", "sshd\n");
        let sink = scrape(&mut Process::new(&host.context()), 0);
        assert!(sink.blind.iter().any(|(what, why)| what == COUNT && why.contains("hidepid")));
        host.write("proc/1/comm", "init\n");
        assert_eq!(value(&mut Process::new(&host.context()), 1, COUNT), Some(2.0));
    }
}
