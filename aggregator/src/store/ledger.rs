//! Small transactional state: agents, tokens, keys, events, gaps, rules, alerts, outbox. Records are JSON, sealed under
//! the name of their table and row. Verbs only; what the records mean is known by the rooms that own them.

use std::sync::Arc;

use keyvigil_common::seal::KeyRing;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StoreError, Tx};
use crate::index::TenantId;

/// A table of records that have a text id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Enrolled agents.
    Agent,
    /// Inventory.
    Key,
    /// Alert rules.
    Rule,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Key => "key",
            Self::Rule => "rule",
        }
    }
}

/// An event or a gap as it is stored: when, what kind, and its record.
#[derive(Debug, Clone)]
pub struct Stored<T> {
    /// Row id: ascending in the order stored.
    pub id: i64,
    /// Unix ms.
    pub at_ms: i64,
    /// The record.
    pub record: T,
}

pub(super) fn seal<T: Serialize>(ring: &KeyRing, table: &str, tenant: TenantId, id: &str, record: &T) -> Result<Vec<u8>, StoreError> {
    Ok(ring.seal(&serde_json::to_vec(record)?, place(table, tenant, id).as_bytes())?)
}

pub(super) fn unseal<T: DeserializeOwned>(ring: &KeyRing, table: &str, tenant: TenantId, id: &str, body: &[u8]) -> Result<T, StoreError> {
    Ok(serde_json::from_slice(&ring.unseal(body, place(table, tenant, id).as_bytes())?)?)
}

pub(super) fn place(table: &str, tenant: TenantId, id: &str) -> String {
    format!("{table}:{tenant}:{id}")
}

