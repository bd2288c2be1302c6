//! The sensor of served certificates: what each listening TLS port of this host really serves, whose process it is, and whether the
//! file on disk was renewed and not reloaded. Asks nobody but the host itself, as seldom as it can: one connection to a port for
//! each name under which it serves another certificate; a port without TLS once a day. The parts: `listeners` and `owners` find
//! ports, `probe` asks (`wire`, `starttls`, `handshake`), `ports` keeps what is known, `chain` and `compare` judge, `report` and
//! `metrics` tell, `memory` remembers over a restart. Called by the sampler, on its timer and when a certificate on disk changes.

mod chain;
mod compare;
mod config;
mod handshake;
mod listeners;
mod memory;
mod metrics;
mod names;
mod owners;
mod ports;
mod probe;
mod report;
mod starttls;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::limits::{SERVED_NAMES_AGREED_MAX, SERVED_PORTS_MAX};

use self::compare::View;
use self::config::Left;
pub use self::config::ServedConfig;
use self::handshake::Outcome;
use self::listeners::Listener;
pub(super) use self::metrics::METRICS;
use self::metrics::Totals;
use self::owners::Owners;
use self::ports::Port;
use self::probe::{Answer, Question};
use self::report::{GRACE, Server, Spot};
use super::known::{Known, KnownKeys, Reads};
use super::{At, Collector, Context, Poke, Sink};
use crate::rootfs::RootFs;

/// What may be unknown of ports though all certificates that they serve are seen.
pub(crate) const DOUBTS: [&str; 2] = ["the processes behind some listening ports", "whether some listening ports speak TLS"];
/// How long all ports together may take: first what they serve to anyone, then what they serve by name. Together with the patience
/// with one port less than the sensor's deadline.
const ANYONE: Duration = Duration::from_secs(22);
const BY_NAME: Duration = Duration::from_secs(34);

/// Ports that are named of which nobody knows what they speak.
const DOUBTS_MAX: usize = 5;
/// How soon it looks again while something is stale: whoever reloads a server wants to see that it helped.
const STALE_AGAIN: Duration = Duration::from_secs(60);
/// How long the sensor waits for the first word of what lies on this host, before it tells what is served without that.
const FIRST_WORD: Duration = Duration::from_secs(55);

/// Sensor `served`.
#[derive(Debug)]
pub(super) struct Served {
    root: RootFs,
    config: ServedConfig,
    left: Vec<Left>,
    known: KnownKeys,
    started_ms: i64,
    /// When it first looked (monotonic).
    begun: Option<Duration>,
    ports: BTreeMap<SocketAddr, Port>,
    owners: Owners,
    totals: Totals,
    /// For how long others take to answer.
    clock: SharedClock,
    poke: Option<Poke>,
    /// It will be woken already, to be sure of something or to see that something is over.
    waking: [Arc<AtomicBool>; 2],
}

impl Collector for Served {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        let begun = self.clock.monotonic();
        let listeners = match listeners::listeners(&self.root) {
            Ok(listeners) => self.watched(listeners, sink),
            Err(e) => return sink.absent("crypto.served", e),
        };
        let known = self.known.read();
        let gone = self.lost(&listeners, at, sink);
        self.ask(self.anyone(&listeners, at), begun + ANYONE, known.as_deref(), at, sink);
        let names = names::names(&self.config.names, known.as_deref().unwrap_or(&Known::default()));
        let by_name = self.by_name(&listeners, &names, at);
        self.ask(by_name, begun + BY_NAME, known.as_deref(), at, sink);
        let waits = self.tell(&listeners, known.as_deref(), at, sink);
        if waits || self.ports.values().any(|port| port.missing.is_some()) {
            self.wake_in(GRACE, &self.waking[0]);
        }
        if self.ports.values().flat_map(|port| port.services.values()).any(|service| service.stale.is_some()) {
            self.wake_in(STALE_AGAIN, &self.waking[1]);
        }
        self.totals.write(self.started_ms, sink);
        metrics::write(&self.ports, sink);
        memory::remember(&mut self.ports, &gone, sink);
    }

    fn restore(&mut self, remembered: Vec<(String, Vec<u8>)>) {
        memory::restore(remembered, &mut self.ports);
    }

    fn on_change(&mut self, poke: Poke) {
        self.known.on_change(Reads::Served, poke.clone());
        self.poke = Some(poke);
    }
}

/// Listening sockets with who holds them.
type Watched = BTreeMap<SocketAddr, (Listener, Server)>;

