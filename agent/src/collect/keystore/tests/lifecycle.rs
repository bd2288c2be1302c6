//! Keys that appear, are replaced in every way that programs replace them, end, and go.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use keyvigil_common::key::KeyKind;

use super::*;
use crate::parse::pem::find;

/// A way to put a new certificate, which lies outside at the given path, in the place of `keys/c.pem`.
type Replace = fn(&Workshop, &Path);

const WAYS: [(&str, Replace); 4] = [
    ("rename over it", |shop, new| {
        fs::copy(new, shop.path("keys/.tmp")).unwrap();
        fs::rename(shop.path("keys/.tmp"), shop.path("keys/c.pem")).unwrap();
    }),
    ("write in place", |shop, new| drop(shop.write("keys/c.pem", fs::read(new).unwrap()))),
    ("delete and create", |shop, new| {
        fs::remove_file(shop.path("keys/c.pem")).unwrap();
        fs::copy(new, shop.path("keys/c.pem")).unwrap();
    }),
    ("keep the old one beside it", |shop, new| {
        fs::rename(shop.path("keys/c.pem"), shop.path("keys/c.pem.old")).unwrap();
        fs::copy(new, shop.path("keys/c.pem")).unwrap();
    }),
];

/// Looks at a host with one certificate, replaces it, and checks what is said.
fn rotate(mut host: Host, way: &str, replace: impl Fn(&Workshop), at_restart: bool) {
    let first = host.look();
    assert!(first.events.is_empty(), "{way}: what lies there at the first look is not new: {:?}", first.events);
    let old = first.sightings.iter().find(|s| s.facts.kind == KeyKind::Certificate).unwrap().clone();
    replace(&host.shop);
    if at_restart {
        host.restart();
    }
    host.pass(Duration::from_secs(1));
    let second = host.look();
    assert_eq!(kinds(&second.events), [EventKind::Rotated], "{way}: {:?}", second.events);
    let new = second.sightings.iter().find(|s| s.replaces.is_some()).unwrap();
    assert_eq!((new.replaces.as_ref(), &new.place.path), (Some(&old.facts.id), &old.place.path), "{way}");
    assert_eq!(second.events[0].key_id.as_ref(), Some(&new.facts.id));
    assert!(second.events[0].evidence.contains(&("replaced_key".into(), old.facts.id)));
    assert_eq!(value(&second, "crypto.key.rotated_total", None), Some(1.0));
    assert!(host.settle().is_empty() && host.settle().is_empty(), "{way}: said once");
}

#[test]
fn every_way_to_replace_a_file_is_one_rotation() {
    for (way, replace) in WAYS {
        for (host, at_restart) in [(Host::new(&["/keys"]), false), (Host::unprefixed(&["keys"]), false), (Host::new(&["/keys"]), true)] {
            host.shop.certificate("keys/c.pem", "k1", "www", 30);
            let new = host.shop.certificate("new.pem", "k2", "www", 60);
            rotate(host, way, |shop| replace(shop, &new), at_restart);
        }
    }
}

#[test]
fn a_swapped_link_is_one_rotation() {
    for at_restart in [false, true] {
        let host = Host::new(&["/live"]);
        host.shop.certificate("outside/1/c.pem", "k1", "www", 30);
        host.shop.certificate("outside/2/c.pem", "k2", "www", 60);
        fs::create_dir(host.shop.path("live")).unwrap();
        // Absolute links mean the host's root, which here is below a prefix.
        symlink("/outside/1/c.pem", host.shop.path("live/c.pem")).unwrap();
        let swap = |shop: &Workshop| {
            symlink("/outside/2/c.pem", shop.path("live/.c")).unwrap();
            fs::rename(shop.path("live/.c"), shop.path("live/c.pem")).unwrap();
        };
        rotate(host, "link swap", swap, at_restart);
    }
}

#[test]
fn a_link_within_the_tree_is_the_place_and_its_old_target_is_no_news() {
    let host = Host::new(&["/le"]);
    host.shop.certificate("le/archive/c1.pem", "k1", "www", 30);
    fs::create_dir(host.shop.path("le/live")).unwrap();
    symlink("../archive/c1.pem", host.shop.path("le/live/c.pem")).unwrap();
    let new = host.shop.certificate("new.pem", "k2", "www", 60);
    let renew = |shop: &Workshop| {
        fs::copy(&new, shop.path("le/archive/c2.pem")).unwrap();
        fs::remove_file(shop.path("le/live/c.pem")).unwrap();
        symlink("../archive/c2.pem", shop.path("le/live/c.pem")).unwrap();
    };
    rotate(host, "renewal beside an archive", renew, false);
}

