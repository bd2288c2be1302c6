//! Where the answer to a question is read from: for each stretch of time and each series, the samples or a roll-up, so that
//! the answer is the same as from the samples wherever these are still there.

use std::sync::atomic::{AtomicBool, Ordering};

use roaring::RoaringBitmap;

use super::partition::{DAY_MS, Reading, day_of, meta_series};
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
    /// Others may wait for this one.
    pub(crate) urgent: bool,
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
    /// From first to last instant of which samples are gone that the question needs, all or some of them.
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
}

impl Which {
    pub(super) fn has(&self, id: u32) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(id),
        }
    }
}

/// Series of a day that one roll-up answers for.
struct Rolled {
    at: usize,
    ids: RoaringBitmap,
    /// Series that have samples which the roll-up has not.
    late: RoaringBitmap,
    /// Series whose samples are gone, or some of them.
    partial: RoaringBitmap,
    /// Series to whose cells samples were added when others were gone.
    added: RoaringBitmap,
    /// Samples made after this are not in the roll-up.
    since: i64,
    /// Buckets are made of whole cells.
    fits: bool,
}

/// A roll-up of a day.
struct Candidate {
    at: usize,
    mark: Mark,
    /// Series that it was made of and that were taken out of it since.
    pruned: RoaringBitmap,
    added: RoaringBitmap,
}

/// What is known of a day's samples.
struct Raw {
    birth: i64,
    pruned: RoaringBitmap,
}

/// How a day is answered.
struct DayPlan {
    rolled: Vec<Rolled>,
    /// Series that are read from the samples.
    rest: RoaringBitmap,
    /// The samples of some of these are gone.
    unanswered: bool,
}

impl Shared {
    /// How to answer `wanted` for `ids`. Ends once `gone` is set.
    pub(super) fn plan(&self, ids: &RoaringBitmap, wanted: &Wanted, gone: &AtomicBool) -> Result<Plan, StoreError> {
        let mut plan = Plan { exact: true, ..Plan::default() };
        let mut next = wanted.from;
        for day in self.rolled_days(wanted) {
            if gone.load(Ordering::Relaxed) {
                return Err(StoreError::Gone);
            }
            let (start, end) = ((day * DAY_MS).max(wanted.from), ((day + 1) * DAY_MS - 1).min(wanted.to));
            let of_day = self.plan_day(day, ids, wanted)?;
            if of_day.unanswered {
                plan.unanswered = Some((plan.unanswered.map_or(start, |(from, _)| from), end));
                plan.exact = false;
            }
            if of_day.rolled.is_empty() {
                continue;
            }
            plan.raw(next, start - 1, Which::All);
            let step_ms = of_day.rolled.iter().max_by_key(|rolled| rolled.ids.len()).map_or(0, |rolled| ROLL_UPS[rolled.at].width);
            plan.stretch(start, end, step_ms);
            for rolled in of_day.rolled {
                plan.rolled((start, end), rolled, ids, wanted);
            }
            plan.push((start, end), Of::Raw, Which::Only(of_day.rest));
            next = end + 1;
        }
        plan.raw(next, wanted.to, Which::All);
        Ok(plan)
    }

    /// Days of the range that any roll-up holds.
    fn rolled_days(&self, wanted: &Wanted) -> Vec<i64> {
        let mut days: Vec<i64> = Vec::new();
        for set in &self.rolled {
            let parts = set.parts().into_iter().flat_map(|part| set.first_day(part)..set.first_day(part + 1));
            days.extend(parts.filter(|day| (day_of(wanted.from)..=day_of(wanted.to).min(self.rolled_through())).contains(day)));
        }
        days.sort_unstable();
        days.dedup();
        days
    }

