//! What one request of a foreign protocol brings: its samples within the memory that there is, its histograms as classic
//! buckets (`_bucket` with `le`, `_count`, `_sum`), so that every histogram is asked for in one way.

use std::convert::Infallible;
use std::ops::Range;

use keyvigil_common::sample::{MetricType, Series, Tags};
use tokio::sync::OwnedSemaphorePermit;

use super::intake::{Intake, Taken};
use super::{Ingest, Refusal};
use crate::index::TenantId;
use crate::store::{RefusedRun, StoreError};

/// A value that says "this series ends here": one NaN of many, which must keep its bits.
pub(super) const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
/// First byte of the label bytes of what a histogram becomes: no protocol's own label bytes begin with it.
const PART: u8 = 1;
/// Room that is taken at a time, bytes.
const ROOM_STEP: usize = 4 << 20;

/// Raw bytes that are decoded where their request is: 2 to 8 ms of work. More is given to a blocking thread, because one of
/// 64 MiB would keep every other request of its worker waiting for half a second.
const INLINE_BYTES_MAX: usize = 1 << 20;

impl Ingest {
    /// Does `work`, which decodes some `bytes`, where it is least in others' way.
    pub(super) async fn decoded<T: Send + 'static>(&self, bytes: usize, work: impl FnOnce(&Self) -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
        if bytes <= INLINE_BYTES_MAX {
            return work(self);
        }
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this)).await.map_err(|_| Refusal::Store(StoreError::Closed))?
    }
}

/// A histogram as every protocol's becomes one.
#[derive(Debug, Default)]
pub(super) struct Distribution {
    pub(super) at_ms: i64,
    /// When it began to count, 0 for not known.
    pub(super) start_ms: i64,
    /// Counts go up and down.
    pub(super) is_gauge: bool,
    pub(super) count: f64,
    pub(super) sum: Option<f64>,
    /// Upper bound and number of values up to it, ascending; the last, infinite one is `count`.
    pub(super) buckets: Vec<(f64, f64)>,
}

impl Distribution {
    /// Adds the next bucket; bounds that coincide in floating point are one, what is infinite is the last anyway.
    pub(super) fn push(&mut self, bound: f64, cumulative: f64) {
        match self.buckets.last_mut() {
            _ if !bound.is_finite() => {}
            Some(last) if last.0 >= bound => last.1 = cumulative,
            _ => self.buckets.push((bound, cumulative)),
        }
    }

    /// Adds the buckets of an exponential histogram, each its index and count: index n ends at 2^(n * 2^-scale). Where there
    /// is nothing in a bucket there is no series; where they begin again their lower bound is one, so that interpolation
    /// stays inside them.
    pub(super) fn exponential(&mut self, scale: i64, negative: &[(i64, f64)], zero: (f64, f64), positive: &[(i64, f64)]) {
        let width = (-(scale as f64)).exp2();
        let bound = |index: i64| (index as f64 * width).exp2();
        let (mut total, mut before) = (0.0, None);
        for (index, count) in negative.iter().rev().filter(|bucket| bucket.1 > 0.0) {
            self.push(-bound(*index), total);
            total += count;
            self.push(-bound(*index - 1), total);
        }
        total += zero.1;
        self.push(zero.0, total);
        for (index, count) in positive.iter().filter(|bucket| bucket.1 > 0.0) {
            if before != Some(*index - 1) {
                self.push(bound(*index - 1), total);
            }
            total += count;
            self.push(bound(*index), total);
            before = Some(*index);
        }
    }

    fn is_stale(&self) -> bool {
        self.sum.is_some_and(|sum| sum.to_bits() == STALE.to_bits())
    }
}

/// Samples that were taken, by the kinds that a sender counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Samples.
    pub samples: usize,
    /// Histograms.
    pub histograms: usize,
}

impl Written {
    /// Without what a limit kept out. A histogram counts if all of its series were stored. Of no use where there are summaries,
    /// whose parts nobody counts.
    pub(super) fn without(mut self, refused: &[RefusedRun], histograms: &[Range<u32>]) -> Self {
        let mut partial = None;
        for run in refused {
            let at = histograms.partition_point(|runs| runs.end <= run.run);
            if histograms.get(at).is_none_or(|runs| !runs.contains(&run.run)) {
                self.samples = self.samples.saturating_sub(run.samples as usize);
            } else if partial.replace(at) != Some(at) {
                self.histograms = self.histograms.saturating_sub(1);
            }
        }
        self
    }
}

