//! The one thread that writes the database. Work that arrives together is committed together (one fsync), each piece in a
//! savepoint of its own, so that a piece that fails cannot fail its neighbours. Nobody hears "done" before the commit.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::StoreError;

/// Pieces of work in one commit.
const GROUP_MAX: usize = 64;
/// Pieces that may wait; beyond it callers are told to come back.
const QUEUE_MAX: usize = 1_024;

type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Work = Box<dyn FnOnce(&Connection) -> (bool, Finish) + Send>;

/// Handle to the writing thread; it ends when the last handle is gone.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread on its connection.
    pub(crate) fn start(connection: Connection) -> Result<Self, StoreError> {
        let (queue, work) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || run(&connection, &work)).map_err(StoreError::Io)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs `work` inside a transaction. Returns once it is committed and on disk; by then the effect that `work` returned
    /// beside its value has run, in commit order. Where the work or the commit fails, the effect is dropped unrun.
    pub(crate) async fn write<T, E, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        E: FnOnce() + Send + 'static,
        W: FnOnce(&Connection) -> Result<(T, E), StoreError> + Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        let piece: Work = Box::new(move |connection| {
            let outcome = work(connection);
            let ok = outcome.is_ok();
            let finish: Finish = Box::new(move |committed| {
                let outcome = committed.and(outcome).map(|(value, effect)| {
                    effect();
                    value
                });
                // The asker may be gone; what was committed stays committed.
                let _ = answer.send(outcome);
            });
            (ok, finish)
        });
        match self.queue.as_ref().map(|queue| queue.try_send(piece)) {
            Some(Ok(())) => result.await.unwrap_or(Err(StoreError::Closed)),
            Some(Err(TrySendError::Full(_))) => Err(StoreError::Busy),
            Some(Err(TrySendError::Disconnected(_))) | None => Err(StoreError::Closed),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, work: &Receiver<Work>) {
    while let Ok(first) = work.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            match work.try_recv() {
                Ok(next) => group.push(next),
                Err(_) => break,
            }
        }
        commit(connection, group);
    }
}

fn commit(connection: &Connection, group: Vec<Work>) {
    let mut finishes = Vec::with_capacity(group.len());
    let result = connection.execute_batch("BEGIN IMMEDIATE").map_err(StoreError::from);
    if let Err(e) = &result {
        tracing::error!(error = %e, "the store cannot begin to write");
        for piece in group {
            // Not run: its work may have side effects on what it holds only inside the transaction.
            drop(piece);
        }
        return;
    }
    let mut broken = None;
    for piece in group {
        if broken.is_some() {
            // Not run: outside the transaction what it writes would be committed by itself.
            drop(piece);
            continue;
        }
        if let Err(e) = connection.execute_batch("SAVEPOINT piece") {
            broken = Some(e.to_string());
            continue;
        }
        let (ok, finish) = piece(connection);
        let ended = connection.execute_batch(if ok { "RELEASE piece" } else { "ROLLBACK TO piece; RELEASE piece" });
        finishes.push(finish);
        // A full disk, among others, makes SQLite roll back not the piece but all of the transaction.
        if let Some(why) = ended.err().map(|e| e.to_string()).or_else(|| connection.is_autocommit().then(|| "the transaction was rolled back".into())) {
            broken = Some(why);
        }
    }
    let failed = broken.or_else(|| connection.execute_batch("COMMIT").err().map(|e| e.to_string())).inspect(|why| {
        tracing::error!(error = why, "the store cannot commit");
        // SQLite may have rolled back already; then this says so and changes nothing.
        let _ = connection.execute_batch("ROLLBACK");
    });
    for finish in finishes {
        finish(failed.as_ref().map_or(Ok(()), |why| Err(StoreError::Commit(why.clone()))));
    }
}
