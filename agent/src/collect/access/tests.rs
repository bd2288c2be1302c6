//! The sensor with a helper that says what a test wants.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, sync_channel};

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
        Ask::Follow { files, .. } => files.first().map(|(_, _, number)| *number),
        _ => None,
    });
    for login in [1, 2] {
        let cgroup = format!("/user.slice/user-1000.slice/session-{login}.scope");
        let who = Who { pid: 5, exe: "/usr/bin/cat".into(), cgroup, ..Who::default() };
        say(&Tell { seq: login, what: What::Opened(Opened { who, file: followed.unwrap(), ..Opened::default() }) });
    }
    more.iter().for_each(|tell| say(&tell));
}

#[test]
fn logins_share_a_series_and_what_is_not_seen_any_more_is_not_counted_on() {
    let (host, dir) = (FakeHost::new(), tempfile::tempdir().unwrap());
    host.write("keys/a.pem", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let socket = dir.path().join("probe.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let keystore = KeystoreConfig { paths: vec!["/keys".into()], named_files: false, ..KeystoreConfig::default() };
    let context = Context { keystore, probe: Link::new(socket), ..host.context() };
    scrape(&mut Keystore::new(&context), 0);
    let ((more, asked), (poke, poked)) = (sync_channel(1), sync_channel(64));
    let helper = std::thread::spawn(move || helper(&listener, &asked));
    let mut sensor = Access::new(&context);
    sensor.on_change(Poke::new(move || poke.send(()).unwrap_or_default()));
    let counted = |sink: &Sink| sink.samples.iter().filter(|sample| sample.series.metric_id == COUNT).map(|sample| sample.value).collect::<Vec<_>>();
    let mut sink = scrape(&mut sensor, 1);
    while counted(&sink).iter().sum::<f64>() < 2.0 {
        poked.recv().unwrap();
        sink = scrape(&mut sensor, 2);
    }
    assert_eq!(counted(&sink), [2.0], "a login gets another number each time");

    let lacks_who = |sink: &Sink| sink.blind.iter().any(|(what, _)| what == WHO);
    more.send(sight("at least")).unwrap();
    while sink.blind.is_empty() {
        poked.recv().unwrap();
        sink = scrape(&mut sensor, 3);
    }
    assert!(!lacks_who(&sink), "it tells who, as far as it tells: {:?}", sink.blind);
    more.send(sight("none")).unwrap();
    while !lacks_who(&sink) {
        poked.recv().unwrap();
        sink = scrape(&mut sensor, 3);
    }
    assert!(sink.samples.is_empty(), "unknown, and neither as before nor 0: {:?}", sink.samples);
    drop(more);
    helper.join().unwrap();
    while sink.blind.iter().all(|(_, why)| why.contains("as told")) {
        poked.recv().unwrap();
        sink = scrape(&mut sensor, 4);
    }
    assert!(lacks_who(&sink), "nobody tells who: {:?}", sink.blind);
    assert!(sink.blind.iter().any(|(what, _)| what == "opens by io_uring"), "what the helper did not see is not seen again as it is gone: {:?}", sink.blind);
}
