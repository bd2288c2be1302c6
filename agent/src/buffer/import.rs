//! Carries what one file holds into another: from memory back to the disk, and from a damaged file into a new one. Epochs and
//! numbers stay, because the aggregator may know them; ids may move on by an offset.

use keyvigil_common::seal::KeyRing;
use keyvigil_common::sequence::{Range, Ranges};
use rusqlite::{Connection, params};

use super::BufferError;
use super::file::{File, batch_place, remembered_place};
use super::numbers::Span;
use super::state::{State, Work, meta, number, range_of, ranges};

/// A loss as it is stored.
#[derive(Debug, Clone)]
pub(super) struct GapRow {
    id: i64,
    ids: Range,
    class: i64,
    items: i64,
    at_ms: i64,
    cause: String,
}

/// All that a file holds but its rows.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) spans: Vec<Span>,
    /// Last id that was given, where that could be read.
    pub(super) last_id: Option<u64>,
    pub(super) settled: Option<Ranges>,
    /// The cursors that the aggregator told.
    pub(super) confirmed: Vec<([u8; 16], u64)>,
    dropped: Vec<Range>,
    gaps: Vec<GapRow>,
    told: Vec<(i64, i64)>,
    /// Sensor, key and value; `None`: to be forgotten.
    remembered: Vec<(String, String, Option<Vec<u8>>)>,
    /// The first thing that could not be read.
    pub(super) fault: Option<BufferError>,
}

/// A row as it travels from file to file.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) id: u64,
    pub(super) class: i64,
    pub(super) items: i64,
    pub(super) at_ms: i64,
    pub(super) frame: Vec<u8>,
}

impl Contents {
    /// Reads what can be read.
    pub(super) fn read(connection: &Connection, ring: &KeyRing) -> Self {
        let mut contents = Self::default();
        contents.spans = contents.part(super::open::spans(connection));
        contents.last_id = contents.part(meta(connection, "last_id")).and_then(|bytes| number(&bytes));
        contents.settled = contents.part(meta(connection, "settled")).map(|bytes| ranges(&bytes));
        contents.confirmed = contents.part(meta(connection, "confirmed")).map(|bytes| super::state::confirmed(&bytes)).unwrap_or_default();
        contents.dropped = contents.part(list(connection, "SELECT first, last FROM dropped", range_of));
        contents.gaps = contents.part(list(connection, "SELECT first, last, id, class, items, at_ms, cause FROM gap ORDER BY id", |row| {
            Ok(GapRow { ids: range_of(row)?, id: row.get(2)?, class: row.get(3)?, items: row.get(4)?, at_ms: row.get(5)?, cause: row.get(6)? })
        }));
        contents.told = contents.part(list(connection, "SELECT gap, batch FROM told", |row| Ok((row.get(0)?, row.get(1)?))));
        let sealed: Vec<(String, String, Vec<u8>)> =
            contents.part(list(connection, "SELECT sensor, key, value FROM remembered", |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))));
        for (sensor, key, value) in sealed {
            if value.is_empty() {
                contents.remembered.push((sensor, key, None));
            } else if let Ok(plain) = ring.unseal(&value, &remembered_place(&sensor, &key)) {
                contents.remembered.push((sensor, key, Some(plain)));
            }
        }
        contents
    }

    fn part<T: Default>(&mut self, read: Result<T, BufferError>) -> T {
        read.unwrap_or_else(|e| {
            self.fault.get_or_insert(e);
            T::default()
        })
    }

    /// Whether there is nothing to be carried, rows left out.
    fn is_empty(&self) -> bool {
        self.last_id.unwrap_or(0) == 0 && self.gaps.is_empty() && self.told.is_empty() && self.remembered.is_empty()
    }
}

fn list<T>(connection: &Connection, sql: &str, row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>, BufferError> {
    Ok(connection.prepare(sql)?.query_map([], row)?.collect::<Result<_, _>>()?)
}

impl File {
    /// Takes all that `other` holds, after what this one holds, in one transaction.
    pub(super) fn take(&mut self, other: &File, now_ms: i64) -> Result<(), BufferError> {
        let contents = Contents {
            last_id: Some(other.state.numbers.next_id - 1),
            settled: Some(other.state.settled.clone()),
            ..Contents::read(&other.connection, &other.ring)
        };
        if let Some(fault) = contents.fault {
            return Err(fault);
        }
        if contents.is_empty() {
            return Ok(());
        }
        let after = self.state.numbers.next_id - 1;
        self.write(now_ms, |work| {
            work.take_contents(&contents, after)?;
            let mut statement = other.connection.prepare("SELECT id, class, items, at_ms, body FROM batch ORDER BY id")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (id, body): (i64, Vec<u8>) = (row.get(0)?, row.get(4)?);
                let frame = other.ring.unseal(&body, &other.place(id.cast_unsigned()))?;
                work.take_row(&Carried { id: id.cast_unsigned() + after, class: row.get(1)?, items: row.get(2)?, at_ms: row.get(3)?, frame })?;
            }
            other.state.confirmed.iter().for_each(|(epoch, cursor)| work.state.confirm(*epoch, *cursor));
            work.save()
        })?;
        self.reload(now_ms)
    }

    /// What is known of the file is read anew.
    pub(super) fn reload(&mut self, now_ms: i64) -> Result<(), BufferError> {
        let next_gap = self.state.next_gap;
        self.state = State::load(&self.connection, self.state.memory, now_ms)?;
        self.state.next_gap = self.state.next_gap.max(next_gap);
        self.lanes.clear();
        Ok(())
    }
}

