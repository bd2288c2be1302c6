//! The real programs as processes of their own, to be killed. They are built with the tests and lie beside them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use keyvigil_common::client::Client;
use serde_json::Value;

/// A program of ours.
///
/// # Panics
/// Where it was not built: `make test` builds all.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let beside = test.parent().expect("a directory");
    // Tests lie a directory deeper than programs.
    let dir = beside.parent().filter(|_| beside.ends_with("deps")).unwrap_or(beside);
    let path = dir.join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace` first, or `make test`", path.display());
    path
}

/// A program of others: the one that `scripts/need` unpacked beside what is built, or the one on the path.
///
/// # Panics
/// Never in practice.
#[must_use]
pub fn peer(path: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let target = test.ancestors().nth(3).expect("target/debug/deps");
    let unpacked = target.join("peers").join(path);
    if unpacked.exists() { unpacked } else { Path::new(path).file_name().map(PathBuf::from).expect("a name") }
}

/// Runs a program of ours to its end.
///
/// # Panics
/// Where it cannot be started.
#[must_use]
pub fn run(name: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(program(name)).args(args).envs(env.iter().copied()).stdin(Stdio::null()).output().expect("it starts")
}

/// An aggregator process.
#[derive(Debug)]
pub struct Aggregator {
    child: Child,
    /// The first line it printed.
    pub at: Value,
}

impl Aggregator {
    /// Starts one on `dir`; `env` configures it further.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(dir: &Path, env: &[(&str, &str)]) -> Self {
        Self::start_logging(dir, env, Stdio::inherit())
    }

    /// Starts one that logs into `log`.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start_logging(dir: &Path, env: &[(&str, &str)], log: impl Into<Stdio>) -> Self {
        let free = "127.0.0.1:0";
        let mut command = Command::new(program("keyvigil-aggregator"));
        command.arg("--dir").arg(dir).args(["run", "--output", "json", "--stop-with-stdin"]);
        for name in ["API", "INGEST", "METRICS", "HEALTH"] {
            command.env(format!("KEYVIGIL_LISTEN__{name}"), free);
        }
        command.env("LOG_LEVEL", "warn").envs(env.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let at = serde_json::from_str(&line).expect("the aggregator says where it is");
        Self { child, at }
    }

    /// A client with the admin token.
    ///
    /// # Panics
    /// Never in practice.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.at["url"].as_str().expect("text"), self.at["admin_token"].as_str()).expect("a client")
    }

    /// `host:port` of the mTLS listener.
    #[must_use]
    pub fn ingest_address(&self) -> String {
        self.at["ingest_url"].as_str().unwrap_or_default().trim_start_matches("https://").to_owned()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A number of its own, as `/metrics` tells it: all values of that name together.
    ///
    /// # Panics
    /// Where it does not answer.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(self.at["metrics_url"].as_str().expect("text")).await.expect("metrics").text().await.expect("text");
        let of_name = |line: &str| line.strip_prefix(name)?.trim_start_matches(|c| c != ' ').split(' ').nth(1)?.parse::<f64>().ok();
        text.lines().filter(|line| line.as_bytes().get(name.len()).is_some_and(|next| b" {".contains(next))).filter_map(of_name).sum()
    }

    /// kill -9, while others still talk to it; it is waited for when it is dropped.
    ///
    /// # Panics
    /// Where it cannot be signalled.
    pub fn kill_now(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours");
    }

    /// kill -9.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Aggregator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent process.
#[derive(Debug)]
pub struct Agent(Child);

impl Agent {
    /// Starts one that has joined, with `config`.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn start(config: &Path) -> Self {
        let mut command = Command::new(program("keyvigil-agent"));
        command.arg("--config").arg(config).args(["run", "--stop-with-stdin"]).env("LOG_LEVEL", "error");
        Self(command.stdin(Stdio::piped()).spawn().expect("it starts"))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// kill -9.
    pub fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Asks it to end, and waits.
    pub fn stop(mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
