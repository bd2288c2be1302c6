//! Which certificates were replaced without taking each other's place: those of an archive of renewals, or of a directory
//! named after the date. Same names, same use and same issuer on the same host, with a newer one that is valid and nothing
//! that still uses the old one.

use std::collections::HashMap;

use keyvigil_common::key::{KeyKind, Role};
use keyvigil_common::tls::AGGREGATOR_NAME;

use super::super::record::{KeyRecord, Status};
use super::chain::signs;
use super::view::{Standing, View, is_self_signed, is_used};

/// Certificates of two algorithms that were made within this time are a pair.
const PAIR_MS: i64 = 7 * 86_400_000;

/// What two certificates of one line have in common on a host.
type Line<'a> = (&'a str, Vec<&'a str>, &'a str, &'a [String]);

pub(super) fn superseded<'a>(view: &View<'a>) -> HashMap<&'a str, Standing> {
    let mut lines: HashMap<Line<'a>, Vec<&'a KeyRecord>> = HashMap::new();
    let servers = Servers::of(view);
    for key in view.own().filter(|key| key.facts.kind == KeyKind::Certificate && servers.has(key)) {
        let Some((names, issuer)) = names(key) else { continue };
        for host in hosts(key) {
            lines.entry((host, names.clone(), issuer, usage(key))).or_default().push(key);
        }
    }
    let mut standing = succeeded(view, &servers, &lines);
    // Of each older one, the hosts where it was replaced, and by what.
    let mut replaced: HashMap<&str, (usize, &KeyRecord, &KeyRecord)> = HashMap::new();
    for ((host, ..), line) in lines.iter().filter(|(_, line)| line.len() > 1) {
        let valid = |key: &&&KeyRecord| key.status(view.now_ms) == Status::Active && key.facts.not_before_ms.is_none_or(|from| from <= view.now_ms);
        let Some(newest) = line.iter().filter(valid).max_by_key(|key| age(key)) else { continue };
        for old in line.iter().filter(|old| succeeds(newest, old) && !old.live().any(|p| p.host == *host && is_used(p))) {
            replaced.entry(&old.facts.id).or_insert((0, old, newest)).0 += 1;
        }
    }
    let everywhere = replaced.into_iter().filter(|(_, (count, old, _))| *count == hosts(old).len());
    standing.extend(everywhere.map(|(id, (_, _, newest))| (id, by(newest))));
    standing
}

/// Whether `new` was made to take the place of `old`. A server may have two at once, of two algorithms: those are made together.
fn succeeds(new: &KeyRecord, old: &KeyRecord) -> bool {
    let apart = || new.facts.not_before_ms.zip(old.facts.not_before_ms).is_none_or(|(new, old)| new - old >= PAIR_MS);
    // Who put an older one back in the place of a newer one wants the older one.
    let is_put_back = old.replaces.as_ref() == Some(&new.facts.id);
    !is_put_back && age(old) < age(new) && (new.facts.algorithm == old.facts.algorithm || apart())
}

fn by(newest: &KeyRecord) -> Standing {
    Standing { superseded_by: Some(newest.facts.id.clone()), ..Standing::default() }
}

/// Certificates that lie nowhere any more, while a newer one of their line lies wherever they did: who put the new one in place
/// somewhat later, or beside them, has replaced them, and removed nothing.
fn succeeded<'a>(view: &View<'a>, servers: &Servers<'_, 'a>, lines: &HashMap<Line<'a>, Vec<&'a KeyRecord>>) -> HashMap<&'a str, Standing> {
    let successor = |old: &'a KeyRecord| {
        let (names, issuer) = names(old)?;
        let mut hosts: Vec<&str> = old.places.iter().filter(|p| p.place.role != Role::Peer).map(|p| p.host.as_str()).collect();
        hosts.dedup();
        let newest = |host| lines.get(&(host, names.clone(), issuer, usage(old)))?.iter().copied().max_by_key(|key| age(key));
        let heirs: Option<Vec<&KeyRecord>> = hosts.into_iter().map(|host| newest(host).filter(|heir| succeeds(heir, old))).collect();
        heirs?.into_iter().max_by_key(|heir| age(heir))
    };
    // Of what is gone the private key may be as well: whose heir is a server's was one.
    let gone = view.gone.iter().filter(|key| servers.is_no_authority(key));
    gone.filter_map(|old| Some((old.facts.id.as_str(), by(successor(old)?)))).collect()
}

