//! `/api/v1/keys/cbom`: the inventory as a CycloneDX document.

use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::keys::{apart, is_known, look};
use super::problem::Problem;
use super::{App, params::Params, pieces};
use crate::keys::cbom::{self, Order, Version};

/// The document, sent as it is made.
pub(super) async fn get(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Response, Problem> {
    let params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    params.only(&["version", "host", "trust_store"])?;
    params.once(&["version", "host", "trust_store"])?;
    let wanted = params.get("version").unwrap_or(Version::V1_6.as_str());
    let version = Version::ALL.into_iter().find(|known| known.as_str() == wanted);
    let version = version.ok_or_else(|| Problem::none_of("version", wanted, Version::ALL.map(Version::as_str)))?;
    let trust_store = params.flag("trust_store")?.unwrap_or(false);
    let (keys, found) = look(&app).await?;
    let host = params.get("host").map(str::to_owned);
    if let Some(host) = host.as_ref().filter(|host| !is_known(&app, &keys, host)) {
        return Err(Problem::no_host(host));
    }
    let order = Order { version, host, trust_store, now_ms: app.clock.now_ms() };
    let rows = apart(move || cbom::rows(keys, found, order)).await?;
    let kind = format!("application/vnd.cyclonedx+json; version={}", version.as_str());
    Ok(([(header::CONTENT_TYPE, kind)], pieces::body(rows)).into_response())
}
