//! The questions, each in PromQL and as Keyvigil's API takes it, and whether two servers answered the same. A bucket of
//! Keyvigil begins at its time, a window of PromQL ends there: points are compared, and asked for, by the end.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::payload::{METRICS, Shape};
use crate::server::Kind;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Values may differ by this much, relatively, where both servers mean the same.
const SAME: f64 = 1e-6;
/// ... and by this much in a rate of random increments, where the windows lie whole in the data: Prometheus extrapolates
/// what three steps grew by to four, VictoriaMetrics takes the sample before the window, Keyvigil spreads growth over the
/// time between samples.
const SIMILAR: f64 = 0.15;

/// What is asked of the series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// The newest value, at one instant.
    Instant,
    /// The last value of each window.
    Last,
    /// The average of all in each window; one line, or one for each host.
    Average { by_host: bool },
    /// Growth a second, summed by host.
    Rate,
}

/// Which series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    One,
    /// All of a metric, on all hosts.
    Metric,
    /// One item of a metric, on all hosts.
    Item,
    /// All series of a host, of all metrics.
    Host,
    /// Four items of a metric by a regular expression, on all hosts.
    Regex,
}

/// A kind of question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) name: &'static str,
    what: What,
    which: Which,
    /// Row of [`METRICS`].
    metric: usize,
    span_ms: i64,
    window_ms: i64,
}

const fn question(name: &'static str, what: What, which: Which, metric: usize, span_ms: i64, window_ms: i64) -> Question {
    Question { name, what, which, metric, span_ms, window_ms }
}

/// Of `tests/bench/storage`: an hour of samples, 15 s apart.
pub(crate) const HOUR_OF_DATA: &[Question] = &[
    question("instant, one series", What::Instant, Which::One, 1, 0, 5 * MINUTE),
    question("1 h, one series", What::Last, Which::One, 1, HOUR, MINUTE),
    question("1 h, avg of a metric, fleet", What::Average { by_host: false }, Which::Metric, 1, HOUR, MINUTE),
    question("1 h, rate by host, fleet", What::Rate, Which::Metric, 2, HOUR, MINUTE),
    question("1 h, avg by host, regex", What::Average { by_host: true }, Which::Regex, 1, HOUR, MINUTE),
];

/// Of `tests/bench/queries`: a week of samples, 10 min apart.
pub(crate) const WEEK_OF_DATA: &[Question] = &[
    question("instant, one series", What::Instant, Which::One, 1, 0, 10 * MINUTE),
    question("1 h, one series", What::Last, Which::One, 1, HOUR, 10 * MINUTE),
    question("1 h, one host", What::Last, Which::Host, 0, HOUR, 10 * MINUTE),
    question("1 h, one item, fleet", What::Average { by_host: false }, Which::Item, 1, HOUR, 10 * MINUTE),
    question("1 h, avg by host, regex", What::Average { by_host: true }, Which::Regex, 1, HOUR, 10 * MINUTE),
    question("24 h, one series", What::Last, Which::One, 1, DAY, 30 * MINUTE),
    question("24 h, one host", What::Last, Which::Host, 0, DAY, 30 * MINUTE),
    question("24 h, one item, fleet", What::Average { by_host: false }, Which::Item, 1, DAY, 30 * MINUTE),
    question("24 h, avg by host, regex", What::Average { by_host: true }, Which::Regex, 1, DAY, 30 * MINUTE),
    question("7 d, one series", What::Last, Which::One, 1, 7 * DAY, 2 * HOUR),
    question("7 d, one host", What::Last, Which::Host, 0, 7 * DAY, 2 * HOUR),
    question("7 d, one item, fleet", What::Average { by_host: false }, Which::Item, 1, 7 * DAY, 2 * HOUR),
    question("7 d, avg by host, regex", What::Average { by_host: true }, Which::Regex, 1, 7 * DAY, 2 * HOUR),
];

impl Question {
    /// Path and query of the `turn`th time it is asked: every time of another host and item, where it is of one.
    pub(crate) fn path(&self, server: Kind, cached: bool, shape: &Shape, turn: usize) -> String {
        let host = Shape::host(turn * 37 % shape.hosts);
        let item = |at: usize| Shape::item(self.metric, at % (shape.series / METRICS.len()));
        let (metric, tag) = METRICS[self.metric];
        let regex = format!("{tag}-000[1-4]");
        // Tag, PromQL's operator, Keyvigil's prefix, value.
        let filters = match self.which {
            Which::One => vec![("host", "=", "", host), (tag, "=", "", item(turn * 7))],
            Which::Metric => Vec::new(),
            Which::Item => vec![(tag, "=", "", item(turn * 7))],
            Which::Host => vec![("host", "=", "", host)],
            Which::Regex => vec![(tag, "=~", "~", regex)],
        };
        let metric = (self.which != Which::Host).then_some(metric);
        // The last window that is full ends here.
        let end = shape.end_ms.div_euclid(self.window_ms) * self.window_ms;
        let end = if self.what == What::Instant { shape.end_ms + 1_000 } else { end };
        match server {
            Kind::Keyvigil => self.for_keyvigil(metric, &filters, end),
            _ => self.for_promql(metric, &filters, end) + if cached || server == Kind::Prometheus { "" } else { "&nocache=1" },
        }
    }

