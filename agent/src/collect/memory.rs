//! Memory and swap, from `/proc/meminfo` and `/proc/vmstat`.

use super::boot::Boot;
use super::metric::{counter, gauge};
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs::memory::{meminfo, vmstat};
use crate::rootfs::RootFs;

const USAGE: &str = "system.memory.usage_percent";
const SWAP_USAGE: &str = "system.swap.usage_percent";

pub(super) const METRICS: &[MetricDef] = &[
    gauge(USAGE, Unit::Percent, "Memory that programs could not get without swapping: all but what is available."),
    gauge("system.memory.total_bytes", Unit::Bytes, "Memory that the kernel manages."),
    gauge("system.memory.available_bytes", Unit::Bytes, "Memory that programs could get without swapping."),
    gauge("system.memory.free_bytes", Unit::Bytes, "Memory that nothing uses."),
    gauge("system.memory.buffers_bytes", Unit::Bytes, "Cached blocks of devices."),
    gauge("system.memory.cached_bytes", Unit::Bytes, "Cached files, shared memory included."),
    gauge("system.memory.shared_bytes", Unit::Bytes, "Shared memory and files on tmpfs."),
    gauge("system.memory.active_bytes", Unit::Bytes, "Memory used lately."),
    gauge("system.memory.inactive_bytes", Unit::Bytes, "Memory not used lately, taken back first."),
    gauge("system.memory.anonymous_bytes", Unit::Bytes, "Programs' own memory, backed by no file."),
    gauge("system.memory.mapped_bytes", Unit::Bytes, "Files mapped into programs."),
    gauge("system.memory.locked_bytes", Unit::Bytes, "Memory that programs locked against swapping, as those that hold keys should."),
    gauge("system.memory.dirty_bytes", Unit::Bytes, "Cached data that waits to be written."),
    gauge("system.memory.writeback_bytes", Unit::Bytes, "Cached data that is being written."),
    gauge("system.memory.slab_bytes", Unit::Bytes, "The kernel's own objects."),
    gauge("system.memory.slab_reclaimable_bytes", Unit::Bytes, "The part of them that can be taken back."),
    gauge("system.memory.kernel_stack_bytes", Unit::Bytes, "Stacks of tasks in the kernel."),
    gauge("system.memory.page_tables_bytes", Unit::Bytes, "Page tables."),
    gauge("system.memory.committed_bytes", Unit::Bytes, "Memory promised to programs."),
    gauge("system.memory.commit_limit_bytes", Unit::Bytes, "How much may be promised where overcommitting is forbidden."),
    gauge("system.memory.corrupted_bytes", Unit::Bytes, "Memory that the hardware reported as broken and the kernel set aside."),
    gauge("system.memory.huge_pages", Unit::Count, "Huge pages set aside."),
    gauge("system.memory.huge_pages_free", Unit::Count, "Huge pages set aside that are free."),
    gauge(SWAP_USAGE, Unit::Percent, "Swap in use; absent where there is no swap."),
    gauge("system.swap.total_bytes", Unit::Bytes, "Swap space."),
    gauge("system.swap.free_bytes", Unit::Bytes, "Swap space that is free."),
    gauge("system.swap.cached_bytes", Unit::Bytes, "Memory that is also in swap."),
    counter("system.swap.in_pages_total", Unit::Count, "Pages read back from swap."),
    counter("system.swap.out_pages_total", Unit::Count, "Pages written to swap."),
    counter("system.memory.page_faults_total", Unit::Count, "Page faults of all kinds."),
    counter("system.memory.major_page_faults_total", Unit::Count, "Page faults that had to wait for a disk."),
    counter("system.memory.oom_kills_total", Unit::Count, "Processes killed because memory ran out."),
];

