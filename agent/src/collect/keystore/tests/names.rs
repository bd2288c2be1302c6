//! Files that go by several names: links, links in a circle, hard links, and names that a configuration says.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use keyvigil_common::key::{Place, Reach};

use super::*;

/// Places that a look told, by their paths.
fn places(sink: &Sink) -> BTreeMap<&str, &Place> {
    sink.sightings.iter().filter(|s| !s.gone).map(|s| (s.place.path.as_str(), &s.place)).collect()
}

fn chmod(host: &Host, path: &str, mode: u32) {
    fs::set_permissions(host.shop.path(path), fs::Permissions::from_mode(mode)).unwrap();
}

fn reads(place: &Place) -> Option<bool> {
    place.reach.map(|Reach { read, .. }| read)
}

#[test]
fn each_hard_link_is_a_place_and_who_comes_by_one_reads_by_all() {
    let mut host = Host::new(&["/root", "/srv"]);
    let key = host.shop.ec_key("root/k.pem");
    chmod(&host, "root", 0o700);
    chmod(&host, "root/k.pem", 0o644);
    let sink = host.look();
    assert_eq!((reads(places(&sink)["/root/k.pem"]), sink.events.len()), (Some(false), 0));
    fs::create_dir(host.shop.path("srv")).unwrap();
    fs::hard_link(&key, host.shop.path("srv/copy.pem")).unwrap();
    host.pass(Duration::from_secs(10));
    let sink = host.look();
    let told = places(&sink);
    assert_eq!(told.keys().collect::<Vec<_>>(), [&"/root/k.pem", &"/srv/copy.pem"]);
    assert!(told.values().all(|place| reads(place) == Some(true)), "{told:?}");
    let mut said: Vec<_> = sink.events.iter().map(|event| (event.kind.as_str(), event.path.as_deref().unwrap())).collect();
    said.sort_unstable();
    assert_eq!(said, [("created", "/srv/copy.pem"), ("policy_violation", "/root/k.pem"), ("policy_violation", "/srv/copy.pem")]);
    assert_eq!(value(&sink, "crypto.keystore.keys", Some(("kind", "private_key"))), Some(1.0), "one key");
    assert!(host.settle().is_empty());
    host.restart();
    assert!(host.settle().is_empty());
    fs::remove_file(key).unwrap();
    host.pass(Duration::from_secs(10));
    let events = host.settle();
    assert_eq!(events.iter().map(|event| (event.kind, event.path.as_deref().unwrap())).collect::<Vec<_>>(), [(EventKind::Removed, "/root/k.pem")]);
}

#[test]
fn a_name_outside_of_what_is_looked_at_leaves_the_reach_of_what_others_may_read_unknown() {
    let mut host = Host::new(&["/root"]);
    let key = host.shop.ec_key("root/k.pem");
    chmod(&host, "root", 0o700);
    chmod(&host, "root/k.pem", 0o600);
    fs::create_dir(host.shop.path("elsewhere")).unwrap();
    fs::hard_link(key, host.shop.path("elsewhere/k.pem")).unwrap();
    assert_eq!(reads(places(&host.look())["/root/k.pem"]), Some(false), "nobody else may, wherever it lies");
    chmod(&host, "root/k.pem", 0o640);
    assert_eq!(reads(places(&host.look())["/root/k.pem"]), Some(false));
    chmod(&host, "root/k.pem", 0o644);
    let sink = host.look();
    assert_eq!((reads(places(&sink)["/root/k.pem"]), kinds(&sink.events)), (None, vec![EventKind::PolicyViolation]));
}

#[test]
fn of_very_many_names_some_are_told_and_that_there_are_more() {
    let mut host = Host::new(&["/keys"]);
    let key = host.shop.ec_key("keys/k00.pem");
    for n in 1..40 {
        fs::hard_link(&key, host.shop.path(&format!("keys/k{n:02}.pem"))).unwrap();
    }
    let sink = host.look();
    assert_eq!((places(&sink).len(), places(&sink).keys().next_back()), (16, Some(&"/keys/k15.pem")));
    assert_eq!(value(&sink, "crypto.keystore.errors_total", Some(("reason", "limit"))), Some(1.0));
    assert!(sink.blind.iter().any(|(what, why)| what == "/keys/k16.pem" && why.contains("more than 16 names")), "{:?}", sink.blind);
    host.settle();
    (16..40).for_each(|n| fs::remove_file(host.shop.path(&format!("keys/k{n:02}.pem"))).unwrap());
    let sink = host.look();
    assert_eq!((sink.events.len(), sink.blind.len(), value(&sink, "crypto.keystore.unreadable", None)), (0, 0, Some(0.0)));
}

