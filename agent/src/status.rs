//! `keyvigil-agent status`: how the agent of this host stands, in words, with what mends what is wrong. Asks the running
//! agent; where none runs, reads what lies in the state directory.

use std::path::Path;
use std::process::ExitCode;

use keyvigil_common::process::{failure_code, say};
use keyvigil_common::telemetry::chain;

use crate::canary::Proof;
use crate::collect::keystore_remedy;
use crate::control::{self, Report, Waiting};
use crate::enroll::RESTART;
use crate::identity::{Identity, JOIN};
use crate::sampler::Coverage;
use crate::standing::Trouble;

/// Silence after which delivery is not well though nothing failed, ms.
const SILENT_MS: i64 = 180_000;

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    name: &'static str,
    text: String,
    /// What mends it; then all is not well.
    remedy: Option<String>,
}

impl Line {
    fn well(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, text: text.into(), remedy: None }
    }

    fn wrong(name: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, text: text.into(), remedy: Some(remedy.into()) }
    }

    /// What is wrong, and what mends it.
    pub(crate) fn trouble(&self) -> Option<(&'static str, String, String)> {
        self.remedy.as_ref().map(|remedy| (self.name, self.text.clone(), remedy.clone()))
    }

    fn print(&self) {
        say(&format!("{:<12} {}", self.name, self.text));
        if let Some(remedy) = &self.remedy {
            say(&format!("{:<12} -> {remedy}", ""));
        }
    }
}

/// Prints how the agent in `dir` stands; `json`: as one object.
#[must_use]
pub fn print(dir: &Path, now_ms: i64, json: bool) -> ExitCode {
    let (report, runs, lines, failure) = match control::ask(dir) {
        Ok(Some(report)) => {
            let lines = running(&report);
            (Some(report), Some(true), lines, None)
        }
        Ok(None) => {
            let (lines, failure) = resting(dir, now_ms);
            (None, Some(false), lines, failure)
        }
        Err(e) => (None, e.runs(), vec![Line::wrong("agent", format!("cannot be asked in {}: {e}", dir.display()), e.remedy())], Some(e.code())),
    };
    let well = lines.iter().all(|line| line.remedy.is_none());
    if json {
        let told = |line: &Line| serde_json::json!({"name": line.name, "text": line.text, "remedy": line.remedy});
        let answer = Answer { well, running: runs, lines: lines.iter().map(told).collect(), report: report.as_ref() };
        say(&serde_json::to_string_pretty(&answer).unwrap_or_default());
    } else {
        lines.iter().for_each(Line::print);
    }
    match failure {
        Some(code) => ExitCode::from(code),
        None if well => ExitCode::SUCCESS,
        None => ExitCode::from(3),
    }
}

/// The answer for programs.
#[derive(serde::Serialize)]
struct Answer<'a> {
    /// Whether nothing is wrong.
    well: bool,
    /// Whether the agent runs, where that is known.
    running: Option<bool>,
    /// What people are shown.
    lines: Vec<serde_json::Value>,
    /// What the agent told.
    #[serde(flatten)]
    report: Option<&'a Report>,
}

/// What a running agent told.
pub(crate) fn running(report: &Report) -> Vec<Line> {
    let mut lines = vec![
        Line::well("host", format!("{} (agent {})", report.host, report.agent)),
        Line::well("aggregator", report.aggregator.clone()),
        Line::well("agent", format!("version {}, process {}, running for {}", report.version, report.pid, span(report.now_ms - report.started_ms))),
    ];
    if let Some(name) = &report.standing.rejoined {
        lines.push(Line::wrong("joined", format!("again, as {name}; this process goes on as {}", report.host), RESTART));
    }
    lines.extend([
        delivery(report),
        buffer(&report.buffer, report.now_ms),
        certificate(report.certificate_ms, report.now_ms, report.standing.renewal.as_ref()),
    ]);
    if let Some(Trouble { since_ms, times, words, remedy, .. }) = &report.standing.backlog {
        lines.push(Line::wrong(
            "backlog",
            format!("is held up for {}, {times} times; it stays in the buffer: {words}", span(report.now_ms - since_ms)),
            remedy.clone(),
        ));
    }
    if report.given_up > 0 {
        lines.push(Line::well("losses", format!("{} batches were given up since the start; each is declared: `keyvigil gaps` shows them", report.given_up)));
    }
    lines.extend(report.canary.iter().map(|proof| canary(proof, report.now_ms)));
    for sensor in &report.sensors {
        for (what, why) in &sensor.blind {
            let text = format!("the {} sensor cannot see {what}: {why}", sensor.name);
            lines.push(if Coverage::matters(&sensor.name, what) {
                Line::wrong("blind", text, unseen(&sensor.name, what, why))
            } else {
                Line::well(UNSEEN, text)
            });
        }
    }
    lines
}

