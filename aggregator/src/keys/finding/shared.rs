//! Private keys that lie on more than one host, or that more than one service of a host uses: who gets into one of them is
//! all of them. Copies on one host for one service are its own matter; secrets that two sides hold are meant to be shared.

use std::collections::BTreeSet;

use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::key::KeyKind;

use super::super::{KeyRecord, PlaceRecord};
use super::view::{View, secret};
use super::{Draft, Finding};

pub(super) fn detect(view: &View<'_>, out: &mut Vec<Finding>) {
    for (fingerprint, cluster) in view.clusters() {
        let private: Vec<&KeyRecord> = cluster.into_iter().filter(|key| key.facts.kind.is_private() && key.facts.kind != KeyKind::SymmetricKey).collect();
        let places: Vec<&PlaceRecord> = private.iter().flat_map(|key| secret(key)).collect();
        let Some(first) = private.first() else { continue };
        let services: BTreeSet<&str> = places.iter().flat_map(|p| &p.place.used_by).map(|user| service(user)).collect();
        // A token's handle opens nothing without the token.
        if places.len() < 2 || first.facts.algorithm.ends_with("-sk") {
            continue;
        }
        let kind = if proves_hosts(&places) { FindingKind::SshHostKeyShared } else { FindingKind::PrivateKeyShared };
        let mut draft = Draft { keys: private.clone(), ..Draft::new(kind, Severity::Warning, fingerprint) };
        draft.since_ms = second_host(&places);
        draft.places = places;
        let hosts = draft.hosts().len();
        match (kind, hosts) {
            (FindingKind::SshHostKeyShared, 2..) => {
                draft.severity = Severity::Critical;
                let title = format!("{hosts} hosts prove who they are with the same SSH host key");
                let remedy =
                    "The hosts were copied from one image: on all but one, `rm /etc/ssh/ssh_host_*`, `ssh-keygen -A`, restart sshd, and tell who connects.";
                out.push(draft.finish(title, remedy));
            }
            (_, 2..) => {
                let title = format!("The private key of {} lies on {hosts} hosts", subject(view, first));
                out.push(draft.finish(title, remedy(first.facts.kind)));
            }
            _ if services.len() > 1 => {
                draft.severity = Severity::Info;
                let names = services.into_iter().collect::<Vec<_>>().join(", ");
                let title = format!("The private key of {}{} is used by {names}", subject(view, first), draft.on());
                let draft = draft.with("services", names);
                out.push(draft.finish(title, "If one of them is broken into, the others are too: give each service its own key."));
            }
            _ => {}
        }
    }
}

/// What the key is for: the certificate's name says it better than the file's.
fn subject(view: &View<'_>, key: &KeyRecord) -> String {
    let certificate = view.cluster(key).filter(|other| other.facts.kind == KeyKind::Certificate).max_by_key(|other| other.facts.not_after_ms);
    super::name(certificate.unwrap_or(key))
}

/// `nginx` of `nginx: /etc/nginx/nginx.conf:12`.
pub(super) fn service(user: &str) -> &str {
    user.split_once(':').map_or(user, |(service, _)| service.trim())
}

fn remedy(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::SshPrivateKey => {
            "Whoever gets it from one host is let in wherever it is authorised: make a key on each host (`ssh-keygen`), and authorise each."
        }
        KeyKind::OpenpgpPrivateKey => {
            "Whoever gets it from one host signs and reads as its owner: keep the primary key in one place, and give each host a subkey."
        }
        _ => "Whoever gets it from one host is all of them: make a key on each host, and have each its own certificate.",
    }
}

/// Whether more than one host proves who it is with it: a copy in a backup proves nothing.
fn proves_hosts(places: &[&PlaceRecord]) -> bool {
    let is_host_key = |p: &PlaceRecord| {
        let (directory, file) = p.place.path_inside().rsplit_once('/').unwrap_or_default();
        file.starts_with("ssh_host_") && directory.ends_with("/ssh") || p.place.used_by.iter().any(|user| service(user) == "sshd")
    };
    let hosts: BTreeSet<&str> = places.iter().filter(|p| is_host_key(p)).map(|p| p.host.as_str()).collect();
    hosts.len() > 1
}

/// When it was first seen on a second host.
fn second_host(places: &[&PlaceRecord]) -> Option<i64> {
    let mut firsts: Vec<(&str, i64)> = places.iter().map(|p| (p.host.as_str(), p.first_seen_ms)).collect();
    firsts.sort_unstable();
    firsts.dedup_by_key(|(host, _)| *host);
    let mut times: Vec<i64> = firsts.into_iter().map(|(_, at)| at).collect();
    times.sort_unstable();
    times.get(1).or(times.first()).copied()
}
