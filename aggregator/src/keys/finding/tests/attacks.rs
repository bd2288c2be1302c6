//! Inventories that differ from those of every day: keys in several forms, containers, clocks that are wrong, rotations in two
//! steps, facts that are missing or absurd.

use super::*;

fn ssh(id: char, spki: char) -> Key {
    key(KeyKind::SshPublicKey, id, id).facts(|f| (f.fingerprint, f.spki) = (format!("SHA256:{id}"), Some(spki.to_string().repeat(64))))
}

fn statuses(keys: Vec<Key>) -> Vec<(Status, Option<String>)> {
    let records: Vec<KeyRecord> = keys.into_iter().map(Key::record).collect();
    let found = Findings::of(&records, NOW);
    records.iter().map(|key| (found.status(key, NOW), found.revoked(key).and_then(|(_, why)| why.map(str::to_owned)))).collect()
}

#[test]
fn what_is_revoked_in_one_form_says_so_in_all_and_by_what() {
    let listed = |revoked: bool| {
        let why = Some("revocation list /etc/ssh/krl: lost".to_owned());
        ssh('a', 'f').at("bastion", "/root/.ssh/id.pub").facts(|f| (f.revoked_ms, f.revocation) = if revoked { (Some(NOW - DAY), why) } else { (None, None) })
    };
    let others = || {
        let gnupg = key(KeyKind::OpenpgpPrivateKey, 'c', 'f').at("mail", "/root/.gnupg/private-keys-v1.d/x.key");
        vec![private('b', 'f').at("web", "/k.pem"), gnupg, leaf('d', 'f', 60).at("web", "/k.crt"), private('e', 'e').at("web", "/other.pem")]
    };
    let told = statuses([vec![listed(true)], others()].concat_keys());
    let by = "revocation list /etc/ssh/krl: lost (of the same key as ssh public key aaaaaaaaaaaa)".to_owned();
    assert_eq!(told[0], (Status::Revoked, Some("revocation list /etc/ssh/krl: lost".into())));
    assert_eq!([&told[1], &told[2]], [&(Status::Revoked, Some(by)); 2]);
    assert_eq!([told[3].0, told[4].0], [Status::Active; 2], "its certificate is its authority's business, and another key is another");
    assert!(statuses([vec![listed(false)], others()].concat_keys()).iter().all(|told| *told == (Status::Active, None)), "once the list takes it back");
}

#[test]
fn what_was_revoked_is_told_since_it_was_known_of_a_key_in_use() {
    let mut record = leaf('a', 'f', 60).at("web", "/etc/ssl/shop.pem").used_by("nginx: /n:1").record();
    (record.revoked_ms, record.revoked_known_ms) = (Some(NOW - 30 * DAY), Some(NOW - 2 * DAY));
    let since = |record: &KeyRecord| all(&View::new([record], NOW, None)).into_iter().find(|f| f.kind == Kind::RevokedInUse).unwrap().since_ms;
    assert_eq!(since(&record), NOW - 2 * DAY, "the list of a month ago came the day before yesterday");
    record.revoked_known_ms = Some(NOW - 20 * DAY);
    assert_eq!(since(&record), NOW - 10 * DAY, "and it was put there ten days ago");
}

#[test]
fn a_stale_port_is_told_since_the_file_was_renewed() {
    let at = |at_ms: i64, renewed: bool, before: Option<KeyRecord>| {
        let made = leaf('a', 'f', 60).served("web", |s| s.file_key = renewed.then(|| "b".repeat(64)));
        let (host, place) = made.places.into_iter().next().unwrap();
        Some(KeyRecord::sighted(before, host, Sighting { facts: made.facts, place, at_ms, gone: false, replaces: None }))
    };
    let since =
        |record: Option<KeyRecord>| all(&View::new([&record.unwrap()], NOW, None)).into_iter().find(|f| f.kind == Kind::ServedStale).map(|f| f.since_ms);
    let fresh = at(NOW - 50 * DAY, false, None);
    let stale = at(NOW - 3 * DAY, true, fresh);
    assert_eq!(since(at(NOW - DAY, true, stale.clone())), Some(NOW - 3 * DAY));
    let reloaded = at(NOW - 2 * DAY, false, stale);
    assert_eq!(since(reloaded.clone()), None);
    assert_eq!(since(at(NOW - DAY, true, reloaded)), Some(NOW - DAY), "it is another time");
}

