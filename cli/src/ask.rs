//! The commands that ask: each one call of the API, shown as a table or passed on as JSON.

use keyvigil_common::client::{Client, ClientError, Method, Query as Question};
use keyvigil_common::process::say;
use serde_json::{Value, json};

use crate::args::{Alerts, Gaps, Output, Query, Token};
use crate::layout::table;
use crate::print::{Failed, cell, clean, failed, relative, short, time};

/// Rows of one page of the API.
const PAGE: usize = 1_000;

pub(crate) type Done = Result<(), Failed>;

/// Prints JSON where that was asked for; whether it did.
pub(crate) fn as_json(value: &Value, output: Output) -> bool {
    if output == Output::Json {
        say(&serde_json::to_string_pretty(value).unwrap_or_default());
    }
    output == Output::Json
}

/// Asks for pages until there are `limit` rows of `name`, or no more; the last page, with the rows of all.
pub(crate) async fn pages(name: &str, limit: usize, ask: impl AsyncFn(Vec<(&str, &str)>) -> Result<Value, ClientError>) -> Result<Value, Failed> {
    let mut all = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let size = (limit - all.len()).min(PAGE).to_string();
        let mut paging = vec![("limit", size.as_str())];
        paging.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let mut page = ask(paging).await.map_err(failed)?;
        all.extend(page[name].as_array().cloned().unwrap_or_default());
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || all.len() >= limit {
            page[name] = all.into();
            return Ok(page);
        }
    }
}

pub(crate) fn rows<T>(list: &Value, row: impl Fn(&Value) -> T) -> Vec<T> {
    list.as_array().map(|items| items.iter().map(row).collect()).unwrap_or_default()
}

pub(crate) async fn status(client: &Client, output: Output) -> Done {
    let status = client.status().await.map_err(failed)?;
    if as_json(&status, output) {
        return Ok(());
    }
    let hosts = &status["hosts"];
    say(&format!("version   {}, up {} s", cell(&status["version"]), cell(&status["uptime_seconds"])));
    say(&format!("hosts     {} up, {} silent, {} never heard of", hosts["up"], hosts["silent"], hosts["unknown"]));
    say(&format!("series    {}", status["series"]));
    say(&format!("samples   {} stored, {:.1} a second", status["samples_stored"], status["samples_per_second"].as_f64().unwrap_or(0.0)));
    say(&format!("disk      {} bytes", status["bytes_on_disk"]));
    Ok(())
}

pub(crate) async fn query(client: &Client, args: Query, output: Output) -> Done {
    let start = args.start.or_else(|| args.end.is_none().then(|| format!("-{}", args.last)));
    let question = Question {
        metric_pattern: args.metric_pattern,
        start_time: start,
        end_time: args.end,
        aggregation: args.aggregation,
        interval: args.interval,
        tag: args.tag,
        group_by: args.group_by,
        limit: args.limit,
    };
    let answer = client.query_metrics(&question).await.map_err(failed)?;
    if as_json(&json!(answer), output) {
        return Ok(());
    }
    if answer.series.is_empty() {
        say("no samples match in this range");
    }
    for series in &answer.series {
        let tags: Vec<String> = series.tags.iter().map(|(name, value)| format!("{name}={}", clean(value))).collect();
        say(&format!("{}{{{}}}", clean(&series.metric_id), tags.join(",")));
        for (at, value) in &series.points {
            say(&format!("  {}  {}", time(&json!(at)), cell(value)));
        }
    }
    if answer.truncated {
        say("there are more series: raise --limit or narrow the pattern");
    }
    Ok(())
}

/// How a host stands; one that does not see all that it should, or has copies, is not simply up.
fn state(host: &Value) -> String {
    let mut words = cell(&host["state"]);
    for (what, count) in [("blind", host["blind"].as_u64()), ("copies", host["copies"].as_u64())] {
        if let Some(count) = count.filter(|count| *count > 0) {
            words.push_str(&format!(", {what}: {count}"));
        }
    }
    words
}

pub(crate) async fn hosts(client: &Client, output: Output) -> Done {
    let hosts = client.hosts().await.map_err(failed)?;
    if as_json(&hosts, output) {
        return Ok(());
    }
    let now = client.status().await.map_err(failed)?["now"].as_i64().unwrap_or(0);
    let lines = rows(&hosts["hosts"], |host| {
        vec![
            cell(&host["host"]),
            state(host),
            relative(&host["last_seen"], now),
            short(&cell(&host["os"]), 32),
            cell(&host["keys"]),
            cell(&host["alerts"]),
            relative(&host["certificate_expires"], now),
        ]
    });
    table(&["HOST", "STATE", "SEEN", "SYSTEM", "KEYS", "ALERTS", "CERTIFICATE ENDS"], &lines);
    Ok(())
}

