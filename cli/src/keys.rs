//! `keyvigil keys` and `keyvigil findings`: the inventory and what is wrong with it, for people, programs and spreadsheets.

use std::io::{IsTerminal, Write};

use keyvigil_common::client::Client;
use keyvigil_common::process::say;
use serde_json::Value;

use crate::args::{Findings, KeyFilter, Keys, OfKeys, Output};
use crate::ask::{Done, as_json, rows};
use crate::print::{Failed, cell, clean, failed, fitted, relative, short, table, time};

/// Rows of one page of the API.
const PAGE: usize = 1_000;
const ROWS_DEFAULT: usize = 100;
/// What the columns besides the name may take at most, spaces included: the rest of 100 is for the name.
#[cfg(test)]
const OTHER_COLUMNS: usize = 84;
/// Places of one key that are shown.
const PLACES_SHOWN: usize = 50;

pub(crate) async fn keys(client: &Client, args: Keys, output: Output) -> Done {
    match args.command {
        Some(OfKeys::Show { key }) => show(client, &key, output).await,
        Some(OfKeys::Cbom { version, host }) => cbom(client, &version, host.as_deref()).await,
        None if output == Output::Csv => csv(client, &args.filter).await,
        None => list(client, &args.filter, output).await,
    }
}

fn filters(args: &KeyFilter) -> Vec<(&str, &str)> {
    let wanted = [
        ("host", &args.host),
        ("kind", &args.kind),
        ("algorithm", &args.algorithm),
        ("status", &args.status),
        ("expires_before", &args.expires_before),
        ("finding", &args.finding),
        ("role", &args.role),
        ("file_format", &args.file_format),
        ("search", &args.search),
        ("sort", &args.sort),
    ];
    let mut filters: Vec<(&str, &str)> = wanted.iter().filter_map(|(name, value)| value.as_deref().map(|v| (*name, v))).collect();
    if !args.trust_store {
        filters.push(("trust_store", "false"));
    }
    filters
}

async fn csv(client: &Client, args: &KeyFilter) -> Done {
    if args.limit.is_some() {
        return Err(Failed::new(2, "--limit has no place beside --output csv, which holds all rows"));
    }
    client.keys_csv(&filters(args), to_stdout).await.map_err(failed)
}

async fn cbom(client: &Client, version: &str, host: Option<&str>) -> Done {
    let mut filters = vec![("version", version)];
    filters.extend(host.map(|host| ("host", host)));
    client.cbom(&filters, to_stdout).await.map_err(failed)?;
    if std::io::stdout().is_terminal() {
        say("");
    }
    Ok(())
}

fn to_stdout(piece: &[u8]) -> std::io::Result<()> {
    std::io::stdout().write_all(piece)
}

async fn list(client: &Client, args: &KeyFilter, output: Output) -> Done {
    let limit = args.limit.unwrap_or(ROWS_DEFAULT);
    let (mut all, mut cursor, mut page) = (Vec::new(), None::<String>, Value::Null);
    while all.len() < limit && (page.is_null() || cursor.is_some()) {
        let size = (limit - all.len()).min(PAGE).to_string();
        let mut wanted = filters(args);
        wanted.push(("limit", &size));
        wanted.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        page = client.keys(&wanted).await.map_err(failed)?;
        all.extend(page["keys"].as_array().cloned().unwrap_or_default());
        cursor = page["next_cursor"].as_str().map(str::to_owned);
    }
    page["keys"] = all.into();
    if as_json(&page, output) {
        return Ok(());
    }
    let now = client.status().await.map_err(failed)?["now"].as_i64().unwrap_or(0);
    let lines = rows(&page["keys"], |key| {
        vec![cell(&key["name"]), kind(key).to_owned(), short(&algorithm(key), 10), ends(key, now), place(key), cell(&key["status"]), worst(key)]
    });
    if lines.is_empty() {
        say("no keys match");
        return Ok(());
    }
    let shown = lines.len();
    fitted(&["NAME", "KIND", "ALGORITHM", "ENDS", "HOSTS", "STATUS", "FINDINGS"], lines);
    let hidden = if args.trust_store { "" } else { "; --trust-store adds the public CAs that the system ships" };
    say(&format!("{shown} of {} keys{hidden}", page["total"]));
    Ok(())
}

