//! Blocks on disk: one SQLite file a day (UTC), opened on demand, dropped whole when it is too old. Sealed bodies are opened
//! here and nowhere else. Writing is `compact`'s, one file at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use keyvigil_common::seal::KeyRing;
use rusqlite::{Connection, OptionalExtension, params};

use super::block::Column;
use super::sealed::{Heads, Source};
use super::{Point, StoreError, sqlite};
use crate::index::SeriesId;

pub(super) const DAY_MS: i64 = 86_400_000;
/// Open files kept for reading.
const OPEN_MAX: usize = 40;

const PAGE_BYTES: u32 = 2_048;
const SCHEMA: &str = include_str!("partition.sql");

/// Start of the day that `at_ms` lies in, as days since 1970.
pub(super) fn day_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS)
}

/// What a question may cost.
pub(super) struct Budget<'a> {
    /// Samples; counts down.
    pub(super) samples: &'a mut usize,
    /// Set once nobody waits for the answer.
    pub(super) gone: &'a AtomicBool,
}

/// All days.
#[derive(Debug)]
pub(super) struct Partitions {
    dir: PathBuf,
    /// Days that have a file.
    days: RwLock<BTreeSet<i64>>,
    open: Mutex<BTreeMap<i64, Arc<Mutex<Connection>>>>,
    heads: Heads,
}

