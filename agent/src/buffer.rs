//! The agent's queue on disk: batches in the order they were sealed, each with a dense sequence number given in the
//! transaction that stores it; they go when the aggregator has acknowledged them. Bounded in bytes and age: the oldest of
//! the lowest class goes first, and each loss is kept as a gap until a batch has told of it. Blocking: call it from a
//! blocking thread. Durability: WAL with `synchronous=FULL`.

mod bound;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyvigil_common::limits::PUSH_DROPPED_MAX;
use keyvigil_common::seal::{KeyRing, MasterKey, SealError};
use keyvigil_common::sequence::{Range, Ranges};
use keyvigil_common::wire::{Class, Gap};
use rusqlite::{Connection, OptionalExtension, params};

/// First version without the WAL-reset bug that could lose committed pages.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
const SCHEMA_VERSION: i64 = 1;

/// What the buffer may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of sealed batches.
    pub bytes: u64,
    /// Age of the oldest batch, ms.
    pub age_ms: i64,
}

/// A batch to be stored.
#[derive(Debug, Clone)]
pub struct New {
    /// How much it matters.
    pub class: Class,
    /// Samples, sightings and events in it.
    pub items: u64,
    /// When it was sealed, Unix ms.
    pub at_ms: i64,
    /// Encoded batch.
    pub frame: Vec<u8>,
    /// The gaps that it tells of.
    pub told: Vec<Told>,
}

/// A gap as a batch tells of it. It may have grown since: then the rest is told by a later batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Its id.
    pub id: i64,
    /// Last number told.
    pub last: u64,
    /// Items told.
    pub items: u64,
}

