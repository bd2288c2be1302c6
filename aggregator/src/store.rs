//! The storage engine: level 0 is the batch as it arrived, one row, committed together with the sender's cursor; that is
//! all an ack waits for. [`compact`] turns level 0 into blocks in one SQLite file a day. A query merges the head (level 0
//! in memory) with the blocks. Every body is sealed before SQLite sees it. Never: alerts, HTTP, analysis.

mod block;
mod cache;
mod chores;
mod chunk;
mod cleanup;
mod compact;
mod data_keys;
mod error;
mod forget;
mod head;
pub mod ledger;
pub mod level0;
mod limit;
mod lost;
pub(crate) mod measured;
pub mod outbox;
mod partition;
pub mod places;
mod plan;
mod pool;
mod progress;
mod quick;
mod read;
mod reindex;
mod retention;
mod rollup;
mod sealed;
mod select;
pub(crate) mod series;
mod size;
mod sqlite;
mod stream;
mod tx;
mod varint;
mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use keyvigil_common::sample::Series;
use keyvigil_common::seal::{KeyRing, MasterKey};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

pub use cleanup::Cleaned;
pub use error::StoreError;
pub use head::Point;
pub use limit::{Limit, Limits};
pub use plan::Stretch;
pub(crate) use plan::{Cells, Wanted};
pub use progress::{Progress, Step};
pub use reindex::{Reindexed, reindex_main_at};
pub use retention::{Keep, Policy, Retained, Rule};
pub(crate) use rollup::{Cell, Facet};
pub(crate) use select::{Fold, Piece};
pub use size::Size;
pub use stream::{Declared, Settled, Stream};
pub(crate) use tx::{Appended, RefusedRun};
pub use tx::{Ids, Resolved, Tx};
pub use verify::{Fault, Verified, is_key_of, verify_at};

use crate::index::{Index, SeriesId, TenantId};
use cache::Cache;
use data_keys::open_ring;
use head::Head;
use partition::{Partitions, RAW};
use rollup::ROLL_UPS;
use sqlite::{Readers, Schema};
use writer::Writer;

const READERS: usize = 3;
const PAGE_BYTES: u32 = 4_096;
/// Tables of the state database.
const STATE: &Schema = &Schema {
    sql: include_str!("store/schema.sql"),
    migrations: &[include_str!("store/schema_2.sql"), include_str!("store/schema_3.sql"), include_str!("store/schema_4.sql")],
};

/// The store of one aggregator.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    readers: Readers,
    /// Closed after the readers: the last connection takes the log away.
    writer: Writer,
    shared: Arc<Shared>,
    /// Flushing and merging one at a time.
    compacting: Mutex<()>,
    memory_bytes: usize,
    processors: usize,
    /// Threads that may read for questions at once: each holds a slice of samples.
    reading: Arc<Semaphore>,
}

/// What the writing thread shares with readers.
#[derive(Debug)]
pub(crate) struct Shared {
    dir: PathBuf,
    ring: KeyRing,
    index: Index,
    head: Head,
    /// Samples.
    partitions: Partitions,
    /// Roll-ups, in the order of [`ROLL_UPS`].
    rolled: [Partitions; 2],
    cache: Arc<Cache>,
    /// How long roll-ups are kept, ms: what would go at once is not made.
    rolled_keep_ms: Mutex<[i64; 2]>,
    /// The last day that is rolled up.
    rolled_through: AtomicI64,
    /// Grows when samples or cells go, or samples become cells: what was planned before may not be so any more.
    changes: AtomicU64,
    /// Samples that one thread which reads holds at most.
    slice_points: usize,
    next_row: AtomicI64,
    next_series: Mutex<SeriesId>,
    pending: Mutex<limit::Pending>,
    limits: Limits,
    /// Grows when series are forgotten: ids that were found before are to be found again.
    generation: AtomicU64,
    /// Told when an event was committed.
    event_stored: Arc<Notify>,
}

