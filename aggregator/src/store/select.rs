//! Reading for a question: some series at a time, in the order of time, on as many threads as there are processors. What is
//! read is given to a [`Fold`] at once, so that memory holds a slice of the samples, however many the question is about.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use roaring::RoaringBitmap;
use tokio::sync::OwnedSemaphorePermit;

use super::plan::{Of, Plan, Stretch, Wanted};
use super::rollup::{Cell, Facet, ROLL_UPS};
use super::{Asked, Point, Shared, Store, StoreError};
use crate::index::SeriesId;

/// Series that are read together.
const SLICE_MAX: usize = 256;
/// Fewer are not worth a thread of their own.
const SLICE_MIN: usize = 16;
/// Slices that may wait for one before them.
const AHEAD_MAX: usize = 8;
/// Folds that take so many series at once are small.
const QUICK_AT_ONCE: usize = 64;
/// A stretch of one series that is too dense is halved until it is this short, ms.
const HALVED_MS_MIN: i64 = 60_000;

/// What is read of one series.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    Points(&'a [Point]),
    Cells(&'a [Cell]),
}

/// Takes what is read of a few series. For each of them pieces come in the order of time.
pub(crate) trait Fold: Send + 'static {
    /// What it comes to.
    type Out: Send + 'static;
    /// Takes a piece of the series at `at` among those it was made for.
    fn take(&mut self, at: usize, piece: Piece<'_>) -> Result<(), StoreError>;
    /// There is no more.
    fn finish(self) -> Self::Out;
    /// Adds what the series behind those of `into` came to.
    fn absorb(into: &mut Self::Out, next: Self::Out);
}

/// What a question came to.
#[derive(Debug)]
pub(crate) struct Visited<T> {
    /// `None` where nothing was asked for.
    pub(crate) out: Option<T>,
    pub(crate) samples_read: usize,
    pub(crate) stretches: Vec<Stretch>,
    pub(crate) exact: bool,
    pub(crate) unanswered: Option<(i64, i64)>,
}

/// What folds came to, in the order of their series, so that the same question always gets the same answer to the bit.
struct Outs<T> {
    /// Of all slices before `next`.
    whole: Option<T>,
    next: usize,
    /// Of later ones.
    ahead: BTreeMap<usize, T>,
}

/// A question that is being read for.
struct Question {
    shared: Arc<Shared>,
    asked: Arc<Series>,
    slice: usize,
    plan: Plan,
    next: AtomicUsize,
    facets: &'static [Facet],
    samples_max: usize,
    samples_read: AtomicUsize,
    gone: Arc<AtomicBool>,
}

/// The series that are asked for.
struct Series {
    /// Ascending.
    ids: Vec<SeriesId>,
    /// The place of each in the asker's list.
    places: Vec<usize>,
}

/// Where folds leave what they came to.
struct Meeting<T> {
    outs: Mutex<Outs<T>>,
    /// Told when slices were put together, or when it is over.
    moved: Condvar,
}

impl Store {
    /// Reads what is `wanted` of each of `ids`, and gives it to folds of at most `at_once` series; `make` is told the places
    /// in `ids` of the series of one fold.
    pub(crate) async fn visit<F: Fold>(
        &self,
        (ids, at_once): (&[SeriesId], usize),
        wanted: Wanted,
        make: impl Fn(&[usize]) -> F + Send + Sync + 'static,
    ) -> Result<Visited<F::Out>, StoreError> {
        let mut order: Vec<(SeriesId, usize)> = ids.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let (ids, places): (Vec<SeriesId>, Vec<usize>) = order.into_iter().unzip();
        // A fold that is large in itself is none for a thread that others wait for.
        if at_once >= QUICK_AT_ONCE
            && let Some(columns) = self.0.shared.quick(&ids, &wanted)
        {
            return answered(make(&places), &columns, &wanted);
        }
        let (asked, make) = (Arc::new(Series { ids, places }), Arc::new(make));
        let changes = || self.0.shared.changes.load(Ordering::Acquire);
        let before = changes();
        let visited = self.read_all((&asked, at_once), &wanted, &make).await?;
        if changes() == before {
            return Ok(visited);
        }
        // Samples became cells, or went, between the plan and the reading: once more, then it is as new as anybody's.
        self.read_all((&asked, at_once), &wanted, &make).await
    }

