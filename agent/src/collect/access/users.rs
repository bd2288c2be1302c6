//! Who has used which key file since when, remembered over restarts and bounded: what `keyvigil-agent policy` proposes, and by which a
//! program and user that are new to a key are known. A key is watched for a while before anybody is new to it; only time in which opens were
//! seen counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use keyvigil_common::{hex, sha256};
use serde::{Deserialize, Serialize};

use crate::collect::{At, Sink};

/// Users of keys that are remembered.
const USERS_MAX: usize = 4_096;
/// Files of which it is remembered since when they are watched; of those beyond, only while they are there.
const FILES_MAX: usize = 16_384;
/// Counts are stored so often at most.
const STORE_MS: i64 = 60_000;
/// Under which they are remembered.
const USER: &str = "user:";
const WATCH: &str = "watch";
const SINCE: &str = "since";

/// A program and user, and what they did with a key file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeyUser {
    /// File.
    pub path: String,
    /// Id of the key that was in it last.
    pub key: String,
    /// Program; empty where it was not known.
    pub exe: String,
    /// User.
    pub user: String,
    /// Unit or container; empty where there is none.
    pub unit: String,
    /// When first and last, Unix ms.
    pub first_ms: i64,
    /// When last.
    pub last_ms: i64,
    /// Opens, as of when they were last stored.
    pub count: u64,
    /// Whether the last of them broke a policy.
    pub offends: bool,
    /// When it was last stored, Unix ms.
    #[serde(skip)]
    pub(crate) stored_ms: i64,
}

impl KeyUser {
    fn id(&self) -> String {
        let parts = [&self.path, &self.exe, &self.user, &self.unit];
        let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        format!("{USER}{}", hex(&sha256(text.as_bytes())[..8]))
    }
}

/// For how long opens were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Watch {
    /// When it began, Unix ms.
    pub began_ms: i64,
    /// Until when it is told here, Unix ms.
    pub until_ms: i64,
    /// How long opens were seen, ms.
    pub seen_ms: u64,
    /// What was not seen last, and why.
    pub blind: Option<String>,
    /// Users of keys that were forgotten, as there were too many.
    pub forgotten: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Users {
    all: HashMap<String, KeyUser>,
    dirty: BTreeSet<String>,
    gone: Vec<String>,
    watch: Watch,
    stored_ms: i64,
    /// When opens were last seen to be seen, by the monotonic clock.
    seeing: Option<Duration>,
    /// By the number of a file: how long opens had been seen when it was first watched, ms.
    since: BTreeMap<u32, u64>,
    is_news: bool,
}

impl Users {
    /// Takes what was remembered. What was learnt before that is kept.
    pub(super) fn restore(&mut self, remembered: &[(String, Vec<u8>)]) {
        let (users, watch, since) = recall(remembered);
        for user in users {
            let (first_ms, count) = (user.first_ms, user.count);
            let known = |known: &mut KeyUser| (known.first_ms, known.count) = (first_ms, known.count + count);
            self.all.entry(user.id()).and_modify(known).or_insert(user);
        }
        if watch.began_ms > 0 {
            let learnt = std::mem::replace(&mut self.watch, watch);
            self.watch.seen_ms += learnt.seen_ms;
        }
        for (file, seen_ms) in since {
            self.since.insert(file, seen_ms);
        }
    }

    /// These files are watched from now on, and for that long opens of them are seen or, with the reason, are not.
    pub(super) fn watch(&mut self, files: impl Iterator<Item = u32>, blind: Option<String>, at: At) {
        let before = match &blind {
            None => self.seeing.replace(at.monotonic),
            Some(_) => self.seeing.take(),
        };
        let more = before.map_or(Duration::ZERO, |before| at.monotonic.saturating_sub(before));
        self.watch.seen_ms += u64::try_from(more.as_millis()).unwrap_or_default();
        if self.watch.began_ms == 0 {
            self.watch.began_ms = at.wall_ms;
        }
        self.watch.until_ms = at.wall_ms;
        self.is_news |= blind != self.watch.blind;
        self.watch.blind = blind;
        let files: BTreeSet<u32> = files.collect();
        if self.since.len() > FILES_MAX {
            self.since.retain(|file, _| files.contains(file));
        }
        for file in files {
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.since.entry(file) {
                vacant.insert(self.watch.seen_ms);
                self.is_news = true;
            }
        }
    }

