//! The inventory and its store: what a sighting writes, and that what was stored comes back.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use keyvigil_common::event::EventKind;
use keyvigil_common::key::{KeyFacts, KeyKind, Place, Sighting};
use keyvigil_common::seal::MasterKey;

use super::{Changed, Inventory, KeyRecord, NotFound, PlaceRecord, Status, sight};
use crate::store::Store;
use crate::store::ledger::Table;

const NOW: i64 = 1_795_000_000_000;
const TENANT: u32 = 1;

struct Fixture {
    dir: tempfile::TempDir,
    master: MasterKey,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), master: MasterKey::generate() }
    }

    fn store(&self) -> Store {
        Store::open(self.dir.path(), &self.master, NOW, 512 << 20).unwrap()
    }
}

fn id(of: char) -> String {
    of.to_string().repeat(64)
}

fn seen(key: char, path: &str, slot: u32) -> Sighting {
    let facts = KeyFacts::bare(KeyKind::Certificate, id(key), id(key), "rsa");
    Sighting { facts, place: Place { slot, ..Place::at(path) }, at_ms: NOW, gone: false, replaces: None }
}

/// Stores a batch; returns how many rows that wrote.
async fn store_batch(store: &Store, inventory: &Arc<Inventory>, host: &str, sightings: Vec<Sighting>) -> u64 {
    let (host, inventory) = (host.to_owned(), Arc::clone(inventory));
    let work = move |tx: &crate::store::Tx<'_>| {
        let before = tx.rows_written();
        let changed = sight(tx, TENANT, &host, sightings)?;
        tx.after_commit(move || changed.into_iter().for_each(|changed| inventory.put(TENANT, changed)));
        Ok(tx.rows_written() - before)
    };
    store.write(work).await.unwrap()
}

async fn loaded(store: &Store) -> Arc<Inventory> {
    let inventory = Arc::new(Inventory::default());
    inventory.load(store).await.unwrap();
    inventory
}

/// The largest body of a table.
async fn largest(store: &Store, table: &'static str) -> i64 {
    store.read(move |connection, _| Ok(connection.query_row(&format!("SELECT max(length(body)) FROM {table}"), [], |row| row.get(0))?)).await.unwrap()
}

#[tokio::test]
async fn what_a_sighting_writes_does_not_grow_with_the_places_of_its_key() {
    let fixture = Fixture::new();
    let (store, inventory) = (fixture.store(), Arc::new(Inventory::default()));
    let mut rows = HashSet::new();
    let mut sizes = HashSet::new();
    for host in 0..300 {
        let batch = vec![seen('a', "/etc/ssl/certs/ca-certificates.crt", 7), seen('a', "/usr/share/ca-certificates/x.crt", 0)];
        rows.insert(store_batch(&store, &inventory, &format!("web-{host:03}"), batch).await);
        if [9, 299].contains(&host) {
            sizes.insert((largest(&store, "key").await / 16, largest(&store, "place").await));
        }
    }
    assert_eq!(rows, HashSet::from([3]), "a row of the key, and one of each place");
    assert_eq!(sizes.len(), 1, "{sizes:?}");
    let again = vec![Sighting { at_ms: NOW + 1, ..seen('a', "/usr/share/ca-certificates/x.crt", 0) }];
    assert!(store_batch(&store, &inventory, "web-007", again).await <= 3);
    let key = inventory.find(TENANT, &id('a')).unwrap();
    assert_eq!((key.places.len(), key.hosts().len(), key.last_seen_ms), (600, 300, NOW + 1));
    assert_eq!(loaded(&store).await.find(TENANT, &id('a')).unwrap(), key, "the store gives back what it got");
}