impl Served {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            root: context.root.clone(),
            left: context.served.left(),
            config: context.served.clone(),
            known: context.known.clone(),
            started_ms: context.started_ms,
            begun: None,
            ports: BTreeMap::new(),
            owners: Owners::default(),
            totals: Totals::default(),
            clock: SystemClock::shared(),
            poke: None,
            waking: Default::default(),
        }
    }

    /// The listeners that are not left out, with their owners.
    fn watched(&mut self, mut listeners: BTreeMap<SocketAddr, Listener>, sink: &mut Sink) -> Watched {
        listeners.retain(|address, _| !self.left.iter().any(|left| left.holds(*address)));
        if listeners.len() > SERVED_PORTS_MAX {
            sink.absent("some listening ports", format_args!("there are {}; only {SERVED_PORTS_MAX} are looked at", listeners.len()));
            listeners = listeners.into_iter().take(SERVED_PORTS_MAX).collect();
        }
        let inodes: BTreeSet<u64> = listeners.values().flat_map(|listener| &listener.inodes).copied().collect();
        if self.owners.look(&self.root, &inodes) {
            sink.absent(DOUBTS[0], owners::BLIND);
        }
        let with_server = listeners.into_iter().map(|(address, listener)| {
            let owner = self.owners.of(&listener.inodes).cloned();
            let (pid, exe, unit) = owner.map_or((None, None, None), |owner| (Some(owner.pid), owner.exe, owner.unit));
            let server = Server { pid, exe, uid: Some(listener.uid), user: owners::user(&self.root, listener.uid), unit };
            (address, (listener, server))
        });
        let is_left = |server: &Server| server.exe.as_ref().is_some_and(|exe| self.left.iter().any(|left| left.holds_program(exe)));
        with_server.filter(|(_, (_, server))| !is_left(server)).collect()
    }

    /// Tells of ports on which nobody listens any more; which they are.
    fn lost(&mut self, listeners: &Watched, at: At, sink: &mut Sink) -> Vec<SocketAddr> {
        for (address, (listener, server)) in listeners {
            self.ports.entry(*address).or_default().held_by(&listener.inodes, server.exe.as_deref(), at.monotonic);
        }
        let mut gone = Vec::new();
        for (address, port) in self.ports.iter_mut().filter(|(address, _)| !listeners.contains_key(address)) {
            // A server that is restarted is away for a moment.
            let since = *port.missing.get_or_insert(at.monotonic);
            if at.monotonic.saturating_sub(since) >= GRACE || port.services.is_empty() {
                report::tell_gone(port, *address, sink);
                gone.push(*address);
            }
        }
        gone.iter().for_each(|address| drop(self.ports.remove(address)));
        gone
    }

    /// What is asked of all ports that may speak TLS.
    fn anyone(&self, listeners: &Watched, at: At) -> Vec<Question> {
        let due = self.ports.iter().filter(|(_, port)| port.missing.is_none() && port.is_due(at.wall_ms));
        let mut due: Vec<(&SocketAddr, &Port)> = due.collect();
        // What is known to speak TLS first: the others may take their time.
        due.sort_by_key(|(_, port)| port.services.is_empty());
        due.into_iter().filter_map(|(address, port)| Some(question(*address, port, None, &listeners.get(address)?.1))).collect()
    }

    /// What is asked of ports that speak TLS, name by name.
    fn by_name(&mut self, listeners: &Watched, names: &[String], at: At) -> Vec<Question> {
        let mut questions = Vec::new();
        for (address, port) in self.ports.iter_mut().filter(|(_, port)| port.missing.is_none() && port.plain.is_none()) {
            // One that does not answer is not asked once more for each name.
            let answers = port.way.start.is_some() && (port.trouble.is_none() || port.refuses);
            let Some((_, server)) = listeners.get(address).filter(|_| answers) else { continue };
            for name in port.names(names, SERVED_NAMES_AGREED_MAX, at.monotonic) {
                questions.push(question(*address, port, Some(name), server));
            }
        }
        questions
    }

    fn ask(&mut self, questions: Vec<Question>, end: Duration, known: Option<&Known>, at: At, sink: &mut Sink) {
        let (mut answers, left) = probe::ask_all(questions, &self.clock, end);
        // In one order whoever answered first, and what is known before what is new: of names for one certificate the first stays.
        let is_new = |question: &Question| {
            let (port, name) = (self.ports.get(&question.address), question.name.as_deref().unwrap_or_default());
            port.is_none_or(|port| !port.services.contains_key(name))
        };
        answers.sort_by_cached_key(|Answer { question, .. }| (question.address, is_new(question), question.name.clone()));
        // Those that have a name come again by themselves.
        let unasked = left.iter().filter(|question| question.name.is_none()).count();
        if unasked > 0 {
            sink.absent("some listening ports", format_args!("{unasked} could not be asked in time, others take long; they come with the next look"));
        }
        for answer in answers {
            self.totals.connections += u64::from(answer.connections);
            self.take(answer, known, at);
        }
    }

    /// Takes in what a port answered.
    fn take(&mut self, answer: Answer, known: Option<&Known>, at: At) {
        let Answer { question, way, outcome, .. } = answer;
        let Some(port) = self.ports.get_mut(&question.address) else { return };
        let name = question.name.as_deref().unwrap_or_default();
        let (reason, why, speaks, is_plain) = match outcome {
            Ok(Outcome::Shown(shown)) => match chain::seen(&shown, &ports::path(question.address, name), known, at.wall_ms) {
                Ok(seen) => {
                    port.way = way;
                    return port.shows(name, seen, at.monotonic);
                }
                Err(why) => ("corrupt", format!("its certificate cannot be read: {why}"), true, None),
            },
            Ok(Outcome::Refused(why)) => ("refused", format!("refuses: {why}"), true, None),
            Ok(Outcome::NotTls(why)) => ("not_tls", why, true, Some(true)),
            Ok(Outcome::Silent(why)) => ("silent", why, false, Some(false)),
            Err(why) => ("unreachable", why, false, None),
        };
        if reason == "refused" && name.is_empty() {
            (port.way, port.refuses) = (way, true);
        }
        // That a name is not known there, or that a port speaks no TLS, is no error.
        let was_tls = port.services.contains_key(name);
        port.shows_nothing(name, why, speaks, is_plain, at);
        if was_tls || reason == "corrupt" || reason == "refused" && name.is_empty() {
            self.totals.error(reason);
        }
    }

    /// Compares with the files, and tells; whether something waits to be sure.
    fn tell(&mut self, listeners: &Watched, known: Option<&Known>, at: At, sink: &mut Sink) -> bool {
        let target = |path: &std::path::Path| {
            let real = std::fs::canonicalize(self.root.path(path));
            real.map_or_else(|_| path.to_owned(), |real| self.root.as_seen(&real))
        };
        let view = known.map(|known| View::new(known, &target));
        let mut waits = false;
        // Nothing is said to come from no file before it is known which there are.
        if at.monotonic.saturating_sub(*self.begun.get_or_insert(at.monotonic)) < FIRST_WORD && view.is_none() {
            return false;
        }
        for (address, port) in &mut self.ports {
            let Some((_, server)) = listeners.get(address) else { continue };
            for (name, service) in &mut port.services {
                let spot = Spot { address: *address, name, server };
                if service.is_over() {
                    report::resolved(service, spot, sink, "it serves another certificate there");
                } else if let Some(view) = &view {
                    let source = view.source(&service.facts, server.exe.as_deref(), &mut service.paths);
                    waits |= report::judge(service, source, spot, at, sink);
                }
                report::tell(service, spot, at, sink);
            }
            port.services.retain(|_, service| !service.is_over());
            let is_tls = port.is_tls();
            if let Some(why) = port.trouble.as_ref().filter(|_| is_tls) {
                sink.absent(ports::path(*address, ""), why);
            }
        }
        self.tell_doubts(sink);
        waits
    }

    /// Tells of which ports nobody knows whether they speak TLS.
    fn tell_doubts(&self, sink: &mut Sink) {
        let there = self.ports.iter().filter(|(_, port)| port.missing.is_none());
        let doubts: Vec<String> = there.filter_map(|(address, port)| Some(format!("{address} {}", port.doubt()?))).collect();
        if !doubts.is_empty() {
            let some = doubts.iter().take(DOUBTS_MAX).cloned().collect::<Vec<_>>().join("; ");
            let more = if doubts.len() > DOUBTS_MAX { "; ..." } else { "" };
            sink.absent(
                DOUBTS[1],
                format_args!("{} said nothing that tells: {some}{more}; leave out what is meant to be so in [served] exclude", doubts.len()),
            );
        }
    }

    /// Has the sensor called after a while.
    fn wake_in(&self, wait: Duration, waking: &Arc<AtomicBool>) {
        let Some(poke) = self.poke.clone().filter(|_| !waking.swap(true, Ordering::AcqRel)) else { return };
        let woken = Arc::clone(waking);
        let wake = move || {
            // Whether it wakes too early does not matter: what waits then waits on.
            std::thread::park_timeout(wait);
            woken.store(false, Ordering::Release);
            poke.poke();
        };
        if std::thread::Builder::new().name("served-wake".into()).stack_size(64 << 10).spawn(wake).is_err() {
            waking.store(false, Ordering::Release);
        }
    }
}

fn question(address: SocketAddr, port: &Port, name: Option<String>, server: &Server) -> Question {
    let guess = probe::guess(address.port(), server.exe.as_deref(), &server.user);
    let steady = name.is_some() || port.refuses;
    Question { address, doors: listeners::doors(address), name, way: port.way, guess, steady }
}