impl Store {
    /// Opens the store in `dir`, making it if there is none. Reads level 0 back into memory. `memory_bytes` bounds what level
    /// 0 may take of it: past a quarter it is compacted, past a half nothing more is taken until it was.
    ///
    /// # Errors
    /// What is wrong with the directory, the databases or the key; nothing is changed then.
    pub fn open(dir: &Path, master: &MasterKey, now_ms: i64, memory_bytes: usize) -> Result<Self, StoreError> {
        Self::open_within(dir, master, now_ms, memory_bytes, Limits::default())
    }

    /// [`Store::open`] with `limits` of what may be added. Series that are there already stay, whatever the limits are.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_within(dir: &Path, master: &MasterKey, now_ms: i64, memory_bytes: usize, limits: Limits) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("main.db");
        let connection = sqlite::open(&path, STATE, PAGE_BYTES)?;
        let ring = open_ring(&connection, master, now_ms)?;
        let cache = Arc::new(Cache::new(memory_bytes / 4));
        let [hours, minutes] = ROLL_UPS.map(|rolled| Partitions::open(dir, rolled.kind, Arc::clone(&cache)));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = processors.max(2);
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            ring,
            index: Index::default(),
            head: Head::new(memory_bytes / 4),
            partitions: Partitions::open(dir, RAW, Arc::clone(&cache))?,
            rolled: [hours?, minutes?],
            cache,
            rolled_keep_ms: Mutex::new([i64::MAX; 2]),
            rolled_through: AtomicI64::new(i64::MIN),
            changes: AtomicU64::new(0),
            // An eighth of it for all threads that read, 16 bytes a point.
            slice_points: memory_bytes / 128 / threads,
            next_row: AtomicI64::new(1),
            next_series: Mutex::new(1),
            pending: Mutex::default(),
            limits,
            generation: AtomicU64::new(0),
            event_stored: Arc::default(),
        });
        shared.load(&connection)?;
        let readers = Readers::open(&path, READERS)?;
        let writer = Writer::start(connection)?;
        let reading = Arc::new(Semaphore::new(threads));
        Ok(Self(Arc::new(Inner { readers, writer, shared, compacting: Mutex::new(()), memory_bytes, processors, reading })))
    }

    /// Whether there is room in memory for more samples, and in the queue for what brings them.
    ///
    /// # Errors
    /// [`StoreError::Busy`]: not before some of the queue is written, or level 0 was compacted, which has begun by then.
    pub fn has_room(&self) -> Result<(), StoreError> {
        if self.0.writer.is_full() {
            return Err(StoreError::Busy);
        }
        if self.head_bytes() <= self.0.memory_bytes / 2 {
            return Ok(());
        }
        self.0.shared.head.full().notify_one();
        Err(StoreError::Busy)
    }

    /// Told when an event was committed.
    #[must_use]
    pub fn event_stored(&self) -> Arc<Notify> {
        Arc::clone(&self.0.shared.event_stored)
    }

    /// Told when level 0 should be compacted.
    #[must_use]
    pub fn full(&self) -> Arc<Notify> {
        self.0.shared.head.full()
    }

    /// Runs `work` in a transaction and returns once it is on disk. What it appended is readable by then.
    ///
    /// # Errors
    /// What `work` returns (then nothing of it is stored), or why the commit failed.
    pub async fn write<T: Send + 'static>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.0.shared);
        self.0
            .writer
            .write(move |connection| {
                let tx = Tx::new(connection, &shared);
                let value = work(&tx)?;
                let effects = tx.into_effects();
                Ok((value, move || effects.apply()))
            })
            .await
    }

    /// An agent's batch as the body of a level-0 row, for [`Tx::append_batch`]. Done before the transaction: sealing is work.
    ///
    /// # Errors
    /// The key's.
    pub fn seal_batch(&self, tenant: TenantId, host: &str, frame: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.0.shared.seal_level0(tenant, &level0::frame_body(host, frame))
    }

    /// Stores samples and the series among them that are new, as far as they fit; returns once all is on disk. `generation`: of
    /// the ids in `rows`. `room`: dropped once the samples are where they are counted.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where the generation has passed, or a store that cannot write.
    pub(crate) async fn append(
        &self,
        tenant: TenantId,
        rows: level0::Rows,
        fresh: Vec<Series>,
        generation: u64,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Appended, StoreError> {
        let body = if fresh.is_empty() { Some(self.0.shared.seal_level0(tenant, &rows.encode())?) } else { None };
        let append = move |tx: &Tx<'_>| {
            tx.after_commit(move || drop(room));
            tx.append_rows(tenant, rows, fresh, generation, body)
        };
        self.write(append).await
    }

    /// The limits of series.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.0.shared.limits
    }

    /// Generation of ids: what was found out under another one is to be found out again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.shared.generation()
    }

    /// Runs `read` on the state database, on a blocking thread.
    ///
    /// # Errors
    /// What `read` returns.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&rusqlite::Connection, &KeyRing) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = self.clone();
        let work = move || this.0.readers.read(|connection| read(connection, &this.0.shared.ring));
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
    }

    /// The series index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.0.shared.index
    }

    /// Where the store lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.shared.dir
    }

    /// Newest sample of a series that is in memory.
    #[must_use]
    pub fn latest(&self, id: SeriesId) -> Option<Point> {
        self.0.shared.head.latest(id)
    }

    /// Memory of level 0, bytes.
    #[must_use]
    pub fn head_bytes(&self) -> usize {
        self.0.shared.head.bytes()
    }

    /// Memory by what takes it, bytes: samples that are in no block yet, samples that are in blocks too, what was read of
    /// blocks, the index.
    #[must_use]
    pub fn memory(&self) -> [(&'static str, usize); 4] {
        let shared = &self.0.shared;
        [("level0", shared.head.bytes()), ("recent", shared.head.warm_bytes()), ("read", shared.cache.bytes()), ("index", shared.index.memory_bytes())]
    }

    /// Points of level 0.
    #[must_use]
    pub fn head_points(&self) -> usize {
        self.0.shared.head.points()
    }

    /// Samples stored in blocks and in level 0, and bytes on disk.
    ///
    /// # Errors
    /// A database that cannot be read.
    pub async fn size(&self) -> Result<Size, StoreError> {
        let shared = Arc::clone(&self.0.shared);
        tokio::task::spawn_blocking(move || shared.size()).await.map_err(|_| StoreError::Closed)?
    }
}

