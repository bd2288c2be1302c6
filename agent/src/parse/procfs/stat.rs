//! `/proc/stat`: processor time by mode, and what the scheduler counted since boot.

/// Modes in the order of the columns. `user` and `nice` contain `guest` and `guest_nice`.
pub const MODES: [&str; 10] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"];
const USER: usize = 0;
const NICE: usize = 1;
const IDLE: usize = 3;
const IOWAIT: usize = 4;
const GUEST: usize = 8;
const GUEST_NICE: usize = 9;

/// Ticks a second, on every architecture we build for: `USER_HZ` is part of the kernel's interface.
pub const TICKS_PER_SECOND: f64 = 100.0;

/// Ticks that one processor, or all of them, spent in each of [`MODES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTicks([Option<u64>; MODES.len()]);

impl CpuTicks {
    /// Mode and ticks, each tick in one mode only: guests' time is taken out of `user` and `nice`.
    pub fn by_mode(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut apart = self.0;
        for (whole, part) in [(USER, GUEST), (NICE, GUEST_NICE)] {
            apart[whole] = apart[whole].map(|ticks| ticks.saturating_sub(apart[part].unwrap_or(0)));
        }
        MODES.into_iter().zip(apart).filter_map(|(mode, ticks)| Some((mode, ticks?)))
    }

    /// Percent of the time since `earlier` in which something ran, 0 to 100. Waiting for a disk is not running; time that
    /// the hypervisor gave to others is. `None` when no time passed. Counters that went back (a processor was unplugged)
    /// count as standing still.
    #[must_use]
    pub fn busy_percent_since(&self, earlier: &Self) -> Option<f64> {
        let (mut busy, mut all) = (0_u64, 0_u64);
        for mode in 0..GUEST {
            let spent = self.0[mode].unwrap_or(0).saturating_sub(earlier.0[mode].unwrap_or(0));
            all = all.saturating_add(spent);
            if mode != IDLE && mode != IOWAIT {
                busy = busy.saturating_add(spent);
            }
        }
        (all > 0).then(|| busy as f64 / all as f64 * 100.0)
    }
}

/// Contents of `/proc/stat`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stat {
    /// All processors together.
    pub total: Option<CpuTicks>,
    /// Number and ticks of each processor that is on line.
    pub cores: Vec<(String, CpuTicks)>,
    /// Interrupts served since boot.
    pub interrupts: Option<u64>,
    /// Soft interrupts served since boot.
    pub soft_interrupts: Option<u64>,
    /// Context switches since boot.
    pub context_switches: Option<u64>,
    /// When the kernel was started, Unix seconds.
    pub boot_seconds: Option<u64>,
    /// Processes and threads created since boot.
    pub forks: Option<u64>,
    /// Threads that run or could.
    pub running: Option<u64>,
    /// Threads that wait for a disk.
    pub blocked: Option<u64>,
}

/// Reads `/proc/stat`.
#[must_use]
pub fn stat(text: &str) -> Stat {
    let mut found = Stat::default();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(' ') else { continue };
        // Only the first number: the line of interrupts can hold thousands.
        let first = || rest.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        match name {
            "cpu" => found.total = Some(ticks(rest)),
            "intr" => found.interrupts = first(),
            "softirq" => found.soft_interrupts = first(),
            "ctxt" => found.context_switches = first(),
            "btime" => found.boot_seconds = first(),
            "processes" => found.forks = first(),
            "procs_running" => found.running = first(),
            "procs_blocked" => found.blocked = first(),
            _ => {
                let number = name.strip_prefix("cpu").filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
                found.cores.extend(number.map(|number| (number.to_owned(), ticks(rest))));
            }
        }
    }
    found
}

fn ticks(columns: &str) -> CpuTicks {
    let mut ticks = CpuTicks::default();
    let numbers = columns.split_ascii_whitespace().map_while(|word| word.parse().ok());
    for (slot, number) in ticks.0.iter_mut().zip(numbers) {
        *slot = Some(number);
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(columns: &str) -> CpuTicks {
        stat(&format!("cpu {columns}")).total.unwrap()
    }

    #[test]
    fn guests_time_is_counted_once() {
        let modes: Vec<_> = one(" 100 20 30 400 50 6 7 8 60 5").by_mode().collect();
        assert_eq!((modes[0], modes[1], modes[8], modes[9]), (("user", 40), ("nice", 15), ("guest", 60), ("guest_nice", 5)));
    }

    #[test]
    fn an_old_kernel_lacks_modes_rather_than_having_zeros() {
        let modes: Vec<_> = one("1 2 3 4").by_mode().map(|(mode, _)| mode).collect();
        assert_eq!(modes, ["user", "nice", "system", "idle"]);
    }

    #[test]
    fn waiting_for_a_disk_is_not_busy_and_stolen_time_is() {
        let before = one("100 0 100 1000 100 0 0 0 0 0");
        let after = one("120 0 110 1050 110 0 0 10 5 0");
        assert_eq!(after.busy_percent_since(&before), Some(40.0));
        assert_eq!(after.busy_percent_since(&after), None);
    }

    #[test]
    fn a_processor_that_leaves_makes_no_negative_usage() {
        let before = one("1000 0 1000 9000 100 0 0 0");
        assert_eq!(one("900 0 1010 8000 100 0 0 0").busy_percent_since(&before), Some(100.0));
        assert_eq!(one("900 0 900 8000 90 0 0 0").busy_percent_since(&before), None);
        assert_eq!(one("900 0 900 9010 90 0 0 0").busy_percent_since(&before), Some(0.0));
    }

    #[test]
    fn processors_keep_their_numbers_when_one_is_off_line() {
        let found = stat("cpu 9 9 9 9\ncpu0 1 1 1 1\ncpu2 2 2 2 2\ncpux 3\nbtime 1700000000\nctxt none\n");
        assert_eq!(found.cores.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["0", "2"]);
        assert_eq!((found.boot_seconds, found.context_switches), (Some(1_700_000_000), None));
    }

    proptest::proptest! {
        #[test]
        fn usage_stays_between_0_and_100(a in proptest::collection::vec(proptest::num::u64::ANY, 0..11), b in proptest::collection::vec(proptest::num::u64::ANY, 0..11)) {
            let text = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
            let usage = one(&text(&a)).busy_percent_since(&one(&text(&b)));
            proptest::prop_assert!(usage.is_none_or(|u| (0.0..=100.0).contains(&u)), "{:?}", usage);
        }
    }
}
