//! `/api/v1/keys`, `/api/v1/keys/summary`, `/api/v1/keys/{id}`, `/api/v1/keys/{id}/usage`.

mod csv;
mod json;
mod usage;

use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub(super) use usage::usage;

use super::params::{Named, NoParams, Params};
use super::problem::{Problem, shown};
use super::{App, events, findings, pieces};
use crate::keys::{self, Cursor, Filter, Findings, KeyRecord, NotFound, PREFIX_MIN, Sort, Status, UsedWhen, name};
use crate::query::time;
use keyvigil_common::finding::FindingKind;
use keyvigil_common::key::{KeyKind, Role};
use keyvigil_common::limits::PAGE_ROWS_MAX;

const ROWS_DEFAULT: usize = 100;
/// Events shown with a key.
const KEY_EVENTS: usize = 50;
const FILTERS: &[&str] = &[
    "host",
    "kind",
    "algorithm",
    "status",
    "expires_before",
    "finding",
    "role",
    "file_format",
    "trust_store",
    "used",
    "search",
    "sort",
    "limit",
    "cursor",
    "format",
];
/// What keys and certificates are made with, as far as there are names for it.
const ALGORITHMS: &[&str] =
    &["rsa", "rsa-pss", "ec", "dsa", "dh", "x25519", "x448", "ed25519", "ed448", "ed25519-sk", "ecdsa-sk", "elgamal", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"];
/// Forms of files.
const FORMATS: &[&str] = &[
    "pem",
    "der",
    "pkcs12",
    "jks",
    "jceks",
    "openssh",
    "authorized_keys",
    "known_hosts",
    "openpgp",
    "keybox",
    "kubeconfig",
    "jwks",
    "wireguard",
    "krl",
    "keyring",
    "tls",
];

/// All keys, and what was found about them.
pub(super) async fn look(app: &App) -> Result<(Vec<Arc<KeyRecord>>, Arc<Findings>), Problem> {
    let (inventory, tenant, clock) = (Arc::clone(&app.inventory), app.tenant, app.clock.clone());
    apart(move || (inventory.all(tenant).1, inventory.findings(tenant, &clock))).await
}

/// Work over the whole inventory, off the threads that serve.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Problem::internal(&e))
}

/// A page of the inventory; as CSV all of it.
pub(super) async fn list(State(app): State<App>, headers: HeaderMap, RawQuery(raw): RawQuery) -> Result<Response, Problem> {
    let params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    params.only(FILTERS)?;
    params.once(&["host", "expires_before", "trust_store", "used", "search", "sort", "limit", "cursor", "format"])?;
    let as_csv = wants_csv(&params, &headers)?;
    let now_ms = app.clock.now_ms();
    let (keys, found) = look(&app).await?;
    let filter = filter(&app, &params, &keys)?;
    let sort = params.parse::<Sort>("sort")?.unwrap_or("not_after".parse().map_err(Problem::bad_request)?);
    if as_csv {
        if let Some(name) = ["limit", "cursor"].into_iter().find(|name| params.get(name).is_some()) {
            return Err(Problem::bad_request(format!("{name} has no place here: CSV holds all rows")));
        }
        let page = apart({
            let found = Arc::clone(&found);
            move || keys::page(&keys, &found, &filter, sort, None, usize::MAX, now_ms)
        })
        .await?;
        let rows = csv::rows(page.keys, found, now_ms);
        let name = "attachment; filename=\"keys.csv\"";
        return Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8"), (header::CONTENT_DISPOSITION, name)], pieces::body(rows)).into_response());
    }
    let limit = params.number("limit", ROWS_DEFAULT, PAGE_ROWS_MAX)?;
    let cursor = match params.get("cursor") {
        None => None,
        Some(text) => Some(Cursor::decode(text, sort).ok_or_else(|| Problem::bad_request("cursor must be what next_cursor said, with the same sort"))?),
    };
    let answer = apart(move || {
        let page = keys::page(&keys, &found, &filter, sort, cursor.as_ref(), limit, now_ms);
        let rows: Vec<Value> = page.keys.iter().map(|key| json::listed(key, filter.host.as_deref(), &found, now_ms)).collect();
        json!({"total": page.total, "next_cursor": page.next.map(|cursor| cursor.encode(sort)), "found_at": found.at_ms, "keys": rows})
    });
    Ok(Json(answer.await?).into_response())
}

/// Whether the answer is to be CSV: `format` says so, else `Accept`.
fn wants_csv(params: &Params, headers: &HeaderMap) -> Result<bool, Problem> {
    match params.get("format") {
        None => Ok(headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("text/csv"))),
        Some("csv") => Ok(true),
        Some("json") => Ok(false),
        Some(other) => Err(Problem::none_of("format", other, ["json", "csv"])),
    }
}

