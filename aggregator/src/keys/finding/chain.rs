//! When a chain ends: with the soonest of the links that somebody needs. A root that comes along is not needed, since who
//! trusts it has it; neither is a cross-signature of an authority that is itself trusted. Where there are two ways up, the
//! one that lasts longer counts.

use std::collections::{HashMap, HashSet};

use keyvigil_common::key::{KeyKind, Role};

use super::super::record::KeyRecord;
use super::view::{View, is_self_signed};

/// Links that are followed.
const DEPTH_MAX: usize = 10;

/// Finds out which authorities lie only along with what needs them, and which chains end before their leaf.
pub(super) fn judge(view: &mut View<'_>) {
    let certificates: Vec<&KeyRecord> = view.own().filter(|key| key.facts.kind == KeyKind::Certificate).collect();
    let anchors = Anchors::of(view);
    let by_id: HashMap<&str, &KeyRecord> = certificates.iter().map(|key| (key.facts.id.as_str(), *key)).collect();
    let leaf = |key: &KeyRecord| key.facts.is_ca != Some(true);
    // Authorities by the file they lie in, and the files that hold a leaf.
    let mut files: HashMap<(&str, &str), Vec<&KeyRecord>> = HashMap::new();
    let mut leaf_files: HashSet<(&str, &str)> = HashSet::new();
    for key in &certificates {
        for p in key.live().filter(|p| p.place.served.is_none()) {
            if leaf(key) {
                leaf_files.insert((&p.host, &p.place.path));
            } else {
                files.entry((&p.host, &p.place.path)).or_default().push(key);
            }
        }
    }
    let mut ends = Vec::new();
    let mut companions: HashSet<&str> = HashSet::new();
    for key in certificates.iter().filter(|key| leaf(key)) {
        let served = key.live().filter_map(|p| p.place.served.as_deref()).map(|served| served.chain.iter().filter_map(|id| by_id.get(id.as_str()).copied()));
        let bundled = key.live().filter_map(|p| files.get(&(p.host.as_str(), p.place.path.as_str())));
        let chains = served.map(Iterator::collect::<Vec<_>>).chain(bundled.cloned());
        let soonest = chains.filter_map(|links| end(key, &links, &anchors, DEPTH_MAX)).min_by_key(|(end, _)| *end);
        if let Some((end, link)) = soonest.filter(|(end, link)| link.facts.id != key.facts.id && key.facts.not_after_ms.is_none_or(|own| *end < own)) {
            ends.push((key.facts.id.as_str(), end, link.facts.id.clone()));
        }
    }
    for key in certificates.iter().filter(|key| !leaf(key)) {
        // A place of its own: trusted, or a file without a leaf.
        let own_place = |p: &super::PlaceRecord| p.place.role == Role::Trusted || !leaf_files.contains(&(p.host.as_str(), p.place.path.as_str()));
        if !key.live().any(|p| own_place(p) && p.place.served.is_none()) {
            companions.insert(&key.facts.id);
        }
    }
    for (id, end, link) in ends {
        view.standing.entry(id).or_default().chain_end = Some((end, link));
    }
    for id in companions {
        view.standing.entry(id).or_default().companion = true;
    }
}

/// Roots that are trusted somewhere and are valid, by subject.
struct Anchors<'a>(HashMap<&'a str, Vec<&'a KeyRecord>>);

impl<'a> Anchors<'a> {
    fn of(view: &View<'a>) -> Self {
        let mut anchors: HashMap<&str, Vec<&KeyRecord>> = HashMap::new();
        for (key, shipped) in view.keys.iter().zip(&view.shipped) {
            let trusted = *shipped || key.live().any(|p| p.place.role == Role::Trusted);
            let valid = key.facts.not_after_ms.is_none_or(|end| end > view.now_ms);
            if let Some(subject) = key.facts.subject.as_deref().filter(|_| trusted && valid && is_self_signed(key)) {
                anchors.entry(subject).or_default().push(key);
            }
        }
        Self(anchors)
    }

    fn hold(&self, key: &KeyRecord) -> bool {
        let issuers = key.facts.issuer.as_deref().and_then(|issuer| self.0.get(issuer));
        issuers.is_some_and(|all| all.iter().any(|issuer| signs(issuer, key)))
    }
}

/// Whether `issuer` may have signed `key`, by names and key identifiers.
pub(super) fn signs(issuer: &KeyRecord, key: &KeyRecord) -> bool {
    let named = issuer.facts.subject.is_some() && issuer.facts.subject == key.facts.issuer;
    let ids = issuer.facts.key_id.as_ref().zip(key.facts.authority_key_id.as_ref());
    named && ids.is_none_or(|(own, wanted)| own == wanted)
}

/// When the way up from `key` ends, and by which link.
fn end<'a>(key: &'a KeyRecord, links: &[&'a KeyRecord], anchors: &Anchors<'_>, depth: usize) -> Option<(i64, &'a KeyRecord)> {
    let own = key.facts.not_after_ms.map(|end| (end, key));
    if depth == 0 || is_self_signed(key) || anchors.hold(key) {
        return own;
    }
    let issuers: Vec<&KeyRecord> = links.iter().copied().filter(|link| link.facts.id != key.facts.id && signs(link, key)).collect();
    if issuers.is_empty() || issuers.iter().any(|issuer| is_self_signed(issuer)) {
        return own;
    }
    // A link without an end lasts for ever.
    let ways: Vec<_> = issuers.into_iter().map(|issuer| end(issuer, links, anchors, depth - 1)).collect();
    let above = if ways.iter().any(Option::is_none) { None } else { ways.into_iter().flatten().max_by_key(|(end, _)| *end) };
    own.into_iter().chain(above).min_by_key(|(end, _)| *end)
}
