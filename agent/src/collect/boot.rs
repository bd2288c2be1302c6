//! When the kernel began to count: the start of every counter that it keeps since boot. Used by the sensors of such counters.

use keyvigil_common::limits::TIMESTAMP_MS_MIN;

use crate::parse::procfs::stat;
use crate::rootfs::RootFs;

/// The instant of boot, found once and then kept: the kernel derives it from the wall clock, so asking again after the clock
/// was set would move it, and a start that moves reads as a counter that was reset.
#[derive(Debug)]
pub(super) struct Boot {
    root: RootFs,
    found_ms: Option<i64>,
}

impl Boot {
    pub(super) fn new(root: &RootFs) -> Self {
        Self { root: root.clone(), found_ms: None }
    }

    /// Unix ms, when it is known and lies before `at_ms`.
    pub(super) fn ms(&mut self, at_ms: i64) -> Option<i64> {
        if !self.found_ms.is_some_and(|boot| plausible(boot, at_ms)) {
            let seconds = self.root.read("/proc/stat").ok().and_then(|text| stat::stat(&text).boot_seconds);
            self.found_ms = seconds.and_then(|s| i64::try_from(s).ok()?.checked_mul(1000)).filter(|boot| plausible(*boot, at_ms));
        }
        self.found_ms
    }
}

/// A machine without a battery for its clock boots in 1970 and may be set forward or back later.
fn plausible(boot_ms: i64, at_ms: i64) -> bool {
    (TIMESTAMP_MS_MIN..=at_ms).contains(&boot_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_does_not_move_the_start_of_counters() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        let write = |btime: i64| std::fs::write(dir.path().join("proc/stat"), format!("btime {btime}\n")).unwrap();
        let mut boot = Boot::new(&RootFs::new(dir.path()));
        write(12);
        assert_eq!(boot.ms(1_700_000_100_000), None, "the clock was not set yet");
        write(1_700_000_000);
        assert_eq!(boot.ms(1_700_000_100_000), Some(1_700_000_000_000));
        write(1_700_000_009);
        assert_eq!(boot.ms(1_700_000_110_000), Some(1_700_000_000_000));
        write(1_600_000_000);
        assert_eq!(boot.ms(1_600_000_100_000), Some(1_600_000_000_000), "a start after the sample would be absurd");
    }
}
