//! The ingest listener: joining (no certificate yet), renewal and pushes (with one).

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use keyvigil_common::limits::PUSH_BYTES_MAX;
use keyvigil_common::tls::Identity;
use keyvigil_common::wire;
use serde::Deserialize;
use tower_http::timeout::TimeoutLayer;

use super::App;
use super::listen::Peer;
use super::problem::Problem;
use crate::enroll::{EnrollError, JoinAnswer, JoinRequest};

/// Bytes of a join or a renewal.
const JOIN_BYTES_MAX: usize = 64 << 10;
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

fn identity(peer: Peer) -> Result<Identity, Problem> {
    let missing = "this listener takes data from enrolled agents only: show a client certificate (`keyvigil-agent join TOKEN` gets one)";
    peer.identity.ok_or_else(|| Problem::new(StatusCode::FORBIDDEN, missing))
}

async fn push(State(app): State<App>, Extension(peer): Extension<Peer>, body: Bytes) -> Result<Response, Problem> {
    let ack = app.ingest.push(&identity(peer)?, &body).await?;
    let bytes = wire::encode_ack(&ack).map_err(|e| Problem::internal(&e))?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.keyvigil.ack")], bytes).into_response())
}

async fn join(State(app): State<App>, Extension(peer): Extension<Peer>, Json(request): Json<JoinRequest>) -> Result<Json<JoinAnswer>, Problem> {
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

async fn renew(State(app): State<App>, Extension(peer): Extension<Peer>, Json(renewal): Json<Renewal>) -> Result<Json<JoinAnswer>, Problem> {
    Ok(Json(app.enroll.renew(app.tenant, &identity(peer)?, renewal.csr).await?))
}
