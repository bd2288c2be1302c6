//! The ingest listener: joining (no certificate yet), renewal and pushes (with one).

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use keyvigil_common::limits::PUSH_BYTES_MAX;
use keyvigil_common::tls::Shown;
use keyvigil_common::wire;
use serde::Deserialize;
use serde_json::{Value, json};
use tower_http::timeout::TimeoutLayer;

use super::App;
use super::body::{Body, Paced};
use super::listen::Peer;
use super::problem::Problem;
use crate::enroll::{EnrollError, JoinAnswer, JoinRequest};
use crate::ingest::{Lane, Place};

/// Bytes of a join or a renewal.
const JOIN_BYTES_MAX: usize = 16 << 10;
/// A whole request but a push.
const REQUEST: Duration = Duration::from_secs(60);

/// Says that a push drains a backlog, before a byte of it is read.
const LANE: &str = "keyvigil-lane";

/// Routes of the ingest listener.
pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/v1/join", post(join).layer(DefaultBodyLimit::max(JOIN_BYTES_MAX)))
        .route("/v1/renew", post(renew).layer(DefaultBodyLimit::max(JOIN_BYTES_MAX)))
        .route("/v1/whoami", get(whoami))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST))
        // Behind that layer: a slow link may take longer, as long as its bytes keep coming.
        .route("/v1/push", post(push).layer(DefaultBodyLimit::max(PUSH_BYTES_MAX)))
        .with_state(app)
}

/// Where a peer is and what it showed of itself, which may be out of its time.
struct Known(SocketAddr, Shown);

impl FromRequestParts<App> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let missing = "this listener takes data from enrolled agents only: show a client certificate (`keyvigil-agent join TOKEN` gets one)";
        let peer = parts.extensions.get::<Peer>();
        let known = peer.and_then(|peer| peer.shown.clone().map(|shown| Self(peer.address, shown)));
        known.ok_or_else(|| Problem::new(StatusCode::FORBIDDEN, missing))
    }
}

/// An enrolled agent that may deliver, and room for what it sends: decided for each request, before a byte of the body is
/// read, so that a revocation holds for connections that are open.
struct Admitted {
    peer: SocketAddr,
    place: Place,
}

impl FromRequestParts<App> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Known(peer, shown) = Known::from_request_parts(parts, app).await?;
        app.enroll.check(app.tenant, &shown)?;
        let lane = Lane::from_header(parts.headers.get(LANE).and_then(|v| v.to_str().ok()));
        let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let place = app.ingest.admission().admit(&shown.identity, lane, length.unwrap_or(PUSH_BYTES_MAX).min(PUSH_BYTES_MAX))?;
        Ok(Self { peer, place })
    }
}

async fn push(State(app): State<App>, agent: Admitted, Paced(body): Paced) -> Result<Response, Problem> {
    let (ack, version) = app.ingest.push(&agent.place, agent.peer, &body).await?;
    let bytes = wire::encode_ack(&ack, version).map_err(|e| Problem::internal(&e))?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.keyvigil.ack")], bytes).into_response())
}

/// Tells an agent how it stands here: what `keyvigil-agent doctor` asks.
async fn whoami(State(app): State<App>, agent: Admitted) -> Result<Json<Value>, Problem> {
    let known = app.ingest.standing(agent.place.identity()).await?;
    let now_ms = app.clock.now_ms();
    Ok(Json(json!({"host": known.host, "agent": known.id, "now": now_ms, "last_seen": known.last_seen_ms, "clock_offset_ms": known.clock_offset_ms})))
}

async fn join(State(app): State<App>, Extension(peer): Extension<Peer>, Body(request): Body<JoinRequest>) -> Result<Json<JoinAnswer>, Problem> {
    let joined = app.enroll.join(request).await;
    if matches!(joined, Err(EnrollError::Token | EnrollError::Used | EnrollError::Expired)) {
        app.auth_failures.inc();
        tracing::warn!(peer = %peer.address, "join refused");
    }
    Ok(Json(joined?))
}

/// A request for a new certificate.
#[derive(Debug, Deserialize)]
struct Renewal {
    csr: String,
}

/// The one thing that a certificate which has ended is good for.
async fn renew(State(app): State<App>, Known(_, shown): Known, Body(renewal): Body<Renewal>) -> Result<Json<JoinAnswer>, Problem> {
    Ok(Json(app.enroll.renew(app.tenant, &shown, renewal.csr).await?))
}
