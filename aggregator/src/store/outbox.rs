//! Alerts, their history, and the outbox: written together in one transaction, so that no change of state is ever without
//! its notifications. What an alert or a notification is, is known by `alert` and `notify`; here they are sealed records.

use keyvigil_common::seal::KeyRing;
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{StoreError, Tx};
use crate::index::TenantId;

/// A row of the outbox.
#[derive(Debug, Clone)]
pub struct Waiting<T> {
    /// Row id.
    pub id: i64,
    /// Attempts so far.
    pub attempts: u32,
    /// The notification.
    pub record: T,
}

/// How a notification stands, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// Channel.
    pub channel: String,
    /// `waiting`, `sent`, `failed`.
    pub state: String,
    /// Attempts so far.
    pub attempts: u32,
    /// What the last attempt met.
    pub last_error: Option<String>,
    /// When it last changed, Unix ms.
    pub time: i64,
    /// Which transition it tells of.
    pub transition: String,
}

/// Figures of the outbox.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Delivered.
    pub sent: i64,
    /// Given up.
    pub failed: i64,
    /// To be sent.
    pub waiting: i64,
    /// Newest error of those that wait or failed.
    pub last_error: Option<String>,
}

pub(super) fn alert_place(tenant: TenantId, id: &str) -> Vec<u8> {
    format!("alert:{tenant}:{id}").into_bytes()
}

pub(super) fn history_place(tenant: TenantId, alert: &str, at_ms: i64) -> Vec<u8> {
    format!("alert_history:{tenant}:{alert}:{at_ms}").into_bytes()
}

pub(super) fn outbox_place(key: &str) -> Vec<u8> {
    format!("outbox:{key}").into_bytes()
}

impl Tx<'_> {
    /// Writes an alert. `open`: it is not resolved.
    ///
    /// # Errors
    /// The database's.
    pub fn put_alert<T: Serialize>(&self, tenant: TenantId, id: &str, open: bool, changed_ms: i64, record: &T) -> Result<(), StoreError> {
        let body = self.shared.ring.seal(&serde_json::to_vec(record)?, &alert_place(tenant, id))?;
        self.connection.prepare_cached("INSERT OR REPLACE INTO alert VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![tenant, id, open, changed_ms, body])?;
        Ok(())
    }

    /// Removes an alert that never fired.
    ///
    /// # Errors
    /// The database's.
    pub fn delete_alert(&self, tenant: TenantId, id: &str) -> Result<(), StoreError> {
        self.connection.prepare_cached("DELETE FROM alert WHERE tenant = ?1 AND id = ?2")?.execute(params![tenant, id])?;
        Ok(())
    }

    /// Appends to an alert's history.
    ///
    /// # Errors
    /// The database's.
    pub fn add_history<T: Serialize>(&self, tenant: TenantId, alert: &str, at_ms: i64, record: &T) -> Result<(), StoreError> {
        let body = self.shared.ring.seal(&serde_json::to_vec(record)?, &history_place(tenant, alert, at_ms))?;
        self.connection
            .prepare_cached("INSERT INTO alert_history (tenant, alert, at_ms, body) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![tenant, alert, at_ms, body])?;
        Ok(())
    }

    /// Puts a notification into the outbox; the same key twice is one notification.
    ///
    /// # Errors
    /// The database's.
    pub fn add_notification<T: Serialize>(&self, tenant: TenantId, key: &str, alert: &str, channel: &str, at_ms: i64, record: &T) -> Result<(), StoreError> {
        let body = self.shared.ring.seal(&serde_json::to_vec(record)?, &outbox_place(key))?;
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO outbox (tenant, unique_key, alert, channel, state, due_ms, attempts, changed_ms, body)
                 VALUES (?1, ?2, ?3, ?4, 'waiting', ?5, 0, ?5, ?6)",
            )?
            .execute(params![tenant, key, alert, channel, at_ms, body])?;
        Ok(())
    }

    /// Writes what an attempt came to: `state` is `waiting` (again at `due_ms`), `sent` or `failed`.
    ///
    /// # Errors
    /// The database's.
    pub fn settle_notification(&self, id: i64, state: &str, attempts: u32, due_ms: i64, now_ms: i64, error: Option<&str>) -> Result<(), StoreError> {
        self.connection
            .prepare_cached("UPDATE outbox SET state = ?2, attempts = ?3, due_ms = ?4, changed_ms = ?5, last_error = ?6 WHERE id = ?1")?
            .execute(params![id, state, attempts, due_ms, now_ms, error])?;
        Ok(())
    }
}

