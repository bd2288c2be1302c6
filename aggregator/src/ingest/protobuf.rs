//! Protobuf without copies: the fields of a message as they lie in the body. Nothing is allocated, nothing is trusted; what
//! does not parse is told with its byte. The protocols of this directory say what the fields mean.

/// What does not parse, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub struct Fault {
    /// Place in the body.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// The unread rest of a message inside a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    body: &'a [u8],
    at: usize,
    end: usize,
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    /// Where its tag stands.
    pub(super) at: usize,
    value: Value<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(Message<'a>),
}

impl<'a> Message<'a> {
    /// A whole body.
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0, end: body.len() }
    }

    /// Where the next field stands.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The part of the body from `at` that ends where this message does.
    pub(super) fn from(self, at: usize) -> Self {
        Self { at, ..self }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.at
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        &self.body[self.at..self.end]
    }

    /// The bytes of the body between two places.
    pub(super) fn span(&self, from: usize, to: usize) -> &'a [u8] {
        &self.body[from..to]
    }

    pub(super) fn fault(&self, what: &'static str) -> Fault {
        Fault { at: self.at, what }
    }

    pub(super) fn text(&self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()).map_err(|e| Fault { at: self.at + e.valid_up_to(), what: "not UTF-8" })
    }

    /// The next field, or nothing at the end. Groups, which nobody sends any more, are passed over.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Fault> {
        loop {
            if self.is_empty() {
                return Ok(None);
            }
            let at = self.at;
            let tag = self.varint()?;
            let value = match tag & 7 {
                0 => Value::Number(self.varint()?),
                1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
                2 => Value::Bytes(self.block()?),
                3 => {
                    self.skip_group(at)?;
                    continue;
                }
                5 => {
                    let _: [u8; 4] = self.array()?;
                    Value::Fixed32
                }
                _ => return Err(Fault { at, what: "not a field" }),
            };
            if tag >> 3 == 0 || tag > u64::from(u32::MAX) {
                return Err(Fault { at, what: "not a field's number" });
            }
            return Ok(Some(Field { number: tag >> 3, at, value }));
        }
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        let rest = self.bytes();
        if let Some(byte) = rest.first()
            && byte & 0x80 == 0
        {
            self.at += 1;
            return Ok(u64::from(*byte));
        }
        let mut n = 0u64;
        for (index, byte) in rest.iter().take(10).enumerate() {
            n |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if index == 9 && *byte > 1 {
                    break;
                }
                self.at += index + 1;
                return Ok(n);
            }
        }
        Err(self.fault(if rest.len() < 10 { "a number is cut short" } else { "a number of more than 64 bits" }))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let found = self.bytes().first_chunk::<N>().ok_or_else(|| self.fault("a number is cut short"))?;
        self.at += N;
        Ok(*found)
    }

    #[inline]
    fn block(&mut self) -> Result<Self, Fault> {
        let at = self.at;
        let length = self.varint()?;
        match usize::try_from(length).ok().filter(|n| *n <= self.len()) {
            Some(length) => {
                let found = Self { body: self.body, at: self.at, end: self.at + length };
                self.at += length;
                Ok(found)
            }
            None => Err(Fault { at, what: "a field is longer than what holds it" }),
        }
    }

    fn skip_group(&mut self, from: usize) -> Result<(), Fault> {
        let mut depth = 1usize;
        while depth > 0 {
            if self.is_empty() {
                return Err(Fault { at: from, what: "a group without an end" });
            }
            let at = self.at;
            match self.varint()? & 7 {
                0 => drop(self.varint()?),
                1 => drop(self.array::<8>()?),
                2 => drop(self.block()?),
                3 => depth += 1,
                4 => depth -= 1,
                5 => drop(self.array::<4>()?),
                _ => return Err(Fault { at, what: "not a field" }),
            }
        }
        Ok(())
    }
}

impl<'a> Field<'a> {
    fn strange(&self) -> Fault {
        Fault { at: self.at, what: "a field of another type than the protocol says" }
    }