#[test]
fn a_mounted_secret_that_is_swapped_is_one_rotation() {
    let host = Host::new(&["/secret"]);
    host.shop.certificate("secret/..1/c.pem", "k1", "www", 30);
    host.shop.certificate("secret/..2/c.pem", "k2", "www", 60);
    symlink("..1", host.shop.path("secret/..data")).unwrap();
    symlink("..data/c.pem", host.shop.path("secret/c.pem")).unwrap();
    let swap = |shop: &Workshop| {
        symlink("..2", shop.path("secret/..tmp")).unwrap();
        fs::rename(shop.path("secret/..tmp"), shop.path("secret/..data")).unwrap();
        fs::remove_dir_all(shop.path("secret/..1")).unwrap();
    };
    rotate(host, "..data swap", swap, false);
}

#[test]
fn a_gap_between_delete_and_create_is_bridged_and_a_key_that_stays_away_is_removed() {
    let mut host = Host::new(&["/keys"]);
    host.shop.certificate("keys/c.pem", "k1", "www", 30);
    let new = host.shop.certificate("new.pem", "k2", "www", 60);
    host.look();
    fs::remove_file(host.shop.path("keys/c.pem")).unwrap();
    assert!(host.look().events.is_empty(), "its successor may come");
    host.pass(Duration::from_secs(1));
    fs::copy(&new, host.shop.path("keys/c.pem")).unwrap();
    assert_eq!(kinds(&host.settle()), [EventKind::Rotated]);
    fs::remove_file(host.shop.path("keys/c.pem")).unwrap();
    host.look();
    host.pass(GRACE);
    let gone = host.look();
    assert_eq!(kinds(&gone.events), [EventKind::Removed]);
    assert!(gone.sightings.iter().all(|sighting| sighting.gone) && gone.sightings.len() == 1);
    assert_eq!(value(&gone, "crypto.keystore.keys", Some(("kind", "certificate"))), Some(0.0));
    assert!(host.settle().is_empty());
}

#[test]
fn a_file_that_is_being_written_is_not_called_broken() {
    let mut host = Host::new(&["/keys"]);
    let whole = host.shop.certificate("new.pem", "k", "www", 30);
    host.shop.write("keys/x", "nothing");
    host.look();
    let text = fs::read_to_string(whole).unwrap();
    host.now.wall_ms = SystemClock::shared().now_ms();
    host.shop.write("keys/c.pem", &text[..200]);
    assert!(host.look().events.is_empty());
    host.shop.write("keys/c.pem", &text);
    host.pass(Duration::from_secs(1));
    assert_eq!(kinds(&host.settle()), [EventKind::Created]);
}

#[test]
fn a_key_that_appears_is_created_once_with_all_its_places() {
    let mut host = Host::new(&["/ssh", "/etc/ssl", "/home/*/.ssh"]);
    fs::create_dir(host.shop.path("ssh")).unwrap();
    assert!(host.look().events.is_empty());
    host.shop.ssh_keygen("-q -t ed25519 -N '' -C me -f ssh/id");
    host.shop.certificate("etc/ssl/c.pem", "etc/ssl/c.key", "www", 30);
    host.shop.write("etc/ssl/chain.pem", host.shop.read("etc/ssl/c.pem"));
    host.shop.write("home/bob/.ssh/authorized_keys", host.shop.read("ssh/id.pub"));
    let sink = host.look();
    assert_eq!(kinds(&sink.events), [EventKind::Created; 3], "an SSH key, a private key and a certificate");
    let ssh = sink.events.iter().find(|event| event.path.as_deref() == Some("/ssh/id")).unwrap();
    let places: Vec<&str> = ssh.evidence.iter().filter(|(name, _)| name == "also_at").map(|(_, path)| path.as_str()).collect();
    assert_eq!(places, ["/home/bob/.ssh/authorized_keys", "/ssh/id.pub"]);
    assert_eq!((sink.sightings.len(), value(&sink, "crypto.key.created_total", None)), (6, Some(3.0)));
    assert_eq!(value(&sink, "crypto.keystore.up", Some(("path", "/home/*/.ssh"))), Some(1.0));
    host.restart();
    host.pass(Duration::from_secs(60));
    let again = host.look();
    assert!(again.events.is_empty(), "{:?}", again.events);
    assert_eq!(again.sightings.len(), 6, "all keys are told again after a restart");
    host.pass(Duration::from_secs(60));
    assert!(host.look().sightings.is_empty(), "and then only what changes");
    host.pass(RESEND);
    assert_eq!(host.look().sightings.len(), 6);
}

