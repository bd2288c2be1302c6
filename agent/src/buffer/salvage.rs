//! Reads what can be read of a file that is damaged or suspect, and writes nothing to it: with its log and without, for the log may be
//! another file's; through SQLite in ranges of ids that are halved where they cannot be read, then from bare pages. Every row
//! proves itself: it opens only as what was sealed.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::seal::{KeyRing, MasterKey};
use keyvigil_common::sequence::{Range, Ranges};
use rusqlite::Connection;

use super::file::batch_place;
use super::import::{Carried, Contents};
use super::numbers::Span;
use super::sidecar::Sidecar;
use super::state::pair;
use super::view::{View, has_log};
use super::{BufferError, Place, raw};

/// Ranges that cannot be read before the rest is left to the scan of bare pages.
const FAULTS_MAX: usize = 20_000;
/// For how long more is looked for where some of it cannot be read: a disk may take seconds for each fault.
const FAULTY_MAX: Duration = Duration::from_secs(60);
/// Items of one batch, at most: that column is not sealed, and sums of it must not overflow.
const ITEMS_MAX: i64 = 1 << 44;

/// A file that is read for what it still holds.
pub(super) struct Salvage {
    views: Vec<View>,
    key: Option<(KeyRing, [u8; 16])>,
    pub(super) contents: Contents,
    /// Ids that were found.
    pub(super) found: Ranges,
    faults: usize,
    /// It was read to its end without a fault.
    whole: bool,
    /// It is read in another way than before, which may show rows that have gone since.
    again: bool,
    clock: SharedClock,
    until: Duration,
}

impl Salvage {
    /// Opens the file at `path`; never fails, it may only find nothing.
    pub(super) fn open(place: &Place, path: &Path, master: &MasterKey) -> Self {
        let sidecar = Sidecar::read(&place.path);
        let mut views = View::all(place, path);
        let beside = sidecar.as_ref().and_then(|s| Some((keyvigil_common::unhex(&s.data_key)?, keyvigil_common::unhex(&s.file_id)?)));
        let open = |(wrapped, id): (Vec<u8>, Vec<u8>)| Some((KeyRing::open(master, &[(1, wrapped)]).ok()?, <[u8; 16]>::try_from(id).ok()?));
        // What the file says without its log is its own; the log may be another's.
        let key = views.iter().rev().filter_map(View::key).chain(beside).find_map(open);
        let mut contents = Contents::default();
        if let Some((ring, id)) = &key {
            views.retain(|view| view.is_of(id));
            // With the log it is newer, unless that breaks it.
            let whole = views.iter().position(|view| Contents::read(&view.connection, ring).fault.is_none());
            if let Some(at) = whole {
                views.swap(0, at);
            }
            if let Some(view) = views.first() {
                contents = Contents::read(&view.connection, ring);
            }
            if contents.spans.is_empty() {
                contents.spans = sidecar.filter(|sidecar| sidecar.file_id == keyvigil_common::hex(id)).map(|sidecar| spans(&sidecar)).unwrap_or_default();
            }
            if contents.spans.is_empty() {
                // The first epoch of a file is its identity.
                contents.spans = vec![Span { first_id: 1, epoch: *id, first_seq: 1 }];
            }
        }
        let until = place.clock.monotonic() + FAULTY_MAX;
        Self { views, key, contents, found: Ranges::default(), faults: 0, whole: false, again: false, clock: SharedClock::clone(&place.clock), until }
    }

    /// Hands every row to `take` that has an id up to `last` and is not known to be settled and gone.
    pub(super) fn rows(&mut self, path: &Path, last: u64, take: &mut dyn FnMut(Carried) -> Result<(), BufferError>) -> Result<(), BufferError> {
        if self.key.is_none() {
            return Ok(());
        }
        let views = std::mem::take(&mut self.views);
        if let Some(view) = views.first() {
            self.by_id(&view.connection, last, take)?;
        }
        let newest = views.first().is_some_and(|view| view.with_log || !has_log(path));
        self.whole = newest && self.faults == 0 && self.contents.fault.is_none();
        if self.whole && self.contents.accounts_for(&self.found) {
            return Ok(());
        }
        self.again = true;
        for view in views.iter().skip(1) {
            self.by_id(&view.connection, last, take)?;
        }
        for with_log in [true, false] {
            self.by_page(path, with_log, last, take)?;
        }
        Ok(())
    }

    /// Whether all of it was read: then nothing is lost that its numbers do not tell.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether it is of no use to look for more.
    fn is_over(&self) -> bool {
        self.faults >= FAULTS_MAX || self.faults > 0 && self.clock.monotonic() > self.until
    }

    fn by_id(&mut self, connection: &Connection, last: u64, take: &mut dyn FnMut(Carried) -> Result<(), BufferError>) -> Result<(), BufferError> {
        let mut ranges = VecDeque::from([Range { first: 1, last: last.min(u64::MAX >> 2) }]);
        while let Some(range) = ranges.pop_front().filter(|_| !self.is_over()) {
            let mut reached = range.first;
            match self.range(connection, range, &mut reached, take) {
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

    fn by_page(&mut self, path: &Path, with_log: bool, last: u64, take: &mut dyn FnMut(Carried) -> Result<(), BufferError>) -> Result<(), BufferError> {
        let mut failed = None;
        let scanned = raw::scan(path, with_log, |row| {
            if row.id <= last {
                failed = self.prove(row, take).err();
            }
            failed.is_none() && self.clock.monotonic() <= self.until
        });
        if let Err(e) = scanned {
            tracing::debug!(error = %e, "the pages of the damaged buffer cannot be read");
        }
        failed.map_or(Ok(()), Err)
    }

    fn prove(&mut self, row: raw::RawRow, take: &mut dyn FnMut(Carried) -> Result<(), BufferError>) -> Result<(), BufferError> {
        let Some((ring, file)) = &self.key else { return Ok(()) };
        if self.found.contains(row.id) || self.again && self.contents.is_over(row.id) {
            return Ok(());
        }
        let Ok(frame) = ring.unseal(&row.body, &batch_place(file, row.id)) else { return Ok(()) };
        self.found.insert(Range { first: row.id, last: row.id });
        // What is not sealed may be anything.
        let class = row.class.clamp(0, 4);
        take(Carried { id: row.id, class, items: row.items.clamp(0, ITEMS_MAX), at_ms: row.at_ms, frame })
    }
}

/// Epochs as they are noted beside the file.
fn spans(sidecar: &Sidecar) -> Vec<Span> {
    let span = |(first_id, epoch, first_seq): &(u64, String, u64)| {
        Some(Span { first_id: *first_id, epoch: keyvigil_common::unhex(epoch)?.try_into().ok()?, first_seq: *first_seq })
    };
    sidecar.epochs.iter().filter_map(span).collect()
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
