//! The index against a list that is searched from end to end, for random series, questions and removals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keyvigil_common::sample::{MetricType, Series, Tags};
use proptest::prelude::*;
use regex::Regex;

use crate::index::{Index, Selector, SeriesId, TenantId};

const NAMES: [&str; 7] = ["system.cpu.usage", "system.cpu.idle", "system.cpu", "system.disk.io.read", "system.disk.usage", "up", "upper"];
const TAGS: [&str; 4] = ["host", "env", "cpu", "zone"];
const VALUES: [&str; 6] = ["", "a", "ab", "b", "10", "web-1"];
/// Patterns of names, and what they mean written out by hand.
const PATTERNS: [(&str, &str); 10] = [
    ("**", ".*"),
    ("up", "up"),
    ("nothing", "nothing"),
    ("up*", "up[^.]*"),
    ("system.cpu.*", r"system\.cpu\.[^.]*"),
    ("system.**", r"system\..*"),
    ("system.{cpu,disk}.usage", r"system\.(cpu|disk)\.usage"),
    ("*", "[^.]*"),
    ("re:.*usage", ".*usage"),
    ("re:up|system.cpu", "(up|system.cpu)"),
];
const EXPRESSIONS: [&str; 8] = ["", ".*", ".+", "a|b", "a?", "a.*", "web-[0-9]+", "nothing"];

#[derive(Debug, Clone)]
struct Filter {
    tag: usize,
    negated: bool,
    /// Place in `VALUES`, or behind them in `EXPRESSIONS`.
    value: usize,
}

impl Filter {
    fn text(&self) -> String {
        let not = if self.negated { "!" } else { "" };
        // A tag that no series has, too.
        let tag = TAGS.get(self.tag).unwrap_or(&"none");
        match VALUES.get(self.value) {
            Some(value) => format!("{tag}:{not}{value}"),
            None => format!("{tag}:{not}~{}", EXPRESSIONS[self.value - VALUES.len()]),
        }
    }

    /// Whether it lets a series pass.
    fn judge(&self) -> impl Fn(&Series) -> bool {
        let regex = (self.value >= VALUES.len()).then(|| whole(EXPRESSIONS[self.value - VALUES.len()]));
        move |series| {
            let value = TAGS.get(self.tag).and_then(|tag| series.tags.get(tag)).unwrap_or("");
            regex.as_ref().map_or_else(|| value == VALUES[self.value], |regex| regex.is_match(value)) != self.negated
        }
    }
}

fn whole(regex: &str) -> Regex {
    Regex::new(&format!("^(?:{regex})$")).unwrap()
}

type Model = BTreeMap<SeriesId, (TenantId, Series)>;

fn series() -> impl Strategy<Value = (TenantId, Series)> {
    let metric_type = prop_oneof![Just(MetricType::Counter), Just(MetricType::Gauge), Just(MetricType::Histogram)];
    let values = prop::collection::vec(0..VALUES.len(), TAGS.len());
    (prop_oneof![5 => Just(1u32), 1 => Just(2u32)], 0..NAMES.len(), metric_type, values).prop_map(|(tenant, name, metric_type, values)| {
        let tags = Tags::new(TAGS.iter().zip(values).map(|(tag, value)| (*tag, VALUES[value]))).unwrap();
        (tenant, Series::new(NAMES[name], metric_type, tags).unwrap())
    })
}

fn many() -> impl Strategy<Value = Vec<(TenantId, Series)>> {
    prop_oneof![3 => prop::collection::vec(series(), 0..40), 1 => prop::collection::vec(series(), 600..1_200)]
}

fn question() -> impl Strategy<Value = (usize, Vec<Filter>)> {
    let filter = (0..=TAGS.len(), any::<bool>(), 0..VALUES.len() + EXPRESSIONS.len());
    let filters = prop::collection::vec(filter.prop_map(|(tag, negated, value)| Filter { tag, negated, value }), 0..4);
    (0..PATTERNS.len(), filters)
}

fn add(index: &Index, model: &mut Model, next: &mut SeriesId, all: Vec<(TenantId, Series)>) {
    for (tenant, series) in all {
        if index.id(tenant, &series).is_none() {
            index.insert(tenant, *next, &series);
            model.insert(*next, (tenant, series));
            *next += 1;
        }
    }
}