/// Takes what one request brings.
#[derive(Debug)]
pub(super) struct Sink<'a> {
    ingest: &'a Ingest,
    intake: Intake<'a>,
    room: Option<OwnedSemaphorePermit>,
    /// Bytes of the room.
    granted: usize,
    /// Bytes that the protocol itself holds.
    held: usize,
    key: Vec<u8>,
    written: Written,
    /// Runs of each histogram.
    histograms: Vec<Range<u32>>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(ingest: &'a Ingest, tenant: TenantId) -> Self {
        Self { ingest, intake: ingest.begin(tenant), room: None, granted: 0, held: 0, key: Vec::new(), written: Written::default(), histograms: Vec::new() }
    }

    /// Takes the samples of a series as [`Intake::column`] does.
    pub(super) fn column<E>(
        &mut self,
        labels: &[u8],
        start_ms: i64,
        make: impl Fn() -> Result<Series, String>,
        samples: impl Iterator<Item = Result<(i64, f64), E>>,
    ) -> Result<(), Refusal>
    where
        Refusal: From<E>,
    {
        let before = self.intake.samples();
        self.intake.column(labels, start_ms, make, samples)?;
        self.written.samples += self.intake.samples() - before;
        self.claim()
    }

    /// Takes a histogram: all of its series or none. `labels` and `make` are of the series without suffix.
    pub(super) fn histogram(&mut self, labels: &[u8], make: impl Fn() -> Result<Series, String>, of: &Distribution) -> Result<(), Refusal> {
        // The longest name and the most tags of all its series.
        let longest = |base: &Series| bucket(base, f64::INFINITY, of.is_gauge).map(drop);
        let Some(base) = self.base(labels, make, of.at_ms, "le", longest) else { return Ok(()) };
        let metric_type = if of.is_gauge { MetricType::Gauge } else { MetricType::Histogram };
        let from = self.intake.runs();
        let infinite = if of.is_stale() { STALE } else { of.count };
        for (bound, value) in of.buckets.iter().copied().chain([(f64::INFINITY, infinite)]) {
            self.part((b'b', bound, metric_type), of, value, || bucket(&base, bound, of.is_gauge));
        }
        self.totals(&base, of);
        self.histograms.push(from..self.intake.runs());
        self.written.histograms += 1;
        self.claim()
    }

    /// Takes a summary, whose `buckets` are quantiles and their values: all of its series or none.
    pub(super) fn summary(&mut self, labels: &[u8], make: impl Fn() -> Result<Series, String>, of: &Distribution) -> Result<(), Refusal> {
        let longest = |base: &Series| total(base, "_count", MetricType::Counter).and_then(|_| quantile(base, 0.999)).map(drop);
        let Some(base) = self.base(labels, make, of.at_ms, "quantile", longest) else { return Ok(()) };
        for (at, value) in of.buckets.iter().copied() {
            self.part((b'q', at, MetricType::Gauge), of, value, || quantile(&base, at));
        }
        self.totals(&base, of);
        self.claim()
    }

    /// The series that the parts are made of, if all of them can be stored.
    fn base(
        &mut self,
        labels: &[u8],
        make: impl Fn() -> Result<Series, String>,
        at_ms: i64,
        own_tag: &str,
        longest: impl Fn(&Series) -> Result<(), String>,
    ) -> Option<Series> {
        self.key.clear();
        self.key.extend_from_slice(&[PART, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.key.extend_from_slice(labels);
        let faultless = make().and_then(|base| match self.intake.time_fault(at_ms) {
            Some(fault) => Err(format!("{base}: {fault}")),
            None if base.tags.get(own_tag).is_some() => Err(format!("{base}: it cannot have a label {own_tag}: its parts get that")),
            None => longest(&base).map(|()| base),
        });
        faultless.map_err(|reason| self.reject(1, || reason)).ok()
    }

    fn totals(&mut self, base: &Series, of: &Distribution) {
        let metric_type = if of.is_gauge { MetricType::Gauge } else { MetricType::Counter };
        let count = if of.is_stale() { STALE } else { of.count };
        self.part((b'c', 0.0, metric_type), of, count, || total(base, "_count", metric_type));
        if let Some(sum) = of.sum {
            self.part((b's', 0.0, metric_type), of, sum, || total(base, "_sum", metric_type));
        }
    }

    /// One value of a histogram or a summary; the head of the key says which.
    fn part(&mut self, (kind, bound, metric_type): (u8, f64, MetricType), of: &Distribution, value: f64, make: impl Fn() -> Result<Series, String>) {
        let is_gauge = metric_type == MetricType::Gauge;
        if let Some(head) = self.key.first_chunk_mut::<10>() {
            head[1] = if is_gauge { kind.to_ascii_uppercase() } else { kind };
            head[2..].copy_from_slice(&bound.to_bits().to_le_bytes());
        }
        let start_ms = if is_gauge { 0 } else { of.start_ms };
        let Ok(()) = self.intake.column(&self.key, start_ms, make, std::iter::once(Ok::<_, Infallible>((of.at_ms, value))));
    }

    /// Counts what the protocol itself found fault with.
    pub(super) fn reject(&mut self, samples: usize, why: impl FnOnce() -> String) {
        self.intake.reject(samples, why);
    }

    /// Room for `bytes` that the protocol needs itself until the end.
    ///
    /// # Errors
    /// There is none now.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.held = self.held.saturating_add(bytes);
        self.claim()
    }

    /// Room for what was taken so far.
    fn claim(&mut self) -> Result<(), Refusal> {
        let needed = self.intake.bytes().saturating_add(self.held);
        if needed > self.granted {
            let step = (needed - self.granted).next_multiple_of(ROOM_STEP);
            let permit = self.ingest.room(step)?;
            self.granted += step;
            match &mut self.room {
                Some(room) => room.merge(permit),
                None => self.room = Some(permit),
            }
        }
        Ok(())
    }

    /// All that was taken, and the room that it lies in.
    pub(super) fn finish(self) -> (Taken, Written) {
        let taken = Taken { histograms: self.histograms, room: self.room, ..self.intake.finish() };
        (taken, self.written)
    }
}

