//! Orderly end in two phases: everyone is told to stop, and whoever is still at work at the deadline is named. A task that
//! dies on its own stops the process. The only place of the product that spawns tasks.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The word to stop, for everyone who holds it.
#[derive(Debug, Clone, Default)]
pub struct Stop(CancellationToken);

impl Stop {
    /// A word not yet spoken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Speaks it.
    pub fn stop(&self) {
        self.0.cancel();
    }

    /// Whether it was spoken.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Ends when it is spoken.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }

    /// A word that is spoken with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Runs `work` until it ends or the word is spoken, whichever is first; `None` if it was stopped.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.run_until_cancelled(work).await
    }
}

/// The tasks of a process, each with a name.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    running: Arc<Mutex<Vec<&'static str>>>,
    failed: Arc<Mutex<Option<String>>>,
    stop: Stop,
}

impl Tasks {
    /// No tasks yet; they share `stop`.
    #[must_use]
    pub fn new(stop: Stop) -> Self {
        Self { stop, ..Self::default() }
    }

    /// The word that these tasks listen for.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Starts a task that lives until it is stopped. One that ends earlier, or panics, stops all.
    #[expect(clippy::disallowed_methods, reason = "tasks are started here and nowhere else")]
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.enter(name);
        let (this, handle) = (self.clone(), tokio::spawn(work));
        self.tracker.spawn(async move {
            let ended = handle.await;
            this.leave(name);
            if !this.stop.is_stopped() {
                let why = ended.err().map_or_else(|| "ended by itself".to_owned(), |e| e.to_string());
                tracing::error!(task = name, why, "a task died; stopping");
                *this.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("task {name}: {why}"));
                this.stop.stop();
            }
        });
    }

    /// Starts short work that may end at any time: a connection, a delivery.
    #[expect(clippy::disallowed_methods, reason = "tasks are started here and nowhere else")]
    pub fn spawn_short(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.enter(name);
        let (this, handle) = (self.clone(), tokio::spawn(work));
        self.tracker.spawn(async move {
            if let Err(e) = handle.await {
                tracing::error!(task = name, why = %e, "work panicked");
            }
            this.leave(name);
        });
    }

    /// Says stop, waits for all, and names who was late.
    ///
    /// # Errors
    /// The task that died, or the names of those that did not end in time.
    pub async fn drain(&self, deadline: Duration) -> Result<(), StopError> {
        self.stop.stop();
        self.tracker.close();
        let late = tokio::time::timeout(deadline, self.tracker.wait()).await.is_err();
        if let Some(failed) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(StopError::Died(failed));
        }
        if late { Err(StopError::Late(self.names().join(", "))) } else { Ok(()) }
    }

    /// Names of the tasks that run now.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn enter(&self, name: &'static str) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    fn leave(&self, name: &'static str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = running.iter().position(|n| *n == name) {
            running.swap_remove(at);
        }
    }
}

/// How a process ended badly.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A task ended that should not have.
    #[error("{0}")]
    Died(String),
    /// Still at work at the deadline.
    #[error("still at work at the deadline: {0}")]
    Late(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_dies_stops_the_others_and_is_named() {
        let tasks = Tasks::new(Stop::new());
        let stop = tasks.stop().clone();
        tasks.spawn("steady", async move { stop.stopped().await });
        tasks.spawn("fragile", async { panic!("broken on purpose") });
        tasks.stop().stopped().await;
        let error = tasks.drain(Duration::from_secs(5)).await.unwrap_err();
        assert!(error.to_string().contains("fragile"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_late_is_named() {
        let tasks = Tasks::new(Stop::new());
        tasks.spawn("deaf", std::future::pending());
        let error = tasks.drain(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "still at work at the deadline: deaf");
    }
}
