//! Adaptive sampling on hours of a real host: it saves, and what lasts is not missed.

use std::path::Path;

use keyvigil_tests::cost::{self, costs};
use keyvigil_tests::recording::{Recording, SENSORS};
use keyvigil_tests::replay::{replay, table};

fn recording() -> Recording {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recordings/host.bin");
    Recording::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_recorded_host_costs_less_and_shows_what_lasts() {
    let recording = recording();
    let outcomes = replay(&recording);
    let table = table(&recording);
    assert_eq!(outcomes.len(), SENSORS.len(), "{table}");
    let total = |pick: fn(&keyvigil_tests::replay::Outcome) -> usize| outcomes.values().map(pick).sum::<usize>();
    let (fixed, adaptive) = (total(|it| it.samples.0), total(|it| it.samples.1));
    assert!(adaptive * 2 <= fixed, "{adaptive} of {fixed} samples\n{table}");
    assert!(outcomes.values().all(|it| it.saved() >= 0.25), "{table}");
    let (seen, missed) = (total(|it| it.excursions.0), total(|it| it.excursions.1));
    assert!(seen >= 50, "the recording has too little in it\n{table}");
    assert!(missed as f64 <= seen as f64 * 0.1, "{missed} of {seen} missed\n{table}");
}

#[test]
fn the_growth_of_counters_is_right_whatever_the_interval() {
    let recording = recording();
    for (at, recorded) in recording.head.iter().enumerate() {
        let column = &recording.columns[at];
        assert_eq!(column.len(), recording.times.len(), "{}", recorded.series);
    }
    for (sensor, it) in replay(&recording) {
        // Windows whose ends lie between samples: what was before the first and after the last is not known.
        assert!(keyvigil_tests::replay::quantile(&it.growth, 0.5) <= 0.05, "{sensor}\n{}", table(&recording));
    }
}

#[test]
fn constant_series_cost_next_to_nothing_on_the_wire() {
    let recording = recording();
    let (found, table) = (costs(&recording).unwrap(), cost::table(&recording).unwrap());
    let of = |name: &str| found.iter().find(|cost| cost.name == name).map(cost::Cost::following_per_sample).unwrap_or_else(|| panic!("{name}\n{table}"));
    assert!(of("constant") < 0.5, "{table}");
    assert!(of("constant, 6 scrapes a batch") < 0.1, "{table}");
    assert!(of("constant, adaptive looks") < 1.0, "{table}");
    assert!(of("as recorded") < 3.2 && of("as recorded, adaptive looks") < 4.0, "{table}");
}
