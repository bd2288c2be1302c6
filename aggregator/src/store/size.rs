//! How much is stored, in samples and in bytes on disk.

use super::{Shared, StoreError};

/// How much is stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// Samples in blocks.
    pub block_samples: u64,
    /// Samples in level 0.
    pub head_samples: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of roll-ups among them.
    pub rolled_bytes: u64,
}

impl Shared {
    pub(super) fn size(&self) -> Result<Size, StoreError> {
        let (block_samples, days) = self.partitions.size()?;
        let mut rolled = 0;
        for set in &self.rolled {
            rolled += set.size()?.1;
        }
        let main: u64 = ["main.db", "main.db-wal"].iter().filter_map(|name| std::fs::metadata(self.dir.join(name)).ok()).map(|m| m.len()).sum();
        Ok(Size { block_samples, head_samples: self.head.points() as u64, bytes: main + days + rolled, rolled_bytes: rolled })
    }
}
