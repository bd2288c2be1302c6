//! The access sensor: who opened which file with a private key, or was denied. What the helper tells becomes events with an actor and
//! exact counts; what `[[access.policy]]` does not allow becomes a violation as well. Without the helper it says that it is blind.

mod actor;
mod bare;
mod counts;
mod delivery;
mod doubts;
mod files;
mod fold;
mod generations;
mod judge;
mod link;
mod policy;
mod users;
mod versions;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::canary::CanaryPath;
use keyvigil_common::event::{Event, EventKind};

pub(super) use self::actor::Actors;
use self::bare::Bare;
pub(super) use self::counts::{Counts, OTHERS};
pub(super) use self::delivery::Delivery;
pub(crate) use self::doubts::policy_doubts;
use self::files::Followed;
pub(super) use self::files::{Files, Held};
use self::fold::Folds;
use self::judge::Asking;
pub use self::link::Link;
pub(super) use self::link::{Lane, Numbered};
pub use self::policy::{AccessConfig, AccessPolicy, AccessRules};
use self::users::Users;
pub(super) use self::users::lasting;
pub(crate) use self::users::{KeyUser, Watch, recall};
use super::known::{Known, Reads};
use super::metric::counter;
use super::{At, Collector, Context, MetricDef, Poke, Sink, Unit};
use crate::probe::CUT_OFF;
use crate::probe::message::{Opened, Sight};

const COUNT: &str = "crypto.key.access_count";
const DENIED: &str = "crypto.key.denied_total";
const UNAUTHORIZED: &str = "crypto.key.unauthorized_access";
const LOST: &str = "crypto.access.lost_total";
const BLIND: &str = "opens of key files";
/// What is not known either where the helper does not tell of opens.
const WHO: &str = "who opens key files";
const TOO_MANY: &str = "opens of more key files than can be followed";
const UNREACHABLE: &str = "opens of a key file";
const TOO_LONG: &str = "denied, by a path that is longer than is kept, so that it is not known whether a key lies there";
const OWN_WORDS: &str = "denied, by a path through /proc that only its process could follow, so that it is not known whether a key lies there";
const UNKNOWN: &str = "of a file that held a private key and is followed no more";

pub(super) const METRICS: &[MetricDef] = &[
    counter(COUNT, Unit::Count, "Opens of a file with this private key, by program and user, as the kernel counted them."),
    counter(DENIED, Unit::Count, "Opens of such a file that were denied, by program and user."),
    counter(UNAUTHORIZED, Unit::Count, "Opens of a private key that its policy does not allow, by whether the system let them (result)."),
    counter(LOST, Unit::Count, "Opens that the kernel could not tell, or that were given up while no agent listened."),
];

/// Sensor `access`.
#[derive(Debug)]
pub(super) struct Access {
    context: Context,
    link: Link,
    known: Option<Arc<Known>>,
    files: Files,
    actors: Actors,
    folds: Folds,
    /// Of those that no policy allows, so that the first is told whatever was told before.
    offences: Folds,
    rules: AccessRules,
    users: Users,
    delivery: Delivery,
    counts: Counts<(&'static str, Tags)>,
    /// Where there is no helper.
    bare: Option<Bare>,
    /// What the helper said that it does not see, or less well.
    gaps: Vec<(String, String)>,
}

/// Who did what with which key; what is empty is left away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Tags {
    key: String,
    exe: String,
    user: String,
    unit: String,
    result: &'static str,
}

impl Tags {
    fn list(&self) -> Vec<(&str, &str)> {
        let all = [("key", self.key.as_str()), ("exe", &self.exe), ("user", &self.user), ("unit", &self.unit), ("result", self.result)];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }
}

