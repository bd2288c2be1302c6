//! What lies in key directories and is no key file: named where it matters, harmless always.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;

use super::*;
use crate::collect::keystore::reader::text;

fn unreadable(events: &[Event]) -> Vec<(&str, &str)> {
    let reason = |event: &'_ Event| -> &str { &event.evidence[0].0.clone().leak()[..] };
    events.iter().filter(|event| event.kind == EventKind::Unreadable).map(|event| (event.path.as_deref().unwrap(), reason(event))).collect()
}

#[test]
fn strange_files_are_named_once_and_nothing_waits_for_them() {
    let mut host = Host::new(&["/keys"]);
    host.shop.ec_key("keys/good.pem");
    host.shop.run("mkfifo", "keys/pipe");
    symlink("loop", host.shop.path("keys/loop")).unwrap();
    symlink("nowhere", host.shop.path("keys/dangling")).unwrap();
    symlink(".", host.shop.path("keys/self")).unwrap();
    let _socket = UnixListener::bind(host.shop.path("keys/session")).unwrap();
    host.shop.write("keys/notes.txt", "nothing to see");
    host.shop.write("keys/corrupt.pem", "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n");
    host.shop.write("keys/huge.pem", host.shop.read("keys/good.pem"));
    fs::OpenOptions::new().write(true).open(host.shop.path("keys/huge.pem")).unwrap().set_len(100 << 20).unwrap();
    let sink = host.look();
    let expected = [("/keys/corrupt.pem", "corrupt"), ("/keys/huge.pem", "too_large"), ("/keys/loop", "loop"), ("/keys/pipe", "not_regular")];
    assert_eq!(unreadable(&sink.events), expected);
    assert!(sink.events.iter().all(|event| event.message.contains("What to do")));
    assert_eq!(sink.sightings.len(), 1);
    for (_, reason) in expected {
        assert_eq!(value(&sink, "crypto.keystore.errors_total", Some(("reason", reason))), Some(1.0), "{reason}");
    }
    assert_eq!(value(&sink, "crypto.keystore.unreadable", None), Some(4.0));
    assert!(sink.blind.iter().any(|(what, _)| what == "/keys/huge.pem"));
    assert!(host.settle().is_empty(), "once, not at each scan");
    host.restart();
    assert!(host.settle().is_empty(), "nor after a restart");
    host.shop.write("keys/corrupt.pem", "-----BEGIN CERTIFICATE-----\nAQIDBA==\n-----END CERTIFICATE-----\n");
    assert_eq!(unreadable(&host.settle()), [("/keys/corrupt.pem", "corrupt")], "but again when it changed");
    fs::remove_file(host.shop.path("keys/corrupt.pem")).unwrap();
    let sink = host.look();
    assert_eq!(value(&sink, "crypto.keystore.unreadable", None), Some(3.0));
}