#[test]
fn many_keys_are_told_some_at_a_time_and_each_of_them_once() {
    const MOST: usize = KEYSTORE_SIGHTINGS_MAX;
    let mut host = Host::new(&["/keys"]);
    let key = host.shop.read(host.shop.ec_key("k.pem").file_name().unwrap().to_str().unwrap());
    (0..MOST + 500).for_each(|n| drop(host.shop.write(&format!("keys/{n}/k.pem"), &key)));
    let told = |sink: &Sink| sink.sightings.iter().map(|sighting| sighting.place.path.clone()).collect::<Vec<_>>();
    let mut all = told(&host.look());
    assert_eq!(all.len(), MOST);
    host.shop.ec_key("keys/new.pem");
    let sink = host.look();
    assert_eq!((kinds(&sink.events), sink.sightings[0].place.path.as_str()), (vec![EventKind::Created], "/keys/new.pem"), "what happens is told first");
    all.extend(told(&sink));
    assert!(host.look().sightings.is_empty());
    assert_eq!(all.len(), MOST + 501);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), MOST + 501);
    host.restart();
    assert!(host.look().events.is_empty());
    host.restart();
    assert_eq!([told(&host.look()).len(), told(&host.look()).len(), told(&host.look()).len()], [MOST, 501, 0], "after a restart, too");
}

#[test]
fn what_was_there_at_first_is_not_new_after_a_restart_before_all_of_it_was_remembered() {
    const MOST: usize = KEYSTORE_SIGHTINGS_MAX;
    let mut host = Host::new(&["/keys"]);
    host.shop.certificate("c.pem", "k.pem", "www", 30);
    let certificate = host.shop.read("c.pem");
    (0..MOST + 500).for_each(|n| drop(host.shop.write(&format!("keys/{n}/c.pem"), &certificate)));
    let files = |host: &Host| host.remembered.keys().filter(|key| key.starts_with("file:")).count();
    assert!(host.look().events.is_empty());
    assert_eq!((files(&host), host.remembered.contains_key("root:/keys")), (MOST, false));
    host.restart();
    assert!(host.look().events.is_empty());
    assert_eq!((files(&host), host.remembered.contains_key("root:/keys")), (MOST + 500, true));
    fs::remove_dir_all(host.shop.path("keys/7")).unwrap();
    host.restart();
    assert_eq!(kinds(&host.settle()), [EventKind::Removed]);
}

#[test]
fn what_happened_while_the_agent_was_down_is_said_when_it_is_back() {
    let mut host = Host::new(&["/keys"]);
    host.shop.certificate("keys/stays.pem", "k1", "a", 1);
    host.shop.certificate("keys/goes.pem", "k2", "b", 30);
    host.look();
    fs::remove_file(host.shop.path("keys/goes.pem")).unwrap();
    host.shop.certificate("keys/comes.pem", "k3", "c", 30);
    host.restart();
    host.pass(Duration::from_secs(2 * 86_400));
    let mut said = kinds(&host.settle());
    said.sort_by_key(|kind| kind.as_str());
    assert_eq!(said, [EventKind::Created, EventKind::Expired, EventKind::Removed]);
    host.restart();
    assert!(host.settle().is_empty());
}

#[test]
fn a_certificate_that_ends_is_expired_once_and_its_end_is_a_series() {
    let mut host = Host::new(&["/keys"]);
    host.shop.certificate("keys/c.pem", "k", "www", 1);
    host.shop.write("keys/copy.pem", host.shop.read("keys/c.pem"));
    let sink = host.look();
    let end = sink.sightings[0].facts.not_after_ms.unwrap();
    assert_eq!(value(&sink, "crypto.key.not_after_timestamp_seconds", Some(("path", "/keys/c.pem"))), Some(end as f64 / 1_000.0));
    host.pass(Duration::from_secs(86_400));
    assert_eq!(kinds(&host.look().events), [EventKind::Expired], "one key, in however many places");
    assert!(host.settle().is_empty());
    host.restart();
    assert!(host.settle().is_empty());
}

