//! Every name and value once, as a number. A text stays while a series uses it: what is kept is bounded by the series.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::HashState;
use super::hashed::Hashed;
use super::slab::Slab;

/// Stands for a text.
pub(super) type Symbol = u32;

/// The texts.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    texts: Slab<Text>,
    by_text: Hashed,
    hasher: HashState,
    /// What the texts take outside the slab.
    bytes: usize,
}

#[derive(Debug)]
struct Text {
    text: Arc<str>,
    uses: u32,
}

impl Symbols {
    /// The symbol of a text that is there.
    pub(super) fn get(&self, text: &str) -> Option<Symbol> {
        self.find(self.hash(text), text)
    }

    /// The symbol of `text`, made if it is new; used once more.
    pub(super) fn acquire(&mut self, text: &str) -> Symbol {
        let hash = self.hash(text);
        if let Some(found) = self.find(hash, text) {
            if let Some(entry) = self.texts.get_mut(found) {
                entry.uses += 1;
            }
            return found;
        }
        let symbol = self.texts.insert(Text { text: text.into(), uses: 1 });
        self.by_text.insert(hash, symbol);
        self.bytes += text_bytes(text);
        symbol
    }

    /// The symbol is used once less; after the last use it is gone.
    pub(super) fn release(&mut self, symbol: Symbol) {
        let Some(entry) = self.texts.get_mut(symbol) else { return };
        entry.uses -= 1;
        if entry.uses == 0
            && let Some(Text { text, .. }) = self.texts.take(symbol)
        {
            self.by_text.remove(self.hash(&text), symbol);
            self.bytes -= text_bytes(&text);
        }
    }

    /// The text of a symbol in use.
    pub(super) fn text(&self, symbol: Symbol) -> &str {
        self.texts.get(symbol).map_or("", |entry| &entry.text)
    }

    /// The same, shared.
    pub(super) fn label(&self, symbol: Symbol) -> Arc<str> {
        self.texts.get(symbol).map_or_else(|| Arc::from(""), |entry| Arc::clone(&entry.text))
    }

    /// All symbols are below this.
    pub(super) fn bound(&self) -> usize {
        self.texts.bound()
    }

    pub(super) fn trim(&mut self) {
        self.texts.trim();
        self.by_text.trim();
    }

    pub(super) fn bytes(&self) -> usize {
        self.texts.bytes() + self.by_text.bytes() + self.bytes
    }

    fn find(&self, hash: u32, text: &str) -> Option<Symbol> {
        self.by_text.find(hash, |symbol| self.text(symbol) == text)
    }

    fn hash(&self, text: &str) -> u32 {
        self.hasher.hash_one(text) as u32
    }
}

/// What the allocator takes for a text and its two counters.
fn text_bytes(text: &str) -> usize {
    allocated(text.len() + 2 * size_of::<usize>())
}

/// What glibc's allocator takes for `bytes`: a header of 8, steps of 16, 32 at least.
pub(super) fn allocated(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}
