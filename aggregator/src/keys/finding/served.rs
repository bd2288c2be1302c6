//! What is wrong with what ports serve: the old certificate after a renewal, a chain that does not hold, no file it comes
//! from, nobody who vouches for it.

use std::collections::HashMap;

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::{KeyKind, Served};

use super::super::name::{quoted, shown};
use super::super::{KeyRecord, PlaceRecord};
use super::chain::signs;
use super::view::{View, is_self_signed};
use super::{Draft, Finding};

const DAY_MS: i64 = 86_400_000;
const SERVE_CHAIN: &str = "Serve the certificate with its intermediates, each signed by the next, in one file (`fullchain.pem`).";

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    let authorities = Authorities::of(view);
    for key in view.own() {
        let ports: Vec<(&PlaceRecord, &Served)> = key.live().filter_map(|p| Some((p, p.place.served.as_deref()?))).collect();
        if ports.is_empty() {
            continue;
        }
        out.extend(stale(view, key, &ports));
        out.extend(chain_fault(key, &ports).or_else(|| stapled(view, key, &ports)).or_else(|| alone(key, &ports, &authorities)));
        out.extend(without_file(key, &ports));
        out.extend(self_signed(key, &ports));
    }
}

type Ports<'a> = [(&'a PlaceRecord, &'a Served)];

fn stale(view: &View<'_>, key: &KeyRecord, ports: &Ports<'_>) -> Option<Finding> {
    let stale: Vec<_> = ports.iter().filter(|(_, served)| served.file_key.is_some()).collect();
    // One of which it is known whom to tell.
    let (first, served) = stale.iter().find(|(_, served)| served.unit.is_some() || served.pid.is_some()).or(stale.first())?;
    let soon = key.facts.not_after_ms.is_some_and(|end| end - view.now_ms <= 7 * DAY_MS);
    let severity = if soon { Severity::Critical } else { Severity::Warning };
    let file = served.file.clone().unwrap_or_else(|| "its file".into());
    let mut draft = Draft::about(FindingKind::ServedStale, severity, key, stale.iter().map(|(p, _)| *p).collect());
    draft.since_ms = stale.iter().map(|(p, _)| p.stale_since_ms.unwrap_or(p.first_seen_ms)).min();
    draft = draft.with("port", first.place.path.clone()).with("file", file.clone());
    draft = draft.with("served certificate", key.facts.id.clone()).with("certificate in the file", served.file_key.clone().unwrap_or_default());
    draft = draft.with("served key", key.facts.fingerprint.clone());
    if let Some(fingerprint) = &served.file_fingerprint {
        draft = draft.with("key in the file", fingerprint.clone());
    }
    if let Some(process) = process(served) {
        draft = draft.with("process", process);
    }
    let who = served.exe.as_deref().and_then(|exe| exe.rsplit('/').next()).or(served.unit.as_deref()).unwrap_or("The port").to_owned();
    let title = format!("{who}{} still serves the old certificate of {}, though {file} was renewed", draft.on(), draft.name());
    let new = served.file_key.as_deref().and_then(|id| view.get(id));
    let host = if draft.hosts().len() > 1 { format!(" on {}", shown(&first.host)) } else { String::new() };
    let each_time = "; have the renewal do so each time.";
    let remedy = match (&served.unit, served.pid) {
        _ if new.is_some_and(|new| new.facts.not_before_ms.is_some_and(|from| from > view.now_ms)) => {
            "Reload the service, but not before the certificate in the file is valid: nobody would accept it.".into()
        }
        _ if new.is_some_and(|new| new.facts.not_after_ms.is_some_and(|end| end <= view.now_ms) || view.revoked(new).is_some()) => {
            "The certificate in the file has expired or is revoked: put a valid one in its place, then reload the service.".into()
        }
        (Some(unit), _) if unit.ends_with(".service") && !unit.starts_with("user@") => {
            let unit = quoted(unit);
            format!("`systemctl reload {unit}`, or restart it where it cannot reload{each_time}")
        }
        (Some(unit), _) if unit.starts_with("container ") => format!("Have the server in {} load it, or restart that{each_time}", shown(unit)),
        _ if who == "nginx" => format!("`nginx -s reload`{host}{each_time}"),
        // Of a signal that a program does not know it dies.
        (_, Some(pid)) => format!("Have process {pid} ({who}){host} load it: reload it in its own way, or restart it{each_time}"),
        _ => format!("Reload or restart whoever serves the port{each_time}"),
    };
    Some(draft.finish(title, remedy))
}

fn process(served: &Served) -> Option<String> {
    let exe = served.exe.as_deref()?;
    Some(served.pid.map_or(exe.to_owned(), |pid| format!("{exe} (pid {pid})")))
}

