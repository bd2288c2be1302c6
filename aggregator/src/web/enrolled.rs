//! `/api/v1/agents` (who is enrolled, revocation) and `/api/v1/hosts/{host}/enhance`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::body::OrDefault;
use super::params::Named;
use super::problem::Problem;
use crate::fleet::{self, Agent, Enhance};

const ENHANCE_MINUTES_MAX: i64 = 240;
const SENSORS_MAX: usize = 32;
const SENSOR_BYTES_MAX: usize = 64;

/// All agents, the revoked ones too.
pub(super) async fn list(State(app): State<App>) -> Json<Value> {
    let agents: Vec<Value> = app.fleet.list(app.tenant).iter().map(|agent| as_json(&app, agent)).collect();
    Json(json!({"agents": agents}))
}

fn as_json(app: &App, agent: &Agent) -> Value {
    let credentials = &agent.credentials;
    let trusts = keyvigil_common::hex(&app.rotation.trusts());
    json!({
        "agent": agent.id, "host": agent.host, "state": agent.state(app.clock.now_ms()), "revoked": agent.revoked, "enrolled": agent.enrolled_ms,
        "last_seen": agent.last_seen_ms, "certificate_expires": agent.certificate_expires_ms, "certificate_serial": credentials.used.as_ref().map(|u| &u.serial),
        "certificate_issuer": credentials.used.as_ref().map(|u| &u.issuer), "trusts_current_ca": credentials.trusts.as_ref().map(|t| *t == trusts),
        "agent_version": agent.facts.agent_version, "enhanced_until": enhance(app, agent).map(|e| e.until_ms),
    })
}

fn enhance<'a>(app: &App, agent: &'a Agent) -> Option<&'a Enhance> {
    agent.enhance.as_ref().filter(|enhance| enhance.until_ms > app.clock.now_ms())
}

/// Revokes an agent by id or host name: its next request is refused, on connections that are open too.
pub(super) async fn revoke(State(app): State<App>, Named(wanted): Named) -> Result<Json<Value>, Problem> {
    let revoked = app.enroll.revoke(app.tenant, wanted).await?;
    let agents: Vec<Value> = revoked.iter().map(|agent| json!({"agent": agent.id, "host": agent.host})).collect();
    Ok(Json(json!({"revoked": agents})))
}

/// For how long to look closely, and with what.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    minutes: i64,
    sensors: Vec<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { minutes: 10, sensors: Vec::new() }
    }
}

impl Wanted {
    fn check(&self) -> Result<(), Problem> {
        if !(1..=ENHANCE_MINUTES_MAX).contains(&self.minutes) {
            return Err(Problem::bad_request(format!("minutes must be 1 to {ENHANCE_MINUTES_MAX}")));
        }
        let named = |name: &String| (1..=SENSOR_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if self.sensors.len() > SENSORS_MAX || !self.sensors.iter().all(named) {
            return Err(Problem::bad_request(format!("sensors must be up to {SENSORS_MAX} names such as cpu or keystore")));
        }
        Ok(())
    }
}

/// Has a host sample at its shortest intervals for a while.
pub(super) async fn begin(State(app): State<App>, Named(host): Named, OrDefault(wanted): OrDefault<Wanted>) -> Result<Json<Value>, Problem> {
    wanted.check()?;
    let until_ms = app.clock.now_ms() + wanted.minutes * 60_000;
    let agent = order(&app, host, Some(Enhance { sensors: wanted.sensors, until_ms })).await?;
    Ok(Json(json!({"host": agent.host, "agent": agent.id, "until": until_ms, "state": agent.state(app.clock.now_ms()),
        "sensors": agent.enhance.unwrap_or_default().sensors})))
}

/// Ends that early.
pub(super) async fn end(State(app): State<App>, Named(host): Named) -> Result<Json<Value>, Problem> {
    let agent = order(&app, host, None).await?;
    Ok(Json(json!({"host": agent.host, "agent": agent.id, "until": null, "sensors": []})))
}

async fn order(app: &App, host: String, wanted: Option<Enhance>) -> Result<Agent, Problem> {
    let (tenant, fleet) = (app.tenant, app.fleet.clone());
    let agent = fleet.list(tenant).into_iter().find(|a| !a.revoked && (a.host == host || a.id == host)).ok_or_else(|| Problem::not_found("this host"))?;
    Ok(app.store.write(move |tx| fleet::change(&fleet, tx, tenant, &agent.id, move |agent| agent.enhance.clone_from(&wanted))).await?)
}
