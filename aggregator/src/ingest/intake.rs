//! Samples of foreign protocols on their way to the store. A protocol gives, for each series, the bytes of its labels as they
//! came and its samples; a series that was here before is found by a keyed hash of those bytes, so that nothing is allocated
//! for a sample and no label is read twice.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use highway::{HighwayHash, HighwayHasher, Key};
use keyvigil_common::limits::{FUTURE_MS_MAX, REJECTED_NAMED_MAX, TIMESTAMP_MS_MIN};
use keyvigil_common::sample::Series;
use tokio::sync::OwnedSemaphorePermit;

use crate::index::{SeriesId, TenantId};
use crate::store::level0::{Rows, Run};
use crate::store::series::FRESH;

/// Label sets that are remembered; with more, all are forgotten and found again by their labels.
const KNOWN_MAX: usize = 4 << 20;

/// A sample in its columns and in the row that is stored.
const SAMPLE_BYTES: usize = 2 * size_of::<(i64, f64)>();
/// A run, here and in the row.
const RUN_BYTES: usize = size_of::<Run>() + 16;

/// Ids by hash, as they were found in one generation of ids.
#[derive(Debug, Default)]
struct Known {
    generation: u64,
    ids: HashMap<u128, SeriesId, BuildHasherDefault<Hashed>>,
}

impl Known {
    /// Whether `generation` is the one of these ids. Those of an older one are forgotten; an older one is not taken up again.
    fn keep_to(&mut self, generation: u64) -> bool {
        if self.generation < generation {
            *self = Self { generation, ..Self::default() };
        }
        self.generation == generation
    }
}

/// Series by the hash of their labels as a protocol writes them.
#[derive(Debug)]
pub struct Names {
    key: [u64; 4],
    known: RwLock<Known>,
}

impl Default for Names {
    /// The hash is keyed anew in each process, so that nobody can make two label sets that collide.
    fn default() -> Self {
        let key = keyvigil_common::random::<32>();
        let (words, _) = key.as_chunks::<8>();
        Self { key: std::array::from_fn(|at| u64::from_le_bytes(words[at])), known: RwLock::default() }
    }
}

impl Names {
    /// Begins to take samples of `tenant` in this `generation` of ids. While it lives nothing new is remembered: parse, then
    /// finish.
    #[must_use]
    pub fn begin(&self, tenant: TenantId, now_ms: i64, generation: u64) -> Intake<'_> {
        let read = || self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut known = read();
        if known.generation < generation {
            drop(known);
            self.known.write().unwrap_or_else(PoisonError::into_inner).keep_to(generation);
            known = read();
        }
        let taken = Taken::new(tenant, known.generation);
        Intake { names: self, known, latest_ms: now_ms + FUTURE_MS_MAX, fresh_at: HashMap::default(), fresh_bytes: 0, taken }
    }

    /// Remembers series that were stored, by ids of `generation`. What a limit refused has no id and is not remembered.
    pub(super) fn remember(&self, generation: u64, series: impl IntoIterator<Item = (u128, SeriesId)>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if !known.keep_to(generation) {
            return;
        }
        if known.ids.len() >= KNOWN_MAX {
            known.ids = HashMap::default();
        }
        known.ids.extend(series.into_iter().filter(|(_, id)| *id != 0));
    }

    /// Memory that is taken, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).ids.capacity() * (size_of::<(u128, SeriesId)>() + 1)
    }

    pub(super) fn hash(&self, tenant: TenantId, labels: &[u8]) -> u128 {
        let [a, b, c, d] = self.key;
        let halves = HighwayHasher::new(Key([a ^ u64::from(tenant), b, c, d])).hash128(labels);
        u128::from(halves[0]) | u128::from(halves[1]) << 64
    }
}

/// What a request brought, ready for the store.
#[derive(Debug)]
pub struct Taken {
    pub(super) tenant: TenantId,
    pub(super) rows: Rows,
    /// Series that are not known by their label bytes yet, and those bytes' hashes.
    pub(super) fresh: Vec<Series>,
    pub(super) hashes: Vec<u128>,
    /// Of the ids in `rows`.
    pub(super) generation: u64,
    /// Runs of each histogram.
    pub(super) histograms: Vec<Range<u32>>,
    /// Samples that cannot be stored, ever.
    pub rejected: Rejections,
    /// The memory that it takes.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Taken {
    fn new(tenant: TenantId, generation: u64) -> Self {
        let (rows, rejected) = (Rows::default(), Rejections::default());
        Self { tenant, rows, fresh: Vec::new(), hashes: Vec::new(), generation, histograms: Vec::new(), rejected, room: None }
    }

