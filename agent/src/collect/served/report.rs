//! Tells what is served, and when it stops being what its file holds: sightings when something changes, an event when a stale
//! certificate is found and one when it is over. Called by the sensor.

use std::net::SocketAddr;
use std::time::Duration;

use keyvigil_common::event::{Actor, Event, EventKind};
use keyvigil_common::key::{KeyFacts, Place, Served, Sighting, clamp_text};

use super::chain::place;
use super::compare::{Renewed, Source, shares_names};
use super::ports::{Port, Service, Stale, path};
use crate::collect::{At, Sink};

/// How long another certificate may lie in the file before that is said: programs write files and are reloaded after that.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How often all is told again, so that an aggregator that lost its state heals.
const RESEND: Duration = Duration::from_secs(6 * 3_600);

/// Who serves.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) pid: Option<u32>,
    pub(super) exe: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) user: String,
    pub(super) unit: Option<String>,
}

/// Where something is served, and by whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) address: SocketAddr,
    pub(super) name: &'a str,
    pub(super) server: &'a Server,
}

/// Takes where a served certificate comes from; tells when that begins or ends to be another. Whether it waits to be sure.
pub(super) fn judge(service: &mut Service, source: Source, spot: Spot<'_>, at: At, sink: &mut Sink) -> bool {
    if source != Source::Nowhere {
        service.nowhere = None;
    }
    let renewed = match source {
        Source::Renewed(renewed) => renewed,
        Source::File(file) => {
            service.file = Some(file);
            resolved(service, spot, sink, "it serves what its file holds again");
            return false;
        }
        Source::Nowhere => {
            // It may have been loaded before the file was looked at.
            let since = *service.nowhere.get_or_insert(at.monotonic);
            if service.file.is_some() && at.monotonic.saturating_sub(since) < GRACE {
                return true;
            }
            // That nobody looks at the file any more mends nothing: the same old certificate is still served.
            if service.stale.as_ref().is_some_and(|stale| stale.told) {
                return false;
            }
            (service.file, service.stale) = (None, None);
            return false;
        }
    };
    service.file = Some(renewed.file.clone());
    match &mut service.stale {
        Some(stale) if stale.key == renewed.key => stale.renewed = Some(renewed),
        _ => service.stale = Some(Stale { key: renewed.key.clone(), renewed: Some(renewed), since: at.monotonic, told: false }),
    }
    let Some(stale) = service.stale.as_mut().filter(|stale| !stale.told) else { return false };
    if at.monotonic.saturating_sub(stale.since) < GRACE {
        return true;
    }
    stale.told = true;
    if let Some(renewed) = stale.renewed.clone() {
        sink.event(begun(&service.facts, &renewed, spot, sink.at_ms()));
    }
    false
}

/// Tells that what was stale is no longer, where it was told to be.
pub(super) fn resolved(service: &mut Service, spot: Spot<'_>, sink: &mut Sink, why: &str) {
    let Some(stale) = service.stale.take().filter(|stale| stale.told) else { return };
    let message = format!("{}: {why}", who(spot));
    let mut evidence = vec![("address".to_owned(), spot.address.to_string()), ("file_key".to_owned(), stale.key)];
    evidence.extend(evidence_of("served", &service.facts));
    sink.event(event(EventKind::ServedFresh, &service.facts.id, service.file.clone(), spot, message, evidence, sink.at_ms()));
}

fn begun(facts: &KeyFacts, renewed: &Renewed, spot: Spot<'_>, at_ms: i64) -> Event {
    let message = format!(
        "{} still serves the certificate{} that was replaced in {}: {}",
        who(spot),
        facts.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default(),
        renewed.file,
        remedy(spot.server)
    );
    let mut evidence = vec![("policy".to_owned(), "served certificate stale".to_owned()), ("address".to_owned(), spot.address.to_string())];
    if !spot.name.is_empty() {
        evidence.push(("name".to_owned(), spot.name.to_owned()));
    }
    evidence.extend(evidence_of("served", facts));
    let lines = [("file", &renewed.file), ("file_key", &renewed.key), ("file_fingerprint", &renewed.fingerprint)];
    evidence.extend(lines.map(|(name, value)| (name.to_owned(), value.clone())));
    evidence.extend(renewed.not_after_ms.map(|end| ("file_not_after".to_owned(), time(end))));
    evidence.push(("because".to_owned(), renewed.because.to_owned()));
    event(EventKind::ServedStale, &facts.id, Some(renewed.file.clone()), spot, message, evidence, at_ms)
}

