//! A question about samples, and its answer: selector and range in, rows out. A library: no tasks, no HTTP. Within a bucket
//! the samples of a series (or, grouped, of all series of the group) are pooled; `rate` and `increase` are taken of each
//! series first, aware of resets, and then added.

mod aggregate;
mod counter;
mod fold;
pub mod time;
pub mod uses;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use keyvigil_common::limits::{QUERY_POINTS_MAX, QUERY_SAMPLES_MAX, QUERY_SERIES_MAX};
use keyvigil_common::sample::{MetricType, Series, Tags};

pub use aggregate::Aggregation;

use fold::{Folding, Shape};

use crate::index::{Selector, SeriesId, TenantId};
use crate::store::{Cells, Point, Store, StoreError, Stretch, Wanted};

/// Shortest width of a bucket, ms.
const INTERVAL_MS_MIN: i64 = 1_000;
/// Values that quantiles may keep at once, 8 bytes each.
const POOLED_MAX: usize = 8 << 20;
/// How long a question may take.
const TIME_MAX: Duration = Duration::from_secs(30);

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// Whose series.
    pub tenant: TenantId,
    /// Which series.
    pub selector: Selector,
    /// First instant, Unix ms, included.
    pub from_ms: i64,
    /// Last instant, Unix ms, included.
    pub to_ms: i64,
    /// How the samples of a bucket become one value; `None` for the stored samples.
    pub aggregation: Option<Aggregation>,
    /// Width of a bucket; `None` for one bucket over the whole range.
    pub interval_ms: Option<i64>,
    /// Tags by which series are joined; `None` for each by itself.
    pub group_by: Option<Vec<String>>,
    /// Series at most.
    pub limit: usize,
    /// It is a rule that asks: pages wait for it, not it for them.
    pub urgent: bool,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Rows, ordered by name and tags.
    pub rows: Vec<Row>,
    /// There were more series than the limit.
    pub truncated: bool,
    /// Samples (and cells of roll-ups) that were read for it.
    pub samples_read: usize,
    /// It is what the samples give, be it read from them or from roll-ups.
    pub exact: bool,
    /// What it was read from, in the order of time.
    pub sources: Vec<Stretch>,
    /// Here only roll-ups are left, which cannot answer this question: first and last instant.
    pub unanswered: Option<(i64, i64)>,
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Name.
    pub metric_id: String,
    /// What the stored values mean.
    pub metric_type: MetricType,
    /// Tags; of a group only those it was grouped by.
    pub tags: Tags,
    /// Time (of a bucket its start) and value; `None` where a bucket holds nothing.
    pub points: Vec<(i64, Option<f64>)>,
}

/// The buckets of a question: aligned to multiples of their width, from the one that holds `from` to the one that holds `to`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buckets {
    first: i64,
    width: i64,
    count: usize,
}

impl Buckets {
    fn new(question: &Question) -> Result<Self, QueryError> {
        Self::within(question.from_ms, question.to_ms, question.interval_ms)
    }

    fn within(from_ms: i64, to_ms: i64, interval_ms: Option<i64>) -> Result<Self, QueryError> {
        let span = to_ms.saturating_sub(from_ms).saturating_add(1);
        let Some(width) = interval_ms else { return Ok(Self { first: from_ms, width: span.max(1), count: 1 }) };
        if width < INTERVAL_MS_MIN {
            return Err(QueryError::Invalid(format!("interval must be at least {INTERVAL_MS_MIN} ms")));
        }
        let first = from_ms.div_euclid(width) * width;
        let count = usize::try_from((to_ms - first) / width + 1).unwrap_or(0);
        if count > QUERY_POINTS_MAX {
            return Err(QueryError::Invalid(format!("{count} buckets; at most {QUERY_POINTS_MAX} are answered: use a longer interval or a shorter range")));
        }
        Ok(Self { first, width, count })
    }

    fn start(&self, at: usize) -> i64 {
        self.first + self.width * i64::try_from(at).unwrap_or(0)
    }

