//! Who used a key, and how much: counters by operation, host and actor, beside what is observed where the key lies. Pure. What
//! nobody observes is unknown, and never 0.

use std::collections::{BTreeMap, BTreeSet};

use keyvigil_common::key::Role;
use keyvigil_common::sample::Tags;
use serde::Serialize;

use super::observed::{Observed, Sensor};
use super::{Inventory, KeyRecord, PlaceRecord};
use crate::index::TenantId;

/// Counters of use, with the word of the operation.
const OPERATIONS: [(&str, &str); 7] = [
    ("crypto.key.access_count", "open"),
    ("crypto.key.signing_ops", "sign"),
    ("crypto.key.verification_ops", "verify"),
    ("crypto.key.encryption_ops", "encrypt"),
    ("crypto.key.decryption_ops", "decrypt"),
    ("crypto.key.derivation_ops", "derive"),
    ("crypto.tls.handshakes_total", HANDSHAKE),
];
const HANDSHAKE: &str = "handshake";
const DENIED: &str = "crypto.key.denied_total";
const UNAUTHORIZED: &str = "crypto.key.unauthorized_access";

/// How much is known of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Accuracy {
    /// Every use is counted.
    Exact,
    /// What is counted was used; there may be more.
    AtLeast,
    /// Nothing observes it now.
    Unknown,
    /// There is nothing to observe: no private half of it lies anywhere.
    None,
}

/// Why not every use is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Reason {
    /// Where.
    pub host: String,
    /// Why, for people.
    pub reason: String,
}

/// How often, by operation; when first and last, Unix ms.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Count {
    /// By operation, those that were.
    pub uses: BTreeMap<&'static str, u64>,
    /// All of them but handshakes, of which the signature is counted already.
    pub total: u64,
    /// Opens that the system denied.
    pub denied: u64,
    /// Opens that the policy does not allow.
    pub unauthorized: u64,
    /// First use in the range.
    pub first_use: Option<i64>,
    /// Last use in the range.
    pub last_use: Option<i64>,
}

/// One counter, counted.
#[derive(Debug, Clone, Copy)]
pub struct Counter<'a> {
    /// Name.
    pub metric_id: &'a str,
    /// Tags.
    pub tags: &'a Tags,
    /// How much it grew.
    pub total: f64,
    /// When it did first and last, Unix ms.
    pub span: (i64, i64),
    /// How much in each bucket, by number.
    pub buckets: &'a BTreeMap<usize, f64>,
}

/// A program, user and unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Who {
    /// Program.
    pub exe: Option<String>,
    /// User.
    pub user: Option<String>,
    /// systemd unit or container.
    pub unit: Option<String>,
}

/// What one of them did.
#[derive(Debug, Clone, Serialize)]
pub struct Actor {
    /// Who.
    #[serde(flatten)]
    pub who: Who,
    /// Where.
    pub hosts: BTreeSet<String>,
    /// How often.
    pub count: Count,
}

/// A sensor on a host.
#[derive(Debug, Clone, Serialize)]
pub struct Watched {
    /// Which.
    pub sensor: Sensor,
    /// When it began to see the use of this key, Unix ms; `None`: it never did.
    pub observed_since: Option<i64>,
    /// When it saw last.
    pub observed_until: Option<i64>,
    /// For how long it did not see in between, ms.
    pub unobserved_ms: i64,
}

/// A host where it lies or was used.
#[derive(Debug, Clone, Serialize)]
pub struct OnHost {
    /// Name.
    pub host: String,
    /// How much is known there.
    pub observed: Accuracy,
    /// Since when, Unix ms.
    pub observed_since: Option<i64>,
    /// Its sensors.
    pub sensors: Vec<Watched>,
    /// Why not all is known.
    pub reasons: Vec<String>,
    /// How often; `None`: unknown.
    pub count: Option<Count>,
}

/// The use of a key.
#[derive(Debug, Clone)]
pub struct Usage {
    /// How much is known.
    pub observed: Accuracy,
    /// Since when on every host where it lies, Unix ms; `None` where one does not observe, or not any more.
    pub observed_since: Option<i64>,
    /// Why not all is known.
    pub reasons: Vec<Reason>,
    /// All of it; `None`: unknown.
    pub count: Option<Count>,
    /// By host.
    pub hosts: Vec<OnHost>,
    /// By who did it, the most first.
    pub actors: Vec<Actor>,
    /// By operation, `denied` and `unauthorized` too: how many in each bucket.
    pub series: BTreeMap<&'static str, Vec<u64>>,
}

