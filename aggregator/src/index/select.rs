//! Which series of a tenant a selector means. Sets of places are narrowed by postings; an expression is tried once for each
//! text that it could match, never for each series.

use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::order::Order;
use super::postings::Postings;
use super::record::Record;
use super::selector::{Selector, TagMatch, TextMatch};
use super::slab::Slab;
use super::symbols::{Symbol, Symbols};
use super::tenant::Tenant;
use super::{HashState, SeriesId};

/// The series of one tenant, to be asked.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) symbols: &'a Symbols,
    pub(super) records: &'a Slab<Record>,
}

/// Names and who has them, in order.
type Names<'a> = Box<dyn Iterator<Item = (&'a Arc<str>, &'a Postings)> + 'a>;

impl<'a> View<'a> {
    /// The first `most` that are meant, in the order of name, type and tags.
    pub(super) fn first(self, selector: &Selector, most: usize) -> Vec<SeriesId> {
        let scope = self.scope(selector);
        let mut order = Order::new(self.records, self.symbols);
        let mut out = Vec::new();
        for (_, postings) in self.names(&selector.name) {
            let places = match &scope {
                None => postings.to_vec(),
                Some(scope) => postings.within(scope),
            };
            out.extend(order.first(&places, most - out.len()).into_iter().map(Record::id));
            if out.len() >= most {
                break;
            }
        }
        out
    }

    /// All that are meant, in no order.
    pub(super) fn ids(self, selector: &Selector) -> RoaringBitmap {
        let scope = self.scope(selector);
        let places = self.names(&selector.name).flat_map(|(_, postings)| match &scope {
            None => postings.to_vec(),
            Some(scope) => postings.within(scope),
        });
        places.filter_map(|at| self.records.get(at)).map(Record::id).collect()
    }

    /// How many are meant.
    pub(super) fn count(self, selector: &Selector) -> u64 {
        match (self.scope(selector), &selector.name) {
            (None, TextMatch::Any) => self.tenant.all.len(),
            (Some(scope), TextMatch::Any | TextMatch::Exact(_)) => scope.len(),
            (None, name) => self.names(name).map(|(_, postings)| postings.len()).sum(),
            (Some(scope), name) => self.names(name).map(|(_, postings)| postings.count_within(&scope)).sum(),
        }
    }

    /// Names of those that are meant, in order.
    pub(super) fn metric_names(self, selector: &Selector) -> Vec<Arc<str>> {
        let scope = self.scope(selector);
        let names = self.names(&selector.name).filter(|(_, postings)| scope.as_ref().is_none_or(|scope| postings.meets(scope)));
        names.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Names of the tags of those that are meant, in order.
    pub(super) fn label_names(self, selector: &Selector) -> Vec<Arc<str>> {
        let meant = self.meant(selector);
        let tags = self.tenant.tags.iter().filter(|(_, tag)| !tag.present.is_disjoint(&meant));
        self.labels(tags.map(|(name, _)| *name))
    }

    /// Values of the tag `name` of those that are meant, in order.
    pub(super) fn label_values(self, name: &str, selector: &Selector) -> Vec<Arc<str>> {
        let Some((name, tag)) = self.symbols.get(name).and_then(|name| Some((name, self.tenant.tags.get(&name)?))) else { return Vec::new() };
        let meant = self.meant(selector) & &tag.present;
        if meant.len() < tag.values.len() as u64 {
            let mut values: Vec<Symbol> = meant.iter().filter_map(|at| self.records.get(at)?.value(name)).collect();
            values.sort_unstable();
            values.dedup();
            return self.labels(values.into_iter());
        }
        self.labels(tag.values.iter().filter(|(_, postings)| postings.meets(&meant)).map(|(value, _)| *value))
    }

    fn labels(self, symbols: impl Iterator<Item = Symbol>) -> Vec<Arc<str>> {
        let mut labels: Vec<Arc<str>> = symbols.map(|symbol| self.symbols.label(symbol)).collect();
        labels.sort_unstable();
        labels
    }

    /// All that are meant.
    fn meant(self, selector: &Selector) -> RoaringBitmap {
        match (self.scope(selector), &selector.name) {
            (None, TextMatch::Any) => self.tenant.all.clone(),
            (Some(scope), TextMatch::Any | TextMatch::Exact(_)) => scope,
            (None, name) => Postings::union(self.names(name).map(|(_, postings)| postings)),
            (Some(scope), name) => Postings::union(self.names(name).map(|(_, postings)| postings)) & scope,
        }
    }

    /// Names that are meant, and who has them.
    fn names(self, name: &TextMatch) -> Names<'a> {
        let names = &self.tenant.names;
        match name {
            TextMatch::Any => Box::new(names.iter()),
            TextMatch::Exact(exact) => Box::new(names.get_key_value(exact.as_str()).into_iter()),
            TextMatch::Pattern { prefix, regex } => {
                let (prefix, regex) = (prefix.clone(), regex.clone());
                let from = names.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
                Box::new(from.take_while(move |(name, _)| name.starts_with(&prefix)).filter(move |(name, _)| regex.is_match(name)))
            }
        }
    }