impl Tx<'_> {
    /// Writes a record, replacing the one of that id.
    ///
    /// # Errors
    /// The database's.
    pub fn put<T: Serialize>(&self, table: Table, tenant: TenantId, id: &str, record: &T) -> Result<(), StoreError> {
        let body = seal(&self.shared.ring, table.name(), tenant, id, record)?;
        let sql = format!("INSERT OR REPLACE INTO {} (tenant, id, body) VALUES (?1, ?2, ?3)", table.name());
        self.connection.prepare_cached(&sql)?.execute(params![tenant, id, body])?;
        Ok(())
    }

    /// Reads a record.
    ///
    /// # Errors
    /// The database's.
    pub fn get<T: DeserializeOwned>(&self, table: Table, tenant: TenantId, id: &str) -> Result<Option<T>, StoreError> {
        let sql = format!("SELECT body FROM {} WHERE tenant = ?1 AND id = ?2", table.name());
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![tenant, id])?;
        match rows.next()? {
            Some(row) => Ok(Some(unseal(&self.shared.ring, table.name(), tenant, id, &row.get::<_, Vec<u8>>(0)?)?)),
            None => Ok(None),
        }
    }

    /// Removes a record; whether it was there.
    ///
    /// # Errors
    /// The database's.
    pub fn delete(&self, table: Table, tenant: TenantId, id: &str) -> Result<bool, StoreError> {
        let sql = format!("DELETE FROM {} WHERE tenant = ?1 AND id = ?2", table.name());
        Ok(self.connection.prepare_cached(&sql)?.execute(params![tenant, id])? > 0)
    }

    /// Appends an event.
    ///
    /// # Errors
    /// The database's.
    pub fn add_event<T: Serialize>(&self, tenant: TenantId, at_ms: i64, kind: &str, record: &T) -> Result<(), StoreError> {
        let body = seal(&self.shared.ring, "event", tenant, &at_ms.to_string(), record)?;
        self.connection.prepare_cached("INSERT INTO event (tenant, at_ms, kind, body) VALUES (?1, ?2, ?3, ?4)")?.execute(params![tenant, at_ms, kind, body])?;
        let shared = Arc::clone(self.shared);
        self.after_commit(move || shared.event_stored.notify_waiters());
        Ok(())
    }

    /// Appends a declared loss; returns its row.
    ///
    /// # Errors
    /// The database's.
    pub fn add_gap<T: Serialize>(&self, tenant: TenantId, at_ms: i64, record: &T) -> Result<i64, StoreError> {
        let body = seal(&self.shared.ring, "gap", tenant, &at_ms.to_string(), record)?;
        self.connection.prepare_cached("INSERT INTO gap (tenant, at_ms, body) VALUES (?1, ?2, ?3)")?.execute(params![tenant, at_ms, body])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Reads a declared loss, if this row is one of that time.
    ///
    /// # Errors
    /// The database's.
    pub fn gap<T: DeserializeOwned>(&self, row: i64, tenant: TenantId, at_ms: i64) -> Result<Option<T>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT body FROM gap WHERE id = ?1 AND tenant = ?2 AND at_ms = ?3")?;
        let mut rows = statement.query(params![row, tenant, at_ms])?;
        match rows.next()? {
            Some(row) => Ok(Some(unseal(&self.shared.ring, "gap", tenant, &at_ms.to_string(), &row.get::<_, Vec<u8>>(0)?)?)),
            None => Ok(None),
        }
    }

    /// Replaces the record of a declared loss; its time stays.
    ///
    /// # Errors
    /// The database's.
    pub fn replace_gap<T: Serialize>(&self, row: i64, tenant: TenantId, at_ms: i64, record: &T) -> Result<(), StoreError> {
        let body = seal(&self.shared.ring, "gap", tenant, &at_ms.to_string(), record)?;
        self.connection.prepare_cached("UPDATE gap SET body = ?2 WHERE id = ?1")?.execute(params![row, body])?;
        Ok(())
    }

    /// Remembers up to which row rules have looked at events.
    ///
    /// # Errors
    /// The database's.
    pub fn put_events_read(&self, tenant: TenantId, last: i64) -> Result<(), StoreError> {
        self.connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?.execute(params![events_read_name(tenant), last])?;
        Ok(())
    }

    /// Deletes events, losses and what is over of alerts from before `before_ms`.
    pub(super) fn forget_events(&self, before_ms: i64) -> Result<(), StoreError> {
        let old = [
            "DELETE FROM event WHERE at_ms < ?1",
            "DELETE FROM gap WHERE at_ms < ?1",
            "DELETE FROM outbox WHERE state <> 'waiting' AND changed_ms < ?1",
            "DELETE FROM alert_history WHERE at_ms < ?1",
        ];
        for sql in old {
            self.connection.prepare_cached(sql)?.execute([before_ms])?;
        }
        Ok(())
    }

    /// Writes a join token's record.
    ///
    /// # Errors
    /// The database's.
    pub fn put_token<T: Serialize>(&self, tenant: TenantId, id: &str, record: &T) -> Result<(), StoreError> {
        let body = seal(&self.shared.ring, "enroll_token", 0, id, record)?;
        self.connection.prepare_cached("INSERT OR REPLACE INTO enroll_token VALUES (?1, ?2, ?3)")?.execute(params![id, tenant, body])?;
        Ok(())
    }

    /// Reads a join token's record and tenant.
    ///
    /// # Errors
    /// The database's.
    pub fn get_token<T: DeserializeOwned>(&self, id: &str) -> Result<Option<(TenantId, T)>, StoreError> {
        token(self.connection, &self.shared.ring, id)
    }

    /// Removes a join token; whether it was there.
    ///
    /// # Errors
    /// The database's.
    pub fn delete_token(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self.connection.prepare_cached("DELETE FROM enroll_token WHERE id = ?1")?.execute([id])? > 0)
    }
}

/// All records of a table, with tenant and id.
///
/// # Errors
/// The database's.
pub fn all<T: DeserializeOwned>(connection: &Connection, ring: &KeyRing, table: Table) -> Result<Vec<(TenantId, String, T)>, StoreError> {
    let mut statement = connection.prepare(&format!("SELECT tenant, id, body FROM {}", table.name()))?;
    let mut rows = statement.query([])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let (tenant, id, body): (TenantId, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let record = unseal(ring, table.name(), tenant, &id, &body)?;
        out.push((tenant, id, record));
    }
    Ok(out)
}

/// All join tokens.
///
/// # Errors
/// The database's.
pub fn tokens<T: DeserializeOwned>(connection: &Connection, ring: &KeyRing) -> Result<Vec<(TenantId, String, T)>, StoreError> {
    let mut statement = connection.prepare("SELECT tenant, id, body FROM enroll_token")?;
    let mut rows = statement.query([])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let (tenant, id, body): (TenantId, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let record = unseal(ring, "enroll_token", 0, &id, &body)?;
        out.push((tenant, id, record));
    }
    Ok(out)
}

/// The join token of that id, with its tenant.
///
/// # Errors
/// The database's, or a record that does not unseal.
pub fn token<T: DeserializeOwned>(connection: &Connection, ring: &KeyRing, id: &str) -> Result<Option<(TenantId, T)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT tenant, body FROM enroll_token WHERE id = ?1")?;
    let mut rows = statement.query([id])?;
    match rows.next()? {
        Some(row) => Ok(Some((row.get(0)?, unseal(ring, "enroll_token", 0, id, &row.get::<_, Vec<u8>>(1)?)?))),
        None => Ok(None),
    }
}

