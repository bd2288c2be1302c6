//! What lies beside the buffer's file for when that cannot tell by itself: the keys that open its rows when nothing else of it can
//! be read, where its epochs begin, and whether a log must lie there as well. SQLite takes a file without its log for a whole
//! one of an earlier time; whoever removes the log after a kill would take batches away that nobody misses.

use std::path::{Path, PathBuf};

use keyvigil_common::seal::write_private;
use rusqlite::config::DbConfig;
use rusqlite::{Error, ErrorCode, ffi};
use serde::{Deserialize, Serialize};

use super::BufferError;
use super::disk::log_bytes;
use super::file::File;

/// A log of this length or less holds nothing: it is a head without pages.
const EMPTY_LOG_BYTES: u64 = 32;

/// What opens the rows of a file: without it a damaged page could make all of them unreadable. Wrapped as in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sidecar {
    /// Hex.
    pub(super) file_id: String,
    /// Hex.
    pub(super) data_key: String,
    /// First id, epoch in hex, first number.
    pub(super) epochs: Vec<(u64, String, u64)>,
    /// Beside the file lies a log that is not empty. Written after that is so, taken back before it is so no more.
    #[serde(default)]
    pub(super) log: bool,
    /// The agent that wrote it ended in order: no number was given but those that the file knows of.
    #[serde(default)]
    pub(super) ended: bool,
}

impl Sidecar {
    fn path(buffer: &Path) -> PathBuf {
        buffer.with_extension("id")
    }

    pub(super) fn read(buffer: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(buffer)).ok()?).ok()
    }

    fn write(&self, buffer: &Path) -> Result<(), BufferError> {
        let fault = |e| BufferError::Io(format!("cannot write {}", Self::path(buffer).display()), e);
        write_private(&Self::path(buffer), &serde_json::to_vec(self).map_err(|e| fault(e.into()))?).map_err(fault)
    }

    /// Whether the file with identity `id`, beside which lay a log of so many bytes, has the log that belongs to it.
    pub(super) fn look_at_log(&self, id: &[u8; 16], bytes: u64) -> Result<(), BufferError> {
        match (self.file_id == keyvigil_common::hex(id), bytes > EMPTY_LOG_BYTES) {
            (true, false) if self.log => Err(BufferError::Damaged("its log is gone".into())),
            (false, true) => Err(BufferError::Damaged("a log of another file lies beside it".into())),
            _ => Ok(()),
        }
    }
}

impl File {
    /// What opens the rows of this file even when nothing else of it can be read.
    fn sidecar(&self, log: bool) -> Sidecar {
        let epochs = self.state.numbers.spans().iter().map(|s| (s.first_id, keyvigil_common::hex(&s.epoch), s.first_seq));
        Sidecar { file_id: keyvigil_common::hex(&self.id), data_key: keyvigil_common::hex(&self.wrapped), epochs: epochs.collect(), log, ended: false }
    }

    /// Writes beside the file what opens its rows, and that its log must be there.
    pub(super) fn note(&self, buffer: &Path) -> Result<(), BufferError> {
        self.keep_log(true)?;
        let (known, now) = (Sidecar::read(buffer), self.sidecar(true));
        if known.as_ref() == Some(&now) && log_bytes(buffer) > EMPTY_LOG_BYTES {
            return Ok(());
        }
        if known.is_some_and(|known| known.file_id != now.file_id) {
            // It is of the file that was here before: what comes into our log must not be taken for another's.
            self.sidecar(false)
                .write(buffer)
                .or_else(|_| std::fs::remove_file(Sidecar::path(buffer)))
                .map_err(|e| BufferError::Io(format!("cannot replace {}", Sidecar::path(buffer).display()), e))?;
        }
        self.begin_log(buffer)?;
        now.write(buffer)
    }

    /// Writes a first page into an empty log.
    fn begin_log(&self, buffer: &Path) -> Result<(), BufferError> {
        if log_bytes(buffer) <= EMPTY_LOG_BYTES {
            // What is the same as before would not be written.
            self.connection.execute("INSERT OR REPLACE INTO meta VALUES ('log', randomblob(16))", [])?;
        }
        Ok(())
    }

    /// Moves the log of an open buffer into the file, for the room that it takes; not while somebody reads it. It is to be noted again
    /// afterwards.
    pub(super) fn empty_log(&self, buffer: &Path) -> Result<(), BufferError> {
        if let Err(e) = self.sidecar(false).write(buffer) {
            // Worse than a loss that is told and was none is only a disk that stays full.
            tracing::debug!(error = %e, "the buffer's log is emptied though it is said to be there");
        }
        match self.checkpoint() {
            Err(BufferError::Sqlite(Error::SqliteFailure(e, _))) if e.code == ErrorCode::DatabaseBusy => Ok(()),
            other => other.and_then(|()| self.begin_log(buffer)),
        }
    }

    /// Moves the log into the file for good: when the file is closed next, the log goes.
    pub(super) fn end_log(&self, buffer: &Path) -> Result<(), BufferError> {
        // An epoch that was begun and is not stored was begun because of an end that was not in order: that still holds.
        Sidecar { ended: self.state.epochs_saved, ..self.sidecar(false) }.write(buffer)?;
        if let Err(e) = self.checkpoint() {
            self.sidecar(true).write(buffer)?;
            return Err(e);
        }
        self.keep_log(false)
    }

    /// Moves the log into the file and empties it.
    pub(super) fn checkpoint(&self) -> Result<(), BufferError> {
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))?;
        if busy { Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), Some("somebody reads the buffer".into())).into()) } else { Ok(()) }
    }

    /// Whether the log stays when the file is closed: SQLite would move it into the file and remove it, however things stand.
    pub(super) fn keep_log(&self, keep: bool) -> Result<(), BufferError> {
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)?;
        Ok(())
    }
}
