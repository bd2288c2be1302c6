//! Space and inodes of each mounted local file system. Never asks a network, FUSE or pseudo file system, nor walks through
//! one: a server that is gone would hang the question. Mounts are taken as process 1 sees them, since a service manager
//! shows the agent a host that is read-only and partly hidden.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::metric::gauge;
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs::mounts::{Mount, mountinfo};
use crate::rootfs::RootFs;

mod choose;

const USAGE: &str = "system.disk.usage_percent";
const SIZE: &str = "system.filesystem.size_bytes";
const FREE: &str = "system.filesystem.free_bytes";
const AVAILABLE: &str = "system.filesystem.available_bytes";
const INODES: &str = "system.filesystem.inodes";
const INODES_FREE: &str = "system.filesystem.inodes_free";
const READ_ONLY: &str = "system.filesystem.read_only";

pub(super) const METRICS: &[MetricDef] = &[
    gauge(USAGE, Unit::Percent, "Space in use, of what is in use or may be used without privilege, as df counts. Tags mount, device, fstype."),
    gauge(SIZE, Unit::Bytes, "Size of the file system."),
    gauge(FREE, Unit::Bytes, "Space that is free, what is kept for root included."),
    gauge(AVAILABLE, Unit::Bytes, "Space that may be used without privilege."),
    gauge(INODES, Unit::Count, "Files that the file system can hold, where it has a limit."),
    gauge(INODES_FREE, Unit::Count, "Files that can still be made, where there is a limit."),
    gauge(READ_ONLY, Unit::Flag, "Whether it takes no writes: mounted so, or turned so after a fault."),
];

/// What a file system says of itself.
#[derive(Debug, Clone, Copy, Default)]
struct Space {
    device: (u32, u32),
    size: u64,
    free: u64,
    available: u64,
    inodes: u64,
    inodes_free: u64,
}

/// Sensor `filesystem`.
pub(super) struct Filesystems {
    root: RootFs,
    look: fn(&Path) -> io::Result<Space>,
}

impl Filesystems {
    pub(super) fn new(context: &Context) -> Self {
        Self { root: context.root.clone(), look }
    }

    fn mounts(&self, sink: &mut Sink) -> Option<Vec<Mount>> {
        if let Ok(text) = self.root.read("/proc/1/mountinfo") {
            return Some(mountinfo(&text).collect());
        }
        // The agent's own view: its sandbox, not the host, makes mounts read-only there.
        let text = sink.read(&self.root, "/proc/self/mountinfo", "system.filesystem")?;
        Some(mountinfo(&text).map(|mount| Mount { read_only: mount.fs_read_only, ..mount }).collect())
    }

    fn measure(&self, mount: &Mount, sink: &mut Sink) {
        let space = match (self.look)(&self.root.path(&mount.point)) {
            Ok(space) => space,
            // Unmounted since the list was read.
            Err(e) if e.kind() == ErrorKind::NotFound => return,
            Err(e) => return sink.absent(format!("{USAGE} {}", mount.point), e),
        };
        if hidden(mount, space.device) {
            return sink.absent(format!("{USAGE} {}", mount.point), "the agent sees another file system there: it runs in a mount namespace of its own");
        }
        emit(mount, space, sink);
    }
}

impl Collector for Filesystems {
    fn collect(&mut self, _at: At, sink: &mut Sink) {
        let Some(mounts) = self.mounts(sink) else { return };
        let choice = choose::choose(mounts);
        for mount in &choice.measured {
            self.measure(mount, sink);
        }
        for mount in &choice.unreachable {
            sink.absent(format!("{USAGE} {}", mount.point), "it lies below a network or FUSE mount, which could hang the agent");
        }
    }
}

fn emit(mount: &Mount, space: Space, sink: &mut Sink) {
    let (point, source) = (printable(&mount.point), printable(&mount.source));
    let tags = [("mount", point.as_str()), ("device", source.as_str()), ("fstype", mount.fstype.as_str())];
    let used = space.size.saturating_sub(space.free);
    let usable = used.saturating_add(space.available);
    if usable > 0 {
        sink.gauge(USAGE, &tags, used as f64 / usable as f64 * 100.0);
    }
    for (metric, bytes) in [(SIZE, space.size), (FREE, space.free), (AVAILABLE, space.available)] {
        sink.gauge(metric, &tags, bytes as f64);
    }
    // btrfs and others make inodes as needed, and say zero.
    if space.inodes > 0 {
        sink.gauge(INODES, &tags, space.inodes as f64);
        sink.gauge(INODES_FREE, &tags, space.inodes_free as f64);
    }
    sink.gauge(READ_ONLY, &tags, f64::from(u8::from(mount.read_only)));
}