/// The ids by which the uses of `key` are told: its own, and those of its private half in other forms.
#[must_use]
pub fn ids(inventory: &Inventory, tenant: TenantId, key: &KeyRecord) -> BTreeSet<String> {
    let other = |other: &KeyRecord| other.facts.kind.is_private() || other.live().any(|p| other.is_secret_at(p));
    let related = inventory.related(tenant, key).into_iter().filter(other).map(|other| other.facts.id);
    related.chain([key.facts.id.clone()]).collect()
}

/// The metric pattern of everything that is counted of a key.
#[must_use]
pub fn pattern() -> String {
    let names: Vec<&str> = OPERATIONS.iter().map(|(metric, _)| *metric).chain([DENIED, UNAUTHORIZED]).collect();
    format!("{{{}}}", names.join(","))
}

/// Whether a metric counts uses of its own: not what was denied or not allowed, nor handshakes, whose signature counts already.
#[must_use]
pub fn is_use(metric_id: &str) -> bool {
    OPERATIONS.iter().any(|(known, word)| *known == metric_id && *word != HANDSHAKE)
}

/// Hosts where the private half of a key lies, and since when.
#[must_use]
pub fn hosts<'a>(keys: impl IntoIterator<Item = &'a KeyRecord>) -> BTreeMap<String, i64> {
    let mut hosts = BTreeMap::new();
    for key in keys {
        for (host, lies) in lies(key) {
            let since = hosts.entry(host.to_owned()).or_insert(lies);
            *since = (*since).min(lies);
        }
    }
    hosts
}

/// Hosts where what lies of a key is secret, and since when: one for each place.
pub(super) fn lies(key: &KeyRecord) -> impl Iterator<Item = (&str, i64)> {
    let is_secret = |p: &&PlaceRecord| key.is_secret_at(p) && p.place.served.is_none() && p.place.role != Role::Peer;
    key.live().filter(is_secret).map(|p| (p.host.as_str(), p.first_seen_ms))
}

/// What is known of a host.
fn on_host(host: &str, lies_since: Option<i64>, of: Option<&Observed>, (from_ms, now_ms): (i64, i64)) -> OnHost {
    let mut reasons = Vec::new();
    let mut sensors = Vec::new();
    let mut seeing = 0;
    for sensor in Sensor::ALL {
        let sight = of.and_then(|of| of.sights.get(&sensor));
        let word = sensor.as_str();
        let gaps = of.and_then(|of| of.gaps.get(&sensor));
        match sight {
            None => {}
            Some(sight) if sight.sees(now_ms) => {
                seeing += 1;
                if let Some((start, end)) = sight.lapse_within(from_ms.max(lies_since.unwrap_or(i64::MIN))) {
                    reasons.push(format!("the {word} sensor did not see from {} to {}", date(start), date(end)));
                }
            }
            Some(sight) => reasons.push(format!("the {word} sensor has not seen since {}", sight.last_ms().map(date).unwrap_or_default())),
        }
        reasons.extend(gaps.into_iter().flatten().map(|(what, reason)| format!("the {word} sensor cannot see {what}: {reason}")));
        let since = |at: i64| lies_since.map_or(at, |lies| lies.max(at));
        sensors.push(Watched {
            sensor,
            observed_since: sight.and_then(super::observed::Sight::since_ms).map(since),
            observed_until: sight.and_then(super::observed::Sight::last_ms),
            unobserved_ms: sight.map_or(0, super::observed::Sight::lapsed_ms),
        });
        if sight.is_none() && of.is_some_and(|of| !of.sights.is_empty()) {
            reasons.push(format!("the {word} sensor does not see here"));
        }
    }
    let began = sensors.iter().filter_map(|watched| watched.observed_since).min();
    if began.is_none() {
        reasons.insert(0, format!("no sensor observes use on {host}"));
    }
    // What was observed once tells nothing of now.
    let observed_since = began.filter(|_| seeing > 0);
    let observed = match seeing {
        0 => Accuracy::Unknown,
        _ if reasons.is_empty() => Accuracy::Exact,
        _ => Accuracy::AtLeast,
    };
    OnHost { host: host.to_owned(), observed, observed_since, sensors, reasons, count: None }
}

fn date(at_ms: i64) -> String {
    keyvigil_common::clock::utc(at_ms).map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default()
}