#[tokio::test]
async fn a_key_that_goes_and_comes_again_is_known_by_what_is_stored_of_other_hosts() {
    let fixture = Fixture::new();
    let (store, inventory) = (fixture.store(), Arc::new(Inventory::default()));
    let certificate = |end, gone| {
        let mut sighting = Sighting { gone, ..seen('a', "/k.pem", 0) };
        sighting.facts.not_after_ms = Some(end);
        vec![sighting]
    };
    store_batch(&store, &inventory, "a", certificate(NOW + 5, false)).await;
    store_batch(&store, &inventory, "b", certificate(NOW + 9, false)).await;
    let end = || inventory.find(TENANT, &id('a')).unwrap().facts.not_after_ms;
    assert_eq!(end(), Some(NOW + 5), "of two answers the worse counts");
    store_batch(&store, &inventory, "a", certificate(NOW + 5, true)).await;
    store_batch(&store, &inventory, "b", certificate(NOW + 9, false)).await;
    assert_eq!(end(), Some(NOW + 9), "it lies on one host only, which may correct what it said");
    let replaced = Sighting { replaces: Some(id('a')), ..seen('b', "/k.pem", 0) };
    store_batch(&store, &inventory, "b", vec![replaced]).await;
    let old = inventory.find(TENANT, &id('a')).unwrap();
    assert_eq!((old.status(NOW), old.places.iter().filter(|p| p.gone).count()), (Status::Superseded, 2));
    assert_eq!(loaded(&store).await.find(TENANT, &id('a')).unwrap(), old);
}

/// Makes the state database what version 3 left: records that hold their places.
fn put_back(dir: &Path) {
    let connection = rusqlite::Connection::open(dir.join("main.db")).unwrap();
    connection.execute_batch("DROP TABLE place; PRAGMA user_version = 3").unwrap();
}

#[tokio::test]
async fn an_inventory_of_the_version_before_keeps_its_places() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let known: KeyRecord = ["b", "a"].iter().fold(None, |before, host| Some(KeyRecord::sighted(before, host, seen('a', "/k.pem", 1)))).unwrap();
    let mut old = serde_json::to_value(&known).unwrap();
    old.as_object_mut().unwrap().retain(|name, _| !["place_count", "revoked_known_ms"].contains(&name.as_str()));
    let inline = |place: &PlaceRecord| {
        let mut row = serde_json::to_value(&place.place).unwrap();
        row.as_object_mut().unwrap().extend(serde_json::to_value(place).unwrap().as_object().unwrap().clone());
        row.as_object_mut().unwrap().remove("place");
        row
    };
    old["places"] = known.places.iter().rev().map(inline).collect();
    store.write(move |tx| tx.put(Table::Key, TENANT, &id('a'), &old)).await.unwrap();
    drop(store);
    put_back(fixture.dir.path());
    let store = fixture.store();
    let inventory = loaded(&store).await;
    assert_eq!(*inventory.find(TENANT, &id('a')).unwrap(), known);
    let gone = Sighting { gone: true, at_ms: NOW + 1, ..seen('a', "/k.pem", 1) };
    store_batch(&store, &inventory, "a", vec![gone]).await;
    let places = |inventory: Arc<Inventory>| inventory.find(TENANT, &id('a')).unwrap().places.iter().map(|p: &PlaceRecord| p.gone).collect::<Vec<_>>();
    assert_eq!([places(inventory), places(loaded(&store).await)], [[true, false]; 2], "once moved, they stay moved");
}

#[test]
fn a_listing_goes_on_with_what_it_saw_while_a_place_is_put_in() {
    let inventory = Inventory::default();
    let put = |host: &str| inventory.put(TENANT, Changed { key: KeyRecord::sighted(None, host, seen('a', "/k", 0)), dropped: Vec::new() });
    put("a");
    let (_, seen_before) = inventory.all(TENANT);
    put("b");
    assert_eq!((seen_before[0].places.len(), inventory.all(TENANT).1[0].places.len()), (1, 2));
}

