//! Private keys that nobody was seen to use, and authorised ones of which the private half is watched. Only where both sensors of use
//! have seen for long on every host where the private half lies: while nothing observes, nothing is said, as no record is no proof.

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::Role;

use super::super::name::{length, shown};
use super::super::observed::Sensor;
use super::super::{KeyRecord, PlaceRecord};
use super::expiry::date;
use super::view::{View, secret};
use super::{Draft, Finding};

/// How long must have been observed before a key counts as unused.
const UNUSED_MS: i64 = 90 * 86_400_000;

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    if view.observed.as_ref().is_none_or(|observed| observed.is_empty()) {
        return;
    }
    for key in view.own() {
        let held: Vec<&PlaceRecord> = secret(key).filter(|p| p.place.served.is_none()).collect();
        let authorized: Vec<&PlaceRecord> = key.live().filter(|p| p.place.role == Role::Authorized).collect();
        if held.is_empty() && authorized.is_empty() {
            continue;
        }
        let Some(unused) = unused(view, key) else { continue };
        if !held.is_empty() {
            out.push(private(key, held, &unused));
        }
        if !authorized.is_empty() && unused.last_used_ms.is_none() {
            out.push(login(key, authorized, &unused));
        }
    }
}

/// That nobody was seen to use a key.
struct Unused {
    /// Since when that is observed on every host, Unix ms.
    since_ms: i64,
    /// How long it was observed after that and after its last use, on the host that observed least, ms.
    observed_ms: i64,
    last_used_ms: Option<i64>,
    /// What may have been used unseen.
    gaps: Vec<String>,
}

fn unused(view: &View<'_>, key: &KeyRecord) -> Option<Unused> {
    let observed = view.observed.as_ref()?;
    let places: Vec<&PlaceRecord> = view.cluster(key).flat_map(secret).filter(|p| p.place.served.is_none()).collect();
    let last_used_ms = view.cluster(key).filter_map(|form| form.last_used_ms).max();
    let (mut since_ms, mut observed_ms, mut gaps) = (i64::MIN, i64::MAX, Vec::new());
    for p in &places {
        let of_host = observed.get(&p.host)?;
        let from = p.first_seen_ms.max(last_used_ms.unwrap_or(i64::MIN));
        for sensor in Sensor::ALL {
            let sight = of_host.sights.get(&sensor).filter(|sight| sight.sees(view.now_ms))?;
            since_ms = since_ms.max(sight.since_ms()?.max(p.first_seen_ms));
            observed_ms = observed_ms.min(sight.seen_since_ms(from, view.now_ms));
            let told = of_host.gaps.get(&sensor).into_iter().flatten();
            gaps.extend(told.map(|(what, reason)| format!("{what} on {}: {reason}", p.host)));
        }
    }
    gaps.sort_unstable();
    gaps.dedup();
    (!places.is_empty() && observed_ms >= UNUSED_MS).then_some(Unused { since_ms, observed_ms, last_used_ms, gaps })
}

fn about<'a>(kind: FindingKind, key: &'a KeyRecord, places: Vec<&'a PlaceRecord>, unused: &Unused) -> Draft<'a> {
    let draft = Draft::about(kind, Severity::Info, key, places).since(unused.last_used_ms.unwrap_or(unused.since_ms));
    let mut draft = draft.with("observed since", date(unused.since_ms)).with("observed for", length(unused.observed_ms));
    draft.evidence.extend(unused.last_used_ms.map(|at| ("last used", date(at))));
    draft.evidence.extend(unused.gaps.iter().take(8).map(|gap| ("may be used unseen by", gap.clone())));
    draft
}

fn private(key: &KeyRecord, places: Vec<&PlaceRecord>, unused: &Unused) -> Finding {
    let path = places.first().map(|p| shown(&p.place.path)).unwrap_or_default();
    let draft = about(FindingKind::PrivateKeyUnused, key, places, unused);
    let title = match unused.last_used_ms {
        Some(_) => format!("Nobody was seen to use {}{} for {}", draft.name(), draft.on(), length(unused.observed_ms)),
        None => format!("Nobody was seen to use {}{} since use is observed, for {}", draft.name(), draft.on(), length(unused.observed_ms)),
    };
    draft.finish(title, format!("If nobody needs it, take {path} away, and revoke what was issued for it: a key that is not there cannot be stolen."))
}

fn login(key: &KeyRecord, places: Vec<&PlaceRecord>, unused: &Unused) -> Finding {
    let draft = about(FindingKind::AuthorizedKeyNeverUsed, key, places, unused);
    let title = format!("{} may log in{}, and nobody was seen to use its private half in {}", draft.name(), draft.on(), length(unused.observed_ms));
    draft.finish(title, "If nobody has a copy elsewhere and needs it, remove its line from authorized_keys.")
}
