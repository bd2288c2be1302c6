//! `/api/v1/keys`, `/api/v1/keys/summary`, `/api/v1/keys/{id}`, `/api/v1/events`, `/api/v1/gaps`.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};

use super::problem::Problem;
use super::{App, params::Params};
use crate::ingest::GapRecord;
use crate::keys::{self, EventRecord, Filter, KeyRecord, PlaceRecord, Sort, Status};
use crate::query::time;
use crate::store::ledger::{self, Stored};
use keyvigil_common::event::EventKind;
use keyvigil_common::limits::PAGE_ROWS_MAX;
use keyvigil_common::wire::Class;

const ROWS_DEFAULT: usize = 100;
/// Events shown with a key.
const KEY_EVENTS: usize = 50;

fn instant(params: &Params, name: &str, now_ms: i64) -> Result<Option<i64>, Problem> {
    let parse = |text| time::parse(text, now_ms).map_err(|e| Problem::bad_request(format!("{name}: {e}")));
    params.get(name).map(parse).transpose()
}

/// A page of the inventory.
pub(super) async fn list(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    params.only(&["host", "kind", "algorithm", "status", "expires_before", "trust_store", "search", "sort", "limit", "cursor"])?;
    let now_ms = app.clock.now_ms();
    if let Some(unknown) = params.list("status").iter().find(|name| !Status::ALL.iter().any(|status| status.as_str() == *name)) {
        return Err(none_of("status", unknown, Status::ALL.map(Status::as_str)));
    }
    let owned = |name: &str| params.get(name).map(str::to_owned);
    let filter = Filter {
        host: owned("host"),
        kinds: params.list("kind"),
        algorithm: owned("algorithm"),
        statuses: params.list("status"),
        expires_before_ms: instant(&params, "expires_before", now_ms)?,
        trust_store: match params.get("trust_store") {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) => return Err(Problem::bad_request("trust_store must be true or false")),
        },
        search: owned("search"),
    };
    let sort = params.parse::<Sort>("sort")?.unwrap_or("not_after".parse().map_err(Problem::bad_request)?);
    let limit = params.number("limit", ROWS_DEFAULT, PAGE_ROWS_MAX)?;
    let from = match params.get("cursor") {
        None => 0,
        Some(text) => text.parse().map_err(|_| Problem::bad_request("cursor must be what next_cursor said"))?,
    };
    let page = app.inventory.page(app.tenant, &filter, sort, from, limit, now_ms);
    let keys: Vec<Value> = page.keys.iter().map(|key| as_json(key, now_ms)).collect();
    Ok(Json(json!({"total": page.total, "next_cursor": page.next.map(|n| n.to_string()), "keys": keys})))
}

/// Figures over all keys.
pub(super) async fn summary(State(app): State<App>) -> Json<keys::Summary> {
    Json(keys::summary(&app.inventory, app.tenant, app.clock.now_ms()))
}

/// One key, what belongs to it, and what happened to it.
pub(super) async fn one(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let now_ms = app.clock.now_ms();
    let key = app.inventory.find(app.tenant, &id).ok_or_else(|| Problem::not_found("this key"))?;
    let related: Vec<Value> = app.inventory.related(app.tenant, &key).iter().map(|k| as_json(k, now_ms)).collect();
    let wanted = key.facts.id.clone();
    let events = read_events(&app, (0, i64::MAX), (i64::MAX, i64::MAX), KEY_EVENTS, move |event| event.key.as_deref() == Some(&wanted)).await?;
    let events: Vec<Value> = events.iter().map(event_json).collect();
    Ok(Json(json!({"key": as_json(&key, now_ms), "related": related, "events": events})))
}

/// A key as the API shows it.
fn as_json(key: &KeyRecord, now_ms: i64) -> Value {
    let facts = &key.facts;
    json!({
        "id": facts.id, "fingerprint": facts.fingerprint, "kind": facts.kind, "algorithm": facts.algorithm, "bits": facts.bits, "curve": facts.curve,
        "signature_algorithm": facts.signature_algorithm, "not_before": facts.not_before_ms, "not_after": facts.not_after_ms,
        "subject": facts.subject, "issuer": facts.issuer, "sans": facts.sans, "serial": facts.serial, "is_ca": facts.is_ca,
        "encrypted": facts.encrypted, "kdf": facts.kdf, "status": key.status(now_ms), "trust_store": key.is_trust_store(),
        "first_seen": key.first_seen_ms, "last_seen": key.last_seen_ms, "last_used": key.last_used_ms,
        "revoked": key.revoked_ms, "revoked_by": key.revoked_by,
        "replaces": key.replaces, "replaced_by": key.replaced_by,
        "places": key.places.iter().map(place_json).collect::<Vec<_>>(),
    })
}

fn place_json(at: &PlaceRecord) -> Value {
    let place = &at.place;
    json!({"host": at.host, "path": place.path, "slot": place.slot, "owner": place.owner, "group": place.group,
           "mode": place.mode.map(|m| format!("{m:04o}")), "modified": place.modified_ms,
           "first_seen": at.first_seen_ms, "last_seen": at.last_seen_ms, "gone": at.gone})
}

