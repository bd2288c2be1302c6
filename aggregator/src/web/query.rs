//! `/api/v1/query` and `/api/v1/series`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use keyvigil_common::config::Period;
use serde::Serialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{App, params::Params};
use crate::index::Selector;
use crate::query::{self, Aggregation, Answer, Question, time};

const HOUR_MS: i64 = 3_600_000;
const LIMIT_DEFAULT: usize = 1_000;
const LIMIT_MAX: usize = 50_000;

/// GET or POST; POST with the parameters as a JSON object or a form.
pub(super) async fn query(State(app): State<App>, method: Method, RawQuery(raw): RawQuery, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let mut params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    if method == Method::POST && !body.is_empty() {
        params.extend_from_body(&headers, &body)?;
    }
    let question = question(&app, &params)?;
    let answer = query::ask(&app.store, &question).await?;
    let csv = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/csv"));
    Ok(if csv { as_csv(&answer) } else { as_json(&question, &answer) })
}

fn question(app: &App, params: &Params) -> Result<Question, Problem> {
    params.only(&["metric_pattern", "start_time", "end_time", "aggregation", "interval", "tag", "group_by", "limit"])?;
    let now = app.clock.now_ms();
    let pattern = params.required("metric_pattern")?;
    let selector = Selector::parse(pattern, params.all("tag")).map_err(Problem::bad_request)?;
    let instant = |name: &str, default: i64| match params.get(name) {
        Some(text) => time::parse(text, now).map_err(|e| Problem::bad_request(format!("{name}: {e}"))),
        None => Ok(default),
    };
    let to_ms = instant("end_time", now)?;
    let from_ms = instant("start_time", to_ms - HOUR_MS)?;
    let interval_ms = params.parse::<Period>("interval")?.map(Period::as_ms);
    let aggregation = params.parse::<Aggregation>("aggregation")?.or(interval_ms.map(|_| Aggregation::Avg));
    let group_by = params.get("group_by").map(|names| names.split(',').map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect());
    let limit = params.number("limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    Ok(Question { tenant: app.tenant, selector, from_ms, to_ms, aggregation, interval_ms, group_by, limit, urgent: false })
}

/// A value as JSON: what JSON has no number for becomes `null` (NaN) or a text (infinities).
fn number(value: Option<f64>) -> Value {
    match value {
        Some(v) if v.is_finite() => json!(v),
        Some(v) if v.is_infinite() => json!(if v > 0.0 { "+Inf" } else { "-Inf" }),
        _ => Value::Null,
    }
}

fn as_json(question: &Question, answer: &Answer) -> Response {
    #[derive(Serialize)]
    struct Series<'a> {
        metric_id: &'a str,
        metric_type: keyvigil_common::sample::MetricType,
        tags: &'a keyvigil_common::sample::Tags,
        points: Vec<(i64, Value)>,
    }
    let series: Vec<Series<'_>> = answer
        .rows
        .iter()
        .map(|row| Series {
            metric_id: &row.metric_id,
            metric_type: row.metric_type,
            tags: &row.tags,
            points: row.points.iter().map(|(at, value)| (*at, number(*value))).collect(),
        })
        .collect();
    let sources: Vec<Value> = answer.sources.iter().map(|s| json!({"start_time": s.from, "end_time": s.to, "resolution_ms": s.step_ms})).collect();
    Json(json!({
        "start_time": question.from_ms,
        "end_time": question.to_ms,
        "aggregation": question.aggregation,
        "interval_ms": question.interval_ms,
        "truncated": answer.truncated,
        "samples_read": answer.samples_read,
        "exact": answer.exact,
        "sources": sources,
        "notes": notes(answer),
        "series": series,
    }))
    .into_response()
}

/// What the asker should know of the answer.
fn notes(answer: &Answer) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some((from, to)) = answer.unanswered {
        notes.push(format!(
            "between {} and {} only roll-ups are kept of all or some of the series, which cannot answer this: ask for avg, min, max, sum, count or last (of counters for rate or increase) in intervals of 5m or, for what is older, 1h",
            shown(from),
            shown(to)
        ));
    } else if !answer.exact {
        notes.push("part of this is from roll-ups whose cells do not end where the buckets do, or that samples came to after others were gone".into());
    }
    notes
}

fn shown(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}

fn as_csv(answer: &Answer) -> Response {
    use std::fmt::Write;
    let mut out = "metric_id,tags,time,value\n".to_owned();
    for row in &answer.rows {
        let tags: Vec<String> = row.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for (at, value) in &row.points {
            let value = value.map(|v| v.to_string()).unwrap_or_default();
            let _ = writeln!(out, "{},{},{at},{value}", field(&row.metric_id), field(&tags.join(";")));
        }
    }
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], out).into_response()
}

/// A CSV field: quoted where it must be, and never a formula to a spreadsheet.
pub(super) fn field(text: &str) -> String {
    // The wide forms count as well where Excel speaks an East Asian language.
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let guarded = if is_formula { format!("'{text}") } else { text.to_owned() };
    if guarded.contains([',', '"', '\n', '\r']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

/// The series there are.
pub(super) async fn series(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    params.only(&["metric_pattern", "tag", "limit"])?;
    let selector = Selector::parse(params.get("metric_pattern").unwrap_or("**"), params.all("tag")).map_err(Problem::bad_request)?;
    let limit = params.number("limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    let mut found = app.store.index().select(app.tenant, &selector, limit);
    let truncated = found.len() > limit;
    found.truncate(limit);
    let series: Vec<Value> = found
        .iter()
        .map(|(id, series)| {
            let last = app.store.latest(*id);
            json!({"metric_id": series.metric_id, "metric_type": series.metric_type, "tags": series.tags,
                   "last_time": last.map(|p| p.0), "last_value": number(last.map(|p| p.1))})
        })
        .collect();
    Ok(Json(json!({"series": series, "truncated": truncated})))
}
