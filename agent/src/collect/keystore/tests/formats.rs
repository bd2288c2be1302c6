//! Keys of other forms than X.509's, as the sensor tells them: what they are there for, what their file calls them, and what
//! revokes them.

use keyvigil_common::key::{KeyKind, Role, Sighting};

use super::*;

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
