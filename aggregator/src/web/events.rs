//! `/api/v1/events`, `/api/v1/gaps`.

mod follow;

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};

use super::keys::{find, is_known, no_key};
use super::problem::Problem;
use super::{App, params::Params};
use crate::ingest::GapRecord;
use crate::keys::{EventRecord, NotFound};
use crate::store::ledger::{self, Stored};
use keyvigil_common::event::EventKind;
use keyvigil_common::limits::PAGE_ROWS_MAX;
use keyvigil_common::wire::Class;

const ROWS_DEFAULT: usize = 100;

/// Events that are wanted, newest first.
pub(super) async fn read(
    app: &App,
    range: (i64, i64),
    before: (i64, i64),
    limit: usize,
    wanted: impl Fn(&EventRecord) -> bool + Send + 'static,
) -> Result<Vec<Stored<EventRecord>>, Problem> {
    let tenant = app.tenant;
    let select = move |connection: &rusqlite::Connection, ring: &keyvigil_common::seal::KeyRing| {
        let mut out: Vec<Stored<EventRecord>> = Vec::new();
        ledger::events(connection, ring, tenant, range, before, |stored: Stored<EventRecord>| {
            if wanted(&stored.record) {
                out.push(stored);
            }
            out.len() < limit
        })?;
        Ok(out)
    };
    Ok(app.store.read(select).await?)
}

/// Events, newest first.
pub(super) async fn list(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    params.only(&["kind", "host", "key", "exe", "user", "unit", "start_time", "end_time", "limit", "cursor", "after", "wait"])?;
    params.once(&["host", "key", "exe", "user", "unit", "start_time", "end_time", "limit", "cursor", "after", "wait"])?;
    let now_ms = app.clock.now_ms();
    let kinds = params
        .list("kind")
        .iter()
        .map(|name| EventKind::from_name(name).ok_or_else(|| Problem::none_of("kind", name, EventKind::ALL.iter().map(|k| k.as_str()))))
        .collect::<Result<Vec<_>, _>>()?;
    let host = params.get("host").map(str::to_owned);
    // A key may have left the inventory, and its events stay: then its whole id is needed.
    let key = match params.get("key").map(|id| (id, app.inventory.find(app.tenant, id))) {
        None => None,
        Some((_, Ok(record))) => Some(record.facts.id.clone()),
        Some((id, Err(NotFound::None))) => Some(id.to_owned()),
        Some((id, Err(why))) => return Err(no_key(id, why)),
    };
    let range = (params.instant("start_time", now_ms)?.unwrap_or(0), params.instant("end_time", now_ms)?.unwrap_or(i64::MAX));
    let limit = params.number("limit", ROWS_DEFAULT, PAGE_ROWS_MAX)?;
    let before = match params.get("cursor") {
        None => (i64::MAX, i64::MAX),
        Some(text) => {
            let parts = text.split_once(':').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
            parts.ok_or_else(|| Problem::bad_request("cursor must be what next_cursor said"))?
        }
    };
    if range.0 > range.1 {
        return Err(Problem::bad_request("start_time lies after end_time"));
    }
    let actor = ["exe", "user", "unit"].map(|name| params.get(name).map(str::to_owned));
    let (of_host, of_key) = (host.clone(), key.clone());
    let wanted = move |event: &EventRecord| {
        (kinds.is_empty() || kinds.contains(&event.kind))
            && of_host.as_ref().is_none_or(|host| *host == event.host)
            && of_key.as_ref().is_none_or(|key| event.key.as_ref() == Some(key))
            && is_of(event, &actor)
    };
    if let Some(after) = params.get("after") {
        return follow::follow(&app, &params, after, limit, wanted).await;
    }
    if params.get("wait").is_some() {
        return Err(Problem::bad_request("wait has no place here without after: it waits for what comes"));
    }
    let events = read(&app, range, before, limit, wanted).await?;
    if events.is_empty() {
        // "Nothing happened" must not be the answer for a host or a key that nobody has heard of.
        if let Some(host) = host.filter(|host| !is_known(&app, &app.inventory.all(app.tenant).1, host)) {
            return Err(Problem::no_host(&host));
        }
        if let Some(key) = key {
            find(&app, &key)?;
        }
    }
    let next = events.last().filter(|_| events.len() == limit).map(|last| format!("{}:{}", last.at_ms, last.id));
    Ok(Json(json!({"next_cursor": next, "events": events.iter().map(as_json).collect::<Vec<_>>()})))
}

/// Whether somebody did it who is meant: a program by its path or the last part of it, a user by name or number, a unit.
fn is_of(event: &EventRecord, [exe, user, unit]: &[Option<String>; 3]) -> bool {
    if exe.is_none() && user.is_none() && unit.is_none() {
        return true;
    }
    let actor = event.actor.as_ref();
    let program = actor.and_then(|actor| actor.exe.as_deref()).or_else(|| event.evidence.get("process").map(String::as_str));
    let of_user = |user: &String| event.evidence.get("user") == Some(user) || actor.and_then(|actor| actor.uid).is_some_and(|uid| uid.to_string() == *user);
    exe.as_ref().is_none_or(|exe| program.is_some_and(|known| known == exe || known.rsplit('/').next() == Some(exe)))
        && user.as_ref().is_none_or(of_user)
        && unit.as_ref().is_none_or(|unit| actor.is_some_and(|actor| actor.unit.as_ref() == Some(unit)))
}

/// An event as the API shows it.
pub(super) fn as_json(stored: &Stored<EventRecord>) -> Value {
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
        return Err(Problem::none_of("class", class, Class::KEPT.map(Class::as_str)));
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
        return Err(Problem::no_host(&host));
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

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::event::{Actor, Event};

    #[test]
    fn who_did_it_is_meant_by_path_or_last_part_name_or_number_and_unit() {
        let actor = Actor { exe: Some("/usr/sbin/nginx".into()), uid: Some(33), unit: Some("nginx.service".into()), ..Actor::default() };
        let evidence = vec![("user".to_owned(), "www-data".to_owned())];
        let event = Event { kind: EventKind::Accessed, at_ms: 0, key_id: None, path: None, actor: Some(actor), message: String::new(), evidence };
        let (event, nobody) = (EventRecord::new("web", event.clone()), EventRecord::new("web", Event { actor: None, evidence: Vec::new(), ..event }));
        let meant = |event: &EventRecord, exe: &str, user: &str, unit: &str| {
            is_of(event, &[exe, user, unit].map(|text| Some(text.to_owned()).filter(|text| !text.is_empty())))
        };
        for (exe, user, unit) in
            [("nginx", "", ""), ("/usr/sbin/nginx", "", ""), ("", "www-data", ""), ("", "33", ""), ("nginx", "33", "nginx.service"), ("", "", "")]
        {
            assert!(meant(&event, exe, user, unit), "{exe} {user} {unit}");
        }
        for (exe, user, unit) in [("ngin", "", ""), ("/usr/bin/nginx", "", ""), ("nginx", "3", ""), ("", "", "ssh.service")] {
            assert!(!meant(&event, exe, user, unit), "{exe} {user} {unit}");
        }
        assert!(!meant(&nobody, "nginx", "", "") && meant(&nobody, "", "", ""), "who is not known is nobody in particular");
    }
}
