//! What was read of blocks and is kept: heads, since every question about a series begins with them, and decoded columns,
//! since a page that is watched asks for the same ones again and again. Nothing here ever changes: a block is written once,
//! and its key holds the generation of its file, which no other file ever has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use quick_cache::sync::Cache as Kept;
use quick_cache::{DefaultHashBuilder, Weighter};

use super::StoreError;
use super::sealed::Opened;
use crate::index::SeriesId;

/// One file in the time it has its name.
pub(super) type Generation = u32;
/// A block of a file.
pub(super) type BlockKey = (Generation, i64);

/// What an entry takes beside its content.
const ENTRY_BYTES: u64 = 96;
/// Bytes of an entry, about: only how many there will be follows from it.
const ENTRY_BYTES_USUAL: usize = 4 << 10;

/// Times or values of a block.
#[derive(Debug, Clone)]
pub(super) enum Column {
    Times(Arc<Vec<i64>>),
    Values(Arc<Vec<f64>>),
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<BlockKey, Arc<Opened>> for ByBytes {
    fn weight(&self, _: &BlockKey, head: &Arc<Opened>) -> u64 {
        head.bytes() as u64 + ENTRY_BYTES
    }
}

impl Weighter<(BlockKey, SeriesId), Column> for ByBytes {
    fn weight(&self, _: &(BlockKey, SeriesId), column: &Column) -> u64 {
        let points = match column {
            Column::Times(times) => times.capacity(),
            Column::Values(values) => values.capacity(),
        };
        8 * points as u64 + ENTRY_BYTES
    }
}

/// The caches of all files of a store.
pub(super) struct Cache {
    heads: Kept<BlockKey, Arc<Opened>, ByBytes>,
    /// Series 0 stands for the times.
    columns: Kept<(BlockKey, SeriesId), Column, ByBytes>,
    generations: AtomicU32,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({} bytes)", self.bytes())
    }
}

impl Cache {
    /// Caches that take at most `bytes` together, a third of them for heads.
    pub(super) fn new(bytes: usize) -> Self {
        let (heads, columns) = (bytes / 3, bytes - bytes / 3);
        Self { heads: of_bytes(heads), columns: of_bytes(columns), generations: AtomicU32::new(1) }
    }

    /// A number that no file had before.
    pub(super) fn generation(&self) -> Generation {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// The head, if it is known.
    pub(super) fn known_head(&self, key: BlockKey) -> Option<Arc<Opened>> {
        self.heads.get(&key)
    }

    /// The head that is known, or that `open` reads.
    pub(super) fn head(&self, key: BlockKey, open: impl FnOnce() -> Result<Opened, StoreError>) -> Result<Arc<Opened>, StoreError> {
        if let Some(head) = self.heads.get(&key) {
            return Ok(head);
        }
        let head = Arc::new(open()?);
        self.heads.insert(key, Arc::clone(&head));
        Ok(head)
    }

    /// Times of a block.
    pub(super) fn times(&self, key: BlockKey) -> Option<Arc<Vec<i64>>> {
        match self.columns.get(&(key, 0)) {
            Some(Column::Times(times)) => Some(times),
            _ => None,
        }
    }

    /// Values of a series in a block.
    pub(super) fn values(&self, key: BlockKey, series: SeriesId) -> Option<Arc<Vec<f64>>> {
        match self.columns.get(&(key, series)) {
            Some(Column::Values(values)) => Some(values),
            _ => None,
        }
    }

    /// Keeps times.
    pub(super) fn keep_times(&self, key: BlockKey, times: &Arc<Vec<i64>>) {
        self.columns.insert((key, 0), Column::Times(Arc::clone(times)));
    }

    /// Keeps values.
    pub(super) fn keep_values(&self, key: BlockKey, series: SeriesId, values: &Arc<Vec<f64>>) {
        self.columns.insert((key, series), Column::Values(Arc::clone(values)));
    }

    /// Memory that is taken, bytes.
    pub(super) fn bytes(&self) -> usize {
        usize::try_from(self.heads.weight() + self.columns.weight()).unwrap_or(usize::MAX)
    }
}

fn of_bytes<K: Eq + std::hash::Hash, V: Clone>(bytes: usize) -> Kept<K, V, ByBytes>
where
    ByBytes: Weighter<K, V>,
{
    Kept::with(bytes / ENTRY_BYTES_USUAL, bytes as u64, ByBytes, DefaultHashBuilder::default(), quick_cache::sync::DefaultLifecycle::default())
}