/// One word for a kind.
fn kind(key: &Value) -> &str {
    match key["kind"].as_str().unwrap_or("-") {
        "certificate" => "cert",
        "private_key" => "key",
        "public_key" => "public key",
        "ssh_private_key" => "ssh key",
        "ssh_public_key" => "ssh public",
        "ssh_certificate" => "ssh cert",
        "certificate_request" => "request",
        "openpgp_private_key" => "pgp key",
        "openpgp_public_key" => "pgp public",
        "symmetric_key" => "secret",
        "kernel_key" => "kernel key",
        other => other,
    }
}

fn algorithm(key: &Value) -> String {
    let name = cell(&key["algorithm"]);
    match key["bits"].as_u64() {
        Some(bits) if matches!(name.as_str(), "rsa" | "rsa-pss" | "ec" | "dsa" | "dh") => format!("{name} {bits}"),
        _ => name,
    }
}

/// When it ends, with its chain where that is sooner.
fn ends(key: &Value, now: i64) -> String {
    let end = key["not_after"].as_i64().into_iter().chain(key["chain_not_after"].as_i64()).min();
    relative(&end.into(), now)
}

fn hosts(key: &Value) -> Vec<&str> {
    let places = key["places"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut hosts: Vec<&str> = places.iter().filter(|p| p["gone"] != true).filter_map(|p| p["host"].as_str()).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn place(key: &Value) -> String {
    match hosts(key).as_slice() {
        [] => "-".into(),
        [host] if key["hosts_total"].as_u64().is_none_or(|all| all <= 1) => short(host, 12),
        // A list shows only the first of many places.
        hosts => format!("{} hosts", key["hosts_total"].as_u64().unwrap_or(hosts.len() as u64)),
    }
}

/// Shape of a severity, beside its word: no colour is needed to tell them apart.
fn mark(severity: &Value) -> &'static str {
    match severity.as_str() {
        Some("critical") => "▲",
        Some("warning") => "◆",
        _ => "·",
    }
}

/// What is worst about a key in a few words, and how much more there is; what is true of every key of today is left out.
fn worst(key: &Value) -> String {
    let kinds: Vec<&str> = key["findings"].as_array().into_iter().flatten().filter_map(Value::as_str).filter(|kind| *kind != "not_quantum_safe").collect();
    match kinds.as_slice() {
        [] => "-".into(),
        [one] => format!("{} {}", mark(&key["severity"]), words(one)),
        [first, more @ ..] => format!("{} {} +{}", mark(&key["severity"]), words(first), more.len()),
    }
}

fn words(kind: &str) -> String {
    match kind {
        "private_key_shared" | "ssh_host_key_shared" => "shared".into(),
        "certificate_without_key" => "no key".into(),
        "key_without_certificate" => "no certificate".into(),
        "kernel_key_expiring" => "times out".into(),
        "stale_crl" => "list overdue".into(),
        "private_key_readable" => "readable".into(),
        "private_key_in_open_directory" => "open dir".into(),
        "unencrypted_key_in_home" => "no password".into(),
        "authorized_key_never_used" => "not used".into(),
        "authorized_key_revoked" | "revoked_in_use" => "revoked".into(),
        "served_stale" => "stale".into(),
        "served_chain_fault" => "chain".into(),
        "served_without_file" => "no file".into(),
        "self_signed_served" => "self-signed".into(),
        other => other.replace('_', " "),
    }
}

async fn show(client: &Client, wanted: &str, output: Output) -> Done {
    let answer = client.key(wanted).await.map_err(failed)?;
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
    places(key, now);
    let related = rows(&answer["related"], |other| {
        vec![kind(other).to_owned(), short(&cell(&other["name"]), 50), cell(&other["status"]), short(&cell(&other["id"]), 13)]
    });
    if !related.is_empty() {
        say("\nThe same key in other forms");
        table(&["KIND", "NAME", "STATUS", "ID"], &related);
    }
    let events = rows(&answer["events"], |e| vec![time(&e["time"]), cell(&e["kind"]), cell(&e["host"]), short(&cell(&e["message"]), 100)]);
    if !events.is_empty() {
        say("\nHistory, newest first");
        table(&["TIME", "KIND", "HOST", "WHAT"], &events);
    }
    Ok(())
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
    let used = if key["last_used"].is_null() { "unknown: nothing observes use yet".into() } else { at(&key["last_used"]) };
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
        ("last used", used),
        ("first seen", at(&key["first_seen"])),
        ("last seen", at(&key["last_seen"])),
        ("fingerprint", text(&key["fingerprint"])),
        ("id", text(&key["id"])),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
        say(&format!("  {name:<16}{value}"));
    }
}

