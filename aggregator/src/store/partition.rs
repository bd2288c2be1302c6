//! Blocks on disk: one SQLite file for a span of days (UTC), opened on demand, dropped whole when it is too old. Three sets
//! of them are the same in kind: the samples, and the two roll-ups. Writing is one thread's at a time; connections for
//! reading are kept in `pool`.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyvigil_common::seal::KeyRing;
use roaring::RoaringBitmap;
use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::cache::{BlockKey, Cache};
use super::pool::{Listed, Pool};
use super::sealed::{Place, Source};
use super::sqlite::{self, Schema};
use crate::index::SeriesId;

pub(super) const DAY_MS: i64 = 86_400_000;

const PAGE_BYTES: u32 = 2_048;
/// Ending of a file that was given up, until it is gone.
const DEAD: &str = "dead";
const SCHEMA: &Schema = &Schema { sql: include_str!("partition.sql"), migrations: &[] };

/// Start of the day that `at_ms` lies in, as days since 1970.
pub(super) fn day_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS)
}

/// What a set of files is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Its directory.
    pub(super) dir: &'static str,
    /// What its blocks are sealed for.
    pub(super) name: &'static str,
    /// Days in one file.
    pub(super) span_days: i64,
}

/// Samples as they came.
pub(super) const RAW: Kind = Kind { dir: "days", name: "block", span_days: 1 };

/// One set of files.
#[derive(Debug)]
pub(super) struct Partitions {
    pub(super) kind: Kind,
    dir: PathBuf,
    pub(super) pool: Pool,
    pub(super) cache: Arc<Cache>,
}