fn compare(index: &Index, model: &Model, question: &(usize, Vec<Filter>), limit: usize) -> Result<(), TestCaseError> {
    let (pattern, name) = PATTERNS[question.0];
    let tags: Vec<String> = question.1.iter().map(Filter::text).collect();
    let selector = Selector::parse(pattern, tags.iter().map(String::as_str)).unwrap();
    let (name, filters) = (whole(name), question.1.iter().map(Filter::judge).collect::<Vec<_>>());
    let mut meant: Vec<(SeriesId, &Series)> = model
        .iter()
        .filter(|(_, (tenant, series))| *tenant == 1 && name.is_match(&series.metric_id) && filters.iter().all(|passes| passes(series)))
        .map(|(id, (_, series))| (*id, series))
        .collect();
    meant.sort_by_key(|(_, series)| *series);
    prop_assert_eq!(index.count(1, &selector), meant.len() as u64);
    let names: BTreeSet<Arc<str>> = meant.iter().map(|(_, series)| series.metric_id.as_str().into()).collect();
    prop_assert_eq!(index.metric_names(1, &selector), names.into_iter().collect::<Vec<_>>());
    let mut labels: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
    for (tag, value) in meant.iter().flat_map(|(_, series)| series.tags.iter()) {
        labels.entry(tag.into()).or_default().insert(value.into());
    }
    prop_assert_eq!(index.label_names(1, &selector), labels.keys().cloned().collect::<Vec<_>>());
    for tag in TAGS {
        let values: Vec<Arc<str>> = labels.get(tag).into_iter().flatten().cloned().collect();
        prop_assert_eq!(index.label_values(1, tag, &selector), values);
    }
    for (tag, value, without) in TAGS.iter().flat_map(|tag| VALUES[1..].iter().flat_map(move |value| TAGS.map(|without| (*tag, *value, without)))) {
        let has = |series: &Series, tag: &str| !series.tags.get(tag).unwrap_or("").is_empty();
        let of_one = || model.values().filter(|(tenant, series)| *tenant == 1 && series.tags.get(tag) == Some(value));
        prop_assert_eq!(index.tag_len(1, (tag, value), None), of_one().count());
        prop_assert_eq!(index.tag_len(1, (tag, value), Some(without)), of_one().filter(|(_, series)| !has(series, without)).count());
    }
    meant.truncate(limit + 1);
    let found = index.select(1, &selector, limit);
    prop_assert_eq!(found.iter().map(|(id, series)| (*id, &**series)).collect::<Vec<_>>(), meant);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_index_says_what_a_search_of_all_series_says(
        first in many(), second in many(), removed in 0u32..4, questions in prop::collection::vec((question(), 0usize..400), 12),
    ) {
        let (index, mut model, mut next) = (Index::default(), Model::new(), 1);
        add(&index, &mut model, &mut next, first);
        for (question, limit) in &questions[..4] {
            compare(&index, &model, question, *limit)?;
        }
        // None, some, most or all of them.
        let gone: Vec<SeriesId> = model.keys().copied().filter(|id| id.wrapping_mul(2_654_435_761) % 3 < removed).collect();
        prop_assert_eq!(index.remove(gone.iter().copied()), gone.len());
        for id in &gone {
            let (tenant, series) = model.remove(id).unwrap();
            prop_assert_eq!((index.get(*id), index.id(tenant, &series)), (None, None));
        }
        for (question, limit) in &questions[4..8] {
            compare(&index, &model, question, *limit)?;
        }
        add(&index, &mut model, &mut next, second);
        for (question, limit) in &questions[8..] {
            compare(&index, &model, question, *limit)?;
        }
        prop_assert_eq!(index.len(), model.len());
        prop_assert_eq!(index.per_tenant_len(2), model.values().filter(|(tenant, _)| *tenant == 2).count());
        for (id, (tenant, series)) in &model {
            let found = index.get(*id);
            prop_assert_eq!((found.as_deref(), index.id(*tenant, series)), (Some(series), Some(*id)));
        }
    }
}
