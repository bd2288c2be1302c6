//! What the Linux kernel writes into `/proc`, a file a kind of content. Formats: Documentation/filesystems/proc.rst and
//! Documentation/admin-guide/iostats.rst of the kernel. Columns that older kernels lack are `None`, never zero; a line that
//! makes no sense is passed over. Called by `collect/*`.

pub mod disk;
pub mod memory;
pub mod mounts;
pub mod net;
pub mod pressure;
pub mod stat;
pub mod tcp;

/// The first number of the file, `/proc/sys/kernel/random/entropy_avail`.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Contents of `/proc/loadavg`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Runnable and uninterruptible tasks, averaged over 1, 5 and 15 minutes.
    pub averages: [f64; 3],
    /// Threads that exist.
    pub threads: Option<u64>,
}

/// Reads `/proc/loadavg`.
#[must_use]
pub fn load(text: &str) -> Option<Load> {
    let mut words = text.split_ascii_whitespace();
    let mut next = || finite(words.next()?);
    let averages = [next()?, next()?, next()?];
    let threads = words.next().and_then(|tasks| tasks.split_once('/')).and_then(|(_, all)| all.parse().ok());
    Some(Load { averages, threads })
}

/// Seconds since boot, of `/proc/uptime`.
#[must_use]
pub fn uptime_seconds(text: &str) -> Option<f64> {
    finite(text.split_ascii_whitespace().next()?)
}

/// Allocated handles and their limit, of `/proc/sys/fs/file-nr`.
#[must_use]
pub fn file_handles(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_ascii_whitespace().map(str::parse);
    let (allocated, free, max): (u64, u64, u64) = (words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?);
    Some((allocated.saturating_sub(free), max))
}

fn finite(word: &str) -> Option<f64> {
    word.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_files_are_read() {
        assert_eq!(load("0.52 0.31 0.20 3/412 8123\n"), Some(Load { averages: [0.52, 0.31, 0.20], threads: Some(412) }));
        assert_eq!(load("0.52 NaN 0.20 3/412 8123\n"), None);
        assert_eq!(uptime_seconds("8123.45 32000.10\n"), Some(8123.45));
        assert_eq!(file_handles("1984\t0\t9223372036854775807\n"), Some((1984, 9_223_372_036_854_775_807)));
        assert_eq!((number("256\n"), number(""), number("-1")), (Some(256), None, None));
    }

    /// The file `path` of the made-up host.
    fn fixture(path: &str) -> String {
        std::fs::read_to_string(format!("{}/../tests/fixtures/roots/small-host/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    fn parse_all(text: &str) {
        let _ = number(text);
        let _ = load(text);
        let _ = uptime_seconds(text);
        let _ = file_handles(text);
        let _ = stat::stat(text);
        memory::meminfo(text).count();
        memory::vmstat(text).count();
        pressure::totals(text).count();
        disk::diskstats(text).count();
        mounts::mountinfo(text).count();
        net::interfaces(text).count();
        net::sockstat(text).count();
        net::snmp(text).count();
        tcp::listening(text).count();
        let _ = crate::parse::cgroup::unit(text);
    }

    const FILES: [&str; 12] = [
        "proc/stat",
        "proc/meminfo",
        "proc/vmstat",
        "proc/loadavg",
        "proc/uptime",
        "proc/diskstats",
        "proc/1/mountinfo",
        "proc/pressure/memory",
        "proc/net/dev",
        "proc/net/sockstat",
        "proc/net/snmp",
        "proc/sys/fs/file-nr",
    ];

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "(cpu[0-9]? |Tcp: |some total=|[a-z0-9:.,/\\\\ -]{0,9}|\\PC{0,3}|\n){0,40}") {
            parse_all(&text);
        }

        #[test]
        fn no_damage_to_a_real_file_makes_a_parser_panic(
            file in 0..FILES.len(),
            hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..12),
        ) {
            let mut bytes = fixture(FILES[file]).into_bytes();
            for (at, byte, how) in hits {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.truncate(at),
                    _ => bytes.insert(at, byte),
                }
            }
            parse_all(&String::from_utf8_lossy(&bytes));
        }
    }
}