async fn read_events(
    app: &App,
    range: (i64, i64),
    before: (i64, i64),
    limit: usize,
    wanted: impl Fn(&EventRecord) -> bool + Send + 'static,
) -> Result<Vec<Stored<EventRecord>>, Problem> {
    let tenant = app.tenant;
    let read = move |connection: &rusqlite::Connection, ring: &keyvigil_common::seal::KeyRing| {
        let mut out: Vec<Stored<EventRecord>> = Vec::new();
        ledger::events(connection, ring, tenant, range, before, |stored: Stored<EventRecord>| {
            if wanted(&stored.record) {
                out.push(stored);
            }
            out.len() < limit
        })?;
        Ok(out)
    };
    Ok(app.store.read(read).await?)
}

/// Events, newest first.
pub(super) async fn events(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    params.only(&["kind", "host", "key", "start_time", "end_time", "limit", "cursor"])?;
    let now_ms = app.clock.now_ms();
    let kinds = params
        .list("kind")
        .iter()
        .map(|name| EventKind::from_name(name).ok_or_else(|| none_of("kind", name, EventKind::ALL.iter().map(|k| k.as_str()))))
        .collect::<Result<Vec<_>, _>>()?;
    let (host, key) = (params.get("host").map(str::to_owned), params.get("key").map(str::to_owned));
    let range = (instant(&params, "start_time", now_ms)?.unwrap_or(0), instant(&params, "end_time", now_ms)?.unwrap_or(i64::MAX));
    let limit = params.number("limit", ROWS_DEFAULT, PAGE_ROWS_MAX)?;
    let before = match params.get("cursor") {
        None => (i64::MAX, i64::MAX),
        Some(text) => {
            let parts = text.split_once(':').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
            parts.ok_or_else(|| Problem::bad_request("cursor must be what next_cursor said"))?
        }
    };
    let wanted = move |event: &EventRecord| {
        (kinds.is_empty() || kinds.contains(&event.kind))
            && host.as_ref().is_none_or(|host| *host == event.host)
            && key.as_ref().is_none_or(|key| event.key.as_ref() == Some(key))
    };
    let events = read_events(&app, range, before, limit, wanted).await?;
    let next = events.last().filter(|_| events.len() == limit).map(|last| format!("{}:{}", last.at_ms, last.id));
    Ok(Json(json!({"next_cursor": next, "events": events.iter().map(event_json).collect::<Vec<_>>()})))
}

fn none_of(what: &str, given: &str, names: impl IntoIterator<Item = &'static str>) -> Problem {
    Problem::bad_request(format!("{what} {given:?} is none of: {}", names.into_iter().collect::<Vec<_>>().join(" ")))
}

fn event_json(stored: &Stored<EventRecord>) -> Value {
    let event = &stored.record;
    json!({"id": stored.id.to_string(), "kind": event.kind, "time": event.at_ms, "host": event.host, "key": event.key, "path": event.path,
           "actor": event.actor, "message": event.message, "evidence": event.evidence})
}

/// Declared losses, newest first.
pub(super) async fn gaps(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    params.only(&["host", "class", "limit", "cursor"])?;
    let (tenant, limit) = (app.tenant, params.number("limit", ROWS_DEFAULT, PAGE_ROWS_MAX)?);
    let (host, class) = (params.get("host").map(str::to_owned), params.get("class").map(str::to_owned));
    if let Some(class) = class.as_ref().filter(|class| !Class::KEPT.iter().any(|known| known.as_str() == **class)) {
        return Err(none_of("class", class, Class::KEPT.map(Class::as_str)));
    }
    // "Nothing was lost" must not be the answer for a host that was never heard of.
    let stranger = host.clone().filter(|host| !app.fleet.list(app.tenant).iter().any(|agent| agent.host == *host));
    let before = match params.get("cursor") {
        None => i64::MAX,
        Some(text) => text.parse().map_err(|_| Problem::bad_request("cursor must be what next_cursor said"))?,
    };
    let read = move |connection: &rusqlite::Connection, ring: &keyvigil_common::seal::KeyRing| {
        let mut out = Vec::new();
        ledger::gaps(connection, ring, tenant, before, |stored: Stored<GapRecord>| {
            let gap = &stored.record;
            if host.as_ref().is_none_or(|host| *host == gap.host) && class.as_ref().is_none_or(|class| *class == gap.class) {
                out.push(stored);
            }
            out.len() < limit
        })?;
        Ok(out)
    };
    let gaps: Vec<Stored<GapRecord>> = app.store.read(read).await?;
    if let Some(host) = stranger.filter(|_| gaps.is_empty()) {
        return Err(Problem::not_found(&format!("a host {host:?}")));
    }
    let next = gaps.last().filter(|_| gaps.len() == limit).map(|last| last.id.to_string());
    let gaps: Vec<Value> = gaps
        .iter()
        .map(|Stored { record: gap, .. }| {
            json!({"host": gap.host, "class": gap.class, "cause": gap.cause, "first_seq": gap.first_seq, "last_seq": gap.last_seq,
                   "items": gap.known_items(), "time": gap.at_ms, "epoch": gap.epoch})
        })
        .collect();
    Ok(Json(json!({"next_cursor": next, "gaps": gaps})))
}
