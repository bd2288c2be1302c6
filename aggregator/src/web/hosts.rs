//! `/api/v1/hosts`, `/api/v1/enroll-tokens`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use keyvigil_common::canary::CanaryPath;
use keyvigil_common::config::Period;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::body::OrDefault;
use super::params::{Named, NoParams};
use super::problem::Problem;
use crate::enroll::EnrollError;
use crate::fleet::{self, Agent, HostState};
use crate::keys;
use crate::store::Tx;

/// All hosts.
pub(super) async fn list(State(app): State<App>, _: NoParams) -> Json<Value> {
    let counts = Counts::of(&app);
    let hosts: Vec<Value> = visible(&app).iter().map(|agent| as_json(&app, agent, &counts)).collect();
    Json(json!({"hosts": hosts}))
}

/// Agents that count: the revoked ones only while no other has taken their host name.
pub(super) fn visible(app: &App) -> Vec<Agent> {
    let mut agents = app.fleet.list(app.tenant);
    let living: HashSet<String> = agents.iter().filter(|agent| !agent.revoked).map(|agent| agent.host.clone()).collect();
    agents.retain(|agent| !agent.removed && (!agent.revoked || !living.contains(&agent.host)));
    agents
}

/// One host.
pub(super) async fn one(State(app): State<App>, Named(host): Named, _: NoParams) -> Result<Json<Value>, Problem> {
    let agent = visible(&app).into_iter().find(|a| a.host == host || a.id == host).ok_or_else(|| Problem::not_found("this host"))?;
    Ok(Json(as_json(&app, &agent, &Counts::of(&app))))
}

/// Takes a host out that is gone for good: its agents may deliver no more, its keys lie there no more. What was measured and what
/// happened stays.
pub(super) async fn remove(State(app): State<App>, Named(host): Named) -> Result<Json<Value>, Problem> {
    let (now_ms, tenant) = (app.clock.now_ms(), app.tenant);
    let all = app.fleet.list(tenant);
    let host = all.iter().find(|a| a.host == host || a.id == host).map(|a| a.host.clone()).ok_or_else(|| Problem::not_found("this host"))?;
    let agents: Vec<Agent> = all.into_iter().filter(|a| a.host == host && !a.removed).collect();
    if agents.iter().any(|agent| agent.state(now_ms) == HostState::Up) {
        return Err(Problem::new(StatusCode::CONFLICT, format!("{host} still delivers: revoke its agent first (`keyvigil agents revoke {host}`)")));
    }
    // First, so that nothing new comes from there meanwhile.
    let is_out = agents.is_empty();
    let (fleet, ids) = (Arc::clone(&app.fleet), agents.into_iter().map(|agent| agent.id).collect::<Vec<_>>());
    let out = move |tx: &Tx<'_>| ids.iter().try_for_each(|id| fleet::change(&fleet, tx, tenant, id, |a| (a.revoked, a.removed) = (true, true)).map(drop));
    app.store.write(out).await?;
    let keys = keys::leave(&app.store, &app.inventory, tenant, &host, now_ms).await?;
    // One that is out already may have left keys behind, where the aggregator was killed half way; if not, there is nothing of it.
    if is_out && keys == 0 {
        return Err(Problem::not_found("this host"));
    }
    Ok(Json(json!({"removed": host, "keys": keys})))
}

/// What each host has, by its name: counted once for all of them.
struct Counts {
    keys: HashMap<String, usize>,
    alerts: HashMap<String, usize>,
}

impl Counts {
    fn of(app: &App) -> Self {
        let (mut keys, mut alerts) = (HashMap::new(), HashMap::new());
        app.inventory.each(app.tenant, |key| {
            // A key may lie in several places of a host.
            let hosts = key.hosts();
            hosts.into_iter().for_each(|host| count(&mut keys, host));
        });
        app.alerts.open().iter().filter_map(|alert| alert.tags.get("host")).for_each(|host| count(&mut alerts, host));
        Self { keys, alerts }
    }
}

fn count(counts: &mut HashMap<String, usize>, host: &str) {
    match counts.get_mut(host) {
        Some(count) => *count += 1,
        None => drop(counts.insert(host.to_owned(), 1)),
    }
}

fn as_json(app: &App, agent: &Agent, counts: &Counts) -> Value {
    let of = |counts: &HashMap<String, usize>| counts.get(&agent.host).copied().unwrap_or(0);
    let (keys, alerts) = (of(&counts.keys), of(&counts.alerts));
    let (facts, now_ms) = (&agent.facts, app.clock.now_ms());
    let unproven = agent.unproven(now_ms);
    let proof = |path: CanaryPath| json!({"path": path, "proven": agent.sight.proven.get(&path), "missing": unproven.contains(&path)});
    let canary: Vec<Value> = agent.sight.canaries.paths().map(proof).collect();
    json!({
        "host": agent.host, "agent": agent.id, "state": agent.state(now_ms), "last_seen": agent.last_seen_ms,
        "last_sample": agent.last_sample_ms, "os": facts.os, "kernel": facts.kernel, "arch": facts.arch, "cpus": facts.cpus,
        "memory_bytes": facts.memory_bytes, "agent_version": facts.agent_version, "enrolled": agent.enrolled_ms,
        "certificate_expires": agent.certificate_expires_ms, "cursor": agent.cursor, "clock_offset_ms": agent.clock_offset_ms, "copies": agent.twins.len(), "blind": agent.unseen(now_ms), "canary": canary, "keys": keys, "alerts": alerts,
    })
}

/// Hosts by state.
pub(super) fn by_state(app: &App) -> Value {
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
        .map(|(id, token)| json!({"id": id, "created": token.created_ms, "expires": token.expires_ms, "uses": token.uses, "used": token.times_used()}))
        .collect();
    Ok(Json(json!({"tokens": tokens})))
}

/// Revokes a join token.
pub(super) async fn revoke_token(State(app): State<App>, Named(id): Named) -> Result<StatusCode, Problem> {
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
