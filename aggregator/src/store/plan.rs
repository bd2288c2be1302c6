//! Where the answer to a question is read from: for each stretch of time and each series, the samples or a roll-up, so that
//! the answer is the same as from the samples wherever these are still there.

use roaring::RoaringBitmap;

use super::partition::{DAY_MS, Partitions, Reading, day_of, meta_series};
use super::rollup::{Facet, Mark, ROLL_UPS};
use super::{Shared, StoreError};

/// What is asked of each series.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// First instant, Unix ms.
    pub(crate) from: i64,
    /// Last instant.
    pub(crate) to: i64,
    /// Samples that may be read for it.
    pub(crate) samples_max: usize,
    /// Roll-ups will do.
    pub(crate) cells: Option<Cells>,
}

/// Which roll-ups will do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cells {
    pub(crate) facets: &'static [Facet],
    /// Width of the asker's buckets, which begin at multiples of it; `None` for one over all.
    pub(crate) width: Option<i64>,
    /// What lies before this instant is not in the asker's first bucket: no cell may reach over it.
    pub(crate) cut: i64,
}

/// A stretch of time, and from what it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// First instant, Unix ms.
    pub from: i64,
    /// Last instant.
    pub to: i64,
    /// Width of the cells; 0 for the samples themselves.
    pub step_ms: i64,
}

/// How a question is answered.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) segments: Vec<Segment>,
    pub(super) stretches: Vec<Stretch>,
    /// The answer is what the samples would have given.
    pub(super) exact: bool,
    /// Samples of this time are gone, and its roll-up is too coarse for the question.
    pub(super) unanswered: Option<(i64, i64)>,
}

/// Something to be read, for some of the series. In the order of time for each of them.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) of: Of,
    pub(super) series: Which,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Samples.
    Raw,
    /// Only samples that the roll-up does not hold: made after this.
    Late(i64),
    /// Cells, by the place of the roll-up in [`ROLL_UPS`].
    Rolled(usize),
}

#[derive(Debug)]
pub(super) enum Which {
    All,
    Only(RoaringBitmap),
    Except(RoaringBitmap),
}

impl Which {
    pub(super) fn has(&self, id: u32) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(id),
            Self::Except(ids) => !ids.contains(id),
        }
    }
}

/// A day whose roll-up is used.
struct Rolled {
    at: usize,
    /// Series that have samples which the roll-up has not.
    late: RoaringBitmap,
    /// Series whose samples are gone, or some of them.
    partial: RoaringBitmap,
    /// Samples made after this are not in the roll-up.
    since: i64,
    /// Buckets are made of whole cells.
    fits: bool,
}

/// What is known of a day's samples.
struct Raw {
    birth: i64,
    pruned: RoaringBitmap,
    series: RoaringBitmap,
}

impl Shared {
    /// How to answer `wanted` for `ids`.
    pub(super) fn plan(&self, ids: &RoaringBitmap, wanted: &Wanted) -> Result<Plan, StoreError> {
        let mut plan = Plan { exact: true, ..Plan::default() };
        let mut next = wanted.from;
        for day in self.rolled_days(wanted) {
            let (start, end) = ((day * DAY_MS).max(wanted.from), ((day + 1) * DAY_MS - 1).min(wanted.to));
            match self.rolled_day(day, ids, wanted)? {
                Some(rolled) => {
                    plan.raw(next, start - 1, Which::All);
                    plan.rolled((start, end), rolled, wanted);
                    next = end + 1;
                }
                None if !self.partitions.pool.has(day) && self.is_rolled(day)? => {
                    let known = plan.unanswered.map_or(start, |(from, _)| from);
                    plan.unanswered = Some((known, end));
                    plan.exact = false;
                }
                None => {}
            }
        }
        plan.raw(next, wanted.to, Which::All);
        Ok(plan)
    }

    /// Days of the range that any roll-up holds.
    fn rolled_days(&self, wanted: &Wanted) -> Vec<i64> {
        let mut days: Vec<i64> = Vec::new();
        for set in &self.rolled {
            let parts = set.parts().into_iter().flat_map(|part| set.first_day(part)..set.first_day(part + 1));
            days.extend(parts.filter(|day| (day_of(wanted.from)..=day_of(wanted.to)).contains(day)));
        }
        days.sort_unstable();
        days.dedup();
        days
    }

    fn is_rolled(&self, day: i64) -> Result<bool, StoreError> {
        let marked = |set: &Partitions| Ok(set.reading(set.part_of(day), |reading| Mark::read(reading.connection, day))?.flatten().is_some());
        self.rolled.iter().map(marked).try_fold(false, |any, marked: Result<bool, StoreError>| Ok(any || marked?))
    }

