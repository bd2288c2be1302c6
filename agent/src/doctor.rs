//! `keyvigil-agent doctor`: looks at everything that delivery needs, from the state directory to the aggregator's answer, and
//! says of each whether it is well, and what mends it. Changes nothing.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::process::say;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::telemetry::chain;
use serde::Serialize;

use crate::config::Config;
use crate::control::{self, AskError, Report};
use crate::http::{Connection, Dialer, HttpError};
use crate::identity::{Identity, JOIN};
use crate::sampler::Coverage;
use crate::status::span;

const LOOKUP: Duration = Duration::from_secs(5);
/// Clocks that differ by more are worth a word, ms.
const OFFSET_MS: i64 = 5_000;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    outcome: Outcome,
    words: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

#[derive(Debug, Default)]
struct Findings(Vec<Check>);

impl Findings {
    fn ok(&mut self, name: &'static str, words: impl Into<String>) {
        self.0.push(Check { name, outcome: Outcome::Ok, words: words.into(), remedy: String::new() });
    }

    fn warn(&mut self, name: &'static str, words: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Check { name, outcome: Outcome::Warn, words: words.into(), remedy: remedy.into() });
    }

    fn fail(&mut self, name: &'static str, words: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Check { name, outcome: Outcome::Fail, words: words.into(), remedy: remedy.into() });
    }
}

/// Runs all checks; 3 if one failed.
pub async fn run(config: &Config, clock: &SharedClock, json: bool) -> ExitCode {
    let mut found = Findings::default();
    state_dir(&config.state_dir, &mut found);
    disk(&config.state_dir, &mut found);
    let identity = identity(&config.state_dir, clock, &mut found);
    agent(&config.state_dir, &mut found);
    if let Some(identity) = identity {
        network(&identity, clock, &mut found).await;
    }
    for check in &found.0 {
        if json {
            continue;
        }
        let mark = match check.outcome {
            Outcome::Ok => "ok  ",
            Outcome::Warn => "warn",
            Outcome::Fail => "FAIL",
        };
        say(&format!("{mark}  {:<12} {}", check.name, check.words));
        if !check.remedy.is_empty() {
            say(&format!("{:<18} -> {}", "", check.remedy));
        }
    }
    if json {
        say(&serde_json::to_string_pretty(&found.0).unwrap_or_default());
    }
    if found.0.iter().any(|check| check.outcome == Outcome::Fail) { ExitCode::from(3) } else { ExitCode::SUCCESS }
}

fn state_dir(dir: &Path, found: &mut Findings) {
    // A name that nobody can have prepared: a link would be followed.
    let probe = dir.join(format!("doctor.{}", keyvigil_common::hex(&keyvigil_common::random::<6>())));
    let written = std::fs::File::create_new(&probe).and_then(|mut file| file.write_all(b"x").and_then(|()| file.sync_all()));
    let removed = std::fs::remove_file(&probe);
    match written.and(removed) {
        Ok(()) => found.ok("state", format!("{} can be written", dir.display())),
        Err(e) => {
            let remedy = match e.kind() {
                std::io::ErrorKind::NotFound => "start the agent's unit, which makes it, or name another with --dir",
                std::io::ErrorKind::PermissionDenied => "run this as root or as the user keyvigil",
                std::io::ErrorKind::ReadOnlyFilesystem => "mount it writable: until then batches are kept in memory only",
                std::io::ErrorKind::StorageFull => "free some space: until then the oldest batches are given up",
                _ => "look at the disk: `dmesg` may say more",
            };
            found.fail("state", format!("{} cannot be written: {e}", dir.display()), remedy);
        }
    }
}

fn disk(dir: &Path, found: &mut Findings) {
    let stat = match rustix::fs::statvfs(dir) {
        Ok(stat) => stat,
        Err(e) => return found.warn("disk", format!("does not say how much room it has: {e}"), "look at the disk: `dmesg` may say more"),
    };
    let (free, total) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize));
    let share = free.saturating_mul(100).checked_div(total).unwrap_or(100);
    let words = format!("{} MB free, {share} % of the file system", free >> 20);
    if share < 5 && free < 1 << 30 {
        found.warn("disk", words, "the buffer stops growing here, so that the host keeps its last space: free some");
    } else {
        found.ok("disk", words);
    }
}

fn identity(dir: &Path, clock: &SharedClock, found: &mut Findings) -> Option<Identity> {
    let now_ms = clock.now_ms();
    let identity = match Identity::load(dir) {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            found.fail("identity", format!("this host has not joined an aggregator: no identity in {}", dir.display()), JOIN);
            return None;
        }
        Err(e) => {
            found.fail("identity", chain(&e), e.remedy());
            return None;
        }
    };
    let mode = std::fs::metadata(Identity::path(dir)).map_or(0, |meta| meta.permissions().mode() & 0o777);
    if mode & 0o077 == 0 {
        found.ok("identity", format!("{}, agent {}", identity.host, identity.agent));
    } else {
        found.warn("identity", format!("others can read its key: mode {mode:o}"), format!("chmod 600 {}", Identity::path(dir).display()));
    }
    match identity.tls(clock).and(identity.validity_ms()) {
        Err(e) => found.fail("certificate", chain(&e), JOIN),
        Ok((from, _)) if now_ms < from => {
            found.fail("certificate", format!("is not valid for another {}", span(from - now_ms)), "set the clock of this host (`timedatectl set-ntp true`)");
        }
        Ok((_, to)) if now_ms >= to => {
            found.warn(
                "certificate",
                format!("ended {} ago", span(now_ms - to)),
                "nothing to do: the agent renews it when it reaches the aggregator, unless it was revoked",
            );
        }
        Ok((_, to)) => found.ok("certificate", format!("valid for {}", span(to - now_ms))),
    }
    Some(identity)
}