/// Whether what was asked is not what is mounted there. Device 0:0 stands for "not told"; btrfs has a device a subvolume,
/// which the list of mounts does not tell.
fn hidden(mount: &Mount, asked: (u32, u32)) -> bool {
    mount.device != (0, 0) && mount.fstype != "btrfs" && mount.device != asked
}

fn look(path: &Path) -> io::Result<Space> {
    let device = std::fs::metadata(path)?.dev();
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space {
        device: (rustix::fs::major(device), rustix::fs::minor(device)),
        size: bytes(found.f_blocks),
        free: bytes(found.f_bfree),
        available: bytes(found.f_bavail),
        inodes: found.f_files,
        inodes_free: found.f_ffree,
    })
}

/// A tag may hold no control characters; a directory's name may.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FakeHost, scrape};
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn sensor(host: &FakeHost) -> Filesystems {
        let look = |path: &Path| match path.file_name().and_then(|name| name.to_str()) {
            Some("gone") => Err(ErrorKind::NotFound.into()),
            Some("forbidden") => Err(ErrorKind::PermissionDenied.into()),
            Some("other") => Ok(Space { device: (8, 1), size: 1, ..Space::default() }),
            Some("pool") => Ok(Space { device: (0, 99), size: 10 * GB, free: 5 * GB, available: 5 * GB, ..Space::default() }),
            _ => Ok(Space { device: (8, 1), size: 100 * GB, free: 25 * GB, available: 20 * GB, inodes: 1_000, inodes_free: 900 }),
        };
        Filesystems { look, ..Filesystems::new(&host.context()) }
    }

    fn values(sink: &Sink, metric: &str) -> Vec<(String, f64)> {
        let found = sink.samples.iter().filter(|s| s.series.metric_id == metric);
        found.map(|s| (s.series.tags.get("mount").unwrap().to_owned(), s.value)).collect()
    }

    #[test]
    fn usage_is_what_df_shows() {
        let host = FakeHost::new();
        host.write("proc/1/mountinfo", "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / /pool rw - btrfs /dev/sdb ro,errors=x\n");
        let sink = scrape(&mut sensor(&host), 0);
        let usage = values(&sink, USAGE);
        assert!((usage[0].1 - 75.0 / 95.0 * 100.0).abs() < 1e-9, "{usage:?}");
        assert_eq!(usage[1], ("/pool".to_owned(), 50.0));
        assert_eq!(values(&sink, READ_ONLY), [("/".to_owned(), 0.0), ("/pool".to_owned(), 1.0)]);
        assert_eq!(values(&sink, INODES), [("/".to_owned(), 1_000.0)], "btrfs has no limit of inodes");
        assert!(sink.blind.is_empty(), "{:?}", sink.blind);
    }

    #[test]
    fn a_sandbox_that_takes_no_writes_does_not_make_the_disk_read_only() {
        let host = FakeHost::new();
        let mounts = "1 0 8:1 / / ro,nosuid - ext4 /dev/sda1 rw\n";
        host.write("proc/self/mountinfo", mounts);
        assert_eq!(values(&scrape(&mut sensor(&host), 0), READ_ONLY), [("/".to_owned(), 0.0)]);
        host.write("proc/1/mountinfo", mounts);
        assert_eq!(values(&scrape(&mut sensor(&host), 1), READ_ONLY), [("/".to_owned(), 1.0)]);
    }

    #[test]
    fn what_is_gone_is_no_error_and_what_is_hidden_is_said() {
        let host = FakeHost::new();
        let rows = [("gone", 2), ("forbidden", 3), ("other", 4)].map(|(name, minor)| format!("1 0 8:{minor} / /{name} rw - ext4 /dev/x rw\n"));
        host.write("proc/1/mountinfo", &rows.concat());
        let sink = scrape(&mut sensor(&host), 0);
        assert!(sink.samples.is_empty());
        let blind: Vec<_> = sink.blind.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(blind, ["system.disk.usage_percent /forbidden", "system.disk.usage_percent /other"]);
    }
}
