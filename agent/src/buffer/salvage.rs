//! Reads what can be read of a file that is damaged or suspect, and writes nothing to it: through SQLite in ranges of ids that
//! are halved where they cannot be read, then from bare pages. Every row proves itself: it opens only as what was sealed.

use std::collections::VecDeque;
use std::path::Path;

use keyvigil_common::seal::{KeyRing, MasterKey};
use keyvigil_common::sequence::{Range, Ranges};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::disk::Sidecar;
use super::file::batch_place;
use super::import::{Carried, Contents};
use super::numbers::Span;
use super::state::{meta, pair};
use super::{BufferError, Place, open, raw};

/// Ranges that cannot be read before the rest is left to the scan of bare pages.
const FAULTS_MAX: usize = 20_000;

/// A file that is read for what it still holds.
pub(super) struct Salvage {
    connection: Option<Connection>,
    key: Option<(KeyRing, [u8; 16])>,
    pub(super) contents: Contents,
    /// Ids that were found.
    pub(super) found: Ranges,
    faults: usize,
}

impl Salvage {
    /// Opens the file at `path`; never fails, it may only find nothing.
    pub(super) fn open(place: &Place, path: &Path, master: &MasterKey) -> Self {
        let connection = read_only(place, path).ok();
        let sidecar = Sidecar::read(&place.path);
        let own = connection.as_ref().and_then(|c| Some((meta(c, "data_key").ok()??, identity(c)?)));
        let beside = sidecar.as_ref().and_then(|s| Some((keyvigil_common::unhex(&s.data_key)?, keyvigil_common::unhex(&s.file_id)?)));
        let open = |(wrapped, id): (Vec<u8>, Vec<u8>)| Some((KeyRing::open(master, &[(1, wrapped)]).ok()?, <[u8; 16]>::try_from(id).ok()?));
        let key = [own, beside].into_iter().flatten().find_map(open);
        let mut contents = match (&connection, &key) {
            (Some(connection), Some((ring, _))) => Contents::read(connection, ring),
            _ => Contents::default(),
        };
        if contents.spans.is_empty()
            && let (Some((_, id)), Some(sidecar)) = (&key, &sidecar)
        {
            let span = |(first_id, epoch, first_seq): &(u64, String, u64)| {
                Some(Span { first_id: *first_id, epoch: keyvigil_common::unhex(epoch)?.try_into().ok()?, first_seq: *first_seq })
            };
            let same = sidecar.file_id == keyvigil_common::hex(id);
            contents.spans = if same { sidecar.epochs.iter().filter_map(span).collect() } else { Vec::new() };
        }
        if contents.spans.is_empty()
            && let Some((_, id)) = &key
        {
            // The first epoch of a file is its identity.
            contents.spans = vec![Span { first_id: 1, epoch: *id, first_seq: 1 }];
        }
        Self { connection, key, contents, found: Ranges::default(), faults: 0 }
    }

    /// Hands every row to `take` that has an id up to `last` and is not known to be settled and gone.
    pub(super) fn rows(&mut self, path: &Path, last: u64, take: &mut dyn FnMut(Carried) -> Result<(), BufferError>) -> Result<(), BufferError> {
        if self.key.is_none() {
            return Ok(());
        }
        self.by_id(last, take)?;
        if self.faults > 0 || self.connection.is_none() || self.contents.fault.is_some() {
            self.by_page(path, last, take)?;
        }
        Ok(())
    }

    fn by_id(&mut self, last: u64, take: &mut dyn FnMut(Carried) -> Result<(), BufferError>) -> Result<(), BufferError> {
        let Some(connection) = self.connection.take() else { return Ok(()) };
        let mut ranges = VecDeque::from([Range { first: 1, last: last.min(u64::MAX >> 2) }]);
        while let Some(range) = ranges.pop_front().filter(|_| self.faults < FAULTS_MAX) {
            let mut reached = range.first;
            match self.range(&connection, range, &mut reached, take) {
                Ok(()) => {}
                Err(Stop::Taker(e)) => return Err(e),
                Err(Stop::Reader) => {
                    self.faults += 1;
                    // What could be read is read; the rest is halved until the row is alone.
                    if let Some(rest) = Range::new(reached, range.last).filter(|rest| rest.count() > 1) {
                        let middle = rest.first + (rest.last - rest.first) / 2;
                        ranges.push_front(Range { first: middle + 1, last: rest.last });
                        ranges.push_front(Range { first: rest.first, last: middle });
                    }
                }
            }
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn range(
        &mut self,
        connection: &Connection,
        range: Range,
        reached: &mut u64,
        take: &mut dyn FnMut(Carried) -> Result<(), BufferError>,
    ) -> Result<(), Stop> {
        let mut statement = connection.prepare_cached("SELECT rowid, class, items, at_ms, body FROM batch WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid")?;
        let mut rows = statement.query(pair(range))?;
        while let Some(row) = rows.next()? {
            let id = row.get::<_, i64>(0)?.cast_unsigned();
            if !(*reached..=range.last).contains(&id) {
                // The tree is out of order: what it gives here it gives elsewhere too.
                return Err(Stop::Reader);
            }
            *reached = id + 1;
            let row = raw::RawRow { id, class: row.get(1)?, items: row.get(2)?, at_ms: row.get(3)?, body: row.get(4)? };
            self.prove(row, take).map_err(Stop::Taker)?;
        }
        Ok(())
    }

    fn by_page(&mut self, path: &Path, last: u64, take: &mut dyn FnMut(Carried) -> Result<(), BufferError>) -> Result<(), BufferError> {
        let mut failed = None;
        let scanned = raw::scan(path, |row| {
            let gone = row.id > last || self.contents.is_over(row.id);
            if !gone && !self.found.contains(row.id) {
                failed = self.prove(row, take).err();
            }
            failed.is_none()
        });
        if let Err(e) = scanned {
            tracing::debug!(error = %e, "the pages of the damaged buffer cannot be read");
        }
        failed.map_or(Ok(()), Err)
    }

    fn prove(&mut self, row: raw::RawRow, take: &mut dyn FnMut(Carried) -> Result<(), BufferError>) -> Result<(), BufferError> {
        let Some((ring, file)) = &self.key else { return Ok(()) };
        let Ok(frame) = ring.unseal(&row.body, &batch_place(file, row.id)) else { return Ok(()) };
        self.found.insert(Range { first: row.id, last: row.id });
        // What is not sealed may be anything.
        let class = row.class.clamp(0, 4);
        take(Carried { id: row.id, class, items: row.items.max(0), at_ms: row.at_ms, frame })
    }
}

/// Who could not go on.
enum Stop {
    Reader,
    Taker(BufferError),
}

impl From<rusqlite::Error> for Stop {
    fn from(_: rusqlite::Error) -> Self {
        Self::Reader
    }
}

/// A connection that writes nothing. It may not be one of SQLite's read-only ones, which cannot read every log.
fn read_only(place: &Place, path: &Path) -> Result<Connection, BufferError> {
    let connection = open::connect(place, path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA query_only = ON; PRAGMA mmap_size = 0; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -1024;",
    )?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// Of the file; version 1 called it otherwise.
fn identity(connection: &Connection) -> Option<Vec<u8>> {
    ["file_id", "epoch"].into_iter().find_map(|name| meta(connection, name).ok().flatten())
}
