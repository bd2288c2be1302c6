//! Tenants by name. There is one, `default`, until they are administered; every table and every call carries one already.

use rusqlite::{Connection, OptionalExtension};

use crate::index::TenantId;
use crate::store::StoreError;

/// The tenant that is there from the start.
pub const DEFAULT: &str = "default";

/// The id of a tenant.
///
/// # Errors
/// The database's.
pub fn find(connection: &Connection, name: &str) -> Result<Option<TenantId>, StoreError> {
    Ok(connection.prepare_cached("SELECT id FROM tenant WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()?)
}