fn agent(dir: &Path, found: &mut Findings) {
    let start = "`systemctl start keyvigil-agent`, or `keyvigil-agent run`; its log: `journalctl -u keyvigil-agent`";
    match control::ask(dir) {
        Err(e @ AskError::Denied(_)) => found.warn("agent", format!("cannot be asked: {e}"), e.remedy()),
        Err(e) => found.fail("agent", e.to_string(), e.remedy()),
        Ok(None) => found.fail("agent", "does not run", start),
        Ok(Some(report)) => running(&report, found),
    }
}

fn running(report: &Report, found: &mut Findings) {
    let own = env!("CARGO_PKG_VERSION");
    if report.version == own {
        found.ok("agent", format!("runs, process {}", report.pid));
    } else {
        found.warn("agent", format!("runs version {}, this is {own}", report.version), "restart it: `systemctl restart keyvigil-agent`");
    }
    for line in crate::status::running(report) {
        if let Some((name, words, remedy)) = line.trouble() {
            found.fail(name, words, remedy);
        }
    }
    for proof in report.canary.iter().filter(|proof| proof.blind.is_none()) {
        match (proof.proven_ms, &proof.gap) {
            (_, Some(why)) => found.warn("canary", format!("{} cannot be proven: {why}", proof.path), "install openssl, or live without the proof"),
            (Some(at), None) => found.ok("canary", format!("{} was proven {} ago", proof.path, span(report.now_ms - at))),
            (None, None) => found.warn("canary", format!("{} is not proven", proof.path), "it takes an interval; without a helper there is nothing to prove"),
        }
    }
    for sensor in &report.sensors {
        for (what, why) in sensor.blind.iter().filter(|(what, _)| !Coverage::matters(&sensor.name, what)) {
            found.warn(crate::status::UNSEEN, format!("the {} sensor cannot see {what}: {why}", sensor.name), "");
        }
    }
}

async fn network(identity: &Identity, clock: &SharedClock, found: &mut Findings) {
    let address = &identity.address;
    match tokio::time::timeout(LOOKUP, tokio::net::lookup_host(address)).await {
        Ok(Ok(addresses)) => {
            let list: Vec<String> = addresses.map(|a| a.ip().to_string()).collect();
            found.ok("name", format!("{address} is {}", list.join(", ")));
        }
        Ok(Err(e)) => return found.fail("name", format!("{address} is not found: {e}"), "check DNS or /etc/hosts on this host"),
        Err(_) => return found.fail("name", format!("{address} is not found within {} s", LOOKUP.as_secs()), "check DNS on this host: it does not answer"),
    }
    let tasks = Tasks::new(Stop::new());
    // Told above where it fails.
    let Ok(tls) = identity.tls(clock) else { return };
    let mut connection = match Connection::open(&Dialer::tcp(), address, tls, &tasks).await {
        Ok(connection) => connection,
        Err(e @ HttpError::Connect { .. }) => {
            return found.fail("connection", chain(&e), "check that the aggregator runs, and that no firewall keeps this host from its port");
        }
        Err(e) => return found.fail("connection", chain(&e), e.remedy()),
    };
    found.ok("connection", format!("{address} shows the certificate of the aggregator that this host joined"));
    let before = clock.now_ms();
    match connection.get("/v1/whoami").await {
        Err(e) => found.fail("aggregator", chain(&e), e.remedy()),
        Ok(answer) if answer.status.is_success() => {
            found.ok("aggregator", format!("knows this host as {}", answer.member("host").as_str().unwrap_or("?")));
            let theirs = answer.member("now").as_i64();
            match theirs.map(|theirs| theirs.saturating_sub(i64::midpoint(before, clock.now_ms())).saturating_abs()) {
                None => found.warn("clock", "the aggregator does not say what its clock shows", "upgrade the older of agent and aggregator"),
                Some(offset) if offset > OFFSET_MS => {
                    let words = format!("this host's clock and the aggregator's are {} apart", span(offset));
                    found.warn("clock", words, "set both by NTP (`timedatectl set-ntp true`); data is put right beyond ten minutes");
                }
                Some(_) => found.ok("clock", "agrees with the aggregator's"),
            }
        }
        Ok(answer) => {
            let remedy = crate::uplink::verdict::remedy_of(&answer);
            found.fail("aggregator", format!("refuses: {}", answer.detail()), remedy);
        }
    }
}
