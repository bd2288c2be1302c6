//! `/api/v1/status` and `POST /api/v1/metrics`.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::body::Body;
use super::problem::Problem;
use super::{App, assets, hosts};
use crate::ingest::intake::Rejections;
use crate::ingest::json::{MetricsPush, PushResult};

/// How the aggregator is.
pub(super) async fn status(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let size = app.store.size().await?;
    let now_ms = app.clock.now_ms();
    let up_ms = (now_ms - app.started_ms).max(1);
    let samples = app.ingest.samples_stored();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": app.started_ms,
        "now": now_ms,
        "uptime_seconds": up_ms / 1_000,
        "tenant": crate::tenant::DEFAULT,
        "series": app.store.index().len(),
        "samples_stored": size.block_samples + size.head_samples,
        "samples_in_level0": size.head_samples,
        "samples_per_second": app.ingest.samples_per_second(),
        "samples_since_start": samples,
        "bytes_on_disk": size.bytes,
        "revocation_lists": app.revocations.states(),
        "hosts": hosts::by_state(&app),
        "agents": hosts::visible(&app).len(),
        "read_only_without_token": app.open_on_loopback,
        "dashboard": assets::is_built(),
    })))
}

/// Metrics as JSON.
pub(super) async fn push(State(app): State<App>, Body(push): Body<MetricsPush>) -> Result<Json<PushResult>, Problem> {
    let result = app.ingest.push_json(app.tenant, push).await?;
    if result.limited.is_empty() {
        return Ok(Json(result));
    }
    let invalid = Rejections::default();
    let rejected = serde_json::to_value(&result.rejected).map_err(|e| Problem::internal(&e))?;
    Err(Problem::limited(&result.limited, &invalid).with("accepted", result.accepted).with("rejected", rejected))
}