fn total(base: &Series, suffix: &str, metric_type: MetricType) -> Result<Series, String> {
    Series::new(format!("{}{suffix}", base.metric_id), metric_type, base.tags.clone()).map_err(|e| format!("{base}: {e}"))
}

fn quantile(base: &Series, at: f64) -> Result<Series, String> {
    tagged(base, "", "quantile", &shown(at), MetricType::Gauge)
}

fn tagged(base: &Series, suffix: &str, tag: &str, value: &str, metric_type: MetricType) -> Result<Series, String> {
    Tags::new(base.tags.iter().chain([(tag, value)]))
        .and_then(|tags| Series::new(format!("{}{suffix}", base.metric_id), metric_type, tags))
        .map_err(|e| format!("{base}: {e}"))
}

fn bucket(base: &Series, bound: f64, is_gauge: bool) -> Result<Series, String> {
    tagged(base, "_bucket", "le", &shown(bound), if is_gauge { MetricType::Gauge } else { MetricType::Histogram })
}

/// A number as a label has it: exact, and short where it is very large or very small.
pub(super) fn shown(n: f64) -> String {
    match n.abs() {
        f64::INFINITY => if n > 0.0 { "+Inf" } else { "-Inf" }.into(),
        size if size == 0.0 || (1e-5..1e17).contains(&size) => n.to_string(),
        _ => format!("{n:e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_shown_exactly_and_shortly() {
        let shown = [0.0, 0.005, 1.0, 2.5, 1e16, 1e300, 2f64.powi(-40), f64::INFINITY, -4.0].map(shown);
        assert_eq!(shown, ["0", "0.005", "1", "2.5", "10000000000000000", "1e300", "9.094947017729282e-13", "+Inf", "-4"]);
    }

    #[test]
    fn a_histogram_of_which_a_part_was_refused_was_not_written() {
        let refused = |run, samples| RefusedRun { run, fresh: 0, samples, limit: crate::store::Limit::Agent };
        let all = Written { samples: 10, histograms: 3 };
        let runs = [refused(0, 2), refused(3, 1), refused(4, 1), refused(6, 1), refused(9, 3)];
        assert_eq!(all.without(&runs, &[2..5, 5..7, 7..9]), Written { samples: 5, histograms: 1 });
        assert_eq!(all.without(&[], &[2..5, 5..7]), all);
    }

    #[test]
    fn bounds_that_coincide_are_one_bucket() {
        let mut all = Distribution::default();
        for (bound, count) in [(-1.0, 1.0), (0.0, 2.0), (0.0, 3.0), (1.0, 4.0), (f64::INFINITY, 5.0)] {
            all.push(bound, count);
        }
        assert_eq!(all.buckets, [(-1.0, 1.0), (0.0, 3.0), (1.0, 4.0)]);
    }
}
