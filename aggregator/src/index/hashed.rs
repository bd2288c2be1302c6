//! A hash table of numbers whose keys lie elsewhere. Keeps 32 bits of each hash, so that growing reads no keys (a pause of
//! milliseconds for a million entries) and a search reads one key, almost always the right one.

use hashbrown::HashTable;

/// Hash and number.
#[derive(Debug, Default)]
pub(super) struct Hashed(HashTable<(u32, u32)>);

/// The table takes its place from the low bits and a tag from the highest ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Hashed {
    /// The number with this hash whose key `is` the one looked for.
    pub(super) fn find(&self, hash: u32, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.0.find(spread(hash), |entry| entry.0 == hash && is(entry.1)).map(|entry| entry.1)
    }

    /// Adds a number; the caller knows that its key is not there.
    pub(super) fn insert(&mut self, hash: u32, at: u32) {
        self.0.insert_unique(spread(hash), (hash, at), |entry| spread(entry.0));
    }

    pub(super) fn remove(&mut self, hash: u32, at: u32) {
        if let Ok(entry) = self.0.find_entry(spread(hash), |entry| *entry == (hash, at)) {
            entry.remove();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Gives back memory that has become too much.
    pub(super) fn trim(&mut self) {
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to_fit(|entry| spread(entry.0));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.allocation_size()
    }
}
