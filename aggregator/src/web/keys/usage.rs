//! `/api/v1/keys/{id}/usage`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use keyvigil_common::config::Period;
use serde_json::{Value, json};

use super::{apart, find};
use crate::index::Selector;
use crate::keys::KeyRecord;
use crate::keys::usage::{self, Counter, Usage};
use crate::query::uses::{self, Asked};
use crate::web::App;
use crate::web::params::{Named, Params};
use crate::web::problem::Problem;

const DAY_MS: i64 = 86_400_000;
const RANGE_DAYS: i64 = 30;
/// Buckets that a range has where no interval is asked for, at most.
const BUCKETS: i64 = 60;
/// Lengths that such an interval may have, ms.
const WIDTHS: [i64; 9] = [60_000, 300_000, 900_000, 3_600_000, 6 * 3_600_000, DAY_MS, 7 * DAY_MS, 30 * DAY_MS, 365 * DAY_MS];
/// Counters that are added up for one key at most.
const SERIES_MAX: usize = 10_000;
/// Actors that are told.
const ACTORS_MAX: usize = 100;
/// Buckets that may be asked for.
const BUCKETS_MAX: usize = 1_000;

/// Who used a key, and how much; what nobody observes is unknown.
pub(in crate::web) async fn usage(State(app): State<App>, Named(id): Named, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    params.only(&["start_time", "end_time", "interval"])?;
    params.once(&["start_time", "end_time", "interval"])?;
    let now_ms = app.clock.now_ms();
    let key = find(&app, &id)?;
    let to_ms = params.instant("end_time", now_ms)?.unwrap_or(now_ms);
    let from_ms = params.instant("start_time", now_ms)?.unwrap_or(to_ms.saturating_sub(RANGE_DAYS * DAY_MS));
    if from_ms > to_ms {
        return Err(Problem::bad_request("start_time lies after end_time"));
    }
    let span = to_ms.saturating_sub(from_ms);
    let fits = || WIDTHS.into_iter().find(|width| span / width < BUCKETS).unwrap_or(span);
    let interval_ms = params.parse::<Period>("interval")?.map_or_else(fits, Period::as_ms);
    if interval_ms == 0 {
        return Err(Problem::bad_request("interval: a range is not divided by nothing: write 1h or 1d"));
    }
    if usize::try_from(span / interval_ms).unwrap_or(usize::MAX) >= BUCKETS_MAX {
        return Err(Problem::bad_request(format!("that is more than {BUCKETS_MAX} intervals: use a longer interval or a shorter range")));
    }
    let (inventory, tenant, of) = (Arc::clone(&app.inventory), app.tenant, Arc::clone(&key));
    let (ids, keys) = apart(move || {
        let ids = usage::ids(&inventory, tenant, &of);
        let keys: Vec<Arc<KeyRecord>> = ids.iter().filter_map(|id| inventory.find(tenant, id).ok()).collect();
        (ids, keys)
    })
    .await?;
    let counted = uses::count(&app.store, &Asked { tenant, selector: selector(&ids)?, from_ms, to_ms, interval_ms, series_max: SERIES_MAX }).await?;
    let counters = counted.rows.iter().map(|row| Counter {
        metric_id: &row.series.metric_id,
        tags: &row.series.tags,
        total: row.total,
        span: (row.first_ms, row.last_ms),
        buckets: &row.buckets,
    });
    let lies = usage::hosts(keys.iter().map(AsRef::as_ref));
    let usage = Usage::of(&lies, &app.inventory.observed(tenant), counters, counted.times.len(), (from_ms, now_ms));
    let last = keys.iter().filter(|key| key.last_used_ms.is_some()).max_by_key(|key| key.last_used_ms);
    let series: BTreeMap<&str, Vec<(i64, u64)>> =
        usage.series.iter().map(|(word, values)| (*word, counted.times.iter().copied().zip(values.iter().copied()).collect())).collect();
    let roles: BTreeSet<&str> = key.live().map(|p| p.place.role.as_str()).collect();
    let actors_total = usage.actors.len();
    Ok(Json(json!({
        "key": key.facts.id, "keys": ids, "roles": roles, "start_time": from_ms, "end_time": to_ms, "interval_ms": interval_ms,
        "observed": usage.observed, "observed_since": usage.observed_since, "reasons": usage.reasons,
        "last_used": last.and_then(|key| key.last_used_ms), "last_used_by": last.and_then(|key| key.last_used_by.clone()),
        "count": usage.count, "hosts": usage.hosts, "actors": usage.actors.into_iter().take(ACTORS_MAX).collect::<Vec<_>>(), "actors_total": actors_total,
        "series": series, "complete": counted.exact && !counted.truncated,
    })))
}

/// What is counted of any of the ids.
fn selector(ids: &BTreeSet<String>) -> Result<Selector, Problem> {
    // Ids are 64 hex digits, and what an agent made of something else is no expression.
    let alternatives: Vec<String> = ids.iter().map(|id| regex::escape(id)).collect();
    let tag = match alternatives.as_slice() {
        [one] if ids.contains(one) => format!("key:{one}"),
        many => format!("key:~{}", many.join("|")),
    };
    Selector::parse(&usage::pattern(), [tag.as_str()]).map_err(Problem::bad_request)
}
