//! One database of the buffer: on disk, or in memory with the same code. Stores and reads; knows nothing of other files and
//! does nothing about failures. A transaction that fails leaves what is known as it was.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use keyvigil_common::seal::KeyRing;
use keyvigil_common::wire::Gap;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::bound::{class_number, class_of};
use super::disk::Taken;
use super::front::Lanes;
use super::state::{State, Totals, Work};
use super::{Appended, BufferError, Level, Lost, New, Remember, Remembered};

/// Gaps that are offered to be told at once.
const GAPS_OFFERED_MAX: i64 = 1_000;
/// Free pages that a file keeps for what comes next, and how many are given back at a time.
const FREE_PAGES_KEPT: i64 = 256;
const FREE_PAGES_STEP: i64 = 512;

/// A database.
pub(super) struct File {
    pub(super) connection: Connection,
    pub(super) ring: KeyRing,
    pub(super) id: [u8; 16],
    pub(super) wrapped: Vec<u8>,
    /// `None` in memory.
    pub(super) path: Option<PathBuf>,
    pub(super) state: State,
    pub(super) lanes: Lanes,
    pub(super) offered: HashSet<i64>,
}

impl File {
    pub(super) fn new(connection: Connection, ring: KeyRing, id: [u8; 16], wrapped: Vec<u8>, state: State) -> Self {
        Self { connection, ring, id, wrapped, path: None, state, lanes: Lanes::default(), offered: HashSet::new() }
    }

