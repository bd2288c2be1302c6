//! `keyvigil events`: what happened, the newest first.

use keyvigil_common::client::Client;
use keyvigil_common::process::say;
use serde_json::Value;

use crate::args::{Events, Output};
use crate::ask::{Done, as_json, pages};
use crate::layout::{Column, fitted, has_edge};
use crate::print::{cell, time};

/// Where and why stands at the end of what happened: it is never cut.
const COLUMNS: &[Column] = &[Column::whole("TIME"), Column::whole("KIND"), Column::cut("HOST", 9).goes(1), Column::sentences("WHAT", 30)];

pub(crate) async fn events(client: &Client, args: Events, output: Output) -> Done {
    let start = args.start.or_else(|| args.last.map(|last| format!("-{last}")));
    let wanted = [
        ("kind", &args.kind),
        ("host", &args.host),
        ("key", &args.key),
        ("exe", &args.exe),
        ("user", &args.user),
        ("start_time", &start),
        ("end_time", &args.end),
    ];
    let filters: Vec<(&str, &str)> = wanted.iter().filter_map(|(name, value)| value.as_deref().map(|v| (*name, v))).collect();
    let page = pages("events", args.limit, async |paging| client.events(&[filters.clone(), paging].concat()).await).await?;
    if as_json(&page, output) {
        return Ok(());
    }
    let found = page["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    if found.is_empty() {
        say("no events match");
        return Ok(());
    }
    fitted(COLUMNS, &lines(found, has_edge()));
    if !page["next_cursor"].is_null() {
        say(&format!("the newest {}; --limit shows more", found.len()));
    }
    Ok(())
}

/// A row an event. Where there is an edge, a day is told once, in a row of its own.
fn lines(events: &[Value], days_apart: bool) -> Vec<Vec<String>> {
    let (mut out, mut last) = (Vec::new(), String::new());
    for event in events {
        let mut at = time(&event["time"]);
        if let Some((day, hour)) = at.clone().split_once(' ').filter(|_| days_apart) {
            if last != day {
                out.push(vec![day.to_owned()]);
                last = day.to_owned();
            }
            at = hour.to_owned();
        }
        out.push(vec![at, cell(&event["kind"]), cell(&event["host"]), cell(&event["message"])]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_day_is_told_once_on_a_terminal_and_with_each_event_to_a_program() {
        let event = |time: i64| json!({"time": time, "kind": "created", "host": "web-1", "message": "m"});
        let events = [event(1_763_838_000_000), event(1_763_837_000_000), event(1_763_738_000_000)];
        let first = |days_apart| lines(&events, days_apart).into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
        assert_eq!(first(true), ["2025-11-22", "19:00:00Z", "18:43:20Z", "2025-11-21", "15:13:20Z"]);
        assert_eq!(first(false), ["2025-11-22 19:00:00Z", "2025-11-22 18:43:20Z", "2025-11-21 15:13:20Z"]);
    }
}
