//! Keys of other forms than X.509's, as the sensor tells them: what they are there for, what their file calls them, and what
//! revokes them.

use keyvigil_common::key::{KeyFacts, KeyKind, Role, Sighting};

use super::*;
use crate::testkit::Gpg;

fn sighting<'a>(sink: &'a Sink, path: &str) -> &'a Sighting {
    sink.sightings.iter().find(|sighting| sighting.place.path == path && !sighting.gone).unwrap()
}

#[test]
fn a_list_of_revoked_ssh_keys_revokes_what_lies_on_the_host() {
    for as_text in [false, true] {
        let mut host = Host::new(&["/etc/ssh"]);
        std::fs::create_dir_all(host.shop.path("/etc/ssh")).unwrap();
        host.shop.ssh_keygen("-q -t ed25519 -N '' -f etc/ssh/lost");
        host.shop.ssh_keygen("-q -t ed25519 -N '' -f etc/ssh/kept");
        host.look();
        host.shop.write("etc/ssh/revoked_keys", if as_text { host.shop.read("etc/ssh/lost.pub") } else { Vec::new() });
        if !as_text {
            host.shop.ssh_keygen("-q -k -f etc/ssh/revoked_keys etc/ssh/lost.pub");
        }
        let sink = host.look();
        let revoked: Vec<_> = sink.events.iter().filter(|event| event.kind == EventKind::Revoked).map(|event| event.path.as_deref().unwrap()).collect();
        assert!(!revoked.is_empty() && revoked.iter().all(|path| path.starts_with("/etc/ssh/lost")), "{revoked:?}");
        let at = sighting(&sink, "/etc/ssh/lost").facts.revoked_ms.unwrap();
        assert!((host.now.wall_ms - at).abs() < 600_000, "since the list was made or written: {at}");
    }
}

#[test]
fn places_say_what_a_key_is_there_for() {
    let mut host = Host::new(&["/home/*/.ssh", "/etc/wireguard"]);
    host.shop.ssh_keygen("-q -t ed25519 -N '' -f k");
    let key = host.shop.text("k.pub");
    host.shop.write("home/a/.ssh/authorized_keys", &key);
    host.shop.write("home/a/.ssh/known_hosts", format!("@revoked web.example {key}"));
    let private = host.shop.run("wg", "genkey");
    host.shop.write("etc/wireguard/privatekey", private);
    let sink = host.look();
    let authorized = &sighting(&sink, "/home/a/.ssh/authorized_keys").place;
    assert_eq!((authorized.role, authorized.format.as_deref()), (Role::Authorized, Some("authorized_keys")));
    let Sighting { facts, place, .. } = sighting(&sink, "/home/a/.ssh/known_hosts");
    assert_eq!((place.role, place.entry.as_deref(), facts.revoked_ms), (Role::Peer, Some("web.example"), place.modified_ms));
    assert_eq!(sighting(&sink, "/etc/wireguard/privatekey").facts.kind, KeyKind::PrivateKey);
    let exposed = sink.events.iter().find(|event| event.kind == EventKind::PolicyViolation).unwrap();
    assert_eq!(exposed.path.as_deref(), Some("/etc/wireguard/privatekey"), "everyone may read it");
}

#[test]
fn copies_of_one_certificate_in_a_file_are_one_and_take_nobody_s_room() {
    let mut host = Host::new(&["/keys"]);
    for (name, days) in [("copied", 30), ("other", 400)] {
        host.shop.certificate(&format!("{name}.pem"), &format!("{name}.key"), name, days);
    }
    let (copied, other) = (host.shop.text("copied.pem"), host.shop.text("other.pem"));
    host.shop.write("keys/copies.pem", format!("{}{other}", copied.repeat(2_500)));
    host.shop.write("keys/other.pem", other);
    let sink = host.look();
    let places: Vec<(&str, u32)> = sink.sightings.iter().map(|s| (s.place.path.as_str(), s.place.slot)).collect();
    assert_eq!(places, [("/keys/copies.pem", 0), ("/keys/copies.pem", 1), ("/keys/other.pem", 0)]);
    assert_eq!(sink.samples.iter().filter(|sample| sample.series.metric_id == "crypto.key.not_after_timestamp_seconds").count(), 3);
    assert!(sink.events.is_empty() && sink.blind.is_empty(), "{:?} {:?}", sink.events, sink.blind);
    host.shop.write("keys/copies.pem", copied.repeat(3));
    let events = host.settle();
    assert_eq!(events.iter().map(|event| (event.kind, event.path.as_deref())).collect::<Vec<_>>(), [(EventKind::Removed, Some("/keys/copies.pem"))]);
}

/// The file of `gpg-agent` has numbers only; by its keyring it is known which key of whose it is, and until when it lasts.
#[test]
fn a_private_key_of_gnupg_and_its_public_half_are_one_key_in_two_places() {
    let mut host = Host::new(&["/home/a"]);
    let gpg = Gpg::new();
    gpg.key("a@example.org", "ed25519", "sign,cert", "1y");
    let key = std::fs::read_dir(gpg.0.path("private-keys-v1.d")).unwrap().next().unwrap().unwrap().path();
    host.shop.write("home/a/.gnupg/private-keys-v1.d/k.key", std::fs::read(key).unwrap());
    // As gpg writes them: the private half first.
    let (private, ring) = ("/home/a/.gnupg/private-keys-v1.d/k.key", "/home/a/.gnupg/pubring.kbx");
    let alone = sighting(&host.look(), private).facts.clone();
    host.shop.write("home/a/.gnupg/pubring.kbx", gpg.0.read("pubring.kbx"));
    host.pass(Duration::from_secs(5));
    let sink = host.look();
    assert!(sink.events.iter().all(|event| event.kind != EventKind::Rotated), "the same key is no other one: {:?}", sink.events);
    let (half, whole) = (sighting(&sink, private).facts.clone(), sighting(&sink, ring).facts.clone());
    assert_eq!((half.kind, half.encrypted), (KeyKind::OpenpgpPrivateKey, Some(false)));
    assert_eq!(KeyFacts { kind: whole.kind, encrypted: None, ..half.clone() }, whole);
    assert!(half.not_after_ms.is_some() && half.subject.as_deref() == Some("a@example.org"));
    let left = sink.sightings.iter().find(|sighting| sighting.gone).unwrap();
    assert_eq!((&left.facts.id, left.place.path.as_str()), (&alone.id, private), "nothing lies there under its older id");

    gpg.run(&format!("--quick-set-expire {} 2y", whole.key_id.clone().unwrap()));
    host.shop.write("home/a/.gnupg/pubring.kbx", gpg.0.read("pubring.kbx"));
    host.pass(Duration::from_secs(5));
    let sink = host.look();
    assert!(sighting(&sink, private).facts.not_after_ms > half.not_after_ms, "what its keyring says anew is said of it, too");
    std::fs::remove_file(host.shop.path("home/a/.gnupg/pubring.kbx")).unwrap();
    host.pass(Duration::from_secs(5));
    assert_eq!(sighting(&host.look(), private).facts, alone, "without a keyring it is numbers again");
}