impl Usage {
    /// Puts together what was counted from `from_ms` on, in `buckets` buckets, and what is observed at `now_ms`; `lies`: where the
    /// private half lies, and since when.
    #[must_use]
    pub fn of<'a>(
        lies: &BTreeMap<String, i64>,
        observed: &BTreeMap<String, Observed>,
        counters: impl IntoIterator<Item = Counter<'a>>,
        buckets: usize,
        (from_ms, now_ms): (i64, i64),
    ) -> Self {
        let mut all = Count::default();
        let (mut by_host, mut by_actor) = (BTreeMap::<String, Count>::new(), BTreeMap::<Who, (BTreeSet<String>, Count)>::new());
        let mut series = BTreeMap::<&'static str, Vec<u64>>::new();
        for counter in counters {
            let tag = |name: &str| counter.tags.get(name).map(str::to_owned);
            let host = tag("host").unwrap_or_default();
            let who = Who { exe: tag("exe"), user: tag("user"), unit: tag("unit") };
            let (hosts, of_actor) = by_actor.entry(who).or_default();
            hosts.insert(host.clone());
            let Some(word) = all.add(&counter) else { continue };
            of_actor.add(&counter);
            by_host.entry(host).or_default().add(&counter);
            let points = series.entry(word).or_insert_with(|| vec![0; buckets]);
            for (at, value) in counter.buckets {
                if let Some(point) = points.get_mut(*at) {
                    *point += whole(*value);
                }
            }
        }
        let mut hosts: Vec<OnHost> = lies.iter().map(|(host, since)| on_host(host, Some(*since), observed.get(host), (from_ms, now_ms))).collect();
        // Where it was used and lies no more.
        let elsewhere: Vec<&String> = by_host.keys().filter(|host| !lies.contains_key(*host)).collect();
        hosts.extend(elsewhere.into_iter().map(|host| on_host(host, None, observed.get(host), (from_ms, now_ms))));
        for host in &mut hosts {
            let known = host.observed < Accuracy::Unknown;
            host.count = by_host.remove(&host.host).or_else(|| known.then(Count::default));
        }
        let mut actors: Vec<Actor> = by_actor.into_iter().map(|(who, (hosts, count))| Actor { who, hosts, count }).collect();
        actors.sort_by_key(|actor| std::cmp::Reverse((actor.count.total, actor.count.denied, actor.count.last_use)));
        let here: Vec<&OnHost> = hosts.iter().filter(|host| lies.contains_key(&host.host)).collect();
        let observed = accuracy(&here);
        let observed_since = here.iter().map(|host| host.observed_since).collect::<Option<Vec<i64>>>().and_then(|all| all.into_iter().max());
        let told = |host: &&OnHost| host.reasons.iter().map(|reason| Reason { host: host.host.clone(), reason: reason.clone() }).collect::<Vec<_>>();
        let reasons = here.iter().flat_map(told).collect();
        let is_known = all != Count::default() || observed < Accuracy::Unknown;
        Self { observed, observed_since, reasons, count: is_known.then_some(all), hosts, actors, series }
    }
}

/// Of all hosts where it lies.
fn accuracy(here: &[&OnHost]) -> Accuracy {
    match (here.iter().map(|host| host.observed).min(), here.iter().map(|host| host.observed).max()) {
        (Some(best), Some(worst)) if best == worst => best,
        (Some(Accuracy::Exact | Accuracy::AtLeast), _) => Accuracy::AtLeast,
        (Some(best), _) => best,
        (None, _) => Accuracy::None,
    }
}