/// Events of a tenant with `at_ms` in `from..=to` that come after `before` (time and id of the last one seen) in the order
/// newest first, until `take` says that it has enough.
///
/// # Errors
/// The database's.
pub fn events<T: DeserializeOwned>(
    connection: &Connection,
    ring: &KeyRing,
    tenant: TenantId,
    (from, to): (i64, i64),
    before: (i64, i64),
    mut take: impl FnMut(Stored<T>) -> bool,
) -> Result<(), StoreError> {
    let sql = "SELECT id, at_ms, body FROM event WHERE tenant = ?1 AND at_ms BETWEEN ?2 AND ?3 AND (at_ms, id) < (?4, ?5) ORDER BY at_ms DESC, id DESC";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![tenant, from, to, before.0, before.1])?;
    while let Some(row) = rows.next()? {
        let (id, at_ms, body): (i64, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let record = unseal(ring, "event", tenant, &at_ms.to_string(), &body)?;
        if !take(Stored { id, at_ms, record }) {
            break;
        }
    }
    Ok(())
}

/// How far events were looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Through {
    /// Id of the last that was looked at.
    pub last: i64,
    /// Those of them that do not open: damage holds up nothing that came after it.
    pub unreadable: u64,
}

/// Events of these kinds, or of all where none is named, that were stored after the one of id `after`, in the order in which they were,
/// until `take` says that it has enough.
///
/// # Errors
/// The database's.
pub fn events_after<T: DeserializeOwned>(
    connection: &Connection,
    ring: &KeyRing,
    tenant: TenantId,
    kinds: &[&str],
    after: i64,
    mut take: impl FnMut(Stored<T>) -> bool,
) -> Result<Through, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id, tenant, at_ms, kind, body FROM event WHERE id > ?1 ORDER BY id")?;
    let mut rows = statement.query([after])?;
    let mut through = Through { last: after, unreadable: 0 };
    while let Some(row) = rows.next()? {
        through.last = row.get(0)?;
        let is_meant = kinds.is_empty() || kinds.contains(&row.get_ref(3)?.as_str().unwrap_or_default());
        if row.get::<_, TenantId>(1)? != tenant || !is_meant {
            continue;
        }
        let at_ms: i64 = row.get(2)?;
        let Ok(record) = unseal(ring, "event", tenant, &at_ms.to_string(), &row.get::<_, Vec<u8>>(4)?) else {
            through.unreadable += 1;
            continue;
        };
        if !take(Stored { id: through.last, at_ms, record }) {
            break;
        }
    }
    Ok(through)
}

/// Up to which row of the events rules have looked, as [`Tx::put_events_read`] stored it; where it never did, up to the last.
///
/// # Errors
/// The database's.
pub fn events_read(connection: &Connection, tenant: TenantId) -> Result<i64, StoreError> {
    let sql = "SELECT value FROM meta WHERE name = ?1";
    let read = connection.query_row(sql, [events_read_name(tenant)], |row| row.get(0)).optional()?;
    read.map_or_else(|| last_event(connection), Ok)
}

fn events_read_name(tenant: TenantId) -> String {
    format!("events_read:{tenant}")
}

/// Id of the event that was stored last, of whatever tenant.
///
/// # Errors
/// The database's.
pub fn last_event(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.prepare_cached("SELECT coalesce(max(id), 0) FROM event")?.query_row([], |row| row.get(0))?)
}

/// Declared losses of a tenant that were told before the one of row `before`, newest first, until `take` says that it has enough.
///
/// # Errors
/// The database's.
pub fn gaps<T: DeserializeOwned>(
    connection: &Connection,
    ring: &KeyRing,
    tenant: TenantId,
    before: i64,
    mut take: impl FnMut(Stored<T>) -> bool,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("SELECT id, at_ms, body FROM gap WHERE tenant = ?1 AND id < ?2 ORDER BY id DESC")?;
    let mut rows = statement.query(params![tenant, before])?;
    while let Some(row) = rows.next()? {
        let (id, at_ms, body): (i64, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let record = unseal(ring, "gap", tenant, &at_ms.to_string(), &body)?;
        if !take(Stored { id, at_ms, record }) {
            break;
        }
    }
    Ok(())
}
