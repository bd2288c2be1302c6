//! How a long task tells how far it is, and learns that nobody waits for it any more. The same for a command, whose bar it
//! moves, and for the API, which passes it on. Knows no terminal and no HTTP.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::StoreError;

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it is at: a file, a day, a part of the work.
    pub step: String,
    /// How much of the whole task is done.
    pub done: u64,
    /// How much there is; may grow.
    pub total: u64,
    /// What is counted: `records`, `days`.
    pub unit: Cow<'static, str>,
}

/// Who is told, and whether it still listens.
#[derive(Clone)]
pub struct Progress {
    told: Arc<dyn Fn(Step) + Send + Sync>,
    gone: Arc<AtomicBool>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Progress {{ gone: {} }}", self.gone.load(Ordering::Relaxed))
    }
}

impl Progress {
    /// Tells `told`, often: it is to drop what is too much. Once `gone` is set the task ends as soon as it may.
    pub fn new(gone: Arc<AtomicBool>, told: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self { told: Arc::new(told), gone }
    }

    /// Tells nobody, and is never stopped.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(Arc::default(), |_| {})
    }

    /// Tells how far it is.
    pub(super) fn tell(&self, step: &str, done: u64, total: u64, unit: &'static str) {
        (self.told)(Step { step: step.to_owned(), done, total, unit: Cow::Borrowed(unit) });
    }

    /// For SQLite, which asks from within long statements.
    pub(super) fn gone(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.gone)
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`StoreError::Gone`]: nobody waits for it.
    pub(super) fn wanted(&self) -> Result<(), StoreError> {
        if self.gone.load(Ordering::Relaxed) { Err(StoreError::Gone) } else { Ok(()) }
    }
}
