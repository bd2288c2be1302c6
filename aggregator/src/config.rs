//! `aggregator.toml`: every key has a default that works on loopback. Sections are the rooms; flags and environment come
//! on top (see `keyvigil_common::config`).

use std::path::PathBuf;

use keyvigil_common::config::{Faults, Period, Secret, Sources, load};
use keyvigil_common::limits::SERIES_MAX;
use serde::{Deserialize, Serialize};

use crate::alert::Rule;
use crate::index::Selector;
use crate::keys::revocation::RevocationConfig;
use crate::notify::{SlackConfig, SmtpConfig};
use crate::store::{self, Keep};

/// Older names of environment variables.
pub const ALIASES: &[(&str, &str)] = &[
    ("METRICS_DB_PATH", "storage.path"),
    ("METRICS_RETENTION_DAYS", "storage.retention_days"),
    ("METRICS_STORAGE_TYPE", "storage.type"),
    ("SMTP_SERVER", "smtp.host"),
    ("SMTP_PORT", "smtp.port"),
    ("SMTP_USERNAME", "smtp.username"),
    ("SMTP_PASSWORD", "smtp.password"),
    ("SLACK_WEBHOOK_URL", "slack.webhook_url"),
    ("LOG_LEVEL", "log.level"),
];

/// The whole configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `[listen]`
    pub listen: Listen,
    /// `[storage]`
    pub storage: Storage,
    /// `[limits]`
    pub limits: Limits,
    /// `[api]`
    pub api: Api,
    /// `[enroll]`
    pub enroll: Enroll,
    /// `[alerts]`
    pub alerts: Alerts,
    /// `[revocation]`
    pub revocation: RevocationConfig,
    /// `[smtp]`
    pub smtp: SmtpConfig,
    /// `[slack]`
    pub slack: SlackConfig,
    /// `[log]`
    pub log: Log,
}

/// Below this a day of a few hosts would be compacted all the time.
const MEMORY_BYTES_MIN: usize = 64 << 20;

/// What each series takes in level 0 before it has a sample, bytes: its place in two generations.
const SERIES_PLACE_BYTES: usize = 72;

/// `[listen]`: addresses. Port 0 takes a free one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Listen {
    /// API and dashboard.
    pub api: String,
    /// mTLS ingest and enrolment.
    pub ingest: String,
    /// Prometheus exposition.
    pub metrics: String,
    /// Health.
    pub health: String,
    /// What serves TLS on the API, metrics and health listeners where they are not on loopback: `self` (a certificate of the
    /// aggregator's own CA) or `external` (a proxy in front does).
    pub tls: String,
    /// `host:port` under which agents reach the ingest listener; stands in join tokens. Default: this host's name and the port.
    pub advertise: String,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            api: "127.0.0.1:8080".into(),
            ingest: "127.0.0.1:8443".into(),
            metrics: "127.0.0.1:9090".into(),
            health: "127.0.0.1:8081".into(),
            tls: "self".into(),
            advertise: String::new(),
        }
    }
}

/// `[storage]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// Backend: `sqlite`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Directory of the state.
    pub path: PathBuf,
    /// File of the master key (64 hex digits); default: `master.key` beside the state. Keep it where the backups are not.
    pub master_key_file: PathBuf,
    /// Days that samples and events are kept.
    pub retention_days: u32,
    /// Days that roll-ups of 5 min are kept: they answer for what is older.
    pub rollup_5m_days: u32,
    /// Days that roll-ups of 1 h are kept.
    pub rollup_1h_days: u32,
    /// What is kept for longer or shorter, `[[storage.retention]]`; of several that mean a series the first one counts.
    pub retention: Vec<Retention>,
    /// How long samples stay in level 0 before they are compacted.
    pub flush_interval: Period,
    /// Memory for samples and series, bytes. Level 0 is compacted before that when it takes a quarter of it.
    pub memory_bytes: usize,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            kind: "sqlite".into(),
            path: "/var/lib/keyvigil/aggregator".into(),
            master_key_file: PathBuf::new(),
            retention_days: 30,
            rollup_5m_days: 90,
            rollup_1h_days: 730,
            retention: Vec::new(),
            flush_interval: Period::seconds(600),
            memory_bytes: 512 << 20,
        }
    }
}

