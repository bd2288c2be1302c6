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

    host.shop.revoke("one", "keys/web.pem", "keys/list.pem");
    host.pass(Duration::from_secs(5));
    let second = host.look();
    let revoked: Vec<&Event> = second.events.iter().filter(|event| event.kind == EventKind::Revoked).collect();
    assert_eq!(revoked.iter().map(|event| event.path.as_deref()).collect::<Vec<_>>(), [Some("/keys/web.pem")], "{:?}", second.events);
    assert!(revoked[0].message.contains("/keys/list.pem: keyCompromise"), "{}", revoked[0].message);
    assert!(sighting(&second, "/keys/web.pem").facts.revoked_ms.is_some_and(|at| (host.now.wall_ms - at).abs() < 600_000));
    let list = sighting(&second, "/keys/list.pem");
    assert_eq!(list.facts.revokes.iter().map(|line| line.what.as_str()).collect::<Vec<_>>(), ["beef"]);
    assert_eq!(value(&second, "crypto.key.revoked_total", None), Some(1.0));

    host.restart();
    assert!(host.settle().is_empty(), "said once, over a restart, too");
    std::fs::remove_file(host.shop.path("keys/list.pem")).unwrap();
    host.pass(Duration::from_secs(5));
    assert_eq!(sighting(&host.look(), "/keys/web.pem").facts.revoked_ms, None, "who takes the list away takes its word away");
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
