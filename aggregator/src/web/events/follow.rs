//! Events as they come: those stored after one that is known, in the order in which they were stored, so that what arrives late is
//! missed as little as what happens now. Who asks again after a cut names the last one it has, and gets each once.

use std::time::Duration;

use axum::Json;
use serde_json::{Value, json};

use super::as_json;
use crate::keys::EventRecord;
use crate::store::ledger::{self, Stored};
use crate::web::App;
use crate::web::params::Params;
use crate::web::problem::Problem;

/// Longest that is waited for one, seconds: below what proxies and clients take for a dead connection.
const WAIT_SECONDS_MAX: usize = 30;
/// Events that are looked through for one answer.
const LOOKED_AT_MAX: usize = 20_000;

/// Where it was looked to, and what was found.
struct Found {
    through: i64,
    events: Vec<Stored<EventRecord>>,
}

/// What is stored after the event `after` (`latest`: from now on); where there is nothing, what comes within `wait` seconds.
pub(super) async fn follow(
    app: &App,
    params: &Params,
    after: &str,
    limit: usize,
    wanted: impl Fn(&EventRecord) -> bool + Clone + Send + 'static,
) -> Result<Json<Value>, Problem> {
    if let Some(name) = ["start_time", "end_time", "cursor"].into_iter().find(|name| params.get(name).is_some()) {
        return Err(Problem::bad_request(format!("{name} has no place beside after")));
    }
    let wait = match params.get("wait") {
        None => 0,
        Some(_) => params.number("wait", 0, WAIT_SECONDS_MAX)?,
    };
    let mut after = match after {
        "latest" => app.store.read(|connection, _| ledger::last_event(connection)).await?,
        id => id.parse::<i64>().map_err(|_| Problem::bad_request("after must be what next_after said, or latest"))?,
    };
    let until = app.clock.monotonic() + Duration::from_secs(wait as u64);
    loop {
        let stored = app.store.event_stored();
        let coming = stored.notified();
        tokio::pin!(coming);
        // From here on nothing that is stored goes unnoticed.
        coming.as_mut().enable();
        let found = look(app, after, limit, wanted.clone()).await?;
        let left = until.saturating_sub(app.clock.monotonic());
        if !found.events.is_empty() || left.is_zero() || app.stop.is_stopped() {
            let events: Vec<Value> = found.events.iter().map(as_json).collect();
            return Ok(Json(json!({"next_after": found.through.to_string(), "events": events})));
        }
        if found.through > after {
            // There may be more right behind what was looked through.
            after = found.through;
            continue;
        }
        tokio::select! {
            () = &mut coming => {}
            () = app.clock.sleep(left) => {}
            () = app.stop.stopped() => {}
        }
    }
}

async fn look(app: &App, after: i64, limit: usize, wanted: impl Fn(&EventRecord) -> bool + Send + 'static) -> Result<Found, Problem> {
    let tenant = app.tenant;
    let select = move |connection: &rusqlite::Connection, ring: &keyvigil_common::seal::KeyRing| {
        let mut found = Found { through: after, events: Vec::new() };
        let mut looked_at = 0;
        let through = ledger::events_after(connection, ring, tenant, &[], after, |stored: Stored<EventRecord>| {
            looked_at += 1;
            if wanted(&stored.record) {
                found.events.push(stored);
            }
            found.events.len() < limit && looked_at < LOOKED_AT_MAX
        })?;
        found.through = through.last;
        Ok(found)
    };
    Ok(app.store.read(select).await?)
}
