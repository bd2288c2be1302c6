//! The operations sensor: how often which key was really used, by whom, and which TLS handshakes that were. Counted in the kernel, by
//! probes on cryptographic libraries; a use is told of the key whose file the process loaded, else of `unknown` or `ambiguous`, never of
//! a guess.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::canary::CanaryPath;

use super::access::{Actors, Counts, Delivery, Files, Held, Lane, Link, Numbered, OTHERS, lasting};
use super::known::{Known, Reads};
use super::metric::counter;
use super::{At, Collector, Context, MetricDef, Poke, Sink, Unit};
use crate::probe::message::{Sight, Used};

const SIGNING: &str = "crypto.key.signing_ops";
const VERIFICATION: &str = "crypto.key.verification_ops";
const ENCRYPTION: &str = "crypto.key.encryption_ops";
const DECRYPTION: &str = "crypto.key.decryption_ops";
const DERIVATION: &str = "crypto.key.derivation_ops";
const HANDSHAKES: &str = "crypto.tls.handshakes_total";
const LOST: &str = "crypto.operations.lost_total";
const BLIND: &str = "operations with keys";
/// Uses that wait for a scan of a file that has changed, how long the first of them does, and states of files that are waited for no
/// more. Those behind it wait as well: all are confirmed to the helper in their order.
const WAITING_MAX: usize = 4_096;
const PATIENCE: Duration = Duration::from_secs(5);
const GIVEN_UP_MAX: usize = 1_024;
const UNKNOWN: &str = "unknown";
const AMBIGUOUS: &str = "ambiguous";

pub(super) const METRICS: &[MetricDef] = &[
    counter(SIGNING, Unit::Count, "Signatures made, by key, program, user, unit and algorithm."),
    counter(VERIFICATION, Unit::Count, "Signatures checked; by program, as a public key seldom comes from a file that is known."),
    counter(ENCRYPTION, Unit::Count, "Encryptions to a public key."),
    counter(DECRYPTION, Unit::Count, "Decryptions and decapsulations with a private key."),
    counter(DERIVATION, Unit::Count, "Agreements on a secret with a private key of a file."),
    counter(
        HANDSHAKES,
        Unit::Count,
        "TLS handshakes that ended well, by program, user, unit, version, role and whether resumed; not those that a program leaves to SSL_read or SSL_write.",
    ),
    counter(LOST, Unit::Count, "Operations for which the kernel had no room."),
];

/// Sensor `operations`.
#[derive(Debug)]
pub(super) struct Operations {
    context: Context,
    link: Link,
    known: Option<Arc<Known>>,
    files: Files,
    actors: Actors,
    delivery: Delivery,
    counts: Counts<Row>,
    waiting: VecDeque<Numbered<Used>>,
    /// Since when the first of them waits.
    since: Option<Duration>,
    /// What the helper said that it does not see, or less well.
    gaps: Vec<(String, String)>,
    /// States of files that the latest scan did not see.
    given_up: BTreeSet<(u32, u64)>,
}

/// Metric and tags.
type Row = (&'static str, Vec<(&'static str, String)>);

