//! HTTP: routes, who may call them, headers. One resource a file; handlers ask the rooms and shape the answer, nothing
//! more. Never: SQL, rules, formats of storage.

mod agents;
mod alerts;
mod assets;
mod auth;
mod body;
mod ca;
mod cbom;
mod enrolled;
mod events;
mod exposition;
mod findings;
mod health;
mod hosts;
mod keys;
pub mod listen;
mod otlp;
mod params;
mod pieces;
mod problem;
mod query;
mod remote;
mod status;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::routing::{delete, get, post, put};
use axum::{Router, middleware};
use keyvigil_common::clock::SharedClock;
use keyvigil_common::config::Secret;
use keyvigil_common::limits::{JSON_BODY_BYTES_MAX, OTLP_BYTES_MAX, REMOTE_WRITE_BYTES_MAX};
use keyvigil_common::stop::Stop;
use keyvigil_common::telemetry::{Number, Registry};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::enroll::Enroll;
use crate::fleet::Fleet;
use crate::index::TenantId;
use crate::ingest::Ingest;
use crate::job::alerts::Alerts;
use crate::job::revocation::Revocations;
use crate::keys::Inventory;
use crate::rotation::Rotation;
use crate::store::Store;
use crate::upkeep::Desk;

const REQUEST: Duration = Duration::from_secs(60);
const CSP: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'";

/// What handlers work with.
#[derive(Debug, Clone)]
pub struct App {
    /// Samples and state.
    pub store: Store,
    /// The door.
    pub ingest: Ingest,
    /// The desk.
    pub enroll: Enroll,
    /// Hosts.
    pub fleet: Arc<Fleet>,
    /// The CA's replacement.
    pub rotation: Arc<Rotation>,
    /// Keys.
    pub inventory: Arc<Inventory>,
    /// Revocation lists.
    pub revocations: Arc<Revocations>,
    /// Alerts and rules.
    pub alerts: Arc<Alerts>,
    /// Time.
    pub clock: SharedClock,
    /// Whoever waits for something is sent away when this ends.
    pub stop: Stop,
    /// Own numbers.
    pub registry: Registry,
    /// The one tenant there is yet.
    pub tenant: TenantId,
    /// Token for changes.
    pub admin_token: Secret,
    /// Whether reading is open to loopback.
    pub open_on_loopback: bool,
    /// `host:port` in join tokens.
    pub advertise: String,
    /// Names of the notification channels.
    pub channels: Vec<String>,
    /// When this process started, Unix ms.
    pub started_ms: i64,
    /// Where work on the whole store is taken on.
    pub upkeep: Desk,
    /// Failed attempts to authenticate.
    pub auth_failures: Number,
}

/// Routes of the API listener, the dashboard included.
pub fn api(app: App) -> Router {
    let v1 = Router::new()
        .route("/status", get(status::status))
        .route("/metrics", post(status::push))
        .route("/query", get(query::query).post(query::query))
        .route("/series", get(query::series))
        .route("/keys", get(keys::list))
        .route("/keys/summary", get(keys::summary))
        .route("/keys/cbom", get(cbom::get))
        .route("/keys/{id}", get(keys::one))
        .route("/keys/{id}/usage", get(keys::usage))
        .route("/findings", get(findings::list))
        .route("/events", get(events::list))
        .route("/gaps", get(events::gaps))
        .route("/hosts", get(hosts::list))
        .route("/hosts/{host}", get(hosts::one).delete(hosts::remove))
        .route("/hosts/{host}/enhance", post(enrolled::begin).delete(enrolled::end))
        .route("/agents", get(enrolled::list))
        .route("/agents/{id}/revoke", post(enrolled::revoke))
        .route("/ca", get(ca::status))
        .route("/ca/{step}", post(ca::step))
        .route("/enroll-tokens", get(hosts::tokens).post(hosts::create_token))
        .route("/enroll-tokens/{id}", delete(hosts::revoke_token))
        .route("/alerts", get(alerts::list))
        .route("/alerts/status", get(alerts::status))
        .route("/alerts/rules", get(alerts::rules).post(alerts::create_rule))
        .route("/alerts/rules/{id}", get(alerts::rule).put(alerts::replace_rule).delete(alerts::delete_rule))
        .route("/alerts/{id}", get(alerts::one))
        .route("/alerts/{id}/acknowledge", put(alerts::acknowledge))
        .layer(middleware::from_fn_with_state(app.clone(), auth::check))
        .layer(DefaultBodyLimit::max(JSON_BODY_BYTES_MAX));
    let foreign = Router::new()
        .route("/otlp/v1/metrics", post(otlp::metrics).layer(DefaultBodyLimit::max(OTLP_BYTES_MAX)))
        .route("/prometheus/api/v1/write", post(remote::write).layer(DefaultBodyLimit::max(REMOTE_WRITE_BYTES_MAX)))
        .layer(middleware::from_fn_with_state(app.clone(), auth::check));
    // Its lines are to be read as they come: no compression collects them.
    let admin = Router::new()
        .route("/api/v1/admin/maintenance", post(upkeep::start).layer(DefaultBodyLimit::max(JSON_BODY_BYTES_MAX)))
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(app.clone(), auth::check))
        .with_state(app.clone());
    let header =
        |name: &'static str, value: &'static str| SetResponseHeaderLayer::if_not_present(HeaderName::from_static(name), HeaderValue::from_static(value));
    Router::new()
        .nest("/api/v1", v1)
        .merge(foreign)
        .fallback(get(assets::serve))
        .method_not_allowed_fallback(no_such_method)
        .with_state(app)
        .layer(CompressionLayer::new())
        .merge(admin)
        .layer(header("content-security-policy", CSP))
        .layer(header("x-content-type-options", "nosniff"))
        .layer(header("referrer-policy", "no-referrer"))
        .layer(header("cache-control", "no-store"))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, REQUEST))
        .layer(CatchPanicLayer::new())
}

async fn no_such_method() -> problem::Problem {
    problem::Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
}

/// Routes of the ingest listener.
pub fn ingest(app: App) -> Router {
    agents::router(app)
}

/// Routes of the metrics listener.
pub fn metrics(app: App) -> Router {
    exposition::router(app)
}

/// Routes of the health listener.
pub fn health(app: App) -> Router {
    health::router(app)
}
