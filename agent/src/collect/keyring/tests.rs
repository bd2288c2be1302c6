//! What is told of keys in a made-up file, and of those that `keyctl` puts into this kernel.

use super::super::tests::{FakeHost, at, scrape};
use super::*;
use crate::testkit::Workshop;

const KEY: &str = "009a2028 I--Q---     1 perm 3f010000  1000  1000 user      krb_ccache:primary: 12\n";
const AUTHORITY: &str = "2a1c0f00 I------     1 perm 1f030000     0     0 asymmetri Debian CA: 6ccece7e: X509.rsa 79b12c3d []\n";

fn line(expiry: &str) -> String {
    format!("1806c4ba I--Q---     1 {expiry:>4} 3f010000     0     0 logon     f2fs: 64\n")
}

fn told(sink: &Sink) -> Vec<(&str, bool)> {
    sink.sightings.iter().map(|sighting| (sighting.place.path.as_str(), sighting.gone)).collect()
}

#[test]
fn keys_come_change_and_go_also_while_the_agent_is_down() {
    let host = FakeHost::new();
    host.write("proc/key-users", " 1000:     2 1/1 1/200 12/20000\n    0:     9 8/8 3/1000000 56/25000000\n");
    host.write("etc/passwd", "alice:x:1000:1000::/:/bin/sh\n");
    host.write("proc/keys", &format!("{KEY}{AUTHORITY}08f421b8 I------     1 perm 1f0b0000     0     0 keyring   .x: empty\n"));
    let mut sensor = Keyring::new(&host.context());
    let first = scrape(&mut sensor, 0);
    assert_eq!(told(&first), [("keyring:009a2028", false), ("keyring:2a1c0f00", false)]);
    let Sighting { facts, place, .. } = &first.sightings[0];
    assert_eq!((facts.kind, facts.algorithm.as_str(), facts.usage.last().map(String::as_str)), (KeyKind::KernelKey, "user", Some("user=view")));
    assert_eq!((place.entry.as_deref(), place.owner.as_deref(), place.mode), (Some("krb_ccache:primary"), Some("alice"), None));
    let counts: Vec<_> = first.samples.iter().map(|sample| (sample.series.tags.get("type"), sample.value)).collect();
    assert_eq!(counts, [(Some("asymmetric"), 1.0), (Some("user"), 1.0), (None, 6.0)]);

    host.write("proc/keys", &format!("{}{AUTHORITY}", KEY.replace(": 12", ": 99")));
    assert!(scrape(&mut sensor, 1).sightings.is_empty(), "what it holds is nobody's business");
    host.write("proc/keys", &format!("{}{AUTHORITY}", KEY.replace("I--Q", "IR-Q")));
    let revoked = scrape(&mut sensor, 2);
    assert_eq!(revoked.sightings[0].facts.revoked_ms, Some(at(2).wall_ms));
    assert_eq!(revoked.sightings[0].facts.revocation.as_deref(), Some("the kernel: revoked"));
    assert!(scrape(&mut sensor, 3).sightings.is_empty());

    let remembered = revoked.remember.into_iter().map(|(key, value)| (key, value.unwrap())).collect();
    let mut sensor = Keyring::new(&host.context());
    sensor.restore(remembered);
    host.write("proc/keys", AUTHORITY);
    assert_eq!(told(&scrape(&mut sensor, 4)), [("keyring:2a1c0f00", false), ("keyring:009a2028", true)]);
    assert!(scrape(&mut sensor, 5).sightings.is_empty());
}

#[test]
fn what_cannot_be_read_is_not_gone() {
    let host = FakeHost::new();
    let mut sensor = Keyring::new(&host.context());
    assert!(scrape(&mut sensor, 0).blind[0].1.contains("is missing"));
    host.write("proc/keys", KEY);
    scrape(&mut sensor, 1);
    host.write("proc/keys", "a new form of lines\n");
    let sink = scrape(&mut sensor, 2);
    assert!(sink.sightings.is_empty() && sink.blind.iter().any(|(what, _)| what == BLIND));
    std::fs::remove_file(host.context().root.path(FILE)).unwrap();
    assert!(scrape(&mut sensor, 3).sightings.is_empty());
}

