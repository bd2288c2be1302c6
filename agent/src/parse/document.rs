//! A reader of JSON, and of that part of YAML which tools and people write: block and flow collections, all scalars, anchors, merge
//! keys, several documents. Our own because every library for it copies each text it meets into memory that nobody wipes, and
//! these files are full of secrets: here a text stays where the file's (wiped) bytes are until somebody asks for it. An alias
//! is a reference and is never expanded; depth and count of nodes are bounded. Tags are skipped, complex keys (`? `) refused.
//! Called by the parsers of kubeconfig and JWKS. Format: RFC 8259, YAML 1.2.

mod block;
mod flow;
mod scalar;

use std::cell::Cell;
use std::fmt;

use scalar::Style;
pub use scalar::{Scalar, Text};

/// Levels of collections in each other; a kubeconfig has six.
const DEPTH_MAX: usize = 48;
/// Collections and scalars of one file.
const NODES_MAX: usize = 50_000;
/// Anchors of one document.
const ANCHORS_MAX: usize = 200;
/// Members of maps, items of lists and pieces of text that are looked at in all: what has many names may be met again and again. A file without aliases
/// needs some twenty for each of its nodes.
const LOOKS_MAX: usize = 5_000_000;
/// Bytes of a text that cost as much as one of them.
const TEXT_PER_LOOK: usize = 16;
/// How much longer a name gets by its escapes and quotes, at most.
const ESCAPED_TIMES: usize = 12;
/// Aliases that lead to aliases.
const ALIASES_MAX: usize = 8;

/// A file.
pub struct Document<'a> {
    nodes: Vec<Node<'a>>,
    roots: Vec<usize>,
    /// What is left of [`LOOKS_MAX`].
    looks: Cell<usize>,
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} nodes)", self.nodes.len())
    }
}

enum Node<'a> {
    Map(Vec<(Scalar<'a>, usize)>),
    List(Vec<usize>),
    Text(Scalar<'a>),
    Alias(usize),
    Nothing,
}

/// What stands in one place of a file.
#[derive(Debug, Clone, Copy)]
pub struct Value<'d, 'a> {
    document: &'d Document<'a>,
    node: usize,
}

impl<'a> Document<'a> {
    /// Reads all of `text`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(text: &'a str) -> Result<Self, String> {
        let mut reader = Reader { text, at: 0, document: Self { nodes: Vec::new(), roots: Vec::new(), looks: Cell::new(LOOKS_MAX) }, anchors: Vec::new() };
        reader.documents().map_err(|what| format!("{what} at byte {}", reader.at))?;
        Ok(reader.document)
    }

    /// Whether so much was looked at that the rest was not.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.looks.get() == 0
    }

    fn pay(&self, looks: usize) -> bool {
        self.looks.set(self.looks.get().saturating_sub(looks));
        !self.is_exhausted()
    }

    /// Its documents; of JSON, the one.
    pub fn roots(&self) -> impl Iterator<Item = Value<'_, 'a>> {
        self.roots.iter().map(|node| Value { document: self, node: *node })
    }

    /// All that are maps, wherever they stand.
    pub fn maps(&self) -> impl Iterator<Item = Value<'_, 'a>> {
        let is_map = |node: &usize| matches!(self.nodes[*node], Node::Map(_));
        (0..self.nodes.len()).filter(is_map).map(|node| Value { document: self, node })
    }
}

impl<'d, 'a> Value<'d, 'a> {
    fn node(self) -> &'d Node<'a> {
        let mut node = &self.document.nodes[self.node];
        for _ in 0..ALIASES_MAX {
            let Node::Alias(to) = node else { break };
            node = &self.document.nodes[*to];
        }
        node
    }

    /// What a map has under `key`, its own or merged.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Self> {
        self.own(key).or_else(|| {
            let merged = self.own("<<")?;
            merged.own(key).or_else(|| merged.items().find_map(|item| item.own(key)))
        })
    }

    fn own(self, key: &str) -> Option<Self> {
        let Node::Map(entries) = self.node() else { return None };
        let is_it = |name: &Scalar<'_>| name.raw.len() <= ESCAPED_TIMES * key.len() + 2 && *name.text() == *key;
        if !self.document.pay(entries.len()) {
            return None;
        }
        entries.iter().find(|(name, _)| is_it(name)).map(|(_, node)| Value { node: *node, ..self })
    }

    /// Keys and values of a map.
    pub fn entries(self) -> impl Iterator<Item = (Text<'a>, Self)> {
        let entries = if let Node::Map(entries) = self.node() { entries.as_slice() } else { &[] };
        entries.iter().take_while(move |_| self.document.pay(1)).map(move |(name, node)| (name.text(), Value { node: *node, ..self }))
    }

    /// What a list holds.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let items = if let Node::List(items) = self.node() { items.as_slice() } else { &[] };
        items.iter().take_while(move |_| self.document.pay(1)).map(move |node| Value { node: *node, ..self })
    }

    /// What is no collection, as text.
    #[must_use]
    pub fn text(self) -> Option<Text<'a>> {
        let Node::Text(scalar) = self.node() else { return None };
        self.document.pay(1 + scalar.raw.len() / TEXT_PER_LOOK).then(|| scalar.text())
    }

    /// Text under `key`.
    #[must_use]
    pub fn text_of(self, key: &str) -> Option<Text<'a>> {
        self.get(key)?.text()
    }

    /// Where a text begins, bytes; 0 of others.
    #[must_use]
    pub fn offset(self) -> usize {
        if let Node::Text(scalar) = self.node() { scalar.offset } else { 0 }
    }
}

