//! What a question says of names and tags, read from text. Which series that means is found in `select`.

use keyvigil_common::limits::PATTERN_BYTES_MAX;
use regex::Regex;

/// Which series are meant.
#[derive(Debug, Clone)]
pub struct Selector {
    pub(super) name: TextMatch,
    pub(super) tags: Vec<TagMatch>,
}

/// Which texts are meant.
#[derive(Debug, Clone)]
pub(super) enum TextMatch {
    Any,
    Exact(String),
    /// Those that begin with `prefix` and match as a whole.
    Pattern {
        prefix: String,
        regex: Regex,
    },
}

impl TextMatch {
    pub(super) fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == text,
            Self::Pattern { regex, .. } => regex.is_match(text),
        }
    }

    fn pattern(prefix: &str, regex: &str) -> Result<Self, String> {
        Ok(Self::Pattern { prefix: prefix.to_owned(), regex: anchored(regex)? })
    }
}

/// Which values of a tag are meant.
#[derive(Debug, Clone)]
pub(super) struct TagMatch {
    pub(super) name: String,
    pub(super) negated: bool,
    pub(super) value: TextMatch,
}

impl TagMatch {
    /// Whether a series with this value is meant; a missing tag has an empty one.
    pub(super) fn accepts(&self, value: &str) -> bool {
        self.value.is_match(value) != self.negated
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
            Some(regex) => TextMatch::pattern("", regex).map_err(|e| format!("metric_pattern: {e}"))?,
            None if pattern == "**" => TextMatch::Any,
            None => match pattern.find(['*', '?', '{']) {
                Some(at) => TextMatch::pattern(&pattern[..at], &glob(pattern)?).map_err(|e| format!("metric_pattern: {e}"))?,
                None => TextMatch::Exact(pattern.to_owned()),
            },
        };
        Ok(Self { name, tags: tags.into_iter().map(parse_tag).collect::<Result<_, _>>()? })
    }

    /// Every series.
    #[must_use]
    pub fn all() -> Self {
        Self { name: TextMatch::Any, tags: Vec::new() }
    }
}

fn parse_tag(text: &str) -> Result<TagMatch, String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("tag {text:?} must be name:value, name:!value or name:~regex"))?;
    let (negated, value) = match value.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let value = match value.strip_prefix('~') {
        Some(regex) => TextMatch::pattern("", regex).map_err(|e| format!("tag {name}: {e}"))?,
        None => TextMatch::Exact(value.to_owned()),
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
