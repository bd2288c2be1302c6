//! Opening of one database, on disk or in memory: SQLite's settings, the schema and its older version, keys, and whether the
//! file is a copy. Says what is wrong with a file; what is done about it is decided elsewhere.

use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::seal::{KeyRing, MasterKey};
use keyvigil_common::sequence::Range;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::disk::{beside, log_bytes};
use super::file::File;
use super::numbers::Span;
use super::sidecar::Sidecar;
use super::state::{State, meta, pair, ranges, sums};
use super::{BufferError, Place};

pub(super) const SCHEMA_VERSION: i64 = 2;
/// First version without the WAL-reset bug that could lose committed pages.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// A file is looked through for so long at most when it is opened.
const CHECK_MAX: Duration = Duration::from_secs(10);
/// A file of version 1 is written anew if it is no larger, so that it can shrink from then on.
const REWRITE_BYTES_MAX: i64 = 16 << 20;

const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA wal_autocheckpoint = 500; PRAGMA journal_size_limit = 4194304;
    PRAGMA cache_size = -1024; PRAGMA secure_delete = OFF;";

/// Version 1 numbered classes otherwise, and each row by its number.
const FROM_VERSION_1: &str = "
    ALTER TABLE batch RENAME COLUMN seq TO id;
    UPDATE batch SET class = CASE class WHEN 0 THEN 0 WHEN 1 THEN 2 WHEN 2 THEN 3 WHEN 3 THEN 1 ELSE 4 END WHERE class <> 0;
    UPDATE gap SET class = CASE class WHEN 0 THEN 0 WHEN 1 THEN 2 WHEN 2 THEN 3 WHEN 3 THEN 1 ELSE 4 END;
    CREATE TABLE epoch (first_id INTEGER PRIMARY KEY, epoch BLOB NOT NULL, first_seq INTEGER NOT NULL);
    INSERT INTO epoch SELECT 1, value, 1 FROM meta WHERE name = 'epoch';
    UPDATE meta SET name = 'file_id' WHERE name = 'epoch';
    CREATE INDEX dropped_by_last ON dropped (last);
    CREATE INDEX gap_by_last ON gap (last);
    CREATE TABLE told (gap INTEGER PRIMARY KEY, batch INTEGER NOT NULL);
    CREATE INDEX told_by_batch ON told (batch);";

/// Whether the library is one that loses nothing.
pub(super) fn check_library() -> Result<(), BufferError> {
    let version = rusqlite::version_number();
    if version < SQLITE_VERSION_MIN { Err(BufferError::SqliteTooOld(version)) } else { Ok(()) }
}

/// Opens a file with SQLite's layer of files that `place` names.
pub(super) fn connect(place: &Place, path: &Path, flags: OpenFlags) -> Result<Connection, BufferError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match &place.vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs.as_str())?,
        None => Connection::open_with_flags(path, flags)?,
    };
    // Closing must not write: a log that is none of this file's would be moved into it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

