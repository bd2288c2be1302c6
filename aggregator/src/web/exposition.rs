//! `:9090/metrics`: the newest value of every series and the aggregator's own numbers, in Prometheus's text format 0.0.4.
//! Dotted names become underscores. A series that was silent for five minutes is left out, as a scrape would.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use keyvigil_common::sample::MetricType;

use super::App;
use crate::index::Selector;
use crate::query::QueryError;

const STALE_MS: i64 = 300_000;
const SERIES_MAX: usize = 500_000;

/// Routes of the metrics listener.
pub(super) fn router(app: App) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(app)
}

/// One family: its type, help, and sample lines.
type Families = BTreeMap<String, (MetricType, &'static str, Vec<String>)>;

async fn metrics(State(app): State<App>) -> Result<Response, super::problem::Problem> {
    let all = Selector::parse("**", []).map_err(QueryError::Invalid)?;
    let now_ms = app.clock.now_ms();
    let mut families = Families::new();
    for (id, series) in app.store.index().select(app.tenant, &all, SERIES_MAX) {
        let Some((at, value)) = app.store.latest(id).filter(|p| now_ms - p.0 <= STALE_MS && !p.1.is_nan()) else { continue };
        let name = metric_name(&series.metric_id);
        let line = format!("{name}{} {} {at}", labels(series.tags.iter()), number(value));
        families.entry(name).or_insert_with(|| (series.metric_type, "", Vec::new())).2.push(line);
    }
    for own in app.registry.all() {
        let name = metric_name(own.metric_id);
        let line = format!("{name}{} {}", labels(own.tag.into_iter()), own.value.get());
        families.entry(name).or_insert_with(|| (own.metric_type, own.help, Vec::new())).2.push(line);
    }
    let mut out = String::new();
    for (name, (metric_type, help, lines)) in &families {
        if !help.is_empty() {
            let _ = writeln!(out, "# HELP {name} {help}");
        }
        let kind = match metric_type {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            // Buckets stand alone here; a family needs _sum and _count to be a histogram.
            MetricType::Histogram => "untyped",
        };
        let _ = writeln!(out, "# TYPE {name} {kind}");
        for line in lines {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response())
}

/// A name that Prometheus takes: dots and everything else become `_`.
fn metric_name(id: &str) -> String {
    let mut name: String = id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

fn labels<'a>(tags: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in tags {
        let name = metric_name(name).replace(':', "_");
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{}{name}=\"{value}\"", if out.is_empty() { "{" } else { "," });
    }
    if !out.is_empty() {
        out.push('}');
    }
    out
}

fn number(value: f64) -> String {
    if value.is_infinite() { if value > 0.0 { "+Inf" } else { "-Inf" }.into() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_what_prometheus_parses() {
        assert_eq!(metric_name("system.cpu.usage_total"), "system_cpu_usage_total");
        assert_eq!(metric_name("9.lives"), "_9_lives");
        let tags = [("host", "a"), ("path", "C:\\x \"y\"\n")];
        assert_eq!(labels(tags.into_iter()), r#"{host="a",path="C:\\x \"y\"\n"}"#);
        assert_eq!((number(f64::INFINITY).as_str(), number(1.5).as_str()), ("+Inf", "1.5"));
    }
}