fn chain_fault(key: &KeyRecord, ports: &Ports<'_>) -> Option<Finding> {
    let faulty: Vec<_> = ports.iter().filter(|(_, served)| served.chain_fault.is_some()).collect();
    let (_, served) = faulty.first()?;
    let fault = served.chain_fault.clone().unwrap_or_default();
    let draft = Draft::about(FindingKind::ServedChainFault, Severity::Warning, key, faulty.iter().map(|(p, _)| *p).collect()).with("fault", fault.clone());
    let title = format!("The chain that {}{} is served with does not hold: {fault}", draft.name(), draft.on());
    Some(draft.finish(title, SERVE_CHAIN))
}

/// A stapled answer that has ended, and was served after that.
fn stapled(view: &View<'_>, key: &KeyRecord, ports: &Ports<'_>) -> Option<Finding> {
    let end = |served: &Served| served.staple.as_ref().and_then(|staple| staple.next_update_ms).filter(|end| *end < view.now_ms);
    let old: Vec<&PlaceRecord> = ports.iter().filter(|(p, served)| end(served).is_some_and(|end| end < p.last_seen_ms)).map(|(p, _)| *p).collect();
    if old.is_empty() {
        return None;
    }
    let draft = Draft::about(FindingKind::ServedChainFault, Severity::Warning, key, old);
    let title = format!("{}{} is served with an OCSP answer that has ended: clients that look at it refuse the certificate", draft.name(), draft.on());
    Some(draft.finish(title, "Have the server fetch a new answer (is the responder reached from there?), or put a new one into the file that it staples."))
}

/// Authorities that lie on any host, by subject.
struct Authorities<'a>(HashMap<&'a str, Vec<&'a KeyRecord>>);

impl<'a> Authorities<'a> {
    fn of(view: &View<'a>) -> Self {
        let mut all: HashMap<&str, Vec<&KeyRecord>> = HashMap::new();
        for key in view.keys.iter().filter(|key| key.facts.kind == KeyKind::Certificate && key.facts.is_ca != Some(false)) {
            all.entry(key.facts.subject.as_deref().unwrap_or_default()).or_default().push(key);
        }
        Self(all)
    }

    fn issuers(&self, key: &KeyRecord) -> Vec<&'a KeyRecord> {
        let all = self.0.get(key.facts.issuer.as_deref().unwrap_or_default());
        all.into_iter().flatten().filter(|issuer| signs(issuer, key)).copied().collect()
    }
}

/// Of one that is served without a chain: whether its issuer is a root, which clients have, or should be sent as well.
fn alone(key: &KeyRecord, ports: &Ports<'_>, authorities: &Authorities<'_>) -> Option<Finding> {
    let alone: Vec<&PlaceRecord> = ports.iter().filter(|(_, served)| served.chain.is_empty()).map(|(p, _)| *p).collect();
    if alone.is_empty() || is_self_signed(key) || key.is_our_own() {
        return None;
    }
    let issuers = authorities.issuers(key);
    if issuers.iter().any(|issuer| is_self_signed(issuer)) {
        return None;
    }
    let issuer = key.facts.issuer.clone().unwrap_or_default();
    let severity = if issuers.is_empty() { Severity::Info } else { Severity::Warning };
    let mut draft = Draft::about(FindingKind::ServedChainFault, severity, key, alone).with("issuer", issuer.clone());
    let title = format!("{}{} is served without the certificate of {issuer}", draft.name(), draft.on());
    let Some(known) = issuers.first() else {
        let remedy = "If that is a root that all clients have, nothing is missing. If not, serve the certificate with its intermediates (`fullchain.pem`). \
            Where its certificate lies on a watched host, this is told for sure.";
        return Some(draft.finish(format!("{title}, which no host knows: whether clients can verify it cannot be told"), remedy));
    };
    draft = draft.with("intermediate certificate", known.facts.id.clone());
    Some(draft.finish(format!("{title}, which is no root: clients that do not have it cannot verify"), SERVE_CHAIN))
}

fn without_file(key: &KeyRecord, ports: &Ports<'_>) -> Option<Finding> {
    let lies = |host: &str| key.live().any(|p| p.host == host && p.place.served.is_none());
    let fileless: Vec<_> = ports.iter().filter(|(p, served)| served.file.is_none() && !lies(&p.host) && !key.is_our_own()).collect();
    let (_, served) = fileless.first()?;
    let mut draft = Draft::about(FindingKind::ServedWithoutFile, Severity::Info, key, fileless.iter().map(|(p, _)| *p).collect());
    if let Some(process) = process(served) {
        draft = draft.with("process", process);
    }
    let title = format!("{}{} is served from no file that is watched", draft.name(), draft.on());
    Some(draft.finish(title, "If it lies in a file, add its directory to `[keystore] extra_paths` of the agent, so that a renewal is seen."))
}

fn self_signed(key: &KeyRecord, ports: &Ports<'_>) -> Option<Finding> {
    if !is_self_signed(key) {
        return None;
    }
    let draft = Draft::about(FindingKind::SelfSignedServed, Severity::Info, key, ports.iter().map(|(p, _)| *p).collect());
    let title = format!("{}{} is served and signed by itself", draft.name(), draft.on());
    Some(draft.finish(title, "Who connects must trust exactly this certificate, or checks nothing: have an authority sign it, if others connect."))
}
