//! Halves that lack each other, where they are meant to be together: a certificate that a configuration names, or that has a
//! key file of its own name, without its key; a key that is named beside certificates, without one. Anything else that
//! lies alone may well be meant to.

use std::collections::{HashMap, HashSet};

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::KeyKind;

use super::super::name::quoted;
use super::super::{KeyRecord, PlaceRecord};
use super::view::{View, held};
use super::{Draft, Finding};

/// What lies on hosts under one name, or is named by one configuration.
struct Around<'a> {
    /// Private keys by host and path without the ending.
    keys: HashMap<(&'a str, &'a str), Vec<&'a KeyRecord>>,
    /// Hosts and configurations that name a certificate.
    configs: HashSet<(&'a str, &'a str)>,
    /// Hosts and directories with a private key that cannot be told without its password.
    sealed: HashSet<(&'a str, &'a str)>,
}

impl<'a> Around<'a> {
    fn of(view: &View<'a>) -> Self {
        let mut around = Self { keys: HashMap::new(), configs: HashSet::new(), sealed: HashSet::new() };
        for key in view.own() {
            for p in held(key) {
                match key.facts.kind {
                    KeyKind::PrivateKey if key.is_secret_at(p) => {
                        around.keys.entry((&p.host, stem(&p.place.path))).or_default().push(key);
                        if is_sealed(key) {
                            around.sealed.insert((&p.host, directory(&p.place.path)));
                        }
                    }
                    KeyKind::Certificate => around.configs.extend(p.place.used_by.iter().map(|user| (p.host.as_str(), config(user)))),
                    _ => {}
                }
            }
        }
        around
    }
}

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    let around = Around::of(view);
    for key in view.own() {
        match key.facts.kind {
            KeyKind::Certificate if key.facts.is_ca != Some(true) => out.extend(alone(view, &around, key)),
            KeyKind::PrivateKey if !is_sealed(key) => out.extend(keyless(view, &around, key)),
            _ => {}
        }
    }
}

fn alone(view: &View<'_>, around: &Around<'_>, key: &KeyRecord) -> Option<Finding> {
    if view.standing(key).is_some_and(|s| s.superseded_by.is_some()) {
        return None;
    }
    let missing = |p: &&PlaceRecord| !view.has_secret(key, &p.host);
    let namesake = |p: &PlaceRecord| around.keys.get(&(p.host.as_str(), stem(&p.place.path))).is_some_and(|all| all.iter().all(|other| !is_sealed(other)));
    let named = |p: &PlaceRecord| !p.place.used_by.is_empty() && !around.sealed.contains(&(p.host.as_str(), directory(&p.place.path)));
    let places: Vec<&PlaceRecord> = held(key).filter(|p| namesake(p) || named(p)).filter(missing).collect();
    let mismatch = places.iter().any(|p| namesake(p));
    let first = places.first()?;
    let user = first.place.used_by.first().cloned();
    let path = first.place.path.clone();
    let mut draft = Draft::about(FindingKind::CertificateWithoutKey, Severity::Warning, key, places);
    if let Some(user) = user {
        draft = draft.with("named by", user);
    }
    let title = match mismatch {
        true => format!("The key file beside {}{} is not its key", draft.name(), draft.on()),
        false => format!("{}{} lies without its private key", draft.name(), draft.on()),
    };
    let remedy = format!(
        "Compare `openssl x509 -noout -pubkey -in {}` with `openssl pkey -pubout -in KEY`: install the key it was issued for, or issue it anew.",
        quoted(&path)
    );
    Some(draft.finish(title, remedy))
}

fn keyless(view: &View<'_>, around: &Around<'_>, key: &KeyRecord) -> Option<Finding> {
    let expected = |p: &&PlaceRecord| p.place.used_by.iter().any(|user| around.configs.contains(&(p.host.as_str(), config(user))));
    // A request is a certificate to come.
    let answered = |kind| matches!(kind, KeyKind::Certificate | KeyKind::CertificateRequest);
    let places: Vec<&PlaceRecord> = held(key).filter(expected).filter(|p| !view.lies(key, &p.host, answered)).collect();
    let user = places.first()?.place.used_by.first().cloned().unwrap_or_default();
    let draft = Draft::about(FindingKind::KeyWithoutCertificate, Severity::Warning, key, places).with("named by", user);
    let title = format!("The private key {}{} belongs to no certificate there", draft.name(), draft.on());
    Some(draft.finish(title, "The configuration names a certificate of another key: put the matching pair in place before the next reload."))
}

/// Whether its public half is not known, so that nothing can be said of what it belongs to.
fn is_sealed(key: &KeyRecord) -> bool {
    key.facts.encrypted == Some(true) && key.facts.fingerprint == key.facts.id && key.facts.bits.is_none()
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn stem(path: &str) -> &str {
    let file = path.len() - path.rsplit('/').next().map_or(0, str::len);
    path.rfind('.').filter(|at| *at > file).map_or(path, |at| &path[..at])
}

/// `nginx: /etc/nginx/nginx.conf` of `nginx: /etc/nginx/nginx.conf:12`.
fn config(user: &str) -> &str {
    user.rsplit_once(':').filter(|(_, line)| !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit())).map_or(user, |(config, _)| config)
}
