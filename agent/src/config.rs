//! `agent.toml`: every key has a default. Flags and environment come on top (see `keyvigil_common::config`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use keyvigil_common::config::{Faults, Period, Sources, load};
use serde::{Deserialize, Serialize};

use crate::canary::CanaryConfig;
use crate::collect::{AccessConfig, COLLECTORS, KeystoreConfig, ServedConfig, is_key_path, missing_key_paths, policy_doubts};
use crate::rootfs::RootFs;

/// Older names of environment variables.
pub const ALIASES: &[(&str, &str)] = &[("LOG_LEVEL", "log.level")];

/// The whole configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Directory of the agent's state: identity, buffer.
    pub state_dir: PathBuf,
    /// Root of the host to watch; `/` but for tests and for an agent in a container.
    pub root: PathBuf,
    /// Value of the `host` tag before the aggregator has given one; default: the host's name.
    pub hostname: String,
    /// `[buffer]`
    pub buffer: BufferConfig,
    /// `[sampling]`
    pub sampling: Sampling,
    /// `[keystore]`
    pub keystore: KeystoreConfig,
    /// `[served]`
    pub served: ServedConfig,
    /// `[access]`
    pub access: AccessConfig,
    /// `[canary]`
    pub canary: CanaryConfig,
    /// `[log]`
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/keyvigil/agent".into(),
            root: "/".into(),
            hostname: String::new(),
            buffer: BufferConfig::default(),
            sampling: Sampling::default(),
            keystore: KeystoreConfig::default(),
            served: ServedConfig::default(),
            access: AccessConfig::default(),
            canary: CanaryConfig::default(),
            log: Log::default(),
        }
    }
}

/// `[buffer]`: what may wait on disk while the aggregator is away.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct BufferConfig {
    /// Bytes.
    pub max_bytes: u64,
    /// Age of the oldest batch.
    pub max_age: Period,
    /// Bytes of the file system that stay free; 0: the smaller of a twentieth of it and 1 GiB.
    pub min_free_bytes: u64,
}

impl Default for BufferConfig {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, max_age: Period::seconds(7 * 86_400), min_free_bytes: 0 }
    }
}

/// `[sampling]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// Whether intervals follow how much values move; else each sensor keeps its shortest.
    pub adaptive: bool,
    /// Percent of one core that the agent may take; beyond it sensors are asked less often, those of keys last. 0: no bound.
    pub cpu_budget_percent: f64,
    /// Sensors that are off.
    pub disabled: Vec<String>,
    /// Shortest and longest interval of single sensors, `[sampling.intervals] cpu = ["1s", "10s"]`.
    pub intervals: BTreeMap<String, (Period, Period)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { adaptive: true, cpu_budget_percent: 1.0, disabled: Vec::new(), intervals: BTreeMap::new() }
    }
}

/// `[log]`, to standard error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`.
    pub level: String,
    /// One JSON object a line.
    pub json: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), json: false }
    }
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// All faults at once.
    pub fn read(sources: &Sources) -> Result<Self, Faults> {
        let config: Self = load(sources)?;
        let faults = config.faults();
        if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let names = || COLLECTORS.iter().map(|row| row.name).collect::<Vec<_>>().join(" ");
        let known = |name: &String| COLLECTORS.iter().any(|row| row.name == name);
        for name in self.sampling.disabled.iter().filter(|n| !known(n)) {
            faults.push(format!("sampling.disabled: there is no sensor {name:?}; there are: {}", names()));
        }
        for (name, (min, max)) in &self.sampling.intervals {
            if !known(name) {
                faults.push(format!("sampling.intervals.{name}: there is no such sensor; there are: {}", names()));
            }
            if min.0.as_millis() < 100 || min > max {
                faults.push(format!("sampling.intervals.{name}: the shortest interval must be at least 100ms and not above the longest"));
            }
        }
        if !(0.0..=100_000.0).contains(&self.sampling.cpu_budget_percent) {
            faults.push("sampling.cpu_budget_percent: must be a percentage of one core, or 0 for no bound".into());
        }
        if self.buffer.max_bytes < 1 << 20 {
            faults.push("buffer.max_bytes: must be at least 1048576 (1 MiB)".into());
        }
        let KeystoreConfig { paths, extra_paths, exclude, named_files: _, containers: _, password } = &self.keystore;
        for (at, password) in password.iter().enumerate() {
            if !password.path.starts_with('/') {
                faults.push(format!("keystore.password.{at}: path must be the absolute path of the stores that the password opens"));
            }
            if !password.file.is_absolute() {
                faults.push(format!("keystore.password.{at}: file must be the absolute path of the file whose first line is the password"));
            }
        }
        let wrong = paths.iter().chain(extra_paths).chain(exclude).filter(|path| !is_key_path(path));
        faults.extend(wrong.map(|path| format!("keystore: {path:?} is not an absolute path, nor below homes (~*/ or ~NAME/)")));
        faults.extend(self.served.faults());
        faults.extend(self.access.faults());
        faults.extend(self.canary.faults());
        faults
    }

    /// What is valid and may be a mistake nevertheless, as this host is now.
    #[must_use]
    pub fn doubts(&self, root: &RootFs) -> Vec<String> {
        let KeystoreConfig { paths, extra_paths, .. } = &self.keystore;
        let missing = missing_key_paths(root, paths.iter().chain(extra_paths));
        let nothing = missing.into_iter().map(|path| format!("keystore: nothing is at {path:?}; until something is, the keystore sensor is blind there"));
        nothing.chain(policy_doubts(&self.access, &self.keystore, root)).collect()
    }
}