    fn candidates(&self, day: i64, ids: &RoaringBitmap) -> Result<Vec<Candidate>, StoreError> {
        let mut out = Vec::new();
        for (at, set) in self.rolled.iter().enumerate() {
            let candidate = |reading: &Reading<'_>| {
                let of = |name| meta_series(reading.connection, name).map(|series| series & ids);
                let Some(mark) = Mark::read(reading.connection, day)? else { return Ok(None) };
                Ok(Some(Candidate { at, mark, pruned: of("pruned")?, added: of("added")? }))
            };
            out.extend(set.reading(set.part_of(day), candidate)?.flatten());
        }
        Ok(out)
    }

    /// How `day` is answered: by the roll-ups of whose cells buckets are made, then by the samples, then by whatever is left.
    fn plan_day(&self, day: i64, ids: &RoaringBitmap, wanted: &Wanted) -> Result<DayPlan, StoreError> {
        // Memory first: what moves to disk meanwhile is then seen twice, never missed.
        let fresh = self.head.series_in(ids, day * DAY_MS, (day + 1) * DAY_MS - 1);
        let candidates = self.candidates(day, ids)?;
        if candidates.is_empty() {
            return Ok(DayPlan { rolled: Vec::new(), rest: ids.clone(), unanswered: false });
        }
        let known = |reading: &Reading<'_>| Ok(Raw { birth: reading.meta("birth")?.unwrap_or(0), pruned: meta_series(reading.connection, "pruned")? & ids });
        let raw = self.partitions.reading(day, known)?;
        // Whose samples are there, all of them.
        let whole = match &raw {
            Some(raw) if candidates.iter().all(|c| c.mark.birth == raw.birth && !c.mark.added) => ids - &raw.pruned,
            _ => RoaringBitmap::new(),
        };
        let width = wanted.cells.as_ref().map(|cells| cells.width);
        let fits = |at: usize| width.is_some_and(|width| width.is_none_or(|width| width % ROLL_UPS[at].width == 0));
        let enough = |at: usize| width.is_some_and(|width| width.is_none_or(|width| width >= ROLL_UPS[at].width));
        let (mut rest, mut rolled) = (ids.clone(), Vec::new());
        for fitting in [true, false] {
            for candidate in candidates.iter().filter(|c| fits(c.at) == fitting && enough(c.at)) {
                // Where the samples are, only cells of which buckets are made give the same answer.
                let ours = if fitting { &rest - &candidate.pruned } else { &rest - &candidate.pruned - &whole };
                if ours.is_empty() {
                    continue;
                }
                rest -= &ours;
                rolled.push(self.rolled_by(day, candidate, ours, (&whole, &fresh), raw.as_ref(), fitting)?);
            }
        }
        let unanswered = !(&rest - &whole).is_empty();
        Ok(DayPlan { rolled, rest, unanswered })
    }

    fn rolled_by(
        &self,
        day: i64,
        candidate: &Candidate,
        ids: RoaringBitmap,
        (whole, fresh): (&RoaringBitmap, &RoaringBitmap),
        raw: Option<&Raw>,
        fits: bool,
    ) -> Result<Rolled, StoreError> {
        let since = if raw.is_some_and(|raw| raw.birth == candidate.mark.birth) { candidate.mark.made } else { i64::MIN };
        let late = self.partitions.reading(day, |reading| self.late(reading, since))?.unwrap_or_default();
        let added = if candidate.mark.added { ids.clone() } else { &candidate.added & &ids };
        Ok(Rolled { at: candidate.at, late: (late | fresh) & &ids, partial: &ids - whole, added, ids, since, fits })
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

    /// Says from what most of a stretch is answered.
    fn stretch(&mut self, from: i64, to: i64, step_ms: i64) {
        match self.stretches.last_mut().filter(|last| last.step_ms == step_ms && last.to + 1 == from) {
            Some(last) => last.to = to,
            None => self.stretches.push(Stretch { from, to, step_ms }),
        }
    }

    fn raw(&mut self, from: i64, to: i64, series: Which) {
        if from <= to {
            self.stretch(from, to, 0);
        }
        self.push((from, to), Of::Raw, series);
    }

    fn rolled(&mut self, (start, end): (i64, i64), rolled: Rolled, all: &RoaringBitmap, wanted: &Wanted) {
        let Rolled { at, ids, late, partial, added, since, fits } = rolled;
        let (width, of) = (ROLL_UPS[at].width, Of::Rolled(at));
        let cut = wanted.cells.as_ref().map_or(start, |cells| cells.cut);
        let plain = &ids - &late - &partial;
        let of_plain = || if plain == *all { Which::All } else { Which::Only(plain.clone()) };
        // Before the cut and from it on, so that no cell lies on both sides.
        for (start, end) in [(start, end.min(cut - 1)), (start.max(cut), end)].into_iter().filter(|(start, end)| start <= end) {
            let (a, b) = ((start + width - 1).div_euclid(width) * width, (end + 1).div_euclid(width) * width);
            if a < b {
                self.push((start, a - 1), Of::Raw, of_plain());
                self.push((a, b - 1), of, of_plain());
                self.push((b, end), Of::Raw, of_plain());
            } else {
                self.push((start, end), Of::Raw, of_plain());
            }
            let (outer_a, outer_b) = (start.div_euclid(width) * width, (end + width).div_euclid(width) * width);
            let cut_off = (outer_a, outer_b - 1) != (start, end);
            // A cell on both sides of the cut counts on the later one.
            if end + 1 != cut || outer_b == cut {
                self.push((outer_a, outer_b - 1), of, Which::Only(partial.clone()));
            }
            self.exact &= partial.is_empty() || (!cut_off && fits);
        }
        self.exact &= (&partial & &late).is_empty() && added.is_empty();
        self.push((start, end), Of::Raw, Which::Only(&late - &partial));
        self.push((start, end), Of::Late(since), Which::Only(late & partial));
    }
}
