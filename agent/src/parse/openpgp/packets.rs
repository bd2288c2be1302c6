//! Splits bytes into packets, without copying them. Lengths are checked against what is there before anything is made of
//! them. Bodies that come in parts are stepped over: no packet of a key may.

use crate::parse::keys::FaultClass;

pub(super) const SIGNATURE: u8 = 2;
pub(super) const SECRET_KEY: u8 = 5;
pub(super) const PUBLIC_KEY: u8 = 6;
pub(super) const SECRET_SUBKEY: u8 = 7;
pub(super) const USER_ID: u8 = 13;
pub(super) const PUBLIC_SUBKEY: u8 = 14;
pub(super) const USER_ATTRIBUTE: u8 = 17;

/// One packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) tag: u8,
    /// Where it begins, bytes.
    pub(super) offset: usize,
    pub(super) body: &'a [u8],
}

impl Packet<'_> {
    pub(super) fn is_primary(&self) -> bool {
        matches!(self.tag, SECRET_KEY | PUBLIC_KEY)
    }
}

/// Where the packets end too early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken {
    pub(super) offset: usize,
    pub(super) class: FaultClass,
    pub(super) reason: &'static str,
}

/// Reads packets one after the other, until the first that is none.
pub(super) struct Packets<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Packets<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Tag, and the body's length where it comes in one part.
    fn header(&mut self) -> Option<(u8, Option<usize>)> {
        let first = self.byte()?;
        if first & 0xc0 == 0xc0 {
            return Some((first & 0x3f, self.new_length()?));
        }
        let length = match first & 3 {
            0 => self.number(1)?,
            1 => self.number(2)?,
            2 => self.number(4)?,
            // To the end of the file.
            _ => self.bytes.len() - self.at,
        };
        Some((first >> 2 & 0x0f, Some(length)))
    }

    /// `None` inside: a part, over which this steps.
    fn new_length(&mut self) -> Option<Option<usize>> {
        match self.byte()? {
            first @ 0..=191 => Some(Some(usize::from(first))),
            first @ 192..=223 => Some(Some(((usize::from(first) - 192) << 8) + usize::from(self.byte()?) + 192)),
            255 => Some(Some(self.number(4)?)),
            first => {
                self.skip(1 << (first & 0x1f))?;
                // Parts are followed by a length, until one that is none of a part.
                loop {
                    match self.byte()? {
                        first @ 0..=191 => self.skip(usize::from(first))?,
                        first @ 192..=223 => {
                            let low = usize::from(self.byte()?);
                            self.skip(((usize::from(first) - 192) << 8) + low + 192)?;
                        }
                        255 => {
                            let length = self.number(4)?;
                            self.skip(length)?;
                        }
                        first => {
                            self.skip(1 << (first & 0x1f))?;
                            continue;
                        }
                    }
                    return Some(None);
                }
            }
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        (0..bytes).try_fold(0, |number, _| Some(number << 8 | usize::from(self.byte()?)))
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at = self.at.checked_add(bytes).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.at;
        let mut broken = |class, reason| {
            self.at = usize::MAX;
            Some(Err(Broken { offset, class, reason }))
        };
        match self.bytes.get(offset) {
            None => return None,
            // Files are filled up with zeros or end with a line's end.
            Some(first) if first & 0x80 == 0 => {
                let rest = &self.bytes[offset..];
                let is_padding = rest.iter().all(|b| *b == 0) || rest.trim_ascii().is_empty();
                return if is_padding { None } else { broken(FaultClass::Corrupt, "something else than OpenPGP packets") };
            }
            Some(_) => {}
        }
        let packet = self.header().and_then(|(tag, length)| {
            let from = self.at;
            self.skip(length.unwrap_or(0))?;
            Some(Packet { tag, offset, body: if length.is_some() { &self.bytes[from..self.at] } else { &[] } })
        });
        match packet {
            Some(packet) => Some(Ok(packet)),
            None => {
                self.at = usize::MAX;
                Some(Err(Broken { offset, class: FaultClass::Truncated, reason: "the file ends before an OpenPGP packet in it does" }))
            }
        }
    }
}

/// Whether it is a key, by the first bytes of its body: version, time, algorithm.
pub(super) fn is_key(packet: &Packet<'_>) -> bool {
    let tag = matches!(packet.tag, SECRET_KEY | PUBLIC_KEY | SECRET_SUBKEY | PUBLIC_SUBKEY);
    let at = match packet.body.first() {
        Some(2 | 3) => 7,
        Some(4..=6) => 5,
        _ => return false,
    };
    tag && packet.body.get(at).is_some_and(|algorithm| matches!(algorithm, 1..=3 | 8 | 16..=36))
}

/// The packet at the start of `head`, which may be longer than that, where it looks like a primary key.
pub(super) fn first_key(head: &[u8]) -> Option<Packet<'_>> {
    let mut packets = Packets::new(head);
    let (tag, length) = packets.header().filter(|_| head[0] & 0x80 != 0)?;
    let body = head.get(packets.at..)?;
    let packet = Packet { tag, offset: 0, body: &body[..body.len().min(length?)] };
    (packet.is_primary() && is_key(&packet)).then_some(packet)
}
