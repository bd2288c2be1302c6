//! The kernel's hints lead to a look in time, and looking does not cause looking.

use std::fs;
use std::sync::mpsc::{Receiver, sync_channel};

use super::*;

/// Longest time that a poke may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn watched(host: &mut Host) -> Receiver<()> {
    let (sender, pokes) = sync_channel(100);
    host.sensor.on_change(Poke::new(move || {
        let _ = sender.try_send(());
    }));
    host.look();
    // The first look set watches, after which it wants to look again.
    pokes.recv_timeout(PATIENCE).unwrap();
    host.look();
    pokes
}

#[test]
fn a_change_pokes_and_a_look_does_not() {
    let mut host = Host::unprefixed(&["keys", "later/keys", "home/*/.ssh"]);
    host.shop.ec_key("keys/deep/k.pem");
    fs::create_dir_all(host.shop.path("home/bob")).unwrap();
    let pokes = watched(&mut host);
    while pokes.recv_timeout(Duration::from_secs(1)).is_ok() {}
    host.look();
    assert!(pokes.recv_timeout(Duration::from_secs(1)).is_err(), "looking pokes nobody");
    host.shop.write("home/bob/.bash_history", "ls");
    assert!(pokes.recv_timeout(Duration::from_secs(1)).is_err(), "what is done beside keys is nobody's business");
    let actions: [fn(&Workshop); 3] =
        [|shop| drop(shop.ec_key("keys/deep/new.pem")), |shop| drop(shop.ec_key("later/keys/k.pem")), |shop| drop(shop.ec_key("home/bob/.ssh/id"))];
    for act in actions {
        act(&host.shop);
        let mut events = Vec::new();
        while events.is_empty() {
            pokes.recv_timeout(PATIENCE).unwrap();
            host.pass(Duration::from_millis(400));
            events = host.look().events;
        }
        assert_eq!(kinds(&events), [EventKind::Created]);
    }
}

#[test]
fn after_the_kernel_dropped_events_what_was_put_there_meanwhile_is_found() {
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let mut host = Host::unprefixed(&["keys", "home/*/.ssh"]);
    fs::create_dir_all(host.shop.path("home/bob")).unwrap();
    host.shop.ec_key("key");
    let pokes = watched(&mut host);
    while pokes.recv_timeout(Duration::from_secs(1)).is_ok() {}
    let held = host.sensor.watcher.as_ref().unwrap().hold();
    // Each is three events that concern nobody; the thread that reads them waits with the first in its hands.
    for n in 0..most / 3 + 2_000 {
        host.shop.write(&format!("home/bob/{}", n % 2), "");
        fs::remove_file(host.shop.path(&format!("home/bob/{}", n % 2))).unwrap();
    }
    fs::create_dir(host.shop.path("home/bob/.ssh")).unwrap();
    fs::rename(host.shop.path("key"), host.shop.path("home/bob/.ssh/id")).unwrap();
    drop(held);
    pokes.recv_timeout(PATIENCE).unwrap();
    host.pass(Duration::from_millis(400));
    assert_eq!(kinds(&host.look().events), [EventKind::Created], "though the kernel told nothing of it");
    // All is watched as before.
    while pokes.recv_timeout(Duration::from_secs(1)).is_ok() {
        host.look();
    }
    host.shop.ec_key("home/bob/.ssh/other");
    pokes.recv_timeout(PATIENCE).unwrap();
    assert_eq!(kinds(&host.look().events), [EventKind::Created]);
}

#[test]
fn what_waits_for_its_moment_is_looked_at_again_without_a_hint() {
    let mut host = Host::unprefixed(&["keys"]);
    host.shop.ec_key("keys/k.pem");
    host.shop.ec_key("keys/l.pem");
    let pokes = watched(&mut host);
    fs::remove_file(host.shop.path("keys/k.pem")).unwrap();
    let mut events = Vec::new();
    while events.is_empty() {
        pokes.recv_timeout(PATIENCE).unwrap();
        host.pass(Duration::from_secs(1));
        events = host.look().events;
    }
    assert_eq!(kinds(&events), [EventKind::Removed]);
}

#[test]
fn a_replaced_directory_is_watched_anew() {
    let mut host = Host::unprefixed(&["keys"]);
    host.shop.ec_key("keys/a/k.pem");
    let pokes = watched(&mut host);
    fs::remove_dir_all(host.shop.path("keys/a")).unwrap();
    fs::create_dir(host.shop.path("keys/a")).unwrap();
    while pokes.recv_timeout(Duration::from_secs(3)).is_ok() {
        host.pass(Duration::from_secs(1));
        host.look();
    }
    host.shop.ec_key("keys/a/new.pem");
    pokes.recv_timeout(PATIENCE).unwrap();
    assert_eq!(kinds(&host.look().events), [EventKind::Created]);
}

#[test]
fn a_directory_that_went_and_came_back_is_watched_with_all_below_it() {
    let mut host = Host::unprefixed(&["keys"]);
    host.shop.ec_key("keys/a/b/k.pem");
    let pokes = watched(&mut host);
    // Between two looks, so that the next finds every directory as it was.
    fs::rename(host.shop.path("keys/a"), host.shop.path("away")).unwrap();
    fs::rename(host.shop.path("away"), host.shop.path("keys/a")).unwrap();
    while pokes.recv_timeout(Duration::from_secs(3)).is_ok() {
        host.pass(Duration::from_secs(1));
        host.look();
    }
    host.shop.ec_key("keys/a/b/new.pem");
    pokes.recv_timeout(PATIENCE).unwrap();
    assert_eq!(kinds(&host.look().events), [EventKind::Created]);
}