    /// Bucket of an instant; the caller has cut to the range.
    fn of(&self, at_ms: i64) -> Option<usize> {
        usize::try_from((at_ms - self.first).div_euclid(self.width)).ok().filter(|at| *at < self.count)
    }

    /// Calls `each` with the samples of each bucket that holds any; `points` are ascending.
    fn cut(&self, points: &[Point], mut each: impl FnMut(usize, &[Point])) {
        let mut rest = points;
        while let Some(first) = rest.first() {
            let Some(at) = self.of(first.0) else {
                rest = &rest[1..];
                continue;
            };
            let end = self.start(at).saturating_add(self.width);
            let here = rest.iter().position(|p| p.0 >= end).unwrap_or(rest.len());
            each(at, &rest[..here]);
            rest = &rest[here..];
        }
    }

    fn points(&self, values: Vec<Option<f64>>) -> Vec<(i64, Option<f64>)> {
        values.into_iter().enumerate().map(|(at, value)| (self.start(at), value)).collect()
    }
}

/// Answers `question` from `store`.
///
/// # Errors
/// A question that is impossible or too large, or a store that cannot be read.
pub async fn ask(store: &Store, question: &Question) -> Result<Answer, QueryError> {
    if question.from_ms > question.to_ms {
        return Err(QueryError::Invalid("start_time lies after end_time".into()));
    }
    if question.group_by.is_some() && question.aggregation.is_none() {
        return Err(QueryError::Invalid("group_by needs an aggregation".into()));
    }
    let most = if question.group_by.is_some() { QUERY_SERIES_MAX } else { question.limit.min(QUERY_SERIES_MAX) };
    let mut series = store.index().select(question.tenant, &question.selector, most);
    let truncated = series.len() > most;
    if truncated && question.group_by.is_some() {
        return Err(QueryError::Invalid(format!("more than {QUERY_SERIES_MAX} series: narrow metric_pattern or add a tag")));
    }
    series.truncate(most);
    let work = async {
        match question.aggregation {
            None => raw(store, question, &series).await,
            Some(aggregation) => bucketed(store, question, aggregation, &series).await,
        }
    };
    // Dropping it stops the reading, as it does when the asker hangs up.
    let answer = tokio::time::timeout(TIME_MAX, work).await;
    let mut answer = answer.map_err(|_| QueryError::Invalid(format!("not answered within {TIME_MAX:?}: ask for a shorter range or fewer series")))??;
    answer.truncated = truncated || answer.rows.len() > question.limit;
    answer.rows.truncate(question.limit);
    Ok(answer)
}

async fn raw(store: &Store, question: &Question, series: &[(SeriesId, Arc<Series>)]) -> Result<Answer, QueryError> {
    let (columns, unanswered) = match store.samples(&ids(series), question.from_ms, question.to_ms, QUERY_POINTS_MAX).await {
        Err(StoreError::TooMuch(most)) => {
            Err(QueryError::Invalid(format!("more than {most} samples: set aggregation and interval, or ask for a shorter range")))
        }
        other => Ok(other?),
    }?;
    let samples_read = columns.iter().map(Vec::len).sum();
    let rows = series.iter().zip(columns).filter(|(_, points)| !points.is_empty()).map(|((_, series), points)| {
        let points = points.into_iter().map(|(at, value)| (at, Some(value))).collect();
        Row { metric_id: series.metric_id.clone(), metric_type: series.metric_type, tags: series.tags.clone(), points }
    });
    let sources = vec![Stretch { from: question.from_ms, to: question.to_ms, step_ms: 0 }];
    Ok(Answer { rows: rows.collect(), samples_read, exact: unanswered.is_none(), sources, unanswered, ..Answer::default() })
}

/// Series of one row, by their place in the selection.
type Groups = BTreeMap<(String, Tags), Vec<usize>>;

