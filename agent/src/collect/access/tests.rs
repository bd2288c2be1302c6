//! The sensor with a helper that says what a test wants.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::*;
use crate::collect::KeystoreConfig;
use crate::collect::keystore::Keystore;
use crate::collect::tests::{FakeHost, scrape};
use crate::probe::message::{Ask, Tell, VERSION, What, Who};

fn sight(accuracy: &str) -> Tell {
    let row = |what: &str| Sight { what: what.into(), accuracy: accuracy.into(), reason: "as told".into() };
    Tell { seq: 0, what: What::Sight(vec![row("opens"), row("opens by io_uring")]) }
}

/// Sees at first, tells that a followed file was opened in two logins, and says more when asked to.
fn helper(listener: &UnixListener, more: &Receiver<Tell>) {
    let (mut stream, _) = listener.accept().unwrap();
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut say = |tell: &Tell| writeln!(stream, "{}", serde_json::to_string(tell).unwrap()).unwrap();
    say(&Tell { seq: 0, what: What::Hello { version: VERSION, helper: 7 } });
    say(&sight("exact"));
    let followed = lines.map_while(Result::ok).find_map(|line| match serde_json::from_str(&line).unwrap() {
        Ask::Follow { files, .. } => files.first().map(|(_, _, _, number)| *number),
        _ => None,
    });
    for login in [1, 2] {
        let cgroup = format!("/user.slice/user-1000.slice/session-{login}.scope");
        let who = Who { pid: 5, exe: "/usr/bin/cat".into(), cgroup, ..Who::default() };
        say(&Tell { seq: login, what: What::Opened(Opened { who, file: followed.unwrap(), ..Opened::default() }) });
    }
    more.iter().for_each(|tell| say(&tell));
}

/// The sensor beside such a helper, with one key.
struct Beside {
    host: FakeHost,
    keystore: Keystore,
    sensor: Access,
    more: SyncSender<Tell>,
    poked: Receiver<()>,
    helper: JoinHandle<()>,
    _socket: tempfile::TempDir,
}

fn beside() -> Beside {
    let (host, dir) = (FakeHost::new(), tempfile::tempdir().unwrap());
    host.write("keys/a.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let socket = dir.path().join("probe.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let config = KeystoreConfig { paths: vec!["/keys".into()], named_files: false, ..KeystoreConfig::default() };
    let context = Context { keystore: config, probe: Link::new(socket), ..host.context() };
    let mut keystore = Keystore::new(&context);
    scrape(&mut keystore, 0);
    let ((more, asked), (poke, poked)) = (sync_channel(1), sync_channel(64));
    let helper = std::thread::spawn(move || helper(&listener, &asked));
    let mut sensor = Access::new(&context);
    sensor.on_change(Poke::new(move || poke.send(()).unwrap_or_default()));
    Beside { host, keystore, sensor, more, poked, helper, _socket: dir }
}

impl Beside {
    /// Looks whenever the sensor is woken, until what it tells is that.
    fn look_until(&mut self, n: u32, is_it: impl Fn(&Sink) -> bool) -> Sink {
        loop {
            let sink = scrape(&mut self.sensor, n);
            if is_it(&sink) {
                return sink;
            }
            self.poked.recv_timeout(Duration::from_secs(60)).expect("it is woken");
        }
    }
}

fn counted(sink: &Sink, metric: &str) -> Vec<f64> {
    sink.samples.iter().filter(|sample| sample.series.metric_id == metric).map(|sample| sample.value).collect()
}

#[test]
fn who_follows_is_woken_by_a_new_key_alone() {
    let mut beside = beside();
    beside.look_until(1, |sink| counted(sink, COUNT) == [2.0]);
    while beside.poked.try_recv().is_ok() {}
    scrape(&mut beside.keystore, 2);
    assert!(beside.poked.try_recv().is_err(), "nothing is new");
    beside.host.write("keys/b.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    scrape(&mut beside.keystore, 3);
    assert!(beside.poked.try_recv().is_ok(), "its first reader may come at once");
}

#[test]
fn a_denied_open_of_which_the_path_is_not_known_whole_is_counted_as_lost() {
    let mut beside = beside();
    beside.look_until(1, |sink| counted(sink, COUNT) == [2.0]);
    let denied = |seq, asked: &str| Tell { seq, what: What::Opened(Opened { errno: 13, asked: asked.into(), ..Opened::default() }) };
    for (seq, asked) in [(3, "/elsewhere/a.pem"), (4, &format!("/{}{CUT_OFF}", "d/".repeat(250)))] {
        beside.more.send(denied(seq, asked)).unwrap();
    }
    let sink = beside.look_until(2, |sink| counted(sink, LOST) == [1.0]);
    let lost: Vec<_> = sink.events.iter().filter(|event| event.kind == EventKind::DataLost).map(|event| &event.evidence).collect();
    let says = |why: &str| lost.iter().flat_map(|evidence| evidence.iter()).any(|(_, value)| value.contains(why));
    assert!(lost.len() == 1 && says("longer than is kept"), "of one elsewhere it is known that it is no key: {lost:?}");
}

#[test]
fn logins_share_a_series_and_what_is_not_seen_any_more_is_not_counted_on() {
    let mut beside = beside();
    assert_eq!(counted(&beside.look_until(2, |sink| counted(sink, COUNT).iter().sum::<f64>() >= 2.0), COUNT), [2.0], "a login gets another number each time");

    let lacks_who = |sink: &Sink| sink.blind.iter().any(|(what, _)| what == WHO);
    beside.more.send(sight("at least")).unwrap();
    let sink = beside.look_until(3, |sink| !sink.blind.is_empty());
    assert!(!lacks_who(&sink), "it tells who, as far as it tells: {:?}", sink.blind);
    beside.more.send(sight("none")).unwrap();
    let sink = beside.look_until(3, lacks_who);
    assert!(sink.samples.is_empty(), "unknown, and neither as before nor 0: {:?}", sink.samples);
    let (never, _) = sync_channel(1);
    drop(std::mem::replace(&mut beside.more, never));
    let sink = beside.look_until(4, |sink| !sink.blind.iter().all(|(_, why)| why.contains("as told")));
    beside.helper.join().unwrap();
    assert!(lacks_who(&sink), "nobody tells who: {:?}", sink.blind);
    assert!(sink.blind.iter().any(|(what, _)| what == "opens by io_uring"), "what the helper did not see is not seen again as it is gone: {:?}", sink.blind);
}