#[test]
fn what_does_not_count_yet_is_told_by_how_it_is_used() {
    let early = |ms: i64| leaf('a', 'f', 60).facts(|f| f.not_before_ms = Some(NOW + ms)).at("web", "/etc/ssl/a.pem");
    let with_key = |key: Key| {
        let found = found(vec![key, private('b', 'f').at("web", "/etc/ssl/a.key")]);
        found.into_iter().find(|f| f.kind == Kind::NotYetValid).map(|f| (f.severity, f.title))
    };
    let title = "shop.example on web is not valid for another 2 days".to_owned();
    assert_eq!(with_key(early(2 * DAY)), Some((Severity::Info, title.clone())), "laid down in good time");
    assert_eq!(with_key(early(2 * DAY).used_by("nginx: /n:1")), Some((Severity::Warning, title.clone())));
    assert_eq!(with_key(early(2 * DAY).served("web", |_| ())), Some((Severity::Critical, title)));
    assert_eq!(with_key(early(2 * 60_000)), None, "clocks differ");
    assert_eq!(kinds(vec![early(2 * DAY)]), [], "somebody else's, without a key");
    let stale = leaf('a', 'f', 5).served("web", |s| s.file_key = Some("c".repeat(64)));
    let next = leaf('c', 'c', 90).facts(|f| f.not_before_ms = Some(NOW + DAY)).at("web", "/etc/ssl/shop.pem");
    let told = found(vec![stale, next]).into_iter().find(|f| f.kind == Kind::ServedStale).unwrap();
    assert!(told.remedy.contains("not before"), "a reload now would break what works: {}", told.remedy);
}

#[test]
fn what_went_after_its_successor_came_was_replaced_and_not_removed() {
    let gone = |key: Key| {
        let mut record = key.record();
        let places: Vec<_> = record.places.iter().map(|p| crate::keys::PlaceRecord { gone: true, ..p.clone() }.into()).collect();
        record.places = places.into();
        record
    };
    let status = |old: KeyRecord, new: Vec<Key>| {
        let records: Vec<KeyRecord> = [old].into_iter().chain(new.into_iter().map(Key::record)).collect();
        Findings::of(&records, NOW).status(&records[0], NOW)
    };
    let own = |id: char, days: i64| {
        leaf(id, id, days)
            .facts(|f| (f.sans, f.issuer) = (vec!["DNS:aggregator.keyvigil.internal".into(), format!("DNS:host-{id}")], Some(format!("CN=CA {id}"))))
    };
    let port = |key: Key| key.served("hub", |s| s.file = None);
    assert_eq!(status(gone(port(own('a', 15))), vec![port(own('b', 30))]), Status::Superseded, "our own, with another name and of the next CA");
    assert_eq!(status(gone(leaf('a', 'f', 5).at("web", "/old/shop.pem")), vec![leaf('b', 'g', 85).at("web", "/new/shop.pem")]), Status::Superseded);
    assert_eq!(status(gone(leaf('a', 'f', 5).at("web", "/x.pem")), vec![leaf('b', 'g', 85).at("db", "/x.pem")]), Status::Removed, "on another host");
    assert_eq!(status(gone(leaf('a', 'f', 85).at("web", "/x.pem")), vec![leaf('b', 'g', 5).at("web", "/x.pem")]), Status::Removed, "an older one");
    assert_eq!(status(gone(leaf('a', 'f', 5).at("web", "/x.pem")), vec![]), Status::Removed);
}