impl Work<'_> {
    /// Takes all but rows; ids are counted on from `after`. What is known of the file must be read anew afterwards.
    pub(super) fn take_contents(&mut self, contents: &Contents, after: u64) -> Result<(), BufferError> {
        let moved = |ids: Range| Range { first: ids.first + after, last: ids.last + after };
        for span in &contents.spans {
            self.state.numbers.begin(Span { first_id: span.first_id + after, ..*span });
        }
        self.state.numbers.next_id = self.state.numbers.next_id.max(contents.last_id.unwrap_or(0) + after + 1);
        self.save_epochs()?;
        for ids in contents.settled.iter().flat_map(Ranges::as_slice) {
            self.state.settled.insert(moved(*ids));
        }
        contents.confirmed.iter().for_each(|(epoch, cursor)| self.state.confirm(*epoch, *cursor));
        for ids in &contents.dropped {
            self.drop_ids(moved(*ids))?;
        }
        for gap in &contents.gaps {
            let [first, last] = super::state::pair(moved(gap.ids));
            let sql = "INSERT INTO gap SELECT CASE WHEN EXISTS (SELECT 1 FROM gap WHERE id = ?1) THEN (SELECT max(id) + 1 FROM gap) ELSE ?1 END, ?2, ?3, ?4, ?5, ?6, ?7";
            self.tx.prepare_cached(sql)?.execute(params![gap.id, first, last, gap.class, gap.items, gap.at_ms, gap.cause])?;
            self.state.next_gap = self.state.next_gap.max(gap.id + 1);
        }
        for (gap, batch) in &contents.told {
            self.state.next_gap = self.state.next_gap.max(*gap + 1);
            if *batch == 0 {
                self.tx.prepare_cached("DELETE FROM gap WHERE id = ?1")?.execute([gap])?;
                self.tx.prepare_cached("DELETE FROM told WHERE gap = ?1")?.execute([gap])?;
            } else {
                self.tx.prepare_cached("INSERT OR REPLACE INTO told VALUES (?1, ?2)")?.execute([*gap, *batch + after.cast_signed()])?;
            }
        }
        for (sensor, key, value) in &contents.remembered {
            match value {
                Some(value) => {
                    let sealed = self.ring.seal(value, &remembered_place(sensor, key))?;
                    self.tx.prepare_cached("INSERT OR REPLACE INTO remembered VALUES (?1, ?2, ?3)")?.execute(params![sensor, key, sealed])?
                }
                None => self.tx.prepare_cached("DELETE FROM remembered WHERE sensor = ?1 AND key = ?2")?.execute(params![sensor, key])?,
            };
        }
        Ok(())
    }

    /// Takes a row.
    pub(super) fn take_row(&mut self, row: &Carried) -> Result<(), BufferError> {
        let body = self.ring.seal(&row.frame, &batch_place(&self.file, row.id))?;
        let values = params![row.id.cast_signed(), row.class, row.items, i64::try_from(body.len()).unwrap_or(i64::MAX), row.at_ms, body];
        self.tx.prepare_cached("INSERT OR REPLACE INTO batch VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(values)?;
        self.state.numbers.next_id = self.state.numbers.next_id.max(row.id + 1);
        Ok(())
    }
}

impl Contents {
    /// Whether a row with this id is a left-over: it was settled or given up.
    pub(super) fn is_over(&self, id: u64) -> bool {
        self.settled.as_ref().is_some_and(|settled| settled.contains(id)) || self.dropped.iter().any(|ids| ids.contains(id))
    }

    /// Whether each id that was ever given is one of `found`, or known to be over.
    pub(super) fn accounts_for(&self, found: &Ranges) -> bool {
        let all = [found.as_slice(), self.settled.as_ref().map(Ranges::as_slice).unwrap_or_default(), &self.dropped];
        let known: Ranges = all.into_iter().flatten().copied().collect();
        self.last_id.is_some_and(|last| Range::new(1, last).is_none_or(|all| known.missing(all).is_empty()))
    }
}
