//! The tracker against a model of a disk under random actions: whoever follows its sightings knows what lies where.

use std::collections::BTreeSet;
use std::sync::Arc;

use keyvigil_common::key::{KeyFacts, KeyKind, Place};
use proptest::prelude::*;

use super::*;
use crate::collect::keystore::model::{FilePlace, Hidden, Object, Observed, Scan, Version};
use crate::parse::Within;

/// Ids of the keys in each file, in their order.
type Model = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Clone)]
enum Action {
    Write(u8, Vec<u8>),
    Remove(u8),
    Rename(u8, u8),
    Look(u64),
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..4u8, proptest::collection::vec(0..6u8, 0..4)).prop_map(|(file, keys)| Action::Write(file, keys)),
        2 => (0..4u8).prop_map(Action::Remove),
        2 => (0..4u8, 0..4u8).prop_map(|(from, to)| Action::Rename(from, to)),
        4 => (0..3_000u64).prop_map(Action::Look),
        1 => Just(Action::Restart),
    ]
}

fn facts(id: u8) -> Arc<KeyFacts> {
    let id_text = format!("{id:064}");
    let mut facts = KeyFacts::bare(KeyKind::Certificate, id_text.clone(), id_text, "ec");
    // Pairs of keys share a subject, so that some succeed others.
    facts.subject = Some(format!("CN={}", id / 2));
    Arc::new(facts)
}

/// What an aggregator would hold: id, path and slot of all keys that are not gone.
type Inventory = BTreeSet<(String, String, u32)>;

fn look(tracker: &mut Tracker, model: &Model, at: At, inventory: &mut Inventory) -> Sink {
    let object = |(slot, id): (usize, &u8)| Object { slot: u32::try_from(slot).unwrap(), facts: facts(*id), within: Within::default(), revokes: None };
    let objects: BTreeMap<&String, Vec<Object>> = model.iter().map(|(path, ids)| (path, ids.iter().enumerate().map(object).collect())).collect();
    let observed = |path: &String| Observed {
        objects: &objects[path],
        odd: None,
        troubles: &[],
        place: FilePlace::Made(Box::new(Place::at(path.clone()))),
        version: Version::default(),
        fresh: true,
        baseline: false,
    };
    let files = model.keys().map(|path| (path.clone(), observed(path))).collect();
    let scan = Scan { files, names: model.keys().cloned().collect(), hidden: Hidden::default() };
    let mut sink = Sink::new("h", at);
    report::report(tracker.update(at, &scan), &mut sink, &mut Totals::default());
    for sighting in &sink.sightings {
        let place = (sighting.facts.id.clone(), sighting.place.path.clone(), sighting.place.slot);
        if sighting.gone {
            inventory.remove(&place)
        } else {
            inventory.insert(place)
        };
    }
    sink
}

fn truth(model: &Model) -> Inventory {
    let keys = |(path, ids): (&String, &Vec<u8>)| {
        ids.iter().enumerate().map(|(slot, id)| (format!("{id:064}"), path.clone(), u32::try_from(slot).unwrap())).collect::<Vec<_>>()
    };
    model.iter().flat_map(keys).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn who_follows_the_sightings_knows_what_lies_where(actions in proptest::collection::vec(action(), 1..40)) {
        let (mut tracker, mut model, mut inventory) = (Tracker::default(), Model::new(), Inventory::new());
        let mut stored: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut now = At { wall_ms: 1_000_000, monotonic: Duration::ZERO };
        let name = |file: u8| format!("/{file}");
        for action in actions.into_iter().chain([Action::Look(0), Action::Look(2_000), Action::Look(2_000)]) {
            match action {
                Action::Write(file, keys) => drop(model.insert(name(file), keys)),
                Action::Remove(file) => drop(model.remove(&name(file))),
                Action::Rename(from, to) => {
                    if let Some(keys) = model.remove(&name(from)) {
                        model.insert(name(to), keys);
                    }
                }
                Action::Look(after) => {
                    now.wall_ms += i64::try_from(after).unwrap();
                    now.monotonic += Duration::from_millis(after);
                    let mut sink = look(&mut tracker, &model, now, &mut inventory);
                    Memory::default().remember(&mut Memory::default(), &mut tracker, &mut sink);
                    for (key, value) in sink.remember {
                        match value {
                            Some(value) => drop(stored.insert(key, value)),
                            None => drop(stored.remove(&key)),
                        }
                    }
                }
                Action::Restart => {
                    tracker = Tracker::default();
                    Memory::restore(stored.clone().into_iter().collect(), &mut tracker);
                }
            }
        }
        prop_assert_eq!(&inventory, &truth(&model));
        prop_assert!(!tracker.is_waiting());
        prop_assert!(look(&mut tracker, &model, now, &mut inventory).events.is_empty(), "all is said");
    }
}
