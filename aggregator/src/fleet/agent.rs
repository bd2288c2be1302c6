//! One agent: who it is, what was heard of it, and how it stands.

use keyvigil_common::canary::CanaryPath;
use keyvigil_common::tls::Identity;
use keyvigil_common::wire::HostFacts;
use serde::{Deserialize, Serialize};

use super::Sight;
use crate::ingest::Twin;
use crate::keys::Observed;

/// An agent is silent when nothing came from it for this long, ms, or for three of its intervals.
const SILENT_MS_MIN: i64 = 60_000;
/// An agent says itself how often it samples; whatever it says, after this silence it is silent, ms.
pub(super) const SILENT_MS_MAX: i64 = 24 * 3_600_000;
/// Silence after which another agent may take an agent's host name, ms: a host that was installed anew, mostly.
const ABANDONED_MS: i64 = 15 * 60_000;

/// One enrolled agent, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Random identity, 32 hex digits; stands in its certificate.
    pub id: String,
    /// Name of the tenant.
    pub tenant: String,
    /// Value of the tag `host` of all its data; unique within the tenant.
    pub host: String,
    /// SHA-256 of the machine's id, to tell a re-joining machine from another of the same name.
    pub machine: String,
    /// When it joined, Unix ms.
    pub enrolled_ms: i64,
    /// When it was last heard of.
    pub last_seen_ms: Option<i64>,
    /// Time of its newest sample.
    pub last_sample_ms: Option<i64>,
    /// End of its newest certificate.
    pub certificate_expires_ms: i64,
    /// It may no longer deliver.
    pub revoked: bool,
    /// Its host was taken out: it is listed no more.
    #[serde(default)]
    pub removed: bool,
    /// Shortest interval at which it samples now, ms.
    pub interval_ms: u32,
    /// When a batch came last that had it, Unix ms.
    #[serde(default)]
    pub paced_ms: i64,
    /// What the host is.
    pub facts: HostFacts,
    /// Last sequence number settled.
    pub cursor: u64,
    /// What concerns its certificates.
    #[serde(default)]
    pub credentials: Credentials,
    /// Enhanced monitoring that was asked for.
    #[serde(default)]
    pub enhance: Option<Enhance>,
    /// How far its host's clock is behind ours, ms; not known before its first push.
    #[serde(default)]
    pub clock_offset_ms: Option<i64>,
    /// Parts of what it is there to watch that it does not see; `None`: it has not said.
    #[serde(default)]
    pub blind: Option<u32>,
    /// What proves that it sees.
    #[serde(default)]
    pub sight: Sight,
    /// Since when it has delivered without a silence, as far as this start of the aggregator knows, Unix ms.
    #[serde(skip)]
    pub heard_since_ms: Option<i64>,
    /// What its sensors of the use of keys see.
    #[serde(default)]
    pub observed: Observed,
    /// Copies of it that are kept out.
    #[serde(default)]
    pub twins: Vec<Twin>,
    /// Its newest join.
    #[serde(default)]
    pub joined: Option<Joined>,
}

/// How an agent joined: a join is safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Id of the token.
    pub token: String,
    /// SHA-256 of the request for the certificate.
    pub key: String,
    /// Unix ms.
    pub at_ms: i64,
}

/// What is known of an agent's certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The CA that made its newest certificate; empty: a version that did not note it.
    pub granted_by: String,
    /// Hash of the CA certificates that it was given with it, hex.
    pub granted_trusts: String,
    /// The certificate that it showed last.
    pub used: Option<Used>,
    /// Hash of the CA certificates that it trusts, hex; `None` while it has not said.
    pub trusts: Option<String>,
}

/// A certificate that an agent showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Serial number, hex.
    pub serial: String,
    /// Key identifier of the CA that signed it.
    pub issuer: String,
    /// Unix ms.
    pub not_before_ms: i64,
}

/// An order to look closely.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enhance {
    /// Names of sensors; all where empty.
    pub sensors: Vec<String>,
    /// Unix ms.
    pub until_ms: i64,
}

/// How an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// Heard of lately.
    Up,
    /// Not heard of for too long.
    Silent,
    /// Never heard of.
    Unknown,
    /// May not deliver.
    Revoked,
}

impl Agent {
    /// One that joins at `now_ms`, and has shown and told nothing yet.
    #[must_use]
    pub fn joining(identity: &Identity, host: String, machine: &str, now_ms: i64) -> Self {
        Self {
            id: identity.agent.clone(),
            tenant: identity.tenant.clone(),
            host,
            machine: machine.chars().take(64).collect(),
            enrolled_ms: now_ms,
            last_seen_ms: None,
            last_sample_ms: None,
            certificate_expires_ms: 0,
            revoked: false,
            removed: false,
            interval_ms: 0,
            paced_ms: 0,
            facts: HostFacts::default(),
            cursor: 0,
            credentials: Credentials::default(),
            enhance: None,
            clock_offset_ms: None,
            blind: None,
            sight: Sight::default(),
            heard_since_ms: None,
            observed: Observed::default(),
            twins: Vec::new(),
            joined: None,
        }
    }

    /// A batch came whose shortest interval is this. One of a slow sensor alone does not make the agent slow: only when nothing
    /// faster has come for a while is it.
    pub(super) fn paced(&mut self, interval_ms: u32, now_ms: i64) {
        let missed = now_ms - self.paced_ms > 3 * i64::from(self.interval_ms);
        if interval_ms <= self.interval_ms || missed {
            (self.interval_ms, self.paced_ms) = (interval_ms, now_ms);
        }
    }

    pub(super) fn is_abandoned(&self, now_ms: i64) -> bool {
        now_ms - self.last_seen_ms.unwrap_or(self.enrolled_ms) > ABANDONED_MS
    }

    /// Something came from it at `now_ms`.
    pub(super) fn heard(&mut self, now_ms: i64) {
        if self.state(now_ms) != HostState::Up {
            self.heard_since_ms = None;
        }
        self.heard_since_ms.get_or_insert(now_ms);
        self.last_seen_ms = Some(now_ms);
    }

    /// Sights of which a proof is missing. Of one that is silent nothing is known, and nothing is missing either.
    #[must_use]
    pub fn unproven(&self, now_ms: i64) -> Vec<CanaryPath> {
        let since = self.heard_since_ms.filter(|_| self.state(now_ms) == HostState::Up);
        since.map_or_else(Vec::new, |since| self.sight.overdue(since, now_ms))
    }

    /// How much of what it is there to watch it does not see, by what it says and by what it does not prove; `None`: it has not said.
    #[must_use]
    pub fn unseen(&self, now_ms: i64) -> Option<u32> {
        let unproven = u32::try_from(self.unproven(now_ms).len()).ok().filter(|count| *count > 0);
        self.blind.max(unproven)
    }

    /// How it stands at `now_ms`.
    #[must_use]
    pub fn state(&self, now_ms: i64) -> HostState {
        let patience = (i64::from(self.interval_ms) * 3).clamp(SILENT_MS_MIN, SILENT_MS_MAX);
        match self.last_seen_ms {
            _ if self.revoked => HostState::Revoked,
            None => HostState::Unknown,
            Some(seen) if now_ms - seen <= patience => HostState::Up,
            Some(_) => HostState::Silent,
        }
    }
}
