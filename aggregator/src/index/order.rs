//! The first series of a set in the order of name, type and tags, without writing out any of them. Texts are compared once
//! for each that occurs; after that, small numbers are.

use super::record::Record;
use super::slab::Slab;
use super::symbols::{Symbol, Symbols};

/// Below this many series their texts are compared directly.
const RANKED_MIN: usize = 256;

/// Sorts series; kept over several sets, for its table.
pub(super) struct Order<'a> {
    records: &'a Slab<Record>,
    symbols: &'a Symbols,
    /// Place of each symbol among those of the set at hand, plus one; 0 for those that do not occur.
    ranks: Vec<u32>,
}

impl<'a> Order<'a> {
    pub(super) fn new(records: &'a Slab<Record>, symbols: &'a Symbols) -> Self {
        Self { records, symbols, ranks: Vec::new() }
    }

    /// The first `most` of `places`, in order.
    pub(super) fn first(&mut self, places: &[u32], most: usize) -> Vec<&'a Record> {
        let mut records: Vec<&Record> = places.iter().filter_map(|at| self.records.get(*at)).collect();
        if most < records.len() {
            if most > 0 {
                records.select_nth_unstable_by(most - 1, |a, b| a.compare(b, self.symbols));
            }
            records.truncate(most);
        }
        if records.len() < RANKED_MIN {
            records.sort_unstable_by(|a, b| a.compare(b, self.symbols));
            records
        } else {
            self.ranked(records)
        }
    }

    fn ranked(&mut self, records: Vec<&'a Record>) -> Vec<&'a Record> {
        let occurring = self.rank(&records);
        let words = records.iter().map(|record| record.key().1.len() + 1).sum();
        let mut keys: Vec<u32> = Vec::with_capacity(words);
        let mut sorted: Vec<(usize, usize, &Record)> = Vec::with_capacity(records.len());
        for record in records {
            let (metric_type, symbols) = record.key();
            let from = keys.len();
            // Name, type, tags.
            keys.extend(symbols.iter().take(1).map(|symbol| self.ranks[*symbol as usize]));
            keys.push(metric_type);
            keys.extend(symbols.iter().skip(1).map(|symbol| self.ranks[*symbol as usize]));
            sorted.push((from, keys.len(), record));
        }
        sorted.sort_unstable_by(|a, b| keys[a.0..a.1].cmp(&keys[b.0..b.1]));
        occurring.iter().for_each(|symbol| self.ranks[*symbol as usize] = 0);
        sorted.into_iter().map(|(.., record)| record).collect()
    }

    /// Fills the table; returns the symbols that occur.
    fn rank(&mut self, records: &[&Record]) -> Vec<Symbol> {
        self.ranks.resize(self.symbols.bound(), 0);
        let mut occurring = Vec::new();
        for symbol in records.iter().flat_map(|record| record.key().1) {
            let rank = &mut self.ranks[*symbol as usize];
            if *rank == 0 {
                *rank = 1;
                occurring.push(*symbol);
            }
        }
        occurring.sort_unstable_by(|a, b| self.symbols.text(*a).cmp(self.symbols.text(*b)));
        for (symbol, rank) in occurring.iter().zip(1..) {
            self.ranks[*symbol as usize] = rank;
        }
        occurring
    }
}
