//! How much of a day's samples is in its roll-up: a mark in the roll-up's file, compared with the day's own file.

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::partition::meta;

/// What a roll-up of a day holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Mark {
    /// The file of samples it was made from.
    pub(in crate::store) birth: i64,
    /// All of that file's blocks made up to here are in it.
    pub(in crate::store) made: i64,
    /// There was an earlier file of samples, which is gone: this one holds only what came after.
    pub(in crate::store) added: bool,
}

impl Mark {
    /// The mark of `day` in a roll-up's file.
    pub(in crate::store) fn read(connection: &Connection, day: i64) -> Result<Option<Self>, StoreError> {
        let of = |what: &str| meta(connection, &format!("{what}:{day}"));
        let Some(birth) = of("birth")? else { return Ok(None) };
        Ok(Some(Self { birth, made: of("made")?.unwrap_or(0), added: of("added")?.unwrap_or(0) != 0 }))
    }

    /// The last day that a roll-up's file has a mark of.
    pub(in crate::store) fn last(connection: &Connection) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT max(CAST(substr(name, 7) AS INTEGER)) FROM meta WHERE name LIKE 'birth:%'";
        Ok(connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// Writes it.
    pub(super) fn write(self, connection: &Connection, day: i64) -> Result<(), StoreError> {
        let mut put = connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
        put.execute(params![format!("birth:{day}"), self.birth])?;
        put.execute(params![format!("made:{day}"), self.made])?;
        put.execute(params![format!("added:{day}"), i64::from(self.added)])?;
        Ok(())
    }
}
