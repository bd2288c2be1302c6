//! Block devices: what was read and written and how long it took, from `/proc/diskstats`. Whole disks only: partitions' work
//! is their disk's.

use super::births::Births;
use super::metric::{counter, gauge};
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs::disk::{Column, Disk, SECTOR_BYTES, diskstats};
use crate::rootfs::RootFs;

const IN_FLIGHT: &str = "system.disk.in_flight";

pub(super) const METRICS: &[MetricDef] = &[
    counter("system.disk.reads_total", Unit::Count, "Reads that were completed."),
    counter("system.disk.writes_total", Unit::Count, "Writes that were completed."),
    counter("system.disk.reads_merged_total", Unit::Count, "Reads that were joined to a neighbouring one."),
    counter("system.disk.writes_merged_total", Unit::Count, "Writes that were joined to a neighbouring one."),
    counter("system.disk.read_bytes_total", Unit::Bytes, "Bytes read."),
    counter("system.disk.written_bytes_total", Unit::Bytes, "Bytes written."),
    counter("system.disk.read_seconds_total", Unit::Seconds, "Time that all reads took together."),
    counter("system.disk.write_seconds_total", Unit::Seconds, "Time that all writes took together."),
    counter("system.disk.io_seconds_total", Unit::Seconds, "Time in which the disk was at work."),
    counter("system.disk.io_weighted_seconds_total", Unit::Seconds, "Time at work, times what was in flight: its rate is the mean queue."),
    counter("system.disk.discards_total", Unit::Count, "Discards that were completed."),
    counter("system.disk.discarded_bytes_total", Unit::Bytes, "Bytes discarded."),
    counter("system.disk.discard_seconds_total", Unit::Seconds, "Time that all discards took together."),
    counter("system.disk.flushes_total", Unit::Count, "Flushes that were completed."),
    counter("system.disk.flush_seconds_total", Unit::Seconds, "Time that all flushes took together."),
    gauge(IN_FLIGHT, Unit::Count, "Requests that the disk works on now."),
];

/// A column, its metric, and how many of the column's units make one of the metric's.
const COUNTERS: &[(Column, &str, f64)] = &[
    (Column::Reads, "system.disk.reads_total", 1.0),
    (Column::Writes, "system.disk.writes_total", 1.0),
    (Column::ReadsMerged, "system.disk.reads_merged_total", 1.0),
    (Column::WritesMerged, "system.disk.writes_merged_total", 1.0),
    (Column::SectorsRead, "system.disk.read_bytes_total", SECTORS_PER_BYTE),
    (Column::SectorsWritten, "system.disk.written_bytes_total", SECTORS_PER_BYTE),
    (Column::ReadMs, "system.disk.read_seconds_total", MS_PER_SECOND),
    (Column::WriteMs, "system.disk.write_seconds_total", MS_PER_SECOND),
    (Column::IoMs, "system.disk.io_seconds_total", MS_PER_SECOND),
    (Column::WeightedMs, "system.disk.io_weighted_seconds_total", MS_PER_SECOND),
    (Column::Discards, "system.disk.discards_total", 1.0),
    (Column::SectorsDiscarded, "system.disk.discarded_bytes_total", SECTORS_PER_BYTE),
    (Column::DiscardMs, "system.disk.discard_seconds_total", MS_PER_SECOND),
    (Column::Flushes, "system.disk.flushes_total", 1.0),
    (Column::FlushMs, "system.disk.flush_seconds_total", MS_PER_SECOND),
];
const SECTORS_PER_BYTE: f64 = 1.0 / SECTOR_BYTES as f64;
const MS_PER_SECOND: f64 = 1000.0;

/// Devices that hold no data of their own: their work is counted elsewhere, or is memory's.
const SKIPPED: [&str; 5] = ["loop", "ram", "zram", "fd", "sr"];

/// Sensor `disk`.
pub(super) struct Disks {
    root: RootFs,
    births: Births,
}

impl Disks {
    pub(super) fn new(context: &Context) -> Self {
        Self { root: context.root.clone(), births: Births::default() }
    }

    fn emit(&mut self, disk: &Disk<'_>, sink: &mut Sink) {
        let level = [Column::Reads, Column::Writes, Column::SectorsRead, Column::SectorsWritten]
            .into_iter()
            .fold(0_u64, |sum, column| sum.saturating_add(disk.get(column).unwrap_or(0)));
        let start_ms = self.births.start_ms(disk.name, level);
        let tags = [("device", disk.name)];
        for (column, metric, per_unit) in COUNTERS {
            if let Some(value) = disk.get(*column) {
                sink.counter(metric, &tags, value as f64 / per_unit, start_ms);
            }
        }
        if let Some(value) = disk.get(Column::InFlight) {
            sink.gauge(IN_FLIGHT, &tags, value as f64);
        }
    }
}

impl Collector for Disks {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        let Some(text) = sink.read(&self.root, "/proc/diskstats", "system.disk") else { return };
        // Without the list every line is kept: a partition too many is better than a disk too few.
        let whole = self.root.names("/sys/block").unwrap_or_default();
        for disk in diskstats(&text).filter(|disk| wanted(disk.name, &whole)) {
            self.emit(&disk, sink);
        }
        self.births.scraped(at.wall_ms);
    }
}

/// Whether `name` is a disk, or a partition whose disk is not among the `whole` ones, as some hypervisors show them.
fn wanted(name: &str, whole: &[String]) -> bool {
    let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if SKIPPED.contains(&kind) {
        return false;
    }
    // In /sys the kernel writes `cciss/c0d0` as `cciss!c0d0`.
    let name = name.replace('/', "!");
    whole.contains(&name) || !whole.iter().any(|disk| name.starts_with(disk.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_kept_and_their_partitions_are_not() {
        let whole: Vec<String> = ["sda", "nvme0n1", "dm-1", "dm-10", "cciss!c0d0", "md0", "xvdb1"].map(str::to_owned).to_vec();
        let names =
            ["sda", "sda1", "nvme0n1", "nvme0n1p2", "dm-1", "dm-10", "cciss/c0d0", "cciss/c0d0p1", "md0", "xvdb1", "vdc1", "loop0", "ram3", "zram0", "sr0"];
        let kept: Vec<_> = names.into_iter().filter(|name| wanted(name, &whole)).collect();
        assert_eq!(kept, ["sda", "nvme0n1", "dm-1", "dm-10", "cciss/c0d0", "md0", "xvdb1", "vdc1"]);
    }
}
