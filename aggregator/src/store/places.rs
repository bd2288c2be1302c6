//! Where keys lie: a row a place, so that what is told of one place writes one row, however many others the key has. Verbs
//! only; what the records mean is known by the room that owns them.

use keyvigil_common::seal::KeyRing;
use keyvigil_common::{hex, sha256};
use rusqlite::{Connection, ToSql, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ledger::{self, seal, unseal};
use super::{StoreError, Tx};
use crate::index::TenantId;

pub(super) const TABLE: &str = "place";
/// The version of the store that brought it.
pub(super) const SINCE: i64 = 4;
/// Bytes of a hash that stands for a name.
const HASH_BYTES: usize = 16;

type Hash = [u8; HASH_BYTES];

/// Which place of which key.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// Id of the key.
    pub key: &'a str,
    /// The host.
    pub host: &'a str,
    /// Path on it.
    pub path: &'a str,
    /// Which object of the file.
    pub slot: u32,
}

impl At<'_> {
    fn hashes(&self) -> (Hash, Hash) {
        (hash(self.host), hash(&format!("{}\0{}", self.slot, self.path)))
    }
}

fn hash(text: &str) -> Hash {
    let mut out = Hash::default();
    out.copy_from_slice(&sha256(text.as_bytes())[..HASH_BYTES]);
    out
}

/// What a record is sealed for; `at`: hashes of host and place, in hex.
pub(super) fn place(tenant: TenantId, key: &str, at: &str) -> String {
    ledger::place(TABLE, tenant, &id(key, at))
}

fn id(key: &str, at: &str) -> String {
    format!("{key}:{at}")
}

fn id_of(key: &str, host: &[u8], at: &[u8]) -> String {
    id(key, &(hex(host) + &hex(at)))
}

impl Tx<'_> {
    /// Writes a place, replacing what is known of it.
    ///
    /// # Errors
    /// The database's.
    pub fn put_place<T: Serialize>(&self, tenant: TenantId, of: At<'_>, gone: bool, record: &T) -> Result<(), StoreError> {
        let (host, at) = of.hashes();
        let body = seal(&self.shared.ring, TABLE, tenant, &id_of(of.key, &host, &at), record)?;
        let mut row = self.connection.prepare_cached("INSERT OR REPLACE INTO place (tenant, host, key, at, gone, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        row.execute(params![tenant, host, of.key, at, gone, body])?;
        Ok(())
    }

    /// What is known of a place.
    ///
    /// # Errors
    /// The database's.
    pub fn get_place<T: DeserializeOwned>(&self, tenant: TenantId, of: At<'_>) -> Result<Option<T>, StoreError> {
        let (host, at) = of.hashes();
        let sql = "SELECT host, at, body FROM place WHERE tenant = ?1 AND host = ?2 AND key = ?3 AND at = ?4";
        self.one_place(tenant, of.key, sql, &[&tenant, &host, &of.key, &at])
    }

    /// A place where the key lies now: on another host than `but` if there is one, else on that host.
    ///
    /// # Errors
    /// The database's.
    pub fn live_place<T: DeserializeOwned>(&self, tenant: TenantId, key: &str, but: &str) -> Result<Option<T>, StoreError> {
        let host = hash(but);
        for where_to in ["host < ?3", "host > ?3", "host = ?3"] {
            let sql = format!("SELECT host, at, body FROM place WHERE tenant = ?1 AND key = ?2 AND gone = 0 AND {where_to} LIMIT 1");
            let found = self.one_place(tenant, key, &sql, &[&tenant, &key, &host])?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// A place where the key lies no more.
    ///
    /// # Errors
    /// The database's.
    pub fn gone_place<T: DeserializeOwned>(&self, tenant: TenantId, key: &str) -> Result<Option<T>, StoreError> {
        self.one_place(tenant, key, "SELECT host, at, body FROM place WHERE tenant = ?1 AND key = ?2 AND gone = 1 LIMIT 1", &[&tenant, &key])
    }

    /// Removes a place.
    ///
    /// # Errors
    /// The database's.
    pub fn delete_place(&self, tenant: TenantId, of: At<'_>) -> Result<(), StoreError> {
        let (host, at) = of.hashes();
        self.connection
            .prepare_cached("DELETE FROM place WHERE tenant = ?1 AND host = ?2 AND key = ?3 AND at = ?4")?
            .execute(params![tenant, host, of.key, at])?;
        Ok(())
    }

    fn one_place<T: DeserializeOwned>(&self, tenant: TenantId, key: &str, sql: &str, values: &[&dyn ToSql]) -> Result<Option<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(values)?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (host, at, body): (Hash, Hash, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        unseal(&self.shared.ring, TABLE, tenant, &id_of(key, &host, &at), &body).map(Some)
    }

    /// Rows that this connection has written so far.
    #[cfg(test)]
    pub(crate) fn rows_written(&self) -> u64 {
        self.connection.total_changes()
    }
}

/// Calls `each` with tenant, id of the key and record of every place.
///
/// # Errors
/// The database's.
pub fn each<T: DeserializeOwned>(connection: &Connection, ring: &KeyRing, mut each: impl FnMut(TenantId, &str, T)) -> Result<(), StoreError> {
    let mut statement = connection.prepare("SELECT tenant, host, key, at, body FROM place")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (tenant, host, key, at, body): (TenantId, Hash, String, Hash, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        each(tenant, &key, unseal(ring, TABLE, tenant, &id_of(&key, &host, &at), &body)?);
    }
    Ok(())
}
