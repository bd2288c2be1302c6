//! `/proc/pressure/*`: how long tasks stood still for want of a resource (Documentation/accounting/psi.rst).

/// `some` or `full`, and microseconds since boot.
pub fn totals(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next().filter(|kind| matches!(*kind, "some" | "full"))?;
        let total = words.find_map(|word| word.strip_prefix("total="))?;
        Some((kind, total.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found_wherever_they_stand() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull total=7 new=1\nodd total=1\nsome total=x\n";
        assert_eq!(totals(text).collect::<Vec<_>>(), [("some", 1_500_000), ("full", 7)]);
    }
}