    /// Those that the tags (and an exact name) mean; `None` for all.
    fn scope(self, selector: &Selector) -> Option<RoaringBitmap> {
        let mut scope = match &selector.name {
            TextMatch::Exact(exact) => self.tenant.names.get(exact.as_str()).map(Postings::to_bitmap).unwrap_or_default(),
            _ if selector.tags.is_empty() => return None,
            _ => self.tenant.all.clone(),
        };
        // What is looked up narrows first: an expression is tried on the values of fewer series then.
        let (exact, others): (Vec<_>, Vec<_>) = selector.tags.iter().partition(|tag| matches!(tag.value, TextMatch::Exact(_)));
        for tag in exact.into_iter().chain(others) {
            if scope.is_empty() {
                break;
            }
            self.narrow(&mut scope, tag);
        }
        Some(scope)
    }

    /// Leaves in `scope` what `wanted` means. A missing tag is an empty value, and no value in the postings is empty.
    fn narrow(self, scope: &mut RoaringBitmap, wanted: &TagMatch) {
        let missing = wanted.accepts("");
        let Some((name, tag)) = self.symbols.get(&wanted.name).and_then(|name| Some((name, self.tenant.tags.get(&name)?))) else {
            if !missing {
                scope.clear();
            }
            return;
        };
        match &wanted.value {
            TextMatch::Exact(value) if value.is_empty() && missing => *scope -= &tag.present,
            TextMatch::Exact(value) if value.is_empty() => *scope &= &tag.present,
            TextMatch::Exact(value) => match self.symbols.get(value).and_then(|value| tag.values.get(&value)) {
                Some(postings) if wanted.negated => postings.drop_from(scope),
                Some(postings) => postings.keep_in(scope),
                None if wanted.negated => {}
                None => scope.clear(),
            },
            _ if scope.len() < tag.values.len() as u64 => self.try_each(scope, wanted, name),
            _ => {
                let differing = tag.values.iter().filter(|(value, _)| wanted.accepts(self.symbols.text(**value)) != missing);
                let differing = Postings::union(differing.map(|(_, postings)| postings));
                if missing {
                    *scope -= differing;
                } else {
                    *scope &= differing;
                }
            }
        }
    }

    /// The same for an expression where there are fewer series than values.
    fn try_each(self, scope: &mut RoaringBitmap, wanted: &TagMatch, name: Symbol) {
        let mut tried: HashMap<Symbol, bool, HashState> = HashMap::default();
        let mut accepts = |at: &u32| match self.records.get(*at).and_then(|record| record.value(name)) {
            Some(value) => *tried.entry(value).or_insert_with(|| wanted.accepts(self.symbols.text(value))),
            None => wanted.accepts(""),
        };
        *scope = scope.iter().filter(|at| accepts(at)).collect();
    }
}
