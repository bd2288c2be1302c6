//! A real aggregator in this process, on free loopback ports, and agents that join it. The clock is the test's.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_agent::config::Config as AgentConfig;
use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::{enroll, run as agent_run};
use keyvigil_aggregator::config::Config;
use keyvigil_aggregator::run::{self, Running};
use keyvigil_common::client::Client;
use keyvigil_common::clock::{ManualClock, SharedClock, SystemClock};
use keyvigil_common::config::Period;
use keyvigil_common::stop::Stop;
use serde_json::Value;
use tempfile::TempDir;

/// How long a condition may take to come true before the test is lost. Not a speed: nothing waits that long that works.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether experiments are as long as the fault matrix says.
#[must_use]
pub fn in_full() -> bool {
    std::env::var("KEYVIGIL_FAULTS").is_ok_and(|size| size == "full")
}

/// All events of a kind, page by page.
///
/// # Panics
/// Where there is no answer.
pub async fn events(client: &Client, kind: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let mut filters = vec![("kind", kind), ("limit", "1000")];
        if !cursor.is_empty() {
            filters.push(("cursor", &cursor));
        }
        let page = client.events(&filters).await.expect("events");
        all.extend(page["events"].as_array().cloned().unwrap_or_default());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return all,
        }
    }
}

/// Asks `look` until it says `Some`; panics with `what` when patience is over.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let asked = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // What is twenty times as much may take as much longer.
    let patience = if in_full() { PATIENCE * 20 } else { PATIENCE };
    tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// An aggregator and where it lies.
#[derive(Debug)]
pub struct Harness {
    dir: TempDir,
    clock: SharedClock,
    running: Option<Running>,
    config: Config,
}

impl Harness {
    /// Starts an aggregator on the system's clock.
    pub async fn start() -> Self {
        Self::with(SystemClock::shared(), |_| {}).await
    }

    /// Starts an aggregator on `clock`, its configuration changed by `change`.
    pub async fn with(clock: SharedClock, change: impl FnOnce(&mut Config)) -> Self {
        keyvigil_common::tls::install_provider();
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        for address in [&mut config.listen.api, &mut config.listen.ingest, &mut config.listen.metrics, &mut config.listen.health] {
            "127.0.0.1:0".clone_into(address);
        }
        config.storage.path = dir.path().join("aggregator");
        change(&mut config);
        let running = run::start(config.clone(), Arc::clone(&clock), Stop::new()).await.expect("the aggregator starts");
        Self { dir, clock, running: Some(running), config }
    }

    /// The running aggregator.
    #[must_use]
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs")
    }

    /// Stops the aggregator and starts it again on what it stored; ports change.
    pub async fn restart(&mut self) {
        self.running.take().expect("it runs").stop().await.expect("a clean end");
        self.running = Some(run::start(self.config.clone(), Arc::clone(&self.clock), Stop::new()).await.expect("the aggregator starts again"));
    }

    /// A client with the admin token.
    #[must_use]
    pub fn client(&self) -> Client {
        let at = &self.running().endpoints;
        Client::new(&at.url, Some(&at.admin_token)).expect("a client")
    }

    /// Address of the mTLS listener.
    #[must_use]
    pub fn ingest_address(&self) -> String {
        self.running().endpoints.ingest_url.trim_start_matches("https://").to_owned()
    }

    /// A new join token, as text.
    pub async fn token(&self) -> String {
        let token = self.client().create_token(1, "5m").await.expect("a token");
        token["token"].as_str().expect("text").to_owned()
    }

    /// A directory for an agent or a host.
    #[must_use]
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    /// Configuration of an agent that watches `root`, sampling every 100 ms at first.
    #[must_use]
    pub fn agent_config(&self, name: &str, root: &RootFs) -> AgentConfig {
        let mut config = AgentConfig { state_dir: self.dir(name), root: root.path("/"), ..AgentConfig::default() };
        let fast = (Period(Duration::from_millis(100)), Period(Duration::from_millis(100)));
        for row in keyvigil_agent::collect::COLLECTORS {
            config.sampling.intervals.insert(row.name.to_owned(), fast);
        }
        // What programs of this machine are configured to use is no part of a test.
        config.keystore.named_files = !root.is_host();
        // It would ask every port of the machine that runs the test.
        config.sampling.disabled.push("served".into());
        config
    }

    /// Joins an agent and starts it in this process.
    pub async fn agent(&self, config: &AgentConfig, dialer: Dialer) -> agent_run::Running {
        self.agent_on("test-host", config, dialer).await
    }

    /// Joins an agent of the host `host` and starts it in this process.
    pub async fn agent_on(&self, host: &str, config: &AgentConfig, dialer: Dialer) -> agent_run::Running {
        let token = self.token().await.parse().expect("a token");
        let root = RootFs::new(&config.root);
        enroll::join(&token, &config.state_dir, &root, host, &Dialer::tcp(), &self.clock).await.expect("the agent joins");
        agent_run::start(config, Arc::clone(&self.clock), dialer, &Stop::new()).expect("the agent starts")
    }
}

/// A directory in memory, where that is a file system: for tests that sync thousands of times.
///
/// # Panics
/// Where there is no room.
#[must_use]
pub fn memory_dir() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory")
}

/// A clock that stands at a fixed instant.
#[must_use]
pub fn manual_clock() -> Arc<ManualClock> {
    ManualClock::at(1_763_836_800_000)
}
