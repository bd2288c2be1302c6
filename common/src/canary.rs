//! The words of the canary: an agent opens and uses a key of its own at intervals, and by each path on which it must notice that, a
//! proof must come back from the aggregator. What both ends must agree on, and nothing else.

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A path from the kernel to the aggregator that is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CanaryPath {
    /// Opens of key files.
    Access,
    /// Operations with keys.
    Operations,
}

impl CanaryPath {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Access, Self::Operations];

    /// Name in tags, evidence and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Operations => "operations",
        }
    }

    /// What is seen by it, for people.
    #[must_use]
    pub fn sight(self) -> &'static str {
        match self {
            Self::Access => "opens of key files",
            Self::Operations => "operations with keys",
        }
    }

    /// The path with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.as_str() == name)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Which proofs are to be expected of an agent, and how often; told with each push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Canaries {
    /// Between two trials, ms; 0: there are none.
    pub interval_ms: u32,
    /// A bit for each path; those that a reader does not know are left alone.
    paths: u8,
}

impl Canaries {
    /// These paths are tried at this interval.
    #[must_use]
    pub fn new(interval_ms: u32, paths: impl IntoIterator<Item = CanaryPath>) -> Self {
        Self { interval_ms, paths: paths.into_iter().fold(0, |bits, path| bits | path.bit()) }
    }

    /// The paths that are tried.
    pub fn paths(self) -> impl Iterator<Item = CanaryPath> {
        CanaryPath::ALL.into_iter().filter(move |path| self.interval_ms > 0 && self.paths & path.bit() != 0)
    }
}

/// Name of the evidence of a canary event that says by which path it was seen, and of the one with the number of the trial.
pub const EVIDENCE: [&str; 2] = ["path", "nonce"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_its_name_and_its_bit_say() {
        for path in CanaryPath::ALL {
            assert_eq!(CanaryPath::from_name(path.as_str()), Some(path));
            assert_eq!(Canaries::new(1, [path]).paths().collect::<Vec<_>>(), [path]);
        }
        assert_eq!(Canaries::new(0, CanaryPath::ALL).paths().count(), 0, "what is never tried is not expected");
    }
}