impl File {
    /// Opens the file at `path`, or makes it. `bytes` is what it may hold.
    pub(super) fn on_disk(place: &Place, path: &Path, master: &MasterKey, bytes: u64, now_ms: i64) -> Result<Self, BufferError> {
        look_at_name(path)?;
        let sidecar = if path == place.path { Sidecar::read(path) } else { None };
        look_at_head(path, sidecar.is_some())?;
        let log = log_bytes(path);
        let mut connection = connect(place, path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        // SQLite makes it for more than us, and what lies beside it like it.
        keep_to_us(path);
        let fresh = prepare(&mut connection)?;
        if fresh && sidecar.is_some() {
            return Err(BufferError::Damaged("there was one, and it is gone".into()));
        }
        if !fresh {
            check(&mut connection, &place.clock)?;
        }
        let mut file = Self::finish(connection, master, bytes, false, now_ms)?;
        if let Some(sidecar) = sidecar {
            sidecar.look_at_log(&file.id, log)?;
        }
        file.path = Some(path.to_owned());
        file.know_copy(path, &place.origin, now_ms)?;
        Ok(file)
    }

    /// A new one in memory.
    pub(super) fn in_memory(master: &MasterKey, bytes: u64, now_ms: i64) -> Result<Self, BufferError> {
        let mut connection = Connection::open_in_memory()?;
        prepare(&mut connection)?;
        Self::finish(connection, master, bytes, true, now_ms)
    }

    fn finish(mut connection: Connection, master: &MasterKey, bytes: u64, memory: bool, now_ms: i64) -> Result<Self, BufferError> {
        let missing = |what: &str| BufferError::Damaged(format!("the buffer has no {what}"));
        if meta(&connection, "file_id")?.is_none() {
            let id = keyvigil_common::random::<16>();
            // At once: whoever is killed here has made a file that the next start finishes.
            let tx = connection.transaction()?;
            tx.execute("INSERT INTO meta VALUES ('data_key', ?1)", [KeyRing::make_key(master, 1)?])?;
            tx.execute("INSERT INTO epoch VALUES (1, ?1, 1)", [id])?;
            tx.execute("INSERT INTO meta VALUES ('file_id', ?1)", [id])?;
            tx.commit()?;
        }
        let id: [u8; 16] = meta(&connection, "file_id")?.and_then(|id| id.try_into().ok()).ok_or_else(|| missing("identity"))?;
        let wrapped = meta(&connection, "data_key")?.ok_or_else(|| missing("key"))?;
        let ring = KeyRing::open(master, &[(1, wrapped.clone())])?;
        let state = State::load(&connection, memory, now_ms)?;
        // A bound of SQLite's own, should ours ever be wrong.
        let pages = bytes / 4_096 * 2 + 8_192;
        connection.pragma_update(None, "max_page_count", i64::try_from(pages).unwrap_or(i64::MAX))?;
        Ok(Self::new(connection, ring, id, wrapped, state))
    }

    /// A copy of a file must not count on under its epoch, which the original may do as well.
    fn know_copy(&mut self, path: &Path, origin: &str, now_ms: i64) -> Result<(), BufferError> {
        let Ok(stat) = std::fs::metadata(path) else { return Ok(()) };
        let origin = keyvigil_common::sha256(format!("{origin} {}:{}", stat.dev(), stat.ino()).as_bytes());
        let known = meta(&self.connection, "origin")?;
        if known.as_deref() == Some(&origin) {
            return Ok(());
        }
        self.write(now_ms, |work| {
            if known.is_some() {
                tracing::warn!("the buffer is a copy, or its disk is another one: it counts anew from here");
                work.begin_epoch(work.state.numbers.next_id)?;
            }
            work.set("origin", &origin)
        })
    }
}

/// What is no regular file is no buffer, and some would hang whoever opens them. One that its owner may not read is made
/// readable: it is ours, and nobody else's. SQLite would follow a link in its log's place, and write where that leads.
fn look_at_name(path: &Path) -> Result<(), BufferError> {
    let stat = match std::fs::symlink_metadata(path) {
        Ok(stat) => stat,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(BufferError::Io(format!("cannot look at {}", path.display()), e)),
    };
    let kind = stat.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() {
            "a directory"
        } else if kind.is_symlink() {
            "a link"
        } else if kind.is_fifo() {
            "a pipe"
        } else {
            "no file"
        };
        return Err(BufferError::Damaged(format!("{what} lies in its place")));
    }
    keep_to_us(path);
    for beside in ["-wal", "-shm"].map(|suffix| beside(path, suffix)) {
        if std::fs::symlink_metadata(&beside).is_ok_and(|stat| !stat.is_file()) {
            return Err(BufferError::Damaged(format!("{} is no file", beside.display())));
        }
    }
    Ok(())
}

/// Nobody else reads or writes it.
fn keep_to_us(path: &Path) {
    if std::fs::metadata(path).is_ok_and(|stat| stat.permissions().mode() & 0o777 != 0o600) {
        // Refused where somebody else owns it; then opening it says so.
        let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
    }
}

/// SQLite takes an empty file for a new one, and one of a later format for one that must not be written.
fn look_at_head(path: &Path, expected: bool) -> Result<(), BufferError> {
    let mut head = [0; 20];
    let read = std::fs::File::open(path).and_then(|file| file.read_at(&mut head, 0));
    if matches!(read, Ok(20)) && head[18..].iter().any(|version| !matches!(version, 1 | 2)) {
        return Err(BufferError::Damaged("its first page is not as it was written".into()));
    }
    let gone = read.as_ref().map_or_else(|e| e.kind() == std::io::ErrorKind::NotFound, |bytes| *bytes == 0);
    if gone && expected {
        return Err(BufferError::Damaged("there was one, and it is gone".into()));
    }
    Ok(())
}