/// A loss of things that never got a number: class, how many, why. It gets a number when it is stored.
pub type Lost = (Class, u64, &'static str);
/// What a sensor asks to be remembered: sensor, key, and value or forget.
pub type Remember = (&'static str, String, Option<Vec<u8>>);

/// The oldest batches, to be sent.
#[derive(Debug, Clone, Default)]
pub struct Front {
    /// Identity of this buffer file.
    pub epoch: [u8; 16],
    /// Numbers given up.
    pub dropped: Vec<Range>,
    /// Number and frame.
    pub frames: Vec<(u64, Vec<u8>)>,
}

impl Front {
    /// Leaves out ranges that these frames do not jump over, and frames behind more ranges than one push may declare.
    fn fit(&mut self) {
        if let Some(too_far) = self.dropped.get(PUSH_DROPPED_MAX).map(|range| range.first) {
            self.frames.retain(|(seq, _)| *seq < too_far);
        }
        let last = self.frames.last().map_or(0, |frame| frame.0);
        self.dropped.retain(|range| range.first < last);
    }
}

/// How full it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level {
    /// Batches.
    pub batches: u64,
    /// Samples, sightings and events.
    pub items: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the oldest was sealed, Unix ms.
    pub oldest_ms: Option<i64>,
    /// Last number given.
    pub last_seq: u64,
}

/// The queue.
#[derive(Debug)]
pub struct Buffer {
    path: PathBuf,
    connection: Mutex<Connection>,
    ring: KeyRing,
    epoch: [u8; 16],
    bounds: Bounds,
}

impl Buffer {
    /// Opens the buffer at `path`, or makes it.
    ///
    /// # Errors
    /// A file that is not a buffer, is damaged, or was sealed with another key.
    pub fn open(path: &Path, master: &MasterKey, bounds: Bounds) -> Result<Self, BufferError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            return Err(BufferError::SqliteTooOld(rusqlite::version_number()));
        }
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;
             PRAGMA wal_autocheckpoint = 500; PRAGMA journal_size_limit = 4194304; PRAGMA cache_size = -1024; PRAGMA secure_delete = OFF;",
        )?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            0 => connection.execute_batch(&format!("BEGIN; {} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;", include_str!("buffer/schema.sql")))?,
            SCHEMA_VERSION => {}
            other => return Err(BufferError::Version(other)),
        }
        let wrapped = value(&connection, "data_key", || KeyRing::make_key(master, 1))?;
        let ring = KeyRing::open(master, &[(1, wrapped)])?;
        let epoch = value(&connection, "epoch", || Ok(keyvigil_common::random::<16>().to_vec()))?;
        let epoch = epoch.try_into().map_err(|_| BufferError::Version(0))?;
        // A bound of SQLite's own, should ours ever be wrong.
        let pages = bounds.bytes / 4_096 + 8_192;
        connection.pragma_update(None, "max_page_count", i64::try_from(pages).unwrap_or(i64::MAX))?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection), ring, epoch, bounds })
    }

    /// Identity of this buffer file.
    #[must_use]
    pub fn epoch(&self) -> [u8; 16] {
        self.epoch
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores batches, what sensors remember, and losses of things that never got a number, in one transaction; makes room
    /// first. Returns how many batches were given up for it.
    ///
    /// # Errors
    /// A full disk, mostly; nothing is stored then.
    pub fn append(&self, batches: &[New], remember: &[Remember], lost: &[Lost], now_ms: i64) -> Result<u64, BufferError> {
        let mut connection = self.lock();
        let tx = connection.transaction()?;
        // Before any new loss is recorded, which may join one that is told here.
        for told in batches.iter().flat_map(|batch| &batch.told) {
            bound::forget_told(&tx, told)?;
        }
        for (class, items, cause) in lost {
            let seq = next_seq(&tx)?;
            bound::record_gap(&tx, seq, class_number(*class), items.cast_signed(), cause, now_ms)?;
        }
        let incoming = batches.iter().map(|b| b.frame.len() as u64).sum();
        let given_up = bound::make_room(&tx, self.bounds, incoming, now_ms)?;
        for batch in batches {
            let seq = next_seq(&tx)?;
            let body = self.ring.seal(&batch.frame, &self.place(seq))?;
            let size = i64::try_from(body.len()).unwrap_or(i64::MAX);
            tx.prepare_cached("INSERT INTO batch VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
                seq,
                class_number(batch.class),
                batch.items.cast_signed(),
                size,
                batch.at_ms,
                body
            ])?;
        }
        for (sensor, key, value) in remember {
            match value {
                Some(value) => {
                    let sealed = self.ring.seal(value, format!("remembered:{sensor}:{key}").as_bytes())?;
                    tx.prepare_cached("INSERT OR REPLACE INTO remembered VALUES (?1, ?2, ?3)")?.execute(params![sensor, key, sealed])?
                }
                None => tx.prepare_cached("DELETE FROM remembered WHERE sensor = ?1 AND key = ?2")?.execute(params![sensor, key])?,
            };
        }
        tx.commit()?;
        Ok(given_up)
    }

    /// What `sensor` asked to be remembered.
    ///
    /// # Errors
    /// The database's.
    pub fn remembered(&self, sensor: &str) -> Result<Vec<(String, Vec<u8>)>, BufferError> {
        let connection = self.lock();
        let mut statement = connection.prepare("SELECT key, value FROM remembered WHERE sensor = ?1")?;
        let mut rows = statement.query([sensor])?;
        let mut out = Vec::new();
        while let Some(row) = rows.next()? {
            let (key, sealed): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let value = self.ring.unseal(&sealed, format!("remembered:{sensor}:{key}").as_bytes())?;
            out.push((key, value));
        }
        Ok(out)
    }

    /// The oldest batches, at most so many and so large together (one at least); empty if there are none.
    ///
    /// # Errors
    /// The database's.
    pub fn peek(&self, frames_max: usize, bytes_max: usize, now_ms: i64) -> Result<Front, BufferError> {
        let mut connection = self.lock();
        let mut front = Front { epoch: self.epoch, ..Front::default() };
        let mut damaged = Vec::new();
        {
            let mut statement = connection.prepare_cached("SELECT seq, body FROM batch ORDER BY seq LIMIT ?1")?;
            let mut rows = statement.query([i64::try_from(frames_max).unwrap_or(i64::MAX)])?;
            let mut bytes = 0;
            while let Some(row) = rows.next()? {
                let (seq, body): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
                bytes += body.len();
                if bytes > bytes_max && !front.frames.is_empty() {
                    break;
                }
                match self.ring.unseal(&body, &self.place(seq)) {
                    Ok(frame) => front.frames.push((seq.cast_unsigned(), frame)),
                    Err(_) => damaged.push(seq),
                }
            }
        }
        if !damaged.is_empty() {
            // What does not open never will; what lies behind it must not wait for it.
            tracing::error!(batches = ?damaged, "batches were damaged on disk and are given up");
            let tx = connection.transaction()?;
            for seq in damaged {
                bound::give_up(&tx, seq, "damaged on disk", now_ms)?;
            }
            tx.commit()?;
        }
        front.dropped = dropped(&connection)?;
        front.fit();
        Ok(front)
    }

    /// The aggregator has everything up to `cursor` on disk.
    ///
    /// # Errors
    /// The database's; losing this only means that some batches are sent again.
    pub fn ack(&self, cursor: u64) -> Result<(), BufferError> {
        let mut connection = self.lock();
        let tx = connection.transaction()?;
        tx.prepare_cached("DELETE FROM batch WHERE seq <= ?1")?.execute([cursor.cast_signed()])?;
        tx.prepare_cached("DELETE FROM dropped WHERE last <= ?1")?.execute([cursor.cast_signed()])?;
        tx.commit()?;
        Ok(())
    }

    /// Gives up one batch that the aggregator will never take.
    ///
    /// # Errors
    /// The database's.
    pub fn set_aside(&self, seq: u64, cause: &str, now_ms: i64) -> Result<(), BufferError> {
        let mut connection = self.lock();
        let tx = connection.transaction()?;
        bound::give_up(&tx, seq.cast_signed(), cause, now_ms)?;
        tx.commit()?;
        Ok(())
    }

    /// Declares numbers that the aggregator asks for and this buffer does not hold: it has forgotten what it acknowledged, or
    /// it is another one.
    ///
    /// # Errors
    /// The database's.
    pub fn declare_forgotten(&self, range: Range, now_ms: i64) -> Result<(), BufferError> {
        let mut connection = self.lock();
        let tx = connection.transaction()?;
        bound::record_forgotten(&tx, range, now_ms)?;
        tx.commit()?;
        Ok(())
    }

    /// Losses that no batch has told of yet, with their ids.
    ///
    /// # Errors
    /// The database's.
    pub fn gaps(&self) -> Result<Vec<(i64, Gap)>, BufferError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT id, first, last, class, items, at_ms, cause FROM gap ORDER BY id LIMIT 1000")?;
        let rows = statement.query_map([], |row| {
            let range = Range { first: row.get::<_, i64>(1)?.cast_unsigned(), last: row.get::<_, i64>(2)?.cast_unsigned() };
            let (class, items) = (class_of(row.get(3)?), row.get::<_, i64>(4)?.cast_unsigned());
            Ok((row.get(0)?, Gap { range, class, items, at_ms: row.get(5)?, cause: row.get(6)?, epoch: None }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How full it is.
    ///
    /// # Errors
    /// The database's.
    pub fn level(&self) -> Result<Level, BufferError> {
        let connection = self.lock();
        let sql = "SELECT count(*), ifnull(sum(items), 0), ifnull(sum(bytes), 0), min(at_ms) FROM batch";
        let mut level = connection.prepare_cached(sql)?.query_row([], |row| {
            let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
            Ok(Level { batches: number(0)?, items: number(1)?, bytes: number(2)?, oldest_ms: row.get(3)?, last_seq: 0 })
        })?;
        level.last_seq = last_seq(&connection)?.cast_unsigned();
        Ok(level)
    }

    fn place(&self, seq: i64) -> Vec<u8> {
        format!("batch:{}:{seq}", keyvigil_common::hex(&self.epoch)).into_bytes()
    }
}

/// The value called `name`, made at first need.
fn value(connection: &Connection, name: &str, make: impl FnOnce() -> Result<Vec<u8>, SealError>) -> Result<Vec<u8>, BufferError> {
    if let Some(known) = connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()? {
        return Ok(known);
    }
    let made = make()?;
    connection.execute("INSERT INTO meta VALUES (?1, ?2)", params![name, made])?;
    Ok(made)
}

fn last_seq(connection: &Connection) -> Result<i64, BufferError> {
    let known: Option<i64> = connection.prepare_cached("SELECT value FROM meta WHERE name = 'last_seq'")?.query_row([], |row| row.get(0)).optional()?;
    Ok(known.unwrap_or(0))
}

/// Gives the next number, in the transaction that uses it.
fn next_seq(connection: &Connection) -> Result<i64, BufferError> {
    let next = last_seq(connection)? + 1;
    connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES ('last_seq', ?1)")?.execute([next])?;
    Ok(next)
}

fn dropped(connection: &Connection) -> Result<Vec<Range>, BufferError> {
    let mut statement = connection.prepare_cached("SELECT first, last FROM dropped ORDER BY first")?;
    let rows = statement.query_map([], |row| Ok(Range { first: row.get::<_, i64>(0)?.cast_unsigned(), last: row.get::<_, i64>(1)?.cast_unsigned() }))?;
    let mut ranges = Ranges::default();
    for range in rows {
        ranges.insert(range?);
    }
    Ok(ranges.as_slice().to_vec())
}

fn class_number(class: Class) -> i64 {
    match class {
        Class::Security => 0,
        Class::Key => 1,
        Class::Sample => 2,
        Class::Alert => 3,
        Class::Detail => 4,
    }
}

fn class_of(number: i64) -> Class {
    match number {
        0 => Class::Security,
        1 => Class::Key,
        3 => Class::Alert,
        4 => Class::Detail,
        _ => Class::Sample,
    }
}

/// What can go wrong with the buffer.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// SQLite's own words.
    #[error("buffer")]
    Sqlite(#[from] rusqlite::Error),
    /// Sealing.
    #[error("buffer")]
    Seal(#[from] SealError),
    /// Made by another version.
    #[error("the buffer has schema {0}, this agent knows {SCHEMA_VERSION}: upgrade the agent, or move the file away to begin a new one")]
    Version(i64),
    /// A library with a known bug.
    #[error("SQLite {0} can lose committed data; 3.51.3 or newer is needed: build with the bundled one")]
    SqliteTooOld(i32),
}

impl BufferError {
    /// Whether the file is of no use any more: not a database, damaged, or sealed with a key that is gone.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(e, _)) => matches!(e.code, DatabaseCorrupt | NotADatabase),
            Self::Seal(SealError::WrongKey | SealError::Version(_)) => true,
            _ => false,
        }
    }

    /// Whether there is no room on the disk: later there may be.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(rusqlite::Error::SqliteFailure(e, _)) if matches!(e.code, rusqlite::ErrorCode::DiskFull))
    }
}

#[cfg(test)]
mod tests;
