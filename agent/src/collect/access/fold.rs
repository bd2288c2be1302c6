//! So that a server that opens its key for every connection does not fill the record with it: whoever opens a key often is told each
//! time at first, then at intervals with how often it was meanwhile. Counts are exact all the same.

use std::collections::HashMap;
use std::time::Duration;

use keyvigil_common::event::{Event, EventKind};

use super::users::lasting;

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
pub(super) struct Folds(HashMap<Alike, Bucket>);

/// What is told of many as of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Alike {
    kind: EventKind,
    path: String,
    key: String,
    exe: String,
    uid: u32,
    unit: String,
}

impl Alike {
    fn of(event: &Event) -> Self {
        let actor = event.actor.clone().unwrap_or_default();
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let (exe, unit) = (actor.exe.unwrap_or_default(), actor.unit.as_deref().map(lasting).unwrap_or_default());
        Self { kind: event.kind, path: text(&event.path), key: text(&event.key_id), exe, uid: actor.uid.unwrap_or(u32::MAX), unit }
    }
}

impl Folds {
    /// Whether so many opens that `event` tells of are told, and for how many they stand.
    pub(super) fn times(&mut self, event: &Event, opens: u64, now: Duration) -> Option<u64> {
        let user = Alike::of(event);
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
    use keyvigil_common::event::Actor;

    use super::*;

    fn event(kind: EventKind, exe: &str, uid: u32) -> Event {
        let actor = Some(Actor { exe: Some(exe.to_owned()), uid: Some(uid), ..Actor::default() });
        Event { kind, at_ms: 0, key_id: Some("k".to_owned()), path: Some("/k".to_owned()), actor, message: String::new(), evidence: Vec::new() }
    }

    #[test]
    fn thousands_are_each_told_and_then_now_and_then_with_how_many() {
        let mut folds = Folds::default();
        let cat = event(EventKind::Accessed, "/bin/cat", 0);
        let mut at = |s: u64| folds.times(&cat, 1, Duration::from_secs(s));
        assert!((0..BURST).all(|_| at(1) == Some(1)));
        assert!((0..7).all(|_| at(5).is_none()));
        assert_eq!([at(11), at(11), at(31), at(31), at(31)], [Some(8), None, Some(2), Some(1), None]);
        assert_eq!(folds.times(&event(EventKind::Accessed, "/bin/cat", 1), 4, Duration::from_secs(5)), Some(4), "another user, at once");
        assert_eq!(folds.times(&event(EventKind::Denied, "/bin/cat", 0), 1, Duration::from_secs(31)), Some(1), "what was denied is not what was opened");
    }

    #[test]
    fn whoever_makes_up_programs_takes_no_more_room_than_there_is() {
        let mut folds = Folds::default();
        for n in 0..USERS_MAX + 10 {
            let (one, now) = (event(EventKind::Accessed, &format!("/tmp/{n}"), 0), Duration::from_secs(n as u64 / 100));
            assert_eq!(folds.times(&one, 1, now), Some(1));
            // It goes on until it is not told each time.
            let bucket = folds.0.values_mut().find(|bucket| bucket.left == BURST - 1).unwrap();
            (bucket.left, bucket.folded) = (0, 1);
            assert!(folds.0.len() <= USERS_MAX, "{n}");
        }
        assert!(folds.0.contains_key(&Alike::of(&event(EventKind::Accessed, &format!("/tmp/{USERS_MAX}"), 0))), "the latest stay");
    }
}