impl Partitions {
    /// The files that lie in the directory of `kind` below `dir`, which is made if there is none.
    pub(super) fn open(dir: &Path, kind: Kind, cache: Arc<Cache>) -> Result<Self, StoreError> {
        let dir = dir.join(kind.dir);
        std::fs::create_dir_all(&dir)?;
        let pool = Pool::default();
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.path().extension().is_some_and(|extension| extension == DEAD) {
                remove(&[entry.path()])?;
            }
            let Some(date) = name.to_str().and_then(|n| n.strip_suffix(".db")) else { continue };
            if let Ok(date) = date.parse::<jiff::civil::Date>()
                && let Ok(start) = date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC)
            {
                pool.add(day_of(start.timestamp().as_millisecond()).div_euclid(kind.span_days), cache.generation());
            }
        }
        Ok(Self { kind, dir, pool, cache })
    }

    /// The file that holds `day`.
    pub(super) fn part_of(&self, day: i64) -> i64 {
        day.div_euclid(self.kind.span_days)
    }

    /// The first day of a file.
    pub(super) fn first_day(&self, part: i64) -> i64 {
        part * self.kind.span_days
    }

    /// The file of `part`: `2026-11-22.db`, by its first day.
    pub(super) fn path(&self, part: i64) -> PathBuf {
        let day = self.first_day(part);
        let date = jiff::Timestamp::from_millisecond(day * DAY_MS).map(|t| t.strftime("%Y-%m-%d").to_string());
        self.dir.join(format!("{}.db", date.unwrap_or_else(|_| format!("day{day}"))))
    }

    /// Opens `part` for writing, making its file if there is none.
    pub(super) fn writer(&self, part: i64) -> Result<Writing<'_>, StoreError> {
        let path = self.path(part);
        if !path.exists() {
            // A reader must never meet a file without its tables: it gets its name once it has them.
            let unborn = path.with_extension("new");
            remove(&files(&unborn))?;
            let new = sqlite::open(&unborn, SCHEMA, PAGE_BYTES)?;
            let birth = i64::from_le_bytes(keyvigil_common::random::<8>());
            new.execute("INSERT INTO meta VALUES ('birth', ?1)", [birth])?;
            drop(new);
            // The log of a file that was dropped half must not be taken for this one's, whichever of the two names a power
            // cut leaves.
            remove(&files(&path)[1..])?;
            self.sync()?;
            std::fs::rename(&unborn, &path)?;
            self.sync()?;
        }
        let connection = sqlite::open(&path, SCHEMA, PAGE_BYTES)?;
        if !self.pool.has(part) {
            self.pool.add(part, self.cache.generation());
        }
        Ok(Writing { partitions: self, part, connection })
    }

    /// Parts that have a file, ascending.
    pub(super) fn parts(&self) -> Vec<i64> {
        self.pool.parts()
    }

    /// Runs `read` in a read transaction on `part`; `None` if it has no file.
    pub(super) fn reading<T>(&self, part: i64, read: impl FnOnce(&Reading<'_>) -> Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        let Some((generation, connection)) = self.pool.take(part, || sqlite::open_reader(&self.path(part)))? else { return Ok(None) };
        // A block stays as it is while this transaction reads it, however a merge goes on.
        let done = connection
            .unchecked_transaction()
            .map_err(StoreError::from)
            .and_then(|transaction| read(&Reading { partitions: self, part, generation, connection: &transaction }));
        self.pool.give(part, generation, connection);
        done.map(Some)
    }

    /// Reads the rows of the blocks of `part`, to be kept until it changes.
    pub(super) fn list(&self, part: i64) -> Result<(), StoreError> {
        let Some((generation, version, None)) = self.pool.listing(part) else { return Ok(()) };
        let sql = "SELECT id, t_min, t_max, series_min, series_max FROM block ORDER BY id";
        let listed = |row: &rusqlite::Row<'_>| Ok(Listed { id: row.get(0)?, times: (row.get(1)?, row.get(2)?), series: (row.get(3)?, row.get(4)?) });
        let listing = self.reading(part, |at| Ok(at.connection.prepare_cached(sql)?.query_map([], listed)?.collect::<Result<Vec<_>, _>>()?))?;
        self.pool.keep_listing(part, (generation, version), Arc::new(listing.unwrap_or_default()));
        Ok(())
    }

    /// For each part, the last level-0 row whose samples are in its blocks.
    pub(super) fn applied(&self) -> Result<HashMap<i64, i64>, StoreError> {
        let mut out = HashMap::new();
        for part in self.parts() {
            out.insert(part, self.reading(part, |at| at.meta("level0"))?.flatten().unwrap_or(0));
        }
        Ok(out)
    }

    /// The newest sample in blocks, Unix ms; 0 for none.
    pub(super) fn newest_ms(&self) -> Result<i64, StoreError> {
        let newest = |at: &Reading<'_>| Ok(at.connection.query_row("SELECT ifnull(max(t_max), 0) FROM block", [], |row| row.get(0))?);
        for part in self.parts().into_iter().rev() {
            // A crash may have left a file without blocks.
            if let Some(newest) = self.reading(part, newest)?.filter(|at_ms| *at_ms > 0) {
                return Ok(newest);
            }
        }
        Ok(0)
    }

    /// Samples in blocks, and bytes of the files.
    pub(super) fn size(&self) -> Result<(u64, u64), StoreError> {
        let (mut samples, mut bytes) = (0, 0);
        for part in self.parts() {
            let count = self.reading(part, |at| Ok(at.connection.query_row("SELECT ifnull(sum(samples), 0) FROM block", [], |row| row.get::<_, i64>(0))?))?;
            samples += count.unwrap_or(0).cast_unsigned();
            bytes += self.bytes(part);
        }
        Ok((samples, bytes))
    }

    /// Bytes of a part's files.
    pub(super) fn bytes(&self, part: i64) -> u64 {
        files(&self.path(part)).iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.len()).sum()
    }

    /// What people call a part: its first day, `2026-11-22`, behind the name of a roll-up.
    pub(super) fn label(&self, part: i64) -> String {
        let path = self.path(part);
        let date = path.file_stem().unwrap_or_default().to_string_lossy();
        if self.kind == RAW { date.into_owned() } else { format!("{} {date}", self.kind.name) }
    }

    /// Removes the file of `part`.
    pub(super) fn remove(&self, part: i64) -> Result<(), StoreError> {
        // Whoever comes from now on finds no such part; who reads it already goes on with the file that has no name any more.
        self.pool.remove(part);
        let path = self.path(part);
        let dead = path.with_extension(DEAD);
        // Its name first: without its log it would be no database any more, and its log is for a file of that name only.
        match std::fs::rename(&path, &dead) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        // It must not come back when what leans on its being gone is on disk.
        self.sync()?;
        remove(&files(&path)[1..])?;
        remove(&[dead])
    }

    /// The names of files are on disk once this returns.
    fn sync(&self) -> Result<(), StoreError> {
        Ok(std::fs::File::open(&self.dir)?.sync_all()?)
    }
}