    async fn read_all<F: Fold>(
        &self,
        (asked, at_once): (&Arc<Series>, usize),
        wanted: &Wanted,
        make: &Arc<impl Fn(&[usize]) -> F + Send + Sync + 'static>,
    ) -> Result<Visited<F::Out>, StoreError> {
        let waiting = Asked::default();
        let slice = asked.ids.len().div_ceil(self.0.processors).clamp(SLICE_MIN, SLICE_MAX).min(at_once.max(1));
        let slices = asked.ids.len().div_ceil(slice);
        let meeting = Arc::new(Meeting { outs: Mutex::new(Outs { whole: None, next: 0, ahead: BTreeMap::new() }), moved: Condvar::new() });
        // Rules are evaluated one after another: a page with many questions must not keep them waiting.
        let permit = if wanted.urgent { None } else { Some(Arc::clone(&self.0.reading).acquire_owned().await.map_err(|_| StoreError::Closed)?) };
        let (shared, gone, wanted) = (Arc::clone(&self.0.shared), Arc::clone(&waiting.0), wanted.clone());
        let (series, making, into) = (Arc::clone(asked), Arc::clone(make), Arc::clone(&meeting));
        let first = move || {
            let plan = shared.plan(&series.ids.iter().copied().collect::<RoaringBitmap>(), &wanted, &gone)?;
            let facets = wanted.cells.map_or(&[][..], |cells| cells.facets);
            let (next, samples_read) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let question = Question { shared, asked: series, slice, plan, next, facets, samples_max: wanted.samples_max, samples_read, gone };
            if slices == 1 {
                question.work(&*making, &into)?;
            }
            Ok((Arc::new(question), permit))
        };
        let (question, permit) = blocking(first).await?;
        let mut permits: Vec<Option<OwnedSemaphorePermit>> = if slices > 1 { vec![permit] } else { Vec::new() };
        // Further threads only where there are any to spare.
        let spare = (1..slices.min(self.0.processors)).map_while(|_| Arc::clone(&self.0.reading).try_acquire_owned().ok());
        permits.extend(spare.map(Some));
        let workers: Vec<_> = permits
            .into_iter()
            .map(|permit| {
                let (question, meeting, make) = (Arc::clone(&question), Arc::clone(&meeting), Arc::clone(make));
                tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    question.work(&*make, &meeting)
                })
            })
            .collect();
        let mut done = Ok(());
        for worker in workers {
            let outcome = worker.await.map_err(|_| StoreError::Closed).flatten();
            // Whoever stopped because of another's fault tells nothing new.
            done = if matches!(done, Ok(()) | Err(StoreError::Gone)) && outcome.is_err() { outcome } else { done };
        }
        done?;
        let out = meeting.outs.lock().unwrap_or_else(PoisonError::into_inner).whole.take();
        let Plan { stretches, exact, unanswered, .. } = &question.plan;
        Ok(Visited { out, samples_read: question.samples_read.load(Ordering::Relaxed), stretches: stretches.clone(), exact: *exact, unanswered: *unanswered })
    }
}

impl Store {
    /// Samples of each of `ids` in `from..=to` (Unix ms), ascending, one an instant.
    ///
    /// # Errors
    /// A block that does not open, or more than `samples_max`.
    pub async fn select(&self, ids: &[SeriesId], from: i64, to: i64, samples_max: usize) -> Result<Vec<Vec<Point>>, StoreError> {
        self.samples(ids, from, to, samples_max).await.map(|samples| samples.0)
    }

    /// As [`Store::select`]; and from when to when samples are gone of which roll-ups are left.
    pub(crate) async fn samples(&self, ids: &[SeriesId], from: i64, to: i64, samples_max: usize) -> Result<(Vec<Vec<Point>>, Option<(i64, i64)>), StoreError> {
        let wanted = Wanted { from, to, samples_max, cells: None, urgent: false };
        let visited = self.visit((ids, SLICE_MAX), wanted, |places| Columns(places.iter().map(|place| (*place, Vec::new())).collect())).await?;
        let mut out = vec![Vec::new(); ids.len()];
        visited.out.unwrap_or_default().into_iter().for_each(|(place, points)| out[place] = points);
        Ok((out, visited.unanswered))
    }
}

/// The samples themselves, with the place of their series.
struct Columns(Vec<(usize, Vec<Point>)>);

impl Fold for Columns {
    type Out = Vec<(usize, Vec<Point>)>;

    fn take(&mut self, at: usize, piece: Piece<'_>) -> Result<(), StoreError> {
        if let Piece::Points(points) = piece {
            self.0[at].1.extend_from_slice(points);
        }
        Ok(())
    }

    fn finish(self) -> Self::Out {
        self.0
    }

    fn absorb(into: &mut Self::Out, next: Self::Out) {
        into.extend(next);
    }
}

/// What a fold makes of columns that were in memory.
fn answered<F: Fold>(mut fold: F, columns: &[Vec<Point>], wanted: &Wanted) -> Result<Visited<F::Out>, StoreError> {
    for (at, points) in columns.iter().enumerate().filter(|(_, points)| !points.is_empty()) {
        fold.take(at, Piece::Points(points))?;
    }
    let stretches = vec![Stretch { from: wanted.from, to: wanted.to, step_ms: 0 }];
    let samples_read = columns.iter().map(Vec::len).sum();
    Ok(Visited { out: Some(fold.finish()), samples_read, stretches, exact: true, unanswered: None })
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}

