//! Series by name and tag, in memory; rebuilt from the store at start. Knows definitions, never values. Who asks gives a
//! [`Selector`]; ids are small and dense so that the head can be a vector.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use keyvigil_common::limits::PATTERN_BYTES_MAX;
use keyvigil_common::sample::Series;
use regex::Regex;

/// Id of a series; 0 is none.
pub type SeriesId = u32;
/// Id of a tenant.
pub type TenantId = u32;

/// The series of all tenants.
#[derive(Debug, Default)]
pub struct Index(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_key: HashMap<TenantId, HashMap<Arc<Series>, SeriesId>>,
    by_id: HashMap<SeriesId, Arc<Series>>,
    by_name: BTreeMap<(TenantId, String), Vec<SeriesId>>,
}

impl Index {
    /// The id of a series, if it has one.
    #[must_use]
    pub fn id(&self, tenant: TenantId, series: &Series) -> Option<SeriesId> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_key.get(&tenant)?.get(series).copied()
    }

    /// Adds what was committed to the store.
    pub fn insert(&self, tenant: TenantId, id: SeriesId, series: Series) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let series = Arc::new(series);
        inner.by_name.entry((tenant, series.metric_id.clone())).or_default().push(id);
        inner.by_id.insert(id, Arc::clone(&series));
        inner.by_key.entry(tenant).or_default().insert(series, id);
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The series that `selector` means, ordered by name and tags; more than `limit` are an error of the asker to handle:
    /// one more than the limit is returned.
    #[must_use]
    pub fn select(&self, tenant: TenantId, selector: &Selector, limit: usize) -> Vec<(SeriesId, Arc<Series>)> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let exact = selector.exact_name();
        let from = (tenant, exact.unwrap_or_default().to_owned());
        let mut out = Vec::new();
        for ((at, name), ids) in inner.by_name.range(from..) {
            if *at != tenant || exact.is_some_and(|exact| exact != name) {
                break;
            }
            if !selector.name.is_match(name) {
                continue;
            }
            let series = ids.iter().filter_map(|id| inner.by_id.get(id).map(|s| (*id, s)));
            out.extend(series.filter(|(_, s)| selector.tags.iter().all(|t| t.is_match(s))).map(|(id, s)| (id, Arc::clone(s))));
            if out.len() > limit {
                out.truncate(limit + 1);
                break;
            }
        }
        out.sort_by(|a, b| a.1.cmp(&b.1));
        out
    }
}

/// Which series are meant.
#[derive(Debug, Clone)]
pub struct Selector {
    name: NameMatch,
    tags: Vec<TagMatch>,
}

#[derive(Debug, Clone)]
enum NameMatch {
    Exact(String),
    Pattern(Regex),
}

impl NameMatch {
    fn is_match(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Pattern(regex) => regex.is_match(name),
        }
    }
}

#[derive(Debug, Clone)]
struct TagMatch {
    name: String,
    negated: bool,
    value: NameMatch,
}

impl TagMatch {
    fn is_match(&self, series: &Series) -> bool {
        self.value.is_match(series.tags.get(&self.name).unwrap_or_default()) != self.negated
    }
}

impl Selector {
    /// From a metric pattern (glob over dots, or `re:`) and tag filters (`name:value`, `name:!value`, `name:~regex`).
    ///
    /// # Errors
    /// What is wrong, and how to write it.
    pub fn parse<'a>(pattern: &str, tags: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX {
            return Err(format!("metric_pattern must have 1 to {PATTERN_BYTES_MAX} bytes"));
        }
        let name = match pattern.strip_prefix("re:") {
            Some(regex) => NameMatch::Pattern(anchored(regex).map_err(|e| format!("metric_pattern: {e}"))?),
            None if pattern.contains(['*', '?', '{']) => NameMatch::Pattern(anchored(&glob(pattern)?).map_err(|e| format!("metric_pattern: {e}"))?),
            None => NameMatch::Exact(pattern.to_owned()),
        };
        Ok(Self { name, tags: tags.into_iter().map(parse_tag).collect::<Result<_, _>>()? })
    }

    fn exact_name(&self) -> Option<&str> {
        match &self.name {
            NameMatch::Exact(name) => Some(name),
            NameMatch::Pattern(_) => None,
        }
    }
}