    /// Somebody opened a file. Where they are new to one that was watched for `learn_hours`: for how long, and by whom else it was used.
    pub(super) fn opened(&mut self, file: u32, user: KeyUser, learn_hours: u32) -> Option<(Duration, Vec<String>)> {
        let watched = self.since.get(&file).map(|since| Duration::from_millis(self.watch.seen_ms.saturating_sub(*since)));
        let learnt = watched.filter(|watched| *watched >= Duration::from_secs(u64::from(learn_hours) * 3_600));
        let of_file = || self.all.values().filter(|known| known.path == user.path && !known.exe.is_empty());
        let is_new = !user.exe.is_empty() && !of_file().any(|known| known.exe == user.exe && known.user == user.user);
        let news = learnt.filter(|_| is_new).map(|watched| (watched, of_file().map(|known| format!("{} as {}", known.exe, known.user)).collect()));
        let id = user.id();
        if !self.all.contains_key(&id) && self.all.len() >= USERS_MAX {
            self.forget_one();
        }
        let known = self.all.entry(id.clone()).or_insert(KeyUser { count: 0, ..user.clone() });
        (known.key, known.last_ms, known.offends) = (user.key, user.last_ms, user.offends);
        known.count += user.count.max(1);
        self.dirty.insert(id);
        news
    }

    /// Of the file that has most users one goes, first of all one that was seen once: whoever makes up programs drives out nobody else's.
    fn forget_one(&mut self) {
        let mut of_file: BTreeMap<&str, usize> = BTreeMap::new();
        self.all.values().for_each(|user| *of_file.entry(&user.path).or_default() += 1);
        let fullest = of_file.into_iter().max_by_key(|(_, count)| *count).map(|(path, _)| path.to_owned());
        let candidates = self.all.iter().filter(|(_, user)| Some(&user.path) == fullest.as_ref());
        let least = candidates.min_by_key(|(_, user)| (user.count > 1, user.last_ms)).map(|(id, _)| id.clone());
        if let Some(id) = least {
            self.all.remove(&id);
            self.dirty.remove(&id);
            self.gone.push(id);
            self.watch.forgotten += 1;
        }
    }

    /// Has what is new remembered; counts now and then.
    pub(super) fn remember(&mut self, now_ms: i64, sink: &mut Sink) {
        self.gone.drain(..).for_each(|id| sink.remember(id, None));
        let (all, is_due) = (&mut self.all, |stored_ms: i64| !(stored_ms..stored_ms + STORE_MS).contains(&now_ms));
        self.dirty.retain(|id| {
            let Some(user) = all.get_mut(id).filter(|user| is_due(user.stored_ms)) else { return all.contains_key(id) };
            user.stored_ms = now_ms;
            sink.remember(id.clone(), serde_json::to_vec(user).ok());
            false
        });
        if self.is_news || is_due(self.stored_ms) {
            sink.remember(WATCH, serde_json::to_vec(&self.watch).ok());
            self.stored_ms = now_ms;
        }
        if std::mem::take(&mut self.is_news) {
            sink.remember(SINCE, serde_json::to_vec(&self.since.iter().collect::<Vec<_>>()).ok());
        }
    }
}

/// What was remembered: users of keys, for how long opens were seen, and since when which file was watched.
pub(crate) fn recall(remembered: &[(String, Vec<u8>)]) -> (Vec<KeyUser>, Watch, Vec<(u32, u64)>) {
    let value = |name: &str| remembered.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
    let users = remembered.iter().filter(|(key, _)| key.starts_with(USER)).filter_map(|(_, value)| serde_json::from_slice(value).ok()).collect();
    let watch = value(WATCH).and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default();
    let since = value(SINCE).and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default();
    (users, watch, since)
}

