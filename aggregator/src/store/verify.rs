//! Whether all that is stored can be read and agrees with what is said of it: SQLite's own check of every file, every
//! record, every series, every block down to the last value. Reads only, also beside an aggregator that runs: each look is
//! a read transaction of its own, and what was merged or dropped meanwhile is no fault. Mending is `reindex`'s.

mod blocks;
mod records;

use std::path::Path;
use std::sync::{Arc, Mutex};

use keyvigil_common::seal::{KeyRing, MasterKey};
use keyvigil_common::telemetry::chain;
use roaring::RoaringBitmap;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::partition::{Partitions, RAW};
use super::rollup::ROLL_UPS;
use super::{Progress, Shared, Store, StoreError, sqlite};
use crate::index::{Index, SeriesId, TenantId};
use keyvigil_common::sample::Series;

pub(super) use blocks::Said;
pub(super) use records::each_series;

/// Faults that are told one by one; all are counted.
const FAULTS_KEPT: usize = 100;
/// Series that are looked up again before it is said that the index does not know them.
const DOUBTS_MAX: usize = 10_000;
/// Nothing is read twice here.
const CACHE_BYTES: usize = 1 << 20;
/// Looks between two steps that are told.
const TELL_EVERY: u64 = 8;
/// SQLite asks this often, in steps of its machine, whether to go on.
const ASK_EVERY: i32 = 10_000;

/// What was read, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Databases.
    pub files: u64,
    /// Blocks.
    pub blocks: u64,
    /// Samples in them.
    pub samples: u64,
    /// Values of roll-ups in them.
    pub rolled: u64,
    /// Series.
    pub series: u64,
    /// Requests that are not in blocks yet.
    pub level0_rows: u64,
    /// Agents, keys, rules, alerts, events and the like.
    pub records: u64,
    /// How many faults there are.
    pub faults: u64,
    /// The first of them.
    pub first_faults: Vec<Fault>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// File, below the store.
    pub file: String,
    /// Table; empty for the file as a whole.
    pub table: String,
    /// Row; empty for the table as a whole.
    pub row: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl Store {
    /// Reads all there is. On a blocking thread.
    ///
    /// # Errors
    /// Only what keeps it from looking: everything else is a fault that is counted. [`StoreError::Gone`].
    pub async fn verify(&self, progress: &Progress) -> Result<Verified, StoreError> {
        let (this, progress) = (self.clone(), progress.clone());
        let look = move || {
            let Shared { dir, ring, index, .. } = &*this.0.shared;
            Look::new(&Files { dir, ring, partitions: this.0.shared.sets(), index: Some(index), still: Some(&this.0.compacting) }, &progress)?.all()
        };
        let (mut found, doubts) = tokio::task::spawn_blocking(look).await.map_err(|_| StoreError::Closed)??;
        if !doubts.is_empty() {
            // Series become known just after their commit, on the writing thread: once it answers, all that were committed are.
            self.write(|_| Ok(())).await?;
            doubts.iter().filter(|doubt| !doubt.is_known(self.index())).for_each(|doubt| found.add(doubt.fault()));
        }
        Ok(found)
    }
}

/// The same for a store that no aggregator serves, and that need not open: what keeps it from opening is a fault too.
///
/// # Errors
/// As [`Store::verify`]; a master key that is not the store's.
pub fn verify_at(dir: &Path, master: &MasterKey, progress: &Progress) -> Result<Verified, StoreError> {
    let main = sqlite::open_reader(&dir.join("main.db"))?;
    let ring = KeyRing::open(master, &super::data_keys::wrapped_keys(&main)?.0)?;
    let cache = Arc::new(Cache::new(CACHE_BYTES));
    let open = |kind| Partitions::open(dir, kind, Arc::clone(&cache));
    let (days, [hours, minutes]) = (open(RAW)?, ROLL_UPS.map(|rolled| open(rolled.kind)));
    let (hours, minutes) = (hours?, minutes?);
    Ok(Look::new(&Files { dir, ring: &ring, partitions: [&days, &hours, &minutes], index: None, still: None }, progress)?.all()?.0)
}

/// Whether `master` is the key of the store in `dir`.
///
/// # Errors
/// A state database that cannot be read, or of another version.
pub fn is_key_of(dir: &Path, master: &MasterKey) -> Result<bool, StoreError> {
    let main = sqlite::open_reader(&dir.join("main.db"))?;
    sqlite::check_version(&main, &dir.join("main.db"), super::STATE)?;
    Ok(KeyRing::open(master, &super::data_keys::wrapped_keys(&main)?.0).is_ok())
}

/// What is looked at.
struct Files<'a> {
    dir: &'a Path,
    ring: &'a KeyRing,
    /// Samples, and the roll-ups.
    partitions: [&'a Partitions; 3],
    /// The series in memory, where an aggregator runs.
    index: Option<&'a Index>,
    /// Who holds it drops and makes files; where an aggregator runs.
    still: Option<&'a Mutex<()>>,
}

