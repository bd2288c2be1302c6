//! What stands between this agent and its aggregator, if anything: kept in a small file beside the identity, so that
//! `keyvigil-agent status` can say it while the agent runs. Says it in the log once, not at each attempt.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use keyvigil_common::seal::write_private;
use serde::{Deserialize, Serialize};

/// Why the aggregator does not take what this agent has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// `revoked`, `expired`, `clock`, ...
    pub code: String,
    /// What to do.
    pub words: String,
    /// Since when, Unix ms.
    pub since_ms: i64,
}

impl Trouble {
    fn path(dir: &Path) -> PathBuf {
        dir.join("refused.json")
    }

    /// What the agent that works in `dir` wrote.
    #[must_use]
    pub fn load(dir: &Path) -> Option<Self> {
        std::fs::read(Self::path(dir)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    }
}

/// How it stands now.
#[derive(Debug)]
pub struct Standing {
    dir: PathBuf,
    trouble: Mutex<Option<Trouble>>,
}

impl Standing {
    /// As it was when the agent stopped.
    #[must_use]
    pub fn load(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), trouble: Mutex::new(Trouble::load(dir)) }
    }

    /// There is trouble.
    pub fn refused(&self, code: &str, words: &str, now_ms: i64) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.as_ref().is_some_and(|known| known.code == code) {
            return;
        }
        tracing::error!(code, "{words}");
        let new = Trouble { code: code.to_owned(), words: words.to_owned(), since_ms: now_ms };
        let written = serde_json::to_vec(&new).map_err(std::io::Error::from).and_then(|bytes| write_private(&Trouble::path(&self.dir), &bytes));
        if let Err(e) = written {
            tracing::debug!(error = %e, "`keyvigil-agent status` will not know of it");
        }
        *trouble = Some(new);
    }

    /// All is well.
    pub fn fine(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.take().is_some() {
            tracing::info!("the aggregator takes what this agent has again");
            let _ = std::fs::remove_file(Trouble::path(&self.dir));
        }
    }

    /// What there is now.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
