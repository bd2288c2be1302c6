//! The ingest listener: joining (no certificate yet), renewal and pushes (with one).

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use keyvigil_common::limits::PUSH_BYTES_MAX;
use keyvigil_common::tls::Shown;
use keyvigil_common::wire;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tower_http::timeout::TimeoutLayer;

use super::App;
use super::body::Body;
use super::listen::Peer;
use super::problem::Problem;
use crate::enroll::{EnrollError, JoinAnswer, JoinRequest};

/// Bytes of a join or a renewal.
const JOIN_BYTES_MAX: usize = 16 << 10;
/// A whole request, a slow sender's body included.
const REQUEST: Duration = Duration::from_secs(60);

/// Routes of the ingest listener.
pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/v1/push", post(push).layer(DefaultBodyLimit::max(PUSH_BYTES_MAX)))
        .route("/v1/join", post(join).layer(DefaultBodyLimit::max(JOIN_BYTES_MAX)))
        .route("/v1/renew", post(renew).layer(DefaultBodyLimit::max(JOIN_BYTES_MAX)))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST))
        .with_state(app)
}

/// What a peer showed of itself, which may be out of its time.
struct Known(Shown);

impl FromRequestParts<App> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let missing = "this listener takes data from enrolled agents only: show a client certificate (`keyvigil-agent join TOKEN` gets one)";
        let shown = parts.extensions.get::<Peer>().and_then(|peer| peer.shown.clone());
        shown.map(Self).ok_or_else(|| Problem::new(StatusCode::FORBIDDEN, missing))
    }
}

/// An enrolled agent that may deliver, and room for what it sends: decided for each request, before a byte of the body is
/// read, so that a revocation holds for connections that are open.
struct Admitted {
    shown: Shown,
    _room: OwnedSemaphorePermit,
}

impl FromRequestParts<App> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Known(shown) = Known::from_request_parts(parts, app).await?;
        app.enroll.check(app.tenant, &shown)?;
        let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let room = app.ingest.room(length.unwrap_or(PUSH_BYTES_MAX).min(PUSH_BYTES_MAX))?;
        Ok(Self { shown, _room: room })
    }
}

async fn push(State(app): State<App>, agent: Admitted, body: Bytes) -> Result<Response, Problem> {
    let (ack, version) = app.ingest.push(&agent.shown.identity, &body).await?;
    let bytes = wire::encode_ack(&ack, version).map_err(|e| Problem::internal(&e))?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.keyvigil.ack")], bytes).into_response())
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
async fn renew(State(app): State<App>, Known(shown): Known, Body(renewal): Body<Renewal>) -> Result<Json<JoinAnswer>, Problem> {
    Ok(Json(app.enroll.renew(app.tenant, &shown, renewal.csr).await?))
}
