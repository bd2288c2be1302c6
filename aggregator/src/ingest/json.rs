//! Metrics as JSON (`POST /api/v1/metrics`): each is checked by itself, the good ones become a batch, the others are named.

use std::collections::BTreeMap;
use std::convert::Infallible;

use keyvigil_common::limits::{FUTURE_MS_MAX, JSON_METRICS_MAX, TIMESTAMP_MS_MIN};
use keyvigil_common::sample::{MetricType, Series, Tags};
use serde::{Deserialize, Serialize};

use super::{Ingest, Refusal};
use crate::index::TenantId;
use crate::query;
use crate::store::StoreError;

/// The body of a push.
#[derive(Debug, Deserialize)]
pub struct MetricsPush {
    /// Each is checked by itself.
    pub metrics: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metric {
    metric_id: String,
    timestamp: Option<Timestamp>,
    value: f64,
    metric_type: Option<MetricType>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Timestamp {
    Ms(i64),
    Text(String),
}

/// What became of a push.
#[derive(Debug, Default, Serialize)]
pub struct PushResult {
    /// Samples that are on disk now.
    pub accepted: usize,
    /// The others.
    pub rejected: Vec<Rejected>,
}

/// One metric that was not taken.
#[derive(Debug, Serialize)]
pub struct Rejected {
    /// Its place in the push.
    pub index: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl Ingest {
    /// Stores the valid metrics of a push and names the others.
    ///
    /// # Errors
    /// Too many metrics at once, too many series, or a store that cannot write.
    pub async fn push_json(&self, tenant: TenantId, push: MetricsPush) -> Result<PushResult, Refusal> {
        if push.metrics.len() > JSON_METRICS_MAX {
            return Err(Refusal::Store(StoreError::Refused(format!("{} metrics; one request takes at most {JSON_METRICS_MAX}", push.metrics.len()))));
        }
        let now_ms = self.clock.now_ms();
        let mut result = PushResult::default();
        let taken = {
            let mut intake = self.begin(tenant);
            for (index, value) in push.metrics.into_iter().enumerate() {
                match check(value, now_ms) {
                    Ok((series, at_ms, value)) => {
                        result.accepted += 1;
                        let sample = std::iter::once(Ok::<_, Infallible>((at_ms, value)));
                        let Ok(()) = intake.column(&labels(&series), 0, || Ok(series.clone()), sample);
                    }
                    Err(reason) => result.rejected.push(Rejected { index, reason }),
                }
            }
            intake.finish()
        };
        self.store(taken).await?;
        Ok(result)
    }
}

/// Bytes that only equal series share: each text behind its length.
fn labels(series: &Series) -> Vec<u8> {
    let mut out = vec![b'j', series.metric_type as u8];
    let texts = series.tags.iter().flat_map(|(name, value)| [name, value]);
    for text in std::iter::once(series.metric_id.as_str()).chain(texts) {
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

fn check(value: serde_json::Value, now_ms: i64) -> Result<(Series, i64, f64), String> {
    let metric: Metric = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let at_ms = match metric.timestamp {
        None => now_ms,
        Some(Timestamp::Ms(ms)) => ms,
        Some(Timestamp::Text(text)) => query::time::parse(&text, now_ms)?,
    };
    if !(TIMESTAMP_MS_MIN..=now_ms + FUTURE_MS_MAX).contains(&at_ms) {
        return Err(format!("timestamp {at_ms} ms lies before the year 2000 or more than 10 min ahead of the aggregator's clock ({now_ms} ms)"));
    }
    let tags = Tags::new(metric.tags).map_err(|e| e.to_string())?;
    let series = Series::new(metric.metric_id, metric.metric_type.unwrap_or(MetricType::Gauge), tags).map_err(|e| e.to_string())?;
    Ok((series, at_ms, metric.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_that_are_written_alike_are_not_taken_for_one() {
        let series = |tags: &[(&str, &str)]| Series::new("m", MetricType::Gauge, Tags::new(tags.iter().copied()).unwrap()).unwrap();
        let (two, one) = (series(&[("a", "1"), ("b", "2")]), series(&[("a=\"1\",b", "2")]));
        assert_eq!(two.to_string(), one.to_string(), "as people read them they are the same");
        assert_ne!(labels(&two), labels(&one));
    }
}