impl Access {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            link: context.probe.clone(),
            known: None,
            files: Files::with(context.canary.key(), context.known.own_reads()),
            actors: Actors::new(&context.root),
            folds: Folds::default(),
            offences: Folds::default(),
            rules: context.access.clone(),
            users: Users::default(),
            delivery: Delivery::new(Lane::Opens),
            counts: Counts::new(context.started_ms),
            bare: None,
            gaps: Vec::new(),
        }
    }

    /// Has the helper follow what the keystore sensor knows now.
    fn follow(&mut self) {
        let Some(known) = self.context.known.read() else { return };
        if self.known.as_ref().is_some_and(|before| Arc::ptr_eq(before, &known)) {
            return;
        }
        self.link.follow(self.files.update(&known, &self.context.root));
        self.known = Some(known);
    }

    /// Has the helper tell what programs consist of, where a policy asks for it.
    fn ask_for_hashes(&mut self) {
        self.link.ask_for_hashes(self.rules.read().asks_for_hashes());
    }

    /// Why not, where nothing can be told of it.
    fn tell(&mut self, opened: &Opened, at: At, sink: &mut Sink) -> Result<(), &'static str> {
        let (is_denied, is_asked) = (opened.errno != 0, opened.file == 0);
        let number = if is_asked { self.files.at(&opened.asked, opened.who.pid, opened.mount_ns, &self.context.root) } else { Some(opened.file) };
        let Some((number, mut file)) = number.and_then(|number| Some((number, self.files.get(number)?.clone()))) else {
            // Only its name is known, which other files have as well.
            return if !is_asked {
                Err(UNKNOWN)
            } else if opened.asked.ends_with(CUT_OFF) {
                Err(TOO_LONG)
            } else if opened.asked.starts_with("/proc/") {
                Err(OWN_WORDS)
            } else {
                Ok(())
            };
        };
        let is_seen = is_denied || self.has_seen(opened, &mut file);
        if self.context.canary.is_its(&file.path) {
            // Nobody's key: that it was seen is all there is to tell of it.
            let saw = self.context.canary.saw(CanaryPath::Access, opened.who.pid, at.wall_ms - age_ms(opened.at_ns));
            saw.into_iter().for_each(|event| sink.event(event));
            return Ok(());
        }
        let rules = self.rules.read();
        let actor = self.actors.of(&opened.who);
        let key = file.keys.first().map(|key| key.id.clone()).unwrap_or_default();
        let exe = actor.exe.clone().unwrap_or_else(|| opened.who.comm.clone());
        let user = self.actors.user(opened.who.uid);
        let tags = Tags { key: key.clone(), exe: exe.clone(), user: user.clone(), unit: actor.unit.as_deref().map(lasting).unwrap_or_default(), result: "" };
        let asking = Asking { file: &file, actor: &actor, user: &user, exe_sha256: &opened.exe_sha256, uid_of: &|name| self.actors.uid(name) };
        let verdict = rules.judge(&asking);
        let at_ms = at.wall_ms - age_ms(opened.at_ns);
        let kind = if is_denied { EventKind::Denied } else { EventKind::Accessed };
        let opens = opened.more.saturating_add(1);
        self.count(if is_denied { DENIED } else { COUNT }, &tags, opens);
        let mut evidence = actor::evidence(opened, &user);
        if is_asked && !is_denied {
            evidence.push(("asked_of".to_owned(), "io_uring, without an answer: whether it was opened is not known".to_owned()));
        }
        if !is_seen {
            evidence.push(("key_as_of".to_owned(), "the scan before: the file has changed since, and was not read yet".to_owned()));
        }
        evidence.extend(file.keys.iter().skip(1).map(|key| ("also_holds".to_owned(), key.id.clone())));
        let message = actor::sentence(kind, &exe, opened.who.pid, &user, &file.path);
        let event = Event { kind, at_ms, key_id: Some(key), path: Some(file.path.clone()), actor: Some(actor), message, evidence };
        let told = |folds: &mut Folds, event: &Event| {
            let times = folds.times(event, opens, at.monotonic)?;
            let more = (times > 1).then(|| ("times".to_owned(), times.to_string()));
            Some(Event { evidence: event.evidence.iter().cloned().chain(more).collect(), ..event.clone() })
        };
        told(&mut self.folds, &event).into_iter().for_each(|event| sink.event(event));
        if !is_denied {
            self.learn(number, &event, &tags, (verdict.is_err(), rules.learn_hours, opens), sink);
        }
        if let Err(why) = verdict {
            self.count(UNAUTHORIZED, &Tags { result: if is_denied { "denied" } else { "opened" }, ..tags }, opens);
            let message = format!("{}, which its policy does not allow: {why}", event.message);
            let because = [("policy", "unauthorized access".to_owned()), ("because", why)].map(|(name, value)| (name.to_owned(), value));
            let evidence = event.evidence.into_iter().chain(because).collect();
            let offence = Event { kind: EventKind::PolicyViolation, message, evidence, ..event };
            told(&mut self.offences, &offence).into_iter().for_each(|event| sink.event(event));
        }
        Ok(())
    }

    /// Puts the keys into `file` that it held when it was opened. False where no scan has read it in that state.
    fn has_seen(&mut self, opened: &Opened, file: &mut Followed) -> bool {
        let held = if opened.generation == 0 || file.keys.is_empty() {
            return true;
        } else {
            self.files.held(opened.file, opened.generation, opened.who.started_ns)
        };
        if let Held::Keys(keys) = held {
            file.keys = keys;
            return true;
        }
        false
    }

    /// Remembers who it was, and tells of them where they are new to a key that was watched long enough.
    fn learn(&mut self, file: u32, event: &Event, tags: &Tags, (offends, learn_hours, count): (bool, u32, u64), sink: &mut Sink) {
        let Event { at_ms, path, actor, .. } = event;
        let exe = actor.as_ref().and_then(|actor| actor.exe.clone()).unwrap_or_default();
        let (path, user, unit) = (path.clone().unwrap_or_default(), tags.user.clone(), tags.unit.clone());
        let user = KeyUser { path, key: tags.key.clone(), exe, user, unit, first_ms: *at_ms, last_ms: *at_ms, offends, count, stored_ms: 0 };
        let Some((watched, others)) = self.users.opened(file, user, learn_hours) else { return };
        let hours = watched.as_secs() / 3_600;
        let message = format!("{} for the first time in {hours} h that the key is watched", event.message);
        let others = if others.is_empty() { "nobody".to_owned() } else { others.join(", ") };
        let known = [("watched_hours", hours.to_string()), ("used_before_by", others)].map(|(name, value)| (name.to_owned(), value));
        sink.event(Event { kind: EventKind::FirstUse, message, evidence: event.evidence.iter().cloned().chain(known).collect(), ..event.clone() });
    }

    /// Without a helper: that files are opened, as far as inotify tells, and what that leaves open.
    fn look_bare(&mut self, why: &str, at: At, sink: &mut Sink) {
        let Some(known) = &self.known else { return sink.absent(BLIND, why) };
        if self.bare.is_none() {
            match Bare::begin(self.context.known.own_reads()) {
                Ok(bare) => self.bare = Some(bare),
                Err(e) => return sink.absent(BLIND, format_args!("{why}; nor can they be watched: {e}")),
            }
        }
        let Some(bare) = &mut self.bare else { return };
        let is_whole = bare.take();
        bare.follow(known.private.keys().map(|path| (path.clone(), known.place(path, &self.context.root))));
        let refused = bare.refused.as_ref().map(|refused| format!("; {refused}")).unwrap_or_default();
        let opens = bare.tell(at.monotonic);
        opens.iter().for_each(|open| self.tell_bare(open, at, sink));
        if !is_whole {
            sink.event(delivery::unknown_opens(at.wall_ms));
        }
        let how = "inotify tells that they are opened, at least, and not by whom; none that is denied; no policy is judged";
        sink.absent(BLIND, format_args!("{why}; {how}{refused}"));
    }

    /// Somebody opened that file so often at least.
    fn tell_bare(&self, (path, times): &(String, u64), at: At, sink: &mut Sink) {
        let key_id = self.known.as_ref().and_then(|known| Some(known.private.get(path)?.first()?.id.clone()));
        let message = format!("somebody opened {path}, who is not known");
        let evidence = [("seen_by", "inotify".to_owned()), ("times", times.to_string())].map(|(name, value)| (name.to_owned(), value)).to_vec();
        sink.event(Event { kind: EventKind::Accessed, at_ms: at.wall_ms, key_id, path: Some(path.clone()), actor: None, message, evidence });
    }

    fn count(&mut self, metric: &'static str, tags: &Tags, opens: u64) {
        let others = || Tags { exe: OTHERS.to_owned(), user: OTHERS.to_owned(), unit: String::new(), ..tags.clone() };
        let row = (metric, tags.clone());
        let takes = self.counts.takes(&row, |(other, _)| *other == metric, |(_, of)| of.key == tags.key);
        self.counts.add(if takes { row } else { (metric, others()) }, opens);
    }
}