    /// One transaction: what it does to the state counts only if it is stored.
    pub(super) fn write<T>(&mut self, now_ms: i64, work: impl FnOnce(&mut Work<'_>) -> Result<T, BufferError>) -> Result<T, BufferError> {
        let mut state = self.state.clone();
        let handed = self.lanes.handed();
        let tx = Transaction::new(&mut self.connection, TransactionBehavior::Deferred)?;
        let out = work(&mut Work { tx: &tx, ring: &self.ring, file: self.id, state: &mut state, offered: &self.offered, handed: &handed, now_ms })?;
        tx.commit()?;
        self.state = state;
        Ok(out)
    }

    /// Stores batches, what sensors remember and losses of things that never got a number; makes room first.
    pub(super) fn append(&mut self, batches: &[New], remember: &[Remember], lost: &[Lost], bound: (u64, i64), now_ms: i64) -> Result<Appended, BufferError> {
        let next_id = self.state.numbers.next_id + lost.len() as u64;
        let bodies = batches.iter().zip(next_id..).map(|(batch, id)| self.ring.seal(&batch.frame, &self.place(id)));
        let bodies: Vec<Vec<u8>> = bodies.collect::<Result<_, _>>()?;
        let sealed = remember.iter().map(|(sensor, key, value)| match value {
            Some(value) => self.ring.seal(value, &remembered_place(sensor, key)).map(Some),
            // In memory it is to be told to the file on disk that something is to be forgotten there.
            None => Ok(self.state.memory.then(Vec::new)),
        });
        let sealed: Vec<Option<Vec<u8>>> = sealed.collect::<Result<_, _>>()?;
        let appended = self.write(now_ms, |work| {
            for (class, items, cause) in lost {
                work.lose(*class, *items, cause)?;
            }
            let given_up = work.make_room(bound.0, bound.1, bodies.iter().map(|body| body.len() as u64).sum())?;
            for (batch, body) in batches.iter().zip(&bodies) {
                let id = work.next_id();
                work.insert(id, batch, body)?;
            }
            for ((sensor, key, _), value) in remember.iter().zip(sealed) {
                match value {
                    Some(value) => work.tx.prepare_cached("INSERT OR REPLACE INTO remembered VALUES (?1, ?2, ?3)")?.execute(params![sensor, key, value])?,
                    None => work.tx.prepare_cached("DELETE FROM remembered WHERE sensor = ?1 AND key = ?2")?.execute(params![sensor, key])?,
                };
            }
            work.trim()?;
            work.save()?;
            Ok(Appended { given_up })
        })?;
        for gap in batches.iter().flat_map(|batch| &batch.told) {
            self.offered.remove(gap);
        }
        // It is stored: a failure here shows itself again soon.
        if let Err(e) = self.give_back() {
            tracing::debug!(error = %e, "the buffer keeps its free pages for now");
        }
        Ok(appended)
    }

    /// Gives free pages back to the file system, some at a time.
    fn give_back(&self) -> Result<(), BufferError> {
        let free: i64 = self.connection.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
        if free > FREE_PAGES_KEPT + FREE_PAGES_STEP / 8 {
            let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({})", (free - FREE_PAGES_KEPT).min(FREE_PAGES_STEP)))?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
        }
        Ok(())
    }

    /// What `sensor` asked to be remembered.
    pub(super) fn remembered(&self, sensor: &str) -> Result<Vec<Remembered>, BufferError> {
        remembered(&self.connection, &self.ring, sensor)
    }

    /// What all sensors asked to be remembered.
    pub(super) fn all_remembered(&self) -> Result<HashMap<String, Vec<Remembered>>, BufferError> {
        let sensors =
            self.connection.prepare("SELECT DISTINCT sensor FROM remembered")?.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        sensors.into_iter().map(|sensor| self.remembered(&sensor).map(|all| (sensor, all))).collect()
    }

    /// Losses that no batch tells of yet, with their ids.
    pub(super) fn gaps(&mut self) -> Result<Vec<(i64, Gap)>, BufferError> {
        let sql = "SELECT first, last, id, class, items, at_ms, cause FROM gap WHERE id NOT IN (SELECT gap FROM told) ORDER BY id LIMIT ?1";
        let numbers = &self.state.numbers;
        let gaps = {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map([GAPS_OFFERED_MAX], |row| {
                let ids = super::state::range_of(row)?;
                let (class, items) = (class_of(row.get(3)?), row.get::<_, i64>(4)?.cast_unsigned());
                let epoch = Some(numbers.at(ids.first).0.epoch);
                Ok((row.get(2)?, Gap { range: numbers.seqs(ids), class, items, at_ms: row.get(5)?, cause: row.get(6)?, epoch }))
            })?;
            rows.collect::<Result<Vec<(i64, Gap)>, _>>()?
        };
        self.offered = gaps.iter().map(|(id, _)| *id).collect();
        Ok(gaps)
    }

    /// How full it is.
    pub(super) fn level(&self) -> Level {
        let State { waiting: Totals { rows, items, bytes }, numbers, .. } = &self.state;
        // A database that cannot say so says it to whoever works with it.
        let oldest_ms = self.state.oldest_ms(&self.connection).unwrap_or(None);
        Level { batches: *rows, items: *items, bytes: *bytes, oldest_ms, epoch: numbers.newest().epoch, last_seq: numbers.last_seq(), degraded: None }
    }

    /// What the file takes, without its log.
    pub(super) fn taken(&self) -> Result<Taken, BufferError> {
        let pages = |sql| Ok::<u64, BufferError>(self.connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned() * 4_096);
        let (size, free) = (pages("PRAGMA page_count")?, pages("PRAGMA freelist_count")?);
        Ok(Taken { size, used: size.saturating_sub(free), held: self.state.waiting.bytes + self.state.kept_bytes, log: 0 })
    }

    /// Where a row is sealed to.
    pub(super) fn place(&self, id: u64) -> Vec<u8> {
        batch_place(&self.id, id)
    }
}

impl Work<'_> {
    /// Stores a batch that waits, and that it tells of gaps.
    pub(super) fn insert(&mut self, id: u64, batch: &New, body: &[u8]) -> Result<(), BufferError> {
        let bytes = body.len() as u64;
        let row = params![id.cast_signed(), class_number(batch.class), batch.items.cast_signed(), bytes.cast_signed(), batch.at_ms, body];
        self.tx.prepare_cached("INSERT INTO batch VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(row)?;
        self.state.waiting.add(Totals { rows: 1, items: batch.items, bytes });
        for gap in &batch.told {
            self.tx.prepare_cached("INSERT OR REPLACE INTO told VALUES (?1, ?2)")?.execute([*gap, id.cast_signed()])?;
        }
        Ok(())
    }
}

pub(super) fn batch_place(file: &[u8; 16], id: u64) -> Vec<u8> {
    format!("batch:{}:{id}", keyvigil_common::hex(file)).into_bytes()
}

/// What `sensor` asked to be remembered.
pub(super) fn remembered(connection: &Connection, ring: &KeyRing, sensor: &str) -> Result<Vec<Remembered>, BufferError> {
    let mut statement = connection.prepare_cached("SELECT key, value FROM remembered WHERE sensor = ?1")?;
    let mut rows = statement.query([sensor])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, sealed): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        if !sealed.is_empty() {
            let value = ring.unseal(&sealed, &remembered_place(sensor, &key))?;
            out.push((key, value));
        }
    }
    Ok(out)
}

pub(super) fn remembered_place(sensor: &str, key: &str) -> Vec<u8> {
    format!("remembered:{sensor}:{key}").into_bytes()
}
