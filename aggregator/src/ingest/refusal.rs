//! Why a push is not taken, and what the sender should do.

use keyvigil_common::wire::WireError;

use super::protobuf;
use crate::store::StoreError;

/// Why a push was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a Keyvigil push, or of another version: nothing the agent can set right by sending it again now.
    #[error("{0}")]
    Malformed(WireError),
    /// Not what its foreign protocol says it is.
    #[error("{0}")]
    Body(String),
    /// A difference to what is not held here, or one that may not be what its sender meant: it should come whole.
    #[error("what this differs from is not held here any more: send it whole")]
    Base,
    /// One batch can never be taken: the agent may set it aside. Only this answer allows that.
    #[error("batch {seq} can never be stored: {why}")]
    Permanent {
        /// Its number.
        seq: u64,
        /// Why.
        why: WireError,
    },
    /// Larger than allowed: send less at once.
    #[error("{0}")]
    TooLarge(WireError),
    /// Not known, or revoked.
    #[error("{0}")]
    Forbidden(String),
    /// Numbers missing.
    #[error("{source}")]
    Gap {
        /// First number expected.
        expected: u64,
        /// What the store said.
        source: StoreError,
    },
    /// This number was another batch's: the sender must count anew from here.
    #[error("{source}")]
    Fork {
        /// The number.
        seq: u64,
        /// What the store said.
        source: StoreError,
    },
    /// A clock far off.
    #[error("{0}")]
    Clock(String),
    /// Too many series.
    #[error("{0}")]
    Limit(String),
    /// Come back later: there is no room.
    #[error("{0}")]
    Busy(String),
    /// Come back later: others come first.
    #[error("{why}")]
    Wait {
        /// Who.
        why: String,
        /// How much later.
        seconds: u64,
    },
    /// A copy of another host's agent.
    #[error(
        "another machine delivers with this host's identity, and this one came later: if it is a copy, join it anew \
         (`keyvigil-agent join TOKEN`); what it holds is kept"
    )]
    Cloned,
    /// The store cannot write.
    #[error("cannot store")]
    Store(#[source] StoreError),
}

impl Refusal {
    /// The same of a push that came as a difference: nothing is held against what was in it before it was seen whole.
    pub(super) fn of_difference(self) -> Self {
        match self {
            Self::Malformed(_) | Self::Permanent { .. } | Self::TooLarge(_) | Self::Fork { .. } => Self::Base,
            other => other,
        }
    }

    pub(super) fn of_frame(seq: u64, fault: WireError) -> Self {
        match fault {
            // A later aggregator may know it.
            WireError::Version(_) | WireError::Codec(_) => Self::Malformed(fault),
            why => Self::Permanent { seq, why },
        }
    }
}

impl From<WireError> for Refusal {
    fn from(fault: WireError) -> Self {
        match fault {
            WireError::TooLarge { .. } | WireError::TooMany => Self::TooLarge(fault),
            other => Self::Malformed(other),
        }
    }
}

impl From<protobuf::Fault> for Refusal {
    fn from(fault: protobuf::Fault) -> Self {
        Self::Body(fault.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Gap { expected, .. } => Self::Gap { expected, source: error },
            StoreError::Fork(seq) => Self::Fork { seq, source: error },
            StoreError::Busy => Self::Busy("the store is busy".into()),
            other => Self::Store(other),
        }
    }
}
