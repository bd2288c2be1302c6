//! So that a server that opens its key for every connection does not fill the record with it: whoever opens a key often is told each
//! time at first, then at intervals with how often it was meanwhile. Counts are exact all the same.

use std::collections::HashMap;
use std::time::Duration;

/// Opens by one program and user of one file that are each told, and how long it takes for one more to be.
const BURST: u32 = 2_500;
const REFILL: Duration = Duration::from_secs(10);
/// Users of keys that are kept apart.
const USERS_MAX: usize = 4_096;

/// What may still be told of one user of a key.
#[derive(Debug)]
struct Bucket {
    left: u32,
    /// When it was last filled up.
    since: Duration,
    /// Not told since the last that was.
    folded: u64,
}

/// Of all users of keys.
#[derive(Debug, Default)]
pub(super) struct Folds(HashMap<(String, String, u32), Bucket>);

impl Folds {
    /// Whether these are told, and for how many they stand.
    pub(super) fn times(&mut self, path: &str, exe: &str, uid: u32, opens: u64, now: Duration) -> Option<u64> {
        let user = (path.to_owned(), exe.to_owned(), uid);
        if self.0.len() >= USERS_MAX && !self.0.contains_key(&user) {
            self.0.retain(|_, bucket| bucket.folded > 0 || bucket.left < BURST / 2);
            self.forget_some();
        }
        let bucket = self.0.entry(user).or_insert(Bucket { left: BURST, since: now, folded: 0 });
        let more = u32::try_from(now.saturating_sub(bucket.since).as_nanos() / REFILL.as_nanos()).unwrap_or(u32::MAX);
        if more > 0 {
            (bucket.left, bucket.since) = (bucket.left.saturating_add(more).min(BURST), now);
        }
        if bucket.left == 0 {
            bucket.folded += opens;
            return None;
        }
        bucket.left -= 1;
        Some(std::mem::take(&mut bucket.folded) + opens)
    }

    /// Where that made little room, an eighth goes, those first that rest longest: whoever makes up programs gets no memory for each.
    fn forget_some(&mut self) {
        let most = USERS_MAX - USERS_MAX / 8;
        if self.0.len() <= most {
            return;
        }
        let mut ages: Vec<Duration> = self.0.values().map(|bucket| bucket.since).collect();
        ages.sort_unstable();
        let (oldest, mut excess) = (ages[self.0.len() - most - 1], self.0.len() - most);
        self.0.retain(|_, bucket| {
            let goes = excess > 0 && bucket.since <= oldest;
            excess -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_each_told_and_then_now_and_then_with_how_many() {
        let mut folds = Folds::default();
        let mut at = |s: u64| folds.times("/k", "/bin/cat", 0, 1, Duration::from_secs(s));
        assert!((0..BURST).all(|_| at(1) == Some(1)));
        assert!((0..7).all(|_| at(5).is_none()));
        assert_eq!([at(11), at(11), at(31), at(31), at(31)], [Some(8), None, Some(2), Some(1), None]);
        assert_eq!(folds.times("/k", "/bin/cat", 1, 4, Duration::from_secs(5)), Some(4), "another user, at once");
    }

    #[test]
    fn whoever_makes_up_programs_takes_no_more_room_than_there_is() {
        let mut folds = Folds::default();
        for n in 0..USERS_MAX + 10 {
            let (exe, now) = (format!("/tmp/{n}"), Duration::from_secs(n as u64 / 100));
            assert_eq!(folds.times("/k", &exe, 0, 1, now), Some(1));
            // It goes on until it is not told each time.
            let bucket = folds.0.values_mut().find(|bucket| bucket.left == BURST - 1).unwrap();
            (bucket.left, bucket.folded) = (0, 1);
            assert!(folds.0.len() <= USERS_MAX, "{n}");
        }
        assert!(folds.0.contains_key(&("/k".to_owned(), format!("/tmp/{USERS_MAX}"), 0)), "the latest stay");
    }
}
