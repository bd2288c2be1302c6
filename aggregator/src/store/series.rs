//! Series on their way into the store and back: made in the transaction of their first samples, one row for all that a
//! request brings, compressed together because neighbours share most of their tags.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::PoisonError;

use keyvigil_common::limits::SERIES_MAX;
use keyvigil_common::sample::Series;
use rusqlite::{Connection, params};

use super::tx::Tx;
use super::{Shared, StoreError};
use crate::index::{SeriesId, TenantId};

/// Marks a number that is not an id yet, but a place among the series that a request brings.
pub(crate) const FRESH: SeriesId = 1 << 31;

/// Series made in transactions that are not committed yet; only the writing thread adds.
pub(super) type Pending = HashMap<(TenantId, Series), SeriesId>;

/// Series and their ids as one row. As JSON: it is stored for years, so not in the wire's form.
pub(super) type Row = Vec<(SeriesId, Series)>;

/// Series in one row at most.
const ROW_MAX: usize = 1_000;
const ZSTD_LEVEL: i32 = 3;

impl Tx<'_> {
    /// Ids of `series`, with the tag `host` where it is given; new ones are made.
    pub(super) fn series_ids(&self, tenant: TenantId, series: &[Series], host: Option<&str>) -> Result<Vec<SeriesId>, StoreError> {
        let made_before = self.effects.borrow().series.len();
        let tagged: Vec<Cow<'_, Series>> = series.iter().map(|series| tagged(series, host)).collect();
        self.room_for(tenant, &tagged)?;
        let ids: Vec<SeriesId> = tagged.iter().map(|series| self.series_id(tenant, series)).collect();
        let effects = self.effects.borrow();
        let made = effects.series[made_before..].iter().map(|(_, series, id)| (*id, series.clone())).collect::<Row>();
        drop(effects);
        self.put_series(tenant, &made)?;
        Ok(ids)
    }

    /// Refuses before a number is given: numbers of what was refused would be lost, and places in memory with them.
    fn room_for(&self, tenant: TenantId, series: &[Cow<'_, Series>]) -> Result<(), StoreError> {
        let pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let room = SERIES_MAX.saturating_sub(self.shared.index.len() + pending.len());
        if series.len() <= room {
            return Ok(());
        }
        let fresh: HashSet<&Series> = series.iter().map(AsRef::as_ref).filter(|series| self.shared.index.id(tenant, series).is_none()).collect();
        match fresh.iter().nth(room) {
            Some(series) => Err(StoreError::TooManySeries { max: SERIES_MAX, series: series.to_string() }),
            None => Ok(()),
        }
    }

    fn series_id(&self, tenant: TenantId, series: &Series) -> SeriesId {
        if let Some(id) = self.shared.index.id(tenant, series) {
            return id;
        }
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant, series.clone());
        if let Some(id) = pending.get(&key) {
            return *id;
        }
        // A number that a failed transaction took is never used: numbers are plenty, and a row of it cannot be mistaken.
        let mut next = self.shared.next_series.lock().unwrap_or_else(PoisonError::into_inner);
        let id = *next;
        *next += 1;
        pending.insert(key, id);
        self.effects.borrow_mut().series.push((tenant, series.clone(), id));
        id
    }

    fn put_series(&self, tenant: TenantId, made: &Row) -> Result<(), StoreError> {
        for row in made.chunks(ROW_MAX) {
            let Some((first, _)) = row.first() else { continue };
            let packed = zstd::bulk::compress(&serde_json::to_vec(row)?, ZSTD_LEVEL)?;
            let body = self.shared.ring.seal(&packed, place(*first).as_bytes())?;
            self.connection.prepare_cached("INSERT INTO series VALUES (?1, ?2, ?3)")?.execute(params![first, tenant, body])?;
        }
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
    /// Reads all series into the index.
    pub(super) fn load_series(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut statement = connection.prepare("SELECT id, tenant, body FROM series")?;
        let mut rows = statement.query([])?;
        let mut next = self.next_series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut plain = Vec::new();
        while let Some(row) = rows.next()? {
            let (first, tenant, body): (SeriesId, TenantId, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let packed = self.ring.unseal(&body, place(first).as_bytes())?;
            plain.clear();
            zstd::stream::read::Decoder::new(packed.as_slice())?.read_to_end(&mut plain)?;
            let series = serde_json::from_slice::<Row>(&plain)?;
            *next = series.iter().map(|(id, _)| id + 1).fold(*next, SeriesId::max);
            self.index.insert_many(tenant, series);
        }
        Ok(())
    }
}
