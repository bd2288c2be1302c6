//! The keyring sensor: keys that the kernel holds (of file systems, Kerberos, network file systems, trusted and encrypted ones,
//! the kernel's own authorities), from `/proc/keys`. That shows each viewer only what it may view, so other users' keys are
//! missing here; how many, `/proc/key-users` tells. Payloads are never read: a key is known by its number, type, owner and description. The kernel tells the rest of
//! a key's life in whole units, so its end is told to within one of them, and anew only when it turns out to be another.

use std::collections::BTreeMap;
use std::time::Duration;

use keyvigil_common::key::{KeyFacts, KeyKind, Place, Sighting};
use keyvigil_common::{hex, sha256};
use serde::{Deserialize, Serialize};

use super::keystore::owner::Owners;
use super::metric::gauge;
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::proc_keys::{self, Expiry, KEYS_MAX, Key};
use crate::rootfs::RootFs;

const FILE: &str = "/proc/keys";
const KEYS: &str = "crypto.keyring.keys";
const HIDDEN: &str = "crypto.keyring.hidden";
const USERS_FILE: &str = "/proc/key-users";
const BLIND: &str = "crypto.keyring";
/// How often all keys are told again, so that an aggregator that lost its state heals.
const RESEND: Duration = Duration::from_secs(6 * 3_600);
/// Under which the keys are remembered over a restart.
const REMEMBERED: &str = "keys";
/// How far a told end may be off in any case, ms: an instant is that of a scrape.
const ACCURACY_MS: i64 = 30_000;

pub(super) const METRICS: &[MetricDef] = &[
    gauge(KEYS, Unit::Count, "Keys in the kernel's keyrings that the agent may view, by type; keyrings themselves left out."),
    gauge(HIDDEN, Unit::Count, "Keys and keyrings of the host's users that the agent may not view, and so says nothing of."),
];

/// Sensor `keyring`.
#[derive(Debug)]
pub(super) struct Keyring {
    root: RootFs,
    keys: BTreeMap<String, Held>,
    /// When all keys were last told (monotonic).
    resent: Option<Duration>,
}

/// A key as it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    facts: KeyFacts,
    place: Place,
    /// Between which instants it ends, Unix ms, as far as all looks together tell.
    window: Option<(i64, i64)>,
}

impl Keyring {
    pub(super) fn new(context: &Context) -> Self {
        Self { root: context.root.clone(), keys: BTreeMap::new(), resent: None }
    }

    fn look(&mut self, text: &str, at: At, sink: &mut Sink) {
        let listing = proc_keys::keys(text);
        if listing.strange > 0 {
            sink.absent(BLIND, format_args!("{FILE}: {} lines in a form that is not known", listing.strange));
        }
        if listing.more {
            sink.absent(BLIND, format_args!("{FILE}: more than {KEYS_MAX} keys; the others are left out"));
        }
        let resend = self.resent.is_none_or(|resent| at.monotonic.saturating_sub(resent) >= RESEND);
        let mut owners = Owners::new(&self.root);
        let mut before = std::mem::take(&mut self.keys);
        let mut changed = false;
        let mut types: BTreeMap<&str, u32> = BTreeMap::new();
        for key in &listing.keys {
            let known = before.remove(&key.serial);
            let held = held(key, known.as_ref(), at.wall_ms, &mut owners);
            let is_new = known.as_ref().is_none_or(|known| (&known.facts, &known.place) != (&held.facts, &held.place));
            if is_new || resend {
                tell(sink, &held, false);
            }
            changed |= is_new;
            *types.entry(key.kind.as_str()).or_default() += 1;
            self.keys.insert(key.serial.clone(), held);
        }
        for (serial, held) in before {
            // Behind the last of what was read nobody looked.
            if listing.more || listing.strange > 0 {
                self.keys.insert(serial, held);
                continue;
            }
            tell(sink, &held, true);
            changed = true;
        }
        if resend {
            self.resent = Some(at.monotonic);
        }
        if changed {
            sink.remember(REMEMBERED, serde_json::to_vec(&self.keys).ok());
        }
        for (kind, count) in types {
            sink.gauge(KEYS, &[("type", kind)], f64::from(count));
        }
        if let Some(users) = sink.read(&self.root, USERS_FILE, HIDDEN) {
            sink.gauge(HIDDEN, &[], proc_keys::held_by_users(&users).saturating_sub(listing.all) as f64);
        }
    }
}