/// Names in `/proc/meminfo`, and the metrics they become.
const PARTS: &[(&str, &str)] = &[
    ("MemTotal", "system.memory.total_bytes"),
    ("MemAvailable", "system.memory.available_bytes"),
    ("MemFree", "system.memory.free_bytes"),
    ("Buffers", "system.memory.buffers_bytes"),
    ("Cached", "system.memory.cached_bytes"),
    ("Shmem", "system.memory.shared_bytes"),
    ("Active", "system.memory.active_bytes"),
    ("Inactive", "system.memory.inactive_bytes"),
    ("AnonPages", "system.memory.anonymous_bytes"),
    ("Mapped", "system.memory.mapped_bytes"),
    ("Mlocked", "system.memory.locked_bytes"),
    ("Dirty", "system.memory.dirty_bytes"),
    ("Writeback", "system.memory.writeback_bytes"),
    ("Slab", "system.memory.slab_bytes"),
    ("SReclaimable", "system.memory.slab_reclaimable_bytes"),
    ("KernelStack", "system.memory.kernel_stack_bytes"),
    ("PageTables", "system.memory.page_tables_bytes"),
    ("Committed_AS", "system.memory.committed_bytes"),
    ("CommitLimit", "system.memory.commit_limit_bytes"),
    ("HardwareCorrupted", "system.memory.corrupted_bytes"),
    ("HugePages_Total", "system.memory.huge_pages"),
    ("HugePages_Free", "system.memory.huge_pages_free"),
    ("SwapTotal", "system.swap.total_bytes"),
    ("SwapFree", "system.swap.free_bytes"),
    ("SwapCached", "system.swap.cached_bytes"),
];

/// Names in `/proc/vmstat`, and the metrics they become.
const PAGING: &[(&str, &str)] = &[
    ("pswpin", "system.swap.in_pages_total"),
    ("pswpout", "system.swap.out_pages_total"),
    ("pgfault", "system.memory.page_faults_total"),
    ("pgmajfault", "system.memory.major_page_faults_total"),
    ("oom_kill", "system.memory.oom_kills_total"),
];

/// Sensor `memory`.
pub(super) struct Memory {
    root: RootFs,
    boot: Boot,
}

impl Memory {
    pub(super) fn new(context: &Context) -> Self {
        Self { root: context.root.clone(), boot: Boot::new(&context.root) }
    }

    fn parts(&self, sink: &mut Sink) {
        let Some(text) = sink.read(&self.root, "/proc/meminfo", "system.memory") else { return };
        let (mut total, mut available, mut swap_total, mut swap_free) = (None, None, None, None);
        for (name, value) in meminfo(&text) {
            match name {
                "MemTotal" => total = Some(value),
                "MemAvailable" => available = Some(value),
                "SwapTotal" => swap_total = Some(value),
                "SwapFree" => swap_free = Some(value),
                _ => (),
            }
            if let Some((_, metric)) = PARTS.iter().find(|(part, _)| *part == name) {
                sink.gauge(metric, &[], value as f64);
            }
        }
        match total.zip(available).and_then(|(all, free)| used_percent(all, free)) {
            Some(percent) => sink.gauge(USAGE, &[], percent),
            None => sink.absent(USAGE, "/proc/meminfo does not tell MemTotal and MemAvailable"),
        }
        if let Some(percent) = swap_total.zip(swap_free).and_then(|(all, free)| used_percent(all, free)) {
            sink.gauge(SWAP_USAGE, &[], percent);
        }
    }

    fn paging(&mut self, at_ms: i64, sink: &mut Sink) {
        let Some(text) = sink.read(&self.root, "/proc/vmstat", "system.memory.page_faults_total") else { return };
        let start_ms = self.boot.ms(at_ms);
        for (name, value) in vmstat(&text) {
            if let Some((_, metric)) = PAGING.iter().find(|(part, _)| *part == name) {
                sink.counter(metric, &[], value as f64, start_ms);
            }
        }
    }
}

impl Collector for Memory {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        self.parts(sink);
        self.paging(at.wall_ms, sink);
    }
}

/// `None` when there is none of it at all.
fn used_percent(total: u64, free: u64) -> Option<f64> {
    (total > 0).then(|| total.saturating_sub(free) as f64 / total as f64 * 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FakeHost, scrape, value};
    use super::*;

    #[test]
    fn usage_counts_what_is_available_as_free() {
        let host = FakeHost::new();
        host.write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 600 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n");
        let mut memory = Memory::new(&host.context());
        assert_eq!(value(&mut memory, 0, USAGE), Some(40.0));
        assert_eq!(value(&mut memory, 1, SWAP_USAGE), None, "there is no swap");
    }

    #[test]
    fn a_kernel_that_does_not_tell_what_is_available_is_not_guessed_at() {
        let host = FakeHost::new();
        host.write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 10 kB\n");
        let sink = scrape(&mut Memory::new(&host.context()), 0);
        assert!(sink.blind.iter().any(|(what, _)| what == USAGE) && sink.samples.iter().all(|s| s.series.metric_id != USAGE));
    }
}
