//! One text of a document, left as it stands in the file until it is asked for. Called by the reader of documents.

use std::fmt;
use std::ops::Deref;

use zeroize::Zeroizing;

/// A text as the file writes it.
#[derive(Clone, Copy)]
pub struct Scalar<'a> {
    pub(super) raw: &'a str,
    /// Where it begins, bytes.
    pub(super) offset: usize,
    pub(super) style: Style,
}

/// How it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    Literal,
    Folded,
}

/// A text as it is meant: a part of the file, or a copy that is wiped.
pub enum Text<'a> {
    Part(&'a str),
    Copy(Zeroizing<String>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Part(text) => text,
            Self::Copy(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text")
    }
}

impl fmt::Debug for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scalar")
    }
}

impl<'a> Scalar<'a> {
    /// What it means.
    #[must_use]
    pub fn text(&self) -> Text<'a> {
        let lines = |separator| Text::Copy(joined(self.raw, separator));
        match self.style {
            Style::Plain if !self.raw.contains('\n') => Text::Part(self.raw.trim()),
            Style::Plain | Style::Folded => lines(' '),
            Style::Literal => lines('\n'),
            Style::Single if !self.raw.contains('\'') => Text::Part(self.raw),
            Style::Single => {
                let mut out = room(self.raw);
                let mut parts = self.raw.split("''");
                out.push_str(parts.next().unwrap_or_default());
                for part in parts {
                    out.push('\'');
                    out.push_str(part);
                }
                Text::Copy(out)
            }
            Style::Double if !self.raw.contains('\\') && !self.raw.contains('\n') => Text::Part(self.raw),
            Style::Double => Text::Copy(unescaped(self.raw)),
        }
    }
}

/// Room for whatever `raw` may mean: growing would leave a copy behind that nobody wipes.
fn room(raw: &str) -> Zeroizing<String> {
    Zeroizing::new(String::with_capacity(raw.len() * 2 + 1))
}

/// Lines without what stands before and behind them.
fn joined(raw: &str, separator: char) -> Zeroizing<String> {
    let mut out = room(raw);
    for line in raw.lines() {
        if !out.is_empty() {
            out.push(separator);
        }
        out.push_str(line.trim());
    }
    out
}

/// What stands in double quotes; RFC 8259 and YAML's own escapes. A line's end is a space.
fn unescaped(raw: &str) -> Zeroizing<String> {
    let mut out = room(raw);
    let mut chars = raw.chars();
    let mut high = None;
    while let Some(c) = chars.next() {
        if c == '\n' {
            while out.ends_with([' ', '\t', '\r']) {
                out.pop();
            }
            out.push(' ');
            while chars.as_str().starts_with([' ', '\t', '\r']) {
                chars.next();
            }
            continue;
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let digits = match chars.next() {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            // A line that goes on in the next one.
            Some('\n') => {
                while chars.as_str().starts_with([' ', '\t', '\r']) {
                    chars.next();
                }
                continue;
            }
            Some(c) => {
                out.push(plain_escape(c));
                continue;
            }
            None => break,
        };
        let code = chars.as_str().get(..digits).and_then(|text| u32::from_str_radix(text, 16).ok()).unwrap_or(0xfffd);
        chars.by_ref().take(digits).for_each(drop);
        match (high.take(), code) {
            (_, 0xd800..=0xdbff) => high = Some(code),
            (Some(high), 0xdc00..=0xdfff) => out.push(char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (code - 0xdc00)).unwrap_or('\u{fffd}')),
            _ => out.push(char::from_u32(code).unwrap_or('\u{fffd}')),
        }
    }
    out
}

fn plain_escape(c: char) -> char {
    match c {
        '0' => '\0',
        'a' => '\u{7}',
        'b' => '\u{8}',
        't' => '\t',
        'n' => '\n',
        'v' => '\u{b}',
        'f' => '\u{c}',
        'r' => '\r',
        'e' => '\u{1b}',
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        other => other,
    }
}
