//! That a listing holds what was asked for, each filter and all of them together, and that pages miss nothing while keys come.

use keyvigil_common::finding::FindingKind;
use keyvigil_common::key::{KeyFacts, Place, Sighting};

use super::*;
use crate::keys::{Observed, Sensor};

const NOW: i64 = 1_795_000_000_000;

fn key(at: usize) -> KeyRecord {
    let kind = [KeyKind::Certificate, KeyKind::PrivateKey, KeyKind::SshPublicKey][at % 3];
    let id = format!("{:064x}", at * 7_919 % 1_000_003);
    let mut facts = KeyFacts::bare(kind, id.clone(), id, ["rsa", "ed25519"][at % 2]);
    facts.bits = Some(if at.is_multiple_of(10) { 1_024 } else { 3_072 });
    facts.not_after_ms = (at % 4 != 3).then(|| NOW + i64::try_from(at % 50).unwrap_or(0) * DAY_MS - 10 * DAY_MS);
    facts.subject = Some(format!("CN=host-{at}.example.org"));
    let place = Place { format: Some(["pem", "openssh"][at % 2].into()), ..Place::at(format!("/etc/ssl/{at}")) };
    KeyRecord::sighted(None, ["web", "db"][at / 2 % 2], Sighting { facts, place, at_ms: NOW, gone: at.is_multiple_of(11), replaces: None })
}

fn inventory(count: usize) -> Vec<Arc<KeyRecord>> {
    (0..count).map(|at| Arc::new(key(at))).collect()
}

fn listed(keys: &[Arc<KeyRecord>], filter: &Filter) -> Vec<String> {
    let found = Findings::of(keys.iter().map(AsRef::as_ref), NOW);
    let page = page(keys, &found, filter, "not_after".parse().unwrap(), None, usize::MAX, NOW);
    assert_eq!(page.total, page.keys.len());
    page.keys.iter().map(|key| key.facts.id.clone()).collect()
}

#[test]
fn every_filter_takes_what_it_says_and_together_they_take_what_all_say() {
    let keys = inventory(600);
    let found = Findings::of(keys.iter().map(AsRef::as_ref), NOW);
    type Row = (Filter, fn(&KeyRecord, &Findings) -> bool);
    let alone: Vec<Row> = vec![
        (Filter { host: Some("web".into()), ..Filter::default() }, |k, _| k.places.iter().next().unwrap().host == "web"),
        (Filter { kinds: vec![KeyKind::PrivateKey, KeyKind::Certificate], ..Filter::default() }, |k, _| k.facts.kind != KeyKind::SshPublicKey),
        (Filter { algorithms: vec!["rsa".into()], ..Filter::default() }, |k, _| k.facts.algorithm == "rsa"),
        (Filter { statuses: vec![Status::Active], ..Filter::default() }, |k, f| f.status(k, NOW) == Status::Active),
        (Filter { expires_before_ms: Some(NOW + 20 * DAY_MS), ..Filter::default() }, |k, _| k.facts.not_after_ms.is_some_and(|end| end < NOW + 20 * DAY_MS)),
        (Filter { findings: FindingKind::Weak.bit() | FindingKind::Expiring.bit(), ..Filter::default() }, |k, f| {
            f.kinds(k) & (FindingKind::Weak.bit() | FindingKind::Expiring.bit()) != 0
        }),
        (Filter { formats: vec!["pem".into()], ..Filter::default() }, |k, _| k.places.iter().next().unwrap().place.format.as_deref() == Some("pem")),
        (Filter { search: Some("HOST-1".into()), ..Filter::default() }, |k, _| k.facts.subject.as_deref().is_some_and(|s| s.contains("host-1"))),
    ];
    for (filter, takes) in &alone {
        let wanted = keys.iter().filter(|key| takes(key, &found)).count();
        assert!(wanted > 0 && wanted < keys.len() && listed(&keys, filter).len() == wanted, "{filter:?}: {wanted}");
    }
    let [(host, ..), (kinds, ..), (algorithms, ..), (statuses, ..), (expires, ..), (findings, ..), ..] = alone.as_slice() else { panic!("eight") };
    let together = Filter {
        host: host.host.clone(),
        kinds: kinds.kinds.clone(),
        algorithms: algorithms.algorithms.clone(),
        statuses: statuses.statuses.clone(),
        expires_before_ms: expires.expires_before_ms,
        findings: findings.findings,
        ..Filter::default()
    };
    let wanted = keys.iter().filter(|key| alone.iter().take(6).all(|(_, takes)| takes(key, &found))).count();
    assert!(wanted > 0 && listed(&keys, &together).len() == wanted, "{wanted}");
}