fn whole(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

impl Count {
    /// Adds a counter; the word of what it counts.
    fn add(&mut self, counter: &Counter<'_>) -> Option<&'static str> {
        let total = whole(counter.total);
        let word = match counter.metric_id {
            DENIED => {
                self.denied += total;
                return Some("denied");
            }
            UNAUTHORIZED => {
                self.unauthorized += total;
                return Some("unauthorized");
            }
            metric => OPERATIONS.iter().find(|(known, _)| *known == metric)?.1,
        };
        *self.uses.entry(word).or_default() += total;
        // Its signature or decryption is counted by itself.
        self.total += if word == HANDSHAKE { 0 } else { total };
        self.first_use = self.first_use.into_iter().chain([counter.span.0]).min();
        self.last_use = self.last_use.max(Some(counter.span.1));
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn seen(sensors: &[Sensor], to: i64) -> Observed {
        let mut observed = Observed::default();
        sensors.iter().for_each(|sensor| observed.saw(*sensor, (0, to), 10_000));
        observed
    }

    fn usage(hosts: &[(&str, Option<Observed>)], counted: &[(&str, &str, &str, f64)]) -> Usage {
        let lies = hosts.iter().map(|(host, _)| ((*host).to_owned(), 0)).collect();
        let observed = hosts.iter().filter_map(|(host, observed)| Some(((*host).to_owned(), observed.clone()?))).collect();
        let tags: Vec<Tags> = counted.iter().map(|(_, host, exe, _)| Tags::new([("host", *host), ("exe", exe), ("user", "root")]).unwrap()).collect();
        let buckets = BTreeMap::from([(1, 2.0)]);
        let counter = |(at, (metric_id, _, _, total)): (usize, &(&'static str, &str, &str, f64))| Counter {
            metric_id,
            tags: &tags[at],
            total: *total,
            span: (5, 9),
            buckets: &buckets,
        };
        let counted: Vec<(&'static str, &str, &str, f64)> = counted
            .iter()
            .map(|(metric, host, exe, total)| (OPERATIONS.iter().map(|o| o.0).chain([DENIED]).find(|known| known == metric).unwrap(), *host, *exe, *total))
            .collect();
        Usage::of(&lies, &observed, counted.iter().enumerate().map(counter), 3, (0, 100 * MINUTE))
    }

    #[test]
    fn what_nobody_observes_is_unknown_and_what_is_observed_and_not_used_is_zero() {
        let none = usage(&[("web", None)], &[]);
        assert_eq!((none.observed, none.count, none.observed_since), (Accuracy::Unknown, None, None));
        assert_eq!(none.reasons[0].reason, "no sensor observes use on web");
        let watched = usage(&[("web", Some(seen(&Sensor::ALL, 99 * MINUTE)))], &[]);
        assert_eq!((watched.observed, watched.count, watched.observed_since), (Accuracy::Exact, Some(Count::default()), Some(0)));
        let mixed = usage(&[("web", Some(seen(&Sensor::ALL, 99 * MINUTE))), ("db", None)], &[]);
        assert_eq!((mixed.observed, mixed.observed_since), (Accuracy::AtLeast, None));
        assert_eq!(mixed.hosts.iter().map(|host| host.count.is_some()).collect::<Vec<_>>(), [false, true], "by name: db, web");
        let stopped = usage(&[("web", Some(seen(&Sensor::ALL, 50 * MINUTE)))], &[]);
        assert_eq!((stopped.observed, stopped.count, stopped.observed_since), (Accuracy::Unknown, None, None), "it was observed, and is not any more");
        assert!(stopped.reasons[0].reason.contains("has not seen since"), "{:?}", stopped.reasons);
        assert_eq!(usage(&[], &[]).observed, Accuracy::None);
    }

    #[test]
    fn half_a_sight_is_at_least_and_says_what_it_cannot_see() {
        let half = usage(&[("web", Some(seen(&[Sensor::Access], 99 * MINUTE)))], &[]);
        assert_eq!((half.observed, half.reasons[0].reason.as_str()), (Accuracy::AtLeast, "the operations sensor does not see here"));
        let mut gaps = seen(&Sensor::ALL, 99 * MINUTE);
        gaps.told(Sensor::Operations, "Go programs", Some("static"));
        let told = usage(&[("web", Some(gaps.clone()))], &[]);
        assert_eq!((told.observed, told.reasons[0].reason.as_str()), (Accuracy::AtLeast, "the operations sensor cannot see Go programs: static"));
        gaps.told(Sensor::Operations, "Go programs", None);
        assert_eq!(usage(&[("web", Some(gaps))], &[]).observed, Accuracy::Exact);
    }

    #[test]
    fn uses_are_added_by_operation_host_and_actor_the_most_first() {
        let counted =
            [("crypto.key.access_count", "web", "/bin/cat", 1.0), ("crypto.key.signing_ops", "web", "/usr/sbin/nginx", 7.0), (DENIED, "db", "/bin/cat", 2.0)];
        let used = usage(&[("web", Some(seen(&Sensor::ALL, 99 * MINUTE)))], &counted);
        let count = used.count.unwrap();
        assert_eq!((count.uses.get("sign"), count.uses.get("open"), count.total, count.denied), (Some(&7), Some(&1), 8, 2));
        assert_eq!((count.first_use, count.last_use), (Some(5), Some(9)));
        assert_eq!(
            used.actors.iter().map(|actor| (actor.who.exe.as_deref().unwrap(), actor.count.total)).collect::<Vec<_>>(),
            [("/usr/sbin/nginx", 7), ("/bin/cat", 1)]
        );
        assert_eq!(used.actors[1].hosts.len(), 2);
        assert_eq!(used.series["sign"], [0, 2, 0]);
        assert_eq!(used.hosts.iter().map(|host| host.host.as_str()).collect::<Vec<_>>(), ["web", "db"], "also where it lies no more");
    }
}
