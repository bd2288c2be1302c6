//! `/api/v1/findings`: what is wrong with the keys of the fleet.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Map, Value, json};

use super::keys::{each, find, is_known, look};
use super::problem::Problem;
use super::{App, params::Params};
use crate::keys::finding::Finding;
use keyvigil_common::finding::{FindingKind, Severity};
use keyvigil_common::limits::PAGE_ROWS_MAX;

const ROWS_DEFAULT: usize = 100;

/// Findings, the worst first.
pub(super) async fn list(State(app): State<App>, RawQuery(raw): RawQuery) -> Result<Json<Value>, Problem> {
    let params = Params::from_query(raw.as_deref().unwrap_or_default())?;
    params.only(&["kind", "severity", "host", "key", "limit", "cursor"])?;
    params.once(&["host", "key", "limit", "cursor"])?;
    let (kinds, severities) = (each::<FindingKind>(&params, "kind")?, each::<Severity>(&params, "severity")?);
    let limit = params.number("limit", ROWS_DEFAULT, PAGE_ROWS_MAX)?;
    let host = params.get("host");
    let after = params.get("cursor").map(decode).transpose()?;
    let (keys, found) = look(&app).await?;
    if let Some(host) = host.filter(|host| !is_known(&app, &keys, host)) {
        return Err(Problem::no_host(host));
    }
    let key = params.get("key").map(|id| find(&app, id)).transpose()?;
    let about: Option<Vec<&str>> = key.as_ref().map(|key| found.about(key).map(|finding| finding.id.as_str()).collect());
    let wanted = |finding: &&Finding| {
        (kinds.is_empty() || kinds.contains(&finding.kind))
            && (severities.is_empty() || severities.contains(&finding.severity))
            && host.is_none_or(|host| finding.is_on(host))
            && about.as_ref().is_none_or(|about| about.contains(&finding.id.as_str()))
    };
    let taken: Vec<&Finding> = found.all.iter().filter(wanted).collect();
    let later = |finding: &&Finding| after.as_ref().is_none_or(|(severity, kind, id)| finding.position() > (std::cmp::Reverse(*severity), *kind, id.as_str()));
    let rest: Vec<&Finding> = taken.iter().copied().filter(later).collect();
    let page: Vec<&Finding> = rest.iter().copied().take(limit).collect();
    let next = page.last().filter(|_| rest.len() > limit).map(|last| format!("{}.{}.{}", last.severity.as_str(), last.kind.as_str(), last.id));
    let rows: Vec<Value> = page.into_iter().map(as_json).collect();
    Ok(Json(json!({"total": taken.len(), "next_cursor": next, "found_at": found.at_ms, "findings": rows})))
}

fn decode(text: &str) -> Result<(Severity, FindingKind, String), Problem> {
    let mut parts = text.splitn(3, '.');
    let mut next = || parts.next().unwrap_or_default();
    let (severity, kind, id) = (next().parse(), next().parse(), next());
    match (severity, kind) {
        (Ok(severity), Ok(kind)) => Ok((severity, kind, id.to_owned())),
        _ => Err(Problem::bad_request("cursor must be what next_cursor said")),
    }
}

/// A finding as the API shows it.
pub(super) fn as_json(finding: &Finding) -> Value {
    let mut value = serde_json::to_value(finding).unwrap_or_default();
    let mut evidence: Map<String, Value> = Map::new();
    for (name, text) in &finding.evidence {
        match evidence.get(name).and_then(Value::as_str).map(|known| format!("{known}; {text}")) {
            Some(both) => evidence.insert(name.clone(), both.into()),
            None => evidence.insert(name.clone(), text.clone().into()),
        };
    }
    value["evidence"] = evidence.into();
    value
}