async fn bucketed(store: &Store, question: &Question, aggregation: Aggregation, series: &[(SeriesId, Arc<Series>)]) -> Result<Answer, QueryError> {
    let buckets = Buckets::new(question)?;
    let groups = groups(question, series)?;
    if groups.len().saturating_mul(buckets.count) > QUERY_POINTS_MAX {
        return Err(QueryError::Invalid(format!(
            "{} series of {} buckets; at most {QUERY_POINTS_MAX} points are answered: use a longer interval or fewer series",
            groups.len(),
            buckets.count
        )));
    }
    let mut rows = vec![0; series.len()];
    for (row, members) in groups.values().enumerate() {
        members.iter().for_each(|at| rows[*at] = row);
    }
    let grouped = groups.len() < series.len();
    let shape = Arc::new(Shape { buckets, aggregation, from_ms: question.from_ms, rows, grouped, pooled: AtomicUsize::new(0) });
    let (making, at_once) = (Arc::clone(&shape), shape.series_at_once());
    let (ids, wanted) = (ids(series), wanted(question, aggregation, &buckets, series));
    let visited = store.visit((&ids, at_once), wanted, move |places| Folding::new(Arc::clone(&making), places)).await?;
    let sources = visited.stretches.iter().filter(|s| s.to >= question.from_ms).map(|s| Stretch { from: s.from.max(question.from_ms), ..*s });
    let mut answer = Answer {
        samples_read: visited.samples_read,
        exact: visited.exact,
        sources: sources.collect(),
        unanswered: visited.unanswered.filter(|(_, to)| *to >= question.from_ms).map(|(from, to)| (from.max(question.from_ms), to)),
        ..Answer::default()
    };
    let mut values: BTreeMap<usize, Vec<Option<f64>>> = visited.out.into_iter().flat_map(|rows| rows.values(&shape)).collect();
    for (row, ((metric_id, tags), members)) in groups.into_iter().enumerate() {
        if let Some(values) = values.remove(&row) {
            let metric_type = members.first().map_or(MetricType::Gauge, |at| series[*at].1.metric_type);
            answer.rows.push(Row { metric_id, metric_type, tags, points: buckets.points(values) });
        }
    }
    Ok(answer)
}

/// What is to be read, and whether from roll-ups.
fn wanted(question: &Question, aggregation: Aggregation, buckets: &Buckets, series: &[(SeriesId, Arc<Series>)]) -> Wanted {
    let of_counters = aggregation.is_of_counters();
    // A rate at the start of the range needs the sample before it.
    let before = if of_counters { counter::reach_ms(buckets.width) } else { 0 };
    // Of what is no counter, roll-ups do not tell how it grew.
    let will_do = !of_counters || series.iter().all(|(_, series)| series.metric_type != MetricType::Gauge);
    let cells = aggregation.facets().filter(|_| will_do).map(|facets| Cells { facets, width: question.interval_ms, cut: question.from_ms });
    Wanted { from: question.from_ms.saturating_sub(before), to: question.to_ms, samples_max: QUERY_SAMPLES_MAX, cells, urgent: question.urgent }
}

fn groups(question: &Question, series: &[(SeriesId, Arc<Series>)]) -> Result<Groups, QueryError> {
    let mut groups = Groups::new();
    for (at, (_, series)) in series.iter().enumerate() {
        let tags = match &question.group_by {
            None => series.tags.clone(),
            Some(names) => Tags::new(names.iter().filter_map(|name| series.tags.get(name).map(|value| (name.as_str(), value))))
                .map_err(|e| QueryError::Invalid(format!("group_by: {e}")))?,
        };
        groups.entry((series.metric_id.clone(), tags)).or_default().push(at);
    }
    Ok(groups)
}

fn ids(series: &[(SeriesId, Arc<Series>)]) -> Vec<SeriesId> {
    series.iter().map(|(id, _)| *id).collect()
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The question is at fault.
    #[error("{0}")]
    Invalid(String),
    /// The store is at fault.
    #[error("cannot read samples")]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests;
