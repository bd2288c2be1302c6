//! The servers that are compared: started as processes of their own in fresh directories on loopback, told to compact,
//! measured from outside, stopped. Each keeps its defaults but for what stands in [`Server::start`]. A server that is dropped
//! is killed.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::drive::{Connection, Endpoint};

/// How long a server may take to start, to stop or to become quiet.
const PATIENCE: Duration = Duration::from_secs(300);
/// Work in the background is over when this long nothing was written and hardly any CPU used.
const QUIET: Duration = Duration::from_secs(3);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    VictoriaMetrics,
    Prometheus,
    Keyvigil,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::VictoriaMetrics => "VictoriaMetrics",
            Self::Prometheus => "Prometheus",
            Self::Keyvigil => "Keyvigil",
        }
    }

    pub(crate) fn write_path(self) -> &'static str {
        match self {
            Self::Keyvigil => "/prometheus/api/v1/write",
            _ => "/api/v1/write",
        }
    }
}

/// What a server weighs once it is compacted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settled {
    /// CPU seconds from the server's start on, compaction included.
    pub(crate) cpu: f64,
    /// Bytes of the samples' files, and of how many files.
    pub(crate) bytes: u64,
    pub(crate) files: usize,
    /// What the figure is of.
    pub(crate) note: String,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) endpoint: Endpoint,
    bin: PathBuf,
    /// Its own; nothing else lies in it.
    dir: PathBuf,
    child: Child,
}

impl Server {
    /// Starts one on `dir`, which may hold what an earlier one left.
    pub(crate) async fn start(kind: Kind, bin: &Path, dir: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let data = dir.join("data");
        let mut command = Command::new(bin);
        let mut address = free_address()?;
        match kind {
            // By default the newest 30 s are left out of answers.
            Kind::VictoriaMetrics => {
                command.arg(format!("-storageDataPath={}", data.display())).arg(format!("-httpListenAddr={address}"));
                command.args(["-search.latencyOffset=1ms", "-loggerLevel=WARN"])
            }
            Kind::Prometheus => {
                let config = dir.join("prometheus.yml");
                std::fs::write(&config, "global: {}\n").map_err(|e| e.to_string())?;
                command.arg(format!("--config.file={}", config.display())).arg(format!("--storage.tsdb.path={}", data.display()));
                command.arg(format!("--web.listen-address={address}"));
                command.args(["--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level=warn"])
            }
            Kind::Keyvigil => {
                command.arg("--dir").arg(&data).args(["run", "--output", "json", "--stop-with-stdin"]).env("LOG_LEVEL", "warn");
                command.envs(["API", "INGEST", "METRICS", "HEALTH"].map(|name| (format!("KEYVIGIL_LISTEN__{name}"), "127.0.0.1:0")))
            }
        };
        let log = std::fs::File::create(dir.join("log")).map_err(|e| e.to_string())?;
        let out = if kind == Kind::Keyvigil { Stdio::piped() } else { log.try_clone().map_err(|e| e.to_string())?.into() };
        let child = command.stdin(Stdio::piped()).stdout(out).stderr(log).current_dir(dir).spawn().map_err(|e| format!("{}: {e}", bin.display()))?;
        let mut server = Self { kind, endpoint: Endpoint { address: String::new(), token: None }, bin: bin.into(), dir: dir.into(), child };
        if kind == Kind::Keyvigil {
            let at = server.announced()?;
            address = at["url"].as_str().unwrap_or_default().trim_start_matches("http://").trim_end_matches('/').to_owned();
            server.endpoint.token = at["admin_token"].as_str().map(str::to_owned);
        }
        server.endpoint.address = address;
        server.ready().await?;
        Ok(server)
    }

    /// The line in which an aggregator says where it is.
    fn announced(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        let out = self.child.stdout.take().ok_or("no pipe")?;
        BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
        serde_json::from_str(&line).map_err(|_| format!("it did not start: {}", self.log()))
    }

