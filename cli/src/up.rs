//! `keyvigil up`: aggregator and agent on this host as child processes, the agent joined by a token that nobody has to
//! see. The children end when their standard input does, so none outlives this process, however it ends.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use keyvigil_common::client::Client;
use keyvigil_common::process;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::args::{Output, Up};
use crate::print::{self, Failed};

/// Of the ingest listener.
const INGEST_PORT: u16 = 8443;
/// How long a child may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// First line of the aggregator's standard output.
#[derive(Debug, Serialize, Deserialize)]
struct Endpoints {
    url: String,
    ingest_url: String,
    metrics_url: String,
    health_url: String,
    admin_token: String,
    dir: PathBuf,
}

/// A child, and the end of its standard input that keeps it alive: waiting for a child would close its own.
struct Kept {
    child: Child,
    stdin: Option<ChildStdin>,
}

/// Starts both, tells where they are, and waits for the word to stop.
pub(crate) async fn up(args: Up, output: Output) -> Result<ExitCode, Failed> {
    let dir = args.dir.clone().map_or_else(default_dir, Ok)?;
    std::fs::create_dir_all(&dir).map_err(|e| Failed::new(1, format!("cannot make {}: {e}", dir.display())))?;
    let (mut aggregator, endpoints) = start_aggregator(&args, &dir).await?;
    let probe = if args.no_agent { None } else { start_probe(&dir)? };
    let mut agent = match args.no_agent {
        true => None,
        false => Some(start_agent(&dir, &endpoints).await?),
    };
    announce(&endpoints, &dir, output);
    let ended = tokio::select! {
        _ = process::asked_to_stop(false) => None,
        status = aggregator.child.wait() => Some(("aggregator", status)),
        status = ended(agent.as_mut()) => Some(("agent", status)),
    };
    // The agent first, so that it can deliver what it saw last.
    stop(agent).await;
    stop(probe).await;
    stop(Some(aggregator)).await;
    match ended {
        None => Ok(ExitCode::SUCCESS),
        Some((name, status)) => Err(Failed::new(code(&status), format!("the {name} ended by itself: {}", words(status)))),
    }
}

fn default_dir() -> Result<PathBuf, Failed> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    state.or_else(home).map(|dir| dir.join("keyvigil")).ok_or_else(|| Failed::new(2, "neither HOME nor XDG_STATE_HOME is set: name a directory with --dir"))
}

/// A program of ours, beside this one.
fn program(name: &str) -> Result<PathBuf, Failed> {
    let here = std::env::current_exe().map_err(|e| Failed::new(1, format!("cannot find this program: {e}")))?;
    let path = here.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(Failed::new(1, format!("{} is missing: install or build it beside `keyvigil`", path.display()))) }
}

async fn start_aggregator(args: &Up, dir: &Path) -> Result<(Kept, Endpoints), Failed> {
    let mut command = Command::new(program("keyvigil-aggregator")?);
    command.arg("--dir").arg(dir.join("aggregator")).args(["run", "--output", "json", "--stop-with-stdin"]);
    command.env("KEYVIGIL_LISTEN__API", &args.listen).envs(other_listeners(&args.listen));
    // A chatty log hides the one address that matters.
    if std::env::var_os("LOG_LEVEL").is_none() {
        command.env("LOG_LEVEL", "warn");
    }
    let mut kept = spawn(command.stdout(Stdio::piped()))?;
    let stdout = kept.child.stdout.take().ok_or_else(|| Failed::new(1, "no output of the aggregator"))?;
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next_line().await.ok().flatten();
    match line.and_then(|line| serde_json::from_str(&line).ok()) {
        Some(endpoints) => Ok((kept, endpoints)),
        None => {
            let status = kept.child.wait().await;
            Err(Failed::new(code(&status), format!("the aggregator did not start ({}); what it said stands above", words(status))))
        }
    }
}

/// Where the other listeners go, as the aggregator's variables: on free ports if the API is on one, and agents of other
/// hosts are let in where people of other hosts are.
fn other_listeners(api: &str) -> Vec<(String, String)> {
    let free = api.ends_with(":0");
    let outside = api.parse::<SocketAddr>().ok().filter(|address| !address.ip().is_loopback());
    let mut set = Vec::new();
    if let Some(address) = outside {
        set.push(("INGEST", SocketAddr::new(address.ip(), if free { 0 } else { INGEST_PORT }).to_string()));
    } else if free {
        set.push(("INGEST", "127.0.0.1:0".to_owned()));
    }
    if free {
        set.extend(["METRICS", "HEALTH"].map(|name| (name, "127.0.0.1:0".to_owned())));
    }
    set.into_iter().map(|(name, address)| (format!("KEYVIGIL_LISTEN__{name}"), address)).collect()
}

/// The agent's helper, where this user may start it: it needs root. Without it the agent says what it does not see.
fn start_probe(dir: &Path) -> Result<Option<Kept>, Failed> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let mut command = Command::new(program("keyvigil-agent")?);
    command.arg("probe").arg("--socket").arg(probe_socket(dir)).arg("--stop-with-stdin");
    if std::env::var_os("LOG_LEVEL").is_none() {
        command.env("LOG_LEVEL", "warn");
    }
    spawn(&mut command).map(Some)
}

fn probe_socket(dir: &Path) -> PathBuf {
    // Absolute, as the agent's configuration wants it.
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).join("probe.sock")
}