impl Operations {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            link: context.probe.clone(),
            known: None,
            files: Files::with(context.canary.key(), context.known.own_reads()),
            actors: Actors::new(&context.root),
            delivery: Delivery::new(Lane::Uses),
            counts: Counts::new(context.started_ms),
            waiting: VecDeque::new(),
            since: None,
            gaps: Vec::new(),
            given_up: BTreeSet::new(),
        }
    }

    fn learn(&mut self) {
        let Some(known) = self.context.known.read() else { return };
        if !self.known.as_ref().is_some_and(|before| Arc::ptr_eq(before, &known)) {
            self.link.follow(self.files.update(&known, &self.context.root));
            self.known = Some(known);
            self.given_up.clear();
        }
    }

    /// Takes what came, up to a use of a file in a state that the next scan may know.
    fn take_all(&mut self, delivery: &mut Delivery, at: At, sink: &mut Sink) {
        if self.known.is_none() {
            // Nothing can be said of them yet: they wait in the helper.
            return;
        }
        self.waiting.extend(self.link.take_uses());
        while let Some((helper, seq, used)) = self.waiting.pop_front() {
            let unseen = self.unseen(&used);
            if !unseen.is_empty() {
                let since = *self.since.get_or_insert(at.monotonic);
                if at.monotonic.saturating_sub(since) < PATIENCE && self.waiting.len() < WAITING_MAX {
                    self.waiting.push_front((helper, seq, used));
                    return;
                }
                if self.given_up.len() < GIVEN_UP_MAX {
                    self.given_up.extend(unseen);
                }
            }
            self.since = None;
            if delivery.takes(helper, seq) {
                delivery.tell(used.count, sink, |sink| {
                    self.take(&used, at, sink);
                    Ok(())
                });
            }
        }
    }

    /// States of its files that no scan has seen and that are still waited for.
    fn unseen(&mut self, used: &Used) -> Vec<(u32, u64)> {
        let is_unseen = |files: &mut Files, (file, generation): (u32, u64)| {
            generation != 0 && files.get(file).is_some_and(|file| !file.keys.is_empty()) && files.held(file, generation, used.who.started_ns) == Held::Unseen
        };
        states(used).filter(|state| !self.given_up.contains(state) && is_unseen(&mut self.files, *state)).collect()
    }

    fn take(&mut self, used: &Used, at: At, sink: &mut Sink) {
        if used.files.iter().filter_map(|file| self.files.get(*file)).any(|file| self.context.canary.is_its(&file.path)) {
            let signed = used.operation == "sign" && !used.is_ambiguous;
            let saw = signed.then(|| self.context.canary.saw(CanaryPath::Operations, used.who.pid, at.wall_ms)).flatten();
            saw.into_iter().for_each(|event| sink.event(event));
            return;
        }
        let Some(metric) = metric(&used.operation) else { return };
        let actor = self.actors.of(&used.who);
        let exe = actor.exe.unwrap_or_else(|| used.who.comm.clone());
        let mut tags = vec![("exe", exe), ("user", self.actors.user(used.who.uid)), ("unit", actor.unit.as_deref().map(lasting).unwrap_or_default())];
        if metric == HANDSHAKES {
            tags.push(("version", used.algorithm.clone()));
            tags.push(("role", if used.is_server { "server" } else { "client" }.to_owned()));
            tags.push(("resumed", used.is_resumed.to_string()));
        } else {
            tags.push(("key", self.key(used)));
            tags.push(("algorithm", used.algorithm.clone()));
        }
        tags.retain(|(_, value)| !value.is_empty());
        let mut row = (metric, tags);
        let key = key_of(&row).map(str::to_owned);
        if !self.counts.takes(&row, |(other, _)| *other == metric, |other| key_of(other) == key.as_deref()) {
            row.1.retain(|(name, _)| matches!(*name, "key" | "version" | "resumed"));
            row.1.push(("exe", OTHERS.to_owned()));
        }
        self.counts.add(row, used.count);
    }

    /// The key that was used, as far as that is certain: of several that may be meant the one whose algorithm fits, if it is one.
    fn key(&mut self, used: &Used) -> String {
        if used.is_ambiguous {
            return AMBIGUOUS.to_owned();
        }
        let mut keys = Vec::new();
        for (file, generation) in states(used) {
            match self.files.held(file, generation, used.who.started_ns) {
                Held::Keys(held) => keys.extend(held),
                Held::Ambiguous => return AMBIGUOUS.to_owned(),
                // It may have been any: also where another file is known.
                Held::Unseen => return UNKNOWN.to_owned(),
            }
        }
        let mut ids: Vec<&str> = keys.iter().filter(|key| fits(&key.algorithm, &used.algorithm)).map(|key| key.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        match ids[..] {
            [] => UNKNOWN.to_owned(),
            [one] => one.to_owned(),
            _ => AMBIGUOUS.to_owned(),
        }
    }
}