/// A question that somebody waits for: once it is dropped, the work on it stops.
#[derive(Debug, Default)]
struct Asked(Arc<AtomicBool>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn rolled_through(&self) -> i64 {
        self.rolled_through.load(Ordering::Acquire)
    }

    /// Samples or cells are not where they were.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn seal_level0(&self, tenant: TenantId, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        Ok(self.ring.seal(plain, level0::place(tenant).as_bytes())?)
    }

    fn open_level0(&self, tenant: TenantId, body: &[u8]) -> Result<head::Samples, StoreError> {
        let plain = self.ring.unseal(body, level0::place(tenant).as_bytes())?;
        match level0::open(&plain)? {
            level0::Body::Rows(rows) => Ok(head::Samples::Rows(rows)),
            level0::Body::Frame { host, frame } => {
                let batch = keyvigil_common::wire::decode_batch(frame)?;
                let id = |series: &Series| {
                    let mut series = series.clone();
                    host.into_iter().for_each(|host| series.tags.set("host", host));
                    self.index.id(tenant, &series).unwrap_or(0)
                };
                let ids = batch.series.iter().map(id).collect();
                Ok(head::Samples::Groups(batch.groups, ids))
            }
        }
    }

    /// Reads series and level 0 back into memory.
    fn load(&self, connection: &rusqlite::Connection) -> Result<(), StoreError> {
        self.load_series(connection)?;
        let applied = self.partitions.applied()?;
        self.head.begins_after(self.partitions.newest_ms()?);
        self.load_marks()?;
        let mut statement = connection.prepare("SELECT id, tenant, body FROM level0 ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, tenant, body): (i64, TenantId, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let samples = self.open_level0(tenant, &body)?;
            // What a crash left here and in blocks is in blocks.
            self.head.append(id, &samples.only(|at_ms| applied.get(&partition::day_of(at_ms)).is_none_or(|through| id > *through)));
        }
        let last: Option<i64> = connection.query_row("SELECT max(seq) FROM sqlite_sequence WHERE name = 'level0'", [], |row| row.get(0))?;
        let past = applied.values().copied().max().unwrap_or(0).max(last.unwrap_or(0));
        self.next_row.store(past + 1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
