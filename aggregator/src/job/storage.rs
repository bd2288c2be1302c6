//! Chores of the store: level 0 into blocks, small blocks into larger ones, old days away.

use std::sync::Arc;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::telemetry::chain;

use crate::store::{Policy, Store, StoreError};

/// A window is merged once late data has had this long to arrive, ms.
const SETTLE_MS: i64 = 15 * 60_000;

/// A day is merged once an agent that was offline over night has had the time to deliver, ms.
const DAY_SETTLE_MS: i64 = 12 * 3_600_000;

/// Compacts level 0.
///
/// # Errors
/// What the store says.
pub async fn flush(store: Store) -> Result<String, String> {
    let flushed = store.flush().await.map_err(say)?;
    Ok(if flushed.samples == 0 { String::new() } else { format!("{} samples into {} blocks", flushed.samples, flushed.blocks) })
}

/// Merges blocks of windows that have settled.
///
/// # Errors
/// What the store says.
pub async fn merge(store: Store, clock: SharedClock) -> Result<String, String> {
    let now_ms = clock.now_ms();
    let merged = store.merge(now_ms - SETTLE_MS, now_ms - DAY_SETTLE_MS).await.map_err(say)?;
    Ok(if merged == 0 { String::new() } else { format!("merged {merged} windows and days") })
}

/// Drops what `policy` does not keep any longer, and what is known of agents' streams that ended long ago.
///
/// # Errors
/// What the store says.
pub async fn retain(store: Store, clock: SharedClock, policy: Arc<Policy>) -> Result<String, String> {
    let now_ms = clock.now_ms();
    let retained = store.retain(now_ms, &policy).await.map_err(say)?;
    store.write(move |tx| tx.forget_streams(now_ms)).await.map_err(say)?;
    let dropped = (!retained.dropped.is_empty()).then(|| format!("dropped {}", retained.dropped.join(", ")));
    let pruned = (retained.pruned > 0).then(|| format!("{} samples of series that are kept for less", retained.pruned));
    let series = (retained.series > 0).then(|| format!("{} series of which nothing is left", retained.series));
    Ok(dropped.into_iter().chain(pruned).chain(series).collect::<Vec<_>>().join("; "))
}

fn say(error: StoreError) -> String {
    chain(&error)
}