/// The key that a row is of.
fn key_of((_, tags): &Row) -> Option<&str> {
    tags.iter().find(|(name, _)| *name == "key").map(|(_, key)| key.as_str())
}

/// Files that the key may have come from, and in which state each was.
fn states(used: &Used) -> impl Iterator<Item = (u32, u64)> {
    used.files.iter().enumerate().map(|(at, file)| (*file, used.generations.get(at).copied().unwrap_or_default()))
}

/// Whether a key of a file may be what the library calls by that name.
fn fits(of_file: &str, of_library: &str) -> bool {
    match of_library {
        "RSA" | "RSA-PSS" => of_file.starts_with("rsa"),
        "EC" => matches!(of_file, "ec" | "ecdsa"),
        "SM2" => matches!(of_file, "ec" | "sm2"),
        "DSA" => of_file == "dsa",
        "DH" => of_file == "dh",
        "Ed25519" | "Ed448" | "X25519" | "X448" => of_file.eq_ignore_ascii_case(of_library),
        _ => true,
    }
}

fn metric(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "sign" => SIGNING,
        "verify" => VERIFICATION,
        "encrypt" => ENCRYPTION,
        "decrypt" => DECRYPTION,
        "derive" => DERIVATION,
        "handshake" => HANDSHAKES,
        _ => return None,
    })
}

impl Collector for Operations {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        self.learn();
        let standing = self.link.standing();
        match &standing.sight {
            Err(why) => {
                sink.absent(BLIND, why);
                // What the helper did not see it does not see again because it is gone.
                self.gaps.iter().for_each(|(what, why)| sink.absent(what, why));
            }
            Ok(sights) => {
                let seen_less = sights.iter().filter(|sight| !sight.what.starts_with("opens") && sight.accuracy != "exact");
                self.gaps = seen_less.map(|sight| (format!("{BLIND}: {}", sight.what), sight.reason.clone())).collect();
                self.gaps.iter().for_each(|(what, why)| sink.absent(what, why));
                if self.known.is_some() && sights.iter().any(|sight| sight.what == "operations" && sight.accuracy != "none") {
                    self.context.canary.expect(CanaryPath::Operations);
                }
            }
        }
        self.counts.tell_crowd(at.wall_ms, sink);
        self.delivery.follow(&standing, standing.lost.1, "operations with keys", at.wall_ms, sink);
        let mut delivery = std::mem::replace(&mut self.delivery, Delivery::new(Lane::Uses));
        self.take_all(&mut delivery, at, sink);
        self.delivery = delivery;
        self.delivery.own_up("operations with keys", at.wall_ms, sink);
        self.delivery.remember(&self.link, sink);
        let sees = |sights: &Vec<Sight>| sights.iter().any(|sight| sight.what == "operations" && sight.accuracy != "none");
        if !standing.sight.as_ref().is_ok_and(sees) || self.context.canary.blind(CanaryPath::Operations).is_some() {
            return;
        }
        let started = Some(self.context.started_ms);
        self.counts.tell(at.wall_ms, |(metric, tags), count, started_ms| {
            let tags: Vec<(&str, &str)> = tags.iter().map(|(name, value)| (*name, value.as_str())).collect();
            sink.counter(metric, &tags, count, Some(started_ms));
        });
        sink.counter(LOST, &[], self.delivery.lost() as f64, started);
    }

    fn restore(&mut self, remembered: Vec<(String, Vec<u8>)>) {
        self.delivery.restore(&remembered, &self.link);
    }

    fn on_change(&mut self, poke: Poke) {
        self.context.canary.on_change(poke.clone(), false);
        self.context.known.on_change(Reads::Operations, poke.clone());
        self.link.start(poke, Lane::Uses);
    }
}
