//! Asks one port once what it serves: listens whether it speaks first, begins TLS in its way, and hears its certificate. What is
//! learnt of a port shortens the next time: then one connection does. Called by the sensor, several ports beside each other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use serde::{Deserialize, Serialize};

use super::handshake::{self, Outcome};
use super::starttls;
use super::wire::{Hush, Wire};
use crate::parse::greeting::{Dialect, Greeting, greeting};
use crate::parse::tls::Keys;

/// How long a port may take in all, whatever it is told.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a port that nothing is known of may take to answer. Servers on the same host take milliseconds.
const FIRST: Duration = Duration::from_millis(2_500);
/// How long a port is given to speak first.
const GREETING: Duration = Duration::from_millis(400);
/// The same where one that speaks first is likely: mail servers let strangers wait.
const SLOW_GREETING: Duration = Duration::from_secs(6);
const SPEAK_FIRST: [u16; 12] = [21, 25, 110, 119, 143, 433, 587, 2525, 3306, 3307, 4190, 10025];
/// Connections to one port until it is known how it is asked.
const CONNECTIONS_MAX: u32 = 4;
/// Ports that are asked beside each other.
const ABREAST: usize = 4;

/// Behind a name: the certificate is asked for that is served to those who know RSA only.
pub(super) const RSA: &str = "#rsa";

/// How a port is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Way {
    /// How TLS begins; `None` where that is not known.
    pub(super) start: Option<Start>,
    /// It knows no TLS 1.3.
    pub(super) old: bool,
}

/// How TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Start {
    /// At once.
    Direct,
    /// By agreement.
    Agreed(Dialect),
}

/// What is asked of whom.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// The address that it listens at, by which the answer is found again.
    pub(super) address: SocketAddr,
    pub(super) doors: Vec<SocketAddr>,
    /// Name that is asked for, and perhaps [`RSA`]; none: whatever is served to those who ask for none.
    pub(super) name: Option<String>,
    pub(super) way: Way,
    /// What its owner may speak, by his name.
    pub(super) guess: Option<Dialect>,
    /// A refusal is taken as it is: no other kind of TLS is tried.
    pub(super) steady: bool,
}

impl Question {
    /// The name, and of which keys a certificate is wanted.
    fn wanted(&self) -> (Option<&str>, Keys) {
        match self.name.as_deref().map(|name| name.strip_suffix(RSA).map_or((name, Keys::Any), |name| (name, Keys::Rsa))) {
            None => (None, Keys::Any),
            Some(("", keys)) => (None, keys),
            Some((name, keys)) => (Some(name), keys),
        }
    }
}

/// What came of a question.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) question: Question,
    /// How it is asked next time.
    pub(super) way: Way,
    pub(super) outcome: Result<Outcome, String>,
    pub(super) connections: u32,
}

/// Asks all, until `end` (monotonic); what was not asked by then comes back.
pub(super) fn ask_all(questions: Vec<Question>, clock: &SharedClock, end: Duration) -> (Vec<Answer>, Vec<Question>) {
    let threads = ABREAST.min(questions.len());
    let (todo, done) = (Mutex::new(VecDeque::from(questions)), Mutex::new(Vec::new()));
    let work = || {
        while clock.monotonic() < end {
            let next = lock(&todo).pop_front();
            let Some(question) = next else { return };
            let answer = ask(question, clock);
            lock(&done).push(answer);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where the host has no thread left, this one does it alone.
            let _ = std::thread::Builder::new().name("served".into()).stack_size(512 << 10).spawn_scoped(scope, work);
        }
        work();
    });
    (done.into_inner().unwrap_or_else(PoisonError::into_inner), todo.into_inner().unwrap_or_else(PoisonError::into_inner).into())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask(question: Question, clock: &SharedClock) -> Answer {
    let mut asked = Asked { question: &question, clock, way: question.way, refused: None, guessed: false, connections: 0, end: clock.monotonic() + PATIENCE };
    let outcome = asked.until_told();
    let Asked { way, connections, .. } = asked;
    Answer { way, outcome, connections, question }
}

/// One port while it is asked.
struct Asked<'a> {
    question: &'a Question,
    clock: &'a SharedClock,
    way: Way,
    /// Why it refused the other kind of TLS.
    refused: Option<String>,
    /// The owner's name was followed.
    guessed: bool,
    connections: u32,
    /// When it is given up (monotonic).
    end: Duration,
}

