//! `keyvigil keys show`: one key. Nothing is cut here: this is where one looks for what a table has no room for.

use std::collections::HashMap;

use keyvigil_common::client::{Client, ClientError};
use keyvigil_common::process::say;
use serde_json::Value;

use super::usage::tell as tell_usage;
use super::{algorithm, kind};
use crate::args::Output;
use crate::ask::{Done, as_json, rows};
use crate::findings::tell;
use crate::layout::{Column, fitted, paragraph};
use crate::print::{Failed, cell, clean, failed, relative, short, time};

/// Places of one key that are shown.
const PLACES_SHOWN: usize = 50;
const RELATED: &[Column] = &[Column::whole("KIND"), Column::path("NAME", 20), Column::whole("STATUS"), Column::whole("ID")];

pub(super) async fn show(client: &Client, wanted: &str, output: Output) -> Done {
    let answer = client.key(wanted).await.map_err(|error| no_such_key(error, wanted))?;
    if as_json(&answer, output) {
        return Ok(());
    }
    let now = client.status().await.map_err(failed)?["now"].as_i64().unwrap_or(0);
    let key = &answer["key"];
    say(&cell(&key["name"]));
    about(key, now);
    let findings = answer["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    say(if findings.is_empty() { "\nFindings: none" } else { "\nFindings" });
    findings.iter().for_each(|finding| tell(finding, now, true));
    let usage = client.key_usage(key["id"].as_str().unwrap_or_default(), &[]).await.map_err(failed)?;
    if usage["observed"] != "none" {
        say("\nUse");
        tell_usage(&usage, now);
    }
    places(key, now);
    let related = rows(&answer["related"], |other| vec![kind(other).to_owned(), cell(&other["name"]), cell(&other["status"]), short(&cell(&other["id"]), 13)]);
    if !related.is_empty() {
        say("\nThe same key in other forms");
        fitted(RELATED, &related);
    }
    let events = answer["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !events.is_empty() {
        say("\nHistory, newest first");
    }
    for event in events {
        paragraph("  ", 4, &format!("{} {} on {}: {}", time(&event["time"]), cell(&event["kind"]), cell(&event["host"]), cell(&event["message"])));
    }
    Ok(())
}

/// What to do where an id means no key, or more than one.
pub(super) fn no_such_key(error: ClientError, wanted: &str) -> Failed {
    let (status, candidates) = match &error {
        ClientError::Refused { status, problem, .. } => {
            (status.as_u16(), rows(&problem["candidates"], |key| format!("\n  {}  {} {}", cell(&key["id"]), kind(key), cell(&key["name"]))))
        }
        _ => return failed(error),
    };
    match status {
        404 => failed(error).and(&format!("\n`keyvigil keys --search '{}'` looks in subjects, names and paths.", clean(wanted).replace('\'', "'\\''"))),
        _ => failed(error).and(&candidates.concat()),
    }
}

/// What it is, a line for each fact that is known.
fn about(key: &Value, now: i64) {
    let list = |value: &Value| value.as_array().map(|all| all.iter().map(cell).collect::<Vec<_>>().join(", ")).unwrap_or_default();
    let at = |value: &Value| if value.is_null() { String::new() } else { format!("{} ({})", time(value), relative(value, now)) };
    let text = |value: &Value| if value.is_null() { String::new() } else { cell(value) };
    let password = match key["encrypted"].as_bool() {
        Some(true) => format!("needed{}", key["kdf"].as_str().map(|kdf| format!(" ({})", clean(kdf))).unwrap_or_default()),
        Some(false) => "not needed".into(),
        None => String::new(),
    };
    let lines = [
        ("kind", text(&key["kind"]).replace('_', " ")),
        ("status", text(&key["status"])),
        ("algorithm", [algorithm(key), text(&key["curve"])].join(" ").trim_end().to_owned()),
        ("subject", text(&key["subject"])),
        ("names", list(&key["sans"])),
        ("issuer", text(&key["issuer"])),
        ("serial", text(&key["serial"])),
        ("valid from", at(&key["not_before"])),
        ("ends", at(&key["not_after"])),
        ("chain ends", at(&key["chain_not_after"])),
        ("may be used for", list(&key["usage"])),
        ("signed with", text(&key["signature_algorithm"])),
        ("password", password),
        ("revoked", at(&key["revoked"])),
        ("revoked by", text(&key["revocation"])),
        ("replaced by", text(&key["replaced_by"])),
        ("replaces", text(&key["replaces"])),
        ("first seen", at(&key["first_seen"])),
        ("last seen", at(&key["last_seen"])),
        ("fingerprint", text(&key["fingerprint"])),
        ("id", text(&key["id"])),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        paragraph(&format!("  {name:<16}"), 18, value);
    }
}

fn places(key: &Value, now: i64) {
    let all = key["places"].as_array().map(Vec::as_slice).unwrap_or_default();
    let live: Vec<&Value> = all.iter().filter(|p| p["gone"] != true).collect();
    let gone = all.len() - live.len();
    say(if live.is_empty() { "\nIt lies nowhere any more" } else { "\nPlaces" });
    let mut times: HashMap<(&str, &str), usize> = HashMap::new();
    live.iter().filter_map(|p| place_of(p)).for_each(|at| *times.entry(at).or_default() += 1);
    for p in live.iter().take(PLACES_SHOWN) {
        let is_one_of_many = place_of(p).is_some_and(|at| times.get(&at).is_some_and(|count| *count > 1));
        let entry = p["entry"].as_str().map(|entry| format!(" [{}]", clean(entry))).unwrap_or_default();
        let object = p["slot"].as_u64().filter(|_| is_one_of_many).map(|slot| format!(", object {} of the file", slot + 1)).unwrap_or_default();
        say(&format!("  {}  {}{entry}{object}", cell(&p["host"]), cell(&p["path"])));
        paragraph("    ", 6, &circumstances(p, now));
    }
    for (count, what) in [(live.len().saturating_sub(PLACES_SHOWN), "more; --output json has them all"), (gone, "where it lay before")] {
        if count > 0 {
            say(&format!("  and {count} {what}"));
        }
    }
}

fn place_of(p: &Value) -> Option<(&str, &str)> {
    Some((p["host"].as_str()?, p["path"].as_str()?))
}

/// What a place says of the key: what it is there for, whose it is, what uses it.
fn circumstances(p: &Value, now: i64) -> String {
    let mut out = vec![cell(&p["role"])];
    if !p["mode"].is_null() {
        out.push(format!("{}:{} {}", cell(&p["owner"]), cell(&p["group"]), cell(&p["mode"])));
    }
    out.extend(p["home"].as_str().map(|user| format!("in the home of {}", clean(user))));
    out.extend(p["not_after"].as_i64().map(|end| format!("counts until {}", time(&end.into()))));
    let options: Vec<String> = p["options"].as_array().into_iter().flatten().map(cell).collect();
    if !options.is_empty() {
        out.push(options.join(","));
    }
    let served = &p["served"];
    if !served.is_null() {
        let pid = served["pid"].as_u64().map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        out.push(format!("served by {}{pid}", served["exe"].as_str().map_or_else(|| "an unknown program".into(), clean)));
        out.extend(served["protocol"].as_str().map(clean));
    }
    out.extend(p["used_by"].as_array().into_iter().flatten().map(|user| format!("used by {}", cell(user))));
    out.push(format!("seen {}", relative(&p["last_seen"], now)));
    out.join(", ")
}
