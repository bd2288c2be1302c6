//! What programs that renew certificates do to files, step by step: one rotation for each key, and nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

/// What is told of keys, as `kind path`, looking after each step and until nothing waits.
fn told(host: &mut Host, steps: &[&dyn Fn(&Workshop)]) -> Vec<String> {
    let mut events = host.look().events;
    assert!(events.is_empty(), "{events:?}");
    for step in steps {
        host.pass(Duration::from_millis(700));
        step(&host.shop);
        events.extend(host.look().events);
    }
    events.extend(host.settle());
    events.extend(host.settle());
    let mut told: Vec<String> = events.iter().map(|event| format!("{} {}", event.kind.as_str(), event.path.as_deref().unwrap())).collect();
    told.sort();
    told
}

fn copy(shop: &Workshop, from: &str, to: &str) {
    let path = shop.write(to, shop.read(from));
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn rename(shop: &Workshop, from: &str, to: &str) {
    fs::rename(shop.path(from), shop.path(to)).unwrap();
}

fn link(shop: &Workshop, target: &str, at: &str) {
    fs::create_dir_all(shop.path(at).parent().unwrap()).unwrap();
    let _ = fs::remove_file(shop.path(at));
    symlink(target, shop.path(at)).unwrap();
}

/// A host with an old and a new pair for the same name outside of the watched path.
fn host(paths: &[&str]) -> Host {
    let host = Host::new(paths);
    host.shop.certificate("old.pem", "old.key", "www", 30);
    host.shop.certificate("new.pem", "new.key", "www", 60);
    host
}

#[test]
fn a_pair_that_is_replaced_in_two_steps() {
    let mut host = host(&["/keys"]);
    copy(&host.shop, "old.pem", "keys/c.pem");
    copy(&host.shop, "old.key", "keys/c.key");
    let steps: [&dyn Fn(&Workshop); 2] = [&|shop| copy(shop, "new.key", "keys/c.key"), &|shop| copy(shop, "new.pem", "keys/c.pem")];
    assert_eq!(told(&mut host, &steps), ["rotated /keys/c.key", "rotated /keys/c.pem"]);
}

#[test]
fn an_editor_that_keeps_a_backup() {
    let mut host = host(&["/keys"]);
    copy(&host.shop, "old.pem", "keys/c.pem");
    let steps: [&dyn Fn(&Workshop); 3] = [
        &|shop| drop(shop.write("keys/.c.pem.swp", [0, 1, 2])),
        &|shop| (copy(shop, "keys/c.pem", "keys/c.pem~"), copy(shop, "new.pem", "keys/.c.pem.tmp")).1,
        &|shop| rename(shop, "keys/.c.pem.tmp", "keys/c.pem"),
    ];
    // The temporary file is seen, and succeeds what is still beside it.
    assert_eq!(told(&mut host, &steps), ["created /keys/c.pem~", "rotated /keys/.c.pem.tmp"]);
}

#[test]
fn certbot() {
    let mut host = host(&["/etc/letsencrypt"]);
    for (name, link_name) in [("pem", "cert"), ("key", "privkey")] {
        copy(&host.shop, &format!("old.{name}"), &format!("etc/letsencrypt/archive/www/{link_name}1.pem"));
        link(&host.shop, &format!("../../archive/www/{link_name}1.pem"), &format!("etc/letsencrypt/live/www/{link_name}.pem"));
    }
    let steps: [&dyn Fn(&Workshop); 4] = [
        &|shop| copy(shop, "new.key", "etc/letsencrypt/archive/www/privkey2.pem"),
        &|shop| copy(shop, "new.pem", "etc/letsencrypt/archive/www/cert2.pem"),
        &|shop| link(shop, "../../archive/www/privkey2.pem", "etc/letsencrypt/live/www/privkey.pem"),
        &|shop| link(shop, "../../archive/www/cert2.pem", "etc/letsencrypt/live/www/cert.pem"),
    ];
    let at_once: [&dyn Fn(&Workshop); 1] = [&|shop| steps.iter().for_each(|step| step(shop))];
    assert_eq!(told(&mut host, &at_once), ["rotated /etc/letsencrypt/live/www/cert.pem", "rotated /etc/letsencrypt/live/www/privkey.pem"]);
}

#[test]
fn a_new_name_in_the_same_directory() {
    for goes in [false, true] {
        let mut host = host(&["/keys"]);
        copy(&host.shop, "old.pem", "keys/2025.pem");
        copy(&host.shop, "old.key", "keys/2025.key");
        host.shop.certificate("keys/other.pem", "o.key", "other", 30);
        let renew = |shop: &Workshop| {
            copy(shop, "new.pem", "keys/2026.pem");
            copy(shop, "new.key", "keys/2026.key");
            if goes {
                fs::remove_file(shop.path("keys/2025.pem")).unwrap();
                fs::remove_file(shop.path("keys/2025.key")).unwrap();
            }
        };
        assert_eq!(told(&mut host, &[&renew]), ["rotated /keys/2026.key", "rotated /keys/2026.pem"], "the old one goes: {goes}");
    }
}

#[test]
fn a_new_path_that_the_configuration_names_instead() {
    let mut host = host(&["/none"]);
    copy(&host.shop, "old.pem", "a/c.pem");
    copy(&host.shop, "old.key", "a/k.pem");
    let config = |shop: &Workshop, dir: &str, lines: &str| {
        shop.write("etc/nginx/nginx.conf", format!("{lines}ssl_certificate /{dir}/c.pem;\nssl_certificate_key /{dir}/k.pem;\n"));
    };
    config(&host.shop, "a", "");
    let steps: [&dyn Fn(&Workshop); 1] = [&|shop| {
        copy(shop, "new.pem", "b/c.pem");
        copy(shop, "new.key", "b/k.pem");
        config(shop, "b", "# renewed\n");
    }];
    assert_eq!(told(&mut host, &steps), ["rotated /b/c.pem", "rotated /b/k.pem"]);
    host.restart();
    assert!(host.settle().is_empty());
    fs::remove_dir_all(host.shop.path("a")).unwrap();
    assert_eq!(kinds(&host.settle()), [EventKind::Removed; 2], "the old ones were still known");
}

#[test]
fn what_is_alike_and_no_successor() {
    let mut host = host(&["/keys"]);
    copy(&host.shop, "old.pem", "keys/a/c.pem");
    host.shop.write("etc/nginx/nginx.conf", "ssl_certificate /keys/named/one.pem; ssl_certificate /keys/named/two.pem;");
    copy(&host.shop, "old.pem", "keys/named/one.pem");
    copy(&host.shop, "old.pem", "keys/copy/c.pem");
    let steps: [&dyn Fn(&Workshop); 2] = [&|shop| copy(shop, "old.pem", "keys/copy/again.pem"), &|shop| copy(shop, "new.pem", "keys/named/two.pem")];
    assert_eq!(told(&mut host, &steps), ["created /keys/copy/again.pem", "created /keys/named/two.pem"], "a copy; one beside another that is in use");
    let mut host = self::host(&["/keys"]);
    copy(&host.shop, "new.pem", "keys/new.pem");
    let late: [&dyn Fn(&Workshop); 1] = [&|shop| copy(shop, "old.pem", "keys/old.pem")];
    assert_eq!(told(&mut host, &late), ["created /keys/old.pem"], "an older one that comes later");
}

/// Looks after each step, which comes 4 s after the one before: what is told of keys.
fn told_slowly(host: &mut Host, steps: &[&dyn Fn(&Workshop)]) -> Vec<String> {
    host.look();
    let mut told = Vec::new();
    for step in steps {
        step(&host.shop);
        for _ in 0..4 {
            told.extend(host.look().events.iter().map(|event| format!("{} {}", event.kind.as_str(), event.path.as_deref().unwrap())));
            host.pass(Duration::from_secs(1));
        }
    }
    told.extend(host.settle().iter().map(|event| format!("{} {}", event.kind.as_str(), event.path.as_deref().unwrap())));
    told
}

#[test]
fn a_pair_that_is_away_for_a_while_is_succeeded_by_what_comes_in_its_place() {
    let mut host = host(&["/keys"]);
    copy(&host.shop, "old.pem", "keys/c.pem");
    copy(&host.shop, "old.key", "keys/c.key");
    let gone = |shop: &Workshop| ["keys/c.pem", "keys/c.key"].iter().for_each(|path| fs::remove_file(shop.path(path)).unwrap());
    let back = |shop: &Workshop| (copy(shop, "new.pem", "keys/c.pem"), copy(shop, "new.key", "keys/c.key")).0;
    let told = told_slowly(&mut host, &[&gone, &back]);
    assert_eq!(told, ["removed /keys/c.key", "removed /keys/c.pem", "rotated /keys/c.key", "rotated /keys/c.pem"]);
    // One that comes after hours is another one, and so is one for others.
    gone(&host.shop);
    host.settle();
    host.pass(Duration::from_secs(3_600));
    copy(&host.shop, "old.pem", "keys/c.pem");
    assert_eq!(kinds(&host.settle()), [EventKind::Created]);
}

#[test]
fn a_file_that_is_there_but_broken_for_a_while_was_rotated_and_one_that_was_emptied_is_succeeded() {
    let begun = "-----BEGIN CERTIFICATE-----\nMIIB";
    let ways: [(&[&str], &[&str]); 3] = [
        (&[begun], &["rotated /keys/c.pem"]),
        (&["", begun], &["rotated /keys/c.pem"]),
        (&["# to be written\n"], &["removed /keys/c.pem", "rotated /keys/c.pem"]),
    ];
    for (contents, expected) in ways {
        let mut host = host(&["/keys"]);
        copy(&host.shop, "old.pem", "keys/c.pem");
        host.look();
        for (at, content) in contents.iter().enumerate() {
            host.shop.write("keys/c.pem", content);
            if at + 1 < contents.len() {
                assert!(host.look().events.is_empty());
                host.pass(Duration::from_millis(300));
            }
        }
        let told = told_slowly(&mut host, &[&|_| {}, &|shop| copy(shop, "new.pem", "keys/c.pem")]);
        assert_eq!(told, expected, "{contents:?}");
    }
}
