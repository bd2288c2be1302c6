//! When the counters of things that come and go (interfaces, disks) began. The kernel does not say; but what was not there
//! at the last scrape, or counts less than then, began after it. Used by `network` and `disk`.

use std::collections::HashMap;

/// Starts of counters by the name of their thing.
#[derive(Debug, Default)]
pub(super) struct Births {
    known: HashMap<String, Known>,
    last_scrape_ms: Option<i64>,
}

#[derive(Debug)]
struct Known {
    level: u64,
    start_ms: Option<i64>,
    seen: bool,
}

impl Births {
    /// When `name`, whose counters now add up to `level`, began to count, Unix ms. `None`: before the first scrape.
    pub(super) fn start_ms(&mut self, name: &str, level: u64) -> Option<i64> {
        let began = self.last_scrape_ms;
        match self.known.get_mut(name) {
            Some(known) => {
                if level < known.level {
                    known.start_ms = began;
                }
                known.level = level;
                known.seen = true;
                known.start_ms
            }
            None => {
                self.known.insert(name.to_owned(), Known { level, start_ms: began, seen: true });
                began
            }
        }
    }

    /// Ends the scrape of `at_ms`: forgets what was not seen in it.
    pub(super) fn scraped(&mut self, at_ms: i64) {
        self.known.retain(|_, known| std::mem::take(&mut known.seen));
        self.last_scrape_ms = Some(at_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_appears_or_starts_again_began_after_the_last_scrape() {
        let mut births = Births::default();
        assert_eq!(births.start_ms("eth0", 500), None, "who knows when");
        births.scraped(1_000);
        assert_eq!((births.start_ms("eth0", 600), births.start_ms("veth1", 70)), (None, Some(1_000)));
        births.scraped(2_000);
        assert_eq!((births.start_ms("eth0", 5), births.start_ms("veth1", 70)), (Some(1_000 + 1_000), Some(1_000)));
        births.scraped(3_000);
        births.scraped(4_000);
        assert_eq!(births.start_ms("veth1", 90), Some(4_000), "it was away in between");
    }
}
