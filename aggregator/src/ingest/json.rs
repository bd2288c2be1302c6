//! Metrics as JSON (`POST /api/v1/metrics`): each is checked by itself, the good ones become a batch, the others are named.

use std::collections::BTreeMap;
use std::convert::Infallible;

use keyvigil_common::limits::JSON_METRICS_MAX;
use keyvigil_common::sample::{MetricType, Series, Tags};
use serde::{Deserialize, Serialize};

use super::limited::Limited;
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
    /// What of them did not fit.
    #[serde(skip)]
    pub limited: Limited,
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
    /// Too many metrics at once, or a store that cannot write.
    pub async fn push_json(&self, tenant: TenantId, push: MetricsPush) -> Result<PushResult, Refusal> {
        if push.metrics.len() > JSON_METRICS_MAX {
            return Err(Refusal::Store(StoreError::Refused(format!("{} metrics; one request takes at most {JSON_METRICS_MAX}", push.metrics.len()))));
        }
        let now_ms = self.clock.now_ms();
        let mut result = PushResult::default();
        // Place in the push of each run.
        let mut places = Vec::with_capacity(push.metrics.len());
        let taken = {
            let mut intake = self.begin(tenant);
            for (index, value) in push.metrics.into_iter().enumerate() {
                let checked = check(value, now_ms).and_then(|metric| intake.time_fault(metric.1).map_or(Ok(metric), Err));
                match checked {
                    Ok((series, at_ms, value)) => {
                        places.push(index);
                        let sample = std::iter::once(Ok::<_, Infallible>((at_ms, value)));
                        let Ok(()) = intake.column(&labels(&series), 0, || Ok(series.clone()), sample);
                    }
                    Err(reason) => result.rejected.push(Rejected { index, reason }),
                }
            }
            intake.finish()
        };
        let stored = self.store(taken).await?;
        result.accepted = places.len() - stored.runs.len();
        let refused = stored.reasons().filter_map(|(run, reason)| Some(Rejected { index: *places.get(run as usize)?, reason }));
        result.rejected.extend(refused);
        result.rejected.sort_by_key(|rejected| rejected.index);
        result.limited = stored.limited;
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
