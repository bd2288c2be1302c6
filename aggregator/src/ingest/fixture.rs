//! What tests of foreign protocols share: a door to an empty store, what a body became, and bodies that are nearly right.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyvigil_common::clock::ManualClock;
use keyvigil_common::seal::MasterKey;
use keyvigil_common::telemetry::Registry;

use super::Ingest;
use super::intake::{Rejections, Taken};
use super::sink::Written;
use crate::fleet::Fleet;
use crate::keys::Inventory;
use crate::store::Store;
use crate::store::series::FRESH;

/// The time of the door's clock.
pub(super) const NOW: i64 = 1_763_836_800_000;

/// A door.
pub(super) struct Fixture {
    _dir: tempfile::TempDir,
    pub(super) ingest: Ingest,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &MasterKey::generate(), NOW, 512 << 20).unwrap();
        let ingest = Ingest::new(store, Arc::new(Fleet::default()), Arc::new(Inventory::default()), Arc::default(), ManualClock::at(NOW), &Registry::default());
        Self { _dir: dir, ingest }
    }
}

/// What a body became: each series with its kind, start and samples (their bits), and what was not taken.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) series: BTreeMap<String, (i64, Vec<(i64, u64)>)>,
    pub(super) rejected: Rejections,
    pub(super) written: Written,
}

impl Outcome {
    pub(super) fn of(taken: Taken, written: Written) -> Self {
        let mut series = BTreeMap::new();
        for (run, times, values) in taken.rows.runs() {
            let of = &taken.fresh[(run.series & !FRESH) as usize];
            let (start_ms, samples) = series.entry(format!("{:?} {of}", of.metric_type)).or_insert((run.start_ms, Vec::new()));
            assert_eq!(*start_ms, run.start_ms);
            samples.extend(times.iter().copied().zip(values.iter().map(|v| v.to_bits())));
        }
        Self { series, rejected: taken.rejected, written }
    }
}

/// Bodies near `whole`; the seed is fixed, so that a failure comes again.
pub(super) fn mutate(whole: &[u8], mut each: impl FnMut(&[u8])) {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..20_000 {
        let mut raw = whole.to_vec();
        for _ in 0..=random(4) {
            let at = random(raw.len());
            match random(4) {
                0 => raw[at] = random(256) as u8,
                1 => raw[at] ^= 1 << random(8),
                2 => drop(raw.drain(at..(at + random(9)).min(raw.len()))),
                _ => raw.insert(at, 0xff),
            }
            if raw.is_empty() {
                raw.push(0);
            }
        }
        each(&raw);
    }
}
