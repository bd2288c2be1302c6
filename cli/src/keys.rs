//! `keyvigil keys`: the inventory for people, programs and spreadsheets.

mod show;
mod usage;

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};

use keyvigil_common::client::Client;
use keyvigil_common::process::say;
use serde_json::Value;

use crate::args::{KeyFilter, Keys, OfKeys, Output};
use crate::ask::{Done, as_json, pages, rows};
use crate::layout::{Column, fitted};
use crate::print::{Failed, cell, failed, relative};

const ROWS_DEFAULT: usize = 100;
/// What a key is called, when it ends and what is wrong with it are the last to go.
const COLUMNS: &[Column] = &[
    Column::path("NAME", 20),
    Column::whole("KIND").goes(2),
    Column::cut("ALGORITHM", 9).goes(3),
    Column::whole("ENDS"),
    Column::cut("HOSTS", 9).goes(1),
    Column::whole("STATUS"),
    Column::cut("FINDINGS", 14),
];

pub(crate) async fn keys(client: &Client, args: Keys, output: Output) -> Done {
    match args.command {
        Some(OfKeys::Show { key }) => show::show(client, &key, output).await,
        Some(OfKeys::Cbom { version, host, trust_store }) => cbom(client, &version, host.as_deref(), trust_store).await,
        None if args.usage.as_deref() == Some("") => usage::list(client, &args.filter, output).await,
        None if args.usage.is_some() => usage::one(client, args.usage.as_deref().unwrap_or_default(), output).await,
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
        ("used", &args.used),
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

async fn cbom(client: &Client, version: &str, host: Option<&str>, trust_store: bool) -> Done {
    let mut filters = vec![("version", version), ("trust_store", if trust_store { "true" } else { "false" })];
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
    let page = pages("keys", limit, async |paging| client.keys(&[filters(args), paging].concat()).await).await?;
    if as_json(&page, output) {
        return Ok(());
    }
    let now = client.status().await.map_err(failed)?["now"].as_i64().unwrap_or(0);
    let lines =
        rows(&page["keys"], |key| vec![cell(&key["name"]), kind(key).to_owned(), algorithm(key), ends(key, now), place(key), cell(&key["status"]), worst(key)]);
    let hidden = if args.trust_store { "" } else { "; --trust-store adds the public CAs that the system ships" };
    if lines.is_empty() {
        say(&format!("no keys match{hidden}"));
        return Ok(());
    }
    fitted(COLUMNS, &lines);
    let more = if page["next_cursor"].is_null() { "" } else { "; --limit shows more" };
    say(&format!("{} of {} keys{more}{hidden}", lines.len(), page["total"]));
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

/// Where it lies.
fn place(key: &Value) -> String {
    let hosts: BTreeSet<String> = key["places"].as_array().into_iter().flatten().filter(|p| p["gone"] != true).map(|p| cell(&p["host"])).collect();
    // A list shows only the first of many places.
    let all = key["hosts_total"].as_u64().unwrap_or_default().max(hosts.len() as u64);
    match hosts.first() {
        None => "-".into(),
        Some(host) if all == 1 => host.clone(),
        Some(_) => format!("{all} hosts"),
    }
}

/// Shape of a severity, beside its word: no colour is needed to tell them apart.
pub(crate) fn mark(severity: &Value) -> &'static str {
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
        "authorized_key_never_used" | "private_key_unused" => "not used".into(),
        "authorized_key_revoked" | "revoked_in_use" => "revoked".into(),
        "served_stale" => "stale".into(),
        "served_chain_fault" => "chain".into(),
        "served_without_file" => "no file".into(),
        "self_signed_served" => "self-signed".into(),
        other => other.replace('_', " "),
    }
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
}
