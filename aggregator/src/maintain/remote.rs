//! Work that a running aggregator does for a command: it is found by what it wrote into its directory, asked over its own
//! API with the admin token that lies there, and its steps are shown as they come.

use std::time::Duration;

use keyvigil_common::config::Secret;
use keyvigil_common::process::{EXIT_CONFIG, EXIT_PERMISSION};
use keyvigil_common::telemetry::chain;
use reqwest::{Certificate, Client, Response, StatusCode};

use super::show::Show;
use super::{Failed, Request};
use crate::config::Config;
use crate::endpoints::Published;
use crate::upkeep::{Line, Report};

const CONNECT: Duration = Duration::from_secs(10);
const PATH: &str = "/api/v1/admin/maintenance";
/// A line with a hundred faults is far shorter.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Asks the aggregator that serves the directory.
pub(super) async fn ask(config: &Config, request: &Request, show: &Show) -> Result<Report, Failed> {
    let dir = &config.storage.path;
    let at = Published::read(dir).map_err(|e| Failed::file(dir.join("endpoints.json"), e))?;
    let at = at.ok_or_else(|| {
        Failed::later(format!(
            "{} is in use, and nothing says where its aggregator listens: it starts, stops, or is another maintenance command; try again",
            dir.display()
        ))
    })?;
    let client = client(config, &at.url)?;
    let token = token(config)?;
    let sent = client.post(format!("{}{PATH}", at.url)).bearer_auth(token.expose()).json(request).send().await;
    let response =
        sent.map_err(|e| Failed::later(format!("the aggregator of {} does not answer at {}: {}; try again", dir.display(), at.url, chain(&e.without_url()))))?;
    if !response.status().is_success() {
        return Err(refused(response).await);
    }
    follow(response, show).await
}

/// A client that trusts the aggregator's own CA, and goes through no proxy.
fn client(config: &Config, url: &str) -> Result<Client, Failed> {
    let mut builder = Client::builder().connect_timeout(CONNECT).redirect(reqwest::redirect::Policy::none()).no_proxy();
    if url.starts_with("https:") {
        let path = config.storage.path.join("pki/ca.pem");
        let pem = std::fs::read(&path).map_err(|e| Failed::file(path.clone(), e))?;
        let ca = Certificate::from_pem_bundle(&pem).map_err(|e| Failed::new(EXIT_CONFIG, format!("{}: {}", path.display(), chain(&e))))?;
        builder = builder.tls_certs_merge(ca);
    }
    builder.build().map_err(|e| Failed::new(1, chain(&e)))
}

/// The admin token: of the configuration, else of its file.
fn token(config: &Config) -> Result<Secret, Failed> {
    if !config.api.admin_token.is_empty() {
        return Ok(config.api.admin_token.clone());
    }
    let path = config.storage.path.join("admin.token");
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Secret::from(text.trim())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let why = "an aggregator runs and is to do the work, but the admin token to ask it is missing";
            Err(Failed::new(EXIT_CONFIG, format!("{why}: {} is not there; if api.admin_token is set, name that file with --config", path.display())))
        }
        Err(e) => Err(Failed::file(path, e)),
    }
}

async fn refused(response: Response) -> Failed {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let detail = problem["detail"].as_str().map_or_else(|| format!("the aggregator says {status}"), str::to_owned);
    match status {
        StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE => Failed::later(detail),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Failed::new(EXIT_PERMISSION, format!("the aggregator does not take the admin token ({detail}): if it was changed, restart the aggregator"))
        }
        StatusCode::BAD_REQUEST => Failed::new(2, detail),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            Failed::new(1, "the aggregator that runs is of an older version: restart it, or stop it first")
        }
        _ => Failed::new(1, detail),
    }
}

/// Shows the steps until the last line.
async fn follow(mut response: Response, show: &Show) -> Result<Report, Failed> {
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|e| Failed::later(format!("{ENDED} ({}); run this again", chain(&e.without_url()))))?;
        let Some(chunk) = chunk else { return Err(Failed::later(format!("{ENDED}; run this again"))) };
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            match serde_json::from_slice(&line).map_err(|e| Failed::new(1, format!("the aggregator answers what this program does not know: {e}")))? {
                Line::Progress { step, .. } => show.step(&step),
                Line::Result(report) => return Ok(report),
                Line::Fault(why) => return Err(Failed::new(1, why)),
            }
        }
        if rest.len() > LINE_BYTES_MAX {
            return Err(Failed::new(1, "the aggregator answers a line without an end"));
        }
    }
}

const ENDED: &str = "the aggregator ended before the work did: what was done is done, the rest is not";