/// Settings and schema. Whether the file is new.
fn prepare(connection: &mut Connection) -> Result<bool, BufferError> {
    let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    if pages == 0 {
        // It can be said only before there is a page; said later, it would write to each file that is opened, whosever it is.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
    }
    connection.execute_batch(SETTINGS)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match version {
        0 if tables == 0 => {
            let schema = include_str!("schema.sql");
            connection.execute_batch(&format!(
                "BEGIN; {schema} INSERT INTO meta VALUES ('schema', {SCHEMA_VERSION}); PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))?;
            return Ok(true);
        }
        1 => from_version_1(connection)?,
        SCHEMA_VERSION => {}
        other => {
            // Said twice by a later version of ours; else a bit fell over, or the file is somebody else's.
            let said = connection.query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get::<_, i64>(0));
            return Err(if said.is_ok_and(|said| said == other) {
                BufferError::Version(other)
            } else {
                BufferError::Damaged("it is no buffer of ours".into())
            });
        }
    }
    Ok(false)
}

fn from_version_1(connection: &mut Connection) -> Result<(), BufferError> {
    let tx = connection.transaction()?;
    let last: Option<i64> = tx.query_row("SELECT max(value) FROM meta WHERE name = 'last_seq'", [], |row| row.get(0))?;
    let open: Option<i64> =
        tx.query_row("SELECT min(least) FROM (SELECT min(seq) AS least FROM batch UNION ALL SELECT min(first) FROM dropped)", [], |row| row.get(0))?;
    let last = last.unwrap_or(0).cast_unsigned();
    let settled = Range::new(1, open.map_or(last, |open| open.cast_unsigned() - 1));
    tx.execute_batch(FROM_VERSION_1)?;
    tx.execute("INSERT OR REPLACE INTO meta VALUES ('last_id', ?1)", [last.to_le_bytes()])?;
    tx.execute(
        "INSERT OR REPLACE INTO meta VALUES ('settled', ?1)",
        [settled.iter().flat_map(|r| [r.first, r.last]).flat_map(u64::to_le_bytes).collect::<Vec<u8>>()],
    )?;
    tx.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?1)", [SCHEMA_VERSION])?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()?;
    let bytes: i64 = connection.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| row.get(0))?;
    if bytes <= REWRITE_BYTES_MAX {
        // Only so that it may shrink later; without room it stays as it is.
        if let Err(e) = connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM") {
            tracing::debug!(error = %e, "the buffer of an older version keeps its size");
        }
    }
    Ok(())
}

/// Looks through the file, for a while at most.
fn check(connection: &mut Connection, clock: &SharedClock) -> Result<(), BufferError> {
    let (until, clock) = (clock.monotonic() + CHECK_MAX, SharedClock::clone(clock));
    connection.progress_handler(1_000, Some(move || clock.monotonic() > until))?;
    let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match said {
        Ok(said) if said == "ok" => Ok(()),
        Ok(said) => Err(BufferError::Damaged(said)),
        // As far as it was looked at, it is well.
        Err(rusqlite::Error::SqliteFailure(e, _)) if e.code == rusqlite::ErrorCode::OperationInterrupted => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Batches, items and bytes that wait in the file at `path`, which an agent may have open.
///
/// # Errors
/// A file that cannot be read.
pub fn waiting(path: &Path) -> Result<(u64, u64, u64), BufferError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let settled = meta(&connection, "settled")?.map(|bytes| ranges(&bytes)).unwrap_or_default();
    let mut waiting = sums(&connection, Range { first: 0, last: u64::MAX >> 1 })?;
    for ids in settled.as_slice() {
        waiting.take(sums(&connection, *ids)?);
    }
    Ok((waiting.rows, waiting.items, waiting.bytes))
}

/// What `sensor` asked to be remembered in the file at `path`, which an agent may have open.
///
/// # Errors
/// A file that cannot be read, or another's.
pub fn recall(path: &Path, master: &MasterKey, sensor: &str) -> Result<Vec<super::Remembered>, BufferError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let wrapped = meta(&connection, "data_key")?.ok_or_else(|| BufferError::Damaged("the buffer has no key".into()))?;
    super::file::remembered(&connection, &KeyRing::open(master, &[(1, wrapped)])?, sensor)
}

/// Reads epochs as they are stored.
pub(super) fn spans(connection: &Connection) -> Result<Vec<Span>, BufferError> {
    Ok(connection.prepare("SELECT first_id, epoch, first_seq FROM epoch ORDER BY first_id")?.query_map([], super::state::span)?.collect::<Result<_, _>>()?)
}

/// Rows that a failed transaction may have left on disk after all go: they are kept elsewhere.
pub(super) fn cut(connection: &mut Connection, next_id: u64) -> Result<(), BufferError> {
    let tx = connection.transaction()?;
    let [first, last] = pair(Range { first: next_id, last: u64::MAX });
    for sql in [
        "DELETE FROM batch WHERE id BETWEEN ?1 AND ?2",
        "DELETE FROM told WHERE batch BETWEEN ?1 AND ?2",
        "DELETE FROM gap WHERE first BETWEEN ?1 AND ?2",
        "DELETE FROM dropped WHERE first BETWEEN ?1 AND ?2",
        "DELETE FROM epoch WHERE first_id BETWEEN ?1 + 1 AND ?2",
    ] {
        tx.execute(sql, [first, last])?;
    }
    tx.execute("UPDATE dropped SET last = ?1 - 1 WHERE last >= ?1 AND ?2 >= ?1", [first, last])?;
    tx.execute("INSERT OR REPLACE INTO meta VALUES ('last_id', ?1)", [(next_id - 1).to_le_bytes()])?;
    tx.commit()?;
    Ok(())
}
