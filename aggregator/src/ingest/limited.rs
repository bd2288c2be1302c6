//! What limits of series kept out of one request, told to its sender: how much, by which limit, and the first of it by name.

use std::collections::BTreeMap;

use keyvigil_common::limits::REJECTED_NAMED_MAX;
use keyvigil_common::sample::Series;

use crate::store::{Appended, Limit, Limits, RefusedRun};

/// What a request's new series that did not fit had to say. The rest of the request is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limited {
    /// Samples.
    pub samples: usize,
    /// Their series.
    pub series: usize,
    /// The first few series, each with the reason.
    pub named: Vec<String>,
    /// The limits that were met: each with how many series it allows and how many samples it kept out.
    pub limits: BTreeMap<Limit, (usize, usize)>,
}

/// What became of what a request brought.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) limited: Limited,
    /// Runs that were not stored.
    pub(super) runs: Vec<RefusedRun>,
    /// The series that were new.
    fresh: Vec<Series>,
    limits: Limits,
}

impl Outcome {
    pub(super) fn new(appended: Appended, limits: Limits) -> Self {
        let Appended { resolved, refused: runs, fresh } = appended;
        let mut limited = Limited { series: resolved.refused.len(), ..Limited::default() };
        for run in &runs {
            limited.samples += run.samples as usize;
            limited.limits.entry(run.limit).or_insert((limits.max(run.limit), 0)).1 += run.samples as usize;
        }
        let first = resolved.refused.iter().take(REJECTED_NAMED_MAX).filter_map(|(place, limit)| Some((fresh.get(*place as usize)?, *limit)));
        limited.named = first.map(|(series, limit)| format!("{series}: {}", limits.reason(limit, series))).collect();
        Self { limited, runs, fresh, limits }
    }

    /// Why each run that was not stored was not. Names the series of the first few: all of them would be the request again.
    pub(super) fn reasons(&self) -> impl Iterator<Item = (u32, String)> {
        let named = |(at, run): (usize, &RefusedRun)| {
            let reason = match self.fresh.get(run.fresh as usize) {
                Some(series) if at < REJECTED_NAMED_MAX => format!("{series}: {}", self.limits.reason(run.limit, series)),
                _ => format!("as the others, one series too many (limit: {})", run.limit.name()),
            };
            (run.run, reason)
        };
        self.runs.iter().enumerate().map(named)
    }
}

impl Limited {
    /// Whether all was stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }
}

impl std::fmt::Display for Limited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = self.named.first().map_or("", String::as_str);
        write!(f, "{} samples of {} new series were not stored, what else is valid was; the first: {first}", self.samples, self.series)
    }
}