/// Bytes to nodes. All positions lie on ASCII characters, so that slices are texts.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    document: Document<'a>,
    anchors: Vec<(&'a str, usize)>,
}

type Read<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    fn documents(&mut self) -> Read<()> {
        self.text = self.text.strip_prefix('\u{feff}').unwrap_or(self.text);
        loop {
            self.skip();
            if self.peek().is_none() {
                return Ok(());
            }
            let before = self.at;
            if self.column() == 0 && self.peek() == Some(b'%') {
                self.end_of_line();
            } else if self.is_marker() {
                self.at += 3;
            } else {
                self.anchors.clear();
                let root = self.block(-1, 0)?;
                self.document.roots.push(root);
                self.skip();
                if self.peek().is_some() && !self.is_marker() {
                    return Err("something follows that belongs to nothing");
                }
            }
            if self.at == before {
                return Err("nothing that can be read");
            }
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// Whether the next byte but `ahead` is white space or the end.
    fn ends_at(&self, ahead: usize) -> bool {
        self.rest().get(ahead).is_none_or(u8::is_ascii_whitespace)
    }

    /// How far the next byte is from the start of its line.
    fn column(&self) -> isize {
        let start = self.text.as_bytes()[..self.at].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        isize::try_from(self.at - start).unwrap_or(isize::MAX)
    }

    fn is_marker(&self) -> bool {
        (self.rest().starts_with(b"---") || self.rest().starts_with(b"...")) && self.ends_at(3) && self.column() == 0
    }

    fn end_of_line(&mut self) {
        self.at += self.rest().iter().position(|b| *b == b'\n').unwrap_or(self.rest().len());
    }

    /// Over white space and comments.
    fn skip(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                b'#' if self.at == 0 || self.text.as_bytes()[self.at - 1].is_ascii_whitespace() => self.end_of_line(),
                _ => return,
            }
        }
    }

    fn add(&mut self, node: Node<'a>) -> Read<usize> {
        if self.document.nodes.len() >= NODES_MAX {
            return Err("too many parts");
        }
        self.document.nodes.push(node);
        Ok(self.document.nodes.len() - 1)
    }

    /// The name behind `&`, `*` or `!`, and over it.
    fn name(&mut self) -> &'a str {
        let length = self.rest().iter().position(|b| b.is_ascii_whitespace() || b",[]{}".contains(b)).unwrap_or(self.rest().len());
        let name = &self.text[self.at + 1..self.at + length.max(1)];
        self.at += length.max(1);
        name
    }

    fn anchor(&mut self, name: &'a str, node: usize) -> Read<usize> {
        if self.anchors.len() >= ANCHORS_MAX {
            return Err("too many anchors");
        }
        self.anchors.push((name, node));
        Ok(node)
    }

    fn alias(&mut self) -> Read<usize> {
        let name = self.name();
        let node = self.anchors.iter().rev().find(|anchor| anchor.0 == name).ok_or("an alias of nothing")?.1;
        self.add(Node::Alias(node))
    }

    fn slice(&self, style: Style, from: usize, to: usize) -> Scalar<'a> {
        Scalar { raw: self.text.get(from..to).unwrap_or_default(), offset: from, style }
    }

    /// A text in quotes and the position behind it.
    fn quoted(&self, quote: u8) -> Read<(Scalar<'a>, usize)> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        loop {
            match *bytes.get(at).ok_or("a text without an end")? {
                b'\\' if quote == b'"' => at += 2,
                b'\'' if quote == b'\'' && bytes.get(at + 1) == Some(&b'\'') => at += 2,
                byte if byte == quote => break,
                _ => at += 1,
            }
        }
        let style = if quote == b'"' { Style::Double } else { Style::Single };
        Ok((self.slice(style, self.at + 1, at), at + 1))
    }
}

#[cfg(test)]
mod tests;