/// Alerts of a tenant: the open ones, or all that changed since `since_ms`, newest change first.
///
/// # Errors
/// The database's.
pub fn alerts<T: DeserializeOwned>(
    connection: &Connection,
    ring: &KeyRing,
    tenant: TenantId,
    since_ms: Option<i64>,
    limit: usize,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT id, body FROM alert WHERE tenant = ?1 AND (open OR changed_ms >= ?2) ORDER BY open DESC, changed_ms DESC LIMIT ?3")?;
    let mut rows = statement.query(params![tenant, since_ms.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, body): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        out.push(serde_json::from_slice(&ring.unseal(&body, &alert_place(tenant, &id))?)?);
    }
    Ok(out)
}

/// One alert.
///
/// # Errors
/// The database's.
pub fn alert<T: DeserializeOwned>(connection: &Connection, ring: &KeyRing, tenant: TenantId, id: &str) -> Result<Option<T>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT body FROM alert WHERE tenant = ?1 AND id = ?2")?;
    let mut rows = statement.query(params![tenant, id])?;
    match rows.next()? {
        Some(row) => Ok(Some(serde_json::from_slice(&ring.unseal(&row.get::<_, Vec<u8>>(0)?, &alert_place(tenant, id))?)?)),
        None => Ok(None),
    }
}

/// History of an alert, newest first.
///
/// # Errors
/// The database's.
pub fn history<T: DeserializeOwned>(connection: &Connection, ring: &KeyRing, tenant: TenantId, alert: &str) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT at_ms, body FROM alert_history WHERE tenant = ?1 AND alert = ?2 ORDER BY id DESC LIMIT 200")?;
    let mut rows = statement.query(params![tenant, alert])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let (at_ms, body): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        out.push(serde_json::from_slice(&ring.unseal(&body, &history_place(tenant, alert, at_ms))?)?);
    }
    Ok(out)
}

/// Notifications that are due, oldest first: at most one of each alert and channel, so that their order is kept.
///
/// # Errors
/// The database's.
pub fn due<T: DeserializeOwned>(connection: &Connection, ring: &KeyRing, now_ms: i64, limit: usize) -> Result<Vec<Waiting<T>>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, unique_key, attempts, body FROM outbox o WHERE state = 'waiting' AND due_ms <= ?1
           AND NOT EXISTS (SELECT 1 FROM outbox e WHERE e.state = 'waiting' AND e.alert = o.alert AND e.channel = o.channel AND e.id < o.id)
         ORDER BY id LIMIT ?2",
    )?;
    let mut rows = statement.query(params![now_ms, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(1)?;
        let record = serde_json::from_slice(&ring.unseal(&row.get::<_, Vec<u8>>(3)?, &outbox_place(&key))?)?;
        out.push(Waiting { id: row.get(0)?, attempts: row.get(2)?, record });
    }
    Ok(out)
}

/// Notifications of an alert, newest first, with the record of each.
///
/// # Errors
/// The database's.
pub fn deliveries<T: DeserializeOwned>(
    connection: &Connection,
    ring: &KeyRing,
    tenant: TenantId,
    alert: &str,
    name: impl Fn(&T) -> String,
) -> Result<Vec<Delivery>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT unique_key, channel, state, attempts, last_error, changed_ms, body FROM outbox WHERE tenant = ?1 AND alert = ?2 ORDER BY id DESC LIMIT 200",
    )?;
    let mut rows = statement.query(params![tenant, alert])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        let record: T = serde_json::from_slice(&ring.unseal(&row.get::<_, Vec<u8>>(6)?, &outbox_place(&key))?)?;
        out.push(delivery(row, name(&record))?);
    }
    Ok(out)
}

fn delivery(row: &Row<'_>, transition: String) -> Result<Delivery, StoreError> {
    Ok(Delivery { channel: row.get(1)?, state: row.get(2)?, attempts: row.get(3)?, last_error: row.get(4)?, time: row.get(5)?, transition })
}

/// Figures of a tenant's outbox.
///
/// # Errors
/// The database's.
pub fn counts(connection: &Connection, tenant: TenantId) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    let mut statement = connection.prepare_cached("SELECT state, count(*) FROM outbox WHERE tenant = ?1 GROUP BY state")?;
    let mut rows = statement.query([tenant])?;
    while let Some(row) = rows.next()? {
        let (state, count): (String, i64) = (row.get(0)?, row.get(1)?);
        match state.as_str() {
            "sent" => counts.sent = count,
            "failed" => counts.failed = count,
            _ => counts.waiting += count,
        }
    }
    let sql = "SELECT last_error FROM outbox WHERE tenant = ?1 AND state <> 'sent' AND last_error IS NOT NULL ORDER BY changed_ms DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([tenant])?;
    counts.last_error = rows.next()?.map(|row| row.get(0)).transpose()?;
    Ok(counts)
}