#[test]
fn a_key_is_known_by_the_name_that_a_configuration_says_and_that_is_one_place() {
    let mut host = Host::new(&["/etc/ssl"]);
    host.shop.certificate("srv/shop/c.pem", "etc/ssl/k.pem", "www", 30);
    symlink("/srv/shop/c.pem", host.shop.path("etc/ssl/a-link.pem")).unwrap();
    fs::create_dir_all(host.shop.path("opt")).unwrap();
    symlink("/etc/ssl/k.pem", host.shop.path("opt/k.pem")).unwrap();
    host.shop.write("etc/nginx/nginx.conf", "ssl_certificate /srv/shop/c.pem;\nssl_certificate_key /opt/k.pem;\n");
    let sink = host.look();
    let told = places(&sink);
    let used: Vec<_> = told.iter().map(|(path, place)| (*path, place.used_by.len())).collect();
    assert_eq!(used, [("/opt/k.pem", 1), ("/srv/shop/c.pem", 1)], "neither by the other's name");
    // A hard link is a second place of the same file, and as much in use.
    fs::hard_link(host.shop.path("etc/ssl/k.pem"), host.shop.path("etc/ssl/same.pem")).unwrap();
    host.pass(Duration::from_secs(10));
    let sink = host.look();
    assert_eq!(places(&sink)["/etc/ssl/same.pem"].used_by, ["nginx: /etc/nginx/nginx.conf:2"]);
    assert_eq!(value(&sink, "crypto.keystore.keys", Some(("kind", "private_key"))), Some(1.0));
    host.settle();
    // When it is no longer named, it goes by the name of its directory, and nothing is said to have happened.
    host.shop.write("etc/nginx/nginx.conf", "# nothing\n");
    host.pass(Duration::from_secs(10));
    assert!(host.settle().is_empty());
}

#[test]
fn links_in_a_circle_are_one_error_that_hides_nothing_and_ends_when_they_are_mended() {
    let mut host = Host::new(&["/keys"]);
    host.shop.ec_key("keys/k.pem");
    host.look();
    for (target, link) in [("b", "a"), ("c", "b"), ("a", "c"), ("a", "leads-there"), (".", "dir"), ("../keys", "up"), ("self/x", "self")] {
        symlink(target, host.shop.path(&format!("keys/{link}"))).unwrap();
    }
    let sink = host.look();
    let told: Vec<_> = sink.events.iter().map(|event| (event.kind.as_str(), event.path.as_deref().unwrap(), event.evidence[0].0.as_str())).collect();
    assert_eq!(told, [("unreadable", "/keys/a", "loop"), ("unreadable", "/keys/self", "loop")]);
    assert!(sink.blind.is_empty(), "{:?}", sink.blind);
    assert_eq!(value(&sink, "crypto.keystore.unreadable", None), Some(2.0));
    assert_eq!(value(&sink, "crypto.keystore.errors_total", Some(("reason", "loop"))), Some(2.0));
    assert_eq!(value(&sink, "crypto.keystore.up", Some(("path", "/keys"))), Some(1.0));
    assert!(host.settle().is_empty());
    host.restart();
    assert!(host.settle().is_empty());
    fs::remove_file(host.shop.path("keys/k.pem")).unwrap();
    assert_eq!(kinds(&host.settle()), [EventKind::Removed], "what lies beside them is seen");
    fs::remove_file(host.shop.path("keys/self")).unwrap();
    ["a", "b"].iter().for_each(|link| fs::remove_file(host.shop.path(&format!("keys/{link}"))).unwrap());
    host.shop.ec_key("keys/a");
    let sink = host.look();
    assert_eq!((kinds(&sink.events), sink.events[0].path.as_deref()), (vec![EventKind::Created], Some("/keys/c")), "by the link that is mended now");
    assert_eq!((value(&sink, "crypto.keystore.unreadable", None), sink.blind.len()), (Some(0.0), 0));
}