    #[inline]
    pub(super) fn message(&self) -> Result<Message<'a>, Fault> {
        if let Value::Bytes(message) = self.value { Ok(message) } else { Err(self.strange()) }
    }

    pub(super) fn text(&self) -> Result<&'a str, Fault> {
        self.message()?.text()
    }

    #[inline]
    pub(super) fn number(&self) -> Result<u64, Fault> {
        if let Value::Number(n) = self.value { Ok(n) } else { Err(self.strange()) }
    }

    #[inline]
    pub(super) fn signed(&self) -> Result<i64, Fault> {
        Ok(self.number()?.cast_signed())
    }

    pub(super) fn zigzag(&self) -> Result<i64, Fault> {
        Ok(unzigzag(self.number()?))
    }

    #[inline]
    pub(super) fn fixed64(&self) -> Result<u64, Fault> {
        if let Value::Fixed64(n) = self.value { Ok(n) } else { Err(self.strange()) }
    }

    #[inline]
    pub(super) fn double(&self) -> Result<f64, Fault> {
        Ok(f64::from_bits(self.fixed64()?))
    }

    /// Each number of a repeated field: packed, or one of several fields.
    pub(super) fn numbers(&self, mut each: impl FnMut(u64)) -> Result<(), Fault> {
        match self.value {
            Value::Number(n) => each(n),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    each(packed.varint()?);
                }
            }
            _ => return Err(self.strange()),
        }
        Ok(())
    }

    /// Each 64-bit word of a repeated field: packed, or one of several fields.
    pub(super) fn words(&self, mut each: impl FnMut(u64)) -> Result<(), Fault> {
        match self.value {
            Value::Fixed64(n) => each(n),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    each(u64::from_le_bytes(packed.array()?));
                }
            }
            _ => return Err(self.strange()),
        }
        Ok(())
    }
}

/// A signed number as protobuf's `sint` types write it.
pub(super) fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

/// What tests write bodies with.
#[cfg(test)]
pub(super) mod write {
    pub(in crate::ingest) fn varint(out: &mut Vec<u8>, mut n: u64) {
        while n >= 0x80 {
            out.push((n as u8) | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }

    pub(in crate::ingest) fn number(number: u64, n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        varint(&mut out, number << 3);
        varint(&mut out, n);
        out
    }

    pub(in crate::ingest) fn word(number: u64, n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        varint(&mut out, number << 3 | 1);
        out.extend(n.to_le_bytes());
        out
    }

    pub(in crate::ingest) fn double(number: u64, value: f64) -> Vec<u8> {
        word(number, value.to_bits())
    }

    pub(in crate::ingest) fn bytes(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        varint(&mut out, number << 3 | 2);
        varint(&mut out, content.as_ref().len() as u64);
        out.extend_from_slice(content.as_ref());
        out
    }

    pub(in crate::ingest) fn packed(field: u64, numbers: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        numbers.iter().for_each(|n| varint(&mut out, *n));
        bytes(field, out)
    }

    pub(in crate::ingest) fn zigzag(n: i64) -> u64 {
        ((n << 1) ^ (n >> 63)).cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_up_to_64_bits_and_no_further() {
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            write::varint(&mut bytes, n);
            let mut message = Message::new(&bytes);
            assert_eq!((message.varint(), message.is_empty()), (Ok(n), true));
            for end in 0..bytes.len() {
                assert_eq!(Message::new(&bytes[..end]).varint(), Err(Fault { at: 0, what: "a number is cut short" }));
            }
        }
        let mut over = [0xff; 10];
        over[9] = 2;
        for bad in [over, [0xff; 10]] {
            assert_eq!(Message::new(&bad).varint(), Err(Fault { at: 0, what: "a number of more than 64 bits" }));
        }
        assert_eq!([0, 1, 2, 3, u64::MAX].map(unzigzag), [0, -1, 1, -2, i64::MIN]);
    }

    #[test]
    fn groups_are_passed_over_and_what_is_no_field_is_told_with_its_byte() {
        let body = [&write::number(1, 5)[..], &[0x1b, 0x23, 0x08, 0x01, 0x24, 0x12, 0x01, 0x00, 0x1c], &write::number(2, 6)].concat();
        let mut message = Message::new(&body);
        let numbers = [message.next(), message.next()].map(|field| field.unwrap().unwrap().number);
        assert_eq!((numbers, message.next().unwrap().is_none()), ([1, 2], true));
        for (bad, at, what) in [
            (&[0x08, 0x01, 0x0e][..], 2, "not a field"),
            (&[0x00, 0x01], 0, "not a field's number"),
            (&[0x0c], 0, "not a field"),
            (&[0x08, 0x01, 0x1b, 0x08, 0x01], 2, "a group without an end"),
            (&[0x0a, 0x05, 0x00], 1, "a field is longer than what holds it"),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], 1, "a field is longer than what holds it"),
            (&[0x09, 0x00], 1, "a number is cut short"),
        ] {
            let mut message = Message::new(bad);
            let fault = loop {
                match message.next() {
                    Ok(Some(_)) => {}
                    other => break other.err(),
                }
            };
            assert_eq!(fault, Some(Fault { at, what }), "{bad:?}");
        }
    }
}