/// A part, being written. Who reads learns of the change when this is dropped.
pub(super) struct Writing<'a> {
    partitions: &'a Partitions,
    part: i64,
    connection: Connection,
}

impl Deref for Writing<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.partitions.pool.changed(self.part);
    }
}

/// A part, being read.
pub(super) struct Reading<'a> {
    pub(super) partitions: &'a Partitions,
    pub(super) part: i64,
    generation: u32,
    pub(super) connection: &'a Connection,
}

impl<'a> Reading<'a> {
    /// What a transaction that writes sees. Nothing of it may be kept: it is not committed.
    pub(super) fn within(partitions: &'a Partitions, part: i64, connection: &'a Connection) -> Self {
        Self { partitions, part, generation: partitions.cache.generation(), connection }
    }

    /// A number in the table `meta`.
    pub(super) fn meta(&self, name: &str) -> Result<Option<i64>, StoreError> {
        meta(self.connection, name)
    }

    /// A block's place and key.
    pub(super) fn source<'b>(&'b self, ring: &'b KeyRing, id: i64) -> (Source<'b>, BlockKey) {
        let place = Place { kind: self.partitions.kind.name, part: self.part, id };
        (Source { ring, reading: self.connection, place }, (self.generation, id))
    }

    /// The series of a block.
    pub(super) fn series(&self, ring: &KeyRing, id: i64) -> Result<RoaringBitmap, StoreError> {
        let (source, key) = self.source(ring, id);
        let head = self.partitions.cache.head(key, || source.head())?;
        Ok(head.head.series().collect())
    }

    /// Blocks that overlap `from..=to`, may hold one of `ids` (ascending) and are of one of the windows, oldest first.
    pub(super) fn blocks(&self, ids: &[SeriesId], (from, to): (i64, i64), windows: Windows) -> Result<Vec<i64>, StoreError> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(Vec::new()) };
        let sql = "SELECT id, series_min, series_max FROM block WHERE t_max >= ?1 AND t_min <= ?2 AND series_min <= ?4 AND series_max >= ?3
                   AND (?5 IS NULL OR window & 15 = ?5) AND made > ?6";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![from, to, first, last, windows.facet, windows.made_after])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (id, min, max): (i64, SeriesId, SeriesId) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if ids.get(ids.partition_point(|id| *id < min)).is_some_and(|id| *id <= max) {
                found.push(id);
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Which blocks of a part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    /// Of a roll-up: which of its values.
    pub(super) facet: Option<i64>,
    /// Only what was made later than this.
    pub(super) made_after: i64,
}

impl Windows {
    pub(super) const ALL: Self = Self { facet: None, made_after: i64::MIN };
}

/// A number in the table `meta`.
pub(super) fn meta(connection: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    Ok(connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?)
}

/// A set of series in the table `meta`.
pub(super) fn meta_series(connection: &Connection, name: &str) -> Result<RoaringBitmap, StoreError> {
    let bytes: Option<Vec<u8>> = connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?;
    bytes.map_or_else(|| Ok(RoaringBitmap::new()), |bytes| Ok(RoaringBitmap::deserialize_from(bytes.as_slice())?))
}

/// Writes a set of series to the table `meta`.
pub(super) fn put_meta_series(connection: &Connection, name: &str, series: &RoaringBitmap) -> Result<(), StoreError> {
    let mut bytes = Vec::with_capacity(series.serialized_size());
    series.serialize_into(&mut bytes)?;
    connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?.execute(params![name, bytes])?;
    Ok(())
}

/// Removes files, those that are there.
fn remove(files: &[PathBuf]) -> Result<(), StoreError> {
    for file in files {
        match std::fs::remove_file(file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
    }
    Ok(())
}

/// A database and the files that SQLite keeps beside it.
fn files(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}
