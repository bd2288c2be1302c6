//! `/api/v1/alerts` and `/api/v1/alerts/rules`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use keyvigil_common::limits::PAGE_ROWS_MAX;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Body;
use super::params::Named;
use super::problem::Problem;
use super::{App, params::Params};
use crate::alert::{Alert, Rule, State as AlertState};
use crate::job::alerts::HistoryRecord;
use crate::notify::Notification;
use crate::store::outbox;

const ROWS_DEFAULT: usize = 200;

/// Alerts of the wanted states; without a wish all that are not resolved.
pub(super) async fn list(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    params.only(&["state", "limit"])?;
    let wanted = params.list("state");
    if let Some(unknown) = wanted.iter().find(|w| !["pending", "firing", "acknowledged", "resolved"].contains(&w.as_str())) {
        return Err(Problem::bad_request(format!("state {unknown:?} is none of: pending firing acknowledged resolved")));
    }
    let limit = params.number("limit", ROWS_DEFAULT, PAGE_ROWS_MAX)?;
    let mut alerts = app.alerts.all();
    alerts.retain(|a| if wanted.is_empty() { a.state != AlertState::Resolved } else { wanted.iter().any(|w| w == a.state.as_str()) });
    alerts.sort_by(|a, b| b.priority.cmp(&a.priority).then(b.since.cmp(&a.since)));
    alerts.truncate(limit);
    Ok(Json(json!({"alerts": alerts.iter().map(as_json).collect::<Vec<_>>()})))
}

/// An alert as the API shows it: without what only the next evaluation needs.
fn as_json(alert: &Alert) -> Value {
    let mut value = serde_json::to_value(alert).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.remove("memory");
    }
    value
}

/// Figures over all alerts.
pub(super) async fn status(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let mut by_state = BTreeMap::from([("pending", 0), ("firing", 0), ("acknowledged", 0)]);
    let mut by_priority = BTreeMap::from([("critical", 0), ("high", 0), ("medium", 0), ("low", 0), ("info", 0)]);
    for alert in app.alerts.open() {
        *by_state.entry(alert.state.as_str()).or_default() += 1;
        if alert.state == AlertState::Firing {
            *by_priority.entry(alert.priority.as_str()).or_default() += 1;
        }
    }
    let tenant = app.tenant;
    let notifications = app.store.read(move |connection, _| outbox::counts(connection, tenant)).await?;
    let rules = app.alerts.rules().iter().filter(|rule| rule.enabled).count();
    Ok(Json(json!({"firing": by_state["firing"], "acknowledged": by_state["acknowledged"], "pending": by_state["pending"],
                   "by_priority": by_priority, "rules": rules, "channels": app.channels, "notifications": notifications})))
}

/// One alert, its history, and who was told.
pub(super) async fn one(State(app): State<App>, Named(id): Named) -> Result<Json<Value>, Problem> {
    let alert = app.alerts.get(&id).ok_or_else(|| Problem::not_found("this alert"))?;
    let tenant = app.tenant;
    let (history, notifications) = app
        .store
        .read(move |connection, ring| {
            let history: Vec<HistoryRecord> = outbox::history(connection, ring, tenant, &id)?;
            let told = outbox::deliveries(connection, ring, tenant, &id, |note: &Notification| {
                serde_json::to_value(note.transition.kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
            })?;
            Ok((history, told))
        })
        .await?;
    let mut value = as_json(&alert);
    value["history"] = json!(history);
    value["notifications"] = json!(notifications);
    Ok(Json(value))
}

/// Who acknowledges.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acknowledge {
    by: String,
    #[serde(default)]
    note: Option<String>,
}

/// Says that somebody takes care.
pub(super) async fn acknowledge(State(app): State<App>, Named(id): Named, Body(body): Body<Acknowledge>) -> Result<Json<Value>, Problem> {
    Ok(Json(as_json(&app.alerts.acknowledge(&id, &body.by, body.note.as_deref()).await?)))
}

/// All rules.
pub(super) async fn rules(State(app): State<App>) -> Json<Value> {
    Json(json!({"rules": app.alerts.rules()}))
}

/// One rule.
pub(super) async fn rule(State(app): State<App>, Named(id): Named) -> Result<Json<Rule>, Problem> {
    app.alerts.rules().into_iter().find(|rule| rule.rule_id == id).map(Json).ok_or_else(|| Problem::not_found("this rule"))
}

/// Adds a rule.
pub(super) async fn create_rule(State(app): State<App>, Body(rule): Body<Rule>) -> Result<(StatusCode, Json<Rule>), Problem> {
    if app.alerts.rules().iter().any(|known| known.rule_id == rule.rule_id) {
        return Err(Problem::new(StatusCode::CONFLICT, format!("rule {:?} exists already: change it with PUT", rule.rule_id)));
    }
    Ok((StatusCode::CREATED, Json(app.alerts.put_rule(rule).await?)))
}

/// Replaces a rule.
pub(super) async fn replace_rule(State(app): State<App>, Named(id): Named, Body(mut rule): Body<Rule>) -> Result<Json<Rule>, Problem> {
    if rule.rule_id.is_empty() {
        rule.rule_id.clone_from(&id);
    }
    if rule.rule_id != id {
        return Err(Problem::bad_request(format!("rule_id is {:?} in the body and {id:?} in the path", rule.rule_id)));
    }
    Ok(Json(app.alerts.put_rule(rule).await?))
}

/// Removes a rule.
pub(super) async fn delete_rule(State(app): State<App>, Named(id): Named) -> Result<StatusCode, Problem> {
    app.alerts.delete_rule(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