    /// Samples that will be stored.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.rows.len()
    }
}

/// How many samples were not taken, and why: the first few by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejections {
    /// Samples.
    pub samples: usize,
    /// Series and reason.
    pub named: Vec<String>,
}

impl Rejections {
    /// Counts `samples` that are not taken; `why` names the series.
    pub fn add(&mut self, samples: usize, why: impl FnOnce() -> String) {
        self.samples += samples;
        if self.named.len() < REJECTED_NAMED_MAX {
            self.named.push(why());
        }
    }
}

/// Takes the samples of one request.
#[derive(Debug)]
pub struct Intake<'a> {
    names: &'a Names,
    known: RwLockReadGuard<'a, Known>,
    latest_ms: i64,
    fresh_at: HashMap<u128, SeriesId, BuildHasherDefault<Hashed>>,
    /// Memory of the new series.
    fresh_bytes: usize,
    taken: Taken,
}

impl Intake<'_> {
    /// Takes the samples of one series. `labels`: bytes that are equal only for equal series of this protocol. `start_ms`:
    /// when its counter began, 0 for not known. `make` is asked only for a series that was not here before, or to name one
    /// whose samples are rejected: a reason from it rejects them all.
    ///
    /// # Errors
    /// The first error among the samples: a body that does not parse.
    pub fn column<E>(
        &mut self,
        labels: &[u8],
        start_ms: i64,
        make: impl Fn() -> Result<Series, String>,
        samples: impl Iterator<Item = Result<(i64, f64), E>>,
    ) -> Result<(), E> {
        let rows = &mut self.taken.rows;
        let before = rows.times.len();
        let (mut strange, mut strange_ms) = (0, 0);
        for sample in samples {
            let (at_ms, value) = sample?;
            if (TIMESTAMP_MS_MIN..=self.latest_ms).contains(&at_ms) {
                rows.times.push(at_ms);
                rows.values.push(value);
            } else {
                (strange, strange_ms) = (strange + 1, at_ms);
            }
        }
        if strange > 0 {
            let latest_ms = self.latest_ms;
            self.taken.rejected.add(strange, || format!("{}: {}", named(&make), time_fault(strange_ms, latest_ms)));
        }
        if self.taken.rows.times.len() > before {
            match self.series(labels, &make) {
                Ok(series) => {
                    let end = u32::try_from(self.taken.rows.times.len()).unwrap_or(u32::MAX);
                    self.taken.rows.runs.push(Run { series, start_ms, end });
                }
                Err(reason) => {
                    self.taken.rejected.add(self.taken.rows.times.len() - before, || reason);
                    self.taken.rows.times.truncate(before);
                    self.taken.rows.values.truncate(before);
                }
            }
        }
        Ok(())
    }

    fn series(&mut self, labels: &[u8], make: impl Fn() -> Result<Series, String>) -> Result<SeriesId, String> {
        let hash = self.names.hash(self.taken.tenant, labels);
        if let Some(id) = self.known.ids.get(&hash).or_else(|| self.fresh_at.get(&hash)) {
            return Ok(*id);
        }
        let series = make()?;
        let place = FRESH | SeriesId::try_from(self.taken.fresh.len()).unwrap_or(0);
        self.fresh_bytes += footprint(&series);
        self.taken.fresh.push(series);
        self.taken.hashes.push(hash);
        self.fresh_at.insert(hash, place);
        Ok(place)
    }

    /// Counts samples that the protocol itself found fault with.
    pub fn reject(&mut self, samples: usize, why: impl FnOnce() -> String) {
        self.taken.rejected.add(samples, why);
    }

    /// Samples that were taken so far.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.taken.samples()
    }

    /// Runs that were taken so far.
    pub(super) fn runs(&self) -> u32 {
        u32::try_from(self.taken.rows.runs.len()).unwrap_or(u32::MAX)
    }

    /// Memory that what was taken needs until it is stored.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fresh_bytes + self.taken.samples() * SAMPLE_BYTES + self.taken.rows.runs.len() * RUN_BYTES
    }

    /// Why a sample of this time cannot be stored.
    #[must_use]
    pub fn time_fault(&self, at_ms: i64) -> Option<String> {
        (!(TIMESTAMP_MS_MIN..=self.latest_ms).contains(&at_ms)).then(|| time_fault(at_ms, self.latest_ms))
    }

    /// All that was taken.
    #[must_use]
    pub fn finish(self) -> Taken {
        self.taken
    }
}