#[test]
fn a_private_key_that_others_may_read_is_a_violation_once_for_each_change() {
    let mut host = Host::new(&["/keys"]);
    let key = host.shop.ec_key("keys/k.pem");
    let chmod = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    chmod(0o600);
    assert!(host.look().events.is_empty());
    chmod(0o640);
    let sink = host.look();
    assert!(sink.events.is_empty());
    assert_eq!((sink.sightings.len(), sink.sightings[0].place.mode), (1, Some(0o640)), "a change of mode is told");
    chmod(0o644);
    let event = host.look().events.remove(0);
    assert_eq!(event.kind, EventKind::PolicyViolation);
    assert!(event.evidence.contains(&("mode".into(), "0644".into())), "{event:?}");
    assert!(host.settle().is_empty());
    host.restart();
    assert!(host.settle().is_empty());
    chmod(0o600);
    assert!(host.settle().is_empty());
    chmod(0o604);
    assert_eq!(kinds(&host.settle()), [EventKind::PolicyViolation]);
    let sink = host.look();
    assert_eq!(value(&sink, "crypto.key.policy_violations", None), Some(1.0), "since the restart");
}

#[test]
fn the_store_of_authorities_shows_each_certificate_in_one_sensible_place() {
    let mut host = Host::new(&["/etc/ssl"]);
    host.shop.certificate("usr/share/ca-certificates/mozilla/Root.crt", "k", "root", 30);
    fs::create_dir_all(host.shop.path("etc/ssl/certs")).unwrap();
    symlink("/usr/share/ca-certificates/mozilla/Root.crt", host.shop.path("etc/ssl/certs/Root.pem")).unwrap();
    symlink("Root.pem", host.shop.path("etc/ssl/certs/0a1b2c3d.0")).unwrap();
    host.shop.write("etc/ssl/certs/ca-certificates.crt", host.shop.read("usr/share/ca-certificates/mozilla/Root.crt"));
    let sink = host.look();
    let places: Vec<&str> = sink.sightings.iter().map(|sighting| sighting.place.path.as_str()).collect();
    assert_eq!(places, ["/etc/ssl/certs/Root.pem", "/etc/ssl/certs/ca-certificates.crt"]);
    assert_eq!(value(&sink, "crypto.keystore.keys", Some(("kind", "certificate"))), Some(1.0));
    assert_eq!(value(&sink, "crypto.key.not_after_timestamp_seconds", None), None, "nobody here renews these");
}

#[test]
fn a_renamed_file_is_not_a_new_key() {
    let mut host = Host::new(&["/keys"]);
    host.shop.ec_key("keys/a.pem");
    host.look();
    fs::rename(host.shop.path("keys/a.pem"), host.shop.path("keys/b.pem")).unwrap();
    let sink = host.look();
    assert_eq!(kinds(&sink.events), [EventKind::Removed]);
    assert!(sink.events[0].evidence.contains(&("moved_to".into(), "/keys/b.pem".into())));
    assert_eq!(sink.sightings.iter().map(|s| (s.place.path.as_str(), s.gone)).collect::<Vec<_>>(), [("/keys/a.pem", true), ("/keys/b.pem", false)]);
    assert!(host.settle().is_empty());
}

#[test]
fn no_byte_of_a_private_key_leaves_the_sensor() {
    let mut host = Host::new(&["/keys"]);
    host.shop.openssl("genpkey -algorithm ED25519 -out ed.pem");
    host.shop.openssl("pkey -in ed.pem -outform der -out ed.der");
    host.shop.ec_key("ec.pem");
    host.shop.openssl("pkey -in ec.pem -outform der -out ec.der");
    fs::create_dir(host.shop.path("keys")).unwrap();
    host.look();
    for file in ["ed.pem", "ec.pem", "ec.der"] {
        host.shop.write(&format!("keys/{file}"), host.shop.read(file));
    }
    // A broken one: its text must not be quoted, either.
    host.shop.write("keys/broken.pem", host.shop.text("ec.pem").replace("-----END", "!-----END"));
    let sink = host.look();
    host.pass(GRACE);
    let later = host.look();
    let created = sink.events.iter().filter(|event| event.kind == EventKind::Created).count();
    assert_eq!((created, sink.sightings.len()), (2, 3));
    let said = format!("{:?} {:?} {:?} {:?} {:?}", sink.events, sink.sightings, sink.samples, later.events, host.sensor);
    let stored: Vec<u8> = host.remembered.values().flatten().copied().collect();
    let (ed, ec) = (host.shop.read("ed.der"), host.shop.read("ec.der"));
    for secret in [&ed[ed.len() - 32..], &ec[36..68]] {
        for form in [keyvigil_common::hex(secret).into_bytes(), secret.to_vec(), format!("{secret:?}").into_bytes()] {
            let bare = if form.starts_with(b"[") { &form[1..form.len() - 1] } else { &form[..] };
            assert!(find(said.as_bytes(), bare).is_none() && find(&stored, bare).is_none());
        }
    }
    for line in host.shop.text("ec.pem").lines().chain(host.shop.text("ed.pem").lines()).filter(|line| !line.starts_with('-')) {
        assert!(!said.contains(&line[4..]), "{line}");
    }
}

