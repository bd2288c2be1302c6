//! An aggregator, an agent and its helper that watch one directory of keys, on this machine's own kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyvigil_agent::collect::COLLECTORS;
use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::run::Running;
use keyvigil_common::client::{Client, Query};
use serde_json::Value;

use crate::harness::{Harness, PATIENCE, until};
use crate::host::tool;
use crate::probe::Probe;

/// Sensors that it takes.
const SENSORS: [&str; 3] = ["keystore", "access", "operations"];
/// The key with which [`Watched::settled`] makes sure that all before it was told.
const MARKER: &str = "marker.key";

/// All that runs.
#[derive(Debug)]
pub struct Watched {
    /// The aggregator, and directories.
    pub harness: Harness,
    /// Where the keys lie.
    pub keys: PathBuf,
    client: Client,
    agent: Running,
    // Last, so that it outlives who listens to it.
    _probe: Probe,
}

impl Watched {
    /// Starts all on keys that `make` puts into a directory, and returns when each of them is followed. `None` where the kernel does not
    /// let this user; it says why.
    pub async fn start(make: impl FnOnce(&Path)) -> Option<Self> {
        let harness = Harness::start().await;
        let keys = harness.dir("keys");
        tool(&keys, &format!("openssl genpkey -algorithm ED25519 -out {MARKER}"));
        make(&keys);
        let socket = harness.dir("run").join("probe.sock");
        let probe = Probe::start(&socket, &[])?;
        let mut config = harness.agent_config("agent", &RootFs::host());
        config.keystore.paths = vec![keys.to_string_lossy().into_owned()];
        config.sampling.disabled = COLLECTORS.iter().map(|row| row.name.to_owned()).filter(|name| !SENSORS.contains(&name.as_str())).collect();
        config.access.socket = socket;
        let agent = harness.agent(&config, Dialer::tcp()).await;
        let watched = Self { client: harness.client(), harness, keys, agent, _probe: probe };
        for file in watched.private_files() {
            watched.followed(&file).await;
        }
        watched.sees_operations().await;
        Some(watched)
    }

    /// Returns when libraries are looked into. The kernel attaches to them only when it does not detach others, of a test that ends: that
    /// may take it half a minute each.
    async fn sees_operations(&self) {
        let seen = async {
            while self.counts("crypto.operations.lost_total", "", &[]).await.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE * 4, seen).await.expect("waited in vain: that libraries are looked into");
    }

    fn private_files(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(&self.keys).expect("the keys").map(|entry| entry.expect("an entry").path());
        all.filter(|path| path.extension().is_some_and(|kind| kind == "key")).collect()
    }

    /// Reads the file until somebody was seen to, and by the helper, which knows who: it is followed from then on.
    pub async fn followed(&self, file: &Path) {
        until("that a key is followed", || async {
            tool(&self.keys, &format!("cat {}", file.display()));
            let events = self.client.events(&[("kind", "accessed"), ("limit", "1000")]).await.ok()?;
            events["events"].as_array()?.iter().any(|event| event["path"].as_str() == file.to_str() && event["actor"]["pid"].is_number()).then_some(())
        })
        .await;
    }

    /// The key's name, of the file `name`, as it is now.
    pub async fn key(&self, name: &str) -> String {
        let path = self.keys.join(name);
        let lies = |place: &Value| place["path"].as_str() == path.to_str() && place["gone"] == false;
        let is_it = |key: &Value| key["kind"] != "certificate" && key["places"].as_array().is_some_and(|places| places.iter().any(lies));
        until("the key", || async {
            let keys = self.client.keys(&[("limit", "1000")]).await.ok()?;
            keys["keys"].as_array()?.iter().find(|key| is_it(key)).and_then(|key| key["id"].as_str()).map(str::to_owned)
        })
        .await
    }

    /// The counts of a metric, by the tags of these names, of programs whose path or key has `of` in it; the latest of each.
    pub async fn counts(&self, metric: &str, of: &str, tags: &[&str]) -> BTreeMap<String, f64> {
        let query = Query { metric_pattern: metric.to_owned(), start_time: Some("-1h".into()), limit: Some(10_000), ..Query::default() };
        let answer = self.client.query_metrics(&query).await.expect("an answer");
        let mut counts = BTreeMap::new();
        for series in answer.series.iter().filter(|series| series.tags.values().any(|value| value.contains(of))) {
            let name: Vec<&str> = tags.iter().map(|tag| series.tags.get(*tag).map_or("", String::as_str)).collect();
            *counts.entry(name.join(" ")).or_default() += series.points.last().and_then(|(_, value)| value.as_f64()).unwrap_or_default();
        }
        counts
    }

    /// Counts of operations with the key of a file, by metric (`signing_ops`).
    pub async fn uses(&self, file: &str) -> BTreeMap<String, f64> {
        self.uses_of(&self.key(file).await).await
    }

    /// Counts of operations with a key, by metric.
    pub async fn uses_of(&self, key: &str) -> BTreeMap<String, f64> {
        let mut uses = BTreeMap::new();
        for metric in ["signing_ops", "verification_ops", "encryption_ops", "decryption_ops", "derivation_ops"] {
            for (_, count) in self.counts(&format!("crypto.key.{metric}"), key, &["key"]).await {
                uses.insert(metric.to_owned(), count);
            }
        }
        uses
    }

    /// Returns when all that was done before it was told. The kernel's counts are read one after the other, so what comes after all that
    /// went before has to be seen twice.
    pub async fn settled(&self) {
        let marker = self.key(MARKER).await;
        let seen = || async { self.uses_of(&marker).await.get("signing_ops").copied().unwrap_or_default() };
        for _ in 0..2 {
            let before = seen().await;
            tool(&self.keys, &format!("openssl pkeyutl -sign -rawin -inkey {MARKER} -in /etc/hostname -out /dev/null"));
            until("a signature is told", || async { (seen().await > before).then_some(()) }).await;
        }
    }

    /// What is told to be seen less well than exactly: the events, as text.
    pub async fn gaps(&self) -> Vec<String> {
        let events = self.client.events(&[("kind", "coverage_lost"), ("limit", "1000")]).await.expect("events");
        events["events"].as_array().into_iter().flatten().map(Value::to_string).collect()
    }

    /// Stops the agent; the rest ends with this value.
    ///
    /// # Panics
    /// Where it does not end cleanly.
    pub async fn stop(self) {
        self.agent.stop().await.expect("a clean end");
    }
}