impl<T> Meeting<T> {
    /// Leaves what a slice came to, and puts together what is in order.
    fn leave<F: Fold<Out = T>>(&self, at: usize, out: T) {
        let mut outs = self.outs.lock().unwrap_or_else(PoisonError::into_inner);
        outs.ahead.insert(at, out);
        loop {
            let next = outs.next;
            let Some(out) = outs.ahead.remove(&next) else { break };
            outs.next += 1;
            match &mut outs.whole {
                Some(whole) => F::absorb(whole, out),
                None => outs.whole = Some(out),
            }
        }
        drop(outs);
        self.moved.notify_all();
    }

    /// Waits while too much waits to be put together: whoever is at the slice that all wait for is not here.
    fn wait(&self, gone: &AtomicBool) {
        let outs = self.outs.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |outs: &mut Outs<T>| outs.ahead.len() >= AHEAD_MAX && !gone.load(Ordering::Relaxed);
        drop(self.moved.wait_while(outs, full).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Series of one reading: their ids, ascending, and their places in the fold.
type Ours = Vec<(SeriesId, usize)>;

impl Question {
    /// Deals with slices until there is none.
    fn work<F: Fold>(&self, make: &impl Fn(&[usize]) -> F, meeting: &Meeting<F::Out>) -> Result<(), StoreError> {
        let done = self.slices(make, meeting);
        if done.is_err() {
            // The others need not go on.
            self.gone.store(true, Ordering::Relaxed);
            meeting.moved.notify_all();
        }
        done
    }

    fn slices<F: Fold>(&self, make: &impl Fn(&[usize]) -> F, meeting: &Meeting<F::Out>) -> Result<(), StoreError> {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let from = at * self.slice;
            if from >= self.asked.ids.len() {
                return Ok(());
            }
            let to = (from + self.slice).min(self.asked.ids.len());
            let mut fold = make(&self.asked.places[from..to]);
            let ours: Ours = self.asked.ids[from..to].iter().copied().zip(0..).collect();
            for segment in &self.plan.segments {
                let ours: Ours = ours.iter().copied().filter(|(id, _)| segment.series.has(*id)).collect();
                self.segment(segment.of, (segment.from, segment.to), &ours, &mut fold)?;
            }
            meeting.leave::<F>(at, fold.finish());
            meeting.wait(&self.gone);
        }
    }

    /// Reads a segment by parts that fit into memory.
    fn segment<F: Fold>(&self, of: Of, (from, to): (i64, i64), ours: &[(SeriesId, usize)], fold: &mut F) -> Result<(), StoreError> {
        if ours.is_empty() {
            return Ok(());
        }
        let days = if let Of::Rolled(_) = of { vec![(from, to)] } else { self.shared.days(from, to) };
        days.into_iter().try_for_each(|span| self.part(of, span, ours, fold))
    }

    fn part<F: Fold>(&self, of: Of, (from, to): (i64, i64), ours: &[(SeriesId, usize)], fold: &mut F) -> Result<(), StoreError> {
        let halves = |whole: &[(SeriesId, usize)], fold: &mut F| {
            let (a, b) = whole.split_at(whole.len() / 2);
            self.part(of, (from, to), a, fold)?;
            self.part(of, (from, to), b, fold)
        };
        match self.read(of, (from, to), ours, fold) {
            Err(StoreError::SliceFull) if ours.len() > 1 => halves(ours, fold),
            Err(StoreError::SliceFull) if to - from > HALVED_MS_MIN => {
                // Between cells: newest and oldest values have the times of their samples.
                let width = if let Of::Rolled(at) = of { ROLL_UPS[at].width } else { 1 };
                let middle = (from + (to - from) / 2).div_euclid(width) * width - 1;
                if middle < from {
                    return Err(StoreError::TooMuch(self.samples_max));
                }
                self.part(of, (from, middle), ours, fold)?;
                self.part(of, (middle + 1, to), ours, fold)
            }
            Err(StoreError::SliceFull) => Err(StoreError::TooMuch(self.samples_max)),
            other => other,
        }
    }

    fn read<F: Fold>(&self, of: Of, span: (i64, i64), ours: &[(SeriesId, usize)], fold: &mut F) -> Result<(), StoreError> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(StoreError::Gone);
        }
        let ids: Vec<SeriesId> = ours.iter().map(|(id, _)| *id).collect();
        if let Of::Rolled(at) = of {
            let mut cells = self.shared.cells_of((at, self.facets), &ids, span, &self.gone)?;
            self.count(cells.values().map(Vec::len).sum())?;
            return ours.iter().try_for_each(|(id, at)| cells.remove(id).map_or(Ok(()), |cells| fold.take(*at, Piece::Cells(&cells))));
        }
        let columns = self.shared.points_of(of, &ids, span, &self.gone)?;
        self.count(columns.iter().map(Vec::len).sum())?;
        ours.iter().zip(&columns).filter(|(_, points)| !points.is_empty()).try_for_each(|((_, at), points)| fold.take(*at, Piece::Points(points)))
    }

    fn count(&self, samples: usize) -> Result<(), StoreError> {
        let read = self.samples_read.fetch_add(samples, Ordering::Relaxed) + samples;
        if read > self.samples_max { Err(StoreError::TooMuch(self.samples_max)) } else { Ok(()) }
    }
}
