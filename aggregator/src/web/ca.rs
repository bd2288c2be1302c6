//! `/api/v1/ca`: how the CA stands, and the steps of its replacement.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::body::OrDefault;
use super::params::Named;
use super::problem::Problem;
use crate::rotation::{RotationError, Status, Step};

/// Agents named in an answer.
const NAMED_MAX: usize = 1_000;

/// How it stands.
pub(super) async fn status(State(app): State<App>) -> Json<Value> {
    Json(as_json(&app, &app.rotation.status()))
}

fn as_json(app: &App, status: &Status) -> Value {
    let cas: Vec<Value> = status
        .cas
        .iter()
        .map(|ca| {
            json!({"id": ca.id, "pin": keyvigil_common::hex(&ca.pin), "fingerprint": keyvigil_common::hex(&ca.fingerprint),
                "not_before": ca.validity_ms.0, "not_after": ca.validity_ms.1, "issuing": ca.issuing})
        })
        .collect();
    let progress = &status.progress;
    let now_ms = app.clock.now_ms();
    let waiting: Vec<Value> = progress
        .waiting
        .iter()
        .take(NAMED_MAX)
        .map(|w| json!({"host": w.agent.host, "agent": w.agent.id, "state": w.agent.state(now_ms), "last_seen": w.agent.last_seen_ms, "why": w.why}))
        .collect();
    let agents = json!({"living": progress.living, "confirmed": progress.confirmed, "renewed": progress.renewed, "waiting": progress.waiting.len()});
    json!({"phase": status.phase, "since": status.since_ms, "cas": cas, "agents": agents, "waiting_for": waiting})
}

/// How a step is to be taken.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct How {
    force: bool,
}

/// Takes a step.
pub(super) async fn step(State(app): State<App>, Named(step): Named, OrDefault(how): OrDefault<How>) -> Result<Json<Value>, Problem> {
    let step = match step.as_str() {
        "announce" => Step::Announce,
        "issue" => Step::Issue,
        "retire" => Step::Retire,
        "rollback" => Step::Rollback,
        _ => return Err(Problem::not_found("this step")),
    };
    let rotation = app.rotation.clone();
    let taken = tokio::task::spawn_blocking(move || rotation.step(step, how.force)).await;
    let status = taken.map_err(|e| Problem::internal(&e))??;
    Ok(Json(as_json(&app, &status)))
}

impl From<RotationError> for Problem {
    fn from(error: RotationError) -> Self {
        use crate::authority::AuthorityError;
        match error {
            RotationError::HeldUp(ref names) => {
                let named: Vec<&String> = names.iter().take(NAMED_MAX).collect();
                Self::new(StatusCode::CONFLICT, error.to_string()).with("code", "held_up").with("hosts", json!(named))
            }
            RotationError::Authority(AuthorityError::Step(why)) => Self::new(StatusCode::CONFLICT, why).with("code", "step"),
            RotationError::Authority(error) => Self::internal(&error),
        }
    }
}
