//! Collections in JSON's manner, in which line ends and indentation mean nothing. Called by the reader of documents.

use super::scalar::Style;
use super::{DEPTH_MAX, Node, Read, Reader, Scalar};

impl<'a> Reader<'a> {
    /// A value in JSON's manner.
    pub(super) fn flow(&mut self, depth: usize) -> Read<usize> {
        if depth > DEPTH_MAX {
            return Err("collections in each other too deep");
        }
        self.skip();
        match self.peek().ok_or("a collection without an end")? {
            b'{' => self.flow_map(depth),
            b'[' => self.flow_list(depth),
            b'*' => self.alias(),
            b'!' => {
                self.name();
                self.flow(depth + 1)
            }
            b'&' => {
                let name = self.name();
                let node = self.flow(depth + 1)?;
                self.anchor(name, node)
            }
            _ => {
                let scalar = self.flow_scalar()?;
                self.add(Node::Text(scalar))
            }
        }
    }

    fn flow_map(&mut self, depth: usize) -> Read<usize> {
        let mut entries = Vec::new();
        self.at += 1;
        loop {
            self.skip();
            if self.peek() == Some(b'}') {
                self.at += 1;
                return self.add(Node::Map(entries));
            }
            let key = self.flow_scalar()?;
            self.skip();
            let value = if self.peek() == Some(b':') {
                self.at += 1;
                self.flow(depth + 1)?
            } else {
                self.add(Node::Nothing)?
            };
            entries.push((key, value));
            self.separator(b'}')?;
        }
    }

    fn flow_list(&mut self, depth: usize) -> Read<usize> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.skip();
            if self.peek() == Some(b']') {
                self.at += 1;
                return self.add(Node::List(items));
            }
            items.push(self.flow(depth + 1)?);
            self.separator(b']')?;
        }
    }

    fn separator(&mut self, end: u8) -> Read<()> {
        self.skip();
        match self.peek() {
            Some(b',') => self.at += 1,
            Some(byte) if byte == end => {}
            _ => return Err("neither a comma nor the end of a collection"),
        }
        Ok(())
    }

    fn flow_scalar(&mut self) -> Read<Scalar<'a>> {
        if let Some(quote @ (b'"' | b'\'')) = self.peek() {
            let (scalar, end) = self.quoted(quote)?;
            self.at = end;
            return Ok(scalar);
        }
        let rest = self.rest();
        let is_end =
            |at: usize| b",[]{}\n".contains(&rest[at]) || rest[at] == b':' && rest.get(at + 1).is_none_or(|b| b.is_ascii_whitespace() || b",[]{}".contains(b));
        let length = (0..rest.len()).find(|at| is_end(*at)).unwrap_or(rest.len());
        let scalar = self.slice(Style::Plain, self.at, self.at + length);
        self.at += length;
        // An empty one takes no byte: of those a hostile file could have any number.
        if length == 0 && !matches!(self.peek(), Some(b',' | b'}' | b']' | b':')) { Err("a collection that is none") } else { Ok(scalar) }
    }
}