/// Memory of a series that is new, here and in the maps that find it.
fn footprint(series: &Series) -> usize {
    let tags: usize = series.tags.iter().map(|(name, value)| 2 * size_of::<String>() + 32 + name.len() + value.len()).sum();
    2 * (size_of::<Series>() + 64 + series.metric_id.len() + tags)
}

fn named(make: impl Fn() -> Result<Series, String>) -> String {
    make().map_or_else(|reason| reason, |series| series.to_string())
}

fn time_fault(at_ms: i64, latest_ms: i64) -> String {
    format!("timestamp {at_ms} ms lies before the year 2000 or more than 10 min ahead of the aggregator's clock ({} ms)", latest_ms - FUTURE_MS_MAX)
}

/// The key is a hash already.
#[derive(Debug, Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    }

    fn write_u128(&mut self, n: u128) {
        self.0 = n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::sample::{MetricType, Tags};

    const NOW: i64 = 1_763_836_800_000;

    fn series(name: &str) -> Result<Series, String> {
        Series::new(name, MetricType::Gauge, Tags::default()).map_err(|e| e.to_string())
    }

    fn take(intake: &mut Intake<'_>, name: &str, samples: &[(i64, f64)]) {
        intake.column::<()>(name.as_bytes(), 0, || series(name), samples.iter().map(|s| Ok(*s))).expect("no sample is at fault");
    }

    #[test]
    fn a_series_is_made_once_and_found_by_its_labels_from_then_on() {
        let names = Names::default();
        let mut intake = names.begin(1, NOW, 0);
        take(&mut intake, "a", &[(NOW, 1.0)]);
        take(&mut intake, "b", &[(NOW, 2.0), (NOW + 1, 3.0)]);
        take(&mut intake, "a", &[(NOW + 1, 4.0)]);
        let taken = intake.finish();
        assert_eq!((taken.fresh.len(), taken.samples()), (2, 4));
        assert_eq!(taken.rows.runs.iter().map(|r| r.series).collect::<Vec<_>>(), [FRESH, FRESH | 1, FRESH]);
        names.remember(0, [(taken.hashes[0], 7), (taken.hashes[1], 8)]);
        let mut intake = names.begin(1, NOW, 0);
        take(&mut intake, "b", &[(NOW, 1.0)]);
        let taken = intake.finish();
        assert_eq!((taken.fresh.len(), taken.rows.runs[0].series), (0, 8));
        let mut other = names.begin(2, NOW, 0);
        take(&mut other, "b", &[(NOW, 1.0)]);
        assert_eq!(other.finish().fresh.len(), 1, "another tenant's series of the same labels is another series");
    }

    #[test]
    fn ids_of_an_older_generation_are_not_used_again_and_what_was_refused_is_not_remembered() {
        let names = Names::default();
        let fresh = |generation: u64| {
            let mut intake = names.begin(1, NOW, generation);
            ["a", "b"].iter().for_each(|name| take(&mut intake, name, &[(NOW, 1.0)]));
            let taken = intake.finish();
            (taken.fresh.len(), taken.generation, taken.hashes)
        };
        let (count, _, hashes) = fresh(0);
        assert_eq!(count, 2);
        names.remember(0, [(hashes[0], 7), (hashes[1], 0)]);
        assert_eq!(fresh(0).0, 1, "the one without an id is new again");
        assert_eq!((fresh(1).0, fresh(1).1), (2, 1));
        names.remember(0, [(hashes[0], 7)]);
        assert_eq!(fresh(1).0, 2, "told too late");
        names.remember(1, [(hashes[0], 9)]);
        assert_eq!((fresh(1).0, fresh(0).0, fresh(0).1), (1, 1, 1), "who began before the change goes on with what is known now");
    }

    #[test]
    fn what_cannot_be_stored_is_named_and_the_rest_is_taken() {
        let names = Names::default();
        let mut intake = names.begin(1, NOW, 0);
        take(&mut intake, "good", &[(5, 1.0), (NOW, 1.0), (NOW + 3_600_000, 1.0)]);
        take(&mut intake, "", &[(NOW, 1.0), (NOW + 1, 1.0)]);
        for n in 0..100 {
            take(&mut intake, &format!("late{n}"), &[(5, 1.0)]);
        }
        let taken = intake.finish();
        assert_eq!((taken.samples(), taken.fresh.len(), taken.rejected.samples), (1, 1, 104));
        assert_eq!(taken.rejected.named.len(), REJECTED_NAMED_MAX);
        assert!(taken.rejected.named[0].starts_with("good{}: timestamp") && taken.rejected.named[1].contains("metric_id"), "{:?}", taken.rejected.named);
    }
}
