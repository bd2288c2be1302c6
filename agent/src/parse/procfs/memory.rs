//! `/proc/meminfo` and `/proc/vmstat`: a name and a number a line.

/// Name and value of each line of `/proc/meminfo`: bytes, or a plain number where the kernel gives no unit.
pub fn meminfo(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        let value: u64 = words.next()?.parse().ok()?;
        match words.next() {
            None => Some((name, value)),
            Some("kB") => Some((name, value.checked_mul(1024)?)),
            Some(_) => None,
        }
    })
}

/// Name and value of each line of `/proc/vmstat`.
pub fn vmstat(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, value.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_turned_into_bytes_and_unknown_ones_are_left_out() {
        let text = "MemTotal:  2048 kB\nHugePages_Total:  3\nOdd: 1 MB\nBroken\nHuge: 99999999999999999999 kB\nBig: 18446744073709551615 kB\n";
        assert_eq!(meminfo(text).collect::<Vec<_>>(), [("MemTotal", 2_097_152), ("HugePages_Total", 3)]);
        assert_eq!(vmstat("pgfault 7\nodd\nnr_x -1\n").collect::<Vec<_>>(), [("pgfault", 7)]);
    }
}
