//! Blocks on disk: one SQLite file a day (UTC), opened on demand, dropped whole when it is too old. Sealed bodies are opened
//! here and nowhere else. Writing is `compact`'s, one file at a time.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use keyvigil_common::seal::KeyRing;
use rusqlite::blob::Blob;
use rusqlite::{Connection, MAIN_DB, OptionalExtension, params};

use super::block::{Block, BlockError, Head};
use super::{Point, StoreError, sqlite};
use crate::index::SeriesId;

const DAY_MS: i64 = 86_400_000;
/// Open files kept for reading.
const OPEN_MAX: usize = 40;
/// With more series than this, all blocks of the range are read and filtered, instead of asking for each.
const LOOKUP_MAX: usize = 512;

const PAGE_BYTES: u32 = 4_096;
const SCHEMA: &str = include_str!("partition.sql");

/// Start of the day that `at_ms` lies in, as days since 1970.
pub(super) fn day_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS)
}

/// All days.
#[derive(Debug)]
pub(super) struct Partitions {
    dir: PathBuf,
    open: Mutex<BTreeMap<i64, Arc<Mutex<Connection>>>>,
}

impl Partitions {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, open: Mutex::default() }
    }

    /// The file of `day`: `2026-11-22.db`.
    pub(super) fn path(&self, day: i64) -> PathBuf {
        let date = jiff::Timestamp::from_millisecond(day * DAY_MS).map(|t| t.strftime("%Y-%m-%d").to_string());
        self.dir.join(format!("{}.db", date.unwrap_or_else(|_| format!("day{day}"))))
    }

    /// Opens `day` for writing, making its file if there is none.
    pub(super) fn writer(&self, day: i64) -> Result<Connection, StoreError> {
        let path = self.path(day);
        if !path.exists() {
            // A reader must never meet a file without its tables: it gets its name once it has them.
            let unborn = path.with_extension("new");
            for file in files(&unborn) {
                match std::fs::remove_file(&file) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
                    _ => {}
                }
            }
            drop(sqlite::open(&unborn, SCHEMA, PAGE_BYTES)?);
            std::fs::rename(&unborn, &path)?;
            std::fs::File::open(&self.dir)?.sync_all()?;
        }
        sqlite::open(&path, SCHEMA, PAGE_BYTES)
    }

    /// Days that have a file.
    pub(super) fn days(&self) -> Result<Vec<i64>, StoreError> {
        let mut days = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let Some(date) = name.to_str().and_then(|n| n.strip_suffix(".db")) else { continue };
            if let Ok(date) = date.parse::<jiff::civil::Date>() {
                let start = date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).map(|z| z.timestamp().as_millisecond());
                days.extend(start.map(day_of));
            }
        }
        days.sort_unstable();
        Ok(days)
    }

    /// For each day, the last level-0 row whose samples are in its blocks.
    pub(super) fn applied(&self) -> Result<HashMap<i64, i64>, StoreError> {
        let mut out = HashMap::new();
        for day in self.days()? {
            let connection = self.reader(day)?;
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let through: Option<i64> = connection.query_row("SELECT value FROM meta WHERE name = 'level0'", [], |row| row.get(0)).optional()?;
            out.insert(day, through.unwrap_or(0));
        }
        Ok(out)
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

    /// Adds the samples of `ids` in `from..=to` to `out`, in the order of their blocks. `budget` counts down.
    pub(super) fn read(&self, ring: &KeyRing, ids: &[SeriesId], from: i64, to: i64, budget: &mut usize, out: &mut [Vec<Point>]) -> Result<(), StoreError> {
        let place: HashMap<SeriesId, usize> = ids.iter().copied().zip(0..).collect();
        for day in self.days()?.into_iter().filter(|day| (day_of(from)..=day_of(to)).contains(day)) {
            let connection = self.reader(day)?;
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            // A block stays as it is while this transaction reads it, however a merge goes on.
            let reading = connection.unchecked_transaction()?;
            let blocks: Vec<i64> = reading.prepare(&question(ids))?.query_map(params![from, to], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let mut blob: Option<Blob<'_>> = None;
            for id in blocks {
                // Moved from block to block: opening anew would prepare a statement each time.
                match &mut blob {
                    Some(blob) => blob.reopen(id)?,
                    none => *none = Some(reading.blob_open(MAIN_DB, "block", "body", id, true)?),
                }
                let Some(blob) = &blob else { continue };
                let block = open_block(ring, (day, id), |offset, length| stored(blob, offset, length), |series| place.contains_key(&series))?;
                let first = block.times.partition_point(|t| *t < from);
                let last = block.times.partition_point(|t| *t <= to);
                for (series, values) in &block.columns {
                    *budget = budget.checked_sub(last - first).ok_or(StoreError::TooMuch)?;
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
        for day in self.days()? {
            let connection = self.reader(day)?;
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let count: Option<i64> = connection.query_row("SELECT sum(samples) FROM block", [], |row| row.get(0))?;
            samples += count.unwrap_or(0).cast_unsigned();
            bytes += files(&self.path(day)).iter().filter_map(|f| std::fs::metadata(f).ok()).map(|m| m.len()).sum::<u64>();
        }
        Ok((samples, bytes))
    }

    /// Removes the files of days that ended before `before_ms`.
    pub(super) fn drop_before(&self, before_ms: i64) -> Result<Vec<String>, StoreError> {
        let mut dropped = Vec::new();
        for day in self.days()?.into_iter().filter(|day| (day + 1) * DAY_MS <= before_ms) {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&day);
            let path = self.path(day);
            for file in files(&path) {
                match std::fs::remove_file(&file) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
                    _ => {}
                }
            }
            dropped.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
        Ok(dropped)
    }
}

/// A database and the files that SQLite keeps beside it.
fn files(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// Blocks that overlap a range, oldest first; one statement, so that a merge in between cannot hide any.
fn question(ids: &[SeriesId]) -> String {
    let mut sql = "SELECT id FROM block WHERE t_max >= ?1 AND t_min <= ?2".to_owned();
    if ids.len() <= LOOKUP_MAX {
        sql.push_str(" AND id IN (SELECT block FROM member WHERE series IN (");
        for (at, id) in ids.iter().enumerate() {
            let _ = write!(sql, "{}{id}", if at == 0 { "" } else { "," });
        }
        sql.push_str("))");
    }
    sql.push_str(" ORDER BY id");
    sql
}

/// Where a part of a block belongs: its head, or a stripe.
fn place(day: i64, id: i64, part: Option<usize>) -> String {
    match part {
        None => format!("block:{day}:{id}"),
        Some(stripe) => format!("block:{day}:{id}:{stripe}"),
    }
}

/// A block as it is stored: length of the sealed head (u32), the head, the stripes, each sealed by itself.
pub(super) fn seal_block(ring: &KeyRing, day: i64, id: i64, block: &Block) -> Result<Vec<u8>, StoreError> {
    let encoded = block.encode()?;
    let seal = |(at, stripe): (usize, &Vec<u8>)| ring.seal(stripe, place(day, id, Some(at)).as_bytes());
    let stripes = encoded.stripes.iter().enumerate().map(seal).collect::<Result<Vec<_>, _>>()?;
    let lengths: Vec<usize> = stripes.iter().map(Vec::len).collect();
    let head = ring.seal(&encoded.head(&lengths)?, place(day, id, None).as_bytes())?;
    let mut out = Vec::with_capacity(4 + head.len() + lengths.iter().sum::<usize>());
    out.extend_from_slice(&u32::try_from(head.len()).map_err(|_| BlockError::Truncated)?.to_le_bytes());
    out.extend_from_slice(&head);
    stripes.iter().for_each(|stripe| out.extend_from_slice(stripe));
    Ok(out)
}

/// Opens what `wanted` asks for of a block whose bytes `fetch` gives by offset and length.
pub(super) fn open_block(
    ring: &KeyRing,
    (day, id): (i64, i64),
    fetch: impl Fn(usize, usize) -> Result<Vec<u8>, StoreError>,
    wanted: impl Fn(SeriesId) -> bool,
) -> Result<Block, StoreError> {
    let length = fetch(0, 4)?.first_chunk().map(|b| u32::from_le_bytes(*b) as usize).ok_or(BlockError::Truncated)?;
    let head = Head::decode(&ring.unseal(&fetch(4, length)?, place(day, id, None).as_bytes())?)?;
    let offset = |stripe: usize| 4 + length + head.stripes.iter().take(stripe).sum::<usize>();
    head.read(wanted, |at| {
        let length = *head.stripes.get(at).ok_or(BlockError::Truncated)?;
        Ok(ring.unseal(&fetch(offset(at), length)?, place(day, id, Some(at)).as_bytes())?)
    })
}

/// Part of a body that is in memory.
pub(super) fn part(body: &[u8], offset: usize, length: usize) -> Result<Vec<u8>, StoreError> {
    Ok(body.get(offset..offset.saturating_add(length)).ok_or(BlockError::Truncated)?.to_vec())
}

/// Part of a body on disk.
fn stored(blob: &Blob<'_>, offset: usize, length: usize) -> Result<Vec<u8>, StoreError> {
    if offset.saturating_add(length) > blob.len() {
        return Err(BlockError::Truncated.into());
    }
    let mut bytes = vec![0; length];
    blob.read_at_exact(&mut bytes, offset)?;
    Ok(bytes)
}
