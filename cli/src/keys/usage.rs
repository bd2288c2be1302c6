//! `keyvigil keys --usage`: who used which key, and how much, as far as that is observed. What nobody observes is unknown, never 0.

use keyvigil_common::client::Client;
use keyvigil_common::process::say;
use serde_json::{Value, json};

use super::show::no_such_key;
use super::{ROWS_DEFAULT, filters};
use crate::args::{KeyFilter, Output};
use crate::ask::{Done, as_json, pages};
use crate::layout::{Column, fitted, paragraph};
use crate::print::{cell, clean, failed, relative, time};

const KEYS: &[Column] = &[
    Column::path("NAME", 20),
    Column::whole("LAST USED"),
    Column::cut("BY", 10).goes(2),
    Column::whole("OBSERVED SINCE").goes(1),
    Column::sentences("USES IN 30 DAYS", 20),
];
const ACTORS: &[Column] = &[
    Column::path("PROGRAM", 20),
    Column::whole("USER"),
    Column::cut("UNIT", 8).goes(2),
    Column::whole("LAST USED"),
    Column::cut("HOSTS", 9).goes(1),
    Column::sentences("USES", 16),
];
/// What is said of a key that was not used, or of which nobody knows.
const UNKNOWN: &str = "unknown";

/// The keys that have a private half here, those that were used last first.
pub(super) async fn list(client: &Client, args: &KeyFilter, output: Output) -> Done {
    let limit = args.limit.unwrap_or(ROWS_DEFAULT);
    let mut wanted = filters(args);
    if args.sort.is_none() {
        wanted.push(("sort", "-last_used"));
    }
    if args.kind.is_none() {
        wanted.push(("kind", "private_key,ssh_private_key,openpgp_private_key,symmetric_key"));
    }
    let page = pages("keys", limit, async |paging| client.keys(&[wanted.clone(), paging].concat()).await).await?;
    let keys = page["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut answers = Vec::new();
    for key in keys {
        answers.push(client.key_usage(key["id"].as_str().unwrap_or_default(), &[]).await.map_err(failed)?);
    }
    if as_json(&json!({"total": page["total"], "keys": answers}), output) {
        return Ok(());
    }
    if keys.is_empty() {
        say(if args.kind.is_none() { "no private keys match" } else { "no keys match" });
        return Ok(());
    }
    let now = client.status().await.map_err(failed)?["now"].as_i64().unwrap_or(0);
    let row = |(key, usage): (&Value, &Value)| vec![cell(&key["name"]), last(usage, now), by(&usage["last_used_by"]), since(usage, now), uses(usage)];
    fitted(KEYS, &keys.iter().zip(&answers).map(row).collect::<Vec<_>>());
    let more = if page["next_cursor"].is_null() { "" } else { "; --limit shows more" };
    let what = if args.kind.is_none() { "private keys" } else { "keys" };
    say(&format!("{} of {} {what}{more}; `keyvigil keys --usage ID` shows who uses one", keys.len(), page["total"]));
    Ok(())
}

/// One key: how much, by whom, since when that is observed, and why not all of it is.
pub(super) async fn one(client: &Client, wanted: &str, output: Output) -> Done {
    let usage = client.key_usage(wanted, &[]).await.map_err(|error| no_such_key(error, wanted))?;
    if as_json(&usage, output) {
        return Ok(());
    }
    let now = client.status().await.map_err(failed)?["now"].as_i64().unwrap_or(0);
    let key = client.key(wanted).await.map_err(failed)?;
    say(&cell(&key["key"]["name"]));
    tell(&usage, now);
    Ok(())
}

/// What is known of a key's use, for people.
pub(super) fn tell(usage: &Value, now: i64) {
    let first = usage["count"]["first_use"].as_i64().map(|at| time(&at.into()));
    let lines = [
        ("uses in 30 days", uses(usage)),
        ("denied", counted(usage, "denied")),
        ("not allowed", counted(usage, "unauthorized")),
        ("first of them", first.unwrap_or_default()),
        ("last used", told_last(usage, now)),
        ("observed", observed(usage)),
        ("observed since", usage["observed_since"].as_i64().map(|at| time(&at.into())).unwrap_or_default()),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty() && value != "-") {
        paragraph(&format!("  {name:<16}"), 18, value);
    }
    for reason in usage["reasons"].as_array().into_iter().flatten() {
        paragraph("  · ", 4, &format!("{}: {}", cell(&reason["host"]), cell(&reason["reason"])));
    }
    let actors = usage["actors"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !actors.is_empty() {
        say("\nWho uses it");
        fitted(ACTORS, &actors.iter().map(|actor| actor_row(actor, now)).collect::<Vec<_>>());
    }
    let more = usage["actors_total"].as_u64().unwrap_or_default().saturating_sub(actors.len() as u64);
    if more > 0 {
        say(&format!("and {more} more"));
    }
}

fn actor_row(actor: &Value, now: i64) -> Vec<String> {
    let hosts: Vec<String> = actor["hosts"].as_array().into_iter().flatten().map(cell).collect();
    let hosts = if hosts.len() > 1 { format!("{} hosts", hosts.len()) } else { hosts.concat() };
    let count = &actor["count"];
    let mut did = operations(count);
    let refused = [("denied", "denied"), ("unauthorized", "not allowed")].into_iter();
    did.extend(refused.filter_map(|(name, word)| count[name].as_u64().filter(|n| *n > 0).map(|n| format!("{word} {n}"))));
    vec![cell(&actor["exe"]), cell(&actor["user"]), cell(&actor["unit"]), relative(&count["last_use"], now), hosts, did.join(", ")]
}

fn operations(count: &Value) -> Vec<String> {
    count["uses"].as_object().into_iter().flatten().map(|(word, n)| format!("{} {n}", clean(word))).collect()
}

/// `sign 7, open 1`; `none`, where somebody looked.
fn uses(usage: &Value) -> String {
    if usage["count"].is_null() {
        return UNKNOWN.into();
    }
    let all = operations(&usage["count"]).join(", ");
    match usage["observed"].as_str() {
        Some("exact") if all.is_empty() => "none".into(),
        _ if all.is_empty() => "none seen".into(),
        Some("exact") => all,
        _ => format!("at least {all}"),
    }
}

fn counted(usage: &Value, what: &str) -> String {
    usage["count"][what].as_u64().filter(|count| *count > 0).map(|count| count.to_string()).unwrap_or_default()
}

fn last(usage: &Value, now: i64) -> String {
    match (usage["last_used"].as_i64(), usage["observed_since"].as_i64()) {
        (Some(_), _) => relative(&usage["last_used"], now),
        (None, Some(_)) => "not since observed".into(),
        (None, None) => UNKNOWN.into(),
    }
}

/// The same with the time, and with who it was.
fn told_last(usage: &Value, now: i64) -> String {
    if usage["last_used"].is_null() {
        return last(usage, now);
    }
    let at = format!("{} ({})", time(&usage["last_used"]), last(usage, now));
    if usage["last_used_by"].is_null() { at } else { format!("{at}, by {}", by(&usage["last_used_by"])) }
}

/// Since when its use is observed where it lies.
fn since(usage: &Value, now: i64) -> String {
    if usage["observed_since"].is_null() { "nothing observes".into() } else { relative(&usage["observed_since"], now) }
}

/// Who used it last.
fn by(by: &Value) -> String {
    if by.is_null() {
        return "-".into();
    }
    let exe = by["exe"].as_str().map_or_else(|| "an unknown program".into(), |exe| clean(exe.rsplit('/').next().unwrap_or(exe)));
    let user = by["user"].as_str().map(|user| format!(" as {}", clean(user))).unwrap_or_default();
    format!("{exe}{user} on {}", cell(&by["host"]))
}

fn observed(usage: &Value) -> String {
    match usage["observed"].as_str() {
        Some("exact") => "every use is counted".into(),
        Some("at_least") => "in part: there may be more uses than are counted".into(),
        Some("none") => "no: its private half lies on no host".into(),
        _ => "no: whether it is used is unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_seen_is_said_as_what_it_is() {
        let said = |usage: Value| (uses(&usage), last(&usage, 1_000));
        assert_eq!(said(json!({"observed": "unknown", "count": null})), ("unknown".into(), "unknown".into()));
        assert_eq!(said(json!({"observed": "exact", "observed_since": 5, "count": {"uses": {}}})), ("none".into(), "not since observed".into()));
        assert_eq!(said(json!({"observed": "at_least", "observed_since": 5, "count": {"uses": {}}})).0, "none seen");
        assert_eq!(said(json!({"observed": "at_least", "last_used": 0, "count": {"uses": {"sign": 7}}})), ("at least sign 7".into(), "1 s ago".into()));
    }
}
