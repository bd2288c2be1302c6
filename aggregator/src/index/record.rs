//! One series as symbols: a row of words on the heap, 16 bytes and 8 for each tag. Two series of a tenant are equal when
//! their words after the id are.

use std::cmp::Ordering;

use keyvigil_common::sample::{MetricType, Series, Tags};

use super::symbols::{Symbol, Symbols, allocated};
use super::{SeriesId, TenantId};

/// Words in front of the tags: id, tenant, type, name.
const HEAD: usize = 4;

/// A series.
#[derive(Debug)]
pub(super) struct Record(Box<[u32]>);

impl Record {
    /// Uses the symbols that it is made of until [`Record::release`].
    pub(super) fn new(id: SeriesId, tenant: TenantId, series: &Series, symbols: &mut Symbols) -> Self {
        let mut words = Vec::with_capacity(HEAD + 2 * series.tags.len());
        words.extend([id, tenant, series.metric_type as u32, symbols.acquire(&series.metric_id)]);
        for (name, value) in series.tags.iter() {
            words.extend([symbols.acquire(name), symbols.acquire(value)]);
        }
        Self(words.into())
    }

    pub(super) fn release(self, symbols: &mut Symbols) {
        self.0[HEAD - 1..].iter().for_each(|symbol| symbols.release(*symbol));
    }

    pub(super) fn id(&self) -> SeriesId {
        self.0[0]
    }

    pub(super) fn tenant(&self) -> TenantId {
        self.0[1]
    }

    pub(super) fn name(&self) -> Symbol {
        self.0[HEAD - 1]
    }

    pub(super) fn is_counter(&self) -> bool {
        metric_type(self.0[2]) != MetricType::Gauge
    }

    /// Name and value of each tag, sorted by the text of the name.
    pub(super) fn tags(&self) -> impl Iterator<Item = (Symbol, Symbol)> {
        self.0[HEAD..].chunks_exact(2).map(|pair| (pair[0], pair[1]))
    }

    /// Value of the tag `name`.
    pub(super) fn value(&self, name: Symbol) -> Option<Symbol> {
        self.tags().find(|tag| tag.0 == name).map(|tag| tag.1)
    }

    /// Type (not a symbol), then name and tags.
    pub(super) fn key(&self) -> (u32, &[Symbol]) {
        (self.0[2], &self.0[HEAD - 1..])
    }

    /// Whether it is `series` of `tenant`.
    pub(super) fn is(&self, tenant: TenantId, series: &Series, symbols: &Symbols) -> bool {
        let is = |symbol: Symbol, text: &str| symbols.text(symbol) == text;
        self.tenant() == tenant
            && self.0[2] == series.metric_type as u32
            && self.0.len() == HEAD + 2 * series.tags.len()
            && is(self.name(), &series.metric_id)
            && self.tags().zip(series.tags.iter()).all(|(tag, (name, value))| is(tag.0, name) && is(tag.1, value))
    }

    /// The series as it was put in.
    pub(super) fn series(&self, symbols: &Symbols) -> Series {
        let mut tags = Tags::default();
        for (name, value) in self.tags() {
            tags.set(symbols.text(name), symbols.text(value));
        }
        Series { metric_id: symbols.text(self.name()).to_owned(), metric_type: metric_type(self.0[2]), tags }
    }

    /// The order of [`Series`]: name, type, tags.
    pub(super) fn compare(&self, other: &Self, symbols: &Symbols) -> Ordering {
        let of = |a: &[Symbol], b: &[Symbol]| {
            let differing = a.iter().zip(b).find(|(a, b)| a != b);
            differing.map_or_else(|| a.len().cmp(&b.len()), |(a, b)| symbols.text(*a).cmp(symbols.text(*b)))
        };
        of(&self.0[HEAD - 1..HEAD], &other.0[HEAD - 1..HEAD]).then(self.0[2].cmp(&other.0[2])).then_with(|| of(&self.0[HEAD..], &other.0[HEAD..]))
    }

    /// What it takes outside the slab.
    pub(super) fn bytes(&self) -> usize {
        allocated(size_of_val(&*self.0))
    }
}

fn metric_type(word: u32) -> MetricType {
    match word {
        w if w == MetricType::Counter as u32 => MetricType::Counter,
        w if w == MetricType::Histogram as u32 => MetricType::Histogram,
        _ => MetricType::Gauge,
    }
}
