//! Something that happened to a key or to our sight of it, at an instant, with who did it where that is known.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// What happened. Grows only at its end: the wire form is the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A key appeared.
    Created,
    /// A key took another's place.
    Rotated,
    /// A key's validity ended.
    Expired,
    /// A key was revoked.
    Revoked,
    /// A key is no longer where it was.
    Removed,
    /// A key file was opened.
    Accessed,
    /// A key file was asked for and denied.
    Denied,
    /// A rule about keys was broken.
    PolicyViolation,
    /// A sensor cannot see what it should.
    CoverageLost,
    /// A sensor sees again.
    CoverageRestored,
    /// Somebody failed to prove who he is.
    AuthFailure,
    /// A key file could not be read as one.
    Unreadable,
    /// Samples were given up; the evidence says which and why.
    DataLost,
    /// The agent started.
    AgentStarted,
    /// Two machines deliver with one identity.
    IdentityCloned,
    /// A host's clock is far from the aggregator's.
    ClockWrong,
    /// A server still serves a certificate that was renewed on disk.
    ServedStale,
    /// It no longer does.
    ServedFresh,
    /// A key is revoked no longer: a list took it back.
    RevocationLifted,
    /// A program and user opened a key for the first time since it is watched.
    FirstUse,
    /// The agent's own key was opened or used, and that was seen: a proof of sight, which is kept of its host and not as an event.
    Canary,
}

impl EventKind {
    /// All kinds, in wire order.
    pub const ALL: [Self; 21] = [
        Self::Created,
        Self::Rotated,
        Self::Expired,
        Self::Revoked,
        Self::Removed,
        Self::Accessed,
        Self::Denied,
        Self::PolicyViolation,
        Self::CoverageLost,
        Self::CoverageRestored,
        Self::AuthFailure,
        Self::Unreadable,
        Self::DataLost,
        Self::AgentStarted,
        Self::IdentityCloned,
        Self::ClockWrong,
        Self::ServedStale,
        Self::ServedFresh,
        Self::RevocationLifted,
        Self::FirstUse,
        Self::Canary,
    ];

    /// Name in the API and in tags.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Rotated => "rotated",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Removed => "removed",
            Self::Accessed => "accessed",
            Self::Denied => "denied",
            Self::PolicyViolation => "policy_violation",
            Self::CoverageLost => "coverage_lost",
            Self::CoverageRestored => "coverage_restored",
            Self::AuthFailure => "auth_failure",
            Self::Unreadable => "unreadable",
            Self::DataLost => "data_lost",
            Self::AgentStarted => "agent_started",
            Self::IdentityCloned => "identity_cloned",
            Self::ClockWrong => "clock_wrong",
            Self::ServedStale => "served_stale",
            Self::ServedFresh => "served_fresh",
            Self::RevocationLifted => "revocation_lifted",
            Self::FirstUse => "first_use",
            Self::Canary => "canary",
        }
    }

    /// The kind with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Who did it, as far as the sensor could tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Actor {
    /// Path of the program.
    pub exe: Option<String>,
    /// Process id.
    pub pid: Option<u32>,
    /// User id the process ran as.
    pub uid: Option<u32>,
    /// User id that logged in.
    pub login_uid: Option<u32>,
    /// systemd unit or container.
    pub unit: Option<String>,
    /// Remote address.
    pub peer: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When, Unix ms.
    pub at_ms: i64,
    /// Id of the key, where it concerns one.
    pub key_id: Option<String>,
    /// Path of the file, where it concerns one.
    pub path: Option<String>,
    /// Who, where known.
    pub actor: Option<Actor>,
    /// One sentence for people.
    pub message: String,
    /// What supports it: name and value.
    pub evidence: Vec<(String, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_the_name_that_the_api_prints() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_name(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{:?}", kind.as_str()));
        }
    }
}
