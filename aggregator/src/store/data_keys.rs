//! The data keys of a store, wrapped by its master key. A start makes a new one where the newest is old enough.

use keyvigil_common::seal::{KeyRing, MasterKey};
use rusqlite::Connection;

use super::StoreError;

/// Age of a data key from which a start makes another, ms.
const KEY_AGE_MS: i64 = 3_600_000;

/// Data keys as they are stored, by their ids.
type WrappedKeys = Vec<(u32, Vec<u8>)>;

/// The data keys, and when the newest was made.
pub(super) fn wrapped_keys(connection: &Connection) -> Result<(WrappedKeys, i64), StoreError> {
    let (mut wrapped, mut newest_ms) = (Vec::new(), 0);
    let mut statement = connection.prepare("SELECT id, wrapped, made_ms FROM data_key ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        wrapped.push((row.get(0)?, row.get(1)?));
        newest_ms = row.get(2)?;
    }
    Ok((wrapped, newest_ms))
}

/// Opens the data keys. A start makes a new one: how often the old ones were used is not known, and each wears out.
pub(super) fn open_ring(connection: &Connection, master: &MasterKey, now_ms: i64) -> Result<KeyRing, StoreError> {
    let (mut wrapped, newest_ms) = wrapped_keys(connection)?;
    if !wrapped.is_empty() {
        // A wrong master key must be found out before anything is written with it.
        KeyRing::open(master, &wrapped)?;
    }
    // Who starts again and again within the hour cannot wear it out.
    if wrapped.is_empty() || !(0..KEY_AGE_MS).contains(&(now_ms - newest_ms)) {
        let id = wrapped.last().map_or(1, |(id, _)| id + 1);
        let key = KeyRing::make_key(master, id)?;
        connection.execute("INSERT INTO data_key VALUES (?1, ?2, ?3)", rusqlite::params![id, key, now_ms])?;
        wrapped.push((id, key));
    }
    Ok(KeyRing::open(master, &wrapped)?)
}