impl Partitions {
    /// The days that lie in `dir`.
    pub(super) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        let mut days = BTreeSet::new();
        for entry in std::fs::read_dir(&dir)? {
            let name = entry?.file_name();
            let Some(date) = name.to_str().and_then(|n| n.strip_suffix(".db")) else { continue };
            if let Ok(date) = date.parse::<jiff::civil::Date>() {
                let start = date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).map(|z| z.timestamp().as_millisecond());
                days.extend(start.map(day_of));
            }
        }
        Ok(Self { dir, days: RwLock::new(days), open: Mutex::default(), heads: Heads::default() })
    }

    /// The file of `day`: `2026-11-22.db`.
    pub(super) fn path(&self, day: i64) -> PathBuf {
        let date = jiff::Timestamp::from_millisecond(day * DAY_MS).map(|t| t.strftime("%Y-%m-%d").to_string());
        self.dir.join(format!("{}.db", date.unwrap_or_else(|_| format!("day{day}"))))
    }

    /// What people call `day`: `2026-11-22`.
    pub(super) fn name(&self, day: i64) -> String {
        self.path(day).file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Bytes of the files of `day`.
    pub(super) fn bytes(&self, day: i64) -> u64 {
        files(&self.path(day)).iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.len()).sum()
    }

    /// Opens `day` for writing, making its file if there is none.
    pub(super) fn writer(&self, day: i64) -> Result<Connection, StoreError> {
        let path = self.path(day);
        if !path.exists() {
            // A reader must never meet a file without its tables: it gets its name once it has them.
            let unborn = path.with_extension("new");
            remove(&files(&unborn))?;
            drop(sqlite::open(&unborn, SCHEMA, PAGE_BYTES)?);
            // The log of a file that was dropped half must not be taken for this one's.
            remove(&files(&path)[1..])?;
            std::fs::rename(&unborn, &path)?;
            std::fs::File::open(&self.dir)?.sync_all()?;
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&day);
            self.heads.forget(day);
        }
        let connection = sqlite::open(&path, SCHEMA, PAGE_BYTES)?;
        self.days.write().unwrap_or_else(PoisonError::into_inner).insert(day);
        Ok(connection)
    }

    /// Days that have a file, ascending.
    pub(super) fn days(&self) -> Vec<i64> {
        self.days.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// For each day, the last level-0 row whose samples are in its blocks.
    pub(super) fn applied(&self) -> Result<HashMap<i64, i64>, StoreError> {
        let mut out = HashMap::new();
        for day in self.days() {
            let connection = self.reader(day)?;
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let through: Option<i64> = connection.query_row("SELECT value FROM meta WHERE name = 'level0'", [], |row| row.get(0)).optional()?;
            out.insert(day, through.unwrap_or(0));
        }
        Ok(out)
    }

    /// The newest sample in blocks, Unix ms; 0 for none.
    pub(super) fn newest_ms(&self) -> Result<i64, StoreError> {
        let Some(day) = self.days().pop() else { return Ok(0) };
        let connection = self.reader(day)?;
        let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(connection.query_row("SELECT ifnull(max(t_max), 0) FROM block", [], |row| row.get(0))?)
    }

    fn reader(&self, day: i64) -> Result<Arc<Mutex<Connection>>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = open.get(&day) {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(Mutex::new(sqlite::open_reader(&self.path(day))?));
        if open.len() >= OPEN_MAX {
            open.pop_first();
        }
        open.insert(day, Arc::clone(&connection));
        Ok(connection)
    }

    /// Adds the samples of `ids` in `from..=to` to `out`, in the order of their blocks.
    pub(super) fn read(&self, ring: &KeyRing, ids: &[SeriesId], (from, to): (i64, i64), budget: Budget<'_>, out: &mut [Vec<Point>]) -> Result<(), StoreError> {
        let place: HashMap<SeriesId, usize> = ids.iter().copied().zip(0..).collect();
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        for day in self.days().into_iter().filter(|day| (day_of(from)..=day_of(to)).contains(day)) {
            let connection = self.reader(day)?;
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            // A block stays as it is while this transaction reads it, however a merge goes on.
            let reading = connection.unchecked_transaction()?;
            for id in blocks(&reading, &sorted, from, to)? {
                if budget.gone.load(Ordering::Relaxed) {
                    return Err(StoreError::Gone);
                }
                let source = Source { ring, reading: &reading, day, id };
                let head = self.heads.get((day, id), || source.head())?;
                if !head.head.series().any(|series| place.contains_key(&series)) {
                    continue;
                }
                let block = source.read(&head, |series| place.contains_key(&series))?;
                let first = block.times.partition_point(|t| *t < from);
                let last = block.times.partition_point(|t| *t <= to);
                for Column { series, values, .. } in &block.columns {
                    *budget.samples = budget.samples.checked_sub(last - first).ok_or(StoreError::TooMuch)?;
                    let points = block.times[first..last].iter().copied().zip(values[first..last].iter().copied());
                    if let Some(at) = place.get(series) {
                        out[*at].extend(points);
                    }
                }
            }
        }
        Ok(())
    }

    /// Samples in blocks, and bytes of the files.
    pub(super) fn size(&self) -> Result<(u64, u64), StoreError> {
        let (mut samples, mut bytes) = (0, 0);
        for day in self.days() {
            let connection = self.reader(day)?;
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let count: Option<i64> = connection.query_row("SELECT sum(samples) FROM block", [], |row| row.get(0))?;
            samples += count.unwrap_or(0).cast_unsigned();
            bytes += self.bytes(day);
        }
        Ok((samples, bytes))
    }

    /// Removes the files of days that ended before `before_ms`.
    pub(super) fn drop_before(&self, before_ms: i64) -> Result<Vec<String>, StoreError> {
        let mut dropped = Vec::new();
        for day in self.days().into_iter().filter(|day| (day + 1) * DAY_MS <= before_ms) {
            let path = self.path(day);
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.remove(&day);
            // The log first: beside a later file of the same day it would be played into that.
            remove(&files(&path)[1..])?;
            remove(&files(&path)[..1])?;
            self.days.write().unwrap_or_else(PoisonError::into_inner).remove(&day);
            self.heads.forget(day);
            drop(open);
            dropped.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
        Ok(dropped)
    }
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

/// Blocks that overlap a range and may hold one of `ids` (ascending), oldest first.
fn blocks(reading: &Connection, ids: &[SeriesId], from: i64, to: i64) -> Result<Vec<i64>, StoreError> {
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(Vec::new()) };
    let sql = "SELECT id, series_min, series_max FROM block WHERE t_max >= ?1 AND t_min <= ?2 AND series_min <= ?4 AND series_max >= ?3";
    let mut statement = reading.prepare_cached(sql)?;
    let mut rows = statement.query(params![from, to, first, last])?;
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
