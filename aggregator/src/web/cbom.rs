//! `/api/v1/keys/cbom`: the inventory as a CycloneDX document.

use std::collections::HashMap;

use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::keys::{apart, is_known, look};
use super::problem::Problem;
use super::{App, params::Params, pieces};
use crate::index::Selector;
use crate::keys::cbom::{self, Order, Version};
use crate::keys::usage;
use crate::query::{self, QueryError, uses::Asked};

/// Over how long uses are counted, ms.
const USES_MS: i64 = 30 * 86_400_000;
/// Counters of uses that are added up at most.
const SERIES_MAX: usize = 100_000;

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
    let now_ms = app.clock.now_ms();
    let (uses_since_ms, uses) = uses(&app, now_ms).await?;
    let order = Order { version, host, trust_store, now_ms, uses_since_ms, uses };
    let rows = apart(move || cbom::rows(keys, found, order)).await?;
    let kind = format!("application/vnd.cyclonedx+json; version={}", version.as_str());
    Ok(([(header::CONTENT_TYPE, kind)], pieces::body(rows)).into_response())
}

/// How often each key was used of late, and since when that is counted; `None` where it takes too long or is too much to count: the
/// document is made without it.
async fn uses(app: &App, now_ms: i64) -> Result<(i64, Option<HashMap<String, u64>>), Problem> {
    let from_ms = now_ms - USES_MS;
    let selector = Selector::parse(&usage::pattern(), ["key:~.+"]).map_err(Problem::bad_request)?;
    let asked = Asked { tenant: app.tenant, selector, from_ms, to_ms: now_ms, interval_ms: USES_MS, series_max: SERIES_MAX };
    let counted = match query::uses::count(&app.store, &asked).await {
        Ok(counted) if !counted.truncated => counted,
        Ok(_) | Err(QueryError::Invalid(_)) => return Ok((from_ms, None)),
        Err(error) => return Err(error.into()),
    };
    let mut uses = HashMap::new();
    for row in counted.rows.iter().filter(|row| usage::is_use(&row.series.metric_id)) {
        if let Some(key) = row.series.tags.get("key") {
            *uses.entry(key.to_owned()).or_default() += row.total.round() as u64;
        }
    }
    Ok((from_ms, Some(uses)))
}