fn event(kind: EventKind, key: &str, path: Option<String>, spot: Spot<'_>, mut message: String, evidence: Vec<(String, String)>, at_ms: i64) -> Event {
    clamp_text(&mut message);
    let Server { pid, exe, uid, unit, .. } = spot.server.clone();
    let actor = Actor { exe, pid, uid, unit, ..Actor::default() };
    Event { kind, at_ms, key_id: Some(key.to_owned()), path, actor: Some(actor), message, evidence }
}

fn evidence_of(what: &str, facts: &KeyFacts) -> Vec<(String, String)> {
    let key = [(format!("{what}_key"), facts.id.clone()), (format!("{what}_fingerprint"), facts.fingerprint.clone())];
    key.into_iter().chain(facts.not_after_ms.map(|end| (format!("{what}_not_after"), time(end)))).collect()
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

/// `nginx (pid 812) on 0.0.0.0:443`.
fn who(spot: Spot<'_>) -> String {
    let Server { pid, exe, user, .. } = spot.server;
    let program = exe.as_deref().and_then(|exe| exe.rsplit('/').next()).map(str::to_owned);
    let program = program.unwrap_or_else(|| if user.is_empty() { "a server".to_owned() } else { format!("a process of user {user}") });
    let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    format!("{program}{pid} on {}", path(spot.address, spot.name).trim_start_matches("tls://"))
}

fn remedy(server: &Server) -> String {
    match (&server.unit, &server.exe, server.pid) {
        (Some(unit), ..) if unit.ends_with(".service") && !unit.starts_with("user@") => {
            format!("reload it: systemctl reload {unit}, or restart it where it cannot reload")
        }
        (Some(unit), ..) if unit.starts_with("container ") => format!("have the server in {unit} load it, or restart that"),
        (_, Some(exe), _) if exe.ends_with("/nginx") => "reload it: nginx -s reload".into(),
        // Of a signal that a program does not know it dies.
        (_, _, Some(pid)) => format!("have process {pid} load it: reload it in its own way, or restart it"),
        _ => "reload or restart that server".into(),
    }
}

/// Tells what changed of a service, and all of it from time to time.
pub(super) fn tell(service: &mut Service, spot: Spot<'_>, at: At, sink: &mut Sink) {
    let mut replaces = None;
    if let Some((facts, place)) = service.before.take() {
        replaces = (!service.is_over() && shares_names(&service.facts, &facts) && facts.id != service.facts.id).then(|| facts.id.clone());
        if service.is_over() || facts.id != service.facts.id {
            sighting(sink, &facts, place, true, None);
        }
    }
    if service.is_over() {
        return;
    }
    let place = place_of(service, spot);
    let is_old = |(told, when): &(Place, Duration)| *told == place && at.monotonic.saturating_sub(*when) < RESEND && !when.is_zero();
    if service.told.as_ref().is_some_and(is_old) {
        return;
    }
    sighting(sink, &service.facts, place.clone(), false, replaces);
    service.told = Some((place, at.monotonic.max(Duration::from_nanos(1))));
}

/// Tells that nothing is served any more by a port, which is told of whoever was told to serve it.
pub(super) fn tell_gone(port: &mut Port, address: SocketAddr, sink: &mut Sink) {
    for (name, mut service) in std::mem::take(&mut port.services) {
        let served = service.told.as_ref().and_then(|(place, _)| place.served.as_deref()).cloned().unwrap_or_default();
        let server = Server { pid: served.pid, exe: served.exe, uid: None, user: served.user.unwrap_or_default(), unit: served.unit };
        resolved(&mut service, Spot { address, name: &name, server: &server }, sink, "nobody listens there any more");
        let told = service.told.take().map(|(place, _)| (service.facts.clone(), place)).or(service.before.take());
        if let Some((facts, place)) = told {
            sighting(sink, &facts, place, true, None);
        }
    }
}

fn place_of(service: &Service, spot: Spot<'_>) -> Place {
    let stale = service.stale.as_ref().filter(|stale| stale.told);
    let renewed = stale.and_then(|stale| stale.renewed.as_ref());
    let before = service.told.as_ref().and_then(|(place, _)| place.served.as_deref());
    let Server { pid, exe, user, unit, .. } = spot.server.clone();
    let served = Served {
        pid,
        exe,
        user: Some(user),
        unit,
        file: service.file.clone(),
        file_key: stale.map(|stale| stale.key.clone()),
        file_fingerprint: renewed.map(|renewed| renewed.fingerprint.clone()).or_else(|| before.filter(|_| stale.is_some())?.file_fingerprint.clone()),
        ..service.served.clone()
    };
    let mut place = place(&path(spot.address, spot.name), served);
    place.bound();
    place
}

fn sighting(sink: &mut Sink, facts: &KeyFacts, place: Place, gone: bool, replaces: Option<String>) {
    sink.sighting(Sighting { facts: facts.clone(), place, at_ms: sink.at_ms(), gone, replaces });
}
