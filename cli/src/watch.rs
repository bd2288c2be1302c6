//! `keyvigil watch`: events as they come, until Ctrl-C. After a cut it goes on where it was: nothing is missed, and nothing told twice.

use std::process::ExitCode;
use std::time::Duration;

use keyvigil_common::backoff::{Backoff, random_u64};
use keyvigil_common::client::{Client, ClientError};
use keyvigil_common::process::say;
use serde_json::Value;

use crate::args::{Output, Watch};
use crate::print::{Failed, cell, clean, failed, time};

/// How long one question waits for events, seconds.
const WAIT: &str = "25";
/// What a shell gives a program that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;

pub(crate) async fn watch(client: &Client, args: Watch, output: Output) -> Result<ExitCode, Failed> {
    tokio::select! {
        ended = follow(client, &args, output) => ended.map(|()| ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(EXIT_INTERRUPTED)),
    }
}

async fn follow(client: &Client, args: &Watch, output: Output) -> Result<(), Failed> {
    let wanted = [("kind", &args.kind), ("host", &args.host), ("key", &args.key), ("exe", &args.exe), ("user", &args.user)];
    let filters: Vec<(&str, &str)> = wanted.iter().filter_map(|(name, value)| value.as_deref().map(|v| (*name, v))).collect();
    // What is asked wrongly, or of nobody, is said at once.
    let first = client.events(&[filters.as_slice(), &[("after", args.after.as_deref().unwrap_or("latest"))]].concat()).await.map_err(failed)?;
    let mut after = tell(&first, output);
    if let Some(key) = &args.key
        && matches!(client.key(key).await, Err(ClientError::Refused { status, .. }) if status.as_u16() == 404)
    {
        hint(&format!("no key is known yet whose id or fingerprint begins with {key} (see `keyvigil keys`)"));
    }
    if let Some(host) = &args.host
        && let Ok(hosts) = client.hosts().await
        && !hosts["hosts"].as_array().is_some_and(|hosts| hosts.iter().any(|known| known["host"] == host.as_str()))
    {
        hint(&format!("no host is known yet by the name {host} (see `keyvigil hosts`)"));
    }
    if output != Output::Json {
        hint("waiting for events; Ctrl-C ends");
    }
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));
    loop {
        match client.events(&[filters.as_slice(), &[("after", after.as_str()), ("wait", WAIT)]].concat()).await {
            Ok(page) => {
                if backoff.failures() > 0 {
                    hint("the aggregator answers again");
                }
                backoff.reset();
                after = tell(&page, output);
            }
            Err(error) if is_passing(&error) => {
                if backoff.failures() == 0 {
                    hint(&format!("{error}; asking again"));
                }
                tokio::time::sleep(backoff.delay(random_u64(), None)).await;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Whether it may be over when asked again.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable(..) => true,
        ClientError::Refused { status, .. } => status.is_server_error() || status.as_u16() == 429,
        _ => false,
    }
}

/// Prints events; where to go on.
fn tell(page: &Value, output: Output) -> String {
    for event in page["events"].as_array().into_iter().flatten() {
        if output == Output::Json {
            say(&event.to_string());
        } else {
            say(&line(event));
        }
    }
    page["next_after"].as_str().unwrap_or("latest").to_owned()
}

fn line(event: &Value) -> String {
    let unit = event["actor"]["unit"].as_str().map(|unit| format!(" [{}]", clean(unit))).unwrap_or_default();
    format!("{}  {:<17} {:<12} {}{unit}", time(&event["time"]), cell(&event["kind"]), cell(&event["host"]), cell(&event["message"]))
}

/// Beside the events, so that whoever reads them gets nothing else.
#[expect(clippy::print_stderr, reason = "the answer to who typed the command")]
fn hint(text: &str) {
    eprintln!("{text}");
}