/// A series that the index did not know when its row was read.
pub(super) struct Doubt {
    pub(super) tenant: TenantId,
    pub(super) id: SeriesId,
    pub(super) series: Series,
}

impl Doubt {
    pub(super) fn is_known(&self, index: &Index) -> bool {
        index.id(self.tenant, &self.series) == Some(self.id)
    }

    fn fault(&self) -> Fault {
        let what = format!("series {} ({}) is not in the index: no query finds it", self.id, self.series);
        Fault { file: "main.db".into(), table: "series".into(), row: self.id.to_string(), what, advice: REINDEX.into() }
    }
}

const REINDEX: &str = "run `keyvigil-aggregator reindex`";
const RESTORE: &str = "it cannot be mended: restore the file from a backup";

impl Verified {
    fn add(&mut self, fault: Fault) {
        self.faults += 1;
        if self.first_faults.len() < FAULTS_KEPT {
            self.first_faults.push(fault);
        }
    }
}

/// A look at all files.
struct Look<'a> {
    files: &'a Files<'a>,
    main: Connection,
    /// Ids that a row of `series` gives, up to row `through`.
    known: RoaringBitmap,
    through: SeriesId,
    tenants: Vec<TenantId>,
    doubts: Vec<Doubt>,
    found: Verified,
    progress: &'a Progress,
    step: String,
    done: u64,
    total: u64,
}

impl<'a> Look<'a> {
    fn new(files: &'a Files<'a>, progress: &'a Progress) -> Result<Self, StoreError> {
        let main = reader(&files.dir.join("main.db"), progress)?;
        let (known, doubts, found) = (RoaringBitmap::new(), Vec::new(), Verified::default());
        Ok(Self { files, main, known, through: 0, tenants: Vec::new(), doubts, found, progress, step: String::new(), done: 0, total: 0 })
    }

    fn all(mut self) -> Result<(Verified, Vec<Doubt>), StoreError> {
        self.total = self.count();
        self.begin("main.db");
        self.found.files += 1;
        let main = reader(&self.files.dir.join("main.db"), self.progress)?;
        self.integrity(&main, "main.db")?;
        self.records(&main)?;
        for partitions in self.files.partitions {
            for part in partitions.parts() {
                self.part(partitions, part)?;
            }
        }
        Ok((self.found, self.doubts))
    }

    /// How many rows there are to look at; what cannot be counted is told when it is looked at.
    fn count(&self) -> u64 {
        let count = |connection: &Connection, table: &str| -> u64 {
            let rows = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
            rows.map_or(0, i64::cast_unsigned)
        };
        let main: u64 = records::tables().map(|table| count(&self.main, table)).sum();
        let days = self.files.partitions.iter().flat_map(|partitions| partitions.parts().into_iter().map(|part| partitions.path(part)));
        main + days.filter_map(|path| sqlite::open_reader(&path).ok()).map(|connection| count(&connection, "block")).sum::<u64>()
    }

    fn begin(&mut self, step: &str) {
        step.clone_into(&mut self.step);
        self.progress.tell(&self.step, self.done, self.total, "records");
    }

    /// One row was looked at.
    fn looked(&mut self) -> Result<(), StoreError> {
        self.done += 1;
        // What came since it was counted.
        self.total = self.total.max(self.done);
        if self.done.is_multiple_of(TELL_EVERY) {
            self.progress.tell(&self.step, self.done, self.total, "records");
        }
        self.progress.wanted()
    }

    /// SQLite's own check: pages, rows, indexes.
    fn integrity(&mut self, connection: &Connection, file: &str) -> Result<(), StoreError> {
        let said = || -> Result<Vec<String>, rusqlite::Error> {
            let mut statement = connection.prepare(&format!("PRAGMA integrity_check({FAULTS_KEPT})"))?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let lines = said().unwrap_or_else(|e| vec![chain(&e)]);
        self.progress.wanted()?;
        let ours = lines.iter().flat_map(|text| text.lines()).filter(|line| *line != "ok");
        let faults = ours.map(|line| (line.to_owned(), if line.contains("index") { REINDEX } else { RESTORE }));
        faults.collect::<Vec<_>>().into_iter().for_each(|(line, advice)| self.fault(file, "", "", format!("SQLite says: {line}"), advice));
        Ok(())
    }

    fn fault(&mut self, file: &str, table: &str, row: impl ToString, what: String, advice: impl Into<String>) {
        self.found.add(Fault { file: file.to_owned(), table: table.to_owned(), row: row.to_string(), what, advice: advice.into() });
    }
}

/// A connection of our own: the store's are for who asks. Long statements on it end once nobody waits.
fn reader(path: &Path, progress: &Progress) -> Result<Connection, StoreError> {
    let mut connection = sqlite::open_reader(path)?;
    let gone = progress.gone();
    connection.progress_handler(ASK_EVERY, Some(move || gone.load(std::sync::atomic::Ordering::Relaxed)))?;
    Ok(connection)
}