#[test]
fn the_beginning_of_an_id_means_one_key_or_names_those_it_could_mean() {
    let inventory = Inventory::default();
    let put = |id: &str, fingerprint: &str, kind| {
        let facts = KeyFacts::bare(kind, id.repeat(8), fingerprint.repeat(8), "rsa");
        let key = KeyRecord::sighted(None, "web", Sighting { facts, place: Place::at("/k"), at_ms: 0, gone: false, replaces: None });
        inventory.put(1, Changed { key, dropped: Vec::new() });
    };
    put("aaaaaaa1", "aaaaaaa1", KeyKind::PrivateKey);
    put("aaaaaaa2", "aaaaaaa2", KeyKind::PrivateKey);
    put("bbbbbbb1", "aaaaaaa2", KeyKind::Certificate);
    let find = |wanted: &str| inventory.find(1, wanted);
    assert_eq!(find("aaaaaaa1").unwrap().facts.id, "aaaaaaa1".repeat(8));
    assert_eq!(find("bbbbbb").unwrap().facts.kind, KeyKind::Certificate);
    assert_eq!(find("AAAAAAA1").unwrap().facts.id, "aaaaaaa1".repeat(8), "as some tools write it");
    let Err(NotFound::Ambiguous(2, candidates)) = find("aaaaaa") else { panic!("two keys begin so") };
    assert_eq!(candidates.iter().map(|key| key.facts.kind).collect::<Vec<_>>(), [KeyKind::PrivateKey, KeyKind::Certificate]);
    assert!(matches!(find("aaaaa"), Err(NotFound::Short)));
    assert!(matches!(find("cccccc"), Err(NotFound::None)));
}

#[test]
fn a_list_that_no_longer_names_a_certificate_is_told_to_have_taken_that_back() {
    let mut facts = KeyFacts::bare(KeyKind::Certificate, "a".repeat(64), "b".repeat(64), "rsa");
    (facts.subject, facts.issuer, facts.serial) = (Some("CN=web".into()), Some("CN=CA".into()), Some("beef".into()));
    let key = KeyRecord::sighted(None, "web", Sighting { facts, place: Place::at("/web.pem"), at_ms: 1, gone: false, replaces: None });
    let list = |what: &str| {
        let mut facts = KeyFacts::bare(KeyKind::Crl, "c".repeat(64), "c".repeat(64), "none");
        facts.issuer = Some("CN=CA".into());
        let mut lists = keyvigil_common::revocation::Lists::default();
        let line = keyvigil_common::key::Revoked { what: what.into(), at_ms: Some(5), reason: Some("certificateHold".into()) };
        lists.add("http://pki/ca.crl", &facts, &Arc::new(keyvigil_common::crl::Lines::of(&[line])));
        lists
    };
    let held = key.judged(&list("beef"), 10).unwrap();
    let told = held.revocation_event(&key, &key.places, 10).unwrap();
    assert_eq!((told.kind, told.host.as_str()), (EventKind::Revoked, "web"));
    assert!(held.judged(&keyvigil_common::revocation::Lists::default(), 20).is_none(), "a list that is not there takes nothing back");
    let lifted = held.judged(&list("0bad"), 30).unwrap();
    let told = lifted.revocation_event(&held, &key.places, 30).unwrap();
    assert_eq!((told.kind, lifted.revoked_ms), (EventKind::RevocationLifted, None));
    assert_eq!(told.message, "CN=web is no longer revoked: the list http://pki/ca.crl does not name it any more; it lies on 1 host");
}

#[tokio::test]
async fn a_host_that_is_taken_out_takes_its_keys_along_and_no_others() {
    let fixture = Fixture::new();
    let (store, inventory) = (fixture.store(), Arc::new(Inventory::default()));
    for (host, keys) in [("gone", vec![seen('a', "/a.pem", 0), seen('b', "/b.pem", 0)]), ("stays", vec![seen('a', "/a.pem", 0)])] {
        let to = Arc::clone(&inventory);
        let write = move |tx: &crate::store::Tx<'_>| {
            let changed = sight(tx, TENANT, host, keys)?;
            tx.after_commit(move || changed.into_iter().for_each(|changed| to.put(TENANT, changed)));
            Ok(())
        };
        store.write(write).await.unwrap();
    }
    assert_eq!(super::leave(&store, &inventory, TENANT, "gone", NOW + 1).await.unwrap(), 2);
    let stands =
        |inventory: &Inventory| ['a', 'b'].map(|key| inventory.find(TENANT, &id(key)).map(|key| (key.status(NOW + 2), key.hosts().join(" "))).unwrap());
    let expected = [(Status::Active, "stays".to_owned()), (Status::Removed, String::new())];
    assert_eq!(stands(&inventory), expected);
    let stored = Inventory::default();
    stored.load(&store).await.unwrap();
    assert_eq!(stands(&stored), expected, "and after a restart");
}