/// What the agent does not see, and is well all the same: figures that a kernel lacks.
pub(crate) const UNSEEN: &str = "unseen";

/// What mends a blindness.
fn unseen(sensor: &str, what: &str, why: &str) -> String {
    if sensor == "served" && what != "anything" {
        "mend what keeps the agent from looking at the port, or leave it out: `[served] exclude`".to_owned()
    } else if sensor == "canary" && what != "anything" {
        format!("{HELPER}; who wants no helper leaves the sensors out: `sampling.disabled = [\"access\", \"operations\"]`")
    } else if sensor == "keystore" && (what.contains('/') || what == "crypto.keystore") {
        keystore_remedy(why).to_owned()
    } else {
        format!("look at what it waits for; `sampling.disabled` leaves the {sensor} sensor out")
    }
}

/// What mends a helper.
const HELPER: &str = "look at the helper: `systemctl status keyvigil-probe`, `journalctl -u keyvigil-probe`; `systemctl restart keyvigil-probe`";

/// When a path of the canary was proven. That it is blind is the sensor's to say.
fn canary(proof: &Proof, now_ms: i64) -> Line {
    let failures = if proof.failures == 0 { String::new() } else { format!("; {} trials came to nothing since the start", proof.failures) };
    let text = match (proof.proven_ms, &proof.gap) {
        (_, Some(why)) => format!("not proven: {why}"),
        (Some(at), None) => format!("proven {} ago{failures}", span(now_ms - at)),
        (None, None) if proof.is_expected => format!("not proven yet{failures}"),
        (None, None) => "not proven: there is no helper, and nothing is seen".to_owned(),
    };
    Line::well("canary", format!("{}: {text}", proof.path))
}

fn delivery(report: &Report) -> Line {
    let standing = &report.standing;
    let last = standing.last_ack_ms.map(|at| report.now_ms - at);
    if let Some(Trouble { since_ms, times, words, remedy, .. }) = &standing.trouble {
        let since = span(report.now_ms - since_ms);
        let last = last.map_or("none came yet".to_owned(), |ago| format!("the last ack came {} ago", span(ago)));
        // Who has joined again already must not be told to do so.
        let remedy = if standing.rejoined.is_some() { RESTART.to_owned() } else { remedy.clone() };
        return Line::wrong("delivery", format!("fails for {since}, {times} times; {last}; what is buffered is kept: {words}"), remedy);
    }
    match last {
        Some(ago) if ago < -SILENT_MS => {
            Line::wrong("delivery", "the clock was set back since the last ack: how long ago that came is not known", "`keyvigil-agent doctor` says more")
        }
        None => Line::wrong("delivery", "no ack came yet", "wait for a minute; then `keyvigil-agent doctor` says more"),
        Some(ago) if ago > SILENT_MS => Line::wrong("delivery", format!("the last ack came {} ago", span(ago)), "`keyvigil-agent doctor` says more"),
        Some(ago) => {
            let offset = standing.clock_offset_ms.unwrap_or(0);
            let clock = match offset {
                -1_000..=1_000 => "the clocks agree".to_owned(),
                behind @ 1_001.. => format!("this host's clock is {} behind the aggregator's", span(behind)),
                ahead => format!("this host's clock is {} ahead of the aggregator's", span(ahead.saturating_neg())),
            };
            Line::well("delivery", format!("the last ack came {} ago; {clock}", span(ago)))
        }
    }
}

fn buffer(waiting: &Waiting, now_ms: i64) -> Line {
    if let Some(why) = &waiting.degraded {
        return Line::wrong(
            "buffer",
            format!("in memory only, since the disk cannot be used: {why}"),
            "mend the disk of the state directory; it is tried again by itself",
        );
    }
    let age = waiting.oldest_ms.map_or(String::new(), |oldest| format!(", the oldest for {}", span(now_ms - oldest)));
    let text = format!("{} batches with {} items wait{age}: {} of {}", waiting.batches, waiting.items, size(waiting.bytes), size(waiting.bytes_max));
    if waiting.bytes_max > 0 && waiting.bytes > waiting.bytes_max / 10 * 9 {
        return Line::wrong(
            "buffer",
            format!("nearly full: {text}"),
            "bring the aggregator back, or raise buffer.max_bytes: soon the oldest of the lowest class is given up",
        );
    }
    Line::well("buffer", text)
}

