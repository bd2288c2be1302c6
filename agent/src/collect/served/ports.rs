//! What is known of each listening port: how it is asked, what it serves, and when that was last seen. Takes in answers; asks
//! nobody and tells nobody. Called by the sensor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::key::{KeyFacts, Place, Served};
use serde::{Deserialize, Serialize};

use super::chain::Seen;
use super::compare::Renewed;
use super::probe::{RSA, Start, Way};
use crate::collect::At;
use crate::parse::greeting::Dialect;

/// A port without TLS is asked again when somebody else listens there, or after this time, ms.
const PLAIN_AGAIN_MS: u64 = 24 * 3_600 * 1_000;
/// One that said nothing is asked again after this time, ms.
const UNSURE_AGAIN_MS: u64 = 3_600 * 1_000;
/// All names are asked for again after this time.
const NAMES_AGAIN: Duration = Duration::from_secs(6 * 3_600);
/// What has not been seen for so long, from a port that answers otherwise, is not served any more.
const LAPSE: Duration = Duration::from_secs(600);

/// One port.
#[derive(Debug, Default)]
pub(super) struct Port {
    /// Sockets and program, by which another listener is noticed.
    pub(super) inodes: BTreeSet<u64>,
    pub(super) exe: Option<String>,
    pub(super) way: Way,
    /// It showed no TLS, and is left alone for a while.
    pub(super) plain: Option<Plain>,
    /// What it serves, by name; the empty one is what those get who ask for none.
    pub(super) services: BTreeMap<String, Service>,
    /// Why it showed nothing when it was last asked.
    pub(super) trouble: Option<String>,
    /// It speaks TLS, and shows those nothing who ask for no name.
    pub(super) refuses: bool,
    /// Names that it was asked for, and since when (monotonic).
    pub(super) asked: BTreeSet<String>,
    pub(super) asked_since: Duration,
    /// Nobody listens there any more, since (monotonic).
    pub(super) missing: Option<Duration>,
    /// What was last remembered of it.
    pub(super) saved: Vec<u8>,
}

/// A port that shows no TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plain {
    pub(super) why: String,
    /// Unix ms.
    pub(super) since_ms: i64,
    /// It speaks something else. If not, it said nothing, and nobody knows.
    pub(super) is_sure: bool,
}

/// What a port serves under a name.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) facts: Arc<KeyFacts>,
    /// What the handshake told.
    pub(super) served: Served,
    /// As it was last told, and when (monotonic).
    pub(super) told: Option<(Place, Duration)>,
    /// The leaf that was told before, where this one is another.
    pub(super) before: Option<(Arc<KeyFacts>, Place)>,
    /// When it was last seen (monotonic).
    pub(super) seen: Duration,
    /// Files in which the leaf lay while it was served.
    pub(super) paths: BTreeSet<String>,
    pub(super) file: Option<String>,
    /// No file is known to hold it, since (monotonic).
    pub(super) nowhere: Option<Duration>,
    pub(super) stale: Option<Stale>,
}

/// A certificate that was renewed on disk and not reloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stale {
    /// Id of what the file holds.
    pub(super) key: String,
    /// Whole, but for one that a former process told.
    pub(super) renewed: Option<Renewed>,
    /// Monotonic.
    pub(super) since: Duration,
    /// It was said.
    pub(super) told: bool,
}

impl Port {
    /// Takes who listens there now; another listener is asked anew.
    pub(super) fn held_by(&mut self, inodes: &BTreeSet<u64>, exe: Option<&str>, now: Duration) {
        // What a former process saw it has seen until now.
        self.services.values_mut().filter(|service| service.seen.is_zero()).for_each(|service| service.seen = now);
        let is_other = self.inodes.is_disjoint(inodes) || matches!((&self.exe, exe), (Some(before), Some(now)) if before != now);
        if is_other {
            self.plain = None;
            self.asked.clear();
            // It may speak otherwise, but what is known of a restarted server is right most times.
            if self.services.is_empty() {
                self.way = Way::default();
            }
        }
        self.inodes.clone_from(inodes);
        self.exe = exe.map(str::to_owned).or(self.exe.take());
        self.missing = None;
    }

    /// Whether it is known to speak TLS.
    pub(super) fn is_tls(&self) -> bool {
        !self.services.is_empty() || self.plain.is_none() && self.way.start.is_some()
    }