/// `[[storage.retention]]`: how long some series are kept. What is not given is as for all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Retention {
    /// Which, as `metric_pattern` of a query: `system.cpu.*`, or `re:` and an expression.
    pub metrics: String,
    /// Tags that they must have, as `tag` of a query: `name:value`, `name:!value`, `name:~expression`.
    pub tags: Vec<String>,
    /// Whose; default: the tenant `default`.
    pub tenant: Option<String>,
    /// Days that samples are kept.
    pub days: Option<u32>,
    /// Days that roll-ups of 5 min are kept.
    pub rollup_5m_days: Option<u32>,
    /// Days that roll-ups of 1 h are kept.
    pub rollup_1h_days: Option<u32>,
}

impl Retention {
    /// Which series are meant.
    ///
    /// # Errors
    /// What is wrong with pattern or tags.
    pub fn selector(&self) -> Result<Selector, String> {
        Selector::parse(&self.metrics, self.tags.iter().map(String::as_str))
    }

    /// How long they are kept where it is not as `all` are.
    #[must_use]
    pub fn keep(&self, all: Keep) -> Keep {
        Keep { samples: self.days.unwrap_or(all.samples), minutes: self.rollup_5m_days.unwrap_or(all.minutes), hours: self.rollup_1h_days.unwrap_or(all.hours) }
    }
}

impl Storage {
    /// How long what no rule means is kept.
    #[must_use]
    pub fn keep(&self) -> Keep {
        Keep { samples: self.retention_days, minutes: self.rollup_5m_days, hours: self.rollup_1h_days }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, days) in [("retention_days", self.retention_days), ("rollup_5m_days", self.rollup_5m_days), ("rollup_1h_days", self.rollup_1h_days)] {
            if days == 0 {
                faults.push(format!("storage.{name}: must be at least 1"));
            }
        }
        for rule in &self.retention {
            let at = format!("storage.retention {:?}", rule.metrics);
            faults.extend(rule.selector().err().map(|fault| format!("{at}: {fault}")));
            let given = [rule.days, rule.rollup_5m_days, rule.rollup_1h_days];
            if given.contains(&Some(0)) {
                faults.push(format!("{at}: days must be at least 1"));
            }
            if given == [None; 3] {
                faults.push(format!("{at}: set days, rollup_5m_days or rollup_1h_days"));
            }
        }
        faults
    }
}

/// `[limits]`: of series, so that one sender that makes more and more of them does not take the room of the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Series of one tenant.
    pub series_per_tenant: usize,
    /// Series of one agent: of one value of the tag `host`, or of `instance` where there is no `host`.
    pub series_per_agent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let store::Limits { per_tenant, per_agent } = store::Limits::default();
        Self { series_per_tenant: per_tenant, series_per_agent: per_agent }
    }
}

/// `[api]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Api {
    /// Token for changes; made at first start (file `admin.token` in the state directory) where it is not given.
    pub admin_token: Secret,
    /// Whether reading needs no token on a loopback listener.
    pub open_on_loopback: bool,
}

impl Default for Api {
    fn default() -> Self {
        Self { admin_token: Secret::default(), open_on_loopback: true }
    }
}

/// `[enroll]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Enroll {
    /// Life of an agent's certificate; it is renewed at half of it.
    pub certificate_life: Period,
    /// How long after its end a certificate can still be renewed, so that a host that was off comes back by itself.
    pub grace: Period,
}

impl Default for Enroll {
    fn default() -> Self {
        Self { certificate_life: Period::seconds(7 * 86_400), grace: Period::seconds(90 * 86_400) }
    }
}

