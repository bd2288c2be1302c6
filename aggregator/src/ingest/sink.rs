//! What one request of a foreign protocol brings: its samples within the memory that there is, its histograms as classic
//! buckets (`_bucket` with `le`, `_count`, `_sum`), so that every histogram is asked for in one way.

use std::convert::Infallible;

use keyvigil_common::sample::{MetricType, Series};
use tokio::sync::OwnedSemaphorePermit;

use super::intake::{Intake, Taken};
use super::{Ingest, Refusal};
use crate::index::TenantId;

/// A value that says "this series ends here": one NaN of many, which must keep its bits.
pub(super) const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
/// First byte of the label bytes of what a histogram becomes: no protocol's own label bytes begin with it.
const PART: u8 = 1;
/// Room that is taken at a time, bytes.
const ROOM_STEP: usize = 4 << 20;

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
}

/// Samples that were taken, by the kinds that a sender counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Samples.
    pub samples: usize,
    /// Histograms.
    pub histograms: usize,
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
}

impl<'a> Sink<'a> {
    pub(super) fn new(ingest: &'a Ingest, tenant: TenantId) -> Self {
        Self { ingest, intake: ingest.begin(tenant), room: None, granted: 0, held: 0, key: Vec::new(), written: Written::default() }
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
        let faultless = make().and_then(|base| match self.intake.time_fault(of.at_ms) {
            Some(fault) => Err(format!("{base}: {fault}")),
            None if base.tags.get("le").is_some() => Err(format!("{base}: a histogram cannot have a label le: its buckets get it")),
            // The longest name and the most tags of all its series.
            None => bucket(&base, f64::INFINITY, of.is_gauge).map(|_| base),
        });
        let base = match faultless {
            Ok(base) => base,
            Err(reason) => {
                self.reject(1, || reason);
                return Ok(());
            }
        };
        let is_stale = of.sum.is_some_and(|sum| sum.to_bits() == STALE.to_bits());
        let count = if is_stale { STALE } else { of.count };
        self.key.clear();
        self.key.extend_from_slice(&[PART, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.key.extend_from_slice(labels);
        for (bound, value) in of.buckets.iter().copied().chain([(f64::INFINITY, count)]) {
            self.part(b'b', bound.to_bits(), of, value, || bucket(&base, bound, of.is_gauge));
        }
        let metric_type = if of.is_gauge { MetricType::Gauge } else { MetricType::Counter };
        let suffixed = |suffix: &str| Series::new(format!("{}{suffix}", base.metric_id), metric_type, base.tags.clone()).map_err(|e| e.to_string());
        self.part(b'c', 0, of, count, || suffixed("_count"));
        if let Some(sum) = of.sum {
            self.part(b's', 0, of, sum, || suffixed("_sum"));
        }
        self.written.histograms += 1;
        self.claim()
    }

    /// One value of a histogram; the head of the key says which.
    fn part(&mut self, kind: u8, bits: u64, of: &Distribution, value: f64, make: impl Fn() -> Result<Series, String>) {
        if let Some(head) = self.key.first_chunk_mut::<10>() {
            head[1] = if of.is_gauge { kind.to_ascii_uppercase() } else { kind };
            head[2..].copy_from_slice(&bits.to_le_bytes());
        }
        let start_ms = if of.is_gauge { 0 } else { of.start_ms };
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
    pub(super) fn finish(self) -> (Taken, Written, Option<OwnedSemaphorePermit>) {
        (self.intake.finish(), self.written, self.room)
    }
}

fn bucket(base: &Series, bound: f64, is_gauge: bool) -> Result<Series, String> {
    let le = shown(bound);
    let tags = base.tags.iter().chain([("le", le.as_str())]);
    let metric_type = if is_gauge { MetricType::Gauge } else { MetricType::Histogram };
    keyvigil_common::sample::Tags::new(tags)
        .and_then(|tags| Series::new(format!("{}_bucket", base.metric_id), metric_type, tags))
        .map_err(|e| format!("{base}: {e}"))
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
    fn bounds_that_coincide_are_one_bucket() {
        let mut all = Distribution::default();
        for (bound, count) in [(-1.0, 1.0), (0.0, 2.0), (0.0, 3.0), (1.0, 4.0), (f64::INFINITY, 5.0)] {
            all.push(bound, count);
        }
        assert_eq!(all.buckets, [(-1.0, 1.0), (0.0, 3.0), (1.0, 4.0)]);
    }
}
