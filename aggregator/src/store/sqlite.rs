//! How SQLite is opened: version, pragmas, schema, and connections for reading. Knows no table's meaning. Durability: WAL
//! with `synchronous=FULL`, so a commit is on disk when it returns.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};

use super::StoreError;

/// First version without the WAL-reset bug that could lose committed pages.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// The tables of a kind of database, and how those of earlier versions become them.
#[derive(Debug)]
pub(super) struct Schema {
    /// Makes version `migrations.len() + 1`.
    pub(super) sql: &'static str,
    /// The first leads from version 1 to 2, and so on; each is one transaction.
    pub(super) migrations: &'static [&'static str],
}

impl Schema {
    fn version(&self) -> i64 {
        1 + self.migrations.len() as i64
    }

    /// Makes the tables, or brings those of an earlier version up to date.
    fn apply(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found == 0 {
            return connection.execute_batch(&format!("BEGIN; {} PRAGMA user_version = {}; COMMIT;", self.sql, self.version()));
        }
        let mut outstanding = self.migrations.iter().zip(2i64..).filter(|(_, to)| *to > found);
        outstanding.try_for_each(|(sql, to)| connection.execute_batch(&format!("BEGIN; {sql} PRAGMA user_version = {to}; COMMIT;")))
    }
}

/// Opens (or makes, or brings up to date) a database with `schema`, for its one writer. `page_bytes`: of a new one. Large bodies waste half a page
/// each, so that many of them ask for small pages; a log of small ones is written faster in large pages.
pub(super) fn open(path: &Path, schema: &Schema, page_bytes: u32) -> Result<Connection, StoreError> {
    let found = rusqlite::version_number();
    if found < SQLITE_VERSION_MIN {
        return Err(StoreError::SqliteTooOld(found));
    }
    let at = |source| StoreError::Open { path: path.display().to_string(), source };
    let connection = Connection::open(path).map_err(at)?;
    connection
        .execute_batch(&format!(
            "PRAGMA page_size = {page_bytes}; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000; PRAGMA mmap_size = 0;
             PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 67108864;",
        ))
        .map_err(at)?;
    schema.apply(&connection).map_err(at)?;
    check_version(&connection, path, schema)?;
    Ok(connection)
}

/// Refuses what a later version made.
pub(super) fn check_version(connection: &Connection, path: &Path, schema: &Schema) -> Result<(), StoreError> {
    let at = |source| StoreError::Open { path: path.display().to_string(), source };
    match connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(at)? {
        found if (1..=schema.version()).contains(&found) => Ok(()),
        found => Err(StoreError::SchemaVersion { path: path.display().to_string(), found, known: schema.version() }),
    }
}

/// Gives up to `pages` free pages back to the file system.
pub(super) fn shrink(connection: &Connection, pages: i64) -> Result<(), StoreError> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Makes SQLite's own indexes anew.
pub(super) fn reindex(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch("REINDEX")?)
}

/// Pages of the database.
pub(super) fn pages(connection: &Connection) -> Result<u64, StoreError> {
    Ok(connection.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0))?.cast_unsigned())
}

/// Moves the log into the database and empties it, if no reader holds it for long.
pub(super) fn empty_log(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch("PRAGMA busy_timeout = 200;")?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(connection.execute_batch("PRAGMA busy_timeout = 10000;")?)
}

/// Opens a database for reading only.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let at = |source| StoreError::Open { path: path.display().to_string(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(at)?;
    connection.execute_batch("PRAGMA busy_timeout = 10000; PRAGMA mmap_size = 0; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;").map_err(at)?;
    Ok(connection)
}

/// A few connections for reading, handed out in turn.
#[derive(Debug)]
pub(super) struct Readers(Vec<Mutex<Connection>>);

impl Readers {
    pub(super) fn open(path: &Path, count: usize) -> Result<Self, StoreError> {
        (0..count).map(|_| open_reader(path).map(Mutex::new)).collect::<Result<_, _>>().map(Self)
    }

    /// Runs `read` on a connection that is free, or waits for one. Blocks: never call it on an async thread.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        for connection in &self.0 {
            if let Ok(guard) = connection.try_lock() {
                return read(&guard);
            }
        }
        let first = self.0.first().ok_or(StoreError::Closed)?;
        read(&first.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
