//! Connections for reading the files of one set. Each file has a generation for as long as it has its name: what is known of
//! a file that was dropped is never taken for one that came in its place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::StoreError;
use super::cache::Generation;
use crate::index::SeriesId;

/// Connections kept open while nobody uses them.
const IDLE_MAX: usize = 64;

/// Connections by file.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Files>);

#[derive(Debug, Default)]
struct Files {
    parts: BTreeMap<i64, File>,
    idle: usize,
}

#[derive(Debug)]
struct File {
    generation: Generation,
    idle: Vec<Connection>,
    /// Grows with each change that was committed.
    version: u64,
    /// Its blocks, if they were read since the last change.
    listing: Option<Arc<Listing>>,
}

/// What the rows of a file's blocks say, in the order of their ids.
pub(super) type Listing = Vec<Listed>;

/// What the row of a block says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) id: i64,
    pub(super) times: (i64, i64),
    pub(super) series: (SeriesId, SeriesId),
}

impl Pool {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file has its name from now on.
    pub(super) fn add(&self, part: i64, generation: Generation) {
        self.files().parts.insert(part, File { generation, idle: Vec::new(), version: 0, listing: None });
    }

    /// A file is about to lose its name.
    pub(super) fn remove(&self, part: i64) {
        let mut files = self.files();
        if let Some(file) = files.parts.remove(&part) {
            files.idle -= file.idle.len();
        }
    }

    /// A change of the file was committed. Must come before memory forgets what has become part of it.
    pub(super) fn changed(&self, part: i64) {
        if let Some(file) = self.files().parts.get_mut(&part) {
            file.version += 1;
            file.listing = None;
        }
    }

    /// The blocks of a file, if they are known, and its version.
    pub(super) fn listing(&self, part: i64) -> Option<(Generation, u64, Option<Arc<Listing>>)> {
        self.files().parts.get(&part).map(|file| (file.generation, file.version, file.listing.clone()))
    }

    /// Keeps what was read since the file had this version; nothing if it changed meanwhile.
    pub(super) fn keep_listing(&self, part: i64, (generation, version): (Generation, u64), listing: Arc<Listing>) {
        if let Some(file) = self.files().parts.get_mut(&part).filter(|file| (file.generation, file.version) == (generation, version)) {
            file.listing = Some(listing);
        }
    }

    /// Whether the part has a file.
    pub(super) fn has(&self, part: i64) -> bool {
        self.files().parts.contains_key(&part)
    }

    /// Parts that have a file, ascending.
    pub(super) fn parts(&self) -> Vec<i64> {
        self.files().parts.keys().copied().collect()
    }

    /// A connection to the file of `part`, kept or made by `open`; `None` if it has none.
    pub(super) fn take(&self, part: i64, open: impl Fn() -> Result<Connection, StoreError>) -> Result<Option<(Generation, Connection)>, StoreError> {
        loop {
            let Some((generation, kept)) = self.kept(part) else { return Ok(None) };
            let connection = kept.map_or_else(&open, Ok);
            // Opened by its name: only if that was one file's all the while is it known which one this is.
            if self.files().parts.get(&part).map(|file| file.generation) == Some(generation) {
                return connection.map(|connection| Some((generation, connection)));
            }
        }
    }

    fn kept(&self, part: i64) -> Option<(Generation, Option<Connection>)> {
        let mut files = self.files();
        let file = files.parts.get_mut(&part)?;
        let (generation, kept) = (file.generation, file.idle.pop());
        files.idle -= usize::from(kept.is_some());
        Some((generation, kept))
    }

    /// Takes back what [`Pool::take`] gave.
    pub(super) fn give(&self, part: i64, generation: Generation, connection: Connection) {
        let mut files = self.files();
        if files.idle >= IDLE_MAX {
            // The oldest days are asked for least.
            if let Some(file) = files.parts.values_mut().find(|file| !file.idle.is_empty()) {
                file.idle.pop();
                files.idle -= 1;
            }
        }
        if let Some(file) = files.parts.get_mut(&part).filter(|file| file.generation == generation) {
            file.idle.push(connection);
            files.idle += 1;
        }
    }
}
