//! What is known of one path of the canary: its trials, what was seen of them, what came back. Pure: the time is an argument,
//! monotonic, as a host that slept has missed nothing.

use std::collections::VecDeque;
use std::time::Duration;

/// Trials that are remembered; an hour at the shortest interval does not need more, as only the newest decide.
const TRIALS_MAX: usize = 32;

/// How the aggregator is reached: only while it answers may it be missed that it does not confirm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Since when it has acknowledged each time.
    pub(super) since: Option<Duration>,
    /// When it did so last.
    pub(super) last: Duration,
}

/// One trial.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trial {
    nonce: u64,
    /// 0 where the child's number is not the kernel's.
    pid: u32,
    at: Duration,
    seen: Option<Duration>,
    is_counted: bool,
}

/// What keeps a path from being proven.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Blind {
    /// The sensor did not see the trials.
    Unseen(String),
    /// It did, and the aggregator does not confirm it.
    Unconfirmed(String),
}

/// One path.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// It was proven once, or what it needs is there: since when that is waited for.
    expected: Option<Duration>,
    /// Why it cannot be tried; then nothing is expected.
    pub(super) gap: Option<String>,
    trials: VecDeque<Trial>,
    seen: Option<Duration>,
    proven: Option<Duration>,
    /// When it was proven last, Unix ms.
    pub(super) proven_ms: Option<i64>,
    /// Trials that came to nothing since the start.
    pub(super) failures: u64,
    /// Why the latest trial could not be made.
    fault: Option<String>,
    blind: Option<Blind>,
}

impl Watch {
    /// As it was before a restart: what was proven is expected, and who was blind is so until it is proven otherwise.
    pub(super) fn restore(&mut self, proven_ms: Option<i64>, blind: Option<String>, now: Duration) {
        self.expected.get_or_insert(now);
        self.proven_ms = self.proven_ms.max(proven_ms);
        if self.seen.is_none() {
            self.blind = blind.map(Blind::Unseen);
        }
    }

    /// What it needs is there. Whether that is news.
    pub(super) fn expect(&mut self, now: Duration) -> bool {
        let is_news = self.expected.is_none();
        self.expected.get_or_insert(now);
        is_news
    }

    /// Whether a proof is to come.
    pub(super) fn is_expected(&self) -> bool {
        self.expected.is_some() && self.gap.is_none()
    }

    /// Whether it is tried, and be it to find that it can be.
    pub(super) fn is_awaited(&self) -> bool {
        self.expected.is_some()
    }

    /// It cannot be tried, or can again: the wait for a proof begins anew then.
    pub(super) fn set_gap(&mut self, gap: Option<String>, now: Duration) {
        if self.gap.is_some() && gap.is_none() {
            self.expected = self.expected.map(|_| now);
        }
        if gap.is_some() {
            (self.blind, self.fault) = (None, None);
            self.trials.clear();
        }
        self.gap = gap;
    }

    /// A process is about to open the canary.
    pub(super) fn tried(&mut self, nonce: u64, pid: u32, now: Duration) {
        self.fault = None;
        self.push(Trial { nonce, pid, at: now, seen: None, is_counted: false });
    }

    /// It could not be tried.
    pub(super) fn failed(&mut self, why: &str, now: Duration) {
        self.failures += 1;
        self.fault = Some(why.to_owned());
        self.push(Trial { nonce: 0, pid: 0, at: now, seen: None, is_counted: true });
    }

    fn push(&mut self, trial: Trial) {
        if self.trials.len() >= TRIALS_MAX {
            self.trials.pop_front();
        }
        self.trials.push_back(trial);
    }

    /// The sensor saw a process at the canary; a sensor that knows no processes says 0, and means the newest. The trial's number, if
    /// it is one that was not seen before.
    pub(super) fn saw(&mut self, pid: u32, now: Duration) -> Option<u64> {
        let is_it = |trial: &&mut Trial| trial.nonce != 0 && trial.seen.is_none() && (pid == 0 || trial.pid == 0 || trial.pid == pid);
        let trial = self.trials.iter_mut().rev().find(is_it)?;
        trial.seen = Some(now);
        self.seen = Some(now);
        if matches!(self.blind, Some(Blind::Unseen(_))) {
            self.blind = None;
        }
        Some(trial.nonce)
    }

    /// The aggregator confirms a trial, which may be another path's.
    pub(super) fn confirmed(&mut self, nonce: u64, now: Duration, now_ms: i64) {
        let Some(at) = self.trials.iter().position(|trial| trial.nonce == nonce && nonce != 0 && trial.seen.is_some()) else { return };
        // Those before it prove nothing that it does not.
        self.trials.drain(..=at);
        (self.proven, self.proven_ms, self.blind) = (Some(now), Some(now_ms), None);
    }

    /// Looks at what is missing. A trial that is not seen within half an interval has failed; that none was seen for two intervals is
    /// blindness, as is that none was confirmed although the aggregator answered all that time.
    pub(super) fn look(&mut self, interval: Duration, delivery: Delivery, now: Duration) {
        let Some(expected) = self.expected.filter(|_| self.gap.is_none()) else { return };
        let mut unseen = false;
        for trial in self.trials.iter_mut().filter(|trial| trial.seen.is_none() && now >= trial.at + interval / 2) {
            self.failures += u64::from(!std::mem::replace(&mut trial.is_counted, true));
            unseen |= self.seen.is_none_or(|seen| seen < trial.at);
        }
        let seen = self.seen.unwrap_or(expected).max(expected);
        if unseen && now >= seen + 2 * interval {
            let fault =
                self.fault.as_deref().map_or("was opened and used, and the sensor was told nothing of it".to_owned(), |why| format!("cannot be tried: {why}"));
            self.blind = Some(Blind::Unseen(format!("the canary {fault}, for {} s", now.saturating_sub(seen).as_secs())));
            return;
        }
        let Some(since) = delivery.since else { return };
        let unanswered = |trial: &Trial| trial.seen.is_some_and(|seen| seen >= since && delivery.last >= seen + interval);
        let proven = self.proven.unwrap_or(expected).max(expected).max(since);
        if self.blind.is_none() && self.trials.iter().any(unanswered) && now >= proven + 2 * interval {
            let text =
                format!("the canary was seen here, and the aggregator, which answers, does not confirm it, for {} s", now.saturating_sub(proven).as_secs());
            self.blind = Some(Blind::Unconfirmed(text));
        }
    }

    /// Why what this path sees is not to be believed.
    pub(super) fn blind(&self) -> Option<&str> {
        self.blind.as_ref().map(|(Blind::Unseen(why) | Blind::Unconfirmed(why))| why.as_str())
    }
}
