//! Collections and texts in YAML's own manner, which line ends and indentation make. Called by the reader of documents.

use super::scalar::Style;
use super::{DEPTH_MAX, Node, Read, Reader, Scalar};

impl<'a> Reader<'a> {
    /// What stands further right than `parent`, on this line or a later one.
    pub(super) fn block(&mut self, parent: isize, depth: usize) -> Read<usize> {
        if depth > DEPTH_MAX {
            return Err("collections in each other too deep");
        }
        self.skip();
        let column = self.column();
        let is_item = self.peek() == Some(b'-') && self.ends_at(1);
        // The items of a map's list may stand right below its key.
        if self.peek().is_none() || column < parent || column == parent && !is_item || self.is_marker() {
            return self.add(Node::Nothing);
        }
        match self.peek() {
            Some(b'-') if self.ends_at(1) => self.sequence(column, depth),
            Some(b'?') if self.ends_at(1) => Err("a complex key, which is not read here"),
            Some(b'&') => {
                let name = self.name();
                let node = self.block(parent, depth + 1)?;
                self.anchor(name, node)
            }
            Some(b'!') => {
                self.name();
                self.block(parent, depth + 1)
            }
            Some(b'*') => self.alias(),
            Some(b'|' | b'>') => self.literal(parent),
            Some(b'{' | b'[') => self.flow(depth),
            Some(_) if self.key().is_some() => self.mapping(column, depth),
            _ => self.scalar(parent),
        }
    }

    fn sequence(&mut self, column: isize, depth: usize) -> Read<usize> {
        let mut items = Vec::new();
        loop {
            self.skip();
            if self.column() != column || self.peek() != Some(b'-') || !self.ends_at(1) || self.is_marker() {
                return self.add(Node::List(items));
            }
            self.at += 1;
            self.skip();
            // Right below a list's mark only the next of its items can stand.
            items.push(if self.column() > column { self.block(column, depth + 1)? } else { self.add(Node::Nothing)? });
        }
    }

    fn mapping(&mut self, column: isize, depth: usize) -> Read<usize> {
        let mut entries = Vec::new();
        loop {
            self.skip();
            let Some((key, behind)) = (if self.column() == column && !self.is_marker() { self.key() } else { None }) else {
                return self.add(Node::Map(entries));
            };
            self.at = behind;
            entries.push((key, self.block(column, depth + 1)?));
        }
    }

    /// The key that begins here and the position behind its colon.
    fn key(&self) -> Option<(Scalar<'a>, usize)> {
        let (scalar, mut end) = match self.peek()? {
            quote @ (b'"' | b'\'') => self.quoted(quote).ok()?,
            _ => {
                let line = self.rest();
                let is_colon = |at: usize| line[at] == b':' && line.get(at + 1).is_none_or(u8::is_ascii_whitespace);
                let is_end = |at: usize| line[at] == b'\n' || line[at] == b'#' && at > 0 && line[at - 1].is_ascii_whitespace();
                let length = (0..line.len()).find(|at| is_colon(*at) || is_end(*at)).filter(|at| line[*at] == b':')?;
                (self.slice(Style::Plain, self.at, self.at + length), self.at + length)
            }
        };
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(end), Some(b' ' | b'\t')) {
            end += 1;
        }
        (bytes.get(end) == Some(&b':')).then_some((scalar, end + 1))
    }

    /// A scalar of block context: its further lines stand further right than `parent`.
    fn scalar(&mut self, parent: isize) -> Read<usize> {
        if let Some(quote @ (b'"' | b'\'')) = self.peek() {
            let (scalar, end) = self.quoted(quote)?;
            self.at = end;
            return self.add(Node::Text(scalar));
        }
        let start = self.at;
        let mut end;
        loop {
            let line = self.rest();
            let is_comment = |at: usize| line[at] == b'#' && at > 0 && line[at - 1].is_ascii_whitespace();
            let length = (0..line.len()).find(|at| line[*at] == b'\n' || is_comment(*at)).unwrap_or(line.len());
            self.at += length;
            end = self.at;
            if self.peek() != Some(b'\n') {
                break;
            }
            self.skip();
            if self.peek().is_none() || self.column() <= parent || self.is_marker() || self.key().is_some() {
                break;
            }
        }
        let scalar = self.slice(Style::Plain, start, end);
        self.add(Node::Text(scalar))
    }

    /// A text of `|` or `>`: all lines that stand further right than `parent`.
    fn literal(&mut self, parent: isize) -> Read<usize> {
        let style = if self.peek() == Some(b'|') { Style::Literal } else { Style::Folded };
        self.end_of_line();
        let start = (self.at + 1).min(self.text.len());
        let (mut end, mut at) = (start, start);
        while let Some(rest) = self.text.as_bytes().get(at..).filter(|rest| !rest.is_empty()) {
            let length = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at + 1);
            let indent = rest[..length].iter().position(|b| *b != b' ').unwrap_or(length);
            let is_blank = rest[..length].trim_ascii().is_empty();
            if !is_blank && isize::try_from(indent).unwrap_or(isize::MAX) <= parent {
                break;
            }
            at += length;
            if !is_blank {
                end = at;
            }
        }
        self.at = at;
        let scalar = self.slice(style, start, end);
        self.add(Node::Text(scalar))
    }
}
