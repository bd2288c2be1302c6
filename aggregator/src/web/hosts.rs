//! `/api/v1/hosts`, `/api/v1/enroll-tokens`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use keyvigil_common::config::Period;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::body::OrDefault;
use super::problem::Problem;
use crate::enroll::EnrollError;
use crate::fleet::{Agent, HostState};

/// All hosts.
pub(super) async fn list(State(app): State<App>) -> Json<Value> {
    let hosts: Vec<Value> = visible(&app).iter().map(|agent| as_json(&app, agent)).collect();
    Json(json!({"hosts": hosts}))
}

/// Agents that count: the revoked ones only while no other has taken their host name.
pub(super) fn visible(app: &App) -> Vec<Agent> {
    let agents = app.fleet.list(app.tenant);
    let replaced = |a: &Agent| a.revoked && agents.iter().any(|b| !b.revoked && b.host == a.host);
    agents.iter().filter(|a| !replaced(a)).cloned().collect()
}

/// One host.
pub(super) async fn one(State(app): State<App>, Path(host): Path<String>) -> Result<Json<Value>, Problem> {
    let agent = visible(&app).into_iter().find(|a| a.host == host || a.id == host).ok_or_else(|| Problem::not_found("this host"))?;
    Ok(Json(as_json(&app, &agent)))
}

fn as_json(app: &App, agent: &Agent) -> Value {
    let mut keys = 0;
    app.inventory.each(app.tenant, |key| keys += usize::from(key.places.iter().any(|p| !p.gone && p.host == agent.host)));
    let alerts = app.alerts.open().iter().filter(|a| a.tags.get("host") == Some(agent.host.as_str())).count();
    let facts = &agent.facts;
    json!({
        "host": agent.host, "agent": agent.id, "state": agent.state(app.clock.now_ms()), "last_seen": agent.last_seen_ms,
        "last_sample": agent.last_sample_ms, "os": facts.os, "kernel": facts.kernel, "arch": facts.arch, "cpus": facts.cpus,
        "memory_bytes": facts.memory_bytes, "agent_version": facts.agent_version, "enrolled": agent.enrolled_ms,
        "certificate_expires": agent.certificate_expires_ms, "cursor": agent.cursor, "clock_offset_ms": agent.clock_offset_ms, "copies": agent.twins.len(), "keys": keys, "alerts": alerts,
    })
}

/// Hosts by state.
pub(super) fn count(app: &App) -> Value {
    let (mut up, mut silent, mut unknown) = (0, 0, 0);
    for agent in visible(app) {
        match agent.state(app.clock.now_ms()) {
            HostState::Up => up += 1,
            HostState::Silent => silent += 1,
            HostState::Unknown => unknown += 1,
            HostState::Revoked => {}
        }
    }
    json!({"up": up, "silent": silent, "unknown": unknown})
}

/// What a new token should allow.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct NewToken {
    uses: u32,
    ttl: Period,
}

impl Default for NewToken {
    fn default() -> Self {
        Self { uses: 1, ttl: Period::seconds(3_600) }
    }
}

/// Makes a join token. The only answer that ever holds its secret.
pub(super) async fn create_token(State(app): State<App>, OrDefault(wanted): OrDefault<NewToken>) -> Result<(StatusCode, Json<Value>), Problem> {
    let (token, record) = app.enroll.create_token(app.tenant, &app.advertise, wanted.uses, wanted.ttl.as_ms()).await?;
    let answer = json!({"token": token.reveal().as_str(), "id": token.id, "expires": record.expires_ms, "uses": record.uses});
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Join tokens, without their secrets.
pub(super) async fn tokens(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let tokens: Vec<Value> = app
        .enroll
        .tokens(app.tenant)
        .await?
        .into_iter()
        .map(|(id, token)| json!({"id": id, "created": token.created_ms, "expires": token.expires_ms, "uses": token.uses, "used": token.used.len()}))
        .collect();
    Ok(Json(json!({"tokens": tokens})))
}

/// Revokes a join token.
pub(super) async fn revoke_token(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    if app.enroll.revoke_token(id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found("this token")) }
}

impl From<EnrollError> for Problem {
    fn from(error: EnrollError) -> Self {
        let (detail, code) = (error.to_string(), error.code());
        match error {
            EnrollError::Invalid(_) | EnrollError::Authority(crate::authority::AuthorityError::Csr(_)) => Self::bad_request(detail),
            EnrollError::Authority(error) => Self::internal(&error),
            EnrollError::Store(error) => error.into(),
            _ => Self::new(StatusCode::FORBIDDEN, detail).with("code", code),
        }
    }
}
