//! What ends soon or has ended: certificates by their chain, SSH certificates, OpenPGP keys, keys that may log in until a
//! day, keys of the kernel, and revocation lists whose next issue is due. A life of less than 90 days is measured by its own
//! length, where it is usual to be renewed so soon: an SSH certificate of a day is not "expiring" from its first minute, and
//! neither is the successor of a certificate that lived as short.

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::{KeyKind, Role};

use super::super::name::{length, name};
use super::super::{KeyRecord, PlaceRecord};
use super::view::{View, is_used};
use super::{Draft, Finding};

const DAY_MS: i64 = 86_400_000;
/// Lives that are longer are measured in days.
const FULL_LIFE_MS: i64 = 90 * DAY_MS;
/// What ended so long ago, and is used by nothing that we see, is history.
const HISTORY_MS: i64 = 30 * DAY_MS;

/// How much of `days` before the end still counts for something that lives `life_ms`.
#[must_use]
pub(in crate::keys) fn scaled(days: i64, life_ms: i64) -> i64 {
    let full = days * DAY_MS;
    if life_ms >= FULL_LIFE_MS || life_ms <= 0 { full } else { full / 90 * (life_ms / 1_000) / (DAY_MS / 1_000) }
}

/// The length by which what is left of a life is measured, where that is not in days.
#[must_use]
pub(in crate::keys) fn measure(key: &KeyRecord, renewed_so_soon: bool) -> Option<i64> {
    life(key).filter(|life| *life < FULL_LIFE_MS && (key.facts.kind != KeyKind::Certificate || renewed_so_soon || key.is_our_own()))
}

/// How long it lives in all, as far as is known.
#[must_use]
pub(in crate::keys) fn life(key: &KeyRecord) -> Option<i64> {
    let end = key.facts.not_after_ms?;
    Some(end - key.facts.not_before_ms.unwrap_or(key.first_seen_ms).min(end))
}

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    for key in view.own().filter(|key| key.expiry_matters(view.now_ms)) {
        let standing = view.standing(key);
        if standing.is_some_and(|s| s.superseded_by.is_some() || s.companion) {
            continue;
        }
        let Some(own) = key.facts.not_after_ms else { continue };
        let life = measure(key, standing.is_some_and(|s| s.renewed_so_soon)).unwrap_or(FULL_LIFE_MS);
        let chain = standing.and_then(|s| s.chain_end.as_ref());
        let end = chain.map_or(own, |(end, _)| own.min(*end));
        let left = end - view.now_ms;
        if key.facts.kind == KeyKind::KernelKey {
            out.extend(kernel(key, left));
            continue;
        }
        let severity = match left {
            ..=0 => ended(key, -left),
            _ if left <= scaled(1, life) => Severity::Critical,
            _ if left <= scaled(14, life) => Severity::Warning,
            _ if left <= scaled(30, life) => Severity::Info,
            _ => continue,
        };
        let kind = if left <= 0 { FindingKind::Expired } else { FindingKind::Expiring };
        let since = if left <= 0 { end } else { end - scaled(30, life) };
        let mut draft = Draft::about(kind, severity, key, places(key)).since(since.max(key.first_seen_ms)).with("ends", date(end));
        if let Some((_, link)) = chain {
            let link = view.get(link);
            draft = draft.with("soonest link of its chain", link.map(name).unwrap_or_default());
        }
        let title = match left {
            ..=0 => format!("{}{} expired {} ago", draft.name(), draft.on(), length(-left)),
            _ => format!("{}{} expires in {}", draft.name(), draft.on(), length(left)),
        };
        let remedy = remedy(key, chain.is_some());
        out.push(draft.finish(title, remedy));
    }
}

fn ended(key: &KeyRecord, ago_ms: i64) -> Severity {
    let used = key.live().any(is_used);
    match ago_ms > HISTORY_MS {
        _ if used => Severity::Critical,
        true => Severity::Info,
        false => Severity::Warning,
    }
}

fn places(key: &KeyRecord) -> Vec<&PlaceRecord> {
    key.own().filter(|p| p.place.role != Role::Peer).collect()
}

fn remedy(key: &KeyRecord, by_chain: bool) -> &'static str {
    match key.facts.kind {
        _ if by_chain => "Get the authority's newer intermediate certificate, put it into the chain, and reload whoever serves it.",
        KeyKind::SshCertificate => "Have the authority sign the key again (`ssh-keygen -s CA -I ID -n PRINCIPALS -V +52w KEY.pub`).",
        KeyKind::OpenpgpPrivateKey => "Extend it (`gpg --quick-set-expire FINGERPRINT 1y`) and publish it, or make a new one.",
        KeyKind::OpenpgpPublicKey => "Fetch the publisher's current key and put it in this one's place; until then what it signs is refused.",
        _ => "Renew it, and reload whoever uses it. If nothing does, remove the file.",
    }
}

/// Keys of the kernel time out as they were told to: who needs one for longer should know.
fn kernel(key: &KeyRecord, left: i64) -> Option<Finding> {
    let life = life(key)?;
    if left <= 0 || left > life / 10 {
        return None;
    }
    let draft = Draft::about(FindingKind::KernelKeyExpiring, Severity::Info, key, places(key)).with("lives in all", length(life));
    let title = format!("The kernel's key {}{} times out in {}", draft.name(), draft.on(), length(left));
    Some(draft.finish(title, "If a service needs it for longer, have it renewed (`keyctl timeout ID SECONDS`)."))
}

/// Revocation lists that are due, or overdue: who checks against one refuses all, or believes what is no longer so.
pub(super) fn stale_lists(view: &View<'_>, out: &mut Vec<Finding>) {
    for key in view.own().filter(|key| key.facts.kind == KeyKind::Crl) {
        let (Some(end), Some(life)) = (key.facts.not_after_ms, life(key)) else { continue };
        let left = end - view.now_ms;
        if left > (life / 10).min(DAY_MS) {
            continue;
        }
        // An older list that was left beside the newer one waits for nobody, unless a configuration names it.
        let heirs = || view.lists(key).filter(|list| list.facts.not_before_ms > key.facts.not_before_ms);
        let is_needed = |p: &&PlaceRecord| is_used(p) || !heirs().any(|list| list.places.on(&p.host).any(|at| !at.gone));
        let places: Vec<&PlaceRecord> = places(key).into_iter().filter(is_needed).collect();
        if places.is_empty() {
            continue;
        }
        let severity = if left <= 0 { Severity::Warning } else { Severity::Info };
        let draft = Draft::about(FindingKind::StaleCrl, severity, key, places).since(end.min(view.now_ms)).with("next update", date(end));
        let title = match left {
            ..=0 => format!("The revocation list of {}{} is {} overdue", draft.name(), draft.on(), length(-left)),
            _ => format!("The revocation list of {}{} is due in {}", draft.name(), draft.on(), length(left)),
        };
        out.push(draft.finish(title, "Fetch the authority's newest list and put it in this one's place, by a timer."));
    }
}

pub(super) fn date(ms: i64) -> String {
    keyvigil_common::clock::utc(ms).map_or_else(|| "unknown".into(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}