    fn for_promql(&self, metric: Option<&str>, filters: &[(&str, &str, &str, String)], end: i64) -> String {
        let filters: Vec<String> = filters.iter().map(|(name, operator, _, value)| format!("{name}{operator}{value:?}")).collect();
        let window = format!("{}{{{}}}[{}ms]", metric.unwrap_or_default(), filters.join(","), self.window_ms);
        let text = match self.what {
            What::Instant | What::Last => format!("last_over_time({window})"),
            What::Average { by_host: false } => format!("avg(avg_over_time({window}))"),
            What::Average { by_host: true } => format!("avg by (host) (avg_over_time({window}))"),
            What::Rate => format!("sum by (host) (rate({window}))"),
        };
        let query = escape(&text);
        if self.what == What::Instant {
            return format!("/api/v1/query?query={query}&time={}", end as f64 / 1e3);
        }
        let start = end - self.span_ms + self.window_ms;
        format!("/api/v1/query_range?query={query}&start={}&end={}&step={}", start / 1_000, end / 1_000, self.window_ms / 1_000)
    }

    fn for_keyvigil(&self, metric: Option<&str>, filters: &[(&str, &str, &str, String)], end: i64) -> String {
        let tags: String = filters.iter().map(|(name, _, prefix, value)| format!("&tag={name}:{prefix}{}", escape(value))).collect();
        let (aggregation, group) = match self.what {
            What::Instant | What::Last => ("last", ""),
            // One line: all series agree in a tag that none has.
            What::Average { by_host: false } => ("avg", "&group_by=none"),
            What::Average { by_host: true } => ("avg", "&group_by=host"),
            What::Rate => ("rate", "&group_by=host"),
        };
        let metric = metric.unwrap_or("**");
        let start = if self.what == What::Instant { end - self.window_ms } else { end - self.span_ms };
        let interval = if self.what == What::Instant { String::new() } else { format!("&interval={}s", self.window_ms / 1_000) };
        format!("/api/v1/query?metric_pattern={metric}&start_time={start}&end_time={}&aggregation={aggregation}{interval}{tags}{group}", end - 1)
    }

    /// What an answer says: by series, by the end of the window, the value.
    pub(crate) fn read(&self, server: Kind, answer: &[u8]) -> Result<Answer, String> {
        let json: Value = serde_json::from_slice(answer).map_err(|e| format!("not JSON: {e}"))?;
        let shift = if server == Kind::Keyvigil { self.window_ms } else { 0 };
        let rows = if server == Kind::Keyvigil { &json["series"] } else { &json["data"]["result"] };
        let rows = rows.as_array().ok_or_else(|| format!("no series: {:.300}", json.to_string()))?;
        let mut out = Answer::new();
        for row in rows {
            let labels = if server == Kind::Keyvigil { &row["tags"] } else { &row["metric"] };
            let labels = labels.as_object().into_iter().flatten().filter(|(name, _)| *name != "__name__");
            let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
            let points = row["points"].as_array().or(row["values"].as_array()).cloned().unwrap_or_else(|| vec![row["value"].clone()]);
            let points = points.iter().filter_map(|point| {
                let at = if self.what == What::Instant { 0 } else { (point[0].as_f64()? * if shift > 0 { 1.0 } else { 1e3 }) as i64 + shift };
                Some((at, point[1].as_f64().or_else(|| point[1].as_str()?.parse().ok())?))
            });
            out.insert(labels.join(","), points.collect());
        }
        Ok(out)
    }

    /// How two answers agree, as a sentence; an error says in what they do not.
    pub(crate) fn compare(&self, reference: &Answer, answer: &Answer) -> Result<String, String> {
        if reference.is_empty() || reference.len() != answer.len() {
            return Err(format!("{} series, the first server had {}", answer.len(), reference.len()));
        }
        let (mut values, mut missing, mut worst) = (0usize, 0usize, 0f64);
        for (series, points) in reference {
            let Some(others) = answer.get(series) else { return Err(format!("no series {{{series}}}, which the first server had")) };
            missing += others.keys().filter(|at| !points.contains_key(at)).count();
            let edges = [points.first_key_value(), points.last_key_value()].map(|point| point.map(|(at, _)| *at));
            for (at, value) in points.iter().filter(|(at, _)| self.what != What::Rate || !edges.contains(&Some(**at))) {
                let Some(other) = others.get(at) else {
                    missing += 1;
                    continue;
                };
                values += 1;
                worst = worst.max((value - other).abs() / value.abs().max(other.abs()).max(f64::MIN_POSITIVE));
            }
        }
        let said = format!("{} series, {values} values, relative difference {worst:.1e} at most, {missing} points only on one side", answer.len());
        // A rate may lack the first window, or the last.
        let (allowed, cut) = if self.what == What::Rate { (SIMILAR, 2 * answer.len()) } else { (SAME, 0) };
        if worst <= allowed && missing <= cut && values > 0 { Ok(said) } else { Err(said) }
    }
}

/// Series, end of the window (Unix ms), value.
pub(crate) type Answer = BTreeMap<String, BTreeMap<i64, f64>>;

/// How many samples are stored: paths whose answers' values are to be added.
pub(crate) fn counts(server: Kind, shape: &Shape) -> Vec<String> {
    let span = shape.steps as i64 * shape.step_ms;
    let (start, end) = (shape.end_ms - span, shape.end_ms + 1_000);
    let parts = METRICS.iter().map(|(metric, _)| match server {
        Kind::Keyvigil => format!("/api/v1/query?metric_pattern={metric}&start_time={start}&end_time={end}&aggregation=count&group_by=none"),
        _ => {
            let query = escape(&format!("sum(count_over_time({metric}[{}ms]))", end - start));
            format!("/api/v1/query?query={query}&time={}", end as f64 / 1e3)
        }
    });
    parts.collect()
}

/// Of the answer to one of [`counts`].
pub(crate) fn sum(server: Kind, answer: &[u8]) -> Result<f64, String> {
    let all = question("count", What::Instant, Which::Metric, 0, 0, 0).read(server, answer)?;
    Ok(all.values().flat_map(BTreeMap::values).sum())
}

/// Percent-encoding of a value in a query string.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