/// `[alerts]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Alerts {
    /// How often rules are evaluated.
    pub interval: Period,
    /// Whether the shipped rules are on.
    pub shipped: bool,
    /// Further rules, `[[alerts.rules]]`.
    pub rules: Vec<Rule>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self { interval: Period::seconds(10), shipped: true, rules: Vec::new() }
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

    /// What is wrong with values that have the right type.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, address) in [("api", &self.listen.api), ("ingest", &self.listen.ingest), ("metrics", &self.listen.metrics), ("health", &self.listen.health)] {
            if address.parse::<std::net::SocketAddr>().is_err() {
                faults.push(format!("listen.{key}: {address:?} is not an address and port such as 127.0.0.1:8080"));
            }
        }
        if !matches!(self.listen.tls.as_str(), "self" | "external") {
            faults.push(format!("listen.tls: {:?} is neither \"self\" nor \"external\"", self.listen.tls));
        }
        if self.storage.kind != "sqlite" {
            faults.push(format!("storage.type: {:?} is not supported by this version; \"sqlite\" is", self.storage.kind));
        }
        if self.storage.memory_bytes < MEMORY_BYTES_MIN {
            faults.push(format!("storage.memory_bytes: must be at least {MEMORY_BYTES_MIN}"));
        }
        faults.extend(self.storage.faults());
        if self.limits.series_per_tenant <= SERIES_MAX && self.limits.series_per_tenant * SERIES_PLACE_BYTES > self.storage.memory_bytes / 4 {
            let most = self.storage.memory_bytes / 4 / SERIES_PLACE_BYTES;
            faults.push(format!(
                "limits.series_per_tenant: with storage.memory_bytes = {} at most {most}; give it more memory, or allow fewer series",
                self.storage.memory_bytes
            ));
        }
        for (key, value) in [("series_per_tenant", self.limits.series_per_tenant), ("series_per_agent", self.limits.series_per_agent)] {
            if !(1..=SERIES_MAX).contains(&value) {
                faults.push(format!("limits.{key}: must be at least 1 and at most {SERIES_MAX}, which is what an aggregator can hold"));
            }
        }
        if self.alerts.interval.0.as_millis() < 100 {
            faults.push("alerts.interval: must be at least 100ms".into());
        }
        if self.enroll.certificate_life.0.as_secs() < 10 {
            faults.push("enroll.certificate_life: must be at least 10s".into());
        }
        faults.extend(self.revocation.faults());
        for rule in &self.alerts.rules {
            faults.extend(crate::job::alerts::selector(rule).err().map(|f| format!("alerts.rules {}: {f}", rule.rule_id)));
            faults.extend(rule.check().err().unwrap_or_default().into_iter().map(|f| format!("alerts.rules {}: {f}", rule.rule_id)));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_series_are_at_least_one_and_what_an_aggregator_can_hold() {
        let storage = Storage { memory_bytes: 1 << 30, ..Storage::default() };
        let with = |series_per_tenant, series_per_agent| {
            Config { limits: Limits { series_per_tenant, series_per_agent }, storage: storage.clone(), ..Config::default() }.faults()
        };
        assert_eq!((with(1, 1), Config::default().faults()), (Vec::new(), Vec::new()));
        assert_eq!(with(SERIES_MAX, SERIES_MAX), [""; 0]);
        let faults = with(SERIES_MAX + 1, 0);
        let words = "must be at least 1 and at most 2000000";
        assert!(faults.len() == 2 && faults[0].starts_with("limits.series_per_tenant: ") && faults[1].starts_with("limits.series_per_agent: "), "{faults:?}");
        assert!(faults.iter().all(|fault| fault.contains(words)), "{faults:?}");
        let small = Config { storage: Storage { memory_bytes: MEMORY_BYTES_MIN, ..Storage::default() }, ..Config::default() }.faults();
        assert!(matches!(&small[..], [fault] if fault.contains("at most 233016")), "{small:?}");
    }
}
