//! `/proc/diskstats`: what each block device did since it appeared (Documentation/admin-guide/iostats.rst).

/// Bytes of a sector in this file, whatever the device's own are.
pub const SECTOR_BYTES: u64 = 512;

/// Columns in their order, by the kernel's own names. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    Reads,
    ReadsMerged,
    SectorsRead,
    ReadMs,
    Writes,
    WritesMerged,
    SectorsWritten,
    WriteMs,
    InFlight,
    IoMs,
    WeightedMs,
    Discards,
    DiscardsMerged,
    SectorsDiscarded,
    DiscardMs,
    Flushes,
    FlushMs,
}

const COLUMNS: usize = Column::FlushMs as usize + 1;

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk<'a> {
    /// Name, `sda`.
    pub name: &'a str,
    columns: [Option<u64>; COLUMNS],
}

impl Disk<'_> {
    /// What `column` holds, when this kernel has it.
    #[must_use]
    pub fn get(&self, column: Column) -> Option<u64> {
        self.columns[column as usize]
    }
}

/// Reads `/proc/diskstats`. Lines with fewer than the eleven columns of Linux 2.6.25 are passed over.
pub fn diskstats(text: &str) -> impl Iterator<Item = Disk<'_>> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let name = words.nth(2)?;
        let mut columns = [None; COLUMNS];
        for (slot, word) in columns.iter_mut().zip(words) {
            *slot = word.parse().ok();
        }
        let disk = Disk { name, columns };
        disk.get(Column::WeightedMs).map(|_| disk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_kernels_are_read() {
        let text = " 8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n 8 16 sdb 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19\n 8 1 sda1 5 6 7 8\n";
        let disks: Vec<_> = diskstats(text).collect();
        assert_eq!(disks.iter().map(|d| d.name).collect::<Vec<_>>(), ["sda", "sdb"]);
        assert_eq!((disks[0].get(Column::WeightedMs), disks[0].get(Column::Discards)), (Some(11), None));
        assert_eq!((disks[1].get(Column::InFlight), disks[1].get(Column::FlushMs)), (Some(9), Some(17)));
    }
}
