//! What can go wrong with the buffer, and what kind of trouble that is: the queue decides by the kind what to do.

use keyvigil_common::seal::SealError;
use rusqlite::{ErrorCode, ffi};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// SQLite's own words.
    #[error("buffer")]
    Sqlite(#[from] rusqlite::Error),
    /// Sealing.
    #[error("buffer")]
    Seal(#[from] SealError),
    /// A file beside it, or its directory.
    #[error("{0}")]
    Io(String, #[source] std::io::Error),
    /// Made by another version.
    #[error("the buffer has schema {0}, this agent knows {known}: upgrade the agent, or move the file away to begin a new one", known = super::open::SCHEMA_VERSION)]
    Version(i64),
    /// A library with a known bug.
    #[error("SQLite {0} can lose committed data; 3.51.3 or newer is needed: build with the bundled one")]
    SqliteTooOld(i32),
    /// The file is not as it was written.
    #[error("{0}")]
    Damaged(String),
    /// The system gave no thread.
    #[error("no thread for the buffer")]
    Thread(#[source] std::io::Error),
    /// The thread that owns the queue is gone.
    #[error("the buffer is closed, or its thread died; restart the agent")]
    Gone,
}

/// What a failure calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No room: make some.
    Full,
    /// What was written may not be on disk, whatever is said later: nothing more is trusted to this file.
    Suspect,
    /// The file is not as it was written: read what can be read.
    Damaged,
    /// The disk takes nothing now; it may later.
    Away,
    /// Nothing to be done.
    Fatal,
}

impl BufferError {
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(e, _)) => of_sqlite(*e),
            // A value of another type than was written, or none.
            Self::Sqlite(_) | Self::Damaged(_) | Self::Seal(SealError::WrongKey | SealError::Version(_) | SealError::UnknownKey(_)) => Trouble::Damaged,
            Self::Io(_, e) if matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) => Trouble::Full,
            Self::Io(..) => Trouble::Away,
            _ => Trouble::Fatal,
        }
    }
}

fn of_sqlite(e: ffi::Error) -> Trouble {
    let shared_memory = matches!(e.extended_code, ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMLOCK | ffi::SQLITE_IOERR_SHMMAP);
    match e.code {
        ErrorCode::DiskFull => Trouble::Full,
        // The index of the log is no part of what is kept.
        ErrorCode::SystemIoFailure if shared_memory => Trouble::Away,
        ErrorCode::SystemIoFailure => Trouble::Suspect,
        // A table that is not there, or has other columns, is a file of somebody else; a constraint holds in what we wrote.
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::SchemaChanged => {
            Trouble::Damaged
        }
        _ => Trouble::Away,
    }
}
