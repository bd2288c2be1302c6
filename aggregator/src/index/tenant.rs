//! The postings of one tenant: by name, and by each value of each tag. Places in them are those of the records' slab.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::HashState;
use super::postings::{Postings, bitmap_bytes};
use super::record::Record;
use super::symbols::{Symbol, Symbols};

/// What one tenant has.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    /// All of its series.
    pub(super) all: RoaringBitmap,
    /// By name; sorted, because an answer is, and for the names that begin alike.
    pub(super) names: BTreeMap<Arc<str>, Postings>,
    /// By tag.
    pub(super) tags: HashMap<Symbol, Tag, HashState>,
}

/// Who has a tag.
#[derive(Debug, Default)]
pub(super) struct Tag {
    /// With whatever value.
    pub(super) present: RoaringBitmap,
    /// By value; none of them is empty.
    pub(super) values: HashMap<Symbol, Postings, HashState>,
}

impl Tenant {
    /// Adds the series at `at`.
    pub(super) fn insert(&mut self, at: u32, record: &Record, symbols: &Symbols) {
        self.all.insert(at);
        let name = symbols.text(record.name());
        match self.names.get_mut(name) {
            Some(postings) => postings.insert(at),
            None => self.names.entry(symbols.label(record.name())).or_default().insert(at),
        }
        for (tag, value) in with_values(record, symbols) {
            let tag = self.tags.entry(tag).or_default();
            tag.present.insert(at);
            tag.values.entry(value).or_default().insert(at);
        }
    }

    /// Removes the series at `at`, whose symbols are still in use.
    pub(super) fn remove(&mut self, at: u32, record: &Record, symbols: &Symbols) {
        self.all.remove(at);
        let name = symbols.text(record.name());
        if let Some(postings) = self.names.get_mut(name) {
            postings.remove(at);
            if postings.len() == 0 {
                self.names.remove(name);
            }
        }
        for (name, value) in with_values(record, symbols) {
            let Some(tag) = self.tags.get_mut(&name) else { continue };
            tag.present.remove(at);
            if let Some(postings) = tag.values.get_mut(&value) {
                postings.remove(at);
                if postings.len() == 0 {
                    tag.values.remove(&value);
                }
            }
            if tag.values.is_empty() {
                self.tags.remove(&name);
            }
        }
    }

    /// Gives back memory that has become too much.
    pub(super) fn trim(&mut self) {
        let tags = self.tags.values_mut().filter(|tag| tag.values.len() < tag.values.capacity() / 4);
        tags.for_each(|tag| tag.values.shrink_to_fit());
    }

    /// Looks at every posting: milliseconds for a million series.
    pub(super) fn bytes(&self) -> usize {
        /// Nodes of a tree are two thirds full.
        const NAME: usize = size_of::<(Arc<str>, Postings)>() * 3 / 2;
        let names = self.names.values().map(|postings| NAME + postings.bytes()).sum::<usize>();
        let of_tag = |tag: &Tag| bitmap_bytes(&tag.present) + tag.values.allocation_size() + tag.values.values().map(Postings::bytes).sum::<usize>();
        size_of::<Self>() + bitmap_bytes(&self.all) + names + self.tags.allocation_size() + self.tags.values().map(of_tag).sum::<usize>()
    }
}

/// Tags of a series; an empty value is a missing tag.
fn with_values(record: &Record, symbols: &Symbols) -> impl Iterator<Item = (Symbol, Symbol)> {
    record.tags().filter(|(_, value)| !symbols.text(*value).is_empty())
}