#[test]
fn what_is_no_longer_configured_or_excluded_leaves_and_nobody_removed_it() {
    let mut host = Host::new(&["/keys", "/more"]);
    host.shop.ec_key("keys/k.pem");
    host.shop.ec_key("more/k.pem");
    host.look();
    host.shop.ec_key("keys/out/a.pem");
    host.shop.certificate("keys/out/b.pem", "keys/out/c.pem", "www", 30);
    host.settle();
    host.context.keystore.paths = vec!["/keys".to_owned(), "/new".to_owned()];
    host.context.keystore.exclude = vec!["/keys/out".to_owned()];
    host.shop.ec_key("new/k.pem");
    host.restart();
    let sink = host.look();
    let gone: Vec<&str> = sink.sightings.iter().filter(|sighting| sighting.gone).map(|sighting| sighting.place.path.as_str()).collect();
    assert_eq!(gone, ["/keys/out/a.pem", "/keys/out/c.pem", "/more/k.pem", "/keys/out/b.pem"], "all of it leaves the inventory");
    let told: Vec<(EventKind, &str)> = sink.events.iter().map(|event| (event.kind, event.message.as_str())).collect();
    let because = [
        "the key in /more/k.pem is no longer looked at: no path of the configuration leads there any more",
        "3 keys in 3 files are no longer looked at: the configuration excludes /keys/out",
    ];
    assert_eq!(told, because.map(|message| (EventKind::CoverageLost, message)), "and what lies in a path that is new to us is not new");
    assert!(host.settle().is_empty(), "once");
    host.restart();
    fs::remove_dir_all(host.shop.path("keys/out")).unwrap();
    assert!(host.settle().is_empty());
    assert_eq!(host.remembered.keys().filter(|key| key.starts_with("file:")).collect::<Vec<_>>(), ["file:/keys/k.pem", "file:/new/k.pem"]);
}

#[test]
fn a_file_that_was_seen_under_its_temporary_name_is_no_removal() {
    let mut host = Host::new(&["/keys"]);
    host.shop.certificate("keys/c.pem", "k1", "www", 30);
    host.look();
    host.shop.certificate("keys/c.tmp", "k2", "www", 60);
    assert_eq!(kinds(&host.look().events), [EventKind::Rotated], "it is for the same name");
    fs::rename(host.shop.path("keys/c.tmp"), host.shop.path("keys/c.pem")).unwrap();
    let sink = host.look();
    assert!(sink.events.is_empty() && sink.sightings.iter().any(|sighting| sighting.replaces.is_some()), "{:?}", sink.events);
    assert!(host.settle().is_empty());
}

#[test]
fn what_was_remembered_and_is_read_late_tells_what_had_changed_and_nothing_twice() {
    let mut host = Host::new(&["/keys"]);
    for name in ["stays", "goes", "rotates", "moves"] {
        host.shop.ec_key(&format!("keys/{name}.pem"));
    }
    host.look();
    // While the agent is down.
    let remembered: Vec<(String, Vec<u8>)> = host.remembered.clone().into_iter().collect();
    fs::remove_file(host.shop.path("keys/goes.pem")).unwrap();
    fs::rename(host.shop.path("keys/moves.pem"), host.shop.path("keys/moved.pem")).unwrap();
    host.shop.ec_key("keys/rotates.pem");
    host.shop.ec_key("keys/comes.pem");
    host.sensor = Keystore::new(&host.context);
    assert!(host.settle().is_empty(), "it is not known what is new");
    // While the disk is away.
    host.shop.ec_key("keys/later.pem");
    fs::remove_file(host.shop.path("keys/stays.pem")).unwrap();
    assert_eq!(kinds(&host.settle()), [EventKind::Created, EventKind::Removed], "what happens now is told now");
    host.sensor.restore(remembered);
    let mut said: Vec<_> = host.settle().iter().map(|event| (event.kind.as_str(), event.path.clone().unwrap())).collect();
    said.sort();
    let late = [("created", "/keys/comes.pem"), ("removed", "/keys/goes.pem"), ("removed", "/keys/moves.pem"), ("rotated", "/keys/rotates.pem")];
    assert_eq!(said, late.map(|(kind, path)| (kind, path.to_owned())));
    assert!(host.settle().is_empty());
    host.restart();
    assert!(host.settle().is_empty(), "and it is remembered as it is now");
}