fn places(key: &Value, now: i64) {
    let all = key["places"].as_array().map(Vec::as_slice).unwrap_or_default();
    let live: Vec<&Value> = all.iter().filter(|p| p["gone"] != true).collect();
    let gone = all.len() - live.len();
    let row = |p: &&Value| {
        let who = [cell(&p["owner"]), cell(&p["group"])].join(":");
        let entry = p["entry"].as_str().map(|entry| format!(" [{}]", clean(entry))).unwrap_or_default();
        let users: Vec<String> = p["used_by"].as_array().into_iter().flatten().map(cell).collect();
        let used = p["served"]["exe"].as_str().map(|exe| format!("served by {}", clean(exe))).unwrap_or_else(|| users.join(", "));
        vec![cell(&p["host"]), format!("{}{entry}", cell(&p["path"])), cell(&p["role"]), who, cell(&p["mode"]), relative(&p["last_seen"], now), used]
    };
    let lines: Vec<Vec<String>> = live.iter().take(PLACES_SHOWN).map(row).collect();
    if lines.is_empty() {
        say("\nIt lies nowhere any more");
    } else {
        say("\nPlaces");
        table(&["HOST", "PATH", "ROLE", "OWNER", "MODE", "SEEN", "USED BY"], &lines);
    }
    for (count, what) in [(live.len().saturating_sub(PLACES_SHOWN), "more; --output json has them all"), (gone, "where it lay before")] {
        if count > 0 {
            say(&format!("and {count} {what}"));
        }
    }
}

pub(crate) async fn findings(client: &Client, args: Findings, output: Output) -> Done {
    let (mut all, mut cursor, mut page) = (Vec::new(), None::<String>, Value::Null);
    while all.len() < args.limit && (page.is_null() || cursor.is_some()) {
        let size = (args.limit - all.len()).min(PAGE).to_string();
        let wanted = [("kind", &args.kind), ("severity", &args.severity), ("host", &args.host), ("key", &args.key), ("cursor", &cursor)];
        let mut filters: Vec<(&str, &str)> = wanted.iter().filter_map(|(name, value)| value.as_deref().map(|v| (*name, v))).collect();
        filters.push(("limit", &size));
        page = client.findings(&filters).await.map_err(failed)?;
        all.extend(page["findings"].as_array().cloned().unwrap_or_default());
        cursor = page["next_cursor"].as_str().map(str::to_owned);
    }
    page["findings"] = all.into();
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
    say(&format!("\n{} of {} findings: {counts}", found.len(), page["total"]));
    Ok(())
}

/// A finding: what, since when and where, and what to do.
fn tell(finding: &Value, now: i64, with_evidence: bool) {
    say(&format!("{} {:<8}  {}", mark(&finding["severity"]), cell(&finding["severity"]), cell(&finding["title"])));
    let indent = " ".repeat(12);
    let key = finding["keys"][0].as_str().filter(|_| finding["keys_total"] == 1).map(|id| format!(", key {}", short(id, 13))).unwrap_or_default();
    say(&format!("{indent}{}, since {}{key}", cell(&finding["kind"]), relative(&finding["since"], now).trim_end_matches(" ago")));
    if with_evidence {
        for (name, value) in finding["evidence"].as_object().into_iter().flatten() {
            say(&format!("{indent}{}: {}", clean(name), cell(value)));
        }
    }
    say(&format!("{indent}→ {}", cell(&finding["remedy"])));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_worst_has_a_shape_and_a_word() {
        let key = json!({"severity": "critical", "findings": ["private_key_readable", "unencrypted_key_in_home", "not_quantum_safe"]});
        assert_eq!(worst(&key), "▲ readable +1");
        assert_eq!(worst(&json!({"severity": "info", "findings": ["not_quantum_safe"]})), "-");
        for kind in keyvigil_common::finding::FindingKind::ALL.iter().filter(|kind| kind.as_str() != "not_quantum_safe") {
            assert!(words(kind.as_str()).chars().count() <= 14, "{kind:?}");
        }
    }

    #[test]
    fn a_row_fits_a_hundred_columns() {
        let key = json!({"name": "n".repeat(99), "kind": "openpgp_private_key", "algorithm": "ed25519", "bits": 256, "not_after": 86_400_000_i64 * 999,
            "status": "superseded", "severity": "warning", "findings": ["key_without_certificate", "weak"], "places": [{"host": "h".repeat(40), "gone": false}]});
        let others = [kind(&key).into(), short(&algorithm(&key), 10), ends(&key, 0), place(&key), cell(&key["status"]), worst(&key)];
        let width: usize = others.iter().map(|text| text.chars().count() + 2).sum();
        assert!(width <= OTHER_COLUMNS, "{width}: {others:?}");
    }
}
