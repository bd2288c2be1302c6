//! The dashboard, out of the binary. Where it was not built, the page says how to build it. Paths that are not assets are
//! the page's own addresses and get its first document.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use rust_embed::RustEmbed;

use super::App;

#[derive(RustEmbed)]
#[folder = "dashboard/dist"]
#[allow_missing = true]
struct Dist;

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Keyvigil</title><h1>The dashboard is not in this binary</h1>\
    <p>It was built without Node.js. Install Node.js 18 or newer, then run <code>make dashboard</code> and build again, or just <code>make run</code>.</p>\
    <p>The API works: <a href=\"/api/v1/status\">/api/v1/status</a>.</p></html>";

/// Whether the dashboard is in the binary.
pub(super) fn is_built() -> bool {
    Dist::get("index.html").is_some()
}

/// Serves a file of the dashboard, or its first document.
pub(super) async fn serve(State(_app): State<App>, uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path.starts_with("api/") {
        return super::problem::Problem::not_found("this API path").into_response();
    }
    let (name, file) = match Dist::get(path).filter(|_| !path.is_empty()) {
        Some(file) => (path, file),
        None if path.starts_with("assets/") => return (StatusCode::NOT_FOUND, "no such asset").into_response(),
        None => match Dist::get("index.html") {
            Some(file) => ("index.html", file),
            None => return (StatusCode::OK, Html(NOT_BUILT)).into_response(),
        },
    };
    // Assets carry a hash of their content in their name.
    let cache = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let kind = HeaderValue::from_str(file.metadata.mimetype()).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static(cache))], file.data.into_owned()).into_response()
}
