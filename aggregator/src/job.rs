//! Chores: each an idempotent function without input that reads its state from the store and says what it did. The
//! scheduler runs them in turn, on their period or when poked, never one twice at a time; a failure is logged and the next
//! turn tries again. Times are slept on the clock that is passed in.

pub mod alerts;
mod deliver;
pub mod revocation;
mod storage;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::stop::Stop;
use keyvigil_common::telemetry::Number;
use tokio::sync::Notify;

pub use deliver::deliver;
pub use storage::{flush, merge, retain};

type Run = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send>;

/// A chore.
pub struct Job {
    /// Its name in logs and metrics.
    pub name: &'static str,
    period: Duration,
    poke: Arc<Notify>,
    run: Run,
    failures: Number,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({} every {:?})", self.name, self.period)
    }
}

impl Job {
    /// A chore that runs each `period`, and soon after `poke`. An empty status means that there was nothing to do.
    pub fn new<F>(name: &'static str, period: Duration, poke: Arc<Notify>, failures: Number, run: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<String, String>> + Send + 'static,
    {
        Self { name, period, poke, run: Box::new(move || Box::pin(run())), failures }
    }

    /// Runs the chore until stopped.
    pub async fn drive(self, clock: SharedClock, stop: Stop) {
        loop {
            let waited = stop.or(async {
                tokio::select! {
                    () = clock.sleep(self.period) => {}
                    () = self.poke.notified() => {}
                }
            });
            if waited.await.is_none() {
                return;
            }
            // What is cut off here is begun again by the next process: chores are idempotent, deliveries come at least once.
            let Some(done) = stop.or((self.run)()).await else { return };
            match done {
                Ok(status) if status.is_empty() => {}
                Ok(status) => tracing::info!(job = self.name, status, "done"),
                Err(error) => {
                    self.failures.inc();
                    tracing::error!(job = self.name, error, "failed; the next turn tries again");
                }
            }
        }
    }
}