fn certificate((from_ms, to_ms): (i64, i64), now_ms: i64, renewal: Option<&Trouble>) -> Line {
    let renewal = renewal.map(|trouble| (format!("; its renewal fails for {}: {}", span(now_ms - trouble.since_ms), trouble.words), trouble.remedy.clone()));
    if now_ms >= to_ms {
        let (why, remedy) = renewal.unwrap_or_default();
        let remedy = if remedy.is_empty() { "it renews itself when the aggregator is reached; else `keyvigil-agent join TOKEN`".to_owned() } else { remedy };
        return Line::wrong("certificate", format!("ended {} ago{why}", span(now_ms - to_ms)), remedy);
    }
    if now_ms < from_ms {
        let text = format!("is not valid for another {}", span(from_ms - now_ms));
        return Line::wrong("certificate", text, "set the clock of this host (`timedatectl set-ntp true`)");
    }
    match renewal {
        Some((why, remedy)) => Line::wrong("certificate", format!("valid for {}{why}", span(to_ms - now_ms)), remedy),
        None => Line::well("certificate", format!("valid for {}; renews itself at half of its life", span(to_ms - now_ms))),
    }
}

/// What lies in the directory of an agent that does not run.
fn resting(dir: &Path, now_ms: i64) -> (Vec<Line>, Option<u8>) {
    let identity = match Identity::load(dir) {
        Ok(identity) => identity,
        Err(e) => return (vec![Line::wrong("identity", chain(&e), e.remedy())], Some(failure_code(&e))),
    };
    let Some(identity) = identity else {
        return (vec![Line::wrong("not joined", format!("no identity in {}", dir.display()), JOIN)], None);
    };
    let life = match identity.validity_ms() {
        Ok(life) => certificate(life, now_ms, None),
        Err(e) => Line::wrong("certificate", chain(&e), "join again: `keyvigil-agent join TOKEN`"),
    };
    let path = dir.join("buffer.db");
    let waiting = match crate::buffer::waiting(&path) {
        Err(_) if !path.exists() => Line::well("buffer", "none yet"),
        Ok((batches, items, bytes)) => Line::well("buffer", format!("{batches} batches with {items} items wait, {}", size(bytes))),
        Err(e) => Line::wrong("buffer", format!("cannot be read: {}", chain(&e)), "start the agent: it saves what can be read"),
    };
    let lines = vec![
        Line::well("host", format!("{} (agent {})", identity.host, identity.agent)),
        Line::well("aggregator", identity.address.clone()),
        Line::wrong("agent", "does not run", "`systemctl start keyvigil-agent`, or `keyvigil-agent run`"),
        waiting,
        life,
    ];
    (lines, None)
}