pub(crate) async fn alerts(client: &Client, args: Alerts, output: Output) -> Done {
    if let Some(id) = &args.acknowledge {
        let alert = client.acknowledge(id, &args.by, args.note.as_deref()).await.map_err(failed)?;
        if !as_json(&alert, output) {
            say(&format!("{} is acknowledged by {}", cell(&alert["name"]), cell(&alert["acknowledged_by"])));
        }
        return Ok(());
    }
    let filters: Vec<(&str, &str)> = args.state.as_deref().map(|s| ("state", s)).into_iter().collect();
    let alerts = client.alerts(&filters).await.map_err(failed)?;
    if as_json(&alerts, output) {
        return Ok(());
    }
    let lines = rows(&alerts["alerts"], |a| vec![cell(&a["id"]), cell(&a["state"]), cell(&a["priority"]), time(&a["since"]), short(&cell(&a["summary"]), 90)]);
    if lines.is_empty() {
        say("no alerts");
    } else {
        table(&["ID", "STATE", "PRIORITY", "SINCE", "WHAT"], &lines);
    }
    Ok(())
}

pub(crate) async fn gaps(client: &Client, args: Gaps, output: Output) -> Done {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let limit = args.limit.map_or(1_000, |limit| limit.saturating_sub(all.len()).min(1_000)).to_string();
        let given = [("host", args.host.clone()), ("class", args.class.clone()), ("cursor", cursor.take()), ("limit", Some(limit))];
        let filters: Vec<(&str, &str)> = given.iter().filter_map(|(name, value)| value.as_deref().map(|value| (*name, value))).collect();
        let page = client.gaps(&filters).await.map_err(failed)?;
        all.extend(page["gaps"].as_array().cloned().unwrap_or_default());
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || args.limit.is_some_and(|limit| all.len() >= limit) {
            break;
        }
    }
    let gaps = json!({"gaps": all});
    if as_json(&gaps, output) {
        return Ok(());
    }
    let lines = rows(&gaps["gaps"], |g| {
        vec![
            time(&g["time"]),
            cell(&g["host"]),
            cell(&g["class"]),
            if g["items"].is_null() { "unknown".to_owned() } else { cell(&g["items"]) },
            format!("{}-{}", g["first_seq"], g["last_seq"]),
            cell(&g["cause"]),
        ]
    });
    if lines.is_empty() {
        say(&match (&args.host, &args.class) {
            (None, None) => "no loss is declared".to_owned(),
            (host, class) => {
                let of = [("host", host), ("class", class)]
                    .into_iter()
                    .filter_map(|(name, value)| value.as_ref().map(|value| format!(" of {name} {}", clean(value))));
                format!("no loss{} is declared", of.collect::<String>())
            }
        });
    } else {
        table(&["TIME", "HOST", "CLASS", "ITEMS", "BATCHES", "CAUSE"], &lines);
    }
    Ok(())
}

pub(crate) async fn token(client: &Client, command: Token, output: Output) -> Done {
    match command {
        Token::Create { uses, ttl } => {
            let token = client.create_token(uses, &ttl).await.map_err(failed)?;
            if !as_json(&token, output) {
                say(token["token"].as_str().unwrap_or_default());
            }
        }
        Token::List => {
            let tokens = client.call(Method::GET, "/enroll-tokens", &[], None).await.map_err(failed)?;
            if !as_json(&tokens, output) {
                let now = client.status().await.map_err(failed)?["now"].as_i64().unwrap_or(0);
                let state = |t: &Value| match (t["expires"].as_i64(), t["used"].as_u64() >= t["uses"].as_u64()) {
                    (Some(expires), _) if expires <= now => "expired",
                    (_, true) => "used up",
                    _ => "good",
                };
                let row = |t: &Value| vec![cell(&t["id"]), state(t).to_owned(), time(&t["expires"]), format!("{} of {}", t["used"], t["uses"])];
                table(&["ID", "STATE", "EXPIRES", "USED"], &rows(&tokens["tokens"], row));
            }
        }
        Token::Revoke { id } => {
            client.revoke_token(&id).await.map_err(failed)?;
            if !as_json(&serde_json::json!({"id": id, "revoked": true}), output) {
                say(&format!("token {} is revoked", clean(&id)));
            }
        }
    }
    Ok(())
}
