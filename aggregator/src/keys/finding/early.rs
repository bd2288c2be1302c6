//! What is in use before it counts: a certificate that is valid from a time to come. A clock that is wrong, on the host or at the
//! authority, is the usual reason; one that was laid down in good time for the next period is only told.

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::{KeyKind, Role};

use super::super::name::length;
use super::super::{KeyRecord, PlaceRecord};
use super::expiry::date;
use super::view::{View, is_used};
use super::{Draft, Finding};

/// How far the clocks of two machines may be apart without anybody's fault.
const SKEW_MS: i64 = 5 * 60_000;

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    for key in view.own() {
        if let Some(from_ms) = key.facts.not_before_ms.filter(|from| *from > view.now_ms + SKEW_MS) {
            out.extend(early(view, key, from_ms));
        }
    }
}

fn early(view: &View<'_>, key: &KeyRecord, from_ms: i64) -> Option<Finding> {
    let has_key = |p: &PlaceRecord| key.facts.is_ca != Some(true) && p.place.role == Role::Held && view.has_secret(key, &p.host);
    let concerned = |p: &&PlaceRecord| match key.facts.kind {
        KeyKind::Certificate | KeyKind::SshCertificate => is_used(p) || has_key(p),
        KeyKind::OpenpgpPrivateKey => true,
        KeyKind::OpenpgpPublicKey => p.place.role == Role::Trusted,
        _ => false,
    };
    let places: Vec<&PlaceRecord> = key.live().filter(|p| p.place.role != Role::Peer).filter(concerned).collect();
    let first = places.first()?;
    let used = places.iter().copied().find(|p| is_used(p));
    let severity = match used {
        Some(_) if places.iter().any(|p| p.place.served.is_some()) => Severity::Critical,
        Some(_) => Severity::Warning,
        None => Severity::Info,
    };
    let by = match used.unwrap_or(first) {
        p if p.place.served.is_some() => ("served at", p.place.path.clone()),
        p => p.place.used_by.first().map_or_else(|| ("its key lies on", p.host.clone()), |user| ("named by", user.clone())),
    };
    let draft = Draft::about(FindingKind::NotYetValid, severity, key, places);
    let draft = draft.with("valid from", date(from_ms)).with("clock of the aggregator", date(view.now_ms)).with(by.0, by.1);
    let title = format!("{}{} is not valid for another {}", draft.name(), draft.on(), length(from_ms - view.now_ms));
    let remedy = match severity {
        Severity::Info => "If it is meant for then, put it to use no sooner; if not, compare the authority's clock, and have it issued again.",
        _ => "Until then it is refused: put the one before it back, or have it issued again; compare the clocks of the host and of the authority.",
    };
    Some(draft.finish(title, remedy))
}
