//! What was used since the last look: the kernel's counts only grow, and what is gone from them was told before.

use std::collections::HashMap;

use super::layout::Use;

/// What was told already.
#[derive(Debug, Default)]
pub struct Tally {
    told: HashMap<Use, u64>,
}

impl Tally {
    /// What each grew by.
    pub fn news(&mut self, uses: &[(Use, u64)]) -> Vec<(Use, u64)> {
        let mut news = Vec::new();
        for (used, count) in uses {
            let told = self.told.entry(*used).or_default();
            if let Some(more) = count.checked_sub(*told).filter(|more| *more > 0) {
                news.push((*used, more));
                *told = *count;
            }
        }
        news
    }

    /// Whom something was told of: process and start.
    pub fn processes(&self) -> impl Iterator<Item = (u32, u64)> {
        self.told.keys().map(|used| (used.pid, used.started_ns))
    }

    /// Forgets a process, after its last counts were told. Gives what can be forgotten of the kernel's counts too.
    pub fn forget(&mut self, pid: u32, started_ns: u64) -> Vec<Use> {
        let gone: Vec<Use> = self.told.keys().filter(|used| (used.pid, used.started_ns) == (pid, started_ns)).copied().collect();
        self.told.retain(|used, _| !gone.contains(used));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USE: Use = Use { started_ns: 5, generations: [8, 9], pid: 7, call: 1, first: 2, second: 0, kind: 6, detail: 0 };

    #[test]
    fn only_what_is_new_is_told_and_a_process_that_is_gone_is_forgotten() {
        let mut tally = Tally::default();
        assert_eq!(tally.news(&[(USE, 3)]), [(USE, 3)]);
        assert_eq!(tally.news(&[(USE, 3)]), []);
        assert_eq!(tally.news(&[(USE, 8)]), [(USE, 5)]);
        assert_eq!(tally.forget(7, 4), [], "another process of that number");
        assert_eq!(tally.forget(7, 5), [USE]);
        assert_eq!(Use::read(&USE.bytes()), USE);
    }
}