/// A time span for people.
pub(crate) fn span(ms: i64) -> String {
    let seconds = ms.max(0).saturating_add(500) / 1_000;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::collect::{At, Sink};
    use crate::sampler::Shown;
    use crate::standing::Standing;

    const NOW: i64 = 1_763_836_800_000;
    const DAY: i64 = 86_400_000;

    fn healthy() -> Report {
        let standing = Standing { last_ack_ms: Some(NOW - 4_000), clock_offset_ms: Some(20), ..Standing::default() };
        Report { now_ms: NOW, started_ms: NOW - DAY, certificate_ms: (NOW - DAY, NOW + DAY), standing, ..Report::default() }
    }

    fn wrong(report: &Report) -> Vec<&'static str> {
        running(report).into_iter().filter(|line| line.remedy.is_some()).map(|line| line.name).collect()
    }

    #[test]
    fn what_is_wrong_is_said_with_what_mends_it_and_nothing_else_is_called_wrong() {
        assert_eq!(wrong(&healthy()), Vec::<&str>::new());
        let trouble = Some(Trouble {
            since_ms: NOW - 600_000,
            at_ms: NOW,
            times: 9,
            code: "unreachable".into(),
            words: "no route".into(),
            remedy: "mend the route".into(),
        });
        let cut_off = Report { standing: Standing { trouble: trouble.clone(), ..healthy().standing }, ..healthy() };
        assert_eq!(wrong(&cut_off), ["delivery"]);
        let said = running(&cut_off)[3].clone();
        assert_eq!(said.text, "fails for 10 min, 9 times; the last ack came 4 s ago; what is buffered is kept: no route");
        assert_eq!(said.remedy.as_deref(), Some("mend the route"));
        assert_eq!(wrong(&Report { standing: Standing { last_ack_ms: None, ..healthy().standing }, ..healthy() }), ["delivery"]);
        assert_eq!(wrong(&Report { standing: Standing { last_ack_ms: Some(NOW + DAY), ..healthy().standing }, ..healthy() }), ["delivery"], "who knows when");
        let odd = Standing { clock_offset_ms: Some(i64::MIN), ..healthy().standing };
        assert!(running(&Report { standing: odd, ..healthy() })[3].text.contains("ahead of the aggregator's"));
        assert_eq!(wrong(&Report { certificate_ms: (NOW - DAY, NOW - 1), ..healthy() }), ["certificate"]);
        assert_eq!(wrong(&Report { certificate_ms: (NOW + DAY, NOW + 2 * DAY), ..healthy() }), ["certificate"]);
        assert_eq!(wrong(&Report { standing: Standing { renewal: trouble, ..healthy().standing }, ..healthy() }), ["certificate"]);
        let degraded = Waiting { degraded: Some("read-only".into()), ..Waiting::default() };
        assert_eq!(wrong(&Report { buffer: degraded, ..healthy() }), ["buffer"]);
        let full = Waiting { bytes: 95, bytes_max: 100, ..Waiting::default() };
        assert_eq!(wrong(&Report { buffer: full, ..healthy() }), ["buffer"]);
    }

    #[test]
    fn an_agent_that_does_not_see_its_keys_is_not_well_and_one_whose_kernel_lacks_figures_is() {
        let blind = |sensor: &str, what: &str| {
            let sensor = control::Sensor { name: sensor.into(), blind: vec![(what.into(), "permission denied".into())], ..control::Sensor::default() };
            Report { sensors: vec![sensor], ..healthy() }
        };
        assert_eq!(wrong(&blind("keystore", "/etc/ssl/private")), ["blind"]);
        let remedy = |what: &str, why: &str| unseen("keystore", what, why);
        assert!(remedy("/etc/ssl/private", "Permission denied (os error 13)").starts_with("let the user of the agent look there"));
        let large = remedy("/srv/dump.pem", "looks like a key file and has 99999999 bytes; at most 16777216 are read");
        assert_eq!(large, "make the file smaller, or leave it out: [keystore] exclude");
        assert_eq!(wrong(&blind("cpu", "anything")), ["blind"]);
        assert_eq!(wrong(&blind("pressure", "pressure")), Vec::<&str>::new());
        assert_eq!(wrong(&blind("served", "tls://0.0.0.0:443")), ["blind"]);
        assert_eq!(wrong(&blind("served", "whether some listening ports speak TLS")), Vec::<&str>::new());
    }

    #[test]
    fn each_path_of_the_canary_says_when_it_was_proven_and_what_is_in_its_way() {
        let proof = |proven_ms, is_expected, gap: Option<&str>| Proof {
            path: "access".into(),
            is_expected,
            proven_ms,
            failures: u64::from(proven_ms.is_some()),
            gap: gap.map(str::to_owned),
            blind: None,
        };
        let said = |proof| canary(&proof, NOW).text;
        assert_eq!(said(proof(Some(NOW - 30_000), true, None)), "access: proven 30 s ago; 1 trials came to nothing since the start");
        assert_eq!(said(proof(None, true, None)), "access: not proven yet");
        assert_eq!(said(proof(None, false, Some("no openssl"))), "access: not proven: no openssl");
        assert!(said(proof(None, false, None)).contains("there is no helper"));
        let sensor = |what: &str| control::Sensor { name: "canary".into(), blind: vec![(what.into(), "for 240 s".into())], ..control::Sensor::default() };
        assert_eq!(wrong(&Report { sensors: vec![sensor("opens of key files")], ..healthy() }), ["blind"]);
        assert_eq!(wrong(&Report { sensors: vec![sensor("a proof of operations with keys")], ..healthy() }), Vec::<&str>::new());
    }

    #[test]
    fn what_the_agent_calls_blind_the_aggregator_is_told_to_be() {
        let shown = Shown::default();
        let mut sink = Sink::new("h", At { wall_ms: NOW, monotonic: Duration::ZERO });
        for what in ["tls://0.0.0.0:443", "whether some listening ports speak TLS", "the processes behind some listening ports", "some listening ports"] {
            sink.absent(what, "hangs up");
        }
        shown.answered("served", Duration::ZERO, Duration::ZERO, NOW, &sink);
        let lines = running(&Report { sensors: shown.all(), ..healthy() });
        let called = |name: &str| u32::try_from(lines.iter().filter(|line| line.name == name).count()).unwrap();
        assert_eq!((Some(called("blind")), called(UNSEEN)), (shown.blind(), 2), "{lines:?}");
    }

    #[test]
    fn who_joined_again_under_another_name_is_told_to_restart_and_not_to_join() {
        let mut report = healthy();
        report.standing.rejoined = Some("zed".into());
        report.standing.trouble =
            Some(Trouble { since_ms: NOW, at_ms: NOW, times: 1, code: "revoked".into(), words: "revoked".into(), remedy: "join again".into() });
        assert_eq!(wrong(&report), ["joined", "delivery"]);
        assert!(running(&report).iter().all(|line| line.remedy.as_deref().is_none_or(|remedy| remedy == RESTART)));
    }
}