    /// Whether it is to be asked.
    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        self.plain.as_ref().is_none_or(|plain| now_ms.abs_diff(plain.since_ms) >= if plain.is_sure { PLAIN_AGAIN_MS } else { UNSURE_AGAIN_MS })
    }

    /// Why nobody knows what it speaks.
    pub(super) fn doubt(&self) -> Option<&str> {
        let unsure = self.plain.as_ref().filter(|plain| !plain.is_sure).map(|plain| &plain.why);
        let failed = self.trouble.as_ref().filter(|_| self.plain.is_none() && !self.is_tls());
        unsure.or(failed).map(String::as_str)
    }

    /// Names that it is to be asked for, of those that are known.
    pub(super) fn names(&mut self, names: &[String], most: usize, now: Duration) -> Vec<String> {
        if now.saturating_sub(self.asked_since) >= NAMES_AGAIN {
            self.asked.clear();
            self.asked_since = now;
        }
        let most = match self.way.start {
            Some(Start::Direct) => names.len(),
            // These have one certificate for all.
            None | Some(Start::Agreed(Dialect::Mysql | Dialect::Postgres | Dialect::Ldap | Dialect::Ftp | Dialect::Nntp)) => 0,
            Some(Start::Agreed(_)) => most,
        };
        let new = names.iter().take(most).filter(|name| !self.asked.contains(*name)).cloned();
        let kept = self.services.keys().filter(|name| !name.is_empty()).cloned();
        // Beside a certificate of another kind there may be one of RSA.
        let other = self.services.iter().filter(|(name, service)| !name.ends_with(RSA) && service.facts.algorithm != "rsa");
        let rsa = other.map(|(name, _)| format!("{name}{RSA}")).filter(|name| !self.asked.contains(name));
        kept.chain(new).chain(rsa).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What is served to those who ask for no name, or for `name`.
    pub(super) fn shows(&mut self, name: &str, seen: Seen, now: Duration) {
        (self.plain, self.trouble) = (None, None);
        if name.is_empty() {
            self.refuses = false;
        } else {
            self.asked.insert(name.to_owned());
            let id = &seen.facts.id;
            let elsewhere = self.services.iter().any(|(other, service)| other != name && service.facts.id == *id && service.seen == now);
            if elsewhere {
                return self.withdraw(name);
            }
        }
        let Seen { facts, served } = seen;
        let Some(service) = self.services.get_mut(name) else {
            let service = Service { facts, served, told: None, before: None, seen: now, paths: BTreeSet::new(), file: None, nowhere: None, stale: None };
            drop(self.services.insert(name.to_owned(), service));
            return;
        };
        if service.facts.id != facts.id {
            if let Some((place, _)) = service.told.take() {
                service.before = Some((Arc::clone(&service.facts), place));
            }
            service.paths.clear();
            // Under other names there may be what was here.
            self.asked.retain(|asked| asked == name);
        }
        (service.facts, service.served, service.seen) = (facts, served, now);
    }

    /// It showed nothing when it was asked for `name`. `speaks`: it answered, otherwise than in TLS or with a refusal.
    /// `is_plain`: it does not speak TLS as far as is seen; whether that is sure.
    pub(super) fn shows_nothing(&mut self, name: &str, why: String, speaks: bool, is_plain: Option<bool>, at: At) {
        if !name.is_empty() {
            self.asked.insert(name.to_owned());
        }
        let lapsed = self.services.get(name).is_some_and(|service| at.monotonic.saturating_sub(service.seen) >= LAPSE);
        if speaks && lapsed {
            self.withdraw(name);
        }
        if name.is_empty() {
            match is_plain.filter(|_| self.services.values().all(|service| service.told.is_none())) {
                Some(is_sure) => (self.plain, self.trouble) = (Some(Plain { why, since_ms: at.wall_ms, is_sure }), None),
                None => self.trouble = Some(why),
            }
        }
    }

    /// Marks what is served under `name` as over; it goes once that has been told.
    fn withdraw(&mut self, name: &str) {
        if let Some(service) = self.services.get_mut(name) {
            service.before = service.told.take().map(|(place, _)| (Arc::clone(&service.facts), place));
            service.seen = Duration::MAX;
        }
    }
}

impl Service {
    /// It is over, and told no more but for that.
    pub(super) fn is_over(&self) -> bool {
        self.seen == Duration::MAX
    }
}

/// `tls://10.0.0.1:443/www.example.org`.
pub(super) fn path(address: SocketAddr, name: &str) -> String {
    if name.is_empty() { format!("tls://{address}") } else { format!("tls://{address}/{name}") }
}
