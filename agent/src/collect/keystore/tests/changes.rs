//! What tools, people and disks do to key files beside renewing them: each is told as what it is, once, and none holds up a look.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;

use super::*;

/// A host with a pair in `keys`, looked at, and a newer pair outside.
fn host() -> Host {
    let mut host = Host::new(&["/keys"]);
    host.shop.certificate("keys/c.pem", "keys/k.pem", "www", 30);
    host.shop.certificate("new.pem", "new.key", "www", 60);
    for path in ["keys/k.pem", "new.key"] {
        fs::set_permissions(host.shop.path(path), fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(host.look().events.is_empty());
    host.pass(Duration::from_secs(5));
    host
}

/// What is told after each step, as `kind path`, and until nothing waits.
fn told(host: &mut Host, steps: &[&dyn Fn(&Workshop)]) -> Vec<String> {
    let mut events = Vec::new();
    for step in steps {
        step(&host.shop);
        events.extend(host.look().events);
        host.pass(Duration::from_millis(700));
    }
    events.extend(host.settle());
    events.extend(host.settle());
    let mut told: Vec<String> = events.iter().map(|event| format!("{} {}", event.kind.as_str(), event.path.as_deref().unwrap())).collect();
    told.sort();
    told
}

fn sh(shop: &Workshop, line: &str) {
    let out = std::process::Command::new("sh").args(["-ec", line]).current_dir(shop.root()).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn every_tool_s_way_to_put_a_new_certificate_there_is_one_rotation() {
    let ways = [
        "cp new.pem keys/c.pem",
        "cp --remove-destination new.pem keys/c.pem",
        "cp --reflink=auto new.pem keys/c.pem",
        "cp --backup=simple new.pem keys/c.pem && rm keys/c.pem~",
        "install -m 644 new.pem keys/c.pem",
        "install -b -m 644 new.pem keys/c.pem && rm keys/c.pem~",
        "cat new.pem > keys/c.pem",
        "tee keys/c.pem < new.pem > /dev/null",
        "dd if=new.pem of=keys/c.pem bs=64 conv=fsync 2> /dev/null",
        "dd if=new.pem of=keys/c.pem bs=64 conv=notrunc 2> /dev/null; truncate -s $(stat -c %s new.pem) keys/c.pem",
        "mv new.pem keys/c.pem",
        "rm keys/c.pem && cp new.pem keys/c.pem",
        "sed -i -n '1r new.pem' keys/c.pem",
        "mv keys/c.pem keys/c.pem~ && cp new.pem keys/c.pem && rm keys/c.pem~",
        "ln new.pem keys/.c && mv keys/.c keys/c.pem && rm new.pem",
        "ln -sf ../new.pem keys/c.pem",
        "tar cf x.tar --transform=s/new/c/ new.pem && tar xf x.tar -C keys",
        "touch -d @1000000000 new.pem && cp -p new.pem keys/c.pem",
        "cp new.pem keys/c.pem && touch -r keys/k.pem keys/c.pem",
        "mkdir next && cp new.pem next/c.pem && cp -p keys/k.pem next/ && mv keys before && mv next keys && rm -r before",
    ];
    for way in ways {
        let mut host = host();
        assert_eq!(told(&mut host, &[&|shop| sh(shop, way)]), ["rotated /keys/c.pem"], "{way}");
        host.restart();
        assert_eq!(told(&mut host, &[]), [""; 0], "{way}");
    }
}

#[test]
fn a_pair_is_rotated_by_who_writes_in_place_and_by_who_swaps_a_mounted_directory() {
    let mut acme = host();
    let written = told(&mut acme, &[&|shop| sh(shop, "cat new.key > keys/k.pem"), &|shop| sh(shop, "cat new.pem > keys/c.pem")]);
    assert_eq!(written, ["rotated /keys/c.pem", "rotated /keys/k.pem"]);
    let mut host = Host::new(&["/secret"]);
    for n in 1..=3 {
        host.shop.certificate(&format!("secret/..v{n}/tls.crt"), &format!("secret/..v{n}/tls.key"), "www", 30 * n);
        host.shop.certificate(&format!("ca{n}"), &format!("ca{n}.key"), "ca", 900);
        host.shop.write(&format!("secret/..v{n}/ca.crt"), host.shop.read("ca1"));
        sh(&host.shop, &format!("chmod 600 secret/..v{n}/tls.key"));
    }
    sh(&host.shop, "cd secret; ln -s ..v1 ..data; for f in tls.crt tls.key ca.crt; do ln -s ..data/$f $f; done");
    assert!(host.look().events.is_empty());
    for n in 2..=3 {
        host.pass(Duration::from_secs(5));
        let swap = format!("cd secret; ln -s ..v{n} ..tmp; mv -T ..tmp ..data; rm -r ..v{}", n - 1);
        assert_eq!(told(&mut host, &[&|shop| sh(shop, &swap)]), ["rotated /secret/tls.crt", "rotated /secret/tls.key"]);
    }
}

#[test]
fn certbot_s_numbers_go_on_and_each_renewal_is_one_rotation() {
    let mut host = Host::new(&["/le"]);
    let names = [("pem", "cert"), ("key", "privkey")];
    let renew = |shop: &Workshop, n: u32| {
        shop.certificate("next.pem", "next.key", "www", 30 * n);
        for (end, name) in names {
            sh(shop, &format!("mkdir -p le/archive le/live; cp next.{end} le/archive/{name}{n}.pem; chmod 600 le/archive/{name}{n}.pem"));
            sh(shop, &format!("cd le/live; ln -s ../archive/{name}{n}.pem {name}.new; mv -T {name}.new {name}.pem"));
        }
    };
    renew(&host.shop, 1);
    assert!(host.look().events.is_empty());
    for n in 2..=4 {
        host.pass(Duration::from_secs(5));
        let rotated = told(&mut host, &[&|shop| renew(shop, n)]);
        assert_eq!(rotated, ["rotated /le/live/cert.pem", "rotated /le/live/privkey.pem"], "{n}");
    }
    // What is kept of the older ones is no news, nor that they go.
    host.pass(Duration::from_secs(5));
    let gone = told(&mut host, &[&|shop| sh(shop, "rm le/archive/*1.pem")]);
    assert_eq!(gone, ["removed /le/archive/cert1.pem", "removed /le/archive/privkey1.pem"]);
}

#[test]
fn a_file_written_in_two_halves_is_told_when_it_is_whole() {
    for pause in [0, 1, 3] {
        let mut host = host();
        // The times of the disk are real.
        host.now.wall_ms = SystemClock::shared().now_ms();
        let new = host.shop.read("new.pem");
        host.shop.write("keys/c.pem", &new[..new.len() / 2]);
        let mut events = host.look().events;
        for _ in 0..pause {
            host.pass(Duration::from_millis(600));
            events.extend(host.look().events);
        }
        host.shop.write("keys/c.pem", &new);
        events.extend(host.look().events);
        events.extend(host.settle());
        assert_eq!(kinds(&events), [EventKind::Rotated], "{pause}");
    }
}

#[test]
fn what_goes_and_comes_back_within_a_moment_is_no_news() {
    let steps: [[&str; 2]; 4] = [
        ["mv keys away", "mv away keys"],
        ["cp -p keys/c.pem away; rm keys/c.pem", "cp -p away keys/c.pem"],
        ["mv keys/k.pem keys/k.tmp && mv keys/k.tmp keys/k.pem", "true"],
        ["cp -p keys/c.pem away; : > keys/c.pem", "cat away > keys/c.pem"],
    ];
    for [go, come] in steps {
        let mut host = host();
        assert_eq!(told(&mut host, &[&|shop| sh(shop, go), &|shop| sh(shop, come)]), [""; 0], "{go}; {come}");
    }
    let mut host = host();
    let moved = told(&mut host, &[&|shop| sh(shop, "mkdir keys/d; mv keys/?.pem keys/d/")]);
    assert_eq!(moved, ["removed /keys/c.pem", "removed /keys/k.pem"], "to another place");
}

#[test]
fn rights_and_owners_are_told_of_the_place_and_are_no_other_key() {
    let mut host = host();
    host.pass(Duration::from_secs(5));
    fs::set_permissions(host.shop.path("keys/k.pem"), fs::Permissions::from_mode(0o400)).unwrap();
    let sink = host.look();
    assert_eq!((sink.events.len(), sink.sightings.len(), sink.sightings[0].place.mode), (0, 1, Some(0o400)));
    if rustix::process::getuid().is_root() {
        chown(host.shop.path("keys/k.pem"), Some(1_234), Some(4_321)).unwrap();
        let sink = host.look();
        let place = &sink.sightings[0].place;
        assert_eq!((sink.events.len(), place.owner.as_deref(), place.group.as_deref()), (0, Some("1234"), Some("4321")));
    }
    host.pass(Duration::from_secs(5));
    assert_eq!(told(&mut host, &[&|shop| drop(shop.run("setfacl", "-m u:65534:r keys/k.pem"))]), ["policy_violation /keys/k.pem"]);
    assert_eq!(told(&mut host, &[&|shop| drop(shop.run("setfacl", "-b keys/k.pem"))]), [""; 0]);
}

#[test]
fn a_key_that_a_configuration_names_and_that_goes_is_removed_and_missed() {
    for (go, why) in [("rm srv/k.pem", "does not exist"), ("echo nothing > srv/k.pem", "no key or certificate in it"), (": > srv/k.pem", "no key")] {
        let mut host = Host::new(&["/keys"]);
        host.shop.certificate("c.pem", "srv/k.pem", "www", 30);
        sh(&host.shop, "chmod 600 srv/k.pem");
        host.shop.write("etc/nginx/nginx.conf", "ssl_certificate_key /srv/k.pem;");
        assert!(host.look().events.is_empty());
        host.pass(Duration::from_secs(5));
        sh(&host.shop, go);
        let (mut events, mut again) = (host.settle(), host.settle());
        events.append(&mut again);
        assert_eq!(kinds(&events).into_iter().collect::<HashSet<_>>(), HashSet::from([EventKind::Removed, EventKind::Unreadable]), "{go}");
        assert!(events.iter().any(|event| event.message.contains(why)) && events.len() == 2, "{go}: {events:?}");
    }
}

#[test]
fn a_key_that_becomes_something_else_is_gone_and_nothing_waits_for_what_is_there_now() {
    let ways: [(&str, &[&str]); 7] = [
        ("mkdir keys/c.pem", &["removed /keys/c.pem"]),
        ("mkfifo keys/c.pem", &["removed /keys/c.pem", "unreadable /keys/c.pem"]),
        (": > keys/c.pem", &["removed /keys/c.pem"]),
        ("truncate -s 1T keys/c.pem", &["removed /keys/c.pem"]),
        ("ln -s nowhere keys/c.pem", &["removed /keys/c.pem"]),
        ("ln -s c.pem keys/c.pem", &["removed /keys/c.pem", "unreadable /keys/c.pem"]),
        ("mkdir keys/c.pem && cp new.pem keys/c.pem/c.pem", &["created /keys/c.pem/c.pem", "removed /keys/c.pem"]),
    ];
    for (way, expected) in ways {
        let mut host = host();
        let mut said = told(&mut host, &[&|shop| sh(shop, &format!("rm keys/c.pem; {way}"))]);
        said.dedup();
        assert_eq!(said, expected, "{way}");
        host.pass(Duration::from_secs(5));
        let back = told(&mut host, &[&|shop| sh(shop, "rm -r keys/c.pem; cp new.pem keys/c.pem")]);
        assert!(matches!(&back[..], [only] if only == "rotated /keys/c.pem") || back == ["removed /keys/c.pem/c.pem"], "{way}: {back:?}");
    }
    let mut host = host();
    fs::remove_file(host.shop.path("keys/c.pem")).unwrap();
    let _socket = UnixListener::bind(host.shop.path("keys/c.pem")).unwrap();
    assert_eq!(told(&mut host, &[]), ["removed /keys/c.pem"]);
}

#[test]
fn a_large_file_with_holes_is_named_and_not_read() {
    let mut host = host();
    let text = host.shop.read("new.pem");
    for (name, size) in [("keys/big.pem", "1T"), ("keys/zeros.pem", "1T")] {
        host.shop.write(name, if name.ends_with("big.pem") { &text[..] } else { &[] });
        sh(&host.shop, &format!("truncate -s {size} {name}"));
    }
    assert_eq!(told(&mut host, &[]), ["unreadable /keys/big.pem"], "the other has nothing of a key");
}

#[test]
fn names_of_any_bytes_and_length_are_names() {
    let mut host = Host::new(&["/keys"]);
    host.shop.certificate("c.pem", "k.pem", "www", 30);
    host.shop.write("keys/x", "nothing");
    host.look();
    host.pass(Duration::from_secs(5));
    let put = |name: &[u8]| {
        let path = host.shop.path("keys").join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(host.shop.path("c.pem"), path).unwrap();
    };
    let long = [&b"d".repeat(255)[..], b"/"].concat().repeat(11);
    put(b"caf\xe9.pem");
    put(b"new\nline.pem");
    put(b"\x1b[31mred\x07.pem");
    put(b"-rf *.pem");
    put(&[&long[..], &b"n".repeat(255)].concat());
    let sink = host.look();
    assert_eq!(kinds(&sink.events), [EventKind::Created], "one certificate");
    assert_eq!((sink.sightings.len(), sink.invalid), (5, 0));
    let shown: Vec<&str> = sink.sightings.iter().map(|sighting| sighting.place.path.as_str()).collect();
    assert!(shown.iter().all(|path| !path.contains(char::is_control) && path.len() <= keyvigil_common::limits::TEXT_BYTES_MAX), "{shown:?}");
    assert!(host.settle().is_empty());
    host.restart();
    assert!(host.settle().is_empty());
    fs::remove_dir_all(host.shop.path("keys")).unwrap();
    fs::create_dir(host.shop.path("keys")).unwrap();
    assert_eq!(kinds(&host.settle()), [EventKind::Removed]);
}

#[test]
fn two_names_that_are_shown_alike_are_two_files() {
    let mut host = Host::new(&["/keys"]);
    host.shop.certificate("a.pem", "a.key", "a", 30);
    host.shop.certificate("b.pem", "b.key", "b", 30);
    fs::create_dir(host.shop.path("keys")).unwrap();
    for (name, from) in [(&b"k\xe9"[..], "a.pem"), (b"k\xe8", "b.pem")] {
        fs::copy(host.shop.path(from), host.shop.path("keys").join(OsStr::from_bytes(name))).unwrap();
    }
    let sink = host.look();
    assert_eq!(sink.sightings.iter().map(|sighting| &sighting.facts.id).collect::<HashSet<_>>().len(), 2, "{:?}", sink.sightings);
    assert!(host.settle().is_empty() && host.settle().is_empty());
}

#[test]
fn a_file_that_is_replaced_all_the_time_is_always_one_of_those_that_were_put_there() {
    let mut host = host();
    let (old, new) = (host.shop.read("keys/c.pem"), host.shop.read("new.pem"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let root = host.shop.root().to_owned();
    let mut events = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for bytes in [&new, &old] {
                    fs::write(root.join("next"), bytes).unwrap();
                    fs::rename(root.join("next"), root.join("keys/c.pem")).unwrap();
                }
            }
        });
        for _ in 0..200 {
            events.extend(host.look().events);
            host.pass(Duration::from_millis(400));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    host.shop.write("keys/c.pem", &new);
    events.extend(host.settle());
    assert!(events.iter().all(|event| event.kind == EventKind::Rotated), "{:?}", kinds(&events));
    assert!(host.settle().is_empty());
}

#[test]
fn a_file_system_mounted_over_a_directory_hides_its_keys_and_they_are_not_gone() {
    let mut host = host();
    fs::create_dir(host.shop.path("keys/sub")).unwrap();
    host.shop.certificate("keys/sub/c.pem", "s.key", "sub", 30);
    host.look();
    host.pass(Duration::from_secs(5));
    host.settle();
    let at = host.shop.path("keys/sub");
    if !rustix::process::getuid().is_root() || !std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&at).status().unwrap().success() {
        return;
    }
    let while_mounted = told(&mut host, &[]);
    let ended = std::process::Command::new("umount").arg(&at).status().unwrap().success();
    assert!(ended);
    assert_eq!(while_mounted, ["unreadable /keys/sub"]);
    assert_eq!(told(&mut host, &[]), [""; 0]);
}

#[test]
fn a_file_moved_there_from_another_file_system_is_a_rotation() {
    let mut host = host();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let from = elsewhere.path().join("new.pem");
    fs::copy(host.shop.path("new.pem"), &from).unwrap();
    assert_eq!(told(&mut host, &[&|shop| sh(shop, &format!("mv {} keys/c.pem", from.display()))]), ["rotated /keys/c.pem"]);
}
