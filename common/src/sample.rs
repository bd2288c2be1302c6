//! Samples and the series they belong to, valid by construction: a [`Series`] that exists has a usable name and tags.
//! Source of the bounds: [`crate::limits`].

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{METRIC_ID_BYTES_MAX, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX};

/// What the value of a series means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricType {
    /// Only grows, until a restart resets it to zero.
    Counter,
    /// Goes up and down.
    Gauge,
    /// One cumulative bucket of a histogram; the tag `le` holds its upper bound.
    Histogram,
}

/// Tags of a series: sorted by name, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct Tags(Vec<(String, String)>);

impl Tags {
    /// Sorts `pairs` by name and drops those with an empty value, which mean "not set".
    ///
    /// # Errors
    /// A name or value that is too long or holds control characters, a name that comes twice, or too many tags.
    pub fn new<I, N, V>(pairs: I) -> Result<Self, SampleError>
    where
        I: IntoIterator<Item = (N, V)>,
        N: Into<String>,
        V: Into<String>,
    {
        let mut list: Vec<(String, String)> = pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        list.retain(|(_, value)| !value.is_empty());
        list.sort();
        let tags = Self(list);
        tags.check()?;
        Ok(tags)
    }

    /// Checks what [`Tags::new`] promises; for tags that were decoded.
    ///
    /// # Errors
    /// As [`Tags::new`], and when the names are not sorted.
    pub fn check(&self) -> Result<(), SampleError> {
        if self.0.len() > TAGS_MAX {
            return Err(SampleError::TooManyTags(self.0.len()));
        }
        for (name, value) in &self.0 {
            if name.is_empty() || name.len() > TAG_NAME_BYTES_MAX || name.chars().any(char::is_control) {
                return Err(SampleError::TagName(shorten(name)));
            }
            if value.is_empty() || value.len() > TAG_VALUE_BYTES_MAX || value.chars().any(char::is_control) {
                return Err(SampleError::TagValue(name.clone()));
            }
        }
        match self.0.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            Some(pair) => Err(SampleError::TagTwice(pair[1].0.clone())),
            None => Ok(()),
        }
    }

    /// Value of the tag `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok().map(|at| self.0[at].1.as_str())
    }

    /// Sets `name` to `value`, replacing what was there. The caller vouches for both being valid.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.binary_search_by(|(n, _)| n.as_str().cmp(name)) {
            Ok(at) => value.clone_into(&mut self.0[at].1),
            Err(at) => self.0.insert(at, (name.to_owned(), value.to_owned())),
        }
    }

    /// Name and value of each tag, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Number of tags.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What was stored must load whatever the limits are by then; who reads foreign JSON goes through `new`.
        Ok(Self(std::collections::BTreeMap::<String, String>::deserialize(deserializer)?.into_iter().collect()))
    }
}

/// What is measured: name, type and tags. Two samples belong together when their series are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Series {
    /// Dotted name, `crypto.key.access_count`.
    pub metric_id: String,
    /// What the values mean.
    pub metric_type: MetricType,
    /// Sorted tags; the host that was measured is the tag `host`.
    pub tags: Tags,
}

impl Series {
    /// A series whose parts were checked.
    ///
    /// # Errors
    /// A name that is empty, too long, or holds control characters or outer white space.
    pub fn new(metric_id: impl Into<String>, metric_type: MetricType, tags: Tags) -> Result<Self, SampleError> {
        let series = Self { metric_id: metric_id.into(), metric_type, tags };
        series.check()?;
        Ok(series)
    }

    /// Checks what [`Series::new`] promises; for series that were decoded.
    ///
    /// # Errors
    /// As [`Series::new`] and [`Tags::new`].
    pub fn check(&self) -> Result<(), SampleError> {
        let id = &self.metric_id;
        if id.is_empty() || id.len() > METRIC_ID_BYTES_MAX || id.trim() != id || id.chars().any(char::is_control) {
            return Err(SampleError::MetricId(shorten(id)));
        }
        self.tags.check()
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{", self.metric_id)?;
        for (at, (name, value)) in self.tags.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if at == 0 { "" } else { "," })?;
        }
        f.write_str("}")
    }
}

/// One measured value.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Sample {
    /// What was measured.
    pub series: Series,
    /// When, Unix ms.
    pub at_ms: i64,
    /// The value, in the unit that the metric's name says.
    pub value: f64,
    /// Counters: when counting began, Unix ms, so that the first increment and a reset are not lost.
    pub start_ms: Option<i64>,
}

/// Why a series or sample is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// The metric's name.
    #[error("metric_id {0:?} must have 1 to {METRIC_ID_BYTES_MAX} bytes and no control characters or outer spaces")]
    MetricId(String),
    /// A tag's name.
    #[error("tag name {0:?} must have 1 to {TAG_NAME_BYTES_MAX} bytes and no control characters")]
    TagName(String),
    /// A tag's value.
    #[error("value of tag {0:?} must have at most {TAG_VALUE_BYTES_MAX} bytes and no control characters")]
    TagValue(String),
    /// A name that comes twice, or names that are not sorted.
    #[error("tag {0:?} comes twice or out of order")]
    TagTwice(String),
    /// Too many tags.
    #[error("{0} tags; at most {TAGS_MAX} are taken")]
    TooManyTags(usize),
}

/// The first characters of a text that is too long for an error message.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_sorted_and_empty_values_mean_not_set() {
        let tags = Tags::new([("z", "1"), ("a", "2"), ("m", "")]).unwrap();
        assert_eq!(tags.iter().collect::<Vec<_>>(), [("a", "2"), ("z", "1")]);
        assert_eq!((tags.get("z"), tags.get("m")), (Some("1"), None));
    }

    #[test]
    fn what_cannot_be_stored_is_refused_with_its_name() {
        assert_eq!(Tags::new([("a", "1"), ("a", "2")]), Err(SampleError::TagTwice("a".into())));
        assert_eq!(Tags::new([("a\n", "1")]), Err(SampleError::TagName("a\n".into())));
        assert_eq!(Tags::new([("a", "\u{1b}[31m")]), Err(SampleError::TagValue("a".into())));
        let many = (0..=TAGS_MAX).map(|n| (format!("t{n}"), "x"));
        assert_eq!(Tags::new(many), Err(SampleError::TooManyTags(TAGS_MAX + 1)));
        for bad in ["", " padded", "a\u{0}b", &"x".repeat(METRIC_ID_BYTES_MAX + 1)] {
            assert!(matches!(Series::new(bad, MetricType::Gauge, Tags::default()), Err(SampleError::MetricId(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_series_prints_as_its_users_write_it() {
        let series = Series::new("system.load.1m", MetricType::Gauge, Tags::new([("host", "web-\"1")]).unwrap()).unwrap();
        assert_eq!(series.to_string(), r#"system.load.1m{host="web-\"1"}"#);
    }
}
