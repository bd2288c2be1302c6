//! Keys that may log in and should not: revoked ones, and ones whose line ends.

use std::collections::HashMap;

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::{KeyKind, Role};

use super::super::name::{length, quoted, shown};
use super::super::{KeyRecord, PlaceRecord};
use super::view::{View, revocation};
use super::{Draft, Finding};

const DAY_MS: i64 = 86_400_000;

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    // What lists revoke by fingerprint, with the list.
    let mut listed: HashMap<&str, (&KeyRecord, Option<&str>)> = HashMap::new();
    for list in view.own().filter(|key| key.facts.kind == KeyKind::Crl) {
        let lines = list.facts.revokes.iter().filter(|line| line.what.starts_with("SHA256:"));
        listed.extend(lines.map(|line| (line.what.as_str(), (list, line.reason.as_deref()))));
    }
    for key in view.own() {
        let places: Vec<&PlaceRecord> = key.live().filter(|p| p.place.role == Role::Authorized).collect();
        if !places.is_empty() {
            out.extend(revoked(view, &listed, key, &places));
            out.extend(ending(view, key, &places));
        }
    }
}

fn revoked<'a>(view: &View<'a>, listed: &HashMap<&str, (&KeyRecord, Option<&str>)>, key: &'a KeyRecord, places: &[&PlaceRecord]) -> Option<Finding> {
    let list = listed.get(key.facts.fingerprint.as_str());
    let told = view.revoked(key);
    if list.is_none() && told.is_none() {
        return None;
    }
    let first = places.first()?;
    let fingerprint = key.facts.fingerprint.as_str();
    let mut draft = Draft::about(FindingKind::AuthorizedKeyRevoked, Severity::Critical, key, places.to_vec());
    if let Some((list, reason)) = list {
        let at = list.live().next().map(|p| format!("{} on {}", p.place.path, p.host)).unwrap_or_default();
        draft.since_ms = Some(super::revoked::known_since(list, places).max(list.first_seen_ms));
        draft = draft.with("revoked by", reason.map_or(at.clone(), |reason| format!("{at}: {reason}")));
    } else if let Some(told) = told {
        draft.since_ms = Some(super::revoked::known_since(told, places));
        draft = draft.with("revoked by", revocation(told, key));
    }
    let comment = key.facts.subject.as_deref().filter(|comment| !comment.is_empty()).map(|comment| format!("{}, ", shown(comment)));
    let comment = comment.unwrap_or_default();
    draft = draft.with("key", format!("{comment}{fingerprint}"));
    draft.evidence.extend(places.iter().take(super::SHOWN_MAX).map(|p| ("line", format!("key {} of {} on {}", p.place.slot + 1, p.place.path, p.host))));
    let title = format!("The revoked key {comment}{fingerprint} may still log in{}, by key {} of {}", draft.on(), first.place.slot + 1, first.place.path);
    let remedy = format!(
        "Remove its line from {}, and from every other file named here: `ssh-keygen -lf {}` tells which of the keys it is. \
        `RevokedKeys` in sshd_config refuses it everywhere.",
        shown(&first.place.path),
        quoted(first.place.path_inside())
    );
    Some(draft.finish(title, remedy))
}

/// Lines with a time until which they count: the soonest, with all that end within the month.
fn ending(view: &View<'_>, key: &KeyRecord, places: &[&PlaceRecord]) -> Option<Finding> {
    let soon: Vec<&PlaceRecord> = places.iter().copied().filter(|p| p.place.not_after_ms.is_some_and(|end| end <= view.now_ms + 30 * DAY_MS)).collect();
    let end = soon.iter().filter_map(|p| p.place.not_after_ms).min()?;
    let left = end - view.now_ms;
    // What was let in for a while is meant to end: nobody needs to be woken.
    let severity = if left <= DAY_MS { Severity::Warning } else { Severity::Info };
    let kind = if left <= 0 { FindingKind::Expired } else { FindingKind::Expiring };
    let draft = Draft::about(kind, severity, key, soon).since(if left <= 0 { end } else { end - 30 * DAY_MS }.max(key.first_seen_ms));
    let title = match left {
        ..=0 => format!("{}{} may no longer log in, since {}", draft.name(), draft.on(), length(-left)),
        _ => format!("{}{} may log in for another {}", draft.name(), draft.on(), length(left)),
    };
    Some(draft.finish(title, "Whoever has it is refused from then on: write a later `expiry-time` into authorized_keys, or remove the line."))
}