    async fn ready(&mut self) -> Result<(), String> {
        let path = match self.kind {
            Kind::VictoriaMetrics => "/health",
            Kind::Prometheus => "/-/ready",
            Kind::Keyvigil => "/api/v1/status",
        };
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = match Connection::open(&self.endpoint).await {
                Ok(mut connection) => connection.get(path).await.map(|_| ()),
                Err(e) => Err(e),
            };
            let Err(e) = answer else { return Ok(()) };
            let ended = self.child.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || Instant::now() > until {
                return Err(format!("it did not start ({e}): {}", self.log()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        text.lines().rev().take(3).collect::<Vec<_>>().join(" / ")
    }

    /// CPU seconds that the process has used.
    pub(crate) fn cpu(&self) -> f64 {
        cpu_of(&self.child.id().to_string(), 13)
    }

    /// The most memory it was ever resident with, MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
    }

    /// Has it compact, and weighs it. The server that comes back answers questions; Keyvigil's is a new process.
    pub(crate) async fn settle(mut self) -> Result<(Self, Settled), String> {
        let data = self.dir.join("data");
        if self.kind == Kind::Keyvigil {
            return self.settle_keyvigil(&data).await;
        }
        let mut connection = Connection::open(&self.endpoint).await?;
        let weighed = if self.kind == Kind::VictoriaMetrics {
            connection.get("/internal/force_flush").await?;
            // It leaves out what is being merged at that moment.
            self.quiet(&data).await?;
            connection.get("/internal/force_merge").await?;
            data.clone()
        } else {
            connection.post("/api/v1/admin/tsdb/snapshot?skip_head=false").await?;
            data.join("snapshots")
        };
        self.quiet(&data).await?;
        let (bytes, files) = weigh(&weighed);
        let note = match self.kind {
            Kind::Prometheus => format!(
                "blocks of a snapshot; beside them a WAL of {} and head chunks of {} bytes",
                weigh(&data.join("wal")).0,
                weigh(&data.join("chunks_head")).0
            ),
            _ => "all files".to_owned(),
        };
        let cpu = self.cpu();
        Ok((self, Settled { cpu, bytes, files, note }))
    }

    /// Ends it, runs its `compact` if there is one, weighs, starts it again.
    async fn settle_keyvigil(self, data: &Path) -> Result<(Self, Settled), String> {
        let (kind, bin, dir) = (self.kind, self.bin.clone(), self.dir.clone());
        let before = cpu_of_ended_children();
        self.stop().await?;
        let help = Command::new(&bin).arg("--help").stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
        let can_compact = String::from_utf8_lossy(&help.stdout).lines().any(|line| line.trim_start().starts_with("compact "));
        if can_compact {
            let done = Command::new(&bin).args(["compact", "--dir"]).arg(data).stdin(Stdio::null()).output().map_err(|e| e.to_string())?;
            if !done.status.success() {
                return Err(format!("compact: {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim()));
            }
        }
        let cpu = cpu_of_ended_children() - before;
        let (bytes, files) = weigh(data);
        let note = if can_compact { "all files" } else { "all files, NOT COMPACTED: this build has no `compact`" }.to_owned();
        Ok((Self::start(kind, &bin, &dir).await?, Settled { cpu, bytes, files, note }))
    }

    /// Waits until nothing is written and hardly any CPU used any more.
    async fn quiet(&mut self, data: &Path) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        let mut last = (weigh(data), self.cpu(), Instant::now());
        while last.2.elapsed() < QUIET {
            if Instant::now() > until {
                return Err(format!("still busy after {} s", PATIENCE.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
            let now = (weigh(data), self.cpu());
            let allowed = 0.1 + 0.05 * last.2.elapsed().as_secs_f64();
            if now.0 != last.0 || now.1 - last.1 > allowed {
                last = (now.0, now.1, Instant::now());
            }
        }
        Ok(())
    }

    /// Asks it to end, and waits.
    pub(crate) async fn stop(mut self) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        kill_process(pid, Signal::TERM).map_err(|e| format!("cannot be told to end: {e}"))?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().map_err(|e| e.to_string())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("ended with {status}: {}", self.log())),
                None if Instant::now() > until => return Err("does not end".into()),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Port 0 would be simpler; the peers do not say which port they got.
fn free_address() -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    listener.local_addr().map(|address| address.to_string()).map_err(|e| e.to_string())
}

/// Bytes and number of all files below `dir`.
fn weigh(dir: &Path) -> (u64, usize) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.fold((0, 0), |(bytes, files), entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => {
            let (below, count) = weigh(&entry.path());
            (bytes + below, files + count)
        }
        Ok(meta) => (bytes + meta.len(), files + 1),
        Err(_) => (bytes, files),
    })
}

/// CPU seconds of this process.
pub(crate) fn own_cpu() -> f64 {
    cpu_of("self", 13)
}

/// CPU seconds of all processes of this machine, what the hypervisor took included.
pub(crate) fn machine_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    // user nice system idle iowait irq softirq steal
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8).enumerate();
    let ticks: f64 = fields.filter(|(at, _)| !matches!(at, 3 | 4)).filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// CPU seconds of children that have ended and were waited for.
fn cpu_of_ended_children() -> f64 {
    cpu_of("self", 15)
}

/// Two neighbouring fields of proc(5)'s `stat`, counted from 0: 13 utime and stime, 15 cutime and cstime.
fn cpu_of(process: &str, field: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: f64 = after.split_whitespace().skip(field - 2).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