/// Which certificates prove who a server or a client is. `openssl req -x509` calls what it makes an authority, and so do many who
/// sign their own: those that nobody else was signed by are told from real ones by how they are kept.
struct Servers<'v, 'a> {
    view: &'v View<'a>,
    /// What others have signed, by their names.
    issued: HashMap<&'a str, Vec<&'a KeyRecord>>,
}

impl<'v, 'a> Servers<'v, 'a> {
    fn of(view: &'v View<'a>) -> Self {
        let mut issued: HashMap<&str, Vec<&KeyRecord>> = HashMap::new();
        for key in view.keys.iter().filter(|key| key.facts.kind == KeyKind::Certificate && !is_self_signed(key)) {
            issued.entry(key.facts.issuer.as_deref().unwrap_or_default()).or_default().push(key);
        }
        Self { view, issued }
    }

    fn has(&self, key: &KeyRecord) -> bool {
        if key.facts.is_ca != Some(true) {
            return true;
        }
        let is_served = key.live().any(|p| p.place.served.is_some());
        let has_secret = || key.live().any(|p| self.view.has_secret(key, &p.host));
        let is_trusted = || key.live().any(|p| p.place.role == Role::Trusted);
        let names_a_host = || key.facts.sans.iter().any(|san| san.starts_with("DNS:") || san.starts_with("IP:"));
        let may_sign = || key.facts.usage.iter().any(|usage| usage == "keyCertSign");
        self.is_no_authority(key) && (is_served || if names_a_host() { !is_trusted() || has_secret() } else { !may_sign() && has_secret() })
    }

    /// Whether it is none, or signed by itself and has signed nothing that anybody knows.
    fn is_no_authority(&self, key: &KeyRecord) -> bool {
        let issued = || self.issued.get(key.facts.subject.as_deref().unwrap_or_default()).into_iter().flatten();
        key.facts.is_ca != Some(true) || is_self_signed(key) && !issued().any(|other| signs(key, other))
    }
}

/// What it may be used for; of our own, whatever we make them for.
fn usage(key: &KeyRecord) -> &[String] {
    if key.is_our_own() { &[] } else { &key.facts.usage }
}

fn age(key: &KeyRecord) -> (Option<i64>, Option<i64>, &str) {
    (key.facts.not_before_ms, key.facts.not_after_ms, &key.facts.id)
}

fn hosts(key: &KeyRecord) -> Vec<&str> {
    let mut hosts: Vec<&str> = key.live().filter(|p| p.place.role != Role::Peer).map(|p| p.host.as_str()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// The names it is for, and who issued it. An authority that renews its intermediates keeps the name of its organisation.
fn names(key: &KeyRecord) -> Option<(Vec<&str>, &str)> {
    let facts = &key.facts;
    if key.is_our_own() {
        // Its names are those by which the aggregator is reached, and its issuer may be replaced.
        return Some((vec![AGGREGATOR_NAME], AGGREGATOR_NAME));
    }
    let mut names: Vec<&str> = facts.sans.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(facts.subject.as_deref().filter(|subject| !subject.is_empty()));
    }
    names.sort_unstable();
    let issuer = facts.issuer.as_deref()?;
    let organisation = issuer.split(',').map(str::trim).find(|part| part.starts_with("O="));
    (!names.is_empty()).then_some((names, organisation.unwrap_or(issuer)))
}
