//! Who may ask what of the API: the admin token for every change; reading is open on loopback to requests that name a
//! loopback host (a page of another site, or a name rebound to 127.0.0.1, does not).

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use keyvigil_common::telemetry::Number;

use super::App;
use super::listen::Peer;
use super::problem::Problem;

/// Whose hands a request is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Admin,
    /// Somebody on this machine.
    Local,
    Nobody,
    Wrong,
}

/// Lets a request pass or refuses it.
pub(super) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let caller = caller(&app, &request);
    let reading = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) || is_question(&request);
    let refused = match caller {
        Caller::Admin => None,
        Caller::Local if reading => None,
        Caller::Local | Caller::Nobody => Some("send the admin token: `Authorization: Bearer TOKEN` (file admin.token in the state directory)"),
        Caller::Wrong => Some("the credential is not valid"),
    };
    match refused {
        None => next.run(request).await,
        Some(detail) => {
            count(&app.auth_failures, caller);
            let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            response
        }
    }
}

/// A wrong credential is an attempt; a missing one is a question of how.
fn count(failures: &Number, caller: Caller) {
    if caller == Caller::Wrong {
        failures.inc();
    }
}

/// A query may come as POST because it is long; it changes nothing. The path is what follows `/api/v1`.
fn is_question(request: &Request) -> bool {
    request.method() == Method::POST && request.uri().path() == "/query"
}

fn caller(app: &App, request: &Request) -> Caller {
    if let Some(given) = credential(request.headers()) {
        let matches = aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), app.admin_token.expose().as_bytes()).is_ok();
        return if matches { Caller::Admin } else { Caller::Wrong };
    }
    let local_peer = request.extensions().get::<Peer>().is_some_and(|peer| peer.address.ip().to_canonical().is_loopback());
    if app.open_on_loopback && local_peer && names_loopback(request.headers()) && !came_through_proxy(request.headers()) {
        Caller::Local
    } else {
        Caller::Nobody
    }
}

/// A proxy's peer is local too; who stands before it is not.
fn came_through_proxy(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name))
}

fn credential(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
    bearer.or_else(|| headers.get("x-api-key").and_then(|v| v.to_str().ok())).map(str::trim)
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|v| v.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