/// A unit by which somebody will be known again: logins and passing commands get another number each time.
pub(in crate::collect) fn lasting(unit: &str) -> String {
    let (within, name) = unit.rsplit_once('/').map_or(("", unit), |(within, name)| (within, name));
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    // As systemd-run names them: by the user's or the system's count, at random, or by the process.
    let is_passing = |id: &str| {
        let by_process = id.strip_prefix('p').and_then(|id| id.split_once("-i")).is_some_and(|(pid, id)| is_number(pid) && is_number(id));
        by_process || id.strip_prefix(['u', 'r']).is_some_and(is_number)
    };
    let lasting = match stem.split_once('-') {
        Some(("session", number)) if kind == "scope" && !number.is_empty() => "session-*.scope".to_owned(),
        Some(("run", id)) if matches!(kind, "scope" | "service") && is_passing(id) => format!("run-*.{kind}"),
        _ => return unit.to_owned(),
    };
    if within.is_empty() { lasting } else { format!("{within}/{lasting}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600;

    fn at(seconds: u64) -> At {
        At { wall_ms: 1_000 * i64::try_from(seconds).unwrap() + 1, monotonic: Duration::from_secs(seconds) }
    }

    fn by(exe: &str) -> KeyUser {
        KeyUser { path: "/k".into(), exe: exe.into(), user: "root".into(), first_ms: 1, last_ms: 1, ..KeyUser::default() }
    }

    fn remembered(users: &mut Users, now_ms: i64) -> Vec<(String, Vec<u8>)> {
        let mut sink = Sink::new("h", at(0));
        users.remember(now_ms, &mut sink);
        sink.remember.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }

    #[test]
    fn whoever_is_new_to_a_key_is_told_once_it_was_watched_long_enough_over_restarts_and_gaps() {
        let mut users = Users::default();
        users.watch([7].into_iter(), None, at(0));
        assert_eq!(users.opened(7, by("/bin/a"), 24), None, "nobody is new to a key that is new itself");
        users.watch([7].into_iter(), None, at(20 * HOUR));
        users.watch([7].into_iter(), Some("no helper".into()), at(20 * HOUR + 1));
        users.watch([7].into_iter(), None, at(100 * HOUR));
        assert_eq!(users.opened(7, by("/bin/b"), 24), None, "time in which nothing was seen does not count");

        let stored = remembered(&mut users, 1_000_000);
        let mut users = Users::default();
        users.restore(&stored);
        users.watch([7, 8].into_iter(), None, at(0));
        users.watch([7, 8].into_iter(), None, at(5 * HOUR));
        assert_eq!(users.opened(7, by("/bin/a"), 24), None, "known from before the restart");
        let (watched, others) = users.opened(7, by("/bin/c"), 24).unwrap();
        assert_eq!(watched, Duration::from_secs(25 * HOUR + 1));
        assert_eq!(others.iter().map(String::as_str).collect::<BTreeSet<_>>(), ["/bin/a as root", "/bin/b as root"].into());
        assert_eq!(users.opened(7, by("/bin/c"), 24), None, "once");
        assert_eq!(users.opened(8, KeyUser { path: "/l".into(), ..by("/bin/c") }, 24), None, "another key, which is new");
        assert_eq!(users.opened(7, by(""), 24), None, "who is not known is not new");
    }

    #[test]
    fn who_fills_the_room_with_users_of_their_own_key_takes_none_of_another() {
        let mut users = Users::default();
        (0..20).for_each(|n| drop(users.opened(8, KeyUser { path: "/web".into(), ..by(&format!("/bin/{n}")) }, 24)));
        for n in (0..USERS_MAX).flat_map(|n| [n, n]) {
            users.opened(7, KeyUser { last_ms: 2, ..by(&format!("/tmp/{n}")) }, 24);
        }
        assert_eq!((users.all.len(), users.all.values().filter(|user| user.path == "/web").count()), (USERS_MAX, 20));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_those_who_come_again_stay() {
        let mut users = Users::default();
        users.opened(7, by("/bin/a"), 24);
        users.opened(7, by("/bin/a"), 24);
        for n in 0..USERS_MAX + 10 {
            users.opened(7, KeyUser { last_ms: 2, ..by(&format!("/tmp/{n}")) }, 24);
        }
        assert_eq!((users.all.len(), users.watch.forgotten), (USERS_MAX, 11));
        assert!(users.all.values().any(|user| user.exe == "/bin/a" && user.count == 2));
    }

    #[test]
    fn files_that_come_and_go_for_years_are_not_all_remembered() {
        let mut users = Users::default();
        for day in 0..FILES_MAX as u32 + 10 {
            users.watch([7, 1_000 + day].into_iter(), None, at(u64::from(day)));
        }
        assert!(users.since.len() <= FILES_MAX + 2, "{}", users.since.len());
        assert_eq!(users.since.get(&7), Some(&0), "what is there is known as long as ever");
    }

    #[test]
    fn counts_are_stored_now_and_then_and_who_is_new_at_once() {
        let mut users = Users::default();
        let stored = |users: &mut Users, now_ms| recall(&remembered(users, now_ms)).0.iter().map(|user| user.count).collect::<Vec<_>>();
        users.opened(7, by("/bin/a"), 24);
        assert_eq!(stored(&mut users, 1_000_000), [1]);
        users.opened(7, by("/bin/a"), 24);
        assert_eq!(stored(&mut users, 1_030_000), [] as [u64; 0]);
        assert_eq!(stored(&mut users, 1_061_000), [2], "though nothing happened since");
    }

    #[test]
    fn a_login_is_known_again_by_the_kind_of_its_unit() {
        let lasting = |unit: &str| lasting(unit);
        assert_eq!(
            ["session-3.scope", "run-u7.service", "nginx.service", "container 0123456789ab"].map(lasting),
            ["session-*.scope", "run-*.service", "nginx.service", "container 0123456789ab"]
        );
        assert_eq!(
            ["user@1000.service/run-p12-i34.service", "user@1000.service/web.service", "run-r0123abc.scope", "run-backup.service"].map(lasting),
            ["user@1000.service/run-*.service", "user@1000.service/web.service", "run-*.scope", "run-backup.service"],
            "a name that somebody chose is one to keep"
        );
    }
}
