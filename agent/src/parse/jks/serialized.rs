//! Steps over one object of Java's serialisation without making any: only its grammar is followed, no class is looked at. Of
//! what it holds, strings and arrays of bytes are kept, which is all that a sealed key has. Bounded in depth and number.
//! Called by the parser of JCEKS. Format: Java Object Serialization Specification, chapter 6.

use super::super::der::{OCTET_STRING, Reader};

/// Objects within objects.
const DEPTH_MAX: usize = 16;
/// Things that later ones may refer to; a sealed key has some ten.
const HANDLES_MAX: usize = 256;
/// Fields of a class.
const FIELDS_MAX: usize = 64;

/// What was found in an object.
#[derive(Debug, Default)]
pub(super) struct Object<'a> {
    arrays: Vec<&'a [u8]>,
    texts: Vec<String>,
}

impl<'a> Object<'a> {
    /// The object at the start of `bytes`, a stream of its own, and the bytes that it takes.
    pub(super) fn read(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let rest = bytes.strip_prefix(&[0xac, 0xed, 0, 5])?;
        let mut stream = Stream { rest, handles: Vec::new(), object: Self::default() };
        stream.content(0)?;
        Some((stream.object, bytes.len() - stream.rest.len()))
    }

    /// How the key in it is encrypted: its last name is that of the algorithm, its first bytes are the parameters.
    pub(super) fn protection(&self) -> String {
        let Some(algorithm) = self.texts.last() else { return "unknown".into() };
        let parameters = self.arrays.first().and_then(|array| Reader::new(array).sequence());
        let iterations = parameters.and_then(|mut parameters| {
            parameters.take(OCTET_STRING)?;
            parameters.small()
        });
        iterations.map_or_else(|| algorithm.clone(), |count| format!("{algorithm}, {count} iterations"))
    }
}

/// Fields of a class, by their type codes, those of its ancestors first.
type Layout = Vec<u8>;

struct Stream<'a> {
    rest: &'a [u8],
    /// What may be referred to: a class's layout, or something else.
    handles: Vec<Option<Layout>>,
    object: Object<'a>,
}

impl<'a> Stream<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.bytes(bytes)?.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number(2)?;
        self.bytes(length)
    }

    fn handle(&mut self, layout: Option<Layout>) -> Option<usize> {
        (self.handles.len() < HANDLES_MAX).then(|| self.handles.push(layout))?;
        Some(self.handles.len() - 1)
    }

    fn content(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.number(1)? {
            // Null.
            0x70 => {}
            // Reference.
            0x71 => drop(self.bytes(4)?),
            // String.
            0x74 => {
                self.handle(None)?;
                let text = String::from_utf8_lossy(self.text()?).into_owned();
                self.object.texts.push(text);
            }
            // Object.
            0x73 => {
                let layout = self.class(depth + 1)?;
                self.handle(None)?;
                for code in layout {
                    self.value(code, depth + 1)?;
                }
            }
            // Array, of bytes: of others only keys that nobody writes have any.
            0x75 => {
                let layout = self.class(depth + 1)?;
                self.handle(None)?;
                let length = self.number(4)?;
                let array = self.bytes(length)?;
                layout.is_empty().then(|| self.object.arrays.push(array))?;
            }
            _ => return None,
        }
        Some(())
    }

    fn value(&mut self, code: u8, depth: usize) -> Option<()> {
        match code {
            b'B' | b'Z' => drop(self.bytes(1)?),
            b'C' | b'S' => drop(self.bytes(2)?),
            b'I' | b'F' => drop(self.bytes(4)?),
            b'J' | b'D' => drop(self.bytes(8)?),
            b'L' | b'[' => self.content(depth)?,
            _ => return None,
        }
        Some(())
    }

    /// A description of a class; its layout.
    fn class(&mut self, depth: usize) -> Option<Layout> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.number(1)? {
            0x70 => Some(Layout::new()),
            0x71 => {
                let at = self.number(4)?.checked_sub(0x7e_0000)?;
                self.handles.get(at)?.clone()
            }
            0x72 => {
                let name = self.text()?;
                self.bytes(8)?;
                let own = self.handle(Some(Layout::new()))?;
                // Written by a method of its own, it may be followed by anything.
                let flags = self.number(1)?;
                let count = self.number(2).filter(|count| *count <= FIELDS_MAX && flags == 2)?;
                let mut fields = Layout::new();
                for _ in 0..count {
                    let code = *self.bytes(1)?.first()?;
                    self.text()?;
                    if matches!(code, b'L' | b'[') {
                        self.type_name()?;
                    }
                    fields.push(code);
                }
                (self.number(1)? == 0x78).then_some(())?;
                let mut layout = self.class(depth + 1)?;
                layout.extend(fields);
                // An array of anything but bytes has elements of another size.
                if name.starts_with(b"[") && name != b"[B" {
                    return None;
                }
                self.handles[own] = Some(layout.clone());
                Some(layout)
            }
            _ => None,
        }
    }

    /// Name of a field's type: a string, or a reference to one.
    fn type_name(&mut self) -> Option<()> {
        match self.number(1)? {
            0x71 => drop(self.bytes(4)?),
            0x74 => {
                self.handle(None)?;
                self.text()?;
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(prop_oneof![Just(0x70u8), Just(0x71), Just(0x72), Just(0x73), Just(0x74), Just(0x75), Just(0x78), Just(0), Just(2), Just(b'['), any::<u8>()], 0..200)) {
            let stream = [&[0xac, 0xed, 0, 5], bytes.as_slice()].concat();
            if let Some((_, length)) = Object::read(&stream) {
                prop_assert!(length <= stream.len());
            }
        }
    }
}
