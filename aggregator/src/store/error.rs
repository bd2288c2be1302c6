//! What can go wrong in the store, in words for who asked.

use keyvigil_common::seal::SealError;

use super::block;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A database that does not open.
    #[error("cannot open {path}")]
    Open {
        /// Its path.
        path: String,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Made by another version.
    #[error("{path} has schema {found}, this program knows {known}: upgrade the program")]
    SchemaVersion {
        /// Its path.
        path: String,
        /// What it has.
        found: i64,
        /// What is known.
        known: i64,
    },
    /// A library with a known bug.
    #[error("SQLite {0} can lose committed data; 3.51.3 or newer is needed: build with the bundled one")]
    SqliteTooOld(i32),
    /// SQLite's own words.
    #[error("database")]
    Sqlite(#[from] rusqlite::Error),
    /// The commit failed: nothing was acknowledged.
    #[error("the commit failed: {0}")]
    Commit(String),
    /// Sealed data.
    #[error("stored data")]
    Seal(#[from] SealError),
    /// Block format.
    #[error("stored samples")]
    Block(#[from] block::BlockError),
    /// Level 0 or a series that does not decode.
    #[error("stored batch")]
    Wire(#[from] keyvigil_common::wire::WireError),
    /// A row of level 0 that does not decode.
    #[error("a stored request does not decode")]
    Level0,
    /// A record that does not decode.
    #[error("stored record")]
    Json(#[from] serde_json::Error),
    /// File system.
    #[error("file system")]
    Io(#[from] std::io::Error),
    /// More series than this aggregator may hold.
    #[error("the limit of {max} series is reached; {series} would be one more: remove a tag with many values")]
    TooManySeries {
        /// The limit.
        max: usize,
        /// The series that did not fit.
        series: String,
    },
    /// Who asked has gone.
    #[error("nobody waits for the answer any more")]
    Gone,
    /// One query asked for too much.
    #[error("the query reads more than {0} samples: ask for a shorter range, fewer series, or in intervals of 5m or 1h, for which there are roll-ups")]
    TooMuch(usize),
    /// What is read at once must be less; the reader takes it in parts.
    #[error("samples do not fit into memory")]
    SliceFull,
    /// The stream jumped.
    #[error("batch {got} came, but {expected} was neither stored nor declared lost")]
    Gap {
        /// First number missing.
        expected: u64,
        /// Number that came.
        got: u64,
    },
    /// Two senders share one identity and number.
    #[error("batch {0} was stored before with other content: two agents share one identity, or one was set back to a snapshot")]
    Fork(u64),
    /// Something that is not there.
    #[error("{0} does not exist")]
    Missing(String),
    /// Something that may not be done now.
    #[error("{0}")]
    Refused(String),
    /// Too much work waits.
    #[error("the store is busy: come back")]
    Busy,
    /// Ended, or could not begin to write.
    #[error("the store does not take writes now")]
    Closed,
}