#[test]
fn a_link_that_somebody_made_to_what_is_not_theirs_gives_it_no_other_name() {
    if !rustix::process::getuid().is_root() {
        eprintln!("not tried: only root makes links in the name of others");
        return;
    }
    let shown = |uid: u32| {
        let mut host = Host::new(&["/homes", "/vault"]);
        host.shop.ec_key("vault/app.key");
        fs::create_dir(host.shop.path("homes")).unwrap();
        symlink("../vault/app.key", host.shop.path("homes/x")).unwrap();
        lchown(host.shop.path("homes/x"), Some(uid), Some(uid)).unwrap();
        host.look().sightings.iter().map(|sighting| sighting.place.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(shown(0), ["/homes/x"], "the administrator's own link is how people know it");
    assert_eq!(shown(1_234), ["/vault/app.key"]);
}

#[test]
fn a_broken_object_does_not_make_its_neighbours_vanish() {
    let mut host = Host::new(&["/keys"]);
    host.shop.certificate("a.pem", "a.key", "a", 30);
    host.shop.certificate("b.pem", "b.key", "b", 30);
    let (a, b) = (host.shop.text("a.pem"), host.shop.text("b.pem"));
    host.shop.write("keys/chain.pem", format!("{a}{b}"));
    host.look();
    host.shop.write("keys/chain.pem", format!("{a}{}", b.replace("MII", "!!!")));
    let events = host.settle();
    assert_eq!(kinds(&events), [EventKind::Unreadable]);
    assert!(host.settle().is_empty(), "the broken one may be what is missed");
    host.shop.write("keys/chain.pem", format!("{a}{b}"));
    assert!(host.settle().is_empty());
}

#[test]
fn what_cannot_be_seen_is_not_gone() {
    let mut host = Host::new(&["/keys", "/more"]);
    host.shop.ec_key("keys/deep/k.pem");
    host.shop.ec_key("more/k.pem");
    host.look();
    // Not even root may list it: its path is a link to itself now.
    fs::rename(host.shop.path("keys"), host.shop.path("away")).unwrap();
    symlink("keys", host.shop.path("keys")).unwrap();
    let sink = host.look();
    assert_eq!(unreadable(&sink.events), [("/keys", "loop")]);
    assert_eq!(value(&sink, "crypto.keystore.up", Some(("path", "/keys"))), Some(0.0));
    assert_eq!(value(&sink, "crypto.keystore.up", Some(("path", "/more"))), Some(1.0));
    assert!(sink.blind.iter().any(|(what, _)| what == "/keys"));
    assert!(host.settle().is_empty());
    fs::remove_file(host.shop.path("keys")).unwrap();
    fs::rename(host.shop.path("away"), host.shop.path("keys")).unwrap();
    let sink = host.look();
    assert!(sink.events.is_empty() && sink.sightings.is_empty() && sink.blind.is_empty());
    assert_eq!(value(&sink, "crypto.keystore.keys", Some(("kind", "private_key"))), Some(2.0));
}

#[test]
fn without_permission_a_directory_is_named_and_its_keys_are_not_gone() {
    // Root may read everything, so the looking is done by a child that may not.
    let host = Host::new(&["/keys"]);
    host.shop.ec_key("keys/closed/k.pem");
    fs::set_permissions(host.shop.path("keys/closed"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(host.shop.root(), fs::Permissions::from_mode(0o755)).unwrap();
    if !rustix::process::getuid().is_root() {
        return;
    }
    let disk = Disk::open_root(&RootFs::new(host.shop.root())).unwrap();
    let found = thread_as_nobody(move || {
        let budget = Budget::begin(&SystemClock::shared());
        let ask = walk::Ask { disk: &disk, homes: &Homes::default(), patterns: &[&Pattern::new("/keys")], exclude: &[], budget: &budget };
        walk::walk(ask, walk::Rest::default())
    });
    let reasons: Vec<(String, &str)> = found.troubles.iter().map(|(path, trouble)| (text(path), trouble.reason)).collect();
    assert_eq!(reasons, [("/keys/closed".to_owned(), "permission")]);
    assert!(found.troubles[0].1.hides);
    assert!(found.troubles[0].1.advice().contains("read access"));
}

/// Runs `look` on a thread that is nobody's and has no capabilities.
pub(super) fn thread_as_nobody<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    let nobody = rustix::fs::Uid::from_raw(65_534);
    let run = move || {
        // Only this thread: the raw system call, unlike the C library's, leaves the others alone.
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        look()
    };
    std::thread::spawn(run).join().unwrap()
}

#[test]
fn a_path_that_existed_and_is_gone_is_missed_and_a_glob_that_never_led_anywhere_is_not() {
    let mut host = Host::new(&["/keys", "/never/*"]);
    host.shop.ec_key("keys/k.pem");
    let sink = host.look();
    assert!(sink.blind.is_empty());
    assert_eq!(value(&sink, "crypto.keystore.up", Some(("path", "/never/*"))), None);
    fs::remove_dir_all(host.shop.path("keys")).unwrap();
    host.restart();
    let sink = host.look();
    assert_eq!(sink.blind.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["/keys"]);
    assert_eq!(value(&sink, "crypto.keystore.up", Some(("path", "/keys"))), Some(0.0));
    assert_eq!(kinds(&host.settle()), [EventKind::Removed]);
}

#[test]
fn depth_and_excluded_paths_bound_the_walk() {
    let mut host = Host::new(&["/keys"]);
    host.context.keystore.exclude = vec!["/keys/*/cache".to_owned()];
    host.sensor = Keystore::new(&host.context);
    host.shop.ec_key(&format!("keys/{}/k.pem", ["d"; 20].join("/")));
    host.shop.ec_key("keys/a/cache/k.pem");
    host.shop.ec_key("keys/a/k.pem");
    let sink = host.look();
    assert_eq!(sink.sightings.iter().map(|s| s.place.path.as_str()).collect::<Vec<_>>(), ["/keys/a/k.pem"]);
    assert!(sink.blind.iter().any(|(what, why)| what.starts_with("/keys/d/d") && why.contains("deeper")));
}

#[test]
fn a_crowded_directory_blinds_nobody_else() {
    let mut host = Host::new(&["/keys", "/crowd", "/late"]);
    host.shop.ec_key("keys/k.pem");
    host.shop.ec_key("late/k.pem");
    host.shop.ec_key("late/l.pem");
    host.look();
    fs::create_dir(host.shop.path("crowd")).unwrap();
    for n in 0..=keyvigil_common::limits::KEYSTORE_FILES_MAX {
        fs::File::create(host.shop.path(&format!("crowd/{n}"))).unwrap();
    }
    let sink = host.look();
    assert_eq!(unreadable(&sink.events), [("/crowd", "limit")]);
    fs::remove_file(host.shop.path("keys/k.pem")).unwrap();
    fs::remove_file(host.shop.path("late/k.pem")).unwrap();
    let removed = host.settle();
    assert_eq!(removed.iter().map(|event| event.path.as_deref().unwrap()).collect::<Vec<_>>(), ["/keys/k.pem", "/late/k.pem"]);
}

/// A clock on which every question takes a second.
#[derive(Debug, Default)]
struct Ticking(std::sync::atomic::AtomicU64);

impl keyvigil_common::clock::Clock for Ticking {
    fn now_ms(&self) -> i64 {
        SystemClock::shared().now_ms()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }

    fn since_boot(&self) -> Duration {
        self.monotonic()
    }

    fn sleep(&self, _: Duration) -> keyvigil_common::clock::Sleep {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_look_that_takes_too_long_goes_on_the_next_time_and_nothing_is_gone_for_it() {
    let mut host = Host::new(&["/a", "/b"]);
    host.context.keystore.named_files = false;
    host.sensor = Keystore::new(&host.context);
    host.sensor.clock = std::sync::Arc::new(Ticking::default());
    for n in 0..30 {
        host.shop.ec_key(&format!("{}/{n}/k.pem", if n % 2 == 0 { "a" } else { "b" }));
    }
    let (mut told, mut events, mut looks) = (HashSet::new(), Vec::new(), 0);
    while told.len() < 30 && looks < 100 {
        let sink = host.look();
        host.pass(Duration::from_secs(60));
        assert!(told.len() >= 30 || sink.blind.iter().any(|(what, _)| what == "keystore scan"), "{:?}", sink.blind);
        told.extend(sink.sightings.iter().map(|sighting| sighting.place.path.clone()));
        events.extend(sink.events);
        looks += 1;
    }
    assert!((3..40).contains(&looks), "{looks}");
    assert!(events.is_empty(), "all of them were there before: {events:?}");
    fs::remove_file(host.shop.path("a/28/k.pem")).unwrap();
    host.shop.ec_key("b/29/new.pem");
    for _ in 0..20 {
        events.extend(host.look().events);
        host.pass(Duration::from_secs(60));
    }
    let mut said: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.path.as_deref().unwrap())).collect();
    said.sort_unstable();
    assert_eq!(said, [("created", "/b/29/new.pem"), ("removed", "/a/28/k.pem")]);
}

#[test]
fn a_file_that_turns_into_a_pipe_is_never_opened() {
    let shop = Workshop::new();
    let key = fs::read(shop.ec_key("key.pem")).unwrap();
    shop.run("mkfifo", "pipe");
    shop.write("keys/k.pem", &key);
    let disk = Disk::open_root(&RootFs::new(shop.root())).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let is_over = || stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over() {
                fs::hard_link(shop.path("pipe"), shop.path("next")).unwrap();
                fs::rename(shop.path("next"), shop.path("keys/k.pem")).unwrap();
                shop.write("next", &key);
                fs::rename(shop.path("next"), shop.path("keys/k.pem")).unwrap();
            }
        });
        let writer = scope.spawn(|| {
            let mut opened = 0;
            while !is_over() {
                // Only with a reader a pipe can be opened for writing at once.
                let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
                opened += usize::from(rustix::fs::open(shop.path("pipe"), flags, rustix::fs::Mode::empty()).is_ok());
            }
            opened
        });
        let (mut keys, mut refused) = (0, 0);
        while keys <= 200 || refused <= 200 {
            match disk.read(Path::new("/keys/k.pem")) {
                Ok(_) => keys += 1,
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => refused += 1,
                Err(_) => {}
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(writer.join().unwrap(), 0);
    });
}
