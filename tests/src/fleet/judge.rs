//! Whether the aggregator has each batch of each agent exactly once: by the cursor of each agent, by the events, each of which
//! names its batch, and by the number of samples.

use std::collections::HashMap;
use std::sync::Arc;

use keyvigil_common::client::{Client, Query};

use super::State;
use super::member::{SERIES, STEPS};

/// Metric of all samples.
pub const METRIC: &str = "fleet.value";
/// Samples of one batch.
pub const SAMPLES: u64 = (SERIES * STEPS) as u64;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Batches of all agents.
    pub batches: u64,
    /// Samples in them.
    pub samples: u64,
}

/// Judges, once nothing waits any more. `from_ms`: before the first batch was sealed, Unix ms.
///
/// # Errors
/// What is broken, in words.
pub async fn judge(client: &Client, states: &[Arc<State>], from_ms: i64) -> Result<Found, String> {
    let hosts = client.hosts().await.map_err(|e| e.to_string())?;
    let cursors: HashMap<&str, u64> =
        hosts["hosts"].as_array().into_iter().flatten().filter_map(|host| Some((host["agent"].as_str()?, host["cursor"].as_u64()?))).collect();
    for state in states {
        let cursor = cursors.get(state.agent.as_str()).copied().unwrap_or(0);
        if cursor != state.sealed() {
            return Err(format!("{} sealed {} batches, the aggregator counts {cursor}", state.host, state.sealed()));
        }
    }
    by_events(client, states).await?;
    let batches: u64 = states.iter().map(|state| state.sealed()).sum();
    let (expected, samples) = (batches * SAMPLES, samples(client, from_ms).await?);
    if samples != expected {
        return Err(format!("{expected} samples were sealed, {samples} are stored"));
    }
    let gaps = client.gaps(&[]).await.map_err(|e| e.to_string())?;
    if gaps["gaps"].as_array().is_some_and(|gaps| !gaps.is_empty()) {
        return Err(format!("something was declared lost: {}", gaps["gaps"][0]));
    }
    Ok(Found { batches, samples })
}

async fn by_events(client: &Client, states: &[Arc<State>]) -> Result<(), String> {
    let mut seen: HashMap<String, Vec<u8>> = states.iter().map(|state| (state.host.clone(), vec![0; state.sealed() as usize])).collect();
    let mut cursor = String::new();
    loop {
        let mut filters = vec![("kind", "accessed"), ("limit", "1000")];
        if !cursor.is_empty() {
            filters.push(("cursor", &cursor));
        }
        let page = client.events(&filters).await.map_err(|e| e.to_string())?;
        for event in page["events"].as_array().into_iter().flatten() {
            let n: Option<usize> = event["message"].as_str().and_then(|text| text.strip_prefix("fleet ")?.parse().ok());
            let times = event["host"].as_str().and_then(|host| seen.get_mut(host)?.get_mut(n?.checked_sub(1)?));
            *times.ok_or_else(|| format!("an event that was never sent: {event}"))? += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    for (host, times) in &seen {
        if let Some(n) = times.iter().position(|times| *times != 1) {
            return Err(format!("batch {} of {host} is stored {} times", n + 1, times[n]));
        }
    }
    Ok(())
}

/// All samples, one series of each agent at a time: a query answers of so many series at most.
async fn samples(client: &Client, from_ms: i64) -> Result<u64, String> {
    let mut samples = 0.0;
    for item in 0..SERIES {
        let query = Query {
            metric_pattern: METRIC.into(),
            start_time: Some((from_ms - 3_600_000).to_string()),
            end_time: Some((from_ms + 4 * 3_600_000).to_string()),
            aggregation: Some("count".into()),
            interval: Some("1h".into()),
            limit: Some(50_000),
            tag: vec![format!("item:{item}")],
            ..Query::default()
        };
        let answer = client.query_metrics(&query).await.map_err(|e| e.to_string())?;
        samples += answer.series.iter().flat_map(|series| &series.points).filter_map(|(_, value)| value.as_f64()).sum::<f64>();
    }
    Ok(samples as u64)
}