    /// How the roll-up of `day` answers, if it can.
    fn rolled_day(&self, day: i64, ids: &RoaringBitmap, wanted: &Wanted) -> Result<Option<Rolled>, StoreError> {
        let Some(cells) = &wanted.cells else { return Ok(None) };
        // Memory first: what moves to disk meanwhile is then seen twice, never missed.
        let fresh = self.head.series_in(day * DAY_MS, (day + 1) * DAY_MS - 1) & ids;
        let mut marks = Vec::new();
        for (at, (rolled, set)) in ROLL_UPS.iter().zip(&self.rolled).enumerate() {
            let fits = cells.width.is_none_or(|width| width % rolled.width == 0);
            let enough = cells.width.is_none_or(|width| width >= rolled.width);
            if enough && let Some(mark) = set.reading(set.part_of(day), |reading| Mark::read(reading.connection, day))?.flatten() {
                marks.push((at, mark, fits));
            }
        }
        let known = |reading: &Reading<'_>| {
            let of = |name| meta_series(reading.connection, name).map(|series| series & ids);
            Ok(Raw { birth: reading.meta("birth")?.unwrap_or(0), pruned: of("pruned")?, series: of("series")? })
        };
        let raw = self.partitions.reading(day, known)?;
        // Where the samples are there, only cells of which buckets are made give the same answer.
        let missing = raw.as_ref().is_none_or(|raw| !raw.pruned.is_empty());
        let Some((at, mark, fits)) = marks.iter().find(|(_, mark, fits)| *fits || missing || mark.added || raw.as_ref().is_some_and(|r| r.birth != mark.birth))
        else {
            return Ok(None);
        };
        let same_file = raw.as_ref().is_some_and(|raw| raw.birth == mark.birth);
        let since = if same_file { mark.made } else { i64::MIN };
        let late = self.partitions.reading(day, |reading| self.late(reading, since))?.unwrap_or_default() & ids;
        let partial = match raw {
            Some(raw) if same_file && !mark.added => raw.pruned,
            Some(raw) => ids | raw.series,
            None => ids.clone(),
        };
        Ok(Some(Rolled { at: *at, late: late | fresh, partial, since, fits: *fits }))
    }

    /// The series of blocks made after `since`.
    fn late(&self, reading: &Reading<'_>, since: i64) -> Result<RoaringBitmap, StoreError> {
        let mut statement = reading.connection.prepare_cached("SELECT id FROM block WHERE made > ?1")?;
        let blocks: Vec<i64> = statement.query_map([since], |row| row.get(0))?.collect::<Result<_, _>>()?;
        blocks.into_iter().try_fold(RoaringBitmap::new(), |all, id| Ok(all | reading.series(&self.ring, id)?))
    }
}

impl Plan {
    fn push(&mut self, (from, to): (i64, i64), of: Of, series: Which) {
        if from > to || matches!(&series, Which::Only(ids) if ids.is_empty()) {
            return;
        }
        let step_ms = if let Of::Rolled(at) = of { ROLL_UPS[at].width } else { 0 };
        if matches!(series, Which::All | Which::Except(_)) {
            match self.stretches.last_mut().filter(|last| last.step_ms == step_ms && last.to + 1 == from) {
                Some(last) => last.to = to,
                None => self.stretches.push(Stretch { from, to, step_ms }),
            }
        }
        // Days in a row that are answered alike are read in one go.
        if let (Some(Segment { to: last_to, of: last_of, series: Which::All, .. }), Which::All, Of::Rolled(_)) = (self.segments.last_mut(), &series, of)
            && *last_of == of
            && *last_to + 1 == from
        {
            *last_to = to;
            return;
        }
        self.segments.push(Segment { from, to, of, series });
    }

    /// Samples, a day at a time: what is read is held in memory until it is dealt with.
    fn raw(&mut self, from: i64, to: i64, series: Which) {
        self.push((from, to), Of::Raw, series);
    }

    fn rolled(&mut self, (start, end): (i64, i64), rolled: Rolled, wanted: &Wanted) {
        let Rolled { at, late, partial, since, fits } = rolled;
        let (width, of) = (ROLL_UPS[at].width, Of::Rolled(at));
        let cut = wanted.cells.as_ref().map_or(start, |cells| cells.cut);
        let others = &late | &partial;
        let except = || if others.is_empty() { Which::All } else { Which::Except(others.clone()) };
        // Before the cut and from it on, so that no cell lies on both sides.
        for (start, end) in [(start, end.min(cut - 1)), (start.max(cut), end)].into_iter().filter(|(start, end)| start <= end) {
            let (a, b) = ((start + width - 1).div_euclid(width) * width, (end + 1).div_euclid(width) * width);
            if a < b && fits {
                self.raw(start, a - 1, except());
                self.push((a, b - 1), of, except());
                self.raw(b, end, except());
            } else {
                self.raw(start, end, except());
            }
            let (outer_a, outer_b) = (start.div_euclid(width) * width, (end + width).div_euclid(width) * width);
            self.push((outer_a, outer_b - 1), of, Which::Only(partial.clone()));
            self.exact &= partial.is_empty() || ((outer_a, outer_b - 1) == (start, end) && (&partial & &late).is_empty() && fits);
        }
        self.push((start, end), Of::Raw, Which::Only(&late - &partial));
        self.push((start, end), Of::Late(since), Which::Only(late & partial));
    }
}