#[test]
fn an_end_is_told_once_for_each_unit_and_lies_within_one() {
    // A key of 3 h and some, looked at every 10 s or so until its end.
    let real_end = at(0).wall_ms + 12_345_678;
    let host = FakeHost::new();
    let mut sensor = Keyring::new(&host.context());
    let mut ends = Vec::new();
    for n in 0..1_240_u32 {
        let wall_ms = at(n).wall_ms + i64::from(n * 7_919 % 9_001);
        let is_over = wall_ms >= real_end;
        let left = u64::try_from(real_end - wall_ms).unwrap_or(0) / 1_000;
        let (count, unit, name) = match left {
            0..60 => (left, 1, "s"),
            60..3_600 => (left / 60, 60, "m"),
            _ => (left / 3_600, 3_600, "h"),
        };
        host.write("proc/keys", &line(&if is_over { "expd".into() } else { format!("{count}{name}") }));
        let mut sink = Sink::new("h1", At { wall_ms, ..at(n) });
        sensor.collect(At { wall_ms, ..at(n) }, &mut sink);
        for sighting in sink.sightings {
            let off = sighting.facts.not_after_ms.unwrap() - real_end;
            let unit = if is_over { 20 } else { unit };
            assert!(off.abs() <= (unit * 1_000).max(ACCURACY_MS), "look {n}: off by {off} ms");
            ends.push(n);
        }
    }
    // The first look, those at which an hour or a minute gave a better end, and the end itself.
    assert!(ends.len() <= 6, "{ends:?}");
    assert_eq!(ends[0], 0);
}

#[test]
fn a_key_that_is_given_another_life_is_told_anew() {
    let host = FakeHost::new();
    let mut sensor = Keyring::new(&host.context());
    let mut end = |expiry: &str, n| {
        host.write("proc/keys", &line(expiry));
        scrape(&mut sensor, n).sightings.first().map(|sighting| sighting.facts.not_after_ms)
    };
    assert_eq!(end("5m", 0), Some(Some(at(0).wall_ms + 360_000)));
    assert_eq!(end("5m", 1), None);
    assert_eq!(end("2w", 2), Some(Some(at(2).wall_ms + 3 * 604_800_000)));
    assert_eq!(end("perm", 3), Some(None));
    assert_eq!(end("expd", 4), Some(Some(at(4).wall_ms)));
    assert_eq!(end("expd", 5), None);
}

/// A key in this kernel, which does not outlive the test.
struct RealKey(Workshop, String);

impl RealKey {
    fn new(description: &str) -> Self {
        let shop = Workshop::new();
        let serial = String::from_utf8(shop.run("keyctl", &format!("add user {description} payload @u"))).unwrap();
        Self(shop, serial.trim().to_owned())
    }

    fn keyctl(&self, verb: &str, rest: &str) {
        self.0.run("keyctl", &format!("{verb} {} {rest}", self.1));
    }
}

impl Drop for RealKey {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = std::process::Command::new("keyctl").args(["unlink", &self.1, "@u"]).output();
    }
}

#[test]
fn a_key_of_this_kernel_is_told_with_its_end() {
    let description = format!("keyvigil-test:{}", std::process::id());
    let key = RealKey::new(&description);
    key.keyctl("timeout", "300");
    let mut sensor = Keyring::new(&Context { root: RootFs::host(), ..FakeHost::new().context() });
    let serial = format!("keyring:{:08x}", key.1.parse::<u32>().unwrap());
    let find = |sink: Sink| sink.sightings.into_iter().find(|sighting| sighting.place.path == serial);
    let seen = find(scrape(&mut sensor, 0)).unwrap();
    assert_eq!((seen.place.entry.as_deref(), seen.facts.algorithm.as_str()), (Some(description.as_str()), "user"));
    let left = seen.facts.not_after_ms.unwrap() - at(0).wall_ms;
    assert!((300_000..=360_000).contains(&left), "{left}");
    assert!(find(scrape(&mut sensor, 1)).is_none());
    key.keyctl("revoke", "");
    assert_eq!(find(scrape(&mut sensor, 2)).unwrap().facts.revocation.as_deref(), Some("the kernel: revoked"));
}
