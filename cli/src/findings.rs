//! `keyvigil findings`: what is wrong with keys, the worst first, and what to do.

use keyvigil_common::client::Client;
use keyvigil_common::process::say;
use serde_json::Value;

use crate::args::{Findings, Output};
use crate::ask::{Done, as_json, pages};
use crate::keys::mark;
use crate::layout::paragraph;
use crate::print::{cell, clean, failed, relative, short};

/// How far in stands what belongs to a finding.
const INDENT: usize = 12;

pub(crate) async fn findings(client: &Client, args: Findings, output: Output) -> Done {
    let wanted = [("kind", &args.kind), ("severity", &args.severity), ("host", &args.host), ("key", &args.key)];
    let filters: Vec<(&str, &str)> = wanted.iter().filter_map(|(name, value)| value.as_deref().map(|v| (*name, v))).collect();
    let asked = pages("findings", args.limit, async |paging| client.findings(&[filters.clone(), paging].concat()).await);
    let page = asked.await?;
    if as_json(&page, output) {
        return Ok(());
    }
    let now = client.status().await.map_err(failed)?["now"].as_i64().unwrap_or(0);
    let found = page["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    if found.is_empty() {
        say("no findings match");
        return Ok(());
    }
    found.iter().for_each(|finding| tell(finding, now, false));
    let count = |severity: &str| found.iter().filter(|finding| finding["severity"] == severity).count();
    let counts = ["critical", "warning", "info"].map(|severity| format!("{} {severity}", count(severity))).join(", ");
    let more = if page["next_cursor"].is_null() { "" } else { "; --limit shows more" };
    say(&format!("\n{} of {} findings: {counts}{more}", found.len(), page["total"]));
    Ok(())
}

/// A finding: what, since when and where, and what to do.
pub(crate) fn tell(finding: &Value, now: i64, with_evidence: bool) {
    let line = |first: &str, text: &str| paragraph(&format!("{:INDENT$}{first}", ""), INDENT + first.chars().count(), text);
    paragraph(&format!("{} {:<8}  ", mark(&finding["severity"]), cell(&finding["severity"])), INDENT, &cell(&finding["title"]));
    let key = finding["keys"][0].as_str().filter(|_| finding["keys_total"] == 1).map(|id| format!(", key {}", short(id, 13))).unwrap_or_default();
    line("", &format!("{}, since {}{key}", cell(&finding["kind"]), relative(&finding["since"], now).trim_end_matches(" ago")));
    if with_evidence {
        for (name, value) in finding["evidence"].as_object().into_iter().flatten() {
            line("", &format!("{}: {}", clean(name), cell(value)));
        }
    }
    line("→ ", &cell(&finding["remedy"]));
}