impl Asked<'_> {
    fn until_told(&mut self) -> Result<Outcome, String> {
        loop {
            let mut wire = self.connect()?;
            let last = self.connections >= CONNECTIONS_MAX;
            if let Err(why) = self.begin(&mut wire) {
                // It only looked like one that speaks so.
                if self.guessed && self.way.start.is_none() && !last {
                    self.way.start = Some(Start::Direct);
                    continue;
                }
                return Ok(why);
            }
            let (wanted, first) = (self.question.wanted(), if self.question.way.start.is_some() { PATIENCE } else { FIRST });
            let outcome = if self.way.old { handshake::old(&mut wire, wanted, first) } else { handshake::modern(&mut wire, wanted, first) };
            let Outcome::Refused(why) = outcome else { return Ok(outcome) };
            if self.refused.is_none() && !last && !self.question.steady {
                self.refused = Some(why);
                self.way.old = !self.way.old;
                continue;
            }
            // What hangs up whatever it is told speaks something else.
            if why == Hush::Closed.words() && self.refused.as_ref() == Some(&why) && self.question.way.start.is_none() {
                return Ok(Outcome::Silent(why));
            }
            let other = self.refused.take().filter(|other| *other != why).map(|other| format!(" (and otherwise {other})")).unwrap_or_default();
            return Ok(Outcome::Refused(format!("{why}{other}")));
        }
    }

    fn connect(&mut self) -> Result<Wire, String> {
        let mut fault = String::from("no address of this host");
        for door in &self.question.doors {
            self.connections += 1;
            let patience = self.end.saturating_sub(self.clock.monotonic()).max(Duration::from_millis(1));
            match Wire::connect(*door, self.clock, patience) {
                Ok(wire) => return Ok(wire),
                Err(e) => fault = e.to_string(),
            }
        }
        Err(fault)
    }

    /// Comes to where the handshake begins.
    fn begin(&mut self, wire: &mut Wire) -> Result<(), Outcome> {
        let name = self.question.wanted().0;
        match self.way.start {
            Some(Start::Direct) => Ok(()),
            Some(Start::Agreed(dialect)) => starttls::begin(wire, dialect, name),
            None => {
                let dialect = match self.question.guess.filter(|_| !self.guessed) {
                    Some(dialect) => {
                        self.guessed = true;
                        Some(dialect)
                    }
                    None => self.greeted(wire)?,
                };
                if let Some(dialect) = dialect {
                    let port = self.question.address.port();
                    if dialect == Dialect::Mysql && !wire_is_loopback(self.question) {
                        let why = format!("speaks mysql, which bars an address that hangs up too often: name port {port} in [served] exclude");
                        return Err(Outcome::Silent(why));
                    }
                    starttls::begin(wire, dialect, name)?;
                }
                self.way.start = Some(dialect.map_or(Start::Direct, Start::Agreed));
                Ok(())
            }
        }
    }

    /// The protocol of a server that speaks first; `None` where it says nothing.
    fn greeted(&self, wire: &mut Wire) -> Result<Option<Dialect>, Outcome> {
        let port = self.question.address.port();
        let mut patience = if SPEAK_FIRST.contains(&port) { SLOW_GREETING } else { GREETING };
        loop {
            match wire.hear(patience) {
                Ok(()) => {}
                Err(Hush::Silence) if wire.inbox.is_empty() => return Ok(None),
                Err(hush) => {
                    let why = format!("{} before anything is asked", hush.words());
                    return Err(if wire.inbox.is_empty() { Outcome::Silent(why) } else { Outcome::NotTls(why) });
                }
            }
            patience = Duration::MAX;
            match greeting(&wire.inbox, port) {
                Greeting::More => {}
                Greeting::Known(dialect) => return Ok(Some(dialect)),
                Greeting::Other(what) => return Err(Outcome::NotTls(what)),
            }
        }
    }
}

/// MySQL counts who hangs up, but for those who come over loopback.
fn wire_is_loopback(question: &Question) -> bool {
    question.doors.iter().all(|door| door.ip().is_loopback())
}

/// What one may speak who waits to be asked, by where he listens and who he is.
pub(super) fn guess(port: u16, exe: Option<&str>, user: &str) -> Option<Dialect> {
    let program = exe.and_then(|exe| exe.rsplit('/').next()).unwrap_or_default();
    let is = |names: &[&str]| names.iter().any(|name| program.starts_with(name));
    let by_user = |name: &str| exe.is_none() && user == name;
    match port {
        5432 | 6432 => Some(Dialect::Postgres),
        389 => Some(Dialect::Ldap),
        5222 | 5269 => Some(Dialect::Xmpp),
        _ if is(&["postgres", "pgbouncer", "pgpool", "odyssey"]) || by_user("postgres") => Some(Dialect::Postgres),
        _ if port != 636 && (is(&["slapd", "ns-slapd"]) || by_user("openldap")) => Some(Dialect::Ldap),
        _ => None,
    }
}
