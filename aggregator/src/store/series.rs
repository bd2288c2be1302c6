//! Series on their way into the store and back: made in the transaction of their first samples, one row for all that a
//! request brings, compressed together because neighbours share most of their tags.

use std::borrow::Cow;
use std::io::Read;
use std::sync::PoisonError;

use keyvigil_common::sample::Series;
use rusqlite::{Connection, OptionalExtension, params};

use super::limit::{Limit, Room};
use super::tx::{Resolved, Tx};
use super::{Shared, StoreError};
use crate::index::{SeriesId, TenantId};

/// Marks a number that is not an id yet, but a place among the series that a request brings.
pub(crate) const FRESH: SeriesId = 1 << 31;

/// Series and their ids as one row. As JSON: it is stored for years, so not in the wire's form.
pub(super) type Row = Vec<(SeriesId, Series)>;

/// Series in one row at most.
const ROW_MAX: usize = 1_000;
const ZSTD_LEVEL: i32 = 3;
/// In `meta`: the number after the last one ever given. What was forgotten is in no row any more.
const NEXT: &str = "series";

impl Tx<'_> {
    /// Ids of `series`, with the tag `host` where it is given. New ones are made as far as the limits allow; 0 for the others.
    pub(super) fn series_ids(&self, tenant: TenantId, series: &[Series], host: Option<&str>) -> Result<Resolved, StoreError> {
        let tagged: Vec<Cow<'_, Series>> = series.iter().map(|series| tagged(series, host)).collect();
        let (mut ids, mut refused, mut made): (Vec<SeriesId>, Vec<(u32, Limit)>, Row) = (Vec::with_capacity(series.len()), Vec::new(), Row::new());
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = Room::new(self.shared, &pending, tenant);
        for (place, series) in (0..).zip(&tagged) {
            let id = match self.shared.index.id(tenant, series).or_else(|| pending.id(tenant, series)) {
                Some(id) if pending.leaving.contains(&id) => return Err(StoreError::Busy),
                Some(id) => id,
                None => match room.take(&pending, series) {
                    Ok(()) => {
                        let id = self.next_series();
                        pending.insert(tenant, series, id);
                        self.effects.borrow_mut().series.push((tenant, series.as_ref().clone(), id));
                        made.push((id, series.as_ref().clone()));
                        id
                    }
                    Err(limit) => {
                        refused.push((place, limit));
                        0
                    }
                },
            };
            ids.push(id);
        }
        drop(pending);
        self.put_series(tenant, &made)?;
        Ok(Resolved { ids: ids.into(), refused: refused.into(), generation: self.shared.generation() })
    }

    /// A number that a failed transaction took is never used: numbers are plenty, and a row of it cannot be mistaken.
    fn next_series(&self) -> SeriesId {
        let mut next = self.shared.next_series.lock().unwrap_or_else(PoisonError::into_inner);
        let id = *next;
        *next += 1;
        id
    }

    fn put_series(&self, tenant: TenantId, made: &Row) -> Result<(), StoreError> {
        for row in made.chunks(ROW_MAX) {
            let Some((first, _)) = row.first() else { continue };
            let body = self.shared.seal_series(*first, row)?;
            self.connection.prepare_cached("INSERT INTO series VALUES (?1, ?2, ?3)")?.execute(params![first, tenant, body])?;
        }
        Ok(())
    }
}

impl Tx<'_> {
    /// Notes how far numbers were given, so that those of forgotten series are not given again after a start.
    pub(super) fn put_next_series(&self) -> Result<(), StoreError> {
        let next = *self.shared.next_series.lock().unwrap_or_else(PoisonError::into_inner);
        self.connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?.execute(params![NEXT, next])?;
        Ok(())
    }
}

fn tagged<'a>(series: &'a Series, host: Option<&str>) -> Cow<'a, Series> {
    let Some(host) = host else { return Cow::Borrowed(series) };
    let mut series = series.clone();
    series.tags.set("host", host);
    Cow::Owned(series)
}

pub(super) fn place(first: SeriesId) -> String {
    format!("series:{first}")
}

impl Shared {
    pub(super) fn seal_series(&self, first: SeriesId, row: &[(SeriesId, Series)]) -> Result<Vec<u8>, StoreError> {
        let packed = zstd::bulk::compress(&serde_json::to_vec(row)?, ZSTD_LEVEL)?;
        Ok(self.ring.seal(&packed, place(first).as_bytes())?)
    }

    pub(super) fn open_series(&self, first: SeriesId, body: &[u8]) -> Result<Row, StoreError> {
        let packed = self.ring.unseal(body, place(first).as_bytes())?;
        let mut plain = Vec::new();
        zstd::stream::read::Decoder::new(packed.as_slice())?.read_to_end(&mut plain)?;
        Ok(serde_json::from_slice(&plain)?)
    }

    /// Reads all series into the index.
    pub(super) fn load_series(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut statement = connection.prepare("SELECT id, tenant, body FROM series")?;
        let mut rows = statement.query([])?;
        let mut next = self.next_series.lock().unwrap_or_else(PoisonError::into_inner);
        let given: Option<SeriesId> = connection.query_row("SELECT value FROM meta WHERE name = ?1", [NEXT], |row| row.get(0)).optional()?;
        *next = given.unwrap_or(0).max(*next);
        while let Some(row) = rows.next()? {
            let (first, tenant, body): (SeriesId, TenantId, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let series = self.open_series(first, &body)?;
            *next = series.iter().map(|(id, _)| id + 1).fold(*next, SeriesId::max);
            self.index.insert_many(tenant, series);
        }
        Ok(())
    }
}
