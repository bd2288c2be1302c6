//! Keys that a revocation list on the same host revokes.

use super::*;

fn sighting<'a>(sink: &'a Sink, path: &str) -> &'a keyvigil_common::key::Sighting {
    sink.sightings.iter().find(|sighting| sighting.place.path == path && !sighting.gone).unwrap_or_else(|| panic!("{path} was not told"))
}

#[test]
fn a_list_that_appears_revokes_once_and_only_what_its_own_authority_issued() {
    let mut host = Host::new(&["/keys"]);
    host.shop.authority("one", "ca");
    host.shop.authority("two", "ca");
    host.shop.issue("one", "keys/web.pem", "web", "0xBEEF");
    host.shop.issue("one", "keys/good.pem", "good", "0xBEE0");
    // Another authority of the same name gave the same number.
    host.shop.issue("two", "keys/other.pem", "other", "0xBEEF");
    let first = host.look();
    assert!(first.sightings.iter().all(|sighting| sighting.facts.revoked_ms.is_none()));

    host.shop.openssl("ca -config one/ca.cnf -keyfile one/ca.key -cert one/ca.pem -gencrl -crl_lastupdate 20200101000000Z -out unlisted.pem");
    let unlisted = host.shop.read("unlisted.pem");
    host.shop.revoke("one", "keys/web.pem", "keys/list.pem");
    host.pass(Duration::from_secs(5));
    let second = host.look();
    let revoked: Vec<&Event> = second.events.iter().filter(|event| event.kind == EventKind::Revoked).collect();
    assert_eq!(revoked.iter().map(|event| event.path.as_deref()).collect::<Vec<_>>(), [Some("/keys/web.pem")], "{:?}", second.events);
    assert!(revoked[0].message.contains("/keys/list.pem: keyCompromise"), "{}", revoked[0].message);
    assert!(sighting(&second, "/keys/web.pem").facts.revoked_ms.is_some_and(|at| (host.now.wall_ms - at).abs() < 600_000));
    let appeared = second.events.iter().find(|event| event.path.as_deref() == Some("/keys/list.pem")).unwrap();
    assert!(appeared.message.starts_with("revocation list CN=") && !appeared.message.contains('('), "{}", appeared.message);
    let list = sighting(&second, "/keys/list.pem");
    assert_eq!(list.facts.revokes.iter().map(|line| line.what.as_str()).collect::<Vec<_>>(), ["beef"]);
    assert_eq!(value(&second, "crypto.key.revoked_total", None), Some(1.0));

    host.restart();
    assert!(host.settle().is_empty(), "said once, over a restart, too");
    let list_bytes = host.shop.read("keys/list.pem");
    std::fs::remove_file(host.shop.path("keys/list.pem")).unwrap();
    host.pass(Duration::from_secs(5));
    let gone = host.look();
    let facts = &sighting(&gone, "/keys/web.pem").facts;
    assert!(facts.revoked_ms.is_some(), "a list that is gone takes nothing back");
    assert_eq!(facts.revocation.as_deref(), Some("revocation list /keys/list.pem: keyCompromise (that list is gone)"));
    host.restart();
    host.pass(Duration::from_secs(5));
    assert_eq!(kinds(&host.settle()), [EventKind::Removed], "of the list alone");
    std::fs::rename(host.shop.path("keys/web.pem"), host.shop.path("keys/moved.pem")).unwrap();
    let moved = host.look();
    assert!(sighting(&moved, "/keys/moved.pem").facts.revoked_ms.is_some(), "nor does another name");
    host.shop.write("keys/list.pem", list_bytes);
    let back = host.settle();
    assert_eq!(kinds(&back), [EventKind::Created], "a list that is there again tells nothing new: {back:?}");

    host.shop.write("keys/list.pem", unlisted);
    host.pass(Duration::from_secs(5));
    assert_eq!(kinds(&host.settle()), [EventKind::Rotated], "an older list knows nothing of it");
}

#[test]
fn a_certificate_that_comes_when_it_is_revoked_already_is_told_so() {
    let mut host = Host::new(&["/keys"]);
    host.shop.authority("one", "ca");
    host.shop.issue("one", "web.pem", "web", "0xBEEF");
    host.shop.write("keys/readme", "empty");
    host.shop.revoke("one", "web.pem", "keys/list.pem");
    host.look();
    host.pass(Duration::from_secs(5));
    host.shop.write("keys/web.pem", host.shop.read("web.pem"));
    let kinds: Vec<EventKind> = kinds(&host.settle());
    assert_eq!(kinds, [EventKind::Revoked, EventKind::Created]);
}

#[test]
fn a_hold_that_is_lifted_is_told_with_the_list_that_lifted_it() {
    let mut host = Host::new(&["/keys"]);
    host.shop.authority("one", "ca");
    host.shop.issue("one", "keys/web.pem", "web", "0xBEEF");
    host.look();
    let config = "ca -config one/ca.cnf -keyfile one/ca.key -cert one/ca.pem";
    host.shop.openssl(&format!("{config} -gencrl -crl_lastupdate 20400101000000Z -crl_nextupdate 20410101000000Z -out later.pem"));
    host.shop.revoke("one", "keys/web.pem", "keys/list.pem");
    host.pass(Duration::from_secs(5));
    assert!(kinds(&host.settle()).contains(&EventKind::Revoked));
    host.shop.write("keys/list.pem", host.shop.read("later.pem"));
    host.pass(Duration::from_secs(5));
    let sink = host.look();
    let lifted: Vec<&Event> = sink.events.iter().filter(|event| event.kind == EventKind::RevocationLifted).collect();
    assert_eq!(lifted.len(), 1, "{:?}", sink.events);
    assert!(lifted[0].message.ends_with("in /keys/web.pem is no longer revoked: /keys/list.pem does not name it any more"), "{}", lifted[0].message);
    assert_eq!(sighting(&sink, "/keys/web.pem").facts.revoked_ms, None);
}