fn filter(app: &App, params: &Params, keys: &[Arc<KeyRecord>]) -> Result<Filter, Problem> {
    let words = |name: &str, known: &[&'static str], there: &dyn Fn(&str) -> bool| {
        let wanted = params.list(name);
        match wanted.iter().find(|word| !known.contains(&word.as_str()) && !there(word)) {
            Some(unknown) => Err(Problem::none_of(name, unknown, known.iter().copied())),
            None => Ok(wanted),
        }
    };
    let host = params.get("host").map(str::to_owned);
    if let Some(host) = host.as_ref().filter(|host| !is_known(app, keys, host)) {
        return Err(Problem::no_host(host));
    }
    Ok(Filter {
        host,
        kinds: named(params, "kind", &KeyKind::ALL, KeyKind::as_str)?,
        algorithms: words("algorithm", ALGORITHMS, &|word| keys.iter().any(|key| key.facts.algorithm == *word))?,
        statuses: each::<Status>(params, "status")?,
        expires_before_ms: params.instant("expires_before", app.clock.now_ms())?,
        findings: each::<FindingKind>(params, "finding")?.into_iter().fold(0, |bits, kind| bits | kind.bit()),
        roles: named(params, "role", &[Role::Held, Role::Trusted, Role::Authorized, Role::Peer, Role::Served], Role::as_str)?,
        formats: words("file_format", FORMATS, &|_| false)?,
        trust_store: params.flag("trust_store")?,
        used: used(params, app.clock.now_ms())?,
        search: params.get("search").map(str::to_owned),
    })
}

/// `never`, `unknown`, `before:TIME`, `since:TIME`.
fn used(params: &Params, now_ms: i64) -> Result<Option<UsedWhen>, Problem> {
    let Some(text) = params.get("used") else { return Ok(None) };
    let at = |time| time::parse(time, now_ms).map_err(|e| Problem::bad_request(format!("used: {e}")));
    match (text, text.split_once(':')) {
        ("never", _) => Ok(Some(UsedWhen::Never)),
        ("unknown", _) => Ok(Some(UsedWhen::Unknown)),
        (_, Some(("before", time))) => Ok(Some(UsedWhen::Before(at(time)?))),
        (_, Some(("since", time))) => Ok(Some(UsedWhen::Since(at(time)?))),
        _ => Err(Problem::none_of("used", text, ["never", "unknown", "before:TIME", "since:TIME"])),
    }
}

pub(super) fn is_known(app: &App, keys: &[Arc<KeyRecord>], host: &str) -> bool {
    app.fleet.list(app.tenant).iter().any(|agent| agent.host == host) || keys.iter().any(|key| key.places.on(host).next().is_some())
}

/// Words of a list, each read.
pub(super) fn each<T: FromStr<Err = String>>(params: &Params, name: &str) -> Result<Vec<T>, Problem> {
    params.list(name).iter().map(|word| word.parse().map_err(|e| Problem::bad_request(format!("{name} {e}")))).collect()
}

fn named<T: Copy>(params: &Params, name: &str, all: &[T], word_of: impl Fn(T) -> &'static str) -> Result<Vec<T>, Problem> {
    let read = |word: &String| {
        all.iter().copied().find(|known| word_of(*known) == word).ok_or_else(|| Problem::none_of(name, word, all.iter().map(|known| word_of(*known))))
    };
    params.list(name).iter().map(read).collect()
}

/// Figures over all keys.
pub(super) async fn summary(State(app): State<App>, _: NoParams) -> Result<Json<keys::Summary>, Problem> {
    let (keys, found) = look(&app).await?;
    let now_ms = app.clock.now_ms();
    Ok(Json(apart(move || keys::summary(&keys, &found, now_ms)).await?))
}

/// The key that `id` means.
pub(super) fn find(app: &App, id: &str) -> Result<Arc<KeyRecord>, Problem> {
    app.inventory.find(app.tenant, id).map_err(|why| no_key(id, why))
}

pub(super) fn no_key(id: &str, why: NotFound) -> Problem {
    let id = shown(id);
    match why {
        NotFound::None => Problem::new(StatusCode::NOT_FOUND, format!("no key has the id or fingerprint {id:?}, or one that begins so")),
        NotFound::Short => {
            let detail = format!("no key has the id or fingerprint {id:?}; of one that begins so, write at least {PREFIX_MIN} characters");
            Problem::new(StatusCode::NOT_FOUND, detail)
        }
        NotFound::Ambiguous(many, first) => {
            let candidates: Vec<Value> =
                first.iter().map(|key| json!({"id": key.facts.id, "fingerprint": key.facts.fingerprint, "kind": key.facts.kind, "name": name(key)})).collect();
            let problem = Problem::new(StatusCode::CONFLICT, format!("{many} keys begin with {id:?}: write more of it"));
            problem.with("code", "ambiguous").with("candidates", candidates)
        }
    }
}

/// One key, what is wrong with it, what belongs to it, and what happened to it.
pub(super) async fn one(State(app): State<App>, Named(id): Named, _: NoParams) -> Result<Json<Value>, Problem> {
    let now_ms = app.clock.now_ms();
    let key = find(&app, &id)?;
    let (_, found) = look(&app).await?;
    let related: Vec<Value> = app.inventory.related(app.tenant, &key).iter().map(|k| json::listed(k, None, &found, now_ms)).collect();
    let wanted = key.facts.id.clone();
    let events = events::read(&app, (0, i64::MAX), (i64::MAX, i64::MAX), KEY_EVENTS, move |event| event.key.as_deref() == Some(&wanted)).await?;
    let events: Vec<Value> = events.iter().map(events::as_json).collect();
    let about: Vec<Value> = found.about(&key).map(findings::as_json).collect();
    Ok(Json(json!({"key": json::key(&key, &found, now_ms), "findings": about, "related": related, "events": events})))
}