fn parse_tag(text: &str) -> Result<TagMatch, String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("tag {text:?} must be name:value, name:!value or name:~regex"))?;
    let (negated, value) = match value.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let value = match value.strip_prefix('~') {
        Some(regex) => NameMatch::Pattern(anchored(regex).map_err(|e| format!("tag {name}: {e}"))?),
        None => NameMatch::Exact(value.to_owned()),
    };
    Ok(TagMatch { name: name.to_owned(), negated, value })
}

/// A glob as a regular expression: `*` stays within one part of the dotted name, `**` does not.
fn glob(pattern: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut depth = 0usize;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => out.push_str(".*"),
            '*' => out.push_str("[^.]*"),
            '?' => out.push_str("[^.]"),
            '{' => {
                depth += 1;
                out.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                out.push(')');
            }
            ',' if depth > 0 => out.push('|'),
            other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    if depth == 0 { Ok(out) } else { Err(format!("metric_pattern {pattern:?}: a {{ is not closed")) }
}

fn anchored(regex: &str) -> Result<Regex, String> {
    if regex.len() > PATTERN_BYTES_MAX * 4 {
        return Err(format!("a regular expression has at most {} bytes", PATTERN_BYTES_MAX * 4));
    }
    regex::RegexBuilder::new(&format!("^(?s:{regex})$")).size_limit(1 << 20).dfa_size_limit(1 << 20).build().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::sample::{MetricType, Tags};

    fn names(index: &Index, pattern: &str, tags: &[&str]) -> Vec<String> {
        let selector = Selector::parse(pattern, tags.iter().copied()).unwrap();
        index.select(1, &selector, 100).iter().map(|(_, s)| s.to_string()).collect()
    }

    fn index() -> Index {
        let index = Index::default();
        let all = [("system.cpu.usage_total", "a"), ("system.cpu.usage_total", "b"), ("system.memory.usage_percent", "a"), ("system.disk.io.total", "a")];
        for (id, (name, host)) in (1..).zip(all) {
            index.insert(1, id, Series::new(name, MetricType::Gauge, Tags::new([("host", host)]).unwrap()).unwrap());
        }
        index.insert(2, 99, Series::new("system.cpu.usage_total", MetricType::Gauge, Tags::default()).unwrap());
        index
    }

    #[test]
    fn a_star_stays_within_one_part_and_two_do_not() {
        let index = index();
        assert_eq!(names(&index, "system.*.usage_*", &[]).len(), 3);
        assert_eq!(names(&index, "system.*", &[]).len(), 0);
        assert_eq!(names(&index, "system.**", &[]).len(), 4);
        assert_eq!(names(&index, "system.{cpu,disk}.**", &["host:a"]).len(), 2);
        assert_eq!(names(&index, "re:system\\.(cpu|memory)\\..*", &[]).len(), 3);
    }

    #[test]
    fn tags_match_exactly_negated_or_by_expression() {
        let index = index();
        assert_eq!(names(&index, "system.cpu.usage_total", &["host:b"]), [r#"system.cpu.usage_total{host="b"}"#]);
        assert_eq!(names(&index, "system.cpu.usage_total", &["host:!b"]), [r#"system.cpu.usage_total{host="a"}"#]);
        assert_eq!(names(&index, "system.cpu.usage_total", &["host:~[ab]"]).len(), 2);
        assert_eq!(names(&index, "system.cpu.usage_total", &["rack:!x"]).len(), 2, "a missing tag is an empty one");
    }

    #[test]
    fn another_tenants_series_are_not_there() {
        let selector = Selector::parse("system.cpu.usage_total", []).unwrap();
        assert_eq!(index().select(2, &selector, 10).len(), 1);
        assert_eq!(index().select(3, &selector, 10).len(), 0);
    }

    #[test]
    fn a_pattern_that_is_not_one_says_why() {
        for (pattern, word) in [("", "1 to"), ("a{b", "not closed"), ("re:(", "unclosed")] {
            let error = Selector::parse(pattern, []).unwrap_err();
            assert!(error.contains(word), "{pattern}: {error}");
        }
        assert!(Selector::parse("a", ["nocolon"]).unwrap_err().contains("name:value"));
        assert!(Selector::parse("re:(a{1000}){1000}", []).is_err(), "an expression that would take much memory");
    }
}