async fn start_agent(dir: &Path, endpoints: &Endpoints) -> Result<Kept, Failed> {
    let (agent, state) = (program("keyvigil-agent")?, dir.join("agent"));
    let address = endpoints.ingest_url.trim_start_matches("https://");
    let ca = std::fs::read_to_string(ca_file(endpoints)).unwrap_or_default();
    if !joined_to(&state, address, &ca) {
        let client = Client::with_ca(&endpoints.url, Some(&endpoints.admin_token), ca.as_bytes()).map_err(print::failed)?;
        let token = client.create_token(1, "5m").await.map_err(print::failed)?;
        let mut join = Command::new(&agent);
        join.arg("--dir").arg(&state).args(["join", "-"]).stdout(Stdio::null());
        let mut child = join.stdin(Stdio::piped()).spawn().map_err(|e| Failed::new(1, format!("cannot start {}: {e}", agent.display())))?;
        if let Some(mut stdin) = child.stdin.take() {
            let text = token["token"].as_str().unwrap_or_default().to_owned();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, text.as_bytes()).await;
        }
        let status = child.wait().await;
        if !status.as_ref().is_ok_and(ExitStatus::success) {
            return Err(Failed::new(code(&status), format!("the agent could not join ({}); what it said stands above", words(status))));
        }
    }
    let mut command = Command::new(agent);
    command.arg("--dir").arg(state).args(["run", "--stop-with-stdin"]);
    if std::env::var_os("KEYVIGIL_ACCESS__SOCKET").is_none() {
        command.env("KEYVIGIL_ACCESS__SOCKET", probe_socket(dir));
    }
    if std::env::var_os("LOG_LEVEL").is_none() {
        command.env("LOG_LEVEL", "warn");
    }
    spawn(&mut command)
}

/// The CA of an aggregator on this host.
fn ca_file(endpoints: &Endpoints) -> PathBuf {
    endpoints.dir.join("pki/ca.pem")
}

/// Whether the agent in `state` belongs to this aggregator: with other ports, or another CA, it joins anew.
fn joined_to(state: &Path, address: &str, ca: &str) -> bool {
    let identity = std::fs::read(state.join("identity.json")).ok();
    let identity: Option<serde_json::Value> = identity.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // While a CA is replaced there are two of them; the agent follows by itself.
    let shares = |own: &str| certificates(own).any(|one| certificates(ca).any(|other| one == other));
    identity.is_some_and(|identity| identity["address"] == address && identity["ca"].as_str().is_some_and(shares))
}

fn certificates(pem: &str) -> impl Iterator<Item = &str> {
    pem.split("-----END CERTIFICATE-----").map(str::trim).filter(|text| !text.is_empty())
}

/// A child in a process group of its own: Ctrl-C is ours to pass on, in the right order.
fn spawn(command: &mut Command) -> Result<Kept, Failed> {
    let spawned = command.stdin(Stdio::piped()).process_group(0).kill_on_drop(true).spawn();
    let mut child = spawned.map_err(|e| Failed::new(1, format!("cannot start {:?}: {e}", command.as_std().get_program())))?;
    let stdin = child.stdin.take();
    Ok(Kept { child, stdin })
}

/// The exit code of a child that failed is ours, too: it says whether its configuration is at fault, or what else.
fn code(status: &std::io::Result<ExitStatus>) -> u8 {
    let code = status.as_ref().ok().and_then(ExitStatus::code);
    code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code > 0).unwrap_or(1)
}

fn words(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|e| e.to_string(), |status| status.to_string())
}

async fn ended(kept: Option<&mut Kept>) -> std::io::Result<ExitStatus> {
    match kept {
        Some(kept) => kept.child.wait().await,
        None => std::future::pending().await,
    }
}

async fn stop(kept: Option<Kept>) {
    let Some(Kept { mut child, stdin }) = kept else { return };
    drop(stdin);
    if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

fn announce(endpoints: &Endpoints, dir: &Path, output: Output) {
    if output == Output::Json {
        let line = Endpoints { dir: dir.to_owned(), ..copy(endpoints) };
        process::say(&serde_json::to_string(&line).unwrap_or_default());
        return;
    }
    process::say(&format!("Keyvigil    {}", endpoints.url));
    process::say(&format!("Metrics     {}", endpoints.metrics_url));
    process::say(&format!("Health      {}", endpoints.health_url));
    process::say(&format!("Data        {}", dir.display()));
    let ca = if endpoints.url.starts_with("https:") { format!(" --ca-file {}", ca_file(endpoints).display()) } else { String::new() };
    process::say(&format!("Add a host  keyvigil --url {}{ca} --token-file {}/aggregator/admin.token token create", endpoints.url, dir.display()));
    if std::io::stdout().is_terminal() {
        process::say("Ctrl-C stops it.");
    }
}

fn copy(e: &Endpoints) -> Endpoints {
    Endpoints {
        url: e.url.clone(),
        ingest_url: e.ingest_url.clone(),
        metrics_url: e.metrics_url.clone(),
        health_url: e.health_url.clone(),
        admin_token: e.admin_token.clone(),
        dir: e.dir.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_script_learns_from_the_exit_code_why_a_child_failed() {
        for (raw, told) in [(78 << 8, 78), (1 << 8, 1), (0, 1), (9, 1)] {
            assert_eq!(code(&Ok(ExitStatus::from_raw(raw))), told, "{raw}");
        }
        assert_eq!(code(&Err(std::io::Error::other("gone"))), 1);
    }
}