impl Collector for Access {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        self.follow();
        self.ask_for_hashes();
        let standing = self.link.standing();
        self.users.watch(self.files.numbers(), unseen(&standing), at);
        match &standing.sight {
            Err(why) => {
                self.look_bare(why, at, sink);
                sink.absent(WHO, why);
                // What the helper did not see it does not see again because it is gone.
                self.gaps.iter().filter(|(what, _)| ![BLIND, WHO].contains(&what.as_str())).for_each(|(what, why)| sink.absent(what, why));
            }
            Ok(sights) => {
                if let Some(mut bare) = self.bare.take() {
                    bare.take();
                    bare.tell(Duration::MAX).iter().for_each(|open| self.tell_bare(open, at, sink));
                }
                let seen_less = sights.iter().filter(|sight| sight.what.starts_with("opens") && sight.accuracy != "exact");
                let what = |sight: &Sight| if sight.what == "opens" { BLIND.to_owned() } else { sight.what.clone() };
                self.gaps = seen_less.map(|sight| (what(sight), format!("{}: {}", sight.accuracy, sight.reason))).collect();
                self.gaps.extend(unseen(&standing).map(|why| (WHO.to_owned(), why)));
                self.gaps.iter().for_each(|(what, why)| sink.absent(what, why));
                if self.known.is_some() && sights.iter().any(|sight| sight.what == "opens" && sight.accuracy != "none") {
                    self.context.canary.expect(CanaryPath::Access);
                }
            }
        }
        if self.files.left_out > 0 {
            sink.absent(TOO_MANY, format_args!("there are more private keys here than can be followed; {} files are not", self.files.left_out));
        }
        self.counts.tell_crowd(at.wall_ms, sink);
        if let Some(why) = &self.files.unreachable {
            sink.absent(UNREACHABLE, format_args!("a file that holds a private key cannot be followed: {why}"));
        }
        // Before anything is known of keys nothing can be said of opens: they wait in the helper.
        let opens = if self.known.is_some() { self.link.take_opens() } else { VecDeque::new() };
        self.delivery.follow(&standing, standing.lost.0, "opens of key files", at.wall_ms, sink);
        let mut delivery = std::mem::replace(&mut self.delivery, Delivery::new(Lane::Opens));
        for (helper, seq, opened) in opens {
            if delivery.takes(helper, seq) {
                delivery.tell(opened.more.saturating_add(1), sink, |sink| self.tell(&opened, at, sink));
            }
        }
        delivery.own_up("opens of key files", at.wall_ms, sink);
        self.delivery = delivery;
        self.delivery.remember(&self.link, sink);
        self.users.remember(at.wall_ms, sink);
        if unseen(&standing).is_some() || self.context.canary.blind(CanaryPath::Access).is_some() {
            // What nobody counts now is unknown, and not what it was.
            return;
        }
        let started = Some(self.context.started_ms);
        self.counts.tell(at.wall_ms, |(metric, tags), count, started_ms| sink.counter(metric, &tags.list(), count, Some(started_ms)));
        sink.counter(LOST, &[], self.delivery.lost() as f64, started);
    }

    fn restore(&mut self, remembered: Vec<(String, Vec<u8>)>) {
        self.delivery.restore(&remembered, &self.link);
        self.users.restore(&remembered);
    }

    fn on_change(&mut self, poke: Poke) {
        self.context.canary.on_change(poke.clone(), false);
        self.context.known.on_change(Reads::Access, poke.clone());
        self.link.start(poke, Lane::Opens);
    }
}

/// Why no opens are seen, where that is so.
fn unseen(standing: &link::Standing) -> Option<String> {
    match &standing.sight {
        Err(why) => Some(why.clone()),
        Ok(sights) => sights.iter().find(|sight| sight.what == "opens" && sight.accuracy == "none").map(|sight| sight.reason.clone()),
    }
}

/// How long ago that was, ms.
fn age_ms(at_ns: u64) -> i64 {
    i64::try_from(crate::probe::since_boot_ns().saturating_sub(at_ns) / 1_000_000).unwrap_or_default()
}

#[cfg(test)]
mod tests;
