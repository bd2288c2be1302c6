//! The one thread that writes the database. Work that arrives together is committed together (one fsync), each piece in a
//! savepoint of its own, so that a piece that fails cannot fail its neighbours. Nobody hears "done" before the commit. A
//! second thread makes visible what was committed, in the order of commits, while the next group is on its way to disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::StoreError;

/// Pieces of work in one commit. They wait for one fsync, so that a slow disk makes groups larger and not the queue longer.
const GROUP_MAX: usize = 256;
/// Pieces that may wait; beyond it callers are told to come back. A fleet that returns at once fills it: who is sent away has
/// been decoded in vain and comes again, who waits has not. The memory that they hold is bounded where they are let in.
const QUEUE_MAX: usize = 4_096;

/// Groups that may be committed and not visible yet.
const UNSEEN_MAX: usize = 4;

type Finish = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Work = Box<dyn FnOnce(&Connection) -> (bool, Finish) + Send>;

/// What became of a group: why it failed, if it did, and who waits for it.
type Outcome = (Option<String>, Vec<Finish>);

/// Handle to the threads; they end when the last handle is gone.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<SyncSender<Work>>,
    /// How many wait: the channel does not tell.
    waiting: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts the threads, one on its connection.
    pub(crate) fn start(connection: Connection) -> Result<Self, StoreError> {
        let (queue, work) = sync_channel(QUEUE_MAX);
        let (committed, unseen) = sync_channel(UNSEEN_MAX);
        let thread = |name: &str, run: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name.into()).spawn(run).map_err(StoreError::Io);
        let waiting = Arc::<AtomicUsize>::default();
        let left = Arc::clone(&waiting);
        let writing = thread("store-writer", Box::new(move || run(&connection, &work, &left, &committed)))?;
        let showing = thread("store-shower", Box::new(move || show(&unseen)))?;
        Ok(Self { queue: Some(queue), waiting, threads: vec![writing, showing] })
    }

    /// Whether a piece would be turned away now: asked before the work that a piece takes to be made.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= QUEUE_MAX
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
        // Before it is sent: the thread may have taken it by the time this goes on.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let refused = match self.queue.as_ref().map(|queue| queue.try_send(piece)) {
            Some(Ok(())) => return result.await.unwrap_or(Err(StoreError::Closed)),
            Some(Err(TrySendError::Full(_))) => StoreError::Busy,
            Some(Err(TrySendError::Disconnected(_))) | None => StoreError::Closed,
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Err(refused)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Makes visible what was committed, and tells who waits.
fn show(committed: &Receiver<Vec<Finish>>) {
    while let Ok(finishes) = committed.recv() {
        finishes.into_iter().for_each(|finish| finish(Ok(())));
    }
}

fn run(connection: &Connection, work: &Receiver<Work>, waiting: &AtomicUsize, committed: &SyncSender<Vec<Finish>>) {
    while let Ok(first) = work.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            match work.try_recv() {
                Ok(next) => group.push(next),
                Err(_) => break,
            }
        }
        waiting.fetch_sub(group.len(), Ordering::Relaxed);
        match commit(connection, group) {
            // What they made must not be taken for made by the next group: it is dropped before that begins.
            Some((Some(why), finishes)) => finishes.into_iter().for_each(|finish| finish(Err(StoreError::Commit(why.clone())))),
            // Whoever shows it may have panicked: then nobody hears of it, as if the process had died here.
            Some((None, finishes)) => drop(committed.send(finishes)),
            None => {}
        }
    }
}

fn commit(connection: &Connection, group: Vec<Work>) -> Option<Outcome> {
    let mut finishes = Vec::with_capacity(group.len());
    let result = connection.execute_batch("BEGIN IMMEDIATE").map_err(StoreError::from);
    if let Err(e) = &result {
        tracing::error!(error = %e, "the store cannot begin to write");
        for piece in group {
            // Not run: its work may have side effects on what it holds only inside the transaction.
            drop(piece);
        }
        return None;
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
        // What an agent sent made it panic: that must not be the end of the store for all others. Who asked hears that it is closed.
        let Ok((ok, finish)) = catch_unwind(AssertUnwindSafe(|| piece(connection))) else {
            tracing::error!("work on the store panicked, and is undone");
            broken = connection.execute_batch("ROLLBACK TO piece; RELEASE piece").err().map(|e| e.to_string());
            continue;
        };
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
    Some((failed, finishes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_finds_the_queue_full_is_told_and_those_in_it_are_served() {
        let writer = Writer::start(Connection::open_in_memory().unwrap()).unwrap();
        let (open, gate) = sync_channel::<()>(1);
        let (begun, running) = oneshot::channel();
        let first = writer.write(move |_| {
            let _ = begun.send(());
            let _ = gate.recv();
            Ok(((), || {}))
        });
        let rest = async {
            running.await.unwrap();
            let mut queued = Vec::new();
            for _ in 0..QUEUE_MAX {
                assert!(!writer.is_full());
                let mut piece = Box::pin(writer.write(|_| Ok(((), || {}))));
                assert!(futures_now(&mut piece).is_none());
                queued.push(piece);
            }
            assert!(writer.is_full());
            assert!(matches!(writer.write(|_| Ok(((), || {}))).await, Err(StoreError::Busy)));
            drop(open);
            for piece in queued {
                piece.await.unwrap();
            }
            assert!(!writer.is_full());
        };
        let (first, ()) = tokio::join!(first, rest);
        first.unwrap();
        assert_eq!(writer.waiting.load(Ordering::Relaxed), 0);
    }

    /// Polls once.
    fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
