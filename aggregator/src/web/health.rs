//! The health listener: `/live` (the process runs), `/ready` (it takes and answers), `/health` (both, with each check).

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::App;

/// Routes of the health listener.
pub(super) fn router(app: App) -> Router {
    Router::new().route("/live", get(live)).route("/ready", get(health)).route("/health", get(health)).with_state(app)
}

async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Writes to the store and reads from it: a disk that is full or gone is not healthy, nor is a memory that takes no samples.
async fn health(State(app): State<App>) -> (StatusCode, Json<Value>) {
    let written = app.store.write(|tx| tx.tenant(crate::tenant::DEFAULT)).await;
    let (status, code, store) = match written.and_then(|_| app.store.has_room()) {
        Ok(()) => ("ok", StatusCode::OK, json!({"status": "ok"})),
        Err(e) => ("failing", StatusCode::SERVICE_UNAVAILABLE, json!({"status": "failing", "detail": keyvigil_common::telemetry::chain(&e)})),
    };
    (code, Json(json!({"status": status, "checks": {"store": store, "series": {"status": "ok", "count": app.store.index().len()}}})))
}