#[test]
fn pages_of_a_hundred_thousand_keys_hold_each_once_while_others_come_and_go() {
    let mut keys = inventory(100_000);
    let before: BTreeSet<String> = keys.iter().map(|key| key.facts.id.clone()).collect();
    let none = Findings::default();
    for sort in ["not_after", "-subject", "severity"] {
        let sort: Sort = sort.parse().unwrap();
        let (mut seen, mut cursor, mut came) = (BTreeSet::new(), None, 0);
        loop {
            let page = page(&keys, &none, &Filter::default(), sort, cursor.as_ref(), 9_973, NOW);
            for key in &page.keys {
                assert!(seen.insert(key.facts.id.clone()), "twice: {}", key.facts.id);
            }
            // What is passed on to the next question is text.
            let Some(text) = page.next.map(|cursor| cursor.encode(sort)) else { break };
            cursor = Some(Cursor::decode(&text, sort).unwrap());
            keys.push(Arc::new(key(200_000 + came)));
            came += 1;
        }
        assert!(came == 10 && seen.is_superset(&before), "{came} pages, {} keys", seen.len());
        keys.truncate(100_000);
    }
}

#[test]
fn used_is_told_from_not_used_since_it_is_observed_and_from_unknown() {
    let keys: Vec<Arc<KeyRecord>> = inventory(600).into_iter().filter(|key| key.facts.kind == KeyKind::PrivateKey).collect();
    let mut observed = Observed::default();
    observed.saw(Sensor::Access, (NOW - DAY_MS, NOW), 10_000);
    let used_at = |at: usize| (at.is_multiple_of(5)).then(|| NOW - i64::try_from(at).unwrap() * DAY_MS);
    let keys: Vec<Arc<KeyRecord>> =
        keys.iter().enumerate().map(|(at, key)| Arc::new(KeyRecord { last_used_ms: used_at(at), ..KeyRecord::clone(key) })).collect();
    let at = |now_ms| Findings::with(keys.iter().map(AsRef::as_ref), Arc::new(BTreeMap::from([("web".to_owned(), observed.clone())])), now_ms);
    let (found, later) = (at(NOW), at(NOW + DAY_MS));
    let page_of = |found: &Findings, used, sort: &str| {
        page(&keys, found, &Filter { used: Some(used), ..Filter::default() }, sort.parse().unwrap(), None, usize::MAX, NOW).keys
    };
    let of = |used, sort: &str| page_of(&found, used, sort);
    let lies = |key: &KeyRecord, host: &str| key.live().any(|p| p.host == host);
    let (never, unknown) = (of(UsedWhen::Never, "not_after"), of(UsedWhen::Unknown, "not_after"));
    assert!(never.len() > 20 && never.iter().all(|key| key.last_used_ms.is_none() && lies(key, "web")));
    assert!(unknown.len() > 20 && unknown.iter().all(|key| key.last_used_ms.is_none() && lies(key, "db")), "nothing observes there");
    assert!(page_of(&later, UsedWhen::Never, "not_after").is_empty(), "what is not observed any more is unknown");
    let edge = NOW - 50 * DAY_MS;
    let (before, since) = (of(UsedWhen::Before(edge), "-last_used"), of(UsedWhen::Since(edge), "-last_used"));
    assert_eq!(before.len() + since.len(), keys.iter().filter(|key| key.last_used_ms.is_some()).count());
    assert!(before.iter().all(|key| key.last_used_ms < Some(edge)) && since.iter().all(|key| key.last_used_ms >= Some(edge)));
    assert!(since.is_sorted_by(|a, b| a.last_used_ms >= b.last_used_ms), "what was used last stands first");
}