impl Collector for Keyring {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        match self.root.read(FILE) {
            Ok(text) => self.look(&text, at, sink),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => sink.absent(BLIND, format_args!("{FILE} is missing: this kernel or container shows no keys")),
            Err(e) => sink.absent(BLIND, format_args!("{FILE}: {e}")),
        }
    }

    fn restore(&mut self, remembered: Vec<(String, Vec<u8>)>) {
        for (_, value) in remembered.into_iter().filter(|(key, _)| key == REMEMBERED) {
            match serde_json::from_slice::<BTreeMap<String, Held>>(&value) {
                // Those that are gone by now are told to be at the next look.
                Ok(keys) => {
                    for (serial, held) in keys {
                        self.keys.entry(serial).or_insert(held);
                    }
                }
                Err(e) => tracing::warn!(fault = %e, "what was remembered of the kernel's keys does not parse"),
            }
        }
    }
}

fn tell(sink: &mut Sink, held: &Held, gone: bool) {
    sink.sighting(Sighting { facts: held.facts.clone(), place: held.place.clone(), at_ms: sink.at_ms(), gone, replaces: None });
}

/// A key as it is told now, `known` being how it was told last.
fn held(key: &Key, known: Option<&Held>, now_ms: i64, owners: &mut Owners<'_>) -> Held {
    // An authority is the same on every host that trusts it; of other keys only the number is their own.
    let own = if key.kind == "asymmetric" { "" } else { &key.serial };
    let id = hex(&sha256(format!("kernel key\0{}\0{own}\0{}\0{}", key.kind, key.uid, key.description).as_bytes()));
    let mut facts = KeyFacts::bare(KeyKind::KernelKey, id.clone(), id, key.kind.clone());
    facts.subject = Some(key.description.clone());
    facts.usage = proc_keys::permissions(key.permissions);
    let known_end = known.and_then(|known| known.facts.not_after_ms);
    let window;
    (facts.not_after_ms, window) = end(key.expiry, known_end, known.and_then(|known| known.window), now_ms);
    if let Some(why) = key.dead {
        // Since when, nothing tells: since it was seen.
        facts.revoked_ms = known.and_then(|known| known.facts.revoked_ms).or(Some(now_ms));
        facts.revocation = Some(format!("the kernel: {why}"));
    }
    facts.clamp();
    let mut place = Place::at(format!("keyring:{}", key.serial));
    place.owner = Some(owners.user(key.uid));
    place.group = key.gid.map(|gid| owners.group(gid));
    place.format = Some("keyring".into());
    place.entry = Some(key.description.clone());
    place.bound();
    Held { facts, place, window }
}

/// The end that is told, Unix ms, and between which instants it is.
fn end(expiry: Expiry, told: Option<i64>, before: Option<(i64, i64)>, now_ms: i64) -> (Option<i64>, Option<(i64, i64)>) {
    let (seconds, unit) = match expiry {
        Expiry::Never => return (None, None),
        Expiry::Past => return (Some(told.unwrap_or(now_ms).min(now_ms)), None),
        Expiry::In { seconds, unit } => (seconds, unit),
    };
    let ms = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
    let seen = (now_ms.saturating_add(ms(seconds)), now_ms.saturating_add(ms(seconds.saturating_add(unit))));
    let both = before.map(|before| (before.0.max(seen.0), before.1.min(seen.1))).filter(|(from, to)| from <= to);
    // Nothing in common: it was given another life.
    let window = both.unwrap_or(seen);
    let accuracy = ms(unit).max(ACCURACY_MS);
    let told = told.filter(|told| told.abs_diff(window.1) <= accuracy.unsigned_abs());
    (Some(told.unwrap_or(window.1)), Some(window))
}

#[cfg(test)]
mod tests;
