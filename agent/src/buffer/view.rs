//! A file that is only looked at: with its log, or as it is without. Nothing is written to it, nor beside it where that can be
//! helped.

use std::fmt::Write;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::disk::{beside, log_bytes};
use super::open::connect;
use super::state::meta;
use super::{BufferError, Place};

/// One way to read a file.
pub(super) struct View {
    pub(super) connection: Connection,
    /// Its log is read as well.
    pub(super) with_log: bool,
    identity: Option<Vec<u8>>,
    wrapped: Option<Vec<u8>>,
}

impl View {
    /// All that can be opened of the file at `path`; that with its log first.
    pub(super) fn all(place: &Place, path: &Path) -> Vec<Self> {
        let views = [has_log(path).then(|| with_log(place, path)), Some(without_log(place, path))];
        let open = |(connection, with_log): (Connection, bool)| {
            let identity = identity(&connection);
            let wrapped = meta(&connection, "data_key").ok().flatten();
            Self { connection, with_log, identity, wrapped }
        };
        let opened = views.into_iter().zip([true, false]).filter_map(|(view, with_log)| Some((view?.ok()?, with_log)));
        opened.map(open).collect()
    }

    /// The key that it names, wrapped, and its identity.
    pub(super) fn key(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.wrapped.clone().zip(self.identity.clone())
    }

    /// Whether it says nothing else.
    pub(super) fn is_of(&self, id: &[u8; 16]) -> bool {
        self.identity.as_ref().is_none_or(|own| own == id)
    }
}

/// Whether there is a log to be read, and it is a file: some would hang whoever opens them.
pub(super) fn has_log(path: &Path) -> bool {
    let is_odd = |suffix| std::fs::symlink_metadata(beside(path, suffix)).is_ok_and(|stat| !stat.is_file());
    log_bytes(path) > 0 && !is_odd("-shm")
}

/// It may not be one of SQLite's read-only ones, which cannot read every log.
fn with_log(place: &Place, path: &Path) -> Result<Connection, BufferError> {
    let connection = connect(place, path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    settle_down(&connection, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA query_only = ON;")?;
    Ok(connection)
}

/// What SQLite takes for immutable it reads as it is.
fn without_log(place: &Place, path: &Path) -> Result<Connection, BufferError> {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            // Into a string, that never fails.
            other => drop(write!(uri, "%{other:02x}")),
        }
    }
    let connection = connect(place, Path::new(&(uri + "?immutable=1")), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
    settle_down(&connection, "")?;
    Ok(connection)
}

fn settle_down(connection: &Connection, settings: &str) -> Result<(), BufferError> {
    connection.execute_batch(&format!("{settings} PRAGMA mmap_size = 0; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -1024;"))?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(())
}

/// Of the file; version 1 called it otherwise.
fn identity(connection: &Connection) -> Option<Vec<u8>> {
    ["file_id", "epoch"].into_iter().find_map(|name| meta(connection, name).ok().flatten())
}
